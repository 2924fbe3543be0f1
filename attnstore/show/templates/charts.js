"use strict";
// Charts in a page: drawn in the width that there is, light or dark as the reader has it, without any request.
const attnstoreCharts = (() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const BESIDE = 130; // pixels that an axis and its labels take beside a view, about

  // The specification for a width: facets wrap, what stands side by side goes below each other, wide views shrink.
  function fitted(spec, width) {
    spec = structuredClone(spec);
    delete spec.title;
    const room = Math.max(140, width - BESIDE);
    const shrink = (view) => {
      if (typeof view.width === "number") view.width = Math.min(view.width, room);
    };
    if (spec.facet && spec.spec) {
      shrink(spec.spec);
      if (typeof spec.spec.width === "number" && spec.columns > 1)
        spec.columns = Math.max(1, Math.floor(width / (spec.spec.width + BESIDE * 0.75)));
      else if (spec.columns) spec.columns = Math.max(1, Math.min(spec.columns, Math.floor(width / 340)));
    } else if (spec.hconcat) {
      const wide = spec.hconcat.reduce((sum, view) => sum + (view.width || 200) + 60, 0);
      if (wide > width) {
        spec.vconcat = spec.hconcat;
        delete spec.hconcat;
      }
      (spec.vconcat || spec.hconcat).forEach(shrink);
    } else shrink(spec);
    return spec;
  }

  // Draw into an element; again when its width or the reader's colours change. Gives a promise of the first view.
  // `drawn` is called with every view that takes the place of another.
  function draw(element, spec, themes, drawn) {
    let last = 0;
    let current = null;
    async function again() {
      last = element.clientWidth;
      const result = await vegaEmbed(element, fitted(spec, last), {
        ast: true, // no code is made at run time: the page's policy forbids it
        actions: { export: true, source: false, compiled: false, editor: false },
        config: themes[dark.matches ? "dark" : "light"],
        renderer: "svg",
        tooltip: { theme: dark.matches ? "dark" : "light" },
      });
      if (current) current.finalize();
      current = result;
      if (drawn) drawn(result.view);
      return result.view;
    }
    dark.addEventListener("change", again);
    let waiting = 0;
    new ResizeObserver(() => {
      if (Math.abs(element.clientWidth - last) < 24 || !current) return;
      clearTimeout(waiting);
      waiting = setTimeout(again, 150);
    }).observe(element);
    return again();
  }
  return { draw };
})();
