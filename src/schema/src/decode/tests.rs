//! What decoding accepts, rewrites and refuses.

use super::*;
use crate::test_types::pod;
use fairlead_api::node;

fn decoded(mut node: Node) -> Node {
    let schema = pod();
    decode(&mut node, schema.root(), Unknown::Drop).unwrap();
    node
}

fn error(mut node: Node) -> String {
    let schema = pod();
    decode(&mut node, schema.root(), Unknown::Drop).unwrap_err().to_string()
}

#[test]
fn a_round_trip_is_gos() {
    let node = decoded(node!({
        "metadata": {"name": "a", "labels": {}, "creationTimestamp": null},
        "spec": {
            "containers": [{"name": "c", "image": "", "resources": {"limits": {"cpu": 0.5, "memory": "1024Ki", "x": null}}}],
            "restartPolicy": null, "replicas": 0, "secret": {"k": "YQ\n=="}, "bogus": 1,
        },
        "status": {"startTime": "2026-01-01T00:00:00.9+01:00"},
    }));
    assert_eq!(
        node,
        node!({
            "metadata": {"name": "a"},
            "spec": {
                "containers": [{"name": "c", "resources": {"limits": {"cpu": "500m", "memory": "1Mi", "x": "0"}}}],
                "replicas": 0, "secret": {"k": "YQ=="},
            },
            "status": {"startTime": "2025-12-31T23:00:00Z"},
        })
    );
}

#[test]
fn what_go_always_writes_is_there() {
    assert_eq!(
        decoded(node!({})),
        node!({"metadata": {}, "spec": {"containers": null}, "status": {"startTime": null}})
    );
    let mut node = node!({"spec": {"containers": [{}]}});
    complete(&mut node, pod().root());
    assert_eq!(
        node,
        node!({"metadata": {}, "spec": {"containers": [{"name": "", "resources": {}}]}, "status": {"startTime": null}})
    );
}

#[test]
fn errors_have_gos_words() {
    for (node, message) in [
        (node!([]), "json: cannot unmarshal array into Go value of type v1.Pod"),
        (
            node!({"metadata": "x"}),
            "json: cannot unmarshal string into Go struct field Pod.metadata of type v1.ObjectMeta",
        ),
        (
            node!({"metadata": {"labels": {"a": 1}}}),
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            node!({"spec": {"containers": {}}}),
            "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            node!({"spec": {"containers": ["x"]}}),
            "json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type v1.Container",
        ),
        (
            node!({"spec": {"containers": [{"name": true}]}}),
            "json: cannot unmarshal bool into Go struct field Container.spec.containers.name of type string",
        ),
        (
            node!({"spec": {"replicas": 4294967296i64}}),
            "json: cannot unmarshal number 4294967296 into Go struct field PodSpec.spec.replicas of type int32",
        ),
        (
            node!({"spec": {"replicas": 1.5}}),
            "json: cannot unmarshal number 1.5 into Go struct field PodSpec.spec.replicas of type int32",
        ),
        (
            node!({"spec": {"restartPolicy": 5}}),
            "json: cannot unmarshal number into Go struct field PodSpec.spec.restartPolicy of type v1.RestartPolicy",
        ),
        (
            node!({"spec": {"port": true}}),
            "json: cannot unmarshal bool into Go struct field PodSpec.spec.port of type int32",
        ),
        (
            node!({"spec": {"hostPath": 1}}),
            "json: cannot unmarshal number into Go struct field PodSpec.spec.VolumeSource.hostPath of type string",
        ),
        (
            node!({"spec": {"secret": {"a": "!"}}}),
            "illegal base64 data at input byte 0",
        ),
        (
            node!({"status": {"startTime": "yesterday"}, "spec": 1}),
            "parsing time \"yesterday\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"yesterday\" as \"2006\"",
        ),
        (
            node!({"status": {"startTime": 1}}),
            "json: cannot unmarshal number into Go struct field PodStatus.status.startTime of type string",
        ),
        (
            node!({"spec": {"containers": [{"resources": {"limits": {"cpu": "x"}}}]}}),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
    ] {
        assert_eq!(error(node.clone()), message, "{}", json::to_string(&node));
    }
}

#[test]
fn the_first_problem_of_the_document_counts() {
    let document = br#"{"spec": {"replicas": "x"}, "metadata": 1}"#;
    let mut node = json::parse(document).unwrap();
    let schema = pod();
    let error = decode(&mut node, schema.root(), Unknown::Drop).unwrap_err();
    assert_eq!(
        error.in_document(document),
        "json: cannot unmarshal string into Go struct field PodSpec.spec.replicas of type int32"
    );
}

#[test]
fn unknown_and_duplicate_fields_are_named() {
    let schema = pod();
    let mut node = node!({"Metadata": {}, "spec": {"containers": [{"foo": {"bar": 1}}], "port": 1}});
    let unknown = decode(&mut node, schema.root(), Unknown::Collect).unwrap();
    assert_eq!(unknown, ["Metadata", "spec.containers[0].foo"]);
    let duplicates = [
        "spec.bogus.x",
        "spec.bogus",
        "metadata.labels.a.b/c",
        "spec.port",
        "spec.port",
        "spec.containers[0].name",
    ];
    assert_eq!(
        known_duplicates(duplicates.map(String::from).to_vec(), schema.root()),
        ["metadata.labels.a.b/c", "spec.port", "spec.containers[0].name"]
    );
    let mut meta = node!({"bogus": 1});
    let root = schema.root().member("metadata").unwrap();
    assert_eq!(
        decode_at(&mut meta, root, Unknown::Collect, "metadata").unwrap(),
        ["metadata.bogus"]
    );
}

#[test]
fn empty_lists_are_told_from_absent_ones_until_they_are_forgotten() {
    let schema = pod();
    let mut node = node!({"spec": {"containers": [], "initContainers": []}});
    decode(&mut node, schema.root(), Unknown::Drop).unwrap();
    let both = |node: &Node| {
        let spec = node.get("spec").unwrap();
        (spec.get("containers").cloned(), spec.get("initContainers").cloned())
    };
    assert_eq!(both(&node), (Some(node!([])), Some(node!([]))));
    forget_empty(&mut node, schema.root());
    assert_eq!(both(&node), (Some(Node::Null), None));
}
