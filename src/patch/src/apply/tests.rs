use super::*;
use fairlead_api::{json, node};
use fairlead_schema::{Field, Fields, ListSemantics, Shape, Type, TypeId, Types};
use std::sync::Arc;

// === a schema ===

/// One field: `value` fields are written even when zero, as Go structs by value.
struct Declared {
    name: &'static str,
    ty: TypeId,
    value: bool,
    default: Option<Node>,
}

fn pointer(name: &'static str, ty: TypeId) -> Declared {
    Declared {
        name,
        ty,
        value: false,
        default: None,
    }
}

fn value(name: &'static str, ty: TypeId) -> Declared {
    Declared {
        name,
        ty,
        value: true,
        default: None,
    }
}

fn structure(types: &mut Types, name: &str, fields: Vec<Declared>) -> TypeId {
    let fields = fields
        .into_iter()
        .map(|f| Field {
            name: f.name.into(),
            ty: f.ty,
            pointer: !f.value,
            omit_empty: !f.value,
            default: f.default,
            ..Field::default()
        })
        .collect();
    types.push(Type {
        name: name.into(),
        shape: Shape::Struct(Fields::new(fields)),
        ..Type::default()
    })
}

fn list(types: &mut Types, items: TypeId, semantics: ListSemantics) -> TypeId {
    types.push(Type {
        shape: Shape::List(items),
        list: semantics,
        ..Type::default()
    })
}

fn keyed(keys: &[&str]) -> ListSemantics {
    ListSemantics::Map {
        keys: keys.iter().map(|k| (*k).into()).collect(),
    }
}

/// A workload: spec by value with replicas, a selector (atomic), containers (by name) with ports (by port and
/// protocol, TCP by default) and args (atomic), an optional struct `strategy`, anything in `free`; a status.
fn schema() -> Schema {
    let mut types = Types::default();
    let t = &mut types;
    let string = t.push(Type {
        shape: Shape::String,
        ..Type::default()
    });
    let int = t.push(Type {
        shape: Shape::Int { bits: 32 },
        ..Type::default()
    });
    let quantity = t.push(Type {
        shape: Shape::Quantity,
        ..Type::default()
    });
    let any = t.push(Type {
        shape: Shape::Any,
        ..Type::default()
    });
    let strings = t.push(Type {
        shape: Shape::Map(string),
        ..Type::default()
    });
    let selector = t.push(Type {
        shape: Shape::Map(string),
        atomic: true,
        ..Type::default()
    });
    let finalizers = list(t, string, ListSemantics::Set);
    let args = list(t, string, ListSemantics::Atomic);
    let managed = list(t, any, ListSemantics::Atomic);
    let metadata = structure(
        t,
        "ObjectMeta",
        vec![
            pointer("name", string),
            pointer("namespace", string),
            pointer("uid", string),
            pointer("resourceVersion", string),
            pointer("labels", strings),
            pointer("annotations", strings),
            pointer("finalizers", finalizers),
            pointer("managedFields", managed),
        ],
    );
    let protocol = Declared {
        name: "protocol",
        ty: string,
        value: false,
        default: Some(node!("TCP")),
    };
    let port = structure(t, "Port", vec![pointer("port", int), protocol, pointer("name", string)]);
    let ports = list(t, port, keyed(&["port", "protocol"]));
    let container = structure(
        t,
        "Container",
        vec![
            value("name", string),
            pointer("image", string),
            pointer("args", args),
            pointer("ports", ports),
            pointer("cpu", quantity),
        ],
    );
    let containers = list(t, container, keyed(&["name"]));
    let strategy = structure(t, "Strategy", vec![pointer("type", string), pointer("surge", int)]);
    let spec = structure(
        t,
        "Spec",
        vec![
            pointer("replicas", int),
            pointer("selector", selector),
            pointer("containers", containers),
            pointer("strategy", strategy),
            pointer("free", any),
        ],
    );
    let status = structure(t, "Status", vec![pointer("replicas", int)]);
    let root = structure(
        t,
        "Workload",
        vec![
            pointer("apiVersion", string),
            pointer("kind", string),
            value("metadata", metadata),
            value("spec", spec),
            value("status", status),
        ],
    );
    Schema {
        types: Arc::new(types),
        root,
    }
}

// === requests ===

pub(super) struct World {
    pub schema: Schema,
    pub object: Option<Node>,
    clock: i64,
}

pub(super) fn world() -> World {
    World {
        schema: schema(),
        object: None,
        clock: 0,
    }
}

/// A configuration, or the body of a create.
fn workload(rest: Node) -> Node {
    let mut object = node!({"apiVersion": "x/v1", "kind": "Workload", "metadata": {"name": "w"}});
    crate::merge_patch::apply(&mut object, &rest);
    object
}

pub(super) fn config_of(spec: Node, metadata: Node) -> Node {
    let mut object = workload(node!({}));
    if !spec.is_zero() {
        object.set("spec", spec);
    }
    crate::merge_patch::apply(object.make_at(&["metadata"]), &metadata);
    object
}

impl World {
    fn manager<'a>(&mut self, name: &'a str, operation: Operation) -> Manager<'a> {
        self.clock += 1;
        let time = Timestamp::from_unix_seconds(self.clock);
        Manager {
            name,
            operation,
            api_version: "x/v1",
            subresource: "",
            time,
        }
    }

    pub fn apply(&mut self, name: &str, config: Node, force: bool) -> Result<(), String> {
        let manager = self.manager(name, Operation::Apply);
        let options = Options {
            kind: "Workload",
            ..Options::default()
        };
        let live = self.object.as_ref();
        let mut object =
            apply(live, &config, self.schema.root(), &manager, force, &options).map_err(|e| e.to_string())?;
        object.set_at(&["metadata", "uid"], "u");
        self.object = Some(object);
        Ok(())
    }

    /// A PUT of what is there, merged with `change`; or a create.
    fn write(&mut self, name: &str, change: Node) {
        let manager = self.manager(name, Operation::Update);
        self.write_as(&manager, &Options::default(), change);
    }

    fn write_as(&mut self, manager: &Manager, options: &Options, change: Node) {
        let mut new = self
            .object
            .clone()
            .unwrap_or_else(|| workload(node!({"spec": {}, "status": {}})));
        crate::merge_patch::apply(&mut new, &change);
        update(self.object.as_ref(), &mut new, self.schema.root(), manager, options).unwrap();
        new.set_at(&["metadata", "uid"], "u");
        self.object = Some(new);
    }

    /// `manager operation time? fields`, a line each.
    pub fn owners(&self) -> Vec<String> {
        let object = self.object.as_ref().unwrap();
        let line = |entry: &Node| {
            let seconds = Timestamp::parse(entry.str("time")).map_or("-".into(), |t| t.unix_seconds().to_string());
            let fields = json::to_string(entry.get("fieldsV1").unwrap());
            let of = entry.str("subresource");
            let slash = if of.is_empty() { "" } else { "/" };
            format!(
                "{}{slash}{of} {} {seconds} {fields}",
                entry.str("manager"),
                entry.str("operation")
            )
        };
        managed_fields(object).iter().map(line).collect()
    }

    pub fn spec(&self) -> String {
        json::to_string(self.object.as_ref().unwrap().get("spec").unwrap_or(&Node::Null))
    }
}

// === what others can rely on ===

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
