"use strict";
// Charts in a page: drawn to the available width, light or dark as the reader prefers, without network requests.
const attnstoreCharts = (() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const BESIDE = 130; // approximate width of an axis and its labels beside a view, in pixels

  // The specification for a width: facets wrap, views side by side are stacked, wide views shrink.
  function fitted(spec, width) {
    spec = structuredClone(spec);
    delete spec.title;
    const room = Math.max(140, width - BESIDE);
    const fit = (view) => {
      if (view.facet && view.spec) {
        const { row, column } = view.facet;
        if (row && column) {
          const across = new Set(spec.data.values.map((one) => one[column.field])).size;
          if (across * ((view.spec.width || 200) + BESIDE) > width) {
            const below = { ...column, header: { ...row.header, ...column.header } };
            view.facet = { row };
            view.spec = { facet: { row: below }, spec: view.spec, resolve: view.resolve };
          }
        }
        fit(view.spec);
        const cell = typeof view.spec.width === "number" ? view.spec.width + BESIDE * 0.75 : 340;
        if (view.columns > 1) view.columns = Math.max(1, Math.floor(width / cell));
      } else if (view.hconcat) {
        const wide = view.hconcat.reduce((sum, part) => sum + (part.width || 200) + 60, 0);
        if (wide > width) {
          view.vconcat = view.hconcat;
          delete view.hconcat;
        }
        (view.vconcat || view.hconcat).forEach(fit);
      } else if (view.vconcat) view.vconcat.forEach(fit);
      else if (typeof view.width === "number") view.width = Math.min(view.width, room);
    };
    fit(spec);
    return spec;
  }

  // Draw into an element, and draw again when its width or the reader's colours change. Returns a promise of the first
  // view. `drawn` is called with every view that replaces another.
  function draw(element, spec, themes, drawn) {
    let last = 0;
    let current = null;
    async function again() {
      last = element.clientWidth;
      const result = await vegaEmbed(element, fitted(spec, last), {
        ast: true, // interpret expressions: the page's security policy forbids generated code
        actions: { export: true, source: false, compiled: false, editor: false },
        config: themes[dark.matches ? "dark" : "light"],
        renderer: "svg",
        logLevel: 1, // errors only: readers need no warning that views may be a little larger than computed
        tooltip: { theme: dark.matches ? "dark" : "light" },
      });
      // For a screen reader the chart is a single named image; its table holds the values.
      const picture = element.querySelector("svg.marks");
      for (const part of picture.querySelectorAll("[role]")) {
        for (const name of ["role", "aria-roledescription", "aria-label"]) part.removeAttribute(name);
      }
      picture.setAttribute("role", "img");
      picture.setAttribute("aria-label", spec.description || "Chart");
      // A chart that is slightly too wide shrinks. If it would become unreadable, it scrolls instead.
      if (picture.clientWidth > last && picture.clientWidth <= 1.4 * last) {
        picture.style.maxWidth = "100%";
        picture.style.height = "auto";
      }
      const menu = element.querySelector("summary");
      if (menu) menu.setAttribute("aria-label", "Save the chart");
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
