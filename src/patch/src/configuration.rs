//! Apply configurations that nobody owns: what a MutatingAdmissionPolicy merges into an object.
//!
//! Source: kubernetes/apiserver pkg/admission/plugin/policy/mutating/patch/smd.go.
// PERFORMANCE: per-request path

use crate::typed::merge::merge;
use crate::typed::validate::{Duplicates, validate};
use crate::typed::{Cursor, List};
use fairlead_api::Node;
use fairlead_schema::TypeRef;
use std::fmt::Write;

/// `object` with everything that `configuration` says.
///
/// # Errors
/// What does not fit the schema, and what would be replaced as a whole.
pub fn apply(object: &Node, configuration: &Node, schema: TypeRef) -> Result<Node, String> {
    let cursor = Cursor::root(schema);
    validate(cursor, configuration, Duplicates::Refused)
        .map_err(|mistakes| format!("failed to convert patch object to typed object: {mistakes}"))?;
    let mut atomics = Vec::new();
    find_atomics(cursor, configuration, &mut String::new(), &mut atomics);
    if !atomics.is_empty() {
        let atomics = atomics.join(", ");
        return Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {atomics}"
        ));
    }
    validate(cursor, object, Duplicates::Allowed)
        .map_err(|mistakes| format!("failed to convert original object to typed object: {mistakes}"))?;
    Ok(merge(cursor, object, configuration))
}

/// Lists, maps and structs that have no parts of their own: who sets one drops what is in it.
fn find_atomics(cursor: Cursor, node: &Node, path: &mut String, found: &mut Vec<String>) {
    let (atom, length) = (cursor.atom(), path.len());
    match node {
        Node::Map(members) if atom.map.is_some() => {
            if atom.map_is_atomic() {
                found.push(path.clone());
            }
            for (name, member) in members.iter() {
                if let Some((cursor, true)) = cursor.member(name) {
                    path.push('.');
                    path.push_str(name);
                    find_atomics(cursor, member, path, found);
                    path.truncate(length);
                }
            }
        }
        Node::List(items) if atom.list.is_some() => {
            if matches!(atom.list_semantics(), List::Atomic) {
                found.push(path.clone());
            }
            for (i, item) in items.iter().enumerate() {
                let _ = write!(path, "[{i}]");
                find_atomics(cursor.item(), item, path, found);
                path.truncate(length);
            }
        }
        _ => {}
    }
}
