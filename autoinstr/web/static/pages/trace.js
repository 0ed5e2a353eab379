// One trace: its spans over time, below their parents where those are known.

import { ask } from "../api.js";
import { h, panel, swap } from "../dom.js";
import { clock, ms, plural } from "../format.js";
import { statusChip, toService, what } from "../parts.js";

const SCALE = [0, 0.25, 0.5, 0.75];
const HUES = 6;

/** Spans in the order of a tree, each with its depth. A parent that is not here leaves its children at the top. */
function tree(spans) {
  const ids = new Set(spans.map((span) => span.spanId));
  const below = new Map();
  for (const span of spans) {
    const parent = ids.has(span.parentSpanId) && span.parentSpanId !== span.spanId ? span.parentSpanId : "";
    below.set(parent, [...(below.get(parent) ?? []), span]);
  }
  const found = [], seen = new Set();
  const walk = (parent, depth) => {
    for (const span of below.get(parent) ?? []) {
      if (seen.has(span.sequence)) continue;
      seen.add(span.sequence);
      found.push({ span, depth });
      walk(span.spanId, depth + 1);
    }
  };
  walk("", 0);
  return [...found, ...spans.filter((span) => !seen.has(span.sequence)).map((span) => ({ span, depth: 0 }))];
}

function details(span) {
  const rows = Object.entries({ ...span.attributes, ...span.resource, traceId: span.traceId, spanId: span.spanId, parentSpanId: span.parentSpanId || "none" });
  return h("dl", { class: "attributes" }, rows.map(([name, value]) => [h("dt", null, name), h("dd", null, typeof value === "string" ? value : JSON.stringify(value))]));
}

export function trace({ argument: id, query }) {
  const chosen = query.get("span");
  const about = h("p", { class: "quiet" });
  const scale = h("div", { class: "scale", "aria-hidden": "true" });
  const list = h("ol", { class: "waterfall" });
  const raw = h("textarea", { class: "raw", "aria-label": "The trace as JSON", hidden: true, readonly: true, rows: 12 });
  const copied = h("span", { class: "quiet", role: "status" });
  let told = null;
  const open = new Set();

  async function copy() {
    const text = JSON.stringify(told, null, 2);
    try {
      await navigator.clipboard.writeText(text);
      copied.textContent = "copied";
    } catch { // no clipboard for pages that came over plain HTTP from elsewhere
      raw.hidden = false;
      raw.value = text;
      raw.select();
      copied.textContent = "select and copy";
    }
  }

  function draw() {
    const begin = Math.min(...told.spans.map((span) => span.start));
    const end = Math.max(...told.spans.map((span) => span.start + span.duration));
    const whole = Math.max(end - begin, 0.001);
    const services = new Set(told.spans.map((span) => span.service));
    if (told.spans.length === 1) open.add(told.spans[0].spanId); // nothing else to look at
    about.textContent = `${clock(begin, true)} · ${ms(whole)} · ${plural(told.spans.length, "span")} · ${plural(services.size, "service")}`;
    const colours = new Map([...services].map((name, index) => [name, `hue-${index % HUES}`]));
    swap(scale, SCALE.map((part) => h("span", { style: { left: `${100 * part}%` } }, ms(part * whole))));
    swap(list, tree(told.spans).map(({ span, depth }) => {
      const body = h("div", { hidden: !open.has(span.spanId) }, details(span), h("a", { href: toService(span.service) }, `All of ${span.service}`));
      const button = h("button", {
        type: "button", class: `span ${span.spanId === chosen ? "chosen" : ""}`, "aria-expanded": String(open.has(span.spanId)), dataset: { key: `span-${span.sequence}`, depth },
        onclick: () => {
          body.hidden = !body.hidden;
          button.setAttribute("aria-expanded", String(!body.hidden));
          if (body.hidden) open.delete(span.spanId); else open.add(span.spanId);
        },
      },
      h("span", { class: "who", style: { paddingLeft: `calc(${depth} * var(--indent))` } }, h("b", null, span.service), span.kind === "client" ? " calls " : " ", what(span)),
      statusChip(span.status, span.failed),
      h("span", { class: "track" }, h("span", {
        class: `bar ${span.kind} ${span.failed ? "bad" : services.size > 1 ? colours.get(span.service) : ""}`,
        style: { marginLeft: `${(100 * (span.start - begin)) / whole}%`, width: `max(3px, ${(100 * span.duration) / whole}%)` },
      })),
      h("span", { class: "number" }, ms(span.duration)));
      return h("li", null, button, body);
    }));
  }

  return {
    title: "Trace",
    every: 3000,
    node: h("div", null, h("div", { class: "headline" }, h("h1", null, "Trace"), h("code", null, id), copied, h("button", { type: "button", onclick: copy }, "Copy as JSON")),
      about, raw, panel("Spans", scale, list)),
    async refresh(signal) {
      const fresh = await ask("trace", { id }, signal);
      const same = told && fresh.spans.length === told.spans.length;
      told = fresh;
      if (!told.spans.length) about.textContent = "It is not kept any more.";
      else if (!same) draw();
    },
  };
}
