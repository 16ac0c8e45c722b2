// What is stale or in dispute, and why.

import { age, h, state, table } from "./dom.js";

export const title = "Stale";

export function show(view, context) {
  const { model, history } = context;
  const old = new Map(history.now("fairlead_backend_discovery_age_seconds").map((s) => [s.labels.apiservice, s.value]));
  const troubled = model.versions.filter((v) => !v.fresh || v.available === "False" || v.conditions.some((c) => c.type !== "Available" && c.status === "True"));
  view.replaceChildren(
    h("h2", {}, "What is stale, and why"),
    h("div", { class: "card" }, troubled.length
      ? table(`${troubled.length} group-versions`, ["Group-version", "Served by", "State", "Why", "Last confirmed"], troubled.map((v) => [
        v.backend ? h("a", { href: `#backends/${v.name}` }, v.name) : v.name,
        v.servedBy,
        v.available === "False" ? state("bad", "unavailable") : v.fresh ? state("warn", "in dispute") : state("warn", "stale"),
        why(v),
        old.has(v.name) ? `${age(old.get(v.name))} ago` : "–",
      ]))
      : h("p", {}, state("good", "Everything that is served is current."))),
    model.report ? report(model.report) : "");
}

function why(v) {
  const said = v.conditions
    .filter((c) => (c.type === "Available") === (c.status === "False"))
    .map((c) => [c.reason, c.message].filter(Boolean).join(": "));
  return said.length ? said.map((line) => h("div", {}, line)) : "its backend has not confirmed its discovery yet";
}

// The server's own report: what is in dispute, and what it could not read of a backend.
function report(document) {
  const conflicts = document.conflicts ?? [];
  const problems = (document.groupVersions ?? []).flatMap((v) => (v.problems ?? []).map((said) => [v.groupVersion, v.service ?? "", said]));
  const about = ({ type, ...rest }) => Object.entries(rest).map(([key, value]) => `${key}: ${[value].flat().join(", ")}`).join("; ");
  return h("div", { class: "card" },
    table("Conflicts", ["Kind", "About"], conflicts.map((c) => [c.type, about(c)])),
    table("Problems of backends' documents", ["Group-version", "Service", "What"], problems));
}
