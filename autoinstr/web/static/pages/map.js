// Services and their calls as a graph, in layers from those who call to those who are called; and as a table.

import { ask } from "../api.js";
import { h, panel, s, swap, table } from "../dom.js";
import { count, ms, rate, share } from "../format.js";
import { toService } from "../parts.js";
import { Graph, layout } from "../vendor/dagre.esm.js";

const MANY = 9; // services of one layer, beyond which each takes one line
const LARGE = { height: 58, least: 168, most: 236, gap: 22, apart: 72 };
const SMALL = { height: 28, least: 110, most: 210, gap: 6, apart: 64 };
const tone = (one) => (one.errorRate >= 0.05 ? "bad" : one.errorRate > 0 ? "warn" : "fine");

const measure = (() => {
  const context = document.createElement("canvas").getContext("2d");
  return (text) => {
    context.font = `600 14px ${getComputedStyle(document.body).fontFamily}`;
    return context.measureText(text).width;
  };
})();

/** A name that fits, with both ends of it: names often differ in the last part only. */
function fitting(text, width) {
  if (measure(text) <= width) return text;
  let keep = text.length - 1;
  const cut = () => `${text.slice(0, Math.ceil(keep * 0.6))}…${text.slice(text.length - Math.floor(keep * 0.4))}`;
  while (keep > 4 && measure(cut()) > width) keep--;
  return cut();
}

function arrange(told, direction, size) {
  const graph = new Graph({ multigraph: false });
  graph.setGraph({ rankdir: direction, nodesep: size.gap, ranksep: size.apart, marginx: 12, marginy: 12 });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const node of told.nodes) {
    graph.setNode(node.id, { width: Math.min(size.most, Math.max(size.least, Math.ceil(measure(node.id)) + 26)), height: size.height });
  }
  for (const edge of told.edges) if (edge.from !== edge.to) graph.setEdge(edge.from, edge.to, {});
  layout(graph);
  return graph;
}

/** As large as it can be read at once: where a layer has many services, each takes one line. */
function laid(told, direction) {
  const graph = arrange(told, direction, LARGE);
  const layers = new Map();
  for (const id of graph.nodes()) {
    const at = Math.round(direction === "LR" ? graph.node(id).x / 40 : graph.node(id).y / 20);
    layers.set(at, (layers.get(at) ?? 0) + 1);
  }
  return Math.max(...layers.values()) > MANY ? { graph: arrange(told, "LR", SMALL), size: SMALL } : { graph, size: LARGE };
}

function curve(points) {
  let path = `M${points[0].x} ${points[0].y}`;
  for (let i = 1; i < points.length - 1; i++) {
    const next = points[i + 1];
    const [x, y] = i < points.length - 2 ? [(points[i].x + next.x) / 2, (points[i].y + next.y) / 2] : [next.x, next.y];
    path += `Q${points[i].x} ${points[i].y} ${x} ${y}`;
  }
  return points.length === 2 ? `${path}L${points[1].x} ${points[1].y}` : path;
}

function picture(told, direction) {
  const { graph, size } = laid(told, direction);
  const { width, height } = graph.graph();
  const marker = (name) => s("marker", { id: `arrow-${name}`, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 9, markerHeight: 9, markerUnits: "userSpaceOnUse", orient: "auto" },
    s("path", { d: "M0 0L8 4L0 8Z", class: `arrow ${name}` }));
  const most = Math.max(...told.edges.map((edge) => edge.rate), 1e-9);
  const edges = told.edges.filter((edge) => edge.from !== edge.to).map((edge) => {
    const { points } = graph.edge(edge.from, edge.to);
    const thick = 1.2 + 5 * Math.sqrt(edge.rate / most);
    return s("path", { class: `edge ${tone(edge)}`, d: curve(points), "stroke-width": thick.toFixed(2), "marker-end": `url(#arrow-${tone(edge)})`, dataset: { from: edge.from, to: edge.to } },
      s("title", null, `${edge.from} calls ${edge.to}: ${rate(edge.rate)}/s, ${share(edge.errorRate)} errors, p95 ${ms(edge.p95)}`));
  });
  const nodes = told.nodes.map((node) => {
    const { x, y, width: wide } = graph.node(node.id);
    const served = node.kind === "service" && node.count > 0;
    const box = s("g", { class: `node ${node.kind} ${served ? tone(node) : ""}`, transform: `translate(${x - wide / 2} ${y - size.height / 2})`, dataset: { id: node.id } },
      s("title", null, `${node.id}${served ? `: ${rate(node.rate)} requests/s, ${share(node.errorRate)} errors, p95 ${ms(node.p95)}` : ""}`),
      s("rect", { width: wide, height: size.height, rx: size === SMALL ? 7 : 10 }),
      s("text", { x: 12, y: size === SMALL ? 19 : 23, class: "label" }, fitting(node.id, wide - 24)),
      size === LARGE && s("text", { x: 12, y: 43, class: "figures" }, served ? `${rate(node.rate)}/s · ${share(node.errorRate)} · ${ms(node.p95)}`
        : node.kind === "outside" ? "not watched" : node.kind === "external" ? "elsewhere" : "calls only"));
    return node.kind === "service"
      ? s("a", { href: toService(node.id), "data-key": `node-${node.id}`, "aria-label": `${node.id}, ${rate(node.rate)} requests a second, ${share(node.errorRate)} errors` }, box) : box;
  });
  const svg = s("svg", { class: "map", viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": "Services and their calls" },
    s("defs", null, ["fine", "warn", "bad"].map(marker)), edges, nodes);
  // Who is pointed at stands out, with its callers and those whom it calls.
  const light = (event) => {
    const id = event.target.closest?.("a, .node")?.querySelector?.(".node")?.dataset.id ?? event.target.closest?.(".node")?.dataset.id;
    svg.classList.toggle("lit", Boolean(id));
    const near = new Set([id]);
    for (const edge of edges) {
      const mine = edge.dataset.from === id || edge.dataset.to === id;
      edge.classList.toggle("near", mine);
      if (mine) near.add(edge.dataset.from).add(edge.dataset.to);
    }
    for (const node of svg.querySelectorAll(".node")) node.classList.toggle("near", near.has(node.dataset.id));
  };
  for (const one of ["mouseover", "focusin", "mouseleave", "focusout"]) svg.addEventListener(one, light);
  return svg;
}

export function map({ minutes }) {
  const frame = h("div", { class: "frame", tabindex: "0", role: "region", "aria-label": "Map" });
  const list = h("div");
  let shown = "";

  function fit() {
    // As large as it is, or smaller until it fits; never too small to read: then it scrolls.
    const svg = frame.querySelector("svg");
    if (!svg) return;
    const { width, height } = svg.viewBox.baseVal;
    const scale = Math.max(0.7, Math.min(1, (frame.clientWidth - 4) / width, Math.max(300, innerHeight - 190) / height));
    svg.setAttribute("width", width * scale);
    svg.setAttribute("height", height * scale);
  }
  const watcher = new ResizeObserver(fit);
  watcher.observe(frame);

  return {
    title: "Map",
    every: 5000,
    node: h("div", null, h("div", { class: "headline" }, h("h1", null, "Map"),
      h("p", { class: "legend quiet" }, "wider: more requests; ", h("span", { class: "bad-text" }, "red"), ": 5 % errors or more; point at a service to see its calls alone")),
      frame, panel("Calls", list)),
    async refresh(signal) {
      const told = await ask("map", { minutes: minutes() }, signal);
      const text = JSON.stringify(told.edges) + JSON.stringify(told.nodes) + innerWidth;
      if (text === shown) return;
      shown = text;
      swap(frame, told.nodes.length ? picture(told, innerWidth < 700 ? "TB" : "LR") : h("p", { class: "empty" }, "Nobody has called anybody yet. Calls appear here a few seconds after they were made."));
      fit();
      swap(list, table({
        caption: "Calls", rows: [...told.edges].sort((a, b) => b.rate - a.rate), key: (edge) => `${edge.from} ${edge.to}`, empty: "None yet.",
        columns: [
          { title: "From", cell: (edge) => edge.from }, { title: "To", cell: (edge) => edge.to },
          { title: "Requests/s", number: true, cell: (edge) => rate(edge.rate) }, { title: "Requests", number: true, cell: (edge) => count(edge.count) },
          { title: "Errors", number: true, cell: (edge) => h("span", { class: edge.errors ? "bad-text" : "" }, share(edge.errorRate)) },
          { title: "p95", number: true, cell: (edge) => ms(edge.p95) },
        ],
      }));
    },
    close() { watcher.disconnect(); },
  };
}
