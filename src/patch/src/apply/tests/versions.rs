//! Owners that speak other versions, and those of the scale subresource.

use super::*;

#[test]
fn other_versions_are_converted_and_dropped_when_gone() {
    // In x/v2 `replicas` is called `count`.
    let rename = |node: &Node, from: &str, to: &str, version: &str| {
        let mut node = node.clone();
        if let Some(value) = node.remove_at(&["spec", from]) {
            node.set_at(&["spec", to], value);
        }
        node.set("apiVersion", version);
        node
    };
    let convert = |node: &Node, version: &str| match version {
        "x/v2" => Ok(rename(node, "replicas", "count", version)),
        _ => Ok(rename(node, "count", "replicas", version)),
    };
    let v2 = {
        let mut types = Types {
            types: schema().types.types.clone(),
        };
        for ty in &mut types.types {
            if let Shape::Struct(fields) = &mut ty.shape
                && ty.name == "Spec"
            {
                let mut fields_v2 = fields.fields.clone();
                for field in fields_v2.iter_mut().filter(|f| f.name == "replicas") {
                    field.name = "count".into();
                }
                *fields = Fields::new(fields_v2);
            }
        }
        Schema {
            types: Arc::new(types),
            root: schema().root,
        }
    };
    let schema_of = |version: &str| match version {
        "x/v1" => Some(schema()),
        "x/v2" => Some(v2.clone()),
        _ => None,
    };
    let options = Options {
        convert: Some(&convert),
        schema_of: Some(&schema_of),
        ..Options::default()
    };
    let entry = |manager: &str, version: &str, field: &str| node!({"manager": manager, "operation": "Apply", "apiVersion": version, "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {field: {}}}});
    let mut w = world();
    w.object = Some(workload(node!({
        "metadata": {"uid": "u", "managedFields": [entry("two", "x/v2", "f:count"), entry("gone", "x/v0", "f:free")]},
        "spec": {"replicas": 1, "free": 1}
    })));
    let manager = w.manager("m", Operation::Apply);
    let config = workload(node!({"spec": {"replicas": 2}}));
    let error = apply(w.object.as_ref(), &config, w.schema.root(), &manager, false, &options).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"Apply failed with 1 conflict: conflict with "two": .spec.count"#
    );

    // What was applied in another version is pruned there.
    let manager = w.manager("two", Operation::Apply);
    let config = workload(node!({"spec": {"selector": {"a": "1"}}}));
    w.object = Some(apply(w.object.as_ref(), &config, w.schema.root(), &manager, false, &options).unwrap());
    assert_eq!(w.spec(), r#"{"free":1,"selector":{"a":"1"}}"#);
    assert_eq!(w.owners(), [r#"two Apply 2 {"f:spec":{"f:selector":{}}}"#]);
}

#[test]
fn replicas_move_between_an_object_and_its_scale() {
    let entry = |manager: &str, operation: &str, version: &str, fields: Node| {
        let mut entry =
            node!({"manager": manager, "operation": operation, "apiVersion": version, "fieldsType": "FieldsV1"});
        entry.set("time", "2026-01-01T00:00:00Z");
        entry.set_at(&["fieldsV1", "f:spec"], fields);
        entry
    };
    let parent = vec![
        entry("applier", "Apply", "x/v1", node!({"f:replicas": {}, "f:free": {}})),
        entry("updater", "Update", "x/v1", node!({"f:free": {}})),
    ];
    let path: crate::fields::Path = ["spec", "replicas"]
        .into_iter()
        .map(crate::fields::Element::field)
        .collect();
    let path_of = |version: &str| (version == "x/v1").then(|| Some(path.clone()));
    let scale = scale::to_scale(&parent, &path_of).unwrap();
    assert_eq!(
        json::to_string(&Node::List(scale)),
        r#"[{"apiVersion":"autoscaling/v1","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{"f:replicas":{}}},"manager":"applier","operation":"Apply","time":"2026-01-01T00:00:00Z"}]"#
    );
    // The scaler took them.
    let taken = vec![entry("hpa", "Update", "autoscaling/v1", node!({"f:replicas": {}}))];
    let after = scale::to_parent(&parent, &taken, "x/v1", &path_of).unwrap();
    let owners: Vec<String> = after
        .iter()
        .map(|e| {
            format!(
                "{} {} {}",
                e.str("manager"),
                e.str("time"),
                json::to_string(e.get("fieldsV1").unwrap())
            )
        })
        .collect();
    assert_eq!(
        owners,
        [
            r#"applier 2026-01-01T00:00:00Z {"f:spec":{"f:free":{}}}"#,
            r#"hpa  {"f:spec":{"f:replicas":{}}}"#,
            r#"updater 2026-01-01T00:00:00Z {"f:spec":{"f:free":{}}}"#,
        ]
    );
}
