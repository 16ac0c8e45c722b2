//! The `status` and `scale` subresources: parts and views of the object itself.
// PERFORMANCE: per-request path

use crate::body;
use crate::call::Call;
use crate::definition::SubresourceBehavior;
use crate::options::FieldValidation;
use crate::{fields, patch};
use fairlead_api::selector::LabelSelector;
use fairlead_api::{FieldError, FieldPath, GroupKind, Node, Status, StatusResult};

// === status ===

/// Takes everything but `status` from the stored object. Built-in kinds let metadata through.
pub fn keep_all_but_status(object: &mut Node, old: &Node, custom: bool) {
    let mut kept = old.clone();
    match object.remove("status") {
        Some(status) => kept.set("status", status),
        None => {
            kept.remove("status");
        }
    }
    let mut metadata = object.remove("metadata").unwrap_or_else(Node::map);
    if custom {
        match metadata.remove("managedFields") {
            Some(fields) => kept.meta_mut().insert("managedFields", fields),
            None => kept.meta_mut().remove("managedFields"),
        };
    } else {
        kept.set("metadata", metadata);
    }
    *object = kept;
}

/// Takes `status` from the stored object.
pub fn keep_status(object: &mut Node, old: &Node) {
    match old.get("status") {
        Some(status) => object.set("status", status.clone()),
        None => {
            object.remove("status");
        }
    }
}

// === scale ===

/// Stands for "not set before" in a Scale shown to patches (the smallest int32).
const UNSET: i64 = -2_147_483_648;

struct Paths<'a> {
    spec: &'a str,
    status: &'a str,
    selector: &'a str,
}

fn paths<'a>(call: &Call<'a>) -> StatusResult<Paths<'a>> {
    match call.subresource.map(|s| &s.behavior) {
        Some(SubresourceBehavior::Scale {
            spec_replicas,
            status_replicas,
            label_selector,
        }) => Ok(Paths {
            spec: spec_replicas,
            status: status_replicas,
            selector: label_selector,
        }),
        _ => Err(Status::no_such_resource()),
    }
}

fn split(path: &str) -> Vec<&str> {
    path.strip_prefix('.').unwrap_or(path).split('.').collect()
}

/// Reads the body of a PUT to `scale`.
///
/// # Errors
/// As [`body::decode`].
pub fn decode_scale(call: &mut Call, validation: FieldValidation) -> StatusResult<Node> {
    let schema = patch::schema(call)?;
    body::decode(call, &call.kind(), &schema, validation)
}

/// The Scale of an object.
///
/// # Errors
/// Internal where the object has no replicas.
pub fn read_scale(call: &Call, object: &Node) -> StatusResult<Node> {
    let paths = paths(call)?;
    let replicas = object.at(&split(paths.spec)).and_then(Node::as_i64);
    if replicas.is_none() && call.definition.is_custom() {
        let path = fairlead_api::field::go_quote(paths.spec);
        return Err(Status::internal(format!(
            "the spec replicas field {path} does not exist"
        )));
    }
    Ok(scale(call, &paths, object, replicas.unwrap_or(0)))
}

/// The Scale of a stored object, as updates and patches see it.
///
/// # Errors
/// NotFound where there is no such subresource.
pub fn old_scale(call: &Call, object: &Node) -> StatusResult<Node> {
    let paths = paths(call)?;
    let replicas = object.at(&split(paths.spec)).and_then(Node::as_i64);
    let unset = if call.definition.is_custom() { UNSET } else { 0 };
    let mut view = scale(call, &paths, object, replicas.unwrap_or(unset));
    let owners = fields::to_scale(call, object)?;
    if !owners.is_empty() {
        view.meta_mut().insert("managedFields", Node::List(owners));
    }
    Ok(view)
}

fn scale(call: &Call, paths: &Paths, object: &Node, replicas: i64) -> Node {
    let mut node = Node::map();
    node.set("kind", "Scale");
    let version = call
        .subresource
        .map_or_else(|| "autoscaling/v1".into(), |s| s.kind.group_version().to_string());
    node.set("apiVersion", version);
    let mut metadata = Node::map();
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.at(&["metadata", key]) {
            metadata.set(key, value.clone());
        }
    }
    node.set("metadata", metadata);
    let mut spec = Node::map();
    if replicas != 0 {
        spec.set("replicas", replicas);
    }
    node.set("spec", spec);
    let mut status = Node::map();
    status.set(
        "replicas",
        object.at(&split(paths.status)).and_then(Node::as_i64).unwrap_or(0),
    );
    if !paths.selector.is_empty()
        && let Some(selector) = object.at(&split(paths.selector))
    {
        let text = match selector {
            Node::String(text) => text.to_string(),
            Node::Map(labels) if labels.values().all(|v| v.as_str().is_some()) => {
                LabelSelector::from_map(labels).to_string()
            }
            other => LabelSelector::from_node(other).map_or_else(|_| String::new(), |s| s.to_string()),
        };
        if !text.is_empty() {
            status.set("selector", text);
        }
    }
    node.set("status", status);
    node
}

/// The stored object with a new Scale's replicas and resourceVersion.
///
/// # Errors
/// Invalid for negative replicas, BadRequest for missing ones.
pub fn write_scale(call: &Call, old: &Node, scale: Node) -> StatusResult<Node> {
    let paths = paths(call)?;
    let replicas = scale.at(&["spec", "replicas"]).and_then(Node::as_i64).unwrap_or(0);
    if replicas == UNSET {
        let path = fairlead_api::field::go_quote(paths.spec);
        return Err(Status::bad_request(format!(
            "the spec replicas field {path} cannot be empty"
        )));
    }
    if replicas < 0 && !call.definition.is_custom() {
        let path = FieldPath::new("spec.replicas");
        let error = FieldError::invalid(&path, replicas, "must be greater than or equal to 0");
        return Err(Status::invalid(
            &GroupKind::new("autoscaling", "Scale"),
            scale.name(),
            &vec![error],
        ));
    }
    let mut object = old.clone();
    let owners = fields::from_scale(call, old, &scale)?;
    if owners.is_empty() {
        object.meta_mut().remove("managedFields");
    } else {
        object.meta_mut().insert("managedFields", Node::List(owners));
    }
    *object.make_at(&split(paths.spec)) = Node::Int(replicas);
    let version = scale.resource_version();
    if version.is_empty() && call.definition.unconditional_update {
        object.meta_mut().remove("resourceVersion");
    } else if !version.is_empty() {
        object.meta_mut().insert("resourceVersion", Node::string(version));
    }
    Ok(object)
}
