//! Every built-in kind through protobuf and back; and bytes that are no messages.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use fairlead_api::{Map, Node, node};
use fairlead_builtin::{Builtins, Deps};
use fairlead_codec::protobuf::envelope;
use fairlead_schema::{self as schema, Shape, TypeId, TypeRef};
use proptest::prelude::*;
use std::sync::LazyLock;

static BUILTINS: LazyLock<Builtins> = LazyLock::new(|| fairlead_builtin::load(&Deps::default()));

static POD: LazyLock<(TypeId, Vec<u8>)> = LazyLock::new(|| {
    let id = BUILTINS.protobuf.message("", "v1", "Pod").unwrap();
    let of = TypeRef {
        types: &BUILTINS.types,
        id,
    };
    (id, BUILTINS.protobuf.encode(&full(of, 5), id))
});

fn messages() -> impl Iterator<Item = TypeRef<'static>> {
    let types = &*BUILTINS.types;
    let structs = (0u32..).zip(&types.types).filter(|(_, ty)| match &ty.shape {
        Shape::Struct(fields) => fields.fields.iter().any(|f| f.proto > 0),
        _ => false,
    });
    structs.map(move |(i, _)| TypeRef { types, id: TypeId(i) })
}

fn back_and_forth(value: &Node, of: TypeRef) -> Node {
    let bytes = BUILTINS.protobuf.encode(value, of.id);
    let mut read = BUILTINS.protobuf.decode(&bytes, of.id).unwrap();
    schema::complete(&mut read, of);
    read
}

/// A value with something in every field that protobuf carries.
fn full(of: TypeRef, depth: usize) -> Node {
    let name = of.ty().name.rsplit('.').next().unwrap_or_default().to_owned();
    match of.shape() {
        Shape::Bool => Node::Bool(true),
        Shape::Int { .. } => Node::Int(-7),
        Shape::Float => Node::Float(1.5),
        Shape::String => Node::string("text"),
        Shape::Bytes => Node::string("Ynl0ZXM="),
        Shape::Quantity => Node::string("1500m"),
        Shape::Time => Node::string("2026-01-02T03:04:05Z"),
        Shape::MicroTime => Node::string("2026-01-02T03:04:05.000006Z"),
        Shape::Duration => Node::string("1m30s"),
        Shape::IntOrString => Node::string("80%"),
        Shape::List(items) => Node::List(vec![full(of.with(*items), depth), full(of.with(*items), depth)]),
        Shape::Map(values) => {
            let entries = ["a", "b"].map(|key| (key, full(of.with(*values), depth)));
            Node::Map(entries.into_iter().collect())
        }
        Shape::Any => match name.as_str() {
            "JSONSchemaPropsOrBool" => Node::Bool(true),
            "JSONSchemaPropsOrArray" => node!([{"type": "string"}]),
            "JSONSchemaPropsOrStringArray" => node!(["a", "b"]),
            _ => node!({"any": [1, "thing"]}),
        },
        Shape::Struct(fields) => {
            let carried = fields
                .fields
                .iter()
                .filter(|f| f.proto > 0 && (depth > 0 || !f.pointer && f.omit_zero));
            let entries = carried
                .filter(|_| depth > 0)
                .map(|f| (f.name.clone(), full(of.with(f.ty), depth - 1)));
            let mut made = Node::Map(entries.collect::<Map>());
            schema::complete(&mut made, of);
            made
        }
    }
}

#[test]
fn zero_values_come_back() {
    for of in messages() {
        let zero = schema::zero(of);
        assert_eq!(back_and_forth(&zero, of), zero, "{}", of.ty().name);
    }
}

#[test]
fn full_values_come_back() {
    let mut count = 0;
    for of in messages() {
        let full = full(of, 4);
        assert_eq!(back_and_forth(&full, of), full, "{}", of.ty().name);
        count += 1;
    }
    assert!(count > 500, "only {count} messages");
}

#[test]
fn every_resource_has_a_message_for_its_objects_and_lists() {
    for definition in &BUILTINS.definitions {
        let (group, version) = (&definition.group, &definition.version);
        assert_eq!(
            BUILTINS.protobuf.message(group, version, &definition.kind),
            Some(definition.schema.root),
            "{group}/{version} {}",
            definition.kind
        );
        if definition.is_stored() {
            let list = BUILTINS.protobuf.message(group, version, &definition.list_kind);
            assert!(list.is_some(), "{group}/{version} {}", definition.list_kind);
        }
    }
}

#[test]
fn every_cut_of_a_pod_is_an_error_or_a_smaller_pod() {
    let (pod, bytes) = &*POD;
    for end in (0..bytes.len()).step_by(bytes.len() / 200 + 1) {
        let _ = BUILTINS.protobuf.decode(&bytes[..end], *pod);
    }
    assert!(BUILTINS.protobuf.decode(&bytes[..bytes.len() - 1], *pod).is_err());
}

#[test]
fn messages_within_messages_end_somewhere() {
    // JSONSchemaProps, `not` (28) in `not` in …
    let props = BUILTINS
        .type_id("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps")
        .unwrap();
    let mut bytes = Vec::new();
    for _ in 0..20_000 {
        let mut length = bytes.len();
        let mut head = vec![0xe2, 0x01];
        while length >= 0x80 {
            head.push(length as u8 | 0x80);
            length >>= 7;
        }
        head.push(length as u8);
        head.extend_from_slice(&bytes);
        bytes = head;
    }
    assert_eq!(
        BUILTINS.protobuf.decode(&bytes, props).unwrap_err().to_string(),
        "proto: exceeded max depth"
    );
}

#[test]
fn a_message_in_pieces_is_put_together() {
    let config_map = BUILTINS.protobuf.message("", "v1", "ConfigMap").unwrap();
    let piece = |value: Node| BUILTINS.protobuf.encode(&value, config_map);
    let mut bytes = piece(node!({"metadata": {"name": "a", "labels": {"x": "1"}}, "data": {"k": "1"}}));
    // Only what is named: the encoder would write empty values as well.
    bytes.extend_from_slice(b"\x0a\x0c\x5a\x06\x0a\x01y\x12\x01\x32\x0a\x02bb");
    bytes.extend_from_slice(b"\x12\x06\x0a\x01k\x12\x01\x32");
    let read = BUILTINS.protobuf.decode(&bytes, config_map).unwrap();
    let expected = node!({"metadata": {"name": "bb", "labels": {"x": "1", "y": "2"}}, "data": {"k": "2"}});
    assert_eq!(read, expected);
}

#[test]
fn endless_repetition_is_refused() {
    let config_map = BUILTINS.protobuf.message("", "v1", "ConfigMap").unwrap();
    let labels: Map = (0..20_000).map(|i| (format!("l{i}"), Node::string(""))).collect();
    let mut bytes = BUILTINS
        .protobuf
        .encode(&node!({"metadata": {"labels": Node::Map(labels)}}), config_map);
    for _ in 0..20_000 {
        bytes.extend_from_slice(b"\x0a\x02\x5a\x00");
    }
    assert_eq!(
        BUILTINS.protobuf.decode(&bytes, config_map).unwrap_err().to_string(),
        "proto: message is too complex"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), pick in any::<prop::sample::Index>()) {
        let all: Vec<TypeId> = messages().map(|of| of.id).collect();
        let _ = BUILTINS.protobuf.decode(&bytes, all[pick.index(all.len())]);
        let _ = envelope::open(&bytes);
        let mut enveloped = envelope::MAGIC.to_vec();
        enveloped.extend_from_slice(&bytes);
        let _ = envelope::open(&enveloped);
    }

    #[test]
    fn no_changed_byte_panics(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let (pod, mut bytes) = POD.clone();
        // Where the structure is: near the start.
        let at = at.index(bytes.len().min(2000));
        bytes[at] = byte;
        if let Ok(read) = BUILTINS.protobuf.decode(&bytes, pod) {
            BUILTINS.protobuf.encode(&read, pod);
        }
    }
}
