"use strict";
(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const cards = new Map(data.words);
  const documents = new Map(data.documents);

  function element(name, text, classes) {
    const made = document.createElement(name);
    if (text !== undefined && text !== null) made.textContent = text;
    if (classes) made.className = classes;
    return made;
  }
  function number(value, digits = 3) {
    if (value === null || value === undefined) return "–";
    if (typeof value !== "number") return String(value);
    return Number.isInteger(value) ? value.toLocaleString("en") : String(Number(value.toPrecision(digits)));
  }
  function wordButton(word) {
    const button = element("button", word, "word");
    button.type = "button";
    button.dataset.word = word;
    return button;
  }
  function table(columns, rows, caption) {
    const made = element("table");
    if (caption) made.append(element("caption", caption, "faint"));
    const head = element("tr");
    for (const column of columns) {
      const cell = element("th", column);
      cell.scope = "col";
      head.append(cell);
    }
    made.append(element("thead"), element("tbody"));
    made.tHead.append(head);
    for (const row of rows) {
      const line = element("tr");
      row.forEach((value, place) => {
        const cell = element("td", undefined, typeof value === "number" ? "n" : "");
        if (columns[place] === "word" && typeof value === "string") cell.append(wordButton(value));
        else if (data.p.columns.includes(columns[place]) && value !== null && value < data.p.least) cell.textContent = data.p.too_small;
        else cell.textContent = number(value, 4);
        line.append(cell);
      });
      made.tBodies[0].append(line);
    }
    return made;
  }

  // --- figures
  const rowsOf = (figure) =>
    (figure.values[0] || []).map((_, row) => Object.fromEntries(figure.columns.map((c, at) => [c, figure.values[at][row]])));
  const waiting = new Set();
  function draw(article) {
    if (!waiting.delete(article)) return Promise.resolve();
    seen.unobserve(article);
    const figure = data.figures[article.dataset.figure];
    const spec = { ...figure.spec, data: { values: rowsOf(figure) } };
    return attnstoreCharts.draw(article.querySelector(".chart"), spec, data.themes, (view) => {
      view.addEventListener("click", (_event, item) => {
        if (item && item.datum && typeof item.datum.word === "string") openCard(item.datum.word);
      });
    });
  }
  const seen = new IntersectionObserver(
    (entries) => entries.filter((e) => e.isIntersecting).forEach((e) => draw(e.target)),
    { rootMargin: "300px" },
  );
  for (const article of document.querySelectorAll("[data-figure]")) {
    if (!data.figures[article.dataset.figure]) continue;
    waiting.add(article);
    seen.observe(article);
    const details = article.querySelector("details.table");
    details.addEventListener("toggle", () => {
      const place = details.querySelector(".scroll");
      if (!details.open || place.firstChild) return;
      const figure = data.figures[article.dataset.figure];
      const all = (figure.values[0] || []).length;
      const shown = Math.min(all, 300);
      const rows = Array.from({ length: shown }, (_, row) => figure.values.map((column) => column[row]));
      place.append(table(figure.columns, rows));
      if (shown < all) place.append(element("p", `${shown} of ${all.toLocaleString("en")} rows; the CSV has all.`, "faint"));
    });
    article.querySelector(".csv").addEventListener("click", () => {
      const figure = data.figures[article.dataset.figure];
      const cell = (value) => {
        const text = value === null ? "" : Array.isArray(value) ? JSON.stringify(value) : String(value);
        return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
      };
      const lines = [figure.columns.map(cell).join(",")];
      (figure.values[0] || []).forEach((_, row) => lines.push(figure.values.map((c) => cell(c[row])).join(",")));
      const link = element("a");
      link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
      link.download = `${article.dataset.figure}.csv`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
  }
  // Charts out of sight are drawn when the browser is idle, so that printing and searching include them.
  const idle = window.requestIdleCallback || ((task) => setTimeout(task, 50));
  const drawRest = () => idle(() => {
    const next = waiting.values().next();
    if (!next.done) draw(next.value).finally(drawRest);
  });
  addEventListener("load", () => setTimeout(drawRest, 500));
  addEventListener("beforeprint", () => [...waiting].forEach(draw));

  // --- cards of words
  const dialog = document.getElementById("card");
  function openCard(word) {
    document.getElementById("card-title").textContent = word;
    const body = document.getElementById("card-body");
    body.replaceChildren();
    const card = cards.get(word);
    if (card) {
      const layers = Math.max(0, ...card.classes.map(([, of]) => of[2].length));
      const names = Array.from({ length: layers }, (_, at) => (layers > 1 ? `layer ${at + 1}` : "lift"));
      const rows = card.classes.map(([name, [docs, occurrences, lifts]]) => [name, docs, occurrences, ...lifts.map(([lift]) => lift)]);
      const wrap = element("div", undefined, "scroll");
      wrap.append(table(["predicted", "documents", "occurrences", ...names], rows));
      body.append(element("h3", data.share ? "Lift by class and layer (1 is an even share)" : "Value × length by class and layer"), wrap);
      if (card.scores.length) {
        const scores = element("div", undefined, "scroll");
        const signed = (value) => (value === null ? "–" : `${value > 0 ? "+" : ""}${number(value)}`.replace("-", "−"));
        const shown = card.scores.map(([name, values]) => [name, ...values.map(signed)]);
        scores.append(table(["score", ...data.classes.map((name) => `predicted ${name}`)], shown));
        body.append(element("h3", "For the prediction (above 0) or against it, the mean of its occurrences"), scores);
      }
      if (card.contexts.length) body.append(element("h3", "Where it gets most"));
      for (const [name, id, left, keyword, right, lift] of card.contexts) {
        const line = element("p", undefined, "context");
        line.append(element("span", `…${left} `), element("b", keyword), element("span", ` ${right}… `));
        const where = element("span", `${number(lift)}× in `, "faint");
        where.append(element("bdi", id), `, predicted `, element("bdi", name));
        line.append(where);
        body.append(line);
      }
    }
    for (const [name, figure] of Object.entries(data.figures)) {
      const at = figure.columns.indexOf("word");
      if (at < 0 || card) continue;
      const rows = (figure.values[at] || []).flatMap((value, row) => (value === word ? [figure.values.map((c) => c[row])] : []));
      if (!rows.length) continue;
      const wrap = element("div", undefined, "scroll");
      wrap.append(table(figure.columns, rows));
      body.append(element("h3", name), wrap);
    }
    body.append(element("p", "More of it:", "faint"));
    const quoted = `'word=${word.replaceAll("'", `'\\''`)}'`;
    body.append(element("pre", `attnstore query ${data.store} contexts -p ${quoted}`));
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
  }
  document.addEventListener("click", (event) => {
    const from = event.target.closest("[data-word]");
    if (from) openCard(from.dataset.word);
    else if (event.target === dialog) dialog.close();
  });

  // --- documents
  const select = document.getElementById("reduction");
  const slider = document.getElementById("layer");
  const LEVELS = 20;
  function full(reduction) {
    // The lift at which a shade is full: the 99th percentile over all tokens shown, the same for all documents.
    const values = [];
    for (const one of documents.values()) {
      const special = new Set(one.special);
      for (const layer of one.values[reduction]) layer.forEach((v, at) => v !== null && !special.has(at) && values.push(Math.abs(v)));
    }
    values.sort((a, b) => a - b);
    return Number((values[Math.floor((values.length - 1) * 0.99)] || data.full).toPrecision(2)) || data.full;
  }
  const fulls = data.reductions.map((_, at) => full(at));
  function build(details) {
    const one = documents.get(Number(details.dataset.document));
    const place = details.querySelector(".attnstore-heatmap");
    if (place.firstChild) return;
    for (const [above, unread, pieces] of one.paragraphs) {
      if (above) place.append(element("p", above, "cut"));
      const text = element("p", undefined, unread ? "text unread" : "text");
      text.lang = "";
      text.dir = "auto";
      for (const [piece, tokens] of pieces) {
        const span = element("span", piece);
        if (tokens.length) {
          span.dataset.tokens = tokens.join(" ");
          const word = one.words[tokens[0]];
          if (word) span.dataset.word = word;
        }
        text.append(span);
      }
      place.append(text);
    }
    place.append(element("p", undefined, "faint specials"));
    shade(details);
  }
  function shade(details) {
    if (!select) return;
    const one = documents.get(Number(details.dataset.document));
    const reduction = Number(select.value);
    const layers = one.values[reduction];
    const values = layers[Math.min(Number(slider.value), layers.length) - 1];
    const special = new Set(one.special);
    const { signed, whole } = data.reductions[reduction];
    for (const span of details.querySelectorAll("span[data-tokens]")) {
      const tokens = span.dataset.tokens.split(" ").map(Number);
      const there = tokens.filter((at) => values[at] !== null && !special.has(at)).map((at) => values[at]);
      const strongest = there.reduce((most, value) => (Math.abs(value) > Math.abs(most) ? value : most), 0);
      const shade = Math.max(signed ? -1 : 0, Math.min(1, strongest / fulls[reduction]));
      const level = Math.trunc(shade * LEVELS + Math.sign(shade) * 1e-9);
      span.className = level > 0 ? `s${level}` : level < 0 ? `a${-level}` : "";
      span.title = tokens.map((at) => `${one.tokens[at]}: ${signed ? "" : whole ? "lift " : "× length "}${number(values[at])}`).join(", ");
    }
    details.querySelector(".specials").textContent = one.special.map((at) => `${one.tokens[at]} ${number(values[at])}${whole ? "×" : ""}`).join(", ");
  }
  function chosen() {
    const reduction = data.reductions[Number(select.value)];
    slider.max = reduction.layers;
    slider.disabled = reduction.layers === 1;
    if (Number(slider.value) > reduction.layers) slider.value = reduction.layers;
    const name = reduction.layers === 1 ? "all" : `${slider.value} of ${reduction.layers}`;
    document.getElementById("layer-name").textContent = name;
    slider.setAttribute("aria-valuetext", name);
    const scale = document.getElementById("scale");
    const ramp = element("i");
    const stops = [0, 5, 10, 15, 20].map((level) => {
      const probe = element("span", undefined, level ? `s${level}` : "");
      const box = element("div", undefined, "attnstore-heatmap");
      box.append(probe);
      scale.append(box);
      const colour = level ? getComputedStyle(probe).backgroundColor : "transparent";
      box.remove();
      return colour;
    });
    ramp.style.background = `linear-gradient(to right, ${stops.join(",")})`;
    const top = fulls[Number(select.value)];
    const [from, says] = reduction.signed
      ? ["0", `${top} or more; what speaks against it has the other hue`]
      : reduction.whole
        ? ["lift 0", `${top}× or more; 1× is an even share`]
        : ["value × length 0", `${top} or more; its values add up to nothing in particular`];
    scale.replaceChildren(from, ramp, `${says}. ${reduction.meaning}`);
    for (const details of document.querySelectorAll(".document[open]")) {
      if (details.querySelector(".text")) shade(details);
    }
  }
  for (const details of document.querySelectorAll(".document")) {
    const one = documents.get(Number(details.dataset.document));
    const summary = details.querySelector("summary");
    summary.append(element("bdi", one.id), " ", element("span", "predicted ", "faint"), element("bdi", one.prediction), ` ${number(one.probability)}`);
    if (one.label !== null) summary.append(element("span", ", labelled ", "faint"), element("bdi", one.label));
    summary.append(element("span", `, ${one.length.toLocaleString("en")} tokens${one.truncated ? ", cut" : ""}`, "faint"));
    details.addEventListener("toggle", () => details.open && (build(details), shade(details)));
    if (details.open) build(details);
  }
  if (select) {
    slider.max = data.reductions[0].layers;
    slider.value = data.reductions[0].layers;
    chosen();
    document.querySelectorAll(".document[open]").forEach(shade);
    select.addEventListener("input", () => {
      slider.max = data.reductions[Number(select.value)].layers;
      slider.value = slider.max;
      chosen();
    });
    slider.addEventListener("input", chosen);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", chosen);
  }
})();
