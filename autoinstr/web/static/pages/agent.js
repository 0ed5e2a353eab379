// The agent itself: what it costs, what it lost, what it watches and how it is set.

import { ask } from "../api.js";
import { chart } from "../charts.js";
import { h, panel, swap, table } from "../dom.js";
import { ago, bytes, count, rate, share } from "../format.js";
import { chip, tile, toService, unseen } from "../parts.js";
import { language } from "./services.js";

const COUNTING = "Counting hits of probes for a second …";
const MEASURE_EVERY = 9000; // ms
const MARKS = { ok: "good", missing: "bad", info: "warn" };
const text = (value) => (Array.isArray(value) ? value.map(text).join(", ") : typeof value === "object" && value ? JSON.stringify(value) : String(value));

export function agent() {
  const cpu = chart("CPU of the agent over time, in percent of one core", [{ label: "CPU", tone: "accent", fill: true }], share, 140);
  const memory = chart("Resident memory of the agent over time", [{ label: "memory", tone: "violet", fill: true }], bytes, 140);
  const parts = Object.fromEntries(["tiles", "lost", "orphans", "targets", "probes", "files", "settings"].map((part) => [part, h("div")]));
  parts.probes.append(h("p", { class: "quiet" }, COUNTING));
  const ending = new AbortController();
  let attached = [], targets = [], costs = null, measured = 0;
  const findings = h("div", { "aria-live": "polite" });
  const button = h("button", { type: "button", onclick: check }, "Check this host");

  async function check() {
    button.disabled = true;
    findings.replaceChildren(h("p", { class: "quiet" }, "Asking the kernel …"));
    try {
      const told = await ask("check");
      findings.replaceChildren(h("ul", { class: "findings" }, told.checks.map((one) => h("li", null,
        chip(one.state, one.state === "missing" && !one.required ? "warn" : MARKS[one.state]), h("b", null, one.name), " ", one.detail,
        one.state !== "ok" && one.cost && h("p", { class: "quiet" }, `costs: ${one.cost}`), one.state !== "ok" && one.remedy && h("p", { class: "quiet" }, `to do: ${one.remedy}`)))));
    } catch (error) {
      findings.replaceChildren(h("p", { class: "bad-text" }, error.message));
    }
    button.disabled = false;
  }

  function draw(told) {
    const used = told.history.cpu;
    const recent = used.slice(-12);
    const lost = told.lost.filter((one) => one.count);
    const missing = lost.reduce((sum, one) => sum + one.count, 0);
    swap(parts.tiles, h("dl", { class: "tiles" },
      tile("CPU", recent.length ? share(recent.reduce((a, b) => a + b, 0) / recent.length) : "–", " of a core, last minute"),
      tile("Memory", bytes(told.gauges.memory_bytes)),
      tile("Requests", count(told.work.requests ?? 0), ` in ${ago(told.time - told.started)}`),
      tile("Spans kept", count(told.store.spans), ` ${bytes(told.store.bytes)} of ${bytes(told.store.limit)}`),
      tile("Lost", count(missing), "", missing ? "bad" : "")));
    cpu.set(told.history.time, used);
    memory.set(told.history.time, told.history.memory);
    swap(parts.lost, lost.length ? table({ caption: "Lost", rows: lost, columns: [
      { title: "Loss", cell: (one) => h("code", null, one.loss) }, { title: "What it is", class: "wide", cell: (one) => one.meaning },
      { title: "Count", number: true, cell: (one) => count(one.count) }] }) : h("p", null, "Nothing was lost."));
    swap(parts.orphans, table({ caption: "Requests without a parent", rows: told.orphans.filter((one) => one.count), empty: "None.", columns: [
      { title: "Reason", cell: (one) => h("code", null, one.reason) }, { title: "What they are", class: "wide", cell: (one) => one.meaning },
      { title: "Count", number: true, cell: (one) => count(one.count) }] }));
    targets = told.targets;
    drawTargets();
    attached = told.probes;
    swap(parts.files, table({ caption: "Files with probes", rows: told.files, empty: "None: no TLS library that can be read is in use.", columns: [
      { title: "File", class: "wide", cell: (one) => h("code", null, one.path) }, { title: "Library", cell: (one) => one.libraries.join(", ") },
      { title: "Probes", number: true, cell: (one) => one.probes }] }));
    swap(parts.settings, h("dl", { class: "attributes" }, Object.entries(told.settings).map(([name, value]) => [h("dt", null, name), h("dd", null, text(value) || "–")])));
  }

  function drawTargets() {
    const cost = new Map((costs?.targets ?? []).map((one) => [one.pid, one]));
    const figure = (name, format) => (one) => (cost.has(one.pid) ? format(cost.get(one.pid)[name]) : "–");
    const rows = [...targets].sort((a, b) => (cost.get(b.pid)?.cores ?? 0) - (cost.get(a.pid)?.cores ?? 0));
    swap(parts.targets, table({ caption: "Processes", rows, key: (one) => one.pid, link: (one) => toService(one.service), empty: "No process is watched yet.", columns: [
      { title: "Service", cell: (one) => one.service }, { title: "Pid", number: true, cell: (one) => one.pid },
      { title: "Language", cell: (one) => language(one.language) }, { title: "Ports", cell: (one) => one.ports.join(", ") || "–" },
      { title: "System calls/s", number: true, cell: figure("calls", rate) },
      { title: "Hits on functions/s", number: true, cell: figure("functions", rate) },
      { title: "Probes take", number: true, cell: figure("cores", (value) => (costs.timed ? share(value) : "–")) },
      { title: "Selected by", class: "wide", cell: (one) => [one.selectedBy, " ", h("small", null, `named by ${one.nameSource}`)] },
      { title: "Libraries", class: "wide", cell: (one) => [one.libraries.map((name) => chip(name)), one.unseen.map(unseen), !one.libraries.length && !one.unseen.length && "–"] }] }), h("p", { class: "quiet note" }, about()));
  }

  function about() {
    if (!costs) return COUNTING;
    if (!costs.targets) return "The kernel does not tell how often probes are hit: that needs Linux 5.11, and root or CAP_SYS_ADMIN.";
    const counted = `Calls, each with two probes, and hits on functions were counted for ${costs.seconds} s. `;
    if (!costs.timed) return `${counted}What they take, the kernel tells only root, or CAP_SYS_ADMIN.`;
    return `${counted}What they take is a share of a core, and calculated: a hit takes as long as the kernel says that programs do on average${costs.way ? `, and on a function ${count(costs.way)} ns more there and back, as measured here` : ""}. `
      + `All that is watched pays ${share(costs.watched)} of a core; everything else on this machine ${share(costs.others)}, ${count(costs.least)} ns a system call and probe, the kernel's clock included.`;
  }

  /** Which probes are hit how often, and what they take: counted for a second, now and then, while this is looked at. */
  async function measure() {
    const told = await ask("probes", {}, ending.signal).catch(() => null);
    if (!told || ending.signal.aborted) return;
    const hits = new Map((told.probes ?? []).map((one) => [one.name, one]));
    const missed = attached.some((one) => one.missed);
    costs = told;
    drawTargets();
    const hit = attached.filter((one) => !told.timed || hits.get(one.name)?.rate || one.missed);
    swap(parts.probes, table({ caption: "Probes", rows: hit, columns: [
      { title: "Probe", cell: (one) => h("code", null, one.name) },
      { title: "Runs/s", number: true, cell: (one) => (hits.has(one.name) ? rate(hits.get(one.name).rate) : "–") },
      { title: "Each", number: true, cell: (one) => (hits.get(one.name)?.nanoseconds ? `${count(hits.get(one.name).nanoseconds)} ns` : "–") },
      missed && { title: "Skipped by the kernel", number: true, cell: (one) => count(one.missed) }].filter(Boolean) }),
    h("p", { class: "quiet note" }, "Of the whole machine: the two on system calls run for every process, and end at once if it is not watched."
      + (hit.length < attached.length ? ` Not hit in that second: ${attached.filter((one) => !hit.includes(one)).map((one) => one.name).join(", ")}.` : "")));
  }

  return {
    title: "Agent",
    every: 5000,
    node: h("div", null, h("div", { class: "headline" }, h("h1", null, "Agent"), button), findings, parts.tiles,
      h("div", { class: "grid" }, panel("CPU", cpu.node), panel("Memory", memory.node)),
      panel("Lost", parts.lost), panel("Without a parent", parts.orphans), panel("Processes", parts.targets), panel("Probes", parts.probes), panel("Files with probes", parts.files), panel("Settings", parts.settings)),
    async refresh(signal) {
      draw(await ask("agent", {}, signal));
      if (Date.now() - measured > MEASURE_EVERY) { measured = Date.now(); measure(); }
    },
    close() { ending.abort(); cpu.close(); memory.close(); },
  };
}
