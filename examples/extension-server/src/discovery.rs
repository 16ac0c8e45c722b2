//! What is served: legacy discovery (`/apis`, `/apis/G`, `/apis/G/V`) and the aggregated document (`/apis`, v2).

use crate::kinds::{KINDS, Kind, STATUS_VERBS, VERBS};
use crate::openapi::Document;
use crate::{GROUP, GROUP_VERSION, VERSION};
use serde_json::{Value, json};
use std::sync::LazyLock;

/// The media type of the aggregated document, as it must be answered.
pub const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Whether a client asks for the aggregated document.
pub fn wants_aggregated(accept: &str) -> bool {
    accept.split(',').any(|media| {
        let has = |parameter: &str| media.split(';').any(|p| p.trim() == parameter);
        has("as=APIGroupDiscoveryList") && has("v=v2") && has("g=apidiscovery.k8s.io")
    })
}

/// The aggregated document with its hash: it is asked for every second or two.
pub fn aggregated_document() -> &'static Document {
    static DOCUMENT: LazyLock<Document> = LazyLock::new(|| Document::new(&aggregated()));
    &DOCUMENT
}

pub fn aggregated() -> Value {
    let resources: Vec<Value> = KINDS.iter().map(|k| aggregated_resource(k)).collect();
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
        "items": [{
            "metadata": {"name": GROUP, "creationTimestamp": null},
            "versions": [{"version": VERSION, "resources": resources, "freshness": "Current"}],
        }],
    })
}

fn aggregated_resource(kind: &Kind) -> Value {
    let response_kind = json!({"group": GROUP, "version": VERSION, "kind": kind.kind});
    json!({
        "resource": kind.plural, "responseKind": response_kind,
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular, "verbs": VERBS, "shortNames": kind.short_names,
        "subresources": [{"subresource": "status", "responseKind": response_kind, "verbs": STATUS_VERBS}],
    })
}

/// `/apis`.
pub fn group_list() -> Value {
    let mut group = group();
    if let Some(members) = group.as_object_mut() {
        members.remove("kind");
        members.remove("apiVersion");
    }
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group]})
}

/// `/apis/G`.
pub fn group() -> Value {
    let version = json!({"groupVersion": GROUP_VERSION, "version": VERSION});
    json!({"kind": "APIGroup", "apiVersion": "v1", "name": GROUP, "versions": [version], "preferredVersion": version})
}

/// `/apis/G/V`, which an aggregator also asks for to see whether this server works.
pub fn resource_list() -> Value {
    let resources: Vec<Value> = KINDS
        .iter()
        .flat_map(|k| {
            [
                json!({
                    "name": k.plural, "singularName": k.singular, "namespaced": k.namespaced, "kind": k.kind,
                    "verbs": VERBS, "shortNames": k.short_names,
                }),
                json!({
                    "name": format!("{}/status", k.plural), "singularName": "", "namespaced": k.namespaced,
                    "kind": k.kind, "verbs": STATUS_VERBS,
                }),
            ]
        })
        .collect();
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": GROUP_VERSION, "resources": resources})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aggregated_discovery_is_negotiated() {
        assert!(wants_aggregated(
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
        ));
        assert!(!wants_aggregated(
            "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
        ));
        assert!(!wants_aggregated("application/json"));
    }
}
