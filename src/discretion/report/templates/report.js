// Draws the figures, turns clicks on them into queries for cases, and finds embedded cases. Texts only ever become text.
"use strict";
(() => {
  const payload = JSON.parse(document.getElementById("payload").textContent);
  const root = document.documentElement;
  const views = new Map();
  const chosen = new Map();

  const rowsOf = (name, key) => {
    const {length, columns} = payload.data[name][key] ?? payload.data[name][""];
    const entries = Object.entries(columns);
    return Array.from({length}, (_, k) =>
      Object.fromEntries(entries.map(([field, values]) => [field, Array.isArray(values) ? values[k] : values])));
  };

  const addressOf = (datum) => {
    if (typeof datum.cases === "string") return datum.cases;
    const query = new URLSearchParams();
    for (const field of payload.fields) {
      const value = datum[field];
      if (typeof value === "string" && value) query.set(field, payload.raw[value] ?? value);
    }
    return query.toString();
  };

  const options = {
    renderer: "svg", ast: true, actions: false, defaultStyle: false,
    tooltip: {disableDefaultStyle: true, theme: "house"},
  };

  // A heat map's cells take the room that there is, and hold their counts where they fit.
  const fitted = (spec, width) => {
    const step = Math.max(16, Math.min(44, Math.floor((width - 245) / Math.max(payload.cells, 4))));
    spec.width = {step};
    spec.height = {step: Math.min(Math.max(step, 18), 30)};
    if (step < 32) spec.layer = spec.layer.slice(0, 1);
    return spec;
  };

  const draw = async (place) => {
    const id = place.dataset.figure;
    const figure = payload.figures[id];
    let spec = structuredClone(figure.spec);
    const key = figure.choose.length ? figure.choose[chosen.get(id) ?? 0] : "";
    spec.datasets = {[figure.data]: rowsOf(figure.data, key)};
    if (place.clientWidth < 560) {
      spec.config.legend.columns = place.clientWidth < 420 ? 1 : 2;
      spec.config.axis.labelLimit = 170;
      spec.config.axisX = {titleAnchor: "end", titleAlign: "right", tickCount: 4};
    }
    if (id === "supremacy") spec = fitted(spec, place.clientWidth);
    const inner = document.createElement("div");
    inner.className = "inner";
    if (id === "priority") inner.style.minWidth = `${420 + 90 * payload.annotators}px`;
    place.replaceChildren(inner);
    const {view} = await vegaEmbed(inner, spec, options);
    views.set(id, view);
    view.addEventListener("click", (event, item) => {
      const datum = item && item.datum;
      if (!datum || item.mark.role !== "mark") return;
      if (id === "priority") follow(datum.principle);
      else if (addressOf(datum)) go(addressOf(datum));
    });
    for (const control of document.querySelectorAll(`[data-param][data-of="${id}"]`)) set(control);
  };

  const set = (control) => {
    const view = views.get(control.dataset.of);
    return view && view.signal(control.dataset.param, control.value).runAsync();
  };

  const follow = (principle) => {
    const control = document.querySelector('[data-param="chosen"]');
    if (!control || !principle) return;
    control.value = control.value === principle ? "" : principle;
    set(control);
  };

  const go = (address) => {
    if (payload.links.startsWith("#")) location.hash = payload.links + address;
    else location.assign(payload.links + address);
  };

  // -- embedded cases ------------------------------------------------------------------------------------------------

  const MISSING = -128;
  const STATES = {indifference: 0, consensus: 1, conflict: 2};

  const onSide = (one, ask, x) => {
    const y = ask.annotator in one.y ? one.y[ask.annotator] : MISSING;
    const decided = Math.abs(y) === 1;
    switch (ask.side) {
      case "with-consensus": return decided && y === one.direction;
      case "against-consensus": return decided && y === -one.direction;
      case "decided": return decided;
      case "with": return decided && y === x;
      case "against": return decided && -y === x;
      case "principle-silent": return y !== MISSING && x === 0;
      case "indifferent": return y === 0;
      case "longer": return decided && y === one.longer;
      case "first": return decided && y === 1;
      case "differ": case "same": {
        const z = ask.other in one.y ? one.y[ask.other] : MISSING;
        return decided && Math.abs(z) === 1 && (y === z) === (ask.side === "same");
      }
      default: return y !== MISSING;
    }
  };

  const asked = (one, ask) => {
    const several = one.state === STATES.consensus && one.voting > 1;
    const fits = {"": true, several, overruled: one.overruled}[ask.state ?? ""] ?? one.state === STATES[ask.state];
    if (!fits) return false;
    const x = ask.principle in one.x ? one.x[ask.principle] : null;
    if (ask.principle && x === null) return false;
    if (ask.over) {
      if (x * one.x[ask.over] !== -1) return false;
    } else if (ask.principle && !["principle-silent", "with", "against"].includes(ask.side) && Math.abs(x) !== 1) return false;
    for (const [name, value] of Object.entries(ask)) {
      if (name.startsWith("is.") && one.is[name.slice(3)] !== value) return false;
    }
    return !ask.annotator || onSide(one, ask, x);
  };

  const label = (text) => { const span = document.createElement("span"); span.textContent = text; return span; };

  const showAsked = () => {
    const section = document.getElementById("cases");
    const about = document.getElementById("cases-asked");
    const query = location.hash.startsWith("#cases?") ? location.hash.slice("#cases?".length) : null;
    const ask = Object.fromEntries(new URLSearchParams(query ?? ""));
    let count = 0;
    for (const article of section.querySelectorAll("[data-case]")) {
      const fits = query === null || asked(payload.cases[Number(article.dataset.case)], ask);
      article.hidden = !fits;
      count += fits;
    }
    about.hidden = query === null;
    section.hidden = query === null && !payload.cases.length;
    if (query === null) return;
    about.querySelector(".asked").replaceChildren(...Object.entries(ask).map(([k, v]) => label(`${k}: ${v}`)));
    about.querySelector(".count").textContent = payload.cases.length
      ? `${count} of the ${payload.cases.length} cases in this file fit.` : "";
    const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;
    about.querySelector(".command").textContent = `discretion view ${quote(payload.source || "AUDIT")} --at ${quote("cases?" + query)}`;
    const title = document.getElementById("title-cases");
    title.scrollIntoView();
    title.focus({preventScroll: true});
  };

  // -- the page -------------------------------------------------------------------------------------------------------

  const onlyTable = (id) => {
    const choice = String(chosen.get(id) ?? 0);
    for (const table of document.querySelectorAll(`#figure-${id} [data-choice]`)) table.hidden = table.dataset.choice !== choice;
  };

  for (const select of document.querySelectorAll("[data-choose]")) {
    const id = select.dataset.choose;
    onlyTable(id);
    select.addEventListener("change", () => {
      chosen.set(id, Number(select.value));
      onlyTable(id);
      const figure = payload.figures[id];
      views.get(id)?.data(figure.data, rowsOf(figure.data, figure.choose[chosen.get(id)])).runAsync();
    });
  }
  for (const control of document.querySelectorAll("[data-param]")) {
    if (control.dataset.param === "chosen") {
      for (const principle of payload.principles) control.append(new Option(principle, principle));
    }
    control.addEventListener("change", () => set(control));
  }
  for (const control of document.querySelectorAll(".controls, .hint")) control.hidden = false;

  const theme = document.getElementById("theme");
  const remembered = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const paint = (name) => { if (name) root.dataset.theme = name; else delete root.dataset.theme; };
  paint(remembered());
  theme.hidden = false;
  theme.addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    paint(dark ? "light" : "dark");
    try { localStorage.setItem("theme", root.dataset.theme); } catch { /* a page from a file may have no storage */ }
  });

  if (document.getElementById("cases")) {
    document.getElementById("cases-all").addEventListener("click", () => { location.hash = "cases"; });
    addEventListener("hashchange", showAsked);
    showAsked();
  }

  let width = innerWidth;
  let waiting;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      if (innerWidth === width) return;
      width = innerWidth;
      for (const place of document.querySelectorAll('[data-figure="supremacy"]')) draw(place);
    }, 200);
  });

  (async () => {
    for (const place of document.querySelectorAll(".plot")) await draw(place);
    root.dataset.drawn = "yes";
  })();
})();
