//! Strategic merge patch: a merge patch that knows which lists merge, and by which key.
//!
//! Directives, as keys of patch objects: `$patch: replace | delete`, `$retainKeys`, `$setElementOrder/<list>` and
//! `$deleteFromPrimitiveList/<list>`; as an item of a merging list also `$patch`. Behaviour and wording follow
//! kubernetes/apimachinery pkg/util/strategicpatch.
// PERFORMANCE: per-request path

mod lookup;
mod order;

use crate::{PatchError, go_text};
use fairlead_api::{Map, Node};
use fairlead_schema::TypeRef;
use lookup::Lookup;
use order::Scalar;
use std::collections::{HashMap, HashSet};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ELEMENT_ORDER: &str = "$setElementOrder";
const DELETE_FROM_PRIMITIVE_LIST: &str = "$deleteFromPrimitiveList";

/// Merges `patch` into `doc`, an object of the built-in type `schema`. After an error `doc` is partly patched.
///
/// # Errors
/// [`PatchError::Malformed`] for directives of the wrong form; [`PatchError::Unclassified`] for items without their
/// merge key and the like, which upstream answers with 500.
pub fn apply(doc: &mut Node, patch: &Node, schema: TypeRef) -> Result<(), PatchError> {
    let Node::Map(patch) = patch else {
        if patch.is_null() {
            return Ok(());
        }
        let kind = if matches!(patch, Node::Int(_) | Node::Float(_)) {
            "number"
        } else {
            patch.type_name()
        };
        return Err(PatchError::Malformed(format!(
            "json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
        )));
    };
    let original = std::mem::take(doc.make_map());
    *doc = Node::Map(merge_map(original, patch.clone(), schema)?);
    Ok(())
}

fn merge_map(mut original: Map, mut patch: Map, schema: TypeRef) -> Result<Map, PatchError> {
    if let Some(directive) = patch.get(PATCH) {
        return match directive.as_str() {
            Some("replace") => {
                patch.remove(PATCH);
                Ok(patch)
            }
            Some("delete") => Ok(Map::new()),
            _ => Err(unknown_directive(directive, &patch)),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    merge_ordered_lists(&mut original, &mut patch, schema)?;
    for (key, value) in patch {
        if key.starts_with(DELETE_FROM_PRIMITIVE_LIST) {
            delete_from_list(&mut original, &key, value, schema)?;
        } else {
            merge_member(&mut original, &key, value, schema)?;
        }
    }
    Ok(original)
}

fn merge_member(original: &mut Map, key: &str, value: Node, schema: TypeRef) -> Result<(), PatchError> {
    if value.is_null() {
        original.remove(key);
        return Ok(());
    }
    match (original.get_mut(key), value) {
        (Some(Node::Map(old)), Node::Map(new)) => {
            let Lookup { ty, strategy, .. } = lookup::of_map(schema, key)?;
            let merged = if strategy.replace {
                new
            } else {
                merge_map(std::mem::take(old), new, ty)?
            };
            original.insert(key, Node::Map(merged));
        }
        (Some(Node::List(old)), Node::List(new)) => {
            let lookup = lookup::of_list(schema, key)?;
            if lookup.strategy.merge {
                *old = merge_list(std::mem::take(old), new, &lookup)?.0;
            } else {
                *old = new;
            }
        }
        // Of another type, or not there: the patch's value, without what only a merge understands.
        (_, mut new) => {
            discard_nulls(&mut new);
            match without_directives(new) {
                Some(new) => original.insert(key, new),
                None => original.remove(key),
            };
        }
    }
    Ok(())
}

// === directives ===

/// `$retainKeys` lists all members that stay; the patch may not set others.
fn retain_keys(original: &mut Map, patch: &mut Map) -> Result<(), PatchError> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let bad_format = || PatchError::Malformed("invalid patch format of retainKeys".into());
    let keys = keys.as_list().ok_or_else(bad_format)?;
    let keys: HashSet<&str> = keys.iter().filter_map(Node::as_str).collect();
    let covered = |(key, value): (&fairlead_api::Key, &Node)| {
        let directive = key.starts_with(DELETE_FROM_PRIMITIVE_LIST) || key.starts_with(SET_ELEMENT_ORDER);
        value.is_null() || directive || keys.contains(key.as_str())
    };
    if !patch.iter().all(covered) {
        return Err(bad_format());
    }
    original.retain(|key, _| keys.contains(key.as_str()));
    Ok(())
}

/// Merges the lists that have a `$setElementOrder`, and takes them and the directive out of `patch`.
fn merge_ordered_lists(original: &mut Map, patch: &mut Map, schema: TypeRef) -> Result<(), PatchError> {
    let directives: Vec<_> = patch
        .keys()
        .filter(|k| k.starts_with(SET_ELEMENT_ORDER))
        .cloned()
        .collect();
    for directive in directives {
        let wanted = as_list(patch.remove(&directive).unwrap_or_default())?;
        let bad = "invalid patch format of setElementOrder list";
        let key = directive_target(&directive, SET_ELEMENT_ORDER, bad)?;
        let old = original.get(key).cloned().map(as_list).transpose()?;
        let new = patch.get(key).cloned().map(as_list).transpose()?;
        let lookup = lookup::of_list(schema, key)?;
        order::check(new.as_deref().unwrap_or(&[]), &wanted, lookup.merge_key)?;
        let (merged, server_order, has_maps) = match (old, new) {
            (None, None) => continue,
            (Some(old), None) => {
                let has_maps = item_is_map(&[&old, &[]])?;
                (old.clone(), old, has_maps)
            }
            (None, Some(new)) => {
                let has_maps = item_is_map(&[&[], &new])?;
                let merged: Vec<Node> = new.into_iter().filter_map(without_directives).collect();
                (merged, Vec::new(), has_maps)
            }
            (Some(old), Some(new)) => {
                let has_maps = item_is_map(&[&old, &new])?;
                if lookup.strategy.merge {
                    let (merged, server_order) = merge_list(old, new, &lookup)?;
                    (merged, server_order, has_maps)
                } else {
                    (new, old, has_maps)
                }
            }
        };
        let ordered = order::arrange(merged, &wanted, &server_order, lookup.merge_key, has_maps)?;
        original.insert(key, Node::List(ordered));
        patch.remove(key);
    }
    Ok(())
}

fn delete_from_list(original: &mut Map, directive: &str, value: Node, schema: TypeRef) -> Result<(), PatchError> {
    let bad = "invalid patch format of primitive list";
    let key = directive_target(directive, DELETE_FROM_PRIMITIVE_LIST, bad)?;
    if value.is_null() {
        original.remove(key);
        return Ok(());
    }
    let (Some(Node::List(old)), Node::List(gone)) = (original.get_mut(key), value) else {
        return Ok(());
    };
    let lookup = lookup::of_list(schema, key)?;
    if old.is_empty() && gone.is_empty() {
        return Ok(());
    }
    if item_is_map(&[old, &gone])? {
        *old = merge_list(std::mem::take(old), gone, &lookup)?.0;
        return Ok(());
    }
    let gone: HashSet<Scalar> = gone.iter().filter_map(Scalar::of).collect();
    old.retain(|item| Scalar::of(item).is_none_or(|s| !gone.contains(&s)));
    Ok(())
}

/// What stands behind the slash of `$directive/list`.
fn directive_target<'k>(key: &'k str, directive: &str, bad_format: &str) -> Result<&'k str, PatchError> {
    match key.split_once('/') {
        Some((found, target)) if found == directive => Ok(target),
        _ => Err(PatchError::Malformed(bad_format.into())),
    }
}

// === lists ===

/// Merges `patch` into `original`. Also returns the order of what the server had and kept.
fn merge_list(original: Vec<Node>, patch: Vec<Node>, lookup: &Lookup) -> Result<(Vec<Node>, Vec<Node>), PatchError> {
    if original.is_empty() && patch.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    if !item_is_map(&[&original, &patch])? {
        let mut seen = HashSet::new();
        let merged: Vec<Node> = original
            .iter()
            .chain(&patch)
            .filter(|n| Scalar::of(n).is_none_or(|s| seen.insert(s)))
            .cloned()
            .collect();
        let ordered = order::arrange(merged, &patch, &original, lookup.merge_key, false)?;
        return Ok((ordered, original));
    }
    if lookup.merge_key.is_empty() {
        return Err(PatchError::Unclassified(format!(
            "cannot merge lists without merge key for {}",
            lookup::go_kind(lookup.ty)
        )));
    }
    let (original, patch) = obey_item_directives(original, patch, lookup.merge_key)?;
    let server_order = keys_only(&original, lookup.merge_key);
    let patch_order = keys_only(&patch, lookup.merge_key);
    let merged = merge_items(original, patch, lookup)?;
    let ordered = order::arrange(merged, &patch_order, &server_order, lookup.merge_key, true)?;
    Ok((ordered, server_order))
}

/// Takes items with `$patch` out of `patch`: `delete` removes the items of that key, `replace` makes the rest of the
/// patch the whole list.
fn obey_item_directives(
    mut original: Vec<Node>,
    patch: Vec<Node>,
    merge_key: &str,
) -> Result<(Vec<Node>, Vec<Node>), PatchError> {
    let mut rest = Vec::with_capacity(patch.len());
    let mut deleted: HashSet<Scalar> = HashSet::new();
    let mut replace = false;
    for item in &patch {
        let Some(directive) = item.get(PATCH) else {
            rest.push(item.clone());
            continue;
        };
        match directive.as_str() {
            Some("delete") => deleted.extend(Scalar::of(key_of(item, merge_key)?)),
            Some("replace") => replace = true,
            Some("merge") => {
                return Err(PatchError::Unclassified(
                    "merging lists cannot yet be specified in the patch".into(),
                ));
            }
            _ => return Err(unknown_directive(directive, item.as_map().unwrap_or(&Map::new()))),
        }
    }
    if replace {
        return Ok((rest, Vec::new()));
    }
    if !deleted.is_empty() {
        original.retain(|item| {
            item.get(merge_key)
                .and_then(Scalar::of)
                .is_none_or(|s| !deleted.contains(&s))
        });
    }
    Ok((original, rest))
}

/// Merges each item of `patch` into the first of the same key, or appends it.
fn merge_items(mut original: Vec<Node>, patch: Vec<Node>, lookup: &Lookup) -> Result<Vec<Node>, PatchError> {
    let mut places: HashMap<Scalar<'static>, usize> = HashMap::new();
    for (i, item) in original.iter().enumerate() {
        if let Some(key) = item.get(lookup.merge_key).and_then(Scalar::of) {
            places.entry(key.into_owned()).or_insert(i);
        }
    }
    for item in patch {
        let key = Scalar::of(key_of(&item, lookup.merge_key)?).map(Scalar::into_owned);
        match (key.as_ref().and_then(|key| places.get(key)), item) {
            (Some(&i), Node::Map(item)) => {
                let old = std::mem::take(original[i].make_map());
                original[i] = Node::Map(merge_map(old, item, lookup.ty)?);
            }
            (_, item) => {
                if let Some(key) = key {
                    places.insert(key, original.len());
                }
                original.push(item);
            }
        }
    }
    Ok(original)
}

fn keys_only(items: &[Node], merge_key: &str) -> Vec<Node> {
    let reduced = |item: &Node| match item.get(merge_key) {
        Some(key) => Node::Map([(merge_key, key.clone())].into_iter().collect()),
        None => item.clone(),
    };
    items.iter().map(reduced).collect()
}

/// Whether the items of all `lists` are objects; they must all be of one type.
fn item_is_map(lists: &[&[Node]]) -> Result<bool, PatchError> {
    let mut items = lists.iter().flat_map(|l| l.iter());
    let Some(first) = items.next() else {
        return Err(PatchError::Unclassified(
            "no elements in any of the given slices".into(),
        ));
    };
    if matches!(first, Node::List(_)) {
        return Err(PatchError::DoesNotApply("lists of lists are not supported".into()));
    }
    if items.any(|item| std::mem::discriminant(item) != std::mem::discriminant(first)) {
        let lists: Vec<String> = lists.iter().map(|l| go_text::value(&Node::List(l.to_vec()))).collect();
        return Err(PatchError::Unclassified(format!(
            "list element types are not identical: [{}]",
            lists.join(" ")
        )));
    }
    Ok(matches!(first, Node::Map(_)))
}

fn key_of<'a>(item: &'a Node, merge_key: &str) -> Result<&'a Node, PatchError> {
    item.get(merge_key).ok_or_else(|| {
        PatchError::Unclassified(format!(
            "map: {} does not contain declared merge key: {merge_key}",
            go_text::value(item)
        ))
    })
}

fn as_list(node: Node) -> Result<Vec<Node>, PatchError> {
    match node {
        Node::List(items) => Ok(items),
        other => Err(wrong_type("[]interface {}", &other)),
    }
}

fn wrong_type(expected: &str, actual: &Node) -> PatchError {
    PatchError::Unclassified(format!(
        "expected a {expected}, but received a {}",
        go_text::type_name(actual)
    ))
}

fn unknown_directive(directive: &Node, patch: &Map) -> PatchError {
    PatchError::Unclassified(format!(
        "unknown patch type: {} in map: {}",
        go_text::string_verb(directive),
        go_text::value(&Node::Map(patch.clone()))
    ))
}

// === values taken as they are ===

/// Removes null members at any depth, also in lists; null items stay.
fn discard_nulls(node: &mut Node) {
    match node {
        Node::Map(map) => map.retain(|_, value| {
            discard_nulls(value);
            !value.is_null()
        }),
        Node::List(items) => items.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

/// `node` without the objects that carry `$patch`; `None` where it is one.
fn without_directives(node: Node) -> Option<Node> {
    match node {
        Node::Map(map) if map.contains_key(PATCH) => None,
        Node::Map(map) => {
            let kept = map
                .into_iter()
                .filter_map(|(k, v)| without_directives(v).map(|v| (k, v)));
            Some(Node::Map(kept.collect()))
        }
        Node::List(items) => Some(Node::List(items.into_iter().filter_map(without_directives).collect())),
        scalar => Some(scalar),
    }
}

#[cfg(test)]
mod tests;
