//! A served version of a CustomResourceDefinition as a [`ResourceDefinition`].

use crate::hooks::CustomHooks;
use crate::lifecycle::Lifecycle;
use crate::versions;
use compact_str::CompactString;
use fairlead_api::{GroupResource, GroupVersionKind, Node, order};
use fairlead_resource::definition::{
    Column, Conversion, Converter, Origin, ResourceDefinition, Scope, SelectableField, StorageSpec, Subresource,
    SubresourceBehavior, Verb,
};
use fairlead_schema::{Schema, compile};
use std::cmp::Ordering;
use std::sync::{Arc, Weak};

/// What definitions are made with besides the object.
pub struct Making<'a> {
    /// Asked where `spec.conversion.strategy` is Webhook.
    pub converter: &'a dyn Fn(&Node) -> Arc<dyn Converter>,
    /// Computes storage version hashes.
    pub hash: fn(&str, &str, &str) -> CompactString,
    /// The schema of `autoscaling/v1 Scale`.
    pub scale: Option<&'a Schema>,
    /// Whom the hooks tell of changes while the definition is being deleted.
    pub lifecycle: &'a Weak<Lifecycle>,
    /// Whether it is: its objects go, and none may come.
    pub terminating: bool,
}

/// The definitions of all served versions; empty until the names are accepted.
///
/// # Errors
/// A sentence on the version whose schema cannot be compiled.
pub fn definitions(crd: &Node, making: &Making) -> Result<Vec<Arc<ResourceDefinition>>, String> {
    if !crate::condition::is_true(crd, "Established") {
        return Ok(Vec::new());
    }
    let is_served = |version: &Node| version.get("served").and_then(Node::as_bool) == Some(true);
    let mut schemas = Vec::new();
    for version in versions(crd) {
        match schema(version) {
            Ok(schema) => schemas.push((CompactString::from(version.str("name")), schema)),
            Err(why) if is_served(version) => return Err(why),
            // Nobody reads or writes it; who once did is only remembered in managedFields.
            Err(_) => {}
        }
    }
    let schemas: Arc<[(CompactString, Schema)]> = schemas.into();
    let served = versions(crd).filter(|version| is_served(version));
    Ok(served
        .filter_map(|version| definition(crd, version, &schemas, making).map(Arc::new))
        .collect())
}

fn schema(version: &Node) -> Result<Schema, String> {
    let empty = Node::map();
    let open_api = version.at(&["schema", "openAPIV3Schema"]).unwrap_or(&empty);
    let name = version.str("name");
    compile(open_api).map_err(|e| format!("the schema of version {name} cannot be compiled: {e}"))
}

/// `None` where the version has no schema, which it has where it is served.
fn definition(
    crd: &Node,
    version: &Node,
    schemas: &Arc<[(CompactString, Schema)]>,
    making: &Making,
) -> Option<ResourceDefinition> {
    let spec = crd.get("spec").cloned().unwrap_or_default();
    let names = crd.at(&["status", "acceptedNames"]).cloned().unwrap_or_default();
    let (group, plural, kind) = (spec.str("group"), names.str("plural"), names.str("kind"));
    let name = version.str("name");
    let stored = versions(crd)
        .find(|v| v.get("storage").and_then(Node::as_bool) == Some(true))
        .map_or(name, |v| v.str("name"));
    let open_api = version.at(&["schema", "openAPIV3Schema"]).cloned();
    let (_, schema) = schemas.iter().find(|(known, _)| known == name)?.clone();
    let scope = if spec.str("scope") == "Cluster" {
        Scope::Cluster
    } else {
        Scope::Namespaced
    };
    let conversion = match spec.str_at(&["conversion", "strategy"]) {
        "Webhook" => Conversion::Webhook((making.converter)(&spec)),
        _ => Conversion::None,
    };
    Some(ResourceDefinition {
        group: group.into(),
        version: name.into(),
        kind: kind.into(),
        list_kind: names.str("listKind").into(),
        plural: plural.into(),
        singular: names.str("singular").into(),
        short_names: words(&names, "shortNames"),
        categories: words(&names, "categories"),
        scope,
        // COMPAT: discovery shows custom resources' verbs in this order.
        verbs: vec![
            Verb::Delete,
            Verb::DeleteCollection,
            Verb::Get,
            Verb::List,
            Verb::Patch,
            Verb::Create,
            Verb::Update,
            Verb::Watch,
        ],
        subresources: subresources(&spec, version, kind, making.scale),
        hooks: Arc::new(CustomHooks::new(
            &schema,
            making.terminating.then(|| making.lifecycle.clone()),
        )),
        schema,
        schemas: Arc::clone(schemas),
        columns: columns(version),
        selectable_fields: version
            .list("selectableFields")
            .iter()
            .map(|f| f.str("jsonPath"))
            .map(|path| SelectableField {
                name: path.trim_start_matches('.').into(),
                json_path: path.into(),
                default: CompactString::default(),
            })
            .collect(),
        storage: StorageSpec {
            prefix: format!("/{group}/{plural}/"),
            kind: GroupVersionKind::new(group, stored, kind),
            owner: GroupResource::new(group, plural),
            version_hash: (making.hash)(group, stored, kind),
            at_rest: None,
            lifetime_seconds: 0,
        },
        conversion,
        origin: Origin::Custom(crd.name().into()),
        generation: true,
        unconditional_update: false,
        create_on_update: false,
        warning: warning(crd, version, group, kind),
        openapi: Some(Arc::new(open_api.unwrap_or_else(Node::map))),
    })
}

fn words(names: &Node, field: &str) -> Vec<CompactString> {
    names
        .list(field)
        .iter()
        .filter_map(Node::as_str)
        .map(Into::into)
        .collect()
}

fn subresources(spec: &Node, version: &Node, kind: &str, scale_schema: Option<&Schema>) -> Vec<Subresource> {
    let mut subresources = Vec::new();
    let verbs = vec![Verb::Get, Verb::Patch, Verb::Update];
    let Some(declared) = version.get("subresources") else {
        return subresources;
    };
    if declared.get("status").is_some() {
        subresources.push(Subresource {
            name: "status".into(),
            kind: GroupVersionKind::new(spec.str("group"), version.str("name"), kind),
            verbs: verbs.clone(),
            behavior: SubresourceBehavior::Status,
            schema: None,
        });
    }
    if let Some(scale) = declared.get("scale") {
        subresources.push(Subresource {
            name: "scale".into(),
            kind: GroupVersionKind::new("autoscaling", "v1", "Scale"),
            verbs,
            behavior: SubresourceBehavior::Scale {
                spec_replicas: scale.str("specReplicasPath").into(),
                status_replicas: scale.str("statusReplicasPath").into(),
                label_selector: scale.str("labelSelectorPath").into(),
            },
            schema: scale_schema.cloned(),
        });
    }
    subresources
}

/// Name, then what the version declares, or the age where it declares nothing.
fn columns(version: &Node) -> Vec<Column> {
    let name = Column {
        name: "Name".into(),
        type_name: "string".into(),
        format: "name".into(),
        description: meta_word("name"),
        priority: 0,
        json_path: ".metadata.name".into(),
    };
    let declared = version.list("additionalPrinterColumns");
    let age = Column {
        name: "Age".into(),
        type_name: "date".into(),
        description: meta_word("creationTimestamp"),
        json_path: ".metadata.creationTimestamp".into(),
        ..Column::default()
    };
    let rest: Vec<Column> = declared
        .iter()
        .map(|c| Column {
            name: c.str("name").into(),
            type_name: c.str("type").into(),
            format: c.str("format").into(),
            description: match c.str("description") {
                "" => format!(
                    "Custom resource definition column (in JSONPath format): {}",
                    c.str("jsonPath")
                ),
                text => text.into(),
            },
            priority: c.get("priority").and_then(Node::as_i64).unwrap_or(0),
            json_path: c.str("jsonPath").into(),
        })
        .collect();
    std::iter::once(name)
        .chain(if declared.is_empty() { vec![age] } else { rest })
        .collect()
}

/// Said to users of a deprecated version: what it declares, or where to go instead.
fn warning(crd: &Node, version: &Node, group: &str, kind: &str) -> Option<String> {
    let is = |version: &Node, field: &str| version.get(field).and_then(Node::as_bool) == Some(true);
    if !is(version, "deprecated") {
        return None;
    }
    if let Some(text) = version.get("deprecationWarning").and_then(Node::as_str) {
        return Some(text.into());
    }
    let name = version.str("name");
    let newer = versions(crd)
        .filter(|v| is(v, "served") && !is(v, "deprecated"))
        .map(|v| v.str("name"))
        .filter(|other| order::versions(other, name) == Ordering::Less)
        .min_by(|a, b| order::versions(a, b));
    let instead = newer.map_or_else(String::new, |newer| format!("; use {group}/{newer} {kind}"));
    Some(format!("{group}/{name} {kind} is deprecated{instead}"))
}

/// What OpenAPI says of a metadata field; tables repeat it.
fn meta_word(field: &str) -> String {
    fairlead_words::word("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", field)
        .unwrap_or_default()
        .into()
}
