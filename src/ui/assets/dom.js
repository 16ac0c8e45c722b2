// Elements from data. Text is only ever text: nothing here parses HTML.

export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function s(tag, attributes, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((c) => c !== undefined && c !== null && c !== false));
  return element;
}

export const state = (kind, text) => h("span", { class: `state ${kind}` }, text);

// A table; numeric columns are marked by a leading "#".
export function table(caption, columns, rows) {
  const numeric = columns.map((c) => c.startsWith("#"));
  const head = columns.map((c, i) => h("th", { scope: "col", class: numeric[i] && "number" }, c.replace(/^#/, "")));
  const body = rows.map((row) => h("tr", {}, row.map((cell, i) => h("td", { class: numeric[i] && "number" }, cell))));
  const none = h("tr", {}, h("td", { colspan: columns.length, class: "note" }, "none"));
  return h("div", { class: "wide" },
    h("table", {}, h("caption", {}, caption), h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows.length ? body : none)));
}

export function age(seconds) {
  if (!Number.isFinite(seconds)) return "never";
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 1) return `${(seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
  return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
}

export const number = (value) =>
  !Number.isFinite(value) ? "–" : Number.isInteger(value) || value >= 100 ? String(Math.round(value)) : value.toPrecision(2);
