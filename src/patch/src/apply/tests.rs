//! What the tests of apply share: a schema and a world of one object.

mod applying;
mod owning;
mod versions;

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
