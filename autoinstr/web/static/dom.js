// Makes elements. Texts become text nodes, always: nothing that came over the network is ever read as markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(node.style, value);
    else if (name === "dataset") Object.assign(node.dataset, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
export const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** Put new children in place of the old ones; who had the focus keeps it, if it has a `data-key`. */
export function swap(node, ...children) {
  const active = node.contains(document.activeElement) ? document.activeElement : null;
  const key = active?.dataset?.key;
  node.replaceChildren(...children.flat(3).filter(Boolean));
  if (key) node.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

/** A table. columns: {name, title, value(row), cell(row), number}; link(row): where a row leads. */
export function table({ caption, columns, rows, link, sort, onsort, empty, key }) {
  const sorted = (column) => (sort && sort.by === column.name ? (sort.down ? "descending" : "ascending") : null);
  const head = columns.map((column) =>
    h("th", {
      scope: "col",
      class: column.number ? "number" : null,
      "aria-sort": sorted(column),
    }, onsort && column.value
      ? h("button", { type: "button", onclick: () => onsort(column), dataset: { key: `sort-${column.name}` } },
        column.title, h("span", { "aria-hidden": "true" }, { ascending: " ↑", descending: " ↓" }[sorted(column)] ?? ""))
      : column.title));
  const body = rows.map((row) => h("tr", { class: link ? "leads" : null, dataset: { row: key ? key(row) : "" } },
    columns.map((column, index) => {
      const content = column.cell(row);
      return h(index === 0 && link ? "th" : "td", {
        scope: index === 0 && link ? "row" : null,
        class: [column.number ? "number" : "", column.class ?? ""].join(" ").trim() || null,
        "data-label": column.title,
      }, index === 0 && link
        ? h("a", { href: link(row), dataset: { key: `row-${key ? key(row) : index}` } }, content) 
        : h("div", { class: "content" }, content));
    })));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${caption}, table` },
    h("table", null, h("caption", { class: "hidden" }, caption), h("thead", null, h("tr", null, head)),
      h("tbody", null, body.length ? body
        : h("tr", null, h("td", { colspan: columns.length, class: "empty" }, empty ?? "Nothing yet.")))));
}

export function panel(title, ...children) {
  const id = `panel-${title.toLowerCase().replace(/[^a-z0-9]+/g, "-")}`;
  return h("section", { class: "panel", "aria-labelledby": id }, h("h2", { id }, title), ...children);
}
