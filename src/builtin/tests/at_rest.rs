//! Values as kube-apiserver stores them: read in every form, written in the same one.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use bytes::Bytes;
use fairlead_api::{Node, json, node};
use fairlead_builtin::{Builtins, Deps};
use fairlead_resource::ResourceDefinition;
use fairlead_resource::at_rest::{self, Form};
use fairlead_resource::storage_codec::StoredObjects;
use fairlead_storage::{Decode, Revision};
use std::sync::{Arc, LazyLock};

static BUILTINS: LazyLock<Builtins> = LazyLock::new(|| {
    fairlead_builtin::load(&Deps {
        form: Form::Protobuf,
        ..Deps::default()
    })
});

fn definition(group: &str, version: &str, plural: &str) -> Arc<ResourceDefinition> {
    let is = |d: &&Arc<ResourceDefinition>| d.group == group && d.version == version && d.plural == plural;
    BUILTINS.definitions.iter().find(is).unwrap().clone()
}

fn read(definition: &Arc<ResourceDefinition>, value: &[u8]) -> Node {
    let decode = StoredObjects::new(definition.clone());
    let cached = decode.decode("x", &Bytes::copy_from_slice(value), Revision(7)).unwrap();
    json::parse(&cached.json.text()).unwrap()
}

/// A field of bytes: its number, its length, itself.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(value.len()).unwrap()], value].concat()
}

#[test]
fn a_config_map_is_what_kube_apiserver_writes() {
    // runtime.Unknown{TypeMeta{apiVersion: 1, kind: 2} = 1, raw = 2, contentEncoding = 3, contentType = 4}
    let type_meta = [field(1, b"v1"), field(2, b"ConfigMap")].concat();
    // ObjectMeta{name = 1, generateName = 2, namespace = 3, selfLink = 4, uid = 5, resourceVersion = 6,
    // generation = 7 (int64), creationTimestamp = 8}: Go writes what it does not omit even where it is empty.
    let metadata = [
        field(1, b"settings"),
        field(2, b""),
        field(3, b"default"),
        field(4, b""),
        field(5, b"u-1"),
        field(6, b""),
        vec![7 << 3, 0],
        field(8, &[0x08, 0x01, 0x10, 0x00]),
    ]
    .concat();
    let data = [field(1, b"a"), field(2, b"1")].concat();
    let message = [field(1, &metadata), field(2, &data)].concat();
    let value = [
        b"k8s\0".to_vec(),
        field(1, &type_meta),
        field(2, &message),
        field(3, b""),
        field(4, b""),
    ]
    .concat();
    let maps = definition("", "v1", "configmaps");
    let object = node!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
        "name": "settings", "namespace": "default", "uid": "u-1", "resourceVersion": "7",
        "creationTimestamp": "1970-01-01T00:00:01Z"}, "data": {"a": "1"}});
    assert_eq!(read(&maps, &value), object);
    assert_eq!(at_rest::write(&maps, object), value, "byte for byte");
}

#[test]
fn every_stored_kind_survives_a_rest() {
    for definition in BUILTINS.definitions.iter().filter(|d| !d.storage.prefix.is_empty()) {
        let stored = &definition.storage.kind;
        if definition.gvk() != *stored && definition.group != "admissionregistration.k8s.io" {
            continue;
        }
        let mut object =
            node!({"metadata": {"name": "x", "resourceVersion": "7", "creationTimestamp": "2026-01-02T03:04:05Z"}});
        object.set("kind", stored.kind.as_str());
        object.set("apiVersion", stored.group_version().to_string());
        definition.hooks.default(&mut object);
        let value = at_rest::write(definition, object.clone());
        let json = matches!(
            definition.group.as_str(),
            "apiregistration.k8s.io" | "apiextensions.k8s.io"
        );
        assert_eq!(value.starts_with(b"k8s\0"), !json, "{stored:?}");
        let back = read(definition, &value);
        for member in ["kind", "apiVersion", "metadata"] {
            assert_eq!(back.get(member), object.get(member), "{stored:?}");
        }
    }
}

#[test]
fn readers_fill_in_what_is_not_stored() {
    let claims = definition("", "v1", "persistentvolumeclaims");
    let object = node!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "x"}});
    let back = read(&claims, &at_rest::write(&claims, object));
    assert_eq!(back.str_at(&["status", "phase"]), "Pending");
    assert_eq!(back.str_at(&["spec", "volumeMode"]), "Filesystem");
}

#[test]
fn definitions_rest_in_their_older_version() {
    let crds = definition("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    let object = node!({"kind": "CustomResourceDefinition", "apiVersion": "apiextensions.k8s.io/v1",
        "metadata": {"resourceVersion": "7", "name": "a.b"}, "spec": {"group": "b", "versions": [
            {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
    let value = at_rest::write(&crds, object.clone());
    let rested = json::parse(&value).unwrap();
    assert_eq!(rested.str("apiVersion"), "apiextensions.k8s.io/v1beta1");
    assert!(rested.at(&["spec", "validation"]).is_some());
    assert_eq!(read(&crds, &value), object);
}

#[test]
fn values_in_other_versions_are_converted() {
    let scalers = definition("autoscaling", "v2", "horizontalpodautoscalers");
    let old = br#"{"kind":"HorizontalPodAutoscaler","apiVersion":"autoscaling/v1","metadata":{"name":"x"},"spec":{"maxReplicas":3,"targetCPUUtilizationPercentage":80}}"#;
    let back = read(&scalers, old);
    assert_eq!(back.str("apiVersion"), "autoscaling/v2");
    let metrics = back.at(&["spec", "metrics"]).and_then(Node::as_list).unwrap();
    assert_eq!(metrics.len(), 1);
}

#[test]
fn what_is_no_value_is_said() {
    let maps = definition("", "v1", "configmaps");
    let decode = StoredObjects::new(maps);
    for value in [b"k8s\0\xff".as_slice(), b"k8s\0", b"", b"{"] {
        assert!(
            decode.decode("x", &Bytes::copy_from_slice(value), Revision(7)).is_err(),
            "{value:?}"
        );
    }
}
