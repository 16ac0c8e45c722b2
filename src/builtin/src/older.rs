//! Versions that kube-apiserver stores but does not serve: CustomResourceDefinitions are at rest what they were in
//! `apiextensions.k8s.io/v1beta1`.
//!
//! Source: kubernetes/apiextensions-apiserver pkg/apis/apiextensions/v1/conversion.go; the version that is stored is the
//! oldest that knows all fields (kubernetes/kubernetes test/integration/etcd/data.go).

use fairlead_api::{Map, Node};
use fairlead_resource::at_rest::{Form, Older};

/// What objects of a group are written as, where `wanted` is asked for: those two groups have no protobuf at rest.
pub fn form(group: &str, wanted: Form) -> Form {
    match group {
        "apiregistration.k8s.io" => Form::Json,
        _ => wanted,
    }
}

/// The older version that objects of a resource are written as.
pub fn of(group: &str, plural: &str) -> Option<Older> {
    (group == "apiextensions.k8s.io" && plural == "customresourcedefinitions").then_some(Older {
        api_version: "apiextensions.k8s.io/v1beta1",
        to: to_v1beta1,
        from: from_v1beta1,
    })
}

/// What the older version has once for all versions: its name there, and in a version.
const SHARED: [(&str, &str); 4] = [
    ("validation", "schema"),
    ("subresources", "subresources"),
    ("additionalPrinterColumns", "additionalPrinterColumns"),
    ("selectableFields", "selectableFields"),
];

fn from_v1beta1(definition: &mut Node) {
    let Some(spec) = definition.get_mut("spec").and_then(Node::as_map_mut) else {
        return;
    };
    if let Some(name) = spec.remove("version")
        && spec.get("versions").and_then(Node::as_list).is_none_or(Vec::is_empty)
    {
        let mut version = Node::map();
        version.set("name", name);
        version.set("served", true);
        version.set("storage", true);
        spec.insert("versions", Node::List(vec![version]));
    }
    for (shared, own) in SHARED {
        if let Some(value) = spec.remove(shared).filter(|value| !value.is_null()) {
            each_version(spec, |version| _ = version.insert(own, value.clone()));
        }
    }
    each_version(spec, |version| rename_paths(version, "JSONPath", "jsonPath"));
    // Absent was true there and is false here.
    match spec.get("preserveUnknownFields").and_then(Node::as_bool) {
        None => _ = spec.insert("preserveUnknownFields", Node::Bool(true)),
        Some(false) => _ = spec.remove("preserveUnknownFields"),
        Some(true) => {}
    }
    if let Some(conversion) = spec.get_mut("conversion").and_then(Node::as_map_mut) {
        let mut webhook = Map::default();
        for (from, to) in [
            ("webhookClientConfig", "clientConfig"),
            ("conversionReviewVersions", "conversionReviewVersions"),
        ] {
            if let Some(value) = conversion.remove(from).filter(|value| !value.is_null()) {
                webhook.insert(to, value);
            }
        }
        if !webhook.is_empty() {
            conversion.insert("webhook", Node::Map(webhook));
        }
    }
}

fn to_v1beta1(definition: &mut Node) {
    let Some(spec) = definition.get_mut("spec").and_then(Node::as_map_mut) else {
        return;
    };
    each_version(spec, |version| rename_paths(version, "jsonPath", "JSONPath"));
    let versions = spec
        .get("versions")
        .and_then(Node::as_list)
        .cloned()
        .unwrap_or_default();
    if let Some(first) = versions.first() {
        spec.insert("version", first.get("name").cloned().unwrap_or_default());
        for (shared, own) in SHARED {
            let value = first.get(own);
            if versions.iter().any(|version| version.get(own) != value) {
                continue;
            }
            each_version(spec, |version| _ = version.remove(own));
            if let Some(value) = value {
                spec.insert(shared, value.clone());
            }
        }
    }
    if !spec.contains_key("preserveUnknownFields") {
        spec.insert("preserveUnknownFields", Node::Bool(false));
    }
    if let Some(conversion) = spec.get_mut("conversion").and_then(Node::as_map_mut)
        && let Some(Node::Map(mut webhook)) = conversion.remove("webhook")
    {
        for (from, to) in [
            ("clientConfig", "webhookClientConfig"),
            ("conversionReviewVersions", "conversionReviewVersions"),
        ] {
            if let Some(value) = webhook.remove(from) {
                conversion.insert(to, value);
            }
        }
    }
}

fn each_version(spec: &mut Map, mut change: impl FnMut(&mut Map)) {
    let versions = spec.get_mut("versions").and_then(Node::as_list_mut);
    versions
        .into_iter()
        .flatten()
        .filter_map(Node::as_map_mut)
        .for_each(&mut change);
}

fn rename_paths(version: &mut Map, from: &str, to: &'static str) {
    let columns = version.get_mut("additionalPrinterColumns").and_then(Node::as_list_mut);
    for column in columns.into_iter().flatten().filter_map(Node::as_map_mut) {
        if let Some(path) = column.remove(from) {
            column.insert(to, path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn definitions_are_the_same_after_a_rest() {
        let column = node!({"name": "Size", "type": "string", "jsonPath": ".spec.size"});
        let schema = node!({"openAPIV3Schema": {"type": "object"}});
        let same = node!({"spec": {"group": "example.com", "conversion": {"strategy": "Webhook", "webhook": {
        "clientConfig": {"url": "https://x"}, "conversionReviewVersions": ["v1"]}},
        "versions": [
            {"name": "v1", "served": true, "storage": true, "schema": schema, "additionalPrinterColumns": [column]},
            {"name": "v2", "served": true, "storage": false, "schema": schema, "additionalPrinterColumns": [column]}
        ]}});
        let mut rested = same.clone();
        to_v1beta1(&mut rested);
        let expected = node!({"spec": {"group": "example.com", "version": "v1", "preserveUnknownFields": false,
            "validation": schema,
            "additionalPrinterColumns": [{"name": "Size", "type": "string", "JSONPath": ".spec.size"}],
            "conversion": {"strategy": "Webhook", "webhookClientConfig": {"url": "https://x"},
                "conversionReviewVersions": ["v1"]},
            "versions": [{"name": "v1", "served": true, "storage": true}, {"name": "v2", "served": true, "storage": false}]}});
        assert_eq!(rested, expected);
        from_v1beta1(&mut rested);
        assert_eq!(rested, same);
        let mut different = same.clone();
        let versions = different
            .at_mut(&["spec", "versions"])
            .and_then(Node::as_list_mut)
            .unwrap();
        versions[1].remove("schema");
        let before = different.clone();
        to_v1beta1(&mut different);
        assert!(different.at(&["spec", "validation"]).is_none());
        from_v1beta1(&mut different);
        assert_eq!(different, before);
    }

    #[test]
    fn very_old_definitions_have_one_version_and_keep_unknown_fields() {
        let mut old = node!({"spec": {"version": "v1", "validation": {"openAPIV3Schema": {"type": "object"}}}});
        from_v1beta1(&mut old);
        let expected = node!({"spec": {"preserveUnknownFields": true, "versions": [
            {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
        assert_eq!(old, expected);
    }
}
