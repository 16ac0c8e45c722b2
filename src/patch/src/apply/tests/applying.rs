//! What an apply does to the object, to its owners and to those who ask too much.

use super::*;

#[test]
fn an_apply_owns_exactly_what_it_says() {
    let mut w = world();
    w.apply(
        "m",
        workload(node!({"spec": {"containers": [{"name": "a", "ports": [{"port": 80}]}], "strategy": {}}})),
        false,
    )
    .unwrap();
    assert_eq!(
        w.owners(),
        [
            r#"m Apply 1 {"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:name":{},"f:ports":{"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:port":{}}}}},"f:strategy":{}}}"#
        ]
    );
}

#[test]
fn conflicts_name_manager_and_path_and_force_takes() {
    let mut w = world();
    w.apply(
        "m1",
        workload(node!({"spec": {"replicas": 1, "containers": [{"name": "a", "image": "1", "args": ["x"]}]}})),
        false,
    )
    .unwrap();
    let wanted = || workload(node!({"spec": {"replicas": 2, "containers": [{"name": "a", "image": "2"}]}}));
    assert_eq!(
        w.apply("m2", wanted(), false).unwrap_err(),
        "Apply failed with 2 conflicts: conflicts with \"m1\":\n- .spec.replicas\n- .spec.containers[name=\"a\"].image"
    );
    w.apply("m2", wanted(), true).unwrap();
    assert_eq!(
        w.owners(),
        [
            r#"m1 Apply 1 {"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:args":{},"f:name":{}}}}}"#,
            r#"m2 Apply 3 {"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:image":{},"f:name":{}}},"f:replicas":{}}}"#
        ]
    );
    // What m1 gave up by force stays when m1 applies without it.
    w.apply(
        "m1",
        workload(node!({"spec": {"containers": [{"name": "a", "args": ["x"]}]}})),
        false,
    )
    .unwrap();
    assert_eq!(
        w.spec(),
        r#"{"containers":[{"args":["x"],"image":"2","name":"a"}],"replicas":2}"#
    );
}

#[test]
fn conflicts_become_a_status() {
    let mut w = world();
    w.write("c", node!({"spec": {"replicas": 1}}));
    let manager = w.manager("m", Operation::Apply);
    let config = workload(node!({"spec": {"replicas": 2}}));
    let error = apply(
        w.object.as_ref(),
        &config,
        w.schema.root(),
        &manager,
        false,
        &Options::default(),
    )
    .unwrap_err();
    let status = error.to_status();
    assert_eq!((status.code(), status.reason()), (409, "Conflict"));
    assert_eq!(
        status.message(),
        r#"Apply failed with 1 conflict: conflict with "c" using x/v1: .spec.replicas"#
    );
    let cause = &status.details().unwrap().causes[0];
    assert_eq!(
        (cause.reason.as_str(), cause.message.as_str(), cause.field.as_str()),
        (
            "FieldManagerConflict",
            r#"conflict with "c" using x/v1"#,
            ".spec.replicas"
        )
    );
}

#[test]
fn what_is_no_longer_applied_goes_unless_others_own_it() {
    let mut w = world();
    w.apply("m1", workload(node!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b"}], "strategy": {"type": "R", "surge": 1}}})), false).unwrap();
    w.apply(
        "m2",
        workload(node!({"metadata": {"labels": {"b": "2"}}, "spec": {"containers": [{"name": "b"}]}})),
        false,
    )
    .unwrap();
    w.apply("m1", workload(node!({"spec": {"strategy": {"type": "R"}}})), false)
        .unwrap();
    assert_eq!(w.spec(), r#"{"containers":[{"name":"b"}],"strategy":{"type":"R"}}"#);
    assert_eq!(
        w.object.as_ref().unwrap().at(&["metadata", "labels"]),
        Some(&node!({"b": "2"}))
    );
    // The last one takes all with it.
    w.apply("m1", workload(node!({})), false).unwrap();
    w.apply("m2", workload(node!({})), false).unwrap();
    assert_eq!(w.spec(), "null");
    assert!(w.owners().is_empty());
}

#[test]
fn what_nobody_owns_goes_with_the_last_owner_of_what_holds_it() {
    let mut w = world();
    w.apply("m", workload(node!({"spec": {"containers": [{"name": "a"}]}})), false)
        .unwrap();
    // Defaults, owned by nobody.
    w.object.as_mut().unwrap().set_at(&["spec", "replicas"], 1i64);
    let mut item = w
        .object
        .as_ref()
        .unwrap()
        .at(&["spec", "containers"])
        .unwrap()
        .as_list()
        .unwrap()[0]
        .clone();
    item.set("image", "defaulted");
    w.object.as_mut().unwrap().set_at(&["spec", "containers"], vec![item]);
    w.apply("m2", workload(node!({"spec": {"selector": {"a": "b"}}})), false)
        .unwrap();
    w.apply("m", workload(node!({})), false).unwrap();
    assert_eq!(w.spec(), r#"{"replicas":1,"selector":{"a":"b"}}"#);
    w.apply("m2", workload(node!({})), false).unwrap();
    assert_eq!(w.spec(), "null");
}

#[test]
fn equal_values_are_shared_without_a_time() {
    let mut w = world();
    w.apply("m1", workload(node!({"spec": {"replicas": 1}})), false)
        .unwrap();
    w.apply("m2", workload(node!({"spec": {"replicas": 1}})), false)
        .unwrap();
    w.apply("m1", workload(node!({"spec": {"replicas": 1}})), false)
        .unwrap();
    assert_eq!(
        w.owners(),
        [
            r#"m2 Apply - {"f:spec":{"f:replicas":{}}}"#,
            r#"m1 Apply 1 {"f:spec":{"f:replicas":{}}}"#
        ]
    );
}

#[test]
fn the_first_apply_accounts_for_what_was_there() {
    let mut w = world();
    w.write(
        "c",
        node!({"spec": {"replicas": 1}, "metadata": {"labels": {"l": "1"}}}),
    );
    w.object.as_mut().unwrap().remove_at(&["metadata", "managedFields"]);
    // Updates of an object without managedFields record nothing.
    w.write("c", node!({"spec": {"free": 1}}));
    assert!(w.owners().is_empty());
    let error = w
        .apply("m", workload(node!({"spec": {"replicas": 2}})), false)
        .unwrap_err();
    assert!(
        error.contains(r#"conflict with "before-first-apply" using x/v1: .spec.replicas"#),
        "{error}"
    );
    w.apply("m", workload(node!({"spec": {"replicas": 1}})), false).unwrap();
    assert_eq!(
        w.owners(),
        [
            r#"m Apply - {"f:spec":{"f:replicas":{}}}"#,
            r#"before-first-apply Update 4 {"f:metadata":{"f:labels":{".":{},"f:l":{}}},"f:spec":{"f:free":{},"f:replicas":{}}}"#
        ]
    );
}

#[test]
fn kubectl_takes_over_from_its_own_annotation() {
    let applied = r#"{"apiVersion":"x/v1","kind":"Workload","metadata":{"name":"w"},"spec":{"replicas":1,"containers":[{"name":"a","image":"1"}]}}"#;
    let start = || {
        let mut w = world();
        w.write(
            "kubectl-client-side-apply",
            node!({
                "metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": applied}},
                "spec": {"replicas": 1, "containers": [{"name": "a", "image": "1"}]}
            }),
        );
        w
    };
    let wanted = || workload(node!({"spec": {"replicas": 2, "containers": [{"name": "a", "image": "2"}]}}));
    let mut w = start();
    assert!(w.apply("other", wanted(), false).is_err());
    w.apply("kubectl", wanted(), false).unwrap();
    let annotation = w
        .object
        .as_ref()
        .unwrap()
        .annotations()
        .unwrap()
        .get("kubectl.kubernetes.io/last-applied-configuration");
    assert_eq!(
        annotation.and_then(Node::as_str),
        Some(format!("{}\n", json::to_string(&wanted())).as_str())
    );
    // What someone else changed since is still a conflict.
    let mut w = start();
    w.write("scaler", node!({"spec": {"replicas": 5}}));
    let error = w.apply("kubectl", wanted(), false).unwrap_err();
    assert_eq!(
        error,
        r#"Apply failed with 1 conflict: conflict with "scaler" using x/v1: .spec.replicas"#
    );
}

#[test]
fn bad_configurations_are_refused_in_upstreams_words() {
    let mut w = world();
    for (config, text) in [
        (node!({"kind": "Workload"}), "invalid object type: /, Kind=Workload"),
        (
            node!({"apiVersion": "x/v1", "kind": "Other"}),
            "invalid object type: x/v1, Kind=Other",
        ),
        (
            workload(node!({"metadata": {"managedFields": []}})),
            "metadata.managedFields must be nil",
        ),
        (
            workload(node!({"spec": {"bogus": 1}})),
            "failed to create typed patch object (/w; x/v1, Kind=Workload): .spec.bogus: field not declared in schema",
        ),
        (
            workload(node!({"spec": {"selector": {"a": 1}}})),
            "failed to create typed patch object (/w; x/v1, Kind=Workload): .spec.selector.a: expected string, got &value.valueUnstructured{Value:1}",
        ),
        (
            workload(node!({"spec": {"replicas": "1"}})),
            "failed to create typed patch object (/w; x/v1, Kind=Workload): .spec.replicas: expected numeric (int or float), got string",
        ),
        (
            workload(node!({"spec": {"containers": {"a": 1}}})),
            "failed to create typed patch object (/w; x/v1, Kind=Workload): .spec.containers: expected list, got &{map[a:1]}",
        ),
        (
            workload(
                node!({"spec": {"containers": [{"name": "a", "ports": [{"port": 80}, {"port": 80, "protocol": "TCP"}]}]}}),
            ),
            "failed to create typed patch object (/w; x/v1, Kind=Workload): .spec.containers[name=\"a\"].ports: duplicate entries for key [port=80,protocol=\"TCP\"]",
        ),
        (
            workload(node!({"metadata": {"finalizers": ["a", {}]}, "spec": {"bogus": 1}})),
            "failed to create typed patch object (/w; x/v1, Kind=Workload): errors:\n  .metadata.finalizers: element 1: associative list without keys has an element that's a map type\n  .spec.bogus: field not declared in schema",
        ),
    ] {
        assert_eq!(w.apply("m", config, false), Err(text.to_owned()));
    }
}

#[test]
fn merged_lists_follow_the_configuration_and_keep_the_servers_items_in_place() {
    let names = |w: &World| -> String {
        let containers = w.object.as_ref().unwrap().at(&["spec", "containers"]).unwrap();
        containers.as_list().unwrap().iter().map(|c| c.str("name")).collect()
    };
    for (live, config, result) in [
        ("abc", "abc", "abc"),
        ("abc", "cba", "cba"),
        ("abc", "xb", "axbc"),
        ("abc", "cx", "abcx"),
        ("abc", "bx", "abcx"),
        ("abcd", "db", "acdb"),
        ("", "ba", "ba"),
    ] {
        let list = |names: &str| Node::List(names.chars().map(|c| node!({"name": c.to_string()})).collect());
        let config_of = |names: &str| {
            workload(Node::Map(
                [("spec", Node::Map([("containers", list(names))].into_iter().collect()))]
                    .into_iter()
                    .collect(),
            ))
        };
        let mut w = world();
        w.apply("m1", config_of(live), false).unwrap();
        w.apply("m2", config_of(config), false).unwrap();
        assert_eq!(names(&w), result, "{live} + {config}");
    }
}
