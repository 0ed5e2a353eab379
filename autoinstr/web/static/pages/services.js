// One row a service: rate, errors, durations, what is seen of it and what is not.

import { ask } from "../api.js";
import { spark } from "../charts.js";
import { h, swap, table } from "../dom.js";
import { count, ms, rate, share } from "../format.js";
import { chip, tile, toService, unseen } from "../parts.js";

const LANGUAGES = { nodejs: "Node.js", cpp: "C/C++", go: "Go", php: "PHP", dotnet: ".NET" };
export const language = (name) => LANGUAGES[name] ?? (name ? name[0].toUpperCase() + name.slice(1) : "");
const figure = (text, trend, tone) => h("div", { class: "figure" }, h("span", null, text), spark(trend, tone));

const COLUMNS = [
  {
    name: "name", title: "Service", value: (row) => row.name, cell: (row) => row.name,
  },
  {
    name: "runs", title: "Runs", class: "runs",
    cell: (row) => [h("span", null, language(row.language)), h("small", { class: "quiet" }, processes(row))],
  },
  { name: "rate", title: "Requests/s", number: true, value: (row) => row.rate, cell: (row) => figure(rate(row.rate), row.trend?.rate, "accent") },
  {
    name: "errors", title: "Errors", number: true, value: (row) => row.errorRate,
    cell: (row) => h("div", { class: row.errors ? "bad-text" : "" }, figure(row.count ? share(row.errorRate) : "–", row.errors ? row.trend?.errors : null, "bad")),
  },
  ...["p50", "p95", "p99"].map((name) => ({
    name, title: name, number: true, value: (row) => row[name] ?? -1, cell: (row) => figure(ms(row[name]), row.trend?.[name], "calm"),
  })),
  {
    name: "captured", title: "Captured", class: "captured",
    cell: (row) => [
      row.kind === "client" && chip("calls only"),
      row.captured.map((one) => chip(one, "good")),
      tls(row.libraries).map((one) => chip(one)),
      !row.captured.length && chip("no request yet"),
      row.unseen.map(unseen),
    ],
  },
];

export function tls(libraries) {
  return libraries.filter((name) => /ssl|tls|nss/i.test(name));
}

export function processes(row) {
  const pids = row.pids.length > 2 ? `${row.pids.length} processes` : row.pids.length ? `pid ${row.pids.join(", ")}` : "ended";
  return row.ports.length ? `${pids}, port ${row.ports.slice(0, 4).join(", ")}` : pids;
}

export function services({ minutes, again }) {
  let told = null;
  let sort = { by: "rate", down: true };
  const search = h("input", { type: "search", placeholder: "Filter", "aria-label": "Filter services by name", oninput: () => draw() });
  const sums = h("dl", { class: "tiles" });
  const list = h("div", { id: "services" });

  function draw() {
    if (!told) return;
    const column = COLUMNS.find((one) => one.name === sort.by);
    const rows = told.services
      .filter((row) => row.name.toLowerCase().includes(search.value.toLowerCase()))
      .sort((a, b) => {
        const [x, y] = [column.value(a), column.value(b)];
        return (x < y ? -1 : x > y ? 1 : a.name < b.name ? -1 : 1) * (sort.down ? -1 : 1);
      });
    const served = told.services.filter((row) => row.kind === "server");
    const sum = (name) => served.reduce((total, row) => total + row[name], 0);
    swap(sums,
      tile("Services", count(told.services.filter((row) => row.kind !== "idle").length)),
      tile("Requests/s", rate(sum("rate"))),
      tile("Requests", count(sum("count"))),
      tile("Errors", share(sum("count") ? sum("errors") / sum("count") : 0), "", sum("errors") ? "bad" : ""));
    swap(list, table({
      caption: "Services", columns: COLUMNS, rows, sort, key: (row) => row.name, link: (row) => toService(row.name),
      onsort(chosen) {
        sort = { by: chosen.name, down: sort.by === chosen.name ? !sort.down : chosen.name !== "name" };
        draw();
      },
      empty: told.services.length ? "No service has that in its name." : "No process to watch was found yet. It will appear here by itself.",
    }));
  }

  return {
    title: "Services",
    every: 5000,
    node: h("div", null, h("div", { class: "headline" }, h("h1", null, "Services"), search), sums, list),
    async refresh(signal) {
      told = await ask("services", { minutes: minutes() }, signal);
      draw();
      if (!told.services.some((row) => row.count)) setTimeout(() => !signal.aborted && again(), 1000);
    },
  };
}
