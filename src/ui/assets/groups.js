// Groups, and who serves them.

import { h, state, table } from "./dom.js";

export const title = "Groups";

export function show(view, context) {
  const { model } = context;
  const list = h("div");
  const search = h("input", { type: "search", placeholder: "group, kind or service", "aria-label": "Filter groups", value: context.filter ?? "" });
  const draw = () => {
    context.filter = search.value;
    const wanted = search.value.toLowerCase();
    const matches = (v) => [v.group, v.version, v.servedBy, ...v.resources.flatMap((r) => [r.resource, r.responseKind?.kind ?? ""])]
      .some((word) => word.toLowerCase().includes(wanted));
    const found = model.versions.filter((v) => !wanted || matches(v));
    list.replaceChildren(table(`${found.length} of ${model.versions.length} group-versions`,
      ["Group", "Version", "Served by", "State", "#Resources"],
      found.map((v) => [
        v.group || h("i", {}, "core"),
        h("a", { href: `#openapi/${v.group ? `apis/${v.group}` : "api"}/${v.version}` }, v.version),
        v.backend ? h("a", { href: `#backends/${v.name}` }, v.servedBy) : v.servedBy,
        condition(v),
        v.resources.length ? h("details", {}, h("summary", {}, v.resources.length),
          h("div", {}, v.resources.map((r) => r.resource).join(", "))) : "0",
      ])));
  };
  search.addEventListener("input", draw);
  draw();
  view.replaceChildren(h("h2", {}, title), h("div", { class: "bar" }, search), list);
}

export function condition(v) {
  if (v.available === "False") return state("bad", v.reason || "unavailable");
  if (!v.fresh) return state("warn", "stale");
  if (v.backend && v.available !== "True") return state("warn", "unknown");
  return state("good", v.backend ? "available" : "served");
}
