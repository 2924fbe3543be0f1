// The explorer's scripts. Every page also works without them, with forms and links.
const root = document.body.dataset.root;

async function fetched(address, signal) {
  const answer = await fetch(address, { signal });
  const text = await answer.text();
  const page = new DOMParser().parseFromString(text, "text/html");
  if (!answer.ok) {
    throw new Error(page.querySelector('[role="alert"]')?.textContent ?? answer.statusText);
  }
  return page;
}

function said(place, sentence) {
  const line = document.createElement("p");
  line.setAttribute("role", "alert");
  line.textContent = sentence;
  place.replaceChildren(line);
}

// Slow parts of a page are loaded after the page itself.
async function load(place) {
  try {
    const page = await fetched(place.dataset.load);
    place.replaceChildren(...(page.querySelector("#answer") ?? page.body).childNodes);
  } catch (error) {
    said(place, error.message);
  }
}
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries.filter((each) => each.isIntersecting)) {
    seen.unobserve(entry.target);
    load(entry.target);
  }
});
for (const place of document.querySelectorAll("[data-load]")) {
  if (place.dataset.when === "seen") seen.observe(place);
  else load(place);
}
document.addEventListener("click", (event) => {
  const more = event.target.closest("a[data-more]");
  const place = more?.closest("[data-load]");
  if (!place) return;
  event.preventDefault();
  place.dataset.load = more.getAttribute("href");
  load(place);
});

// An unfinished run is polled until its store is sealed or the server stops answering.
for (const place of document.querySelectorAll("[data-watch]")) {
  const watch = async () => {
    try {
      const page = await fetched(place.dataset.watch);
      place.replaceChildren(...page.body.childNodes);
      if (!place.querySelector("[data-sealed]")) setTimeout(watch, 5000);
    } catch (error) {
      said(place, error.message);
    }
  };
  setTimeout(watch, 5000);
}

// Suggest words while the reader types.
for (const field of document.querySelectorAll("[data-live]")) {
  let asked;
  let waiting;
  field.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(async () => {
      asked?.abort();
      asked = new AbortController();
      const address = `${field.form.getAttribute("action")}?${new URLSearchParams(new FormData(field.form))}`;
      try {
        const page = await fetched(address, asked.signal);
        document.querySelector(field.dataset.live).replaceChildren(...page.querySelector(field.dataset.live).childNodes);
        history.replaceState(null, "", address);
      } catch (error) {
        if (error.name !== "AbortError") said(document.querySelector(field.dataset.live), error.message);
      }
    }, 150);
  });
}

// The layer slider, and the controls that change what is drawn.
const look = document.querySelector("#look");
const asked = {};
async function redraw(suffix) {
  const place = document.querySelector(`#heatmap${suffix}`);
  if (!place) return;
  asked[suffix]?.abort();
  asked[suffix] = new AbortController();
  const given = new URLSearchParams(new FormData(look));
  history.replaceState(null, "", `?${given}`);
  // The links to the previous and the next document keep these settings.
  for (const link of document.querySelectorAll('a[rel="prev"], a[rel="next"]')) {
    link.search = given;
  }
  given.set("which", suffix);
  const [path, filter] = place.dataset.part.split("?");
  try {
    const page = await fetched(`${path}?${filter ? `${filter}&` : ""}${given}`, asked[suffix].signal);
    place.replaceChildren(...page.body.childNodes);
  } catch (error) {
    if (error.name !== "AbortError") said(place, error.message);
  }
}
look?.addEventListener("input", (event) => {
  const slider = event.target.closest("[data-slider]");
  if (!slider) return;
  const name = slider.value === "0" ? slider.dataset.zero : slider.value;
  slider.parentElement.querySelector("output").textContent = name;
  slider.setAttribute("aria-valuetext", name);
  redraw(slider.dataset.slider);
});
look?.addEventListener("change", (event) => {
  if (!event.target.closest("[data-slider]")) look.requestSubmit();
});

// The keys j and k move through the list, ← and → through the layers, and with Shift through the heads.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey && event.key === "Enter") event.target.closest("form")?.requestSubmit();
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input:not([type=range], [type=checkbox]), select, textarea")) return;
  const link = { j: 'a[rel="next"]', k: 'a[rel="prev"]' }[event.key];
  if (link) document.querySelector(link)?.click();
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const slider = document.querySelector(event.shiftKey ? '[data-slider][name="head"]' : '[data-slider][name="layer"]');
  if (step && slider && event.target.type !== "range") {
    event.preventDefault();
    slider.value = Number(slider.value) + step;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
  }
});

// Clicking a word selects it. A selection gets links to the documents with its text and to similar words.
document.addEventListener("click", (event) => {
  const word = event.target.closest(".attnstore-heatmap .text span");
  if (word && getSelection().isCollapsed) getSelection().selectAllChildren(word);
});
let leads;
document.addEventListener("selectionchange", () => {
  const selection = getSelection();
  const text = selection.toString().trim();
  leads?.remove();
  leads = undefined;
  const inside = selection.anchorNode?.parentElement?.closest("main");
  if (!text || text.length > 200 || !inside || document.activeElement?.closest("input, textarea")) return;
  const box = selection.getRangeAt(0).getBoundingClientRect();
  leads = document.createElement("div");
  leads.className = "leads";
  const links = [["documents with this text", `documents?${new URLSearchParams({ text })}`]];
  const word = text.toLowerCase().replace(/^[^\p{L}\p{N}]+|[^\p{L}\p{N}]+$/gu, "");
  if (word && !/\s/.test(word)) links.push(["words like it", `words?${new URLSearchParams({ q: word })}`]);
  for (const [name, address] of links) {
    const link = document.createElement("a");
    link.textContent = name;
    link.href = root + address;
    leads.append(link);
  }
  leads.style.left = `${Math.max(4, Math.min(box.left + scrollX, scrollX + innerWidth - 330))}px`;
  leads.style.top = `${box.bottom + scrollY + 6}px`;
  document.body.append(leads);
});
