// Everything of one service.

import { ask } from "../api.js";
import { chart, heatmap } from "../charts.js";
import { h, panel, swap, table } from "../dom.js";
import { count, ms, rate, share } from "../format.js";
import { SPAN_COLUMNS, chip, named, statusChip, tile, toService, toTrace, toTraces } from "../parts.js";
import { language, processes, tls } from "./services.js";

const FIGURES = [
  { name: "rate", title: "Requests/s", number: true, cell: (row) => rate(row.rate) },
  { name: "count", title: "Requests", number: true, cell: (row) => count(row.count) },
  { name: "errors", title: "Errors", number: true, cell: (row) => h("span", { class: row.errors ? "bad-text" : "" }, share(row.errorRate)) },
  ...["p50", "p95", "p99"].map((name) => ({ name, title: name, number: true, cell: (row) => ms(row[name]) })),
];
const ROUTES = [
  { title: "Request", cell: (row) => h("span", { title: row.to || null }, named(row)) },
  { title: "Side", cell: (row) => (row.kind === "client" ? "calls" : "serves") },
  { title: "Status", cell: (row) => row.statuses.map((status) => statusChip(status, /^(5\d\d|[^\d].*)$/.test(status) && status !== "ok")) },
  ...FIGURES,
];

export function service({ argument: name, minutes }) {
  const traffic = chart("Requests and errors a second over time", [{ label: "requests/s", tone: "accent", fill: true }, { label: "errors/s", tone: "bad" }], rate);
  const durations = chart("p50, p95 and p99 of durations over time", [
    { label: "p50", tone: "calm" }, { label: "p95", tone: "accent" }, { label: "p99", tone: "violet" }], ms);
  const heat = heatmap("How many requests took how long, over time", (from, to, low, high) => {
    location.hash = toTraces({ service: name, kind, begin: from, end: to, min: low, max: high });
  });
  let kind = "server";
  const parts = Object.fromEntries(["about", "tiles", "notes", "statuses", "routes", "calls", "slowest", "failed"].map((part) => [part, h("div", { class: part })]));

  function draw(told) {
    kind = told.kind === "client" ? "client" : "server";
    swap(parts.about, h("p", { class: "quiet" }, [language(told.language), processes(told)].filter(Boolean).join(" · ")),
      h("p", null, told.kind === "client" && chip("calls only"), told.captured.map((one) => chip(one, "good")), tls(told.libraries).map((one) => chip(one))));
    swap(parts.tiles, h("dl", { class: "tiles" },
      tile("Requests/s", rate(told.rate)), tile("Requests", count(told.count)),
      tile("Errors", share(told.errorRate), told.errors ? ` ${count(told.errors)}` : "", told.errors ? "bad" : ""),
      tile("p50", ms(told.p50)), tile("p95", ms(told.p95)), tile("p99", ms(told.p99))));
    swap(parts.notes, told.unseen.length ? h("ul", { class: "notice" }, told.unseen.map((reason) => h("li", null, "Not seen: ", reason))) : null);
    const times = told.trend.rate.map((_, index) => told.begin + index * told.step);
    traffic.set(times, told.trend.rate, told.trend.errors);
    durations.set(times, told.trend.p50, told.trend.p95, told.trend.p99);
    heat.set(told);
    const most = Math.max(1, ...told.statuses.map((one) => one.count));
    swap(parts.statuses, h("ul", { class: "bars" }, told.statuses.map((one) => h("li", null,
      h("a", { href: toTraces({ service: name, kind, status: one.status }), dataset: { key: `status-${one.status}` } }, statusChip(one.status, one.failed)),
      h("span", { class: "track" }, h("span", { class: one.failed ? "bar bad" : "bar", style: { width: `${(100 * one.count) / most}%` } })),
      h("span", { class: "number" }, count(one.count))))));
    swap(parts.routes, table({
      caption: "Routes and calls", columns: ROUTES, rows: told.routes, key: (row) => `${row.kind} ${row.name} ${row.to}`,
      link: (row) => toTraces({ service: name, kind: row.kind, name: row.name, to: row.to }), empty: "No request yet.",
    }));
    const calls = (edges, end) => table({
      caption: end === "from" ? "Callers" : "Callees", rows: edges, key: (row) => row[end], link: (row) => (row[end] === "outside" ? "#/map" : toService(row[end])),
      columns: [{ title: end === "from" ? "Called by" : "Calls", cell: (row) => row[end] }, ...FIGURES], empty: end === "from" ? "Nobody that is seen." : "Nobody.",
    });
    swap(parts.calls, calls(told.callers, "from"), calls(told.callees, "to"));
    const spans = (rows, caption, empty) => table({ caption, columns: SPAN_COLUMNS, rows, key: (span) => span.spanId, link: toTrace, empty });
    swap(parts.slowest, spans(told.slowest, "Slowest requests", "No span yet."));
    swap(parts.failed, spans(told.failed, "Failed requests", "None failed."));
  }

  return {
    title: name,
    every: 5000,
    node: h("div", null,
      h("div", { class: "headline" }, h("h1", null, name), h("a", { class: "button", href: toTraces({ service: name }) }, "Requests")),
      parts.about, parts.notes, parts.tiles,
      h("div", { class: "grid" }, panel("Traffic", traffic.node), panel("Duration", durations.node), panel("Duration, all of them", heat.node), panel("Status", parts.statuses)),
      panel("Routes and calls", parts.routes), panel("Neighbours", parts.calls), panel("Slowest", parts.slowest), panel("Failed", parts.failed)),
    async refresh(signal) { draw(await ask("service", { name, minutes: minutes() }, signal)); },
    close() { for (const one of [traffic, durations, heat]) one.close(); },
  };
}
