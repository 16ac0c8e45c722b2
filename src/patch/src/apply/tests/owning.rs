//! What creates, updates and patches come to own.

use super::*;

#[test]
fn creates_own_what_differs_from_nothing() {
    let mut w = world();
    w.write("c", node!({"spec": {"replicas": 1, "selector": {"a": "b"}, "strategy": {"type": "R"}, "containers": [{"name": "a", "ports": [{"port": 80, "protocol": "TCP"}]}]}, "metadata": {"labels": {"l": "1"}}}));
    // By value (spec) without ".", all else with it; atomics as a whole.
    assert_eq!(
        w.owners(),
        [
            r#"c Update 1 {"f:metadata":{"f:labels":{".":{},"f:l":{}}},"f:spec":{"f:containers":{".":{},"k:{\"name\":\"a\"}":{".":{},"f:name":{},"f:ports":{".":{},"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:port":{},"f:protocol":{}}}}},"f:replicas":{},"f:selector":{},"f:strategy":{".":{},"f:type":{}}}}"#
        ]
    );
}

#[test]
fn updates_take_ownership_and_keep_times_of_the_others() {
    let mut w = world();
    w.write("a", node!({"spec": {"replicas": 1, "free": {"x": 1}}}));
    w.write("b", node!({"spec": {"replicas": 2}}));
    assert_eq!(
        w.owners(),
        [
            r#"a Update 1 {"f:spec":{"f:free":{".":{},"f:x":{}}}}"#,
            r#"b Update 2 {"f:spec":{"f:replicas":{}}}"#
        ]
    );
    // Nothing changed, nothing taken.
    w.write("c", node!({}));
    assert_eq!(w.owners().len(), 2);
    // What is removed belongs to nobody; its remover gets nothing for it.
    w.write("c", node!({"spec": {"replicas": null}}));
    assert_eq!(w.owners(), [r#"a Update 1 {"f:spec":{"f:free":{".":{},"f:x":{}}}}"#]);
}

#[test]
fn clients_may_reset_and_replace_managed_fields() {
    for reset in [node!([]), node!([{}])] {
        let mut w = world();
        w.write("c", node!({"spec": {"replicas": 1}}));
        w.write(
            "d",
            node!({"metadata": {"managedFields": reset}, "spec": {"replicas": 2}}),
        );
        assert!(w.owners().is_empty());
    }
    let mut w = world();
    w.write("c", node!({"spec": {"replicas": 1}}));
    let entry = node!({"manager": "z", "operation": "Update", "apiVersion": "x/v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:free": {}}}});
    w.write("d", node!({"metadata": {"managedFields": [entry]}}));
    assert_eq!(w.owners(), [r#"z Update - {"f:spec":{"f:free":{}}}"#]);
    // What cannot be read counts as not given.
    w.write("d", node!({"metadata": {"managedFields": [{"manager": "y"}]}}));
    assert_eq!(w.owners(), [r#"z Update - {"f:spec":{"f:free":{}}}"#]);
    assert_eq!(
        check_managed_fields(&[node!({"operation": "Apply"})]),
        Err("apiVersion must not be empty".into())
    );
}

#[test]
fn subresources_own_apart_and_reset_fields_are_nobodys() {
    let mut w = world();
    let status = FieldSet::of(&[&["status"]]);
    let spec = FieldSet::of(&[&["spec"], &["metadata"]]);
    let manager = w.manager("c", Operation::Update);
    w.write_as(
        &manager,
        &Options {
            reset_fields: &status,
            ..Options::default()
        },
        node!({"spec": {"replicas": 1}, "status": {"replicas": 7}}),
    );
    let manager = Manager {
        subresource: "status",
        ..w.manager("c", Operation::Update)
    };
    w.write_as(
        &manager,
        &Options {
            reset_fields: &spec,
            ..Options::default()
        },
        node!({"status": {"replicas": 1}}),
    );
    assert_eq!(
        w.owners(),
        [
            r#"c Update 1 {"f:spec":{"f:replicas":{}}}"#,
            r#"c/status Update 2 {"f:status":{"f:replicas":{}}}"#
        ]
    );
    let manager = Manager {
        subresource: "status",
        ..w.manager("m", Operation::Apply)
    };
    let config = workload(node!({"status": {"replicas": 2}}));
    let error = apply(
        w.object.as_ref(),
        &config,
        w.schema.root(),
        &manager,
        false,
        &Options {
            reset_fields: &spec,
            ..Options::default()
        },
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"Apply failed with 1 conflict: conflict with "c" with subresource "status" using x/v1: .status.replicas"#
    );
}

#[test]
fn old_updaters_merge_into_ancient_changes() {
    let mut w = world();
    for i in 0..14 {
        w.write(
            &format!("m{i:02}"),
            node!({"metadata": {"labels": {format!("l{i:02}"): "1"}}}),
        );
    }
    let owners = w.owners();
    assert_eq!(owners.len(), 10);
    assert_eq!(
        owners[0],
        r#"ancient-changes Update 5 {"f:metadata":{"f:labels":{".":{},"f:l00":{},"f:l01":{},"f:l02":{},"f:l03":{},"f:l04":{}}}}"#
    );
}

#[test]
fn times_are_taken_back_where_only_they_differ() {
    let entry = |time: &str| node!({"manager": "m", "time": time});
    let old = workload(node!({"metadata": {"managedFields": [entry("a")]}, "spec": {"replicas": 1}}));
    let mut new = workload(node!({"metadata": {"managedFields": [entry("b")]}, "spec": {"replicas": 1}}));
    keep_times(&old, &mut new);
    assert_eq!(new, old);
    let mut new = workload(node!({"metadata": {"managedFields": [entry("b")]}, "spec": {"replicas": 2}}));
    let before = new.clone();
    keep_times(&old, &mut new);
    assert_eq!(new, before);
}

#[test]
fn untyped_objects_are_granular_and_untyped_lists_atomic() {
    let mut w = world();
    w.apply(
        "m",
        workload(node!({"spec": {"free": {"a": {"b": 1, "l": [1, {"x": 1}]}, "e": {}}}})),
        false,
    )
    .unwrap();
    assert_eq!(
        w.owners(),
        [r#"m Apply 1 {"f:spec":{"f:free":{"f:a":{".":{},"f:b":{},"f:l":{}},"f:e":{}}}}"#]
    );
    let error = w
        .apply("n", workload(node!({"spec": {"free": {"a": {"l": [2]}}}})), false)
        .unwrap_err();
    assert!(error.ends_with(": .spec.free.a.l"), "{error}");
    // An object that becomes a scalar: its owner loses what was in it.
    w.write("u", node!({"spec": {"free": {"a": 7}}}));
    assert_eq!(
        w.owners(),
        [
            r#"m Apply 1 {"f:spec":{"f:free":{"f:e":{}}}}"#,
            r#"u Update 3 {"f:spec":{"f:free":{"f:a":{}}}}"#
        ]
    );
}

#[test]
fn custom_resources_keep_what_their_schema_preserves() {
    let mut types = Types::default();
    let string = types.push(Type {
        shape: Shape::String,
        ..Type::default()
    });
    let spec = structure(&mut types, "", vec![pointer("a", string)]);
    types.types[spec.0 as usize].preserve_unknown = true;
    let root = structure(
        &mut types,
        "",
        vec![
            pointer("apiVersion", string),
            pointer("kind", string),
            pointer("spec", spec),
        ],
    );
    types.types[root.0 as usize].preserve_unknown = true;
    let schema = Schema {
        types: Arc::new(types),
        root,
    };
    let mut w = World {
        schema,
        object: None,
        clock: 0,
    };
    w.write("c", node!({"spec": {"a": "1", "other": {"deep": [1]}}}));
    assert_eq!(
        w.owners(),
        [r#"c Update 1 {"f:spec":{".":{},"f:a":{},"f:other":{".":{},"f:deep":{}}},"f:status":{}}"#]
    );
}

#[test]
fn owners_of_parts_own_the_whole_once_it_is_atomic() {
    let mut w = world();
    let entry = node!({
        "manager": "m", "operation": "Apply", "apiVersion": "x/v1", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": {"f:selector": {".": {}, "f:a": {}}, "f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:args": {"v:\"x\"": {}}}}}}
    });
    w.object = Some(workload(
        node!({"metadata": {"uid": "u", "managedFields": [entry]}, "spec": {"selector": {"a": "1"}}}),
    ));
    w.write("u", node!({"metadata": {"labels": {"l": "1"}}}));
    assert_eq!(
        w.owners()[0],
        r#"m Apply - {"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:args":{}}},"f:selector":{}}}"#
    );
}
