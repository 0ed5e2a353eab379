// Requests: search, and the newest ones as they come.

import { ask } from "../api.js";
import { h, swap, table } from "../dom.js";
import { plural } from "../format.js";
import { SPAN_COLUMNS, toTrace } from "../parts.js";

const MOST = 400; // rows that are kept on the page
const AT_ONCE = 100;

export function traces({ query, again }) {
  const field = (name, label, attributes = {}) => {
    const input = h("input", { name, "aria-label": label, placeholder: label, value: query.get(name) ?? "", ...attributes, onchange: () => search() });
    return input;
  };
  const choice = (name, label, options) => h("select", { name, "aria-label": label, onchange: () => search() },
    options.map(([value, text]) => h("option", { value, selected: (query.get(name) ?? "") === value }, text)));
  const service = choice("service", "Service", [["", "all services"], ...(query.get("service") ? [[query.get("service"), query.get("service")]] : [])]);
  const form = h("form", { class: "filters", role: "search", "aria-label": "Requests", onsubmit: (event) => { event.preventDefault(); search(); } },
    field("text", "path contains", { type: "search" }), service,
    choice("kind", "Side", [["", "both sides"], ["server", "serves"], ["client", "calls"]]),
    field("name", "route, such as GET /users/*"),
    field("status", "status", { size: 6 }),
    choice("failed", "Outcome", [["", "any outcome"], ["1", "failed"], ["0", "went well"]]),
    field("min", "at least ms", { inputmode: "decimal", size: 8 }),
    choice("sort", "Order", [["", "newest first"], ["slowest", "slowest first"]]),
    field("trace", "trace id", { size: 12 }));
  const limits = h("p", { class: "quiet limits" });
  const state = h("p", { class: "quiet", role: "status" });
  const list = h("div", { id: "spans" });
  const more = h("button", { type: "button", hidden: true, onclick: () => older() }, "Older");
  let spans = [], last = -1, searched = 0, closed = false;
  const fixed = Object.fromEntries(["begin", "end", "max", "to"].filter((name) => query.get(name)).map((name) => [name, query.get(name)]));
  const filter = () => ({ ...Object.fromEntries(new FormData(form)), ...fixed });
  const asked = (extra = {}) => ({ ...filter(), limit: AT_ONCE, ...extra });

  function search() {
    const kept = Object.entries(filter()).filter(([, value]) => value);
    history.replaceState(null, "", `#/traces?${new URLSearchParams(kept)}`);
    spans = []; last = -1;
    again();
  }

  async function older() {
    const told = await ask("spans", asked({ before: searched }));
    spans.push(...told.spans);
    searched = told.searched;
    draw(told.spans.length >= AT_ONCE);
  }

  function draw(isMore) {
    more.hidden = !isMore;
    swap(list, table({ caption: "Requests", columns: SPAN_COLUMNS, rows: spans, key: (span) => span.sequence, link: toTrace, empty: "No request is like that." }));
    state.textContent = plural(spans.length, "request");
  }

  function fillServices(names) {
    const known = new Set([...service.options].map((option) => option.value));
    for (const name of names) if (!known.has(name)) service.append(h("option", { value: name }, name));
  }

  if (Object.keys(fixed).length) {
    limits.append(fixed.to ? `Only calls of ${fixed.to}. ` : "Only of the time and duration that was picked. ", h("a", { href: `#/traces?service=${encodeURIComponent(query.get("service") ?? "")}` }, "All"));
  }
  return {
    title: "Traces",
    every: 1000,
    node: h("div", null, h("div", { class: "headline" }, h("h1", null, "Traces"), state), form, limits, list, more),
    async refresh(signal) {
      const slowest = filter().sort === "slowest";
      const first = last < 0 || slowest;
      const told = await ask("spans", asked(first ? {} : { after: last }), signal);
      if (closed) return;
      fillServices(told.services);
      if (told.last < last) { spans = []; last = -1; return again(); } // another agent answers
      last = told.last;
      if (first) { spans = told.spans; searched = told.searched; draw(!slowest && told.spans.length >= AT_ONCE); }
      else if (told.spans.length) { spans = [...told.spans, ...spans].slice(0, MOST); draw(!more.hidden || spans.length >= AT_ONCE); }
      list.dataset.last = last;
    },
    close() { closed = true; },
  };
}
