// A small line chart: SVG, with its latest and highest values as text for those who do not see it.

import { h, s } from "./dom.js";

const [W, H, LEFT] = [320, 100, 44];

// lines: [{name, style, points: [{at, value}]}]
export function chart(title, lines, show) {
  const points = lines.flatMap((l) => l.points).filter((p) => Number.isFinite(p.value));
  const top = Math.max(...points.map((p) => p.value), 0) || 1;
  const [from, to] = [Math.min(...points.map((p) => p.at)), Math.max(...points.map((p) => p.at))];
  const x = (at) => LEFT + ((at - from) / Math.max(1, to - from)) * (W - LEFT - 4);
  const y = (value) => H - 8 - (value / top) * (H - 20);
  const path = (line) => {
    let pen = "M", d = "";
    for (const p of line.points) {
      if (!Number.isFinite(p.value)) { pen = "M"; continue; }
      d += `${pen}${x(p.at).toFixed(1)} ${y(p.value).toFixed(1)}`;
      pen = "L";
    }
    return d;
  };
  const last = (line) => line.points.filter((p) => Number.isFinite(p.value)).at(-1)?.value;
  const told = lines.map((l) => `${l.name} ${show(last(l) ?? NaN)}`).join(", ");
  return h("figure", {},
    h("figcaption", {}, h("span", {}, title),
      h("span", {}, lines.map((l) => h("span", { class: `key-${l.style}` }, ` ${l.name} ${show(last(l) ?? NaN)}`)))),
    s("svg", { class: "chart", viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${title}: ${told}, at most ${show(points.length ? top : NaN)}` },
      [0, 0.5, 1].map((part) => [
        s("line", { class: "grid", x1: LEFT, x2: W - 4, y1: y(top * part), y2: y(top * part) }),
        s("text", { x: LEFT - 6, y: y(top * part) + 3, "text-anchor": "end" }, points.length ? show(top * part) : ""),
      ]),
      lines.map((l) => s("path", { class: `line-${l.style}`, d: path(l) }))));
}
