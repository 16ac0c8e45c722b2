//! Which operations a resource has, as OpenAPI describes them: the model both versions are printed from.

use super::parameters::{self, NAME, NAMESPACE, PRETTY, PROXY_PATH, Parameter};
use fairlead_api::{GroupVersion, GroupVersionKind};
use fairlead_resource::{ResourceDefinition, Subresource, Verb};

/// One path and what can be done there.
pub(super) struct PathItem {
    pub path: String,
    /// Of the path itself; parameters that all operations share are found when it is printed.
    pub parameters: Vec<Parameter>,
    pub operations: Vec<Operation>,
}

pub(super) struct Operation {
    /// Lower case: `get`.
    pub method: &'static str,
    pub id: String,
    pub description: String,
    pub tag: String,
    /// `x-kubernetes-action`; empty for documents.
    pub action: &'static str,
    pub kind: Option<GroupVersionKind>,
    pub parameters: Vec<Parameter>,
    pub body: Body,
    pub produces: &'static [&'static str],
    /// What `consumes` says in v2.
    pub consumes: &'static [&'static str],
    /// The success codes and the schema they all answer with.
    pub codes: &'static [u16],
    pub answer: Answer,
}

#[derive(Clone, PartialEq)]
pub(super) enum Body {
    None,
    /// A whole object of this schema.
    Object(String),
    Patch(&'static [&'static str]),
    DeleteOptions,
}

#[derive(Clone, PartialEq)]
pub(super) enum Answer {
    Schema(String),
    Text,
}

pub(super) const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const ANY: &[&str] = &["*/*"];
pub(super) const OBJECTS: &[&str] = &[JSON, YAML, PROTOBUF];
const STREAMS: &[&str] = &[
    JSON,
    YAML,
    PROTOBUF,
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];
pub(super) const CUSTOM: &[&str] = &[JSON, YAML];
const LOG: &[&str] = &["text/plain", JSON, YAML, PROTOBUF];
const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
const CUSTOM_PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/apply-patch+yaml",
];

/// What every operation of one resource shares.
struct Naming<'a> {
    definition: &'a ResourceDefinition,
    /// `AppsV1`.
    prefix: String,
    tag: String,
    namespaced: &'static str,
    kind: GroupVersionKind,
    schema: String,
    custom: bool,
}

/// All paths of a resource.
pub(super) fn paths(definition: &ResourceDefinition) -> Vec<PathItem> {
    let naming = Naming::new(definition);
    let root = root(&definition.group, &definition.version);
    let scope = if definition.namespaced() {
        "/namespaces/{namespace}"
    } else {
        ""
    };
    let collection = format!("{root}{scope}/{}", definition.plural);
    let object = format!("{collection}/{{name}}");
    let place: Vec<Parameter> = if definition.namespaced() {
        vec![NAMESPACE]
    } else {
        Vec::new()
    };
    let mut items = vec![
        item(collection, [place.clone(), vec![PRETTY]].concat(), naming.collection()),
        item(
            object.clone(),
            [vec![NAME], place.clone(), vec![PRETTY]].concat(),
            naming.object(),
        ),
    ];
    for sub in &definition.subresources {
        items.extend(naming.subresource(sub, &object, &place));
    }
    if definition.namespaced() && definition.verbs.contains(&Verb::List) {
        let all = naming.list(format!("list{}{}ForAllNamespaces", naming.prefix, naming.kind.kind));
        items.push(item(format!("{root}/{}", definition.plural), vec![PRETTY], vec![all]));
    }
    if definition.verbs.contains(&Verb::Watch) && !naming.custom {
        items.extend(naming.watches(&root, scope, &place));
    }
    items.retain(|i| !i.operations.is_empty());
    items
}

fn item(path: String, parameters: Vec<Parameter>, operations: Vec<Operation>) -> PathItem {
    PathItem {
        path,
        parameters,
        operations,
    }
}

/// `/api/v1` or `/apis/GROUP/VERSION`.
pub(super) fn root(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{group}/{version}")
    }
}

impl<'a> Naming<'a> {
    fn new(definition: &'a ResourceDefinition) -> Naming<'a> {
        Naming {
            definition,
            prefix: format!("{}{}", group_title(&definition.group), title(&definition.version)),
            tag: tag(&definition.group, &definition.version),
            namespaced: if definition.namespaced() { "Namespaced" } else { "" },
            kind: definition.gvk(),
            schema: super::schema_name(definition),
            custom: definition.is_custom(),
        }
    }

    fn has(&self, verb: Verb) -> bool {
        self.definition.verbs.contains(&verb)
    }

    fn collection(&self) -> Vec<Operation> {
        let (prefix, namespaced, kind) = (&self.prefix, self.namespaced, &self.kind.kind);
        let mut operations = Vec::new();
        if self.has(Verb::List) {
            operations.push(self.list(format!("list{prefix}{namespaced}{kind}")));
        }
        if self.has(Verb::Create) {
            operations.push(self.create(format!("create{prefix}{namespaced}{kind}"), &self.kind, &self.schema));
        }
        if self.has(Verb::DeleteCollection) {
            // COMPAT: apiextensions declares the list's options and no body.
            let (parameters, body) = match self.custom {
                true => (parameters::LIST, Body::None),
                false => (parameters::DELETE_COLLECTION, Body::DeleteOptions),
            };
            let id = format!("delete{prefix}Collection{namespaced}{kind}");
            let answer = format!("{META}.Status");
            operations.push(Operation {
                parameters: parameters.to_vec(),
                body,
                description: format!("delete a collection of {kind} objects"),
                ..self.operation("delete", id, "deletecollection", &[200], answer)
            });
        }
        operations
    }

    fn object(&self) -> Vec<Operation> {
        let (prefix, namespaced, kind) = (&self.prefix, self.namespaced, &self.kind.kind);
        let mut operations = Vec::new();
        if self.has(Verb::Get) {
            operations.push(self.read(format!("read{prefix}{namespaced}{kind}"), &self.kind, &self.schema));
        }
        if self.has(Verb::Update) {
            operations.push(self.replace(format!("replace{prefix}{namespaced}{kind}"), &self.kind, &self.schema));
        }
        if self.has(Verb::Delete) {
            let id = format!("delete{prefix}{namespaced}{kind}");
            operations.push(Operation {
                parameters: parameters::DELETE.to_vec(),
                body: Body::DeleteOptions,
                description: format!("delete one {kind}"),
                ..self.operation("delete", id, "delete", &[200, 202], self.deleted())
            });
        }
        if self.has(Verb::Patch) {
            operations.push(self.patch(format!("patch{prefix}{namespaced}{kind}"), &self.kind, &self.schema));
        }
        operations
    }

    /// COMPAT: a few kinds answer a delete with the object (kubernetes/kubernetes pkg/registry: ReturnDeletedObject).
    fn deleted(&self) -> String {
        let returned = [
            "Pod",
            "Service",
            "ServiceAccount",
            "ResourceQuota",
            "PersistentVolume",
            "PersistentVolumeClaim",
            "PodTemplate",
        ];
        let classes = [
            "StorageClass",
            "VolumeAttachment",
            "CSIDriver",
            "CSINode",
            "VolumeAttributesClass",
        ];
        let by_group = match self.kind.group.as_str() {
            "" => returned.contains(&self.kind.kind.as_str()),
            "storage.k8s.io" => classes.contains(&self.kind.kind.as_str()),
            "resource.k8s.io" => true,
            _ => false,
        };
        if by_group {
            self.schema.clone()
        } else {
            format!("{META}.Status")
        }
    }

    fn subresource(&self, sub: &Subresource, object: &str, place: &[Parameter]) -> Vec<PathItem> {
        let path = format!("{object}/{}", sub.name);
        let title = title(&sub.name);
        let name = format!("{}{}{}{title}", self.prefix, self.namespaced, self.kind.kind);
        let around = [vec![NAME], place.to_vec()].concat();
        if sub.kind.kind.ends_with("Options") {
            return self.connect(sub, path, &title, &around);
        }
        let schema = super::schema_of(self.definition, &sub.kind);
        if sub.name == "log" {
            let read = Operation {
                parameters: parameters::LOG.to_vec(),
                produces: LOG,
                answer: Answer::Text,
                description: "read the log of a container".into(),
                ..self.operation("get", format!("read{name}"), "get", &[200], String::new())
            };
            return vec![item(path, [around, vec![PRETTY]].concat(), vec![read])];
        }
        let mut operations = Vec::new();
        if sub.verbs.contains(&Verb::Get) {
            operations.push(self.read(format!("read{name}"), &sub.kind, &schema));
        }
        if sub.verbs.contains(&Verb::Create) {
            operations.push(self.create(format!("create{name}"), &sub.kind, &schema));
        }
        if sub.verbs.contains(&Verb::Update) {
            operations.push(self.replace(format!("replace{name}"), &sub.kind, &schema));
        }
        if sub.verbs.contains(&Verb::Patch) {
            operations.push(self.patch(format!("patch{name}"), &sub.kind, &schema));
        }
        vec![item(path, [around, vec![PRETTY]].concat(), operations)]
    }

    /// Methods follow the verbs: a connect that can do everything (a proxy) has every method and a path below.
    fn connect(&self, sub: &Subresource, path: String, title: &str, around: &[Parameter]) -> Vec<PathItem> {
        let proxy = sub.verbs.contains(&Verb::Delete);
        let methods: &[&'static str] = if proxy {
            &["get", "put", "post", "delete", "options", "head", "patch"]
        } else {
            &["get", "post"]
        };
        let make = |suffix: &str| -> Vec<Operation> {
            methods
                .iter()
                .map(|method| {
                    let verb = super::operations::title(method);
                    let (prefix, kind) = (&self.prefix, &self.kind.kind);
                    let id = format!("connect{prefix}{verb}{}{kind}{title}{suffix}", self.namespaced);
                    Operation {
                        kind: Some(sub.kind.clone()),
                        produces: ANY,
                        answer: Answer::Text,
                        description: format!("connect {} requests to {} of {kind}", verb.to_uppercase(), sub.name),
                        ..self.operation(method, id, "connect", &[200], String::new())
                    }
                })
                .collect()
        };
        let options = [around, parameters::connect(&sub.kind.kind)].concat();
        let mut items = vec![item(path.clone(), options.clone(), make(""))];
        if proxy {
            items.push(item(
                format!("{path}/{{path}}"),
                [options, vec![PROXY_PATH]].concat(),
                make("WithPath"),
            ));
        }
        items
    }

    fn watches(&self, root: &str, scope: &str, place: &[Parameter]) -> Vec<PathItem> {
        let (prefix, namespaced, kind, plural) =
            (&self.prefix, self.namespaced, &self.kind.kind, &self.definition.plural);
        let watch = |id: String, action: &'static str| Operation {
            produces: STREAMS,
            description: format!("watch {kind} objects; deprecated: list with the parameter watch"),
            ..self.operation("get", id, action, &[200], format!("{META}.WatchEvent"))
        };
        let around = |more: &[Parameter]| [parameters::LIST, more, &[PRETTY]].concat();
        let mut items = Vec::new();
        if self.definition.namespaced() {
            let id = format!("watch{prefix}{kind}ListForAllNamespaces");
            items.push(item(
                format!("{root}/watch/{plural}"),
                around(&[]),
                vec![watch(id, "watchlist")],
            ));
        }
        if self.has(Verb::List) {
            let id = format!("watch{prefix}{namespaced}{kind}List");
            items.push(item(
                format!("{root}/watch{scope}/{plural}"),
                around(place),
                vec![watch(id, "watchlist")],
            ));
        }
        let id = format!("watch{prefix}{namespaced}{kind}");
        let parameters = around(&[place, &[NAME]].concat());
        items.push(item(
            format!("{root}/watch{scope}/{plural}/{{name}}"),
            parameters,
            vec![watch(id, "watch")],
        ));
        items
    }

    fn list(&self, id: String) -> Operation {
        Operation {
            parameters: parameters::LIST.to_vec(),
            produces: if self.custom { CUSTOM } else { STREAMS },
            description: format!("list or watch {} objects", self.kind.kind),
            ..self.operation("get", id, "list", &[200], super::list_schema_name(self.definition))
        }
    }

    fn read(&self, id: String, kind: &GroupVersionKind, schema: &str) -> Operation {
        Operation {
            kind: Some(kind.clone()),
            parameters: if self.custom {
                parameters::READ_CUSTOM.to_vec()
            } else {
                Vec::new()
            },
            description: format!("read {} of the given name", kind.kind),
            ..self.operation("get", id, "get", &[200], schema.into())
        }
    }

    fn create(&self, id: String, kind: &GroupVersionKind, schema: &str) -> Operation {
        Operation {
            kind: Some(kind.clone()),
            parameters: parameters::WRITE.to_vec(),
            body: Body::Object(schema.into()),
            description: format!("create one {}", kind.kind),
            ..self.operation("post", id, "post", &[200, 201, 202], schema.into())
        }
    }

    fn replace(&self, id: String, kind: &GroupVersionKind, schema: &str) -> Operation {
        Operation {
            kind: Some(kind.clone()),
            parameters: parameters::WRITE.to_vec(),
            body: Body::Object(schema.into()),
            description: format!("replace {} of the given name", kind.kind),
            ..self.operation("put", id, "put", &[200, 201], schema.into())
        }
    }

    fn patch(&self, id: String, kind: &GroupVersionKind, schema: &str) -> Operation {
        let types = if self.custom { CUSTOM_PATCHES } else { PATCHES };
        // COMPAT: apiextensions does not declare that apply may create.
        let codes: &[u16] = if self.custom { &[200] } else { &[200, 201] };
        Operation {
            kind: Some(kind.clone()),
            parameters: parameters::PATCH.to_vec(),
            body: Body::Patch(types),
            consumes: types,
            description: format!("change parts of {} of the given name", kind.kind),
            ..self.operation("patch", id, "patch", codes, schema.into())
        }
    }

    fn operation(
        &self,
        method: &'static str,
        id: String,
        action: &'static str,
        codes: &'static [u16],
        answer: String,
    ) -> Operation {
        Operation {
            method,
            id,
            description: String::new(),
            tag: self.tag.clone(),
            action,
            kind: Some(self.kind.clone()),
            parameters: Vec::new(),
            body: Body::None,
            produces: if self.custom { CUSTOM } else { OBJECTS },
            consumes: if self.custom { CUSTOM } else { ANY },
            codes,
            answer: Answer::Schema(answer),
        }
    }
}

/// The document operations: `GET /apis/GROUP/VERSION/` and the like.
pub(super) fn document(path: &str, id: String, tag: String, schema: &str) -> PathItem {
    item(
        path.into(),
        Vec::new(),
        vec![Operation {
            method: "get",
            id,
            description: "what is served here".into(),
            tag,
            action: "",
            kind: None,
            parameters: Vec::new(),
            body: Body::None,
            produces: OBJECTS,
            consumes: OBJECTS,
            codes: &[200],
            answer: Answer::Schema(format!("{META}.{schema}")),
        }],
    )
}

/// What is served at `/apis/GROUP/`.
pub(super) fn group_document(group: &str) -> PathItem {
    let id = format!("get{}APIGroup", group_title(group));
    document(&format!("/apis/{group}/"), id, tag(group, ""), "APIGroup")
}

/// What is served at `/apis/GROUP/VERSION/`.
pub(super) fn resources_document(gv: &GroupVersion) -> PathItem {
    let id = format!("get{}{}APIResources", group_title(&gv.group), title(&gv.version));
    let path = format!("{}/", root(&gv.group, &gv.version));
    document(&path, id, tag(&gv.group, &gv.version), "APIResourceList")
}

/// `rbac.authorization.k8s.io` → `RbacAuthorization`; the core group → `Core`.
pub(super) fn group_title(group: &str) -> String {
    if group.is_empty() {
        return "Core".into();
    }
    group
        .strip_suffix(".k8s.io")
        .unwrap_or(group)
        .split('.')
        .map(title)
        .collect()
}

/// `rbacAuthorization_v1`.
pub(super) fn tag(group: &str, version: &str) -> String {
    let group = lower_first(&group_title(group));
    if version.is_empty() {
        group
    } else {
        format!("{group}_{version}")
    }
}

pub(super) fn title(word: &str) -> String {
    let mut letters = word.chars();
    letters
        .next()
        .map_or(String::new(), |c| c.to_uppercase().chain(letters).collect())
}

fn lower_first(word: &str) -> String {
    let mut letters = word.chars();
    letters
        .next()
        .map_or(String::new(), |c| c.to_lowercase().chain(letters).collect())
}
