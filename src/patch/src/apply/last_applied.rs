//! kubectl's own record of what it applied: an annotation, from which server-side apply takes over.

use super::{Conflict, Manager};
use crate::fields::FieldSet;
use crate::typed::Cursor;
use crate::typed::compare::compare;
use crate::typed::to_set::to_set;
use crate::typed::validate::{Duplicates, validate};
use fairlead_api::{Node, json};
use fairlead_schema::TypeRef;

/// The only manager this is for.
pub const MANAGER: &str = "kubectl";

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
const MAX_ANNOTATIONS: usize = 256 << 10;

/// The conflicts that remain: those about fields that the annotation has as the object has them are none.
pub fn unresolved(
    conflicts: Vec<Conflict>,
    live: &Node,
    config: &Node,
    schema: TypeRef,
    manager: &Manager,
) -> Vec<Conflict> {
    match owned_by_annotation(live, config, schema, manager) {
        Some(set) => conflicts
            .into_iter()
            .filter(|conflict| !set.contains(&conflict.path))
            .collect(),
        None => conflicts,
    }
}

/// What the annotation says was applied and still is so. `None` where it cannot be told.
fn owned_by_annotation(live: &Node, config: &Node, schema: TypeRef, manager: &Manager) -> Option<FieldSet> {
    let applied = json::parse(annotation(live)?.as_bytes()).ok()?;
    if applied.str("apiVersion") != manager.api_version || applied.str("kind") != config.str("kind") {
        return None;
    }
    let cursor = Cursor::root(schema);
    validate(cursor, live, Duplicates::Refused).ok()?;
    validate(cursor, &applied, Duplicates::Refused).ok()?;
    let comparison = compare(cursor, &applied, live);
    let set = to_set(cursor, &applied);
    Some(
        set.difference(&comparison.modified)
            .difference(&comparison.added)
            .difference(&comparison.removed),
    )
}

/// Brings the annotation up to date, where there is one.
pub fn refresh(object: &mut Node, config: &Node) {
    if annotation(object).is_none() {
        return;
    }
    let mut applied = config.clone();
    applied.remove_at(&["metadata", "annotations", ANNOTATION]);
    let text = format!("{}\n", json::to_string(&applied));
    let Some(Node::Map(annotations)) = object.at_mut(&["metadata", "annotations"]) else {
        return;
    };
    annotations.insert(ANNOTATION, Node::string(text));
    let size: usize = annotations
        .iter()
        .map(|(k, v)| k.len() + v.as_str().map_or(0, str::len))
        .sum();
    if size > MAX_ANNOTATIONS {
        annotations.remove(ANNOTATION);
    }
}

fn annotation(object: &Node) -> Option<&str> {
    object
        .annotations()?
        .get(ANNOTATION)?
        .as_str()
        .filter(|text| !text.is_empty())
}
