// Charts: small ones as SVG, large ones by uPlot, and the heat map on a canvas of uPlot's.

import { h, s } from "./dom.js";
import { clock, ms } from "./format.js";

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** A line without axes; gaps where there was nothing. */
export function spark(values, tone) {
  const [width, height] = [96, 22];
  const numbers = (values ?? []).filter((value) => value !== null);
  const most = Math.max(...numbers, 0);
  const node = s("svg", { class: `spark ${tone}`, viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  if (!numbers.length) return node;
  const x = (index) => values.length < 2 ? width : (index * width) / (values.length - 1);
  const y = (value) => height - 1.5 - (most ? value / most : 0) * (height - 3);
  let line = "", area = "", open = false;
  values.forEach((value, index) => {
    if (value === null) { if (open) area += `L${x(index - 1)} ${height}Z`; open = false; return; }
    line += `${open ? "L" : "M"}${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
    if (!open) area += `M${x(index).toFixed(1)} ${height}`;
    area += `L${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
    open = true;
  });
  if (open) area += `L${width} ${height}Z`;
  node.append(s("path", { class: "area", d: area }), s("path", { class: "line", d: line }));
  return node;
}

function axes(format) {
  const common = { stroke: () => css("text-2"), grid: { stroke: () => css("line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
  return [
    { ...common, values: (_, splits) => splits.map((at) => clock(at * 1000).slice(0, splits.at(-1) - splits[0] < 600 ? 8 : 5)), space: 72, size: 36 },
    { ...common, values: (_, splits) => splits.map(format), size: 64 },
  ];
}

/** A chart of lines over time. lines: {label, tone, fill}; `set(times, ...columns)` shows other data. */
export function chart(label, lines, format, height = 180) {
  const node = h("div", { class: "chart", role: "img", "aria-label": label });
  let plot = null, data = null;
  const options = (width) => ({
    width, height,
    padding: [10, 30, 0, 0],
    cursor: { drag: { x: false, y: false }, points: { size: 6 } },
    legend: { show: lines.length > 1 },
    scales: { x: { time: false }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
    axes: axes(format),
    series: [
      { label: "time", value: (_, at) => at === null ? "" : clock(at * 1000) },
      ...lines.map((line) => ({
        label: line.label, width: 2, points: { show: false }, spanGaps: false,
        stroke: () => css(line.tone), fill: line.fill ? () => css(`${line.tone}-soft`) : undefined,
        value: (_, value) => value === null || value === undefined ? "–" : format(value),
      })),
    ],
  });
  const draw = () => {
    const width = Math.floor(node.clientWidth);
    if (!data || width < 50) return;
    if (!plot) plot = new uPlot(options(width), data, node);
    else { plot.setSize({ width, height }); plot.setData(data); }
  };
  const watcher = new ResizeObserver(draw);
  watcher.observe(node);
  const repaint = () => plot?.redraw(false);
  addEventListener("themechange", repaint);
  return {
    node,
    set(...columns) { data = columns; draw(); },
    close() { watcher.disconnect(); removeEventListener("themechange", repaint); plot?.destroy(); },
  };
}

/** How many requests took how long, over time: the darker the more. `pick(from, to, low, high)`: a cell was clicked. */
export function heatmap(label, pick) {
  const node = h("div", { class: "chart heat", role: "img", "aria-label": label });
  const note = h("p", { class: "quiet note" }, " ");
  let plot = null, data = null;
  const height = 200;
  const cell = () => {
    const { left, top } = plot.cursor;
    if (left < 0 || !data) return null;
    const step = Math.floor((plot.posToVal(left, "x") - data.begin) / data.step);
    const bucket = Math.floor(plot.posToVal(top, "y"));
    const counts = data.heat.counts[step];
    if (!counts || bucket < 0 || bucket >= counts.length) return null;
    const low = bucket ? data.heat.bounds[bucket - 1] : 0;
    return { count: counts[bucket], from: data.begin + step * data.step, low, high: data.heat.bounds[bucket] };
  };
  const paint = (u) => {
    const { counts, bounds } = data.heat;
    const most = Math.max(1, ...counts.map((row) => Math.max(...row)));
    const context = u.ctx;
    context.save();
    context.fillStyle = css("heat");
    counts.forEach((row, step) => {
      const x0 = u.valToPos(data.begin + step * data.step, "x", true);
      const x1 = u.valToPos(Math.min(data.end, data.begin + (step + 1) * data.step), "x", true);
      row.forEach((count, bucket) => {
        if (!count) return;
        const y0 = u.valToPos(bucket + 1, "y", true), y1 = u.valToPos(bucket, "y", true);
        context.globalAlpha = 0.12 + 0.88 * Math.sqrt(count / most);
        context.fillRect(x0, y0, Math.max(1, x1 - x0 - 1), Math.max(1, y1 - y0 - 1));
      });
    });
    context.restore();
  };
  const options = (width) => {
    const [x, y] = axes(ms);
    return {
      width, height, padding: [10, 30, 0, 0], legend: { show: false },
      cursor: { drag: { x: false, y: false }, points: { show: false } },
      scales: { x: { time: false, range: () => [data.begin, data.end] }, y: { range: () => [0, Math.max(1, data.heat.bounds.length)] } },
      axes: [x, { ...y, grid: { show: false }, splits: () => data.heat.bounds.map((_, index) => index + 1).filter((at) => at % Math.ceil(data.heat.bounds.length / 7) === 0), values: (_, splits) => splits.map((at) => ms(data.heat.bounds[at - 1])) }],
      series: [{}, { show: true, paths: () => null, points: { show: false } }],
      hooks: {
        draw: [paint],
        setCursor: [() => {
          const at = cell();
          note.textContent = at ? `${clock(at.from * 1000)}: ${at.count} took ${ms(at.low)} to ${ms(at.high)}${at.count ? ", click to see them" : ""}` : " ";
        }],
        ready: [(u) => u.over.addEventListener("click", () => {
          const at = cell();
          if (at?.count) pick(at.from, at.from + data.step, at.low, at.high);
        })],
      },
    };
  };
  const draw = () => {
    const width = Math.floor(node.clientWidth);
    if (!data || width < 50) return;
    const columns = [[data.begin, data.end], [0, 1]];
    if (!plot) plot = new uPlot(options(width), columns, node);
    else { plot.setSize({ width, height }); plot.setData(columns); }
  };
  const watcher = new ResizeObserver(draw);
  watcher.observe(node);
  const repaint = () => plot?.redraw(false);
  addEventListener("themechange", repaint);
  return {
    node: h("div", null, node, note),
    set(told) { data = told; draw(); },
    close() { watcher.disconnect(); removeEventListener("themechange", repaint); plot?.destroy(); },
  };
}
