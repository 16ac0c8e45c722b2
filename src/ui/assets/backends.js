// Backends and their endpoints: health as it is now, latency and errors as they were since the page was opened.

import { chart } from "./chart.js";
import { age, duration, h, number, state, table } from "./dom.js";
import { condition } from "./groups.js";

export const title = "Backends";

const BREAKER = [["good", "closed"], ["warn", "half open"], ["bad", "open"]];

export function show(view, context) {
  const { model, history, wanted } = context;
  const shown = model.backends.filter((b) => !wanted || b.name === wanted);
  const none = h("p", { class: "note" }, "No APIService names a service: everything is served here.");
  view.replaceChildren(
    h("h2", {}, title),
    wanted ? h("p", {}, h("a", { href: "#backends" }, "All backends")) : "",
    history.readings.length ? "" : h("p", { class: "note" }, "Metrics are not readable, or not read yet: charts and endpoints are missing."),
    ...(shown.length ? shown.map((b) => card(b, history)) : [none]));
}

function card(backend, history) {
  const mine = (labels) => labels.apiservice === backend.name;
  const proxied = (labels) => labels.group === backend.group && labels.version === backend.version;
  const one = (name) => history.now(name, mine)[0]?.value;
  const breaker = BREAKER[one("fairlead_backend_breaker_state") ?? 0] ?? BREAKER[0];
  const failed = (labels) => proxied(labels) && labels.code >= "500";
  const requests = "apiserver_kube_aggregator_request_total";
  const seconds = "apiserver_kube_aggregator_request_duration_seconds";
  const lines = (...all) => all.map(([name, style, points]) => ({ name, style, points }));
  return h("section", { class: "card", "aria-label": backend.name },
    h("header", { class: "bar" }, h("h3", {}, backend.name), condition(backend)),
    h("dl", { class: "facts" },
      h("dt", {}, "Service"), h("dd", {}, backend.servedBy, backend.insecure ? state("warn", " certificate not verified") : ""),
      backend.message && backend.available !== "True" ? [h("dt", {}, "Why"), h("dd", {}, backend.message)] : "",
      backend.since ? [h("dt", {}, "Since"), h("dd", {}, new Date(backend.since).toLocaleString())] : "",
      h("dt", {}, "Circuit breaker"), h("dd", {}, state(...breaker)),
      h("dt", {}, "Under way"), h("dd", {}, number(one("fairlead_backend_inflight_requests") ?? NaN)),
      h("dt", {}, "Discovery"), h("dd", {}, `${age(one("fairlead_backend_discovery_age_seconds") ?? NaN)} old`),
      h("dt", {}, "OpenAPI"), h("dd", {}, `${age(one("fairlead_backend_openapi_age_seconds") ?? NaN)} old`)),
    h("div", { class: "charts" },
      chart("Requests per second", lines(["all", 0, history.rates(requests, proxied)]), number),
      chart("Errors (5xx) per second", lines(["errors", "bad", history.rates(requests, failed)]), number),
      chart("Time to an answer", lines(
        ["median", 0, history.quantiles(seconds, 0.5, proxied)],
        ["p99", 1, history.quantiles(seconds, 0.99, proxied)]), duration)),
    endpoints(mine, history));
}

function endpoints(mine, history) {
  const of = (name, endpoint, more = () => true) => history
    .now(name, (l) => mine(l) && l.endpoint === endpoint && more(l))
    .reduce((sum, sample) => sum + sample.value, 0);
  const first = "fairlead_backend_first_byte_duration_seconds";
  const rows = history.now("fairlead_backend_endpoint_healthy", mine).map(({ labels: { endpoint }, value }) => {
    const here = (l) => mine(l) && l.endpoint === endpoint;
    const latest = (quantile) => history.quantiles(first, quantile, here).filter((p) => Number.isFinite(p.value)).at(-1)?.value ?? NaN;
    return [
      endpoint,
      value ? state("good", "in use") : state("bad", "left out"),
      number(of("fairlead_backend_endpoint_inflight_requests", endpoint)),
      number(of("fairlead_backend_connections", endpoint)),
      number(of("fairlead_backend_attempts_total", endpoint, (l) => l.result === "answered")),
      number(of("fairlead_backend_attempts_total", endpoint, (l) => l.result !== "answered")),
      number(of("fairlead_backend_ejections_total", endpoint)),
      duration(latest(0.5)),
      duration(latest(0.99)),
    ];
  });
  return table("Endpoints", ["Endpoint", "State", "#Under way", "#Connections", "#Answered", "#Failed", "#Ejections", "#First byte, median", "#p99"], rows);
}
