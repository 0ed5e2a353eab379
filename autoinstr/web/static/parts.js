// What several pages show.

import { h } from "./dom.js";
import { clock, ms } from "./format.js";

export const chip = (text, tone = "") => h("span", { class: `chip ${tone}` }, text);

/** What can't be captured; the reason where one points at it. */
export const unseen = (reason) => h("span", { class: "chip warn", title: reason }, `not seen: ${reason.split(":")[0]}`);

export function statusChip(status, failed) {
  const tone = failed ? "bad" : /^[45]\d\d$/.test(status) ? "warn" : "good";
  return chip(status, tone);
}

export const tile = (name, value, more = "", tone = "") =>
  h("div", { class: `tile ${tone}` }, h("dt", null, name), h("dd", null, value, more && h("small", null, more)));

export const toService = (name) => `#/service/${encodeURIComponent(name)}`;
export const toTraces = (filter) => `#/traces?${new URLSearchParams(filter)}`;
export const toTrace = (span) => `#/trace/${span.traceId}?span=${span.spanId}`;

/** A call's name with whom it called: the service, if it is known, else the address. */
export const named = (row) => (row.peer || row.to ? `${row.name} → ${row.peer || row.to}` : row.name);

/** What of a request says most: its own text, if its name is not the whole of it. */
export function what(span) {
  return [h("span", { class: "name" }, named(span)), span.text && h("span", { class: "text quiet" }, span.text)];
}

export const SPAN_COLUMNS = [
  { title: "Time", cell: (span) => clock(span.start, true) },
  { title: "Service", cell: (span) => [span.service, " ", h("span", { class: "quiet" }, span.kind === "client" ? "calls" : "")] },
  { title: "Request", class: "wide", cell: what },
  { title: "Status", cell: (span) => statusChip(span.status, span.failed) },
  { title: "Took", number: true, cell: (span) => ms(span.duration) },
];
