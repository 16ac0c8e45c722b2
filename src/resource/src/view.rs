//! The shapes objects are answered in: whole, as metadata alone, as a Table.
// PERFORMANCE: per-request path

use crate::call::Call;
use crate::definition::ResourceDefinition;
use crate::request::{MetaVersion, Response, View};
use crate::table::{Include, Table};
use crate::{convert, storage_codec, subresource};
use bytes::Bytes;
use fairlead_api::{Node, Status, StatusResult, json};
use fairlead_storage::Cached;
use std::sync::Arc;

/// Answers one cached object in the requested view.
///
/// # Errors
/// NotAcceptable for a view that a single object does not have; what a conversion webhook answers.
pub async fn respond(call: &Call<'_>, code: u16, object: Arc<Cached>) -> StatusResult<Response> {
    let view = call.request.view;
    if view == View::Object {
        let object = convert::object(call.definition, object).await?;
        return Ok(Response::Cached { code, object });
    }
    let node = convert::node(call.definition, &object).await?;
    shape(call, code, node)
}

/// Answers a written object as the path sees it: whole, or as the subresource's body.
///
/// # Errors
/// As [`respond`].
pub async fn respond_view(call: &Call<'_>, code: u16, object: Arc<Cached>) -> StatusResult<Response> {
    if !call.is_scale() {
        return respond(call, code, object).await;
    }
    let node = convert::node(call.definition, &object).await?;
    shape_view(call, code, node)
}

/// [`respond_view`] for an object that is not cached.
///
/// # Errors
/// As [`shape`].
pub fn shape_view(call: &Call, code: u16, object: Node) -> StatusResult<Response> {
    if call.is_scale() {
        shape(call, code, subresource::read_scale(call, &object)?)
    } else {
        shape(call, code, object)
    }
}

/// Answers one object that is not cached (a dry run, a subresource's body) in the requested view.
///
/// # Errors
/// NotAcceptable for a view that a single object does not have.
pub fn shape(call: &Call, code: u16, node: Node) -> StatusResult<Response> {
    let node = match call.request.view {
        View::Object => node,
        _ if node.str("kind") == "Status" => node,
        View::Metadata(version) => partial(&node, version, call.definition),
        View::MetadataList(_) => {
            let go_type = go_type(call.definition, &call.kind().kind, false);
            return Err(not_acceptable(format!(
                "you requested PartialObjectMetadataList, but the requested object is not a list ({go_type})"
            )));
        }
        View::Table(version) => {
            let include = Include::parse(call.request)?;
            let mut table = match call.is_scale() {
                true => Table::of_scale(call, version, include),
                false => Table::new(call, version, include),
            };
            if !node.resource_version().is_empty() {
                table.metadata.set("resourceVersion", node.resource_version());
            }
            table.push(&node);
            table.finish(true)
        }
    };
    Ok(Response::Node { code, node })
}

/// An object's metadata, as `PartialObjectMetadata`.
pub fn partial(object: &Node, version: MetaVersion, definition: &ResourceDefinition) -> Node {
    let mut metadata = object.meta().cloned().unwrap_or_else(Node::map);
    hide(&mut metadata, definition);
    let mut node = Node::map();
    node.set("kind", "PartialObjectMetadata");
    node.set("apiVersion", version.api_version());
    node.set("metadata", metadata);
    node
}

/// [`storage_codec::metadata`] as it is shown to those who ask for nothing else.
pub fn metadata(object: &Cached, definition: &ResourceDefinition) -> Bytes {
    let whole = storage_codec::metadata(object);
    if definition.hooks.hidden_annotations().is_empty() {
        return whole;
    }
    match json::parse(&whole) {
        Ok(mut metadata) => {
            hide(&mut metadata, definition);
            json::to_vec(&metadata).into()
        }
        Err(_) => whole,
    }
}

fn hide(metadata: &mut Node, definition: &ResourceDefinition) {
    let hidden = definition.hooks.hidden_annotations();
    if hidden.is_empty() {
        return;
    }
    let Some(Node::Map(annotations)) = metadata.get_mut("annotations") else {
        return;
    };
    annotations.retain(|key, _| !hidden.contains(&key.as_str()));
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
}

/// The beginning of a `PartialObjectMetadata` up to its metadata, as JSON; a closing brace follows.
pub fn partial_head(version: MetaVersion) -> String {
    format!(
        "{{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"{}\",\"metadata\":",
        version.api_version()
    )
}

/// The error for a view that is not one of a list.
pub fn no_list_view(definition: &ResourceDefinition) -> Status {
    let go_type = go_type(definition, &definition.list_kind, true);
    not_acceptable(format!(
        "you requested PartialObjectMetadata, but the requested object is a list ({go_type})"
    ))
}

fn not_acceptable(message: String) -> Status {
    Status::not_acceptable(message)
}

/// COMPAT: the messages name upstream's internal types.
fn go_type(definition: &ResourceDefinition, kind: &str, list: bool) -> String {
    if kind == "Scale" && definition.kind != kind {
        let package = if definition.is_custom() { "v1" } else { "autoscaling" };
        return format!("*{package}.Scale");
    }
    if definition.is_custom() {
        return format!("*unstructured.Unstructured{}", if list { "List" } else { "" });
    }
    let package = match definition.group.split('.').next() {
        None | Some("") => "core",
        Some(first) => first,
    };
    format!("*{package}.{kind}")
}
