//! `derive`: writes the types of `openapi/` from the recorded facts.
//!
//! What a declaration says about *types* is derived; what it says about *resources* is kept as it stands, since people
//! maintain it. [`facts`] reads the tables, [`golden`] the recorded OpenAPI, [`mod@write`] prints YAML.

mod facts;
mod golden;
mod write;

use anyhow::{Context, Result};
use facts::Facts;
use golden::Golden;
use std::collections::BTreeSet;
use std::path::Path;

/// One declaration file and the Go package its types come from.
pub struct Package {
    /// As `fields.tsv` names it.
    pub api: &'static str,
    /// Under `openapi/`, without `.yaml`.
    pub path: &'static str,
    /// Before the type name in OpenAPI.
    pub prefix: &'static str,
    /// Types wanted besides the kinds of its resources and what they refer to.
    pub roots: &'static [&'static str],
}

pub fn run(shared: &Path) -> Result<()> {
    let facts = Facts::read(&shared.join("facts/fields.tsv"))?;
    let golden = Golden::read(&shared.join("conformance/golden"))?;
    let wanted = closure(&facts, &golden);
    for package in PACKAGES {
        let names: BTreeSet<&str> = wanted
            .iter()
            .filter(|(api, _)| *api == package.api)
            .map(|(_, name)| name.as_str())
            .collect();
        let path = Path::new("openapi").join(package.path).with_extension("yaml");
        let old = std::fs::read_to_string(&path).unwrap_or_default();
        let text = write::package(package, &names, &facts, &golden, &kept(&old))?;
        std::fs::create_dir_all(path.parent().context("a file has a directory")?)?;
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// The hand-kept part of a declaration: from `resources:` to the next top-level key.
fn kept(text: &str) -> String {
    let mut lines = text.lines().skip_while(|line| !line.starts_with("resources:"));
    let Some(first) = lines.next() else {
        return String::new();
    };
    let rest = lines.take_while(|line| line.is_empty() || line.starts_with([' ', '#']));
    let mut kept: Vec<&str> = std::iter::once(first).chain(rest).collect();
    while kept.last().is_some_and(|line| line.is_empty()) {
        kept.pop();
    }
    kept.join("\n") + "\n\n"
}

/// Everything reachable from the kinds in the recorded OpenAPI and the declared roots.
fn closure(facts: &Facts, golden: &Golden) -> BTreeSet<(&'static str, String)> {
    let mut open: Vec<(&'static str, String)> = Vec::new();
    for package in PACKAGES {
        open.extend(package.roots.iter().map(|root| (package.api, (*root).to_owned())));
        for name in golden.schemas.keys() {
            if let Some(("", name)) = name.strip_prefix(package.prefix).and_then(|n| n.split_once('.')) {
                open.push((package.api, name.to_owned()));
            }
        }
    }
    let mut seen = BTreeSet::new();
    while let Some((api, name)) = open.pop() {
        if facts.list_of(api, &name).is_some() && !["Status", "APIGroupList"].contains(&name.as_str()) {
            continue;
        }
        let Some(ty) = facts.get(api, &name) else { continue };
        if !seen.insert((api, name)) {
            continue;
        }
        for expression in ty.fields.iter().map(|f| &f.expression).chain(&ty.inline) {
            if let Some((api, name)) = facts.named(api, &expression.base) {
                open.push((api, name));
            }
        }
    }
    seen
}

macro_rules! packages {
    ($($api:literal $path:literal $prefix:literal [$($root:literal)*])+) => {
        &[$(Package { api: $api, path: $path, prefix: $prefix, roots: &[$($root),*] }),+]
    };
}

#[rustfmt::skip]
pub const PACKAGES: &[Package] = packages! {
    "meta/v1" "meta/v1" "io.k8s.apimachinery.pkg.apis.meta.v1" [
        "Status" "DeleteOptions" "CreateOptions" "UpdateOptions" "PatchOptions" "GetOptions" "ListOptions"
        "PartialObjectMetadata" "PartialObjectMetadataList" "Table" "TableOptions" "WatchEvent" "LabelSelector"
        "APIGroup" "APIGroupList" "APIResourceList" "APIVersions" "RootPaths"]
    "core/v1" "core/v1" "io.k8s.api.core.v1" ["NodeProxyOptions" "PodAttachOptions" "PodExecOptions" "PodLogOptions"
        "PodPortForwardOptions" "PodProxyOptions" "ServiceProxyOptions" "RangeAllocation"]
    "admissionregistration/v1" "admissionregistration.k8s.io/v1" "io.k8s.api.admissionregistration.v1" []
    "apidiscovery/v2" "apidiscovery.k8s.io/v2" "io.k8s.api.apidiscovery.v2" ["APIGroupDiscoveryList" "APIGroupDiscovery"]
    "apiextensions/v1" "apiextensions.k8s.io/v1" "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1" []
    "apiregistration/v1" "apiregistration.k8s.io/v1" "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1" []
    "apps/v1" "apps/v1" "io.k8s.api.apps.v1" []
    "authentication/v1" "authentication.k8s.io/v1" "io.k8s.api.authentication.v1" []
    "authorization/v1" "authorization.k8s.io/v1" "io.k8s.api.authorization.v1" []
    "autoscaling/v1" "autoscaling/v1" "io.k8s.api.autoscaling.v1" []
    "autoscaling/v2" "autoscaling/v2" "io.k8s.api.autoscaling.v2" []
    "batch/v1" "batch/v1" "io.k8s.api.batch.v1" []
    "certificates/v1" "certificates.k8s.io/v1" "io.k8s.api.certificates.v1" []
    "coordination/v1" "coordination.k8s.io/v1" "io.k8s.api.coordination.v1" []
    "discovery/v1" "discovery.k8s.io/v1" "io.k8s.api.discovery.v1" []
    "events/v1" "events.k8s.io/v1" "io.k8s.api.events.v1" []
    "flowcontrol/v1" "flowcontrol.apiserver.k8s.io/v1" "io.k8s.api.flowcontrol.v1" []
    "networking/v1" "networking.k8s.io/v1" "io.k8s.api.networking.v1" []
    "node/v1" "node.k8s.io/v1" "io.k8s.api.node.v1" []
    "policy/v1" "policy/v1" "io.k8s.api.policy.v1" ["Eviction"]
    "rbac/v1" "rbac.authorization.k8s.io/v1" "io.k8s.api.rbac.v1" []
    "resource/v1" "resource.k8s.io/v1" "io.k8s.api.resource.v1" []
    "scheduling/v1" "scheduling.k8s.io/v1" "io.k8s.api.scheduling.v1" []
    "storage/v1" "storage.k8s.io/v1" "io.k8s.api.storage.v1" []
};
