//! The engine end to end: a made-up resource over a store in memory.

use crate::definition::{Column, Conversion, Origin, SelectableField, StorageSpec};
use crate::hooks::{Entropy, NoHooks};
use crate::storage_codec::StoredObjects;
use crate::*;
use fairlead_admission::AdmitAll;
use fairlead_api::time::FixedClock;
use fairlead_api::{GroupResource, GroupVersionKind, Node, StatusResult, Timestamp, UserInfo, json, node};
use fairlead_schema::types::*;
use fairlead_storage::{Cache, CacheConfig, Memory};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

mod lists;
mod watches;
mod writes;

pub struct Counter(AtomicU64);

impl Entropy for Counter {
    fn bits(&self) -> u64 {
        self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
    }
}

struct One(Cache);

impl Caches for One {
    fn cache(&self, _: &StorageSpec) -> StatusResult<Cache> {
        Ok(self.0.clone())
    }
}

/// An engine for one resource.
pub struct Bench {
    pub engine: Engine,
    pub definition: Arc<ResourceDefinition>,
}

fn field(name: &str, ty: TypeId) -> Field {
    Field {
        name: name.into(),
        ty,
        order: 0,
        required: false,
        pointer: false,
        omit_empty: true,
        keeps_empty: false,
        omit_zero: false,
        embedded: "".into(),
        default: None,
        proto: 0,
        proto_inline: 0,
        patch: PatchStrategy::default(),
        patch_merge_key: "".into(),
    }
}

fn of(shape: Shape) -> Type {
    Type {
        shape,
        ..Type::default()
    }
}

fn schema() -> Schema {
    let mut types = Types::default();
    let string = types.push(of(Shape::String));
    let int = types.push(Type {
        name: "int64".into(),
        ..of(Shape::Int { bits: 64 })
    });
    let any = types.push(of(Shape::Any));
    let strings = types.push(of(Shape::Map(string)));
    let set = types.push(Type {
        list: ListSemantics::Set,
        ..of(Shape::List(string))
    });
    let anys = types.push(of(Shape::List(any)));
    let meta = types.push(of(Shape::Struct(Fields::new(vec![
        field("name", string),
        field("generateName", string),
        field("namespace", string),
        field("uid", string),
        field("resourceVersion", string),
        field("generation", int),
        field("creationTimestamp", string),
        field("deletionTimestamp", string),
        Field {
            pointer: true,
            ..field("deletionGracePeriodSeconds", int)
        },
        field("labels", strings),
        field("annotations", strings),
        field("finalizers", set),
        field("managedFields", anys),
        field("ownerReferences", anys),
    ]))));
    let spec = types.push(of(Shape::Struct(Fields::new(vec![
        Field {
            default: Some(Node::Int(1)),
            pointer: true,
            ..field("size", int)
        },
        field("color", string),
    ]))));
    let status = types.push(of(Shape::Struct(Fields::new(vec![field("ready", int)]))));
    let root = types.push(of(Shape::Struct(Fields::new(vec![
        field("apiVersion", string),
        field("kind", string),
        field("metadata", meta),
        field("spec", spec),
        field("status", status),
    ]))));
    Schema {
        types: Arc::new(types),
        root,
    }
}

pub fn definition() -> ResourceDefinition {
    let kind = GroupVersionKind::new("example.test", "v1", "Gadget");
    ResourceDefinition {
        group: "example.test".into(),
        version: "v1".into(),
        kind: "Gadget".into(),
        list_kind: "GadgetList".into(),
        plural: "gadgets".into(),
        singular: "gadget".into(),
        short_names: Vec::new(),
        categories: Vec::new(),
        scope: Scope::Namespaced,
        verbs: Vec::new(),
        subresources: vec![
            Subresource {
                name: "status".into(),
                kind: kind.clone(),
                verbs: Vec::new(),
                behavior: SubresourceBehavior::Status,
                schema: None,
            },
            Subresource {
                name: "scale".into(),
                kind: GroupVersionKind::new("autoscaling", "v1", "Scale"),
                verbs: Vec::new(),
                behavior: SubresourceBehavior::Scale {
                    spec_replicas: ".spec.size".into(),
                    status_replicas: ".status.ready".into(),
                    label_selector: "".into(),
                },
                schema: Some(scale_schema()),
            },
        ],
        schema: schema(),
        columns: vec![
            Column {
                name: "Name".into(),
                type_name: "string".into(),
                json_path: ".metadata.name".into(),
                ..Column::default()
            },
            Column {
                name: "Size".into(),
                type_name: "integer".into(),
                json_path: ".spec.size".into(),
                ..Column::default()
            },
        ],
        selectable_fields: vec![SelectableField {
            name: "spec.color".into(),
            json_path: ".spec.color".into(),
            default: "".into(),
        }],
        storage: StorageSpec {
            prefix: "/example.test/gadgets/".into(),
            kind,
            owner: GroupResource::new("example.test", "gadgets"),
            version_hash: "".into(),
            at_rest: None,
            lifetime_seconds: 0,
        },
        conversion: Conversion::None,
        origin: Origin::BuiltIn,
        generation: true,
        unconditional_update: true,
        create_on_update: false,
        warning: None,
        schemas: Arc::new([]),
        openapi: None,
        hooks: Arc::new(NoHooks),
    }
}

fn scale_schema() -> Schema {
    let mut types = Types::default();
    let string = types.push(of(Shape::String));
    let int = types.push(Type {
        name: "int32".into(),
        ..of(Shape::Int { bits: 32 })
    });
    let any = types.push(of(Shape::Any));
    let anys = types.push(of(Shape::List(any)));
    let meta = types.push(of(Shape::Struct(Fields::new(vec![
        field("name", string),
        field("namespace", string),
        field("uid", string),
        field("resourceVersion", string),
        field("creationTimestamp", string),
        field("managedFields", anys),
    ]))));
    let spec = types.push(of(Shape::Struct(Fields::new(vec![field("replicas", int)]))));
    let status = types.push(of(Shape::Struct(Fields::new(vec![
        Field {
            omit_empty: false,
            ..field("replicas", int)
        },
        field("selector", string),
    ]))));
    let root = types.push(of(Shape::Struct(Fields::new(vec![
        field("apiVersion", string),
        field("kind", string),
        field("metadata", meta),
        field("spec", spec),
        field("status", status),
    ]))));
    Schema {
        types: Arc::new(types),
        root,
    }
}

impl Bench {
    pub fn new() -> Bench {
        Bench::of(definition())
    }

    pub fn of(definition: ResourceDefinition) -> Bench {
        let definition = Arc::new(definition);
        let clock = Arc::new(FixedClock(Timestamp::from_unix_seconds(1_800_000_000)));
        let store = Arc::new(Memory::new(clock.clone()));
        let config = CacheConfig {
            prefix: definition.storage.prefix.clone(),
            decode: Arc::new(StoredObjects::new(definition.clone())),
            ring_bytes: 1 << 20,
        };
        let engine = Engine::new(EngineConfig {
            caches: Arc::new(One(Cache::start(store, config))),
            admission: Arc::new(AdmitAll),
            authorize_create: Arc::new(AllowCreate),
            scheme: Arc::new(NoScheme),
            clock,
            entropy: Arc::new(Counter(AtomicU64::new(1))),
        });
        Bench { engine, definition }
    }

    pub fn request(&self, verb: Verb, name: &str, query: &[(&str, &str)], body: &Node) -> Request {
        Request {
            verb,
            definition: self.definition.clone(),
            namespace: "n".into(),
            name: name.into(),
            subresource: "".into(),
            subpath: String::new(),
            query: query.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            body: Body {
                bytes: if body.is_null() {
                    bytes::Bytes::new()
                } else {
                    json::to_vec(body).into()
                },
                media_type: "application/json".into(),
            },
            view: View::Object,
            user: Arc::new(UserInfo::default()),
            user_agent: "tester/1".into(),
            deadline: None,
            internal: false,
            recording: Default::default(),
        }
    }

    pub async fn send(&self, request: Request) -> (u16, Node, Vec<String>) {
        let answer = self.engine.handle(request).await;
        let (code, node) = match answer.result {
            Err(status) => (status.code(), status.to_node()),
            Ok(Response::Cached { code, object }) => (code, json::parse(&object.json.text()).unwrap()),
            Ok(Response::Node { code, node }) => (code, node),
            Ok(Response::List(list)) => {
                let mut node = node!({});
                node.set("kind", list.kind);
                node.set("metadata", list.metadata);
                let items: Vec<Node> = list
                    .items
                    .iter()
                    .map(|item| json::parse(&item.json.text()).unwrap())
                    .collect();
                node.set("items", items);
                (200, node)
            }
            Ok(Response::Assembled(assembled)) => (200, assembled.to_node().unwrap()),
            Ok(_) => panic!("not an object"),
        };
        (code, node, answer.warnings)
    }

    pub async fn call(&self, verb: Verb, name: &str, query: &[(&str, &str)], body: Node) -> (u16, Node, Vec<String>) {
        self.send(self.request(verb, name, query, &body)).await
    }

    pub async fn patch(
        &self,
        media_type: &str,
        name: &str,
        query: &[(&str, &str)],
        body: Node,
    ) -> (u16, Node, Vec<String>) {
        let mut request = self.request(Verb::Patch, name, query, &body);
        request.body.media_type = media_type.into();
        self.send(request).await
    }

    pub async fn make(&self, name: &str) -> Node {
        let (code, node, _) = self.call(Verb::Create, "", &[], gadget(name)).await;
        assert_eq!(code, 201, "{}", json::to_string(&node));
        node
    }
}

pub fn gadget(name: &str) -> Node {
    let mut gadget = node!({"apiVersion": "example.test/v1", "kind": "Gadget", "metadata": {"labels": {"a": "b"}}});
    gadget.set_at(&["metadata", "name"], name);
    gadget
}

pub fn message(node: &Node) -> &str {
    node.str("message")
}

pub fn names(list: &Node) -> Vec<String> {
    list.list("items").iter().map(|item| item.name().to_owned()).collect()
}
