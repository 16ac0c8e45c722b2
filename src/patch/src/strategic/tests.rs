//! Patches of a small schema that has every strategy.

use super::*;
use fairlead_api::{json, node};
use fairlead_schema::{Field, Fields, Schema, Shape, Type, TypeId, Types};
use std::sync::Arc;

/// `Pod`-like: containers (by name) with ports (by containerPort) and args (atomic), finalizers (a set), labels,
/// strategy (retain keys), selector (replaced).
fn schema() -> Schema {
    let mut types = Types::default();
    let string = types.push(Type {
        shape: Shape::String,
        ..Type::default()
    });
    let strings = types.push(Type {
        shape: Shape::List(string),
        ..Type::default()
    });
    let labels = types.push(Type {
        shape: Shape::Map(string),
        ..Type::default()
    });
    let port = structure(
        &mut types,
        "Port",
        &[("containerPort", string, "", ""), ("name", string, "", "")],
    );
    let ports = types.push(Type {
        shape: Shape::List(port),
        ..Type::default()
    });
    let container = structure(
        &mut types,
        "Container",
        &[
            ("args", strings, "", ""),
            ("image", string, "", ""),
            ("name", string, "", ""),
            ("ports", ports, "merge", "containerPort"),
        ],
    );
    let containers = types.push(Type {
        shape: Shape::List(container),
        ..Type::default()
    });
    let strategy = structure(
        &mut types,
        "Strategy",
        &[("type", string, "", ""), ("rolling", labels, "", "")],
    );
    let root = structure(
        &mut types,
        "Thing",
        &[
            ("containers", containers, "merge", "name"),
            ("finalizers", strings, "merge", ""),
            ("labels", labels, "", ""),
            ("strategy", strategy, "retainKeys", ""),
            ("selector", labels, "replace", ""),
            ("args", strings, "", ""),
        ],
    );
    Schema {
        types: Arc::new(types),
        root,
    }
}

fn structure(types: &mut Types, name: &str, fields: &[(&str, TypeId, &str, &str)]) -> TypeId {
    let fields = fields
        .iter()
        .map(|(name, ty, strategy, key)| Field {
            name: (*name).into(),
            ty: *ty,
            omit_empty: true,
            patch: PatchStrategyOf(strategy).into(),
            patch_merge_key: (*key).into(),
            ..Field::default()
        })
        .collect();
    types.push(Type {
        name: name.into(),
        shape: Shape::Struct(Fields::new(fields)),
        ..Type::default()
    })
}

struct PatchStrategyOf<'a>(&'a str);

impl From<PatchStrategyOf<'_>> for fairlead_schema::PatchStrategy {
    fn from(text: PatchStrategyOf) -> Self {
        Self {
            merge: text.0.contains("merge"),
            replace: text.0.contains("replace"),
            retain_keys: text.0.contains("retainKeys"),
        }
    }
}

fn run(doc: Node, patch: Node) -> Result<String, PatchError> {
    let schema = schema();
    let mut doc = doc;
    apply(&mut doc, &patch, schema.root())?;
    Ok(json::to_string(&doc))
}

#[test]
fn patches_merge_as_the_schema_says() {
    let two = || node!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]});
    for (doc, patch, result) in [
        (
            node!({"labels": {"a": "1"}}),
            node!({"labels": {"b": "2", "a": null}}),
            r#"{"labels":{"b":"2"}}"#,
        ),
        (
            two(),
            node!({"containers": [{"name": "b", "image": "2"}]}),
            r#"{"containers":[{"image":"1","name":"a"},{"image":"2","name":"b"}]}"#,
        ),
        // What is new stands in front, in the patch's order.
        (
            two(),
            node!({"containers": [{"name": "z"}, {"name": "y"}]}),
            r#"{"containers":[{"name":"z"},{"name":"y"},{"image":"1","name":"a"},{"image":"1","name":"b"}]}"#,
        ),
        (
            two(),
            node!({"containers": [{"name": "a", "$patch": "delete"}]}),
            r#"{"containers":[{"image":"1","name":"b"}]}"#,
        ),
        (
            two(),
            node!({"containers": [{"$patch": "replace"}, {"name": "q"}]}),
            r#"{"containers":[{"name":"q"}]}"#,
        ),
        (
            two(),
            node!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}),
            r#"{"containers":[{"image":"1","name":"b"},{"image":"1","name":"a"}]}"#,
        ),
        (
            two(),
            node!({"$setElementOrder/containers": [{"name": "b"}, {"name": "n"}, {"name": "a"}], "containers": [{"name": "n", "image": "3"}]}),
            r#"{"containers":[{"image":"1","name":"b"},{"image":"3","name":"n"},{"image":"1","name":"a"}]}"#,
        ),
        (
            node!({"finalizers": ["a", "b"]}),
            node!({"finalizers": ["c", "a"]}),
            r#"{"finalizers":["c","a","b"]}"#,
        ),
        (
            node!({"finalizers": ["a", "b", "c"]}),
            node!({"$deleteFromPrimitiveList/finalizers": ["b", "x"]}),
            r#"{"finalizers":["a","c"]}"#,
        ),
        (
            node!({"finalizers": ["a", "b"]}),
            node!({"$deleteFromPrimitiveList/finalizers": ["a"], "$setElementOrder/finalizers": ["b", "c"], "finalizers": ["c"]}),
            r#"{"finalizers":["b","c"]}"#,
        ),
        (node!({"args": ["a"]}), node!({"args": ["b"]}), r#"{"args":["b"]}"#),
        (
            node!({"strategy": {"type": "R", "rolling": {"x": "1"}}}),
            node!({"strategy": {"$retainKeys": ["type"], "type": "S"}}),
            r#"{"strategy":{"type":"S"}}"#,
        ),
        (
            node!({"selector": {"a": "1"}}),
            node!({"selector": {"b": "2"}}),
            r#"{"selector":{"b":"2"}}"#,
        ),
        (
            node!({"labels": {"a": "1"}}),
            node!({"labels": {"$patch": "replace", "b": "2"}}),
            r#"{"labels":{"b":"2"}}"#,
        ),
        (
            node!({"labels": {"a": "1"}}),
            node!({"labels": {"$patch": "delete"}}),
            r#"{"labels":{}}"#,
        ),
        (
            node!({}),
            node!({"labels": {"$patch": "delete"}, "strategy": {"type": null, "rolling": {"x": "1"}}}),
            r#"{"strategy":{"rolling":{"x":"1"}}}"#,
        ),
        (
            node!({"labels": {"a": "1"}}),
            node!({"$patch": "replace", "args": []}),
            r#"{"args":[]}"#,
        ),
        (
            node!({"containers": [{"name": "a", "ports": [{"containerPort": 1}, {"containerPort": 2}]}]}),
            node!({"containers": [{"name": "a", "ports": [{"containerPort": 2, "name": "x"}]}]}),
            r#"{"containers":[{"name":"a","ports":[{"containerPort":1},{"containerPort":2,"name":"x"}]}]}"#,
        ),
    ] {
        assert_eq!(run(doc, patch.clone()).as_deref(), Ok(result), "{patch:?}");
    }
}

#[test]
fn refusals_read_as_upstream() {
    let unclassified = |text: &str| Err(PatchError::Unclassified(text.into()));
    let malformed = |text: &str| Err(PatchError::Malformed(text.into()));
    let doc =
        || node!({"containers": [{"name": "a"}], "finalizers": ["a"], "strategy": {"type": "R"}, "labels": {"x": "1"}});
    for (patch, result) in [
        (
            node!({"containers": [{"image": "x"}]}),
            unclassified("map: map[image:x] does not contain declared merge key: name"),
        ),
        (
            node!({"containers": [{"$patch": "delete"}]}),
            unclassified("map: map[$patch:delete] does not contain declared merge key: name"),
        ),
        (
            node!({"$patch": "bogus"}),
            unclassified("unknown patch type: bogus in map: map[$patch:bogus]"),
        ),
        (
            node!({"containers": [{"$patch": "bogus", "name": "c1"}]}),
            unclassified("unknown patch type: bogus in map: map[$patch:bogus name:c1]"),
        ),
        (
            node!({"containers": [{"$patch": "merge", "name": "c1"}]}),
            unclassified("merging lists cannot yet be specified in the patch"),
        ),
        (
            node!({"containers": ["x"]}),
            unclassified("list element types are not identical: [[map[name:a]] [x]]"),
        ),
        (
            node!({"$setElementOrder/finalizers": "x"}),
            unclassified("expected a []interface {}, but received a string"),
        ),
        (
            node!({"$setElementOrder/bogus": []}),
            unclassified("unable to find api field in struct Thing for the json field \"bogus\""),
        ),
        (
            node!({"$setElementOrder": []}),
            malformed("invalid patch format of setElementOrder list"),
        ),
        (
            node!({"$deleteFromPrimitiveList": []}),
            malformed("invalid patch format of primitive list"),
        ),
        (
            node!({"strategy": {"$retainKeys": ["rolling"], "type": "S"}}),
            malformed("invalid patch format of retainKeys"),
        ),
        (
            node!({"$setElementOrder/finalizers": ["a", "b"], "finalizers": ["b", "a"]}),
            unclassified("The order in patch list:\n[b a]\n doesn't match $setElementOrder list:\n[a b]\n"),
        ),
        (
            node!([]),
            malformed("json: cannot unmarshal array into Go value of type map[string]interface {}"),
        ),
    ] {
        assert_eq!(run(doc(), patch.clone()), result, "{patch:?}");
    }
}
