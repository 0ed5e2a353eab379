// Numbers as people read them.

const NONE = "–";

export function count(value) {
  return value === null || value === undefined ? NONE : Math.round(value).toLocaleString("en-GB");
}

export function rate(value) {
  if (value === null || value === undefined) return NONE;
  if (value === 0) return "0";
  if (value < 0.095) return value.toFixed(3);
  if (value < 9.95) return value.toFixed(1);
  return value < 10000 ? count(value) : `${(value / 1000).toFixed(1)}k`;
}

export function share(value) {
  if (!value) return "0 %";
  return value < 0.0995 ? `${(value * 100).toFixed(value < 0.00995 ? 2 : 1)} %` : `${Math.round(value * 100)} %`;
}

export function ms(value) {
  if (value === null || value === undefined) return NONE;
  if (value < 0.9995) return `${Math.round(value * 1000)} µs`;
  if (value < 9.995) return `${value.toFixed(2)} ms`;
  if (value < 99.95) return `${value.toFixed(1)} ms`;
  if (value < 999.5) return `${Math.round(value)} ms`;
  return value < 99950 ? `${(value / 1000).toFixed(2)} s` : `${Math.round(value / 1000)} s`;
}

export function bytes(value) {
  if (value === null || value === undefined) return NONE;
  const units = ["B", "kB", "MB", "GB"];
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) { value /= 1000; unit++; }
  return `${unit && value < 9.95 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

export function clock(milliseconds, precise) {
  const at = new Date(milliseconds);
  const text = at.toLocaleTimeString("en-GB");
  return precise ? `${text}.${String(Math.floor(milliseconds) % 1000).padStart(3, "0")}` : text;
}

export function ago(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${(seconds / 3600).toFixed(1)} h` : `${Math.round(seconds / 86400)} d`;
}

export const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;
