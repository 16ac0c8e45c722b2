//! What value validations refuse, and in which words.

use super::*;
use crate::{Schema, Unknown, compile, decode_custom, set_defaults};
use fairlead_api::{GroupKind, Status, json, node};

fn schema_of(field: Node) -> Schema {
    let mut schema = node!({"type": "object", "properties": {"spec": {"type": "object", "properties": {}}}});
    schema.set_at(&["properties", "spec", "properties", "f"], field);
    compile(&schema).unwrap()
}

fn texts(errors: FieldErrors) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

fn check(field: Node, value: Node) -> Vec<String> {
    let schema = schema_of(field);
    let mut object = Node::map();
    object.set_at(&["spec", "f"], value);
    texts(validate(&object, None, schema.root(), &FieldPath::root(), None))
}

#[test]
fn keywords_speak_as_upstream() {
    let number_and_range = [
        r#"spec.f: Invalid value: "number": spec.f in body must be of type integer: "number""#,
        r#"<nil>: Invalid value: "": Checked value must be of type integer (default format) in spec.f"#,
    ];
    let cases: Vec<(Node, Node, Vec<&str>)> = vec![
        (
            node!({"type": "integer"}),
            node!("1"),
            vec![r#"spec.f: Invalid value: "string": spec.f in body must be of type integer: "string""#],
        ),
        (node!({"type": "integer"}), node!(1.5), number_and_range.to_vec()),
        (node!({"type": "integer"}), node!(1.0), vec![]),
        (
            node!({"type": "integer", "maximum": 10}),
            node!(1e10),
            vec!["spec.f: Invalid value: 1e+10: spec.f in body should be less than or equal to 10"],
        ),
        (
            node!({"type": "integer", "format": "int32"}),
            node!(2147483648i64),
            vec![r#"<nil>: Invalid value: "": Checked value must be of type integer with format int32 in spec.f"#],
        ),
        (
            node!({"type": "number", "minimum": 0.5}),
            node!(0.4),
            vec!["spec.f: Invalid value: 0.4: spec.f in body should be greater than or equal to 0.5"],
        ),
        (node!({"type": "number", "multipleOf": 0.1}), node!(0.3), vec![]),
        (
            node!({"type": "integer", "multipleOf": 3}),
            node!(4),
            vec!["spec.f: Invalid value: 4: spec.f in body should be a multiple of 3"],
        ),
        (
            node!({"type": "integer", "enum": [1, 2]}),
            node!(3),
            vec![r#"spec.f: Unsupported value: 3: supported values: "1", "2""#],
        ),
        (
            node!({"type": "string", "maxLength": 5}),
            node!("123456"),
            vec!["spec.f: Too long: may not be more than 5 bytes"],
        ),
        (node!({"type": "string", "nullable": true}), Node::Null, vec![]),
        (
            node!({"type": "string", "format": "ipv4"}),
            node!("x"),
            vec![r#"spec.f: Invalid value: "x": spec.f in body must be of type ipv4: "x""#],
        ),
        (node!({"type": "string", "format": "banana"}), node!("x"), vec![]),
        (
            node!({"x-kubernetes-int-or-string": true}),
            node!(true),
            vec![r#"spec.f: Invalid value: "boolean": spec.f in body must be of type integer,string: "boolean""#],
        ),
        (
            node!({"type": "array", "items": {"type": "string"}, "maxItems": 1}),
            node!(["a", "b"]),
            vec!["spec.f: Too many: 2: must have at most 1 item"],
        ),
        (
            node!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"}),
            node!(["a", "a", "a"]),
            vec![r#"spec.f[1]: Duplicate value: "a""#],
        ),
        (
            node!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}}}}),
            node!([{"k": "1"}, {"k": "1"}]),
            vec![r#"spec.f[1]: Duplicate value: {"k":"1"}"#],
        ),
        (
            node!({"type": "object", "required": ["b", "a"], "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}),
            node!({}),
            vec!["spec.f.b: Required value", "spec.f.a: Required value"],
        ),
        (
            node!({"type": "object", "x-kubernetes-embedded-resource": true}),
            node!({"apiVersion": "a/b/c", "kind": "é"}),
            vec![
                r#"spec.f.apiVersion: Invalid value: "a/b/c": unexpected GroupVersion string: a/b/c"#,
                "spec.f.kind: Invalid value: \"é\": may have mixed case, but should otherwise match: a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
            ],
        ),
    ];
    for (field, value, expected) in cases {
        let shown = format!("{} {}", json::to_string(&field), json::to_string(&value));
        assert_eq!(check(field, value), expected, "{shown}");
    }
}

#[test]
fn unchanged_values_are_forgiven() {
    let schema = schema_of(node!({"type": "string", "maxLength": 2}));
    let old = node!({"spec": {"f": "long"}});
    let update = |new: Node| texts(validate(&new, Some(&old), schema.root(), &FieldPath::root(), None));
    assert_eq!(
        update(node!({"spec": {"f": "long"}, "metadata": {"labels": {"a": "b"}}})),
        Vec::<String>::new()
    );
    assert_eq!(
        update(node!({"spec": {"f": "longer"}})),
        ["spec.f: Too long: may not be more than 2 bytes"]
    );
}

#[test]
fn rules_run_where_they_stand_and_only_on_sound_objects() {
    struct Recorder(Vec<String>);
    impl RuleEvaluator for Recorder {
        fn evaluate(&mut self, site: &RuleSite, _: &mut FieldErrors) -> std::ops::ControlFlow<()> {
            self.0.push(format!(
                "{} {:?} {}",
                site.path,
                site.old.and_then(Node::as_str),
                site.unchanged
            ));
            std::ops::ControlFlow::Continue(())
        }
    }
    let schema = schema_of(node!({"type": "string", "maxLength": 3, "x-kubernetes-validations": [{"rule": "true"}]}));
    let mut recorder = Recorder(Vec::new());
    let old = node!({"spec": {"f": "b"}});
    let errors = validate(
        &node!({"spec": {"f": "a"}}),
        Some(&old),
        schema.root(),
        &FieldPath::root(),
        Some(&mut recorder),
    );
    assert!(errors.is_empty());
    assert_eq!(recorder.0, ["spec.f Some(\"b\") false"]);
    let errors = validate(
        &node!({"spec": {"f": "long"}}),
        None,
        schema.root(),
        &FieldPath::root(),
        Some(&mut recorder),
    );
    assert_eq!(
        texts(errors),
        [
            "spec.f: Too long: may not be more than 3 bytes",
            "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation"
        ]
    );
}

/// Replays what kube-apiserver answered to objects of CRDs with one keyword each.
#[test]
fn recorded_answers_hold() {
    let Some(scenarios) = recorded("streams-crd.jsonl.gz") else {
        return;
    };
    let mut checked = 0;
    let mut wrong = Vec::new();
    for scenario in scenarios.iter().filter(|s| s.str("id").starts_with("crd/kw/")) {
        let mut schema: Option<Schema> = None;
        for step in scenario.list("flow") {
            let Some(body) = step.get("body") else { continue };
            if body.str("kind") == "CustomResourceDefinition" {
                let version = &body.at(&["spec", "versions"]).unwrap().as_list().unwrap()[0];
                schema = version.at(&["schema", "openAPIV3Schema"]).map(|s| compile(s).unwrap());
                continue;
            }
            let (Some(schema), "Widget", "POST") = (&schema, body.str("kind"), step.str("method")) else {
                continue;
            };
            let answer = step.at(&["expect", "body"]).cloned().unwrap_or_default();
            let mut object = body.clone();
            if decode_custom(&mut object, schema.root(), Unknown::Drop).is_err() {
                continue;
            }
            set_defaults(&mut object, schema.root());
            let errors = validate(&object, None, schema.root(), &FieldPath::root(), None);
            let message = match errors.is_empty() {
                true => String::new(),
                false => Status::invalid(&GroupKind::new("${ns}.example.com", "Widget"), body.name(), &errors)
                    .message()
                    .into(),
            };
            let expected = if answer.str("kind") == "Status" {
                answer.str("message")
            } else {
                ""
            };
            checked += 1;
            if message != expected && !expected.contains("<uid") {
                wrong.push(format!("{}\n  got  {message}\n  want {expected}", scenario.str("id")));
            }
        }
    }
    println!("{checked} recorded answers compared");
    assert!(wrong.is_empty(), "{} of {checked}:\n{}", wrong.len(), wrong.join("\n"));
}

fn recorded(file: &str) -> Option<Vec<Node>> {
    let root = std::env::var("FAIRLEAD_CONFORMANCE")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/conformance").to_owned());
    let Ok(open) = std::fs::File::open(format!("{root}/transcripts/{file}")) else {
        println!("skipped: no recorded answers at {root}");
        return None;
    };
    let lines = std::io::BufReader::new(flate2::read::GzDecoder::new(open));
    Some(
        std::io::BufRead::lines(lines)
            .map(|l| json::parse(l.unwrap().as_bytes()).unwrap())
            .collect(),
    )
}
