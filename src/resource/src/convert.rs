//! Between the stored version and the request's.
// PERFORMANCE: per-request path

use crate::definition::{Conversion, ResourceDefinition};
use crate::{storage_codec, typed};
use fairlead_api::{Node, Status, StatusResult, json};
use fairlead_storage::{Cached, Forms};
use std::sync::Arc;

/// Whether objects are stored in the definition's own version.
pub fn is_stored_version(definition: &ResourceDefinition) -> bool {
    let stored = &definition.storage.kind;
    stored.version == definition.version && stored.group == definition.group
}

/// Whether a cached object is sent as it is.
pub fn is_as_stored(definition: &ResourceDefinition, object: &Cached) -> bool {
    is_stored_version(definition) && is_current(definition, object)
}

/// Whether a cached object is in the definition's version: custom objects may have been stored when another was.
fn is_current(definition: &ResourceDefinition, object: &Cached) -> bool {
    if !definition.is_custom() {
        return true;
    }
    let version = storage_codec::api_version(object.json.beginning());
    let rest = version
        .and_then(|v| v.strip_prefix(definition.group.as_bytes()))
        .and_then(|v| v.strip_prefix(b"/"));
    rest == Some(definition.version.as_bytes())
}

/// A cached object in the definition's version: itself, or a converted copy.
///
/// # Errors
/// What a conversion webhook answers.
pub async fn object(definition: &ResourceDefinition, object: Arc<Cached>) -> StatusResult<Arc<Cached>> {
    let mut objects = objects(definition, vec![object]).await?;
    objects
        .pop()
        .ok_or_else(|| Status::internal("the conversion lost the object"))
}

/// Cached objects in the definition's version, in the same order.
///
/// # Errors
/// What a conversion webhook answers.
pub async fn objects(definition: &ResourceDefinition, objects: Vec<Arc<Cached>>) -> StatusResult<Vec<Arc<Cached>>> {
    let current = is_stored_version(definition) && objects.iter().all(|object| is_current(definition, object));
    if current || objects.is_empty() {
        return Ok(objects);
    }
    if matches!(definition.conversion, Conversion::None) && !definition.is_custom() {
        return Ok(objects.into_iter().map(|object| renamed(definition, object)).collect());
    }
    let mut nodes = Vec::with_capacity(objects.len());
    for object in &objects {
        nodes.push(parse(object)?);
    }
    let nodes = nodes_to_request(definition, nodes).await?;
    if nodes.len() != objects.len() {
        return Err(Status::internal("the conversion lost objects"));
    }
    let converted = objects.iter().zip(nodes).map(|(object, node)| {
        Arc::new(storage_codec::cached(
            object.key.clone(),
            &node,
            object.revision,
            definition,
        ))
    });
    Ok(converted.collect())
}

/// A cached object, parsed and in the definition's version, resourceVersion included.
///
/// # Errors
/// What a conversion webhook answers.
pub async fn node(definition: &ResourceDefinition, object: &Cached) -> StatusResult<Node> {
    let node = parse(object)?;
    if is_stored_version(definition) && is_current(definition, object) {
        return Ok(node);
    }
    let mut nodes = nodes_to_request(definition, vec![node]).await?;
    nodes
        .pop()
        .ok_or_else(|| Status::internal("the conversion lost the object"))
}

/// An object of the definition's version in the stored version.
///
/// # Errors
/// What a conversion webhook answers.
pub async fn to_stored(definition: &ResourceDefinition, mut object: Node) -> StatusResult<Node> {
    if is_stored_version(definition) {
        return Ok(object);
    }
    let version = definition.storage.kind.group_version().to_string();
    match &definition.conversion {
        Conversion::None => {}
        Conversion::Builtin(convert) => convert(&mut object, &version),
        Conversion::Webhook(converter) => {
            let mut converted = converter.convert(vec![object], &version).await?;
            object = converted
                .pop()
                .ok_or_else(|| Status::internal("the conversion lost the object"))?;
        }
    }
    object.set("apiVersion", version);
    Ok(object)
}

/// What a dry run answers: the object as it would come back from the store, where the stored version may know less.
///
/// # Errors
/// What a conversion webhook answers.
pub async fn there_and_back(definition: &ResourceDefinition, object: Node) -> StatusResult<Node> {
    if is_stored_version(definition) || !definition.is_custom() {
        return Ok(object);
    }
    let mut stored = to_stored(definition, object).await?;
    if let Some(schema) = definition.schema_of(&definition.storage.kind.version) {
        typed::prune_as(&mut stored, schema);
    }
    let mut nodes = nodes_to_request(definition, vec![stored]).await?;
    nodes
        .pop()
        .ok_or_else(|| Status::internal("the conversion lost the object"))
}

/// Objects of the stored version in the definition's.
///
/// # Errors
/// What a conversion webhook answers.
pub async fn nodes_to_request(definition: &ResourceDefinition, mut nodes: Vec<Node>) -> StatusResult<Vec<Node>> {
    let version = definition.group_version().to_string();
    match &definition.conversion {
        Conversion::None => {}
        Conversion::Builtin(convert) => nodes.iter_mut().for_each(|node| convert(node, &version)),
        Conversion::Webhook(converter) => nodes = converter.convert(nodes, &version).await?,
    }
    for node in &mut nodes {
        node.set("apiVersion", version.as_str());
        match definition.is_custom() {
            true => typed::prune(node, definition),
            // What the stored version leaves out when it is zero may be what this one always shows.
            false => typed::complete(node, definition),
        }
    }
    Ok(nodes)
}

fn parse(object: &Cached) -> StatusResult<Node> {
    json::parse(&object.json.text()).map_err(Status::internal)
}

/// A copy that differs in `apiVersion` alone.
fn renamed(definition: &ResourceDefinition, object: Arc<Cached>) -> Arc<Cached> {
    let Some(start) = storage_codec::type_meta_len(object.json.beginning()) else {
        return object;
    };
    let head = format!(
        "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",",
        definition.kind,
        definition.group_version()
    );
    let mut json = Vec::with_capacity(head.len() + object.json.len() - start);
    json.extend_from_slice(head.as_bytes());
    object.json.write(start, &mut json);
    Arc::new(Cached {
        key: object.key.clone(),
        revision: object.revision,
        json: json.into(),
        header: object.header.clone(),
        forms: Forms::default(),
    })
}
