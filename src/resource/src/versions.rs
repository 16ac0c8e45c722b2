//! Objects between the versions of a resource, for those who look at them on the way to the store (admission).
// PERFORMANCE: per-request path

use crate::definition::{Conversion, ResourceDefinition};
use crate::{convert, typed};
use fairlead_api::field::go_quote;
use fairlead_api::{GroupVersionKind, Node, Status, StatusResult};
use fairlead_patch::configuration;
use fairlead_schema as schema;

/// An object of `from`'s version in `to`'s.
///
/// # Errors
/// What a conversion webhook answers.
pub async fn between(from: &ResourceDefinition, object: Node, to: &ResourceDefinition) -> StatusResult<Node> {
    if let Conversion::Webhook(converter) = &from.conversion {
        let mut converted = converter.convert(vec![object], &to.group_version().to_string()).await?;
        return converted
            .pop()
            .ok_or_else(|| Status::internal("the conversion lost the object"));
    }
    let stored = convert::to_stored(from, object).await?;
    if convert::is_stored_version(to) {
        return Ok(stored);
    }
    let mut objects = convert::nodes_to_request(to, vec![stored]).await?;
    objects
        .pop()
        .ok_or_else(|| Status::internal("the conversion lost the object"))
}

/// Reads an object that somebody changed as if it came from a client: types are checked, defaults filled in.
/// `kind` is the resource's, or the one of a subresource.
///
/// # Errors
/// Go's words for what cannot be read.
pub fn reread(object: &mut Node, definition: &ResourceDefinition, kind: &GroupVersionKind) -> Result<(), String> {
    if definition.is_custom() && *kind == definition.gvk() {
        // Read without a type; what is wrong with it is found by validation.
        typed::prune(object, definition);
        typed::default(object, definition);
        return Ok(());
    }
    for (field, value) in [
        ("kind", kind.kind.to_string()),
        ("apiVersion", kind.group_version().to_string()),
    ] {
        if object.str(field).is_empty() {
            object.set(field, value);
        }
    }
    if object.type_meta() != *kind {
        let (given, version) = (go_quote(object.str("kind")), go_quote(object.str("apiVersion")));
        return Err(format!(
            "no kind {given} is registered for version {version} in scheme \"pkg/api/legacyscheme/scheme.go:30\""
        ));
    }
    if *kind == definition.gvk() {
        typed::decode(object, &definition.schema, false, None)?;
        typed::default(object, definition);
        return Ok(());
    }
    if let Some(schema) = subresource_schema(definition, kind) {
        typed::decode(object, schema, false, None)?;
        schema::set_defaults(object, schema.root());
    }
    Ok(())
}

/// `object` with an apply configuration merged into it. `kind` is the resource's, or the one of a subresource.
///
/// # Errors
/// What structured-merge-diff says.
pub fn configure(
    object: &Node,
    config: &Node,
    definition: &ResourceDefinition,
    kind: &GroupVersionKind,
) -> Result<Node, String> {
    let schema = match *kind == definition.gvk() {
        true => Some(&definition.schema),
        false => subresource_schema(definition, kind),
    };
    match schema {
        Some(schema) => configuration::apply(object, config, schema.root()),
        None => Err(format!("no schema is known of {}", kind.kind)),
    }
}

fn subresource_schema<'d>(definition: &'d ResourceDefinition, kind: &GroupVersionKind) -> Option<&'d schema::Schema> {
    let mut subresources = definition.subresources.iter();
    subresources
        .find(|subresource| subresource.kind == *kind)?
        .schema
        .as_ref()
}
