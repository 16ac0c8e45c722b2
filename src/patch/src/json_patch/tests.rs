//! Each operation, each refusal and each bound of JSON patch.

use super::*;
use fairlead_api::node;

fn run(doc: Node, patch: Node) -> Result<Node, String> {
    let mut doc = doc;
    apply(&mut doc, &patch).map(|()| doc).map_err(|e| e.to_string())
}

#[test]
fn operations_do_what_the_rfc_says() {
    for (doc, patch, result) in [
        (
            node!({"a": 1}),
            node!([{"op": "add", "path": "/b", "value": 2}]),
            node!({"a": 1, "b": 2}),
        ),
        (
            node!({"a": [1, 3]}),
            node!([{"op": "add", "path": "/a/1", "value": 2}]),
            node!({"a": [1, 2, 3]}),
        ),
        (
            node!({"a": [1]}),
            node!([{"op": "add", "path": "/a/-", "value": 2}]),
            node!({"a": [1, 2]}),
        ),
        (
            node!({"a": [1, 2]}),
            node!([{"op": "add", "path": "/a/-1", "value": 3}]),
            node!({"a": [1, 2, 3]}),
        ),
        (
            node!({"a": [1, 2]}),
            node!([{"op": "remove", "path": "/a/-1"}]),
            node!({"a": [1]}),
        ),
        (node!({"a": 1}), node!([{"op": "remove", "path": "/a"}]), node!({})),
        (
            node!({"a": 1}),
            node!([{"op": "replace", "path": "/b", "value": 2}]),
            node!({"a": 1, "b": 2}),
        ),
        (
            node!({"a": [1]}),
            node!([{"op": "replace", "path": "/a/0", "value": 2}]),
            node!({"a": [2]}),
        ),
        (
            node!({"a": {"x": 1}}),
            node!([{"op": "move", "from": "/a/x", "path": "/b"}]),
            node!({"a": {}, "b": 1}),
        ),
        (
            node!({"a": {"x": 1}}),
            node!([{"op": "copy", "from": "/a", "path": "/b"}]),
            node!({"a": {"x": 1}, "b": {"x": 1}}),
        ),
        (
            node!({"a": 1}),
            node!([{"op": "copy", "from": "/none", "path": "/b"}]),
            node!({"a": 1, "b": null}),
        ),
        (
            node!({"a/b": 1, "~": 2}),
            node!([{"op": "remove", "path": "/a~1b"}, {"op": "remove", "path": "/~0"}]),
            node!({}),
        ),
        (
            node!({"a": 1}),
            node!([{"op": "test", "path": "/a", "value": 1}, {"op": "test", "path": "/x", "value": null}]),
            node!({"a": 1}),
        ),
        (
            node!({"a": 1}),
            node!([{"op": "replace", "path": "", "value": {"b": 1}}]),
            node!({"b": 1}),
        ),
        (node!({"": 1}), node!([{"op": "remove", "path": "/"}]), node!({})),
        (
            node!({"a": 1}),
            node!([{"op": "add", "path": "/b"}]),
            node!({"a": 1, "b": null}),
        ),
    ] {
        assert_eq!(run(doc, patch.clone()).as_ref(), Ok(&result), "{patch:?}");
    }
}

#[test]
fn refusals_read_as_upstream() {
    for (patch, text) in [
        (
            node!([{"op": "add", "path": "/x/y", "value": 1}]),
            r#"add operation does not apply: doc is missing path: "/x/y": missing value"#,
        ),
        (
            node!([{"op": "add", "path": "", "value": 1}]),
            r#"add operation does not apply: doc is missing path: "": missing value"#,
        ),
        (
            node!([{"op": "remove", "path": "/x"}]),
            "error in remove for path: '/x': Unable to remove nonexistent key: x: missing value",
        ),
        (
            node!([{"op": "add", "path": "/l/9", "value": 1}]),
            "error in add for path: '/l/9': Unable to access invalid index: 9: invalid index referenced",
        ),
        (
            node!([{"op": "add", "path": "/l/-9", "value": 1}]),
            "error in add for path: '/l/-9': Unable to access invalid index: -9: invalid index referenced",
        ),
        (
            node!([{"op": "add", "path": "/l/x", "value": 1}]),
            "error in add for path: '/l/x': value was not a proper array index: 'x': strconv.Atoi: parsing \"x\": invalid syntax",
        ),
        (
            node!([{"op": "replace", "path": "/l/5", "value": 1}]),
            "replace operation does not apply: doc is missing key: /l/5: missing value",
        ),
        (
            node!([{"op": "test", "path": "/a", "value": "1"}]),
            "testing value /a failed: test failed",
        ),
        (
            node!([{"op": "test", "path": "/a", "value": 1.5}]),
            "testing value /a failed: test failed",
        ),
        (
            node!([{"op": "move", "from": "/none", "path": "/b"}]),
            "error in move for path: 'none': Unable to remove nonexistent key: none: missing value",
        ),
        (node!([{"op": "jump", "path": "/a"}]), "Unexpected kind: jump"),
        (node!([{"path": "/a"}]), "Unexpected kind: unknown"),
        (
            node!([{"op": "add"}]),
            "add operation failed to decode path: missing value",
        ),
        (
            node!([{"op": "copy", "path": "/b"}]),
            "copy operation failed to decode from: operation, missing from field: missing value",
        ),
        (
            node!({}),
            "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
        ),
        (
            node!([1]),
            "error decoding patch: json: cannot unmarshal number into Go value of type handlers.jsonPatchOp",
        ),
    ] {
        assert_eq!(run(node!({"a": 1, "l": [1]}), patch), Err(text.to_owned()));
    }
}

#[test]
fn unknown_members_are_told() {
    let patch = node!([{"op": "add", "path": "/a", "value": {"x": 1}}, {"op": "test", "comment": 1}]);
    assert_eq!(unknown_fields(&patch), [r#"json patch unknown field "[1].comment""#]);
}

#[test]
fn growth_is_bounded() {
    let many = Node::List(vec![
        node!({"op": "test", "path": "/x", "value": null});
        MAX_OPERATIONS + 1
    ]);
    assert_eq!(apply(&mut node!({}), &many).unwrap_err().to_status().code(), 413);

    let mut doubling = vec![node!({"op": "add", "path": "/a/x", "value": "0123456789"})];
    doubling.extend((0..30).map(|i| node!({"op": "copy", "from": "/a", "path": format!("/a/c{i}")})));
    let error = run(node!({"a": {}}), Node::List(doubling)).unwrap_err();
    assert!(error.starts_with("Unable to complete the copy"), "{error}");

    let mut nesting = Vec::new();
    for _ in 0..600 {
        nesting.push(node!({"op": "add", "path": "/b", "value": {}}));
        nesting.push(node!({"op": "move", "from": "/a", "path": "/b/a"}));
        nesting.push(node!({"op": "move", "from": "/b", "path": "/a"}));
    }
    assert_eq!(
        run(node!({"a": {}}), Node::List(nesting)),
        Err("the patched document nests too deeply".into())
    );
}
