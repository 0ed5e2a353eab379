// Services and their calls as a graph, in layers from those who call to those who are called; and as a table.

import { ask } from "../api.js";
import { h, panel, s, swap, table } from "../dom.js";
import { count, ms, rate, share } from "../format.js";
import { toService } from "../parts.js";
import { Graph, layout } from "../vendor/dagre.esm.js";

const [WIDTH, HEIGHT] = [168, 58];
const shortened = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
const tone = (one) => (one.errorRate >= 0.05 ? "bad" : one.errorRate > 0 ? "warn" : "fine");

function arrange(told, direction) {
  const graph = new Graph({ multigraph: false });
  graph.setGraph({ rankdir: direction, nodesep: 22, ranksep: 72, marginx: 12, marginy: 12 });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const node of told.nodes) graph.setNode(node.id, { width: WIDTH, height: HEIGHT });
  for (const edge of told.edges) if (edge.from !== edge.to) graph.setEdge(edge.from, edge.to, {});
  layout(graph);
  return graph;
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
  const graph = arrange(told, direction);
  const { width, height } = graph.graph();
  const marker = (name) => s("marker", { id: `arrow-${name}`, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 9, markerHeight: 9, markerUnits: "userSpaceOnUse", orient: "auto" },
    s("path", { d: "M0 0L8 4L0 8Z", class: `arrow ${name}` }));
  const most = Math.max(...told.edges.map((edge) => edge.rate), 1e-9);
  const edges = told.edges.filter((edge) => edge.from !== edge.to).map((edge) => {
    const { points } = graph.edge(edge.from, edge.to);
    const thick = 1.2 + 5 * Math.sqrt(edge.rate / most);
    return s("path", { class: `edge ${tone(edge)}`, d: curve(points), "stroke-width": thick.toFixed(2), "marker-end": `url(#arrow-${tone(edge)})` },
      s("title", null, `${edge.from} calls ${edge.to}: ${rate(edge.rate)}/s, ${share(edge.errorRate)} errors, p95 ${ms(edge.p95)}`));
  });
  const nodes = told.nodes.map((node) => {
    const { x, y } = graph.node(node.id);
    const served = node.kind === "service" && node.count > 0;
    const box = s("g", { class: `node ${node.kind} ${served ? tone(node) : ""}`, transform: `translate(${x - WIDTH / 2} ${y - HEIGHT / 2})` },
      s("title", null, `${node.id}${served ? `: ${rate(node.rate)} requests/s, ${share(node.errorRate)} errors, p95 ${ms(node.p95)}` : ""}`),
      s("rect", { width: WIDTH, height: HEIGHT, rx: 10 }),
      s("text", { x: 12, y: 23, class: "label" }, shortened(node.id, 20)),
      s("text", { x: 12, y: 43, class: "figures" }, served ? `${rate(node.rate)}/s · ${share(node.errorRate)} · ${ms(node.p95)}`
        : node.kind === "outside" ? "not watched" : node.kind === "external" ? "elsewhere" : "calls only"));
    return node.kind === "service"
      ? s("a", { href: toService(node.id), "data-key": `node-${node.id}`, "aria-label": `${node.id}, ${rate(node.rate)} requests a second, ${share(node.errorRate)} errors` }, box) : box;
  });
  return s("svg", { class: "map", viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": "Services and their calls" },
    s("defs", null, ["fine", "warn", "bad"].map(marker)), edges, nodes);
}

export function map({ minutes }) {
  const frame = h("div", { class: "frame", tabindex: "0", role: "region", "aria-label": "Map" });
  const list = h("div");
  let shown = "";

  function fit() {
    // As large as it is, or smaller until it fits the width; never too small to read: then it scrolls.
    const svg = frame.querySelector("svg");
    if (!svg) return;
    const { width, height } = svg.viewBox.baseVal;
    const scale = Math.max(0.62, Math.min(1, (frame.clientWidth - 4) / width));
    svg.setAttribute("width", width * scale);
    svg.setAttribute("height", height * scale);
  }
  const watcher = new ResizeObserver(fit);
  watcher.observe(frame);

  return {
    title: "Map",
    every: 5000,
    node: h("div", null, h("div", { class: "headline" }, h("h1", null, "Map"),
      h("p", { class: "legend quiet" }, "wider: more requests; ", h("span", { class: "bad-text" }, "red"), ": 5 % errors or more")),
      frame, panel("Calls", list)),
    async refresh(signal) {
      const told = await ask("map", { minutes: minutes() }, signal);
      const text = JSON.stringify(told.edges) + JSON.stringify(told.nodes) + innerWidth;
      if (text === shown) return;
      shown = text;
      swap(frame, told.nodes.length ? picture(told, innerWidth < 700 ? "TB" : "LR") : h("p", { class: "empty" }, "Nobody has called anybody yet."));
      fit();
      swap(list, table({
        caption: "Calls", rows: told.edges, key: (edge) => `${edge.from} ${edge.to}`, empty: "None yet.",
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
