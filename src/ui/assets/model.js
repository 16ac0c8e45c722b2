// What is known of groups and backends, put together from the API's own documents.

import { all, json, Refused } from "./api.js";

const DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

export async function load() {
  const report = json("/debug/aggregation").catch((error) => {
    if (error instanceof Refused && error.status === 404) return null;
    throw error;
  });
  const { values, problems } = await all({
    core: json("/api", DISCOVERY),
    groups: json("/apis", DISCOVERY),
    services: json("/apis/apiregistration.k8s.io/v1/apiservices"),
    report,
  });
  const services = new Map((values.services?.items ?? []).map((item) => [item.metadata.name, item]));
  const versions = [...(values.core?.items ?? []), ...(values.groups?.items ?? [])].flatMap((group) =>
    (group.versions ?? []).map((version) => entry(group.metadata?.name ?? "", version, services)));
  // An APIService that discovery does not show has something to tell all the more.
  for (const item of services.values()) {
    const [group, version] = [item.spec.group ?? "", item.spec.version];
    if (!versions.some((v) => v.group === group && v.version === version)) {
      versions.push(entry(group, { version, freshness: "Stale", resources: [] }, services));
    }
  }
  return { versions, backends: versions.filter((v) => v.backend), report: values.report ?? null, problems };
}

function entry(group, version, services) {
  const name = `${version.version}.${group}`;
  const item = services.get(name);
  const service = item?.spec.service;
  const condition = (item?.status?.conditions ?? []).find((c) => c.type === "Available");
  const managed = item?.metadata.labels?.["kube-aggregator.kubernetes.io/automanaged"];
  return {
    name,
    group,
    version: version.version,
    fresh: version.freshness !== "Stale",
    resources: version.resources ?? [],
    backend: Boolean(service),
    servedBy: service ? `${service.namespace}/${service.name}:${service.port ?? 443}` : managed === "true" ? "custom resources" : "built in",
    insecure: Boolean(item?.spec.insecureSkipTLSVerify),
    available: condition?.status,
    reason: condition?.reason ?? "",
    message: condition?.message ?? "",
    since: condition?.lastTransitionTime,
    conditions: item?.status?.conditions ?? [],
  };
}
