// The frame: which page is shown, how often it is refreshed, theme and keys.

import { Refused } from "./api.js";
import { agent } from "./pages/agent.js";
import { map } from "./pages/map.js";
import { service } from "./pages/service.js";
import { services } from "./pages/services.js";
import { trace } from "./pages/trace.js";
import { traces } from "./pages/traces.js";

const PAGES = { services, service, map, traces, trace, agent };
const BELONGS = { service: "services", trace: "traces" };
const main = document.getElementById("main");
const trouble = document.getElementById("trouble");
const minutes = document.getElementById("minutes");
const pause = document.getElementById("pause");
const keys = document.getElementById("keys");

let page = null; // {title, node, every, refresh(signal), close()}
let timer = 0;
let asking = null;
let paused = false;

function where() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/");
  return { name: name in PAGES ? name : "services", rest: rest.map(decodeURIComponent), query: new URLSearchParams(query) };
}

function open() {
  const { name, rest, query } = where();
  asking?.abort();
  page?.close?.();
  page = PAGES[name]({ argument: rest[0] ?? "", query, minutes: () => minutes.value, again: refresh });
  document.title = `${page.title} · autoinstr`;
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.dataset.page === (BELONGS[name] ?? name)) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  main.replaceChildren(page.node);
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
  refresh();
}

async function refresh() {
  clearTimeout(timer);
  asking?.abort();
  const mine = (asking = new AbortController());
  try {
    await page.refresh(mine.signal);
    trouble.hidden = true;
    main.dataset.filled = page.title;
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof Refused)) console.error(error);
    trouble.textContent = error.message;
    trouble.hidden = false;
  }
  if (asking === mine && !paused && !document.hidden) timer = setTimeout(refresh, page.every);
}

function setPaused(value) {
  paused = value;
  pause.setAttribute("aria-pressed", String(paused));
  pause.textContent = paused ? "Paused" : "Live";
  if (paused) clearTimeout(timer);
  else refresh();
}

function turnTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
  document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
  localStorage.setItem("theme", document.documentElement.dataset.theme);
  dispatchEvent(new Event("themechange"));
}

function step(by) {
  const rows = [...main.querySelectorAll("tbody a[data-key^='row-']")];
  const at = rows.indexOf(document.activeElement);
  rows[at < 0 ? 0 : Math.min(rows.length - 1, Math.max(0, at + by))]?.focus();
}

const KEYS = {
  1: () => (location.hash = "#/services"),
  2: () => (location.hash = "#/map"),
  3: () => (location.hash = "#/traces"),
  4: () => (location.hash = "#/agent"),
  "/": () => main.querySelector("input[type=search]")?.focus(),
  j: () => step(1),
  k: () => step(-1),
  p: () => setPaused(!paused),
  t: turnTheme,
  "?": () => keys.showModal(),
  Backspace: () => history.back(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || keys.open) return;
  if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key in KEYS) {
    event.preventDefault();
    KEYS[event.key]();
  }
});
main.addEventListener("click", (event) => {
  const row = event.target.closest("tr.leads");
  if (row && !event.target.closest("a, button") && !getSelection().toString()) row.querySelector("a")?.click();
});
minutes.addEventListener("change", refresh);
pause.addEventListener("click", () => setPaused(!paused));
document.getElementById("theme").addEventListener("click", turnTheme);
document.getElementById("help").addEventListener("click", KEYS["?"]);
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
addEventListener("hashchange", open);
document.addEventListener("visibilitychange", () => { if (!document.hidden && !paused) refresh(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new Event("themechange")));
open();
