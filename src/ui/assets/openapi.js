// The merged OpenAPI, one group-version at a time: operations and schemas, told from the document itself.

import { json } from "./api.js";
import { h } from "./dom.js";

export const title = "OpenAPI";

let index = null;

export async function show(view, context) {
  index ??= Object.keys((await json("/openapi/v3")).paths).sort();
  const chosen = index.includes(context.wanted) ? context.wanted : index.find((p) => p.startsWith("apis/")) ?? index[0];
  const select = h("select", { "aria-label": "Group-version" }, index.map((p) => h("option", { value: p, selected: p === chosen }, p)));
  select.addEventListener("change", () => { location.hash = `openapi/${select.value}`; });
  const frame = h("iframe", { src: "openapi.html", title: `OpenAPI of ${chosen}` });
  frame.addEventListener("load", async () => {
    const spec = await json(`/openapi/v3/${chosen}`);
    frame.contentWindow.postMessage({ spec }, location.origin);
  });
  view.replaceChildren(h("h2", {}, title), h("div", { class: "bar" }, select), frame);
}
