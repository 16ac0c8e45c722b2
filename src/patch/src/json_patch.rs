//! JSON patch (RFC 6902), as lenient and as strict as the Go library kube-apiserver uses (evanphx/json-patch v4).
// PERFORMANCE: per-request path

use crate::PatchError;
use fairlead_api::{Node, json};
use std::borrow::Cow;

/// How many operations one patch may have.
pub const MAX_OPERATIONS: usize = 10_000;

/// How many bytes of JSON all `copy` operations of one patch may add.
pub const MAX_COPIED_BYTES: usize = 3 << 20;

/// Applies all operations in order. After an error `doc` is partly patched: throw it away.
///
/// # Errors
/// [`PatchError::Malformed`] where `patch` is not a list of objects, [`PatchError::TooManyOperations`], and
/// [`PatchError::DoesNotApply`] for everything an operation can trip over.
pub fn apply(doc: &mut Node, patch: &Node) -> Result<(), PatchError> {
    let operations = operations(patch)?;
    if operations.len() > MAX_OPERATIONS {
        return Err(PatchError::TooManyOperations {
            limit: MAX_OPERATIONS,
            got: operations.len(),
        });
    }
    let mut copied = 0;
    for operation in operations {
        step(doc, operation, &mut copied).map_err(PatchError::DoesNotApply)?;
    }
    if deeper_than(doc, json::MAX_DEPTH) {
        return Err(PatchError::DoesNotApply("the patched document nests too deeply".into()));
    }
    Ok(())
}

/// What strict decoding finds in a patch: `json patch unknown field "[0].comment"`.
pub fn unknown_fields(patch: &Node) -> Vec<String> {
    let known = |name: &str| matches!(name, "op" | "path" | "from" | "value");
    let mut found = Vec::new();
    for (i, operation) in patch.as_list().into_iter().flatten().enumerate() {
        let names = operation.as_map().into_iter().flat_map(|m| m.keys());
        found.extend(
            names
                .filter(|n| !known(n))
                .map(|n| format!("json patch unknown field \"[{i}].{n}\"")),
        );
    }
    found
}

fn operations(patch: &Node) -> Result<&[Node], PatchError> {
    let operations: &[Node] = match patch {
        Node::Null => &[],
        Node::List(operations) => operations,
        other => return Err(undecodable(other, "[]handlers.jsonPatchOp")),
    };
    for operation in operations {
        match operation {
            Node::Map(members) => {
                for name in ["op", "path", "from"] {
                    match members.get(name) {
                        None | Some(Node::Null | Node::String(_)) => {}
                        Some(other) => {
                            let message = format!(
                                "error decoding patch: json: cannot unmarshal {} into Go struct field jsonPatchOp.{name} of type string",
                                json_kind(other)
                            );
                            return Err(PatchError::Malformed(message));
                        }
                    }
                }
            }
            Node::Null => {}
            other => return Err(undecodable(other, "handlers.jsonPatchOp")),
        }
    }
    Ok(operations)
}

fn undecodable(node: &Node, go_type: &str) -> PatchError {
    let kind = json_kind(node);
    PatchError::Malformed(format!(
        "error decoding patch: json: cannot unmarshal {kind} into Go value of type {go_type}"
    ))
}

fn json_kind(node: &Node) -> &'static str {
    match node {
        Node::Bool(_) => "bool",
        Node::Int(_) | Node::Float(_) => "number",
        other => other.type_name(),
    }
}

/// Applies one operation. The texts are upstream's: a webhook's author reads them.
fn step(doc: &mut Node, operation: &Node, copied: &mut usize) -> Result<(), String> {
    let kind = operation.get("op").and_then(Node::as_str).unwrap_or("unknown");
    let path = operation.get("path").and_then(Node::as_str);
    let from = operation.get("from").and_then(Node::as_str);
    // COMPAT: an operation without a value works with null.
    let value = || operation.get("value").cloned().unwrap_or_default();
    let need_path = || {
        path.ok_or_else(|| match kind {
            "add" | "remove" | "copy" => format!("{kind} operation failed to decode path: missing value"),
            _ => format!("{kind} operation failed to decode path: operation missing path field: missing value"),
        })
    };
    let need_from = || {
        from.ok_or_else(|| {
            format!("{kind} operation failed to decode from: operation, missing from field: missing value")
        })
    };
    let missing =
        |path: &str| format!("{kind} operation does not apply: doc is missing path: \"{path}\": missing value");
    match kind {
        "add" => {
            let path = need_path()?;
            let (place, key) = find(doc, path).ok_or_else(|| missing(path))?;
            add(place, &key, value()).map_err(|e| format!("error in add for path: '{path}': {e}"))
        }
        "remove" => {
            let path = need_path()?;
            let (place, key) = find(doc, path).ok_or_else(|| missing(path))?;
            remove(place, &key)
                .map(drop)
                .map_err(|e| format!("error in remove for path: '{path}': {e}"))
        }
        "replace" => replace(doc, need_path()?, value()),
        "move" => {
            let from = need_from()?;
            let (place, key) = find(doc, from).ok_or_else(|| {
                format!("move operation does not apply: doc is missing from path: {from}: missing value")
            })?;
            let moved = remove(place, &key).map_err(|e| format!("error in move for path: '{key}': {e}"))?;
            let path = need_path()?;
            let (place, key) = find(doc, path).ok_or_else(|| missing_destination(kind, path))?;
            add(place, &key, moved).map_err(|e| format!("error in move for path: '{path}': {e}"))
        }
        "copy" => {
            let from = need_from()?;
            let (place, key) = find(doc, from).ok_or_else(|| {
                format!("copy operation does not apply: doc is missing from path: {from}: missing value")
            })?;
            let source = get(place, &key).map_err(|e| format!("error in copy for from: '{from}': {e}"))?;
            *copied += source.map_or(0, |node| json::to_vec(node).len());
            let source = source.cloned().unwrap_or_default();
            let path = need_path()?;
            let (place, key) = find(doc, path).ok_or_else(|| missing_destination(kind, path))?;
            if *copied > MAX_COPIED_BYTES {
                return Err(format!(
                    "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {MAX_COPIED_BYTES}"
                ));
            }
            add(place, &key, source).map_err(|e| format!("error while adding value during copy: {e}"))
        }
        "test" => test(doc, need_path()?, &value()),
        other => Err(format!("Unexpected kind: {other}")),
    }
}

fn replace(doc: &mut Node, path: &str, value: Node) -> Result<(), String> {
    if path.is_empty() {
        if !matches!(value, Node::Map(_) | Node::List(_)) {
            // COMPAT: Go formats an error that is not there.
            return Err("replace operation value must be object or array: %!w(<nil>)".into());
        }
        *doc = value;
        return Ok(());
    }
    let (place, key) = find(doc, path)
        .ok_or_else(|| format!("replace operation does not apply: doc is missing path: {path}: missing value"))?;
    match place {
        // COMPAT: an absent member may be replaced.
        Node::Map(map) => drop(map.insert(&*key, value)),
        Node::List(items) => match existing(items, &key) {
            Ok(i) => items[i] = value,
            Err(_) => {
                return Err(format!(
                    "replace operation does not apply: doc is missing key: {path}: missing value"
                ));
            }
        },
        _ => {}
    }
    Ok(())
}

fn test(doc: &mut Node, path: &str, value: &Node) -> Result<(), String> {
    let same = if path.is_empty() {
        doc == value
    } else {
        let (place, key) = find(doc, path)
            .ok_or_else(|| format!("test operation does not apply: is missing path: {path}: missing value"))?;
        let found = get(place, &key).map_err(|e| format!("error in test for path: '{path}': {e}"))?;
        found.unwrap_or(&Node::Null) == value
    };
    if same {
        Ok(())
    } else {
        Err(format!("testing value {path} failed: test failed"))
    }
}

fn missing_destination(kind: &str, path: &str) -> String {
    format!("{kind} operation does not apply: doc is missing destination path: {path}: missing value")
}

// === places ===

/// The object or list that holds the last part of `path`, and that part. What stands before the first slash is ignored.
fn find<'a, 'p>(doc: &'a mut Node, path: &'p str) -> Option<(&'a mut Node, Cow<'p, str>)> {
    let (_, path) = path.split_once('/')?;
    let (parents, key) = path
        .rsplit_once('/')
        .map_or((None, path), |(parents, key)| (Some(parents), key));
    let mut place = doc;
    for part in parents.into_iter().flat_map(|p| p.split('/')) {
        let part = unescape(part);
        place = match place {
            Node::Map(map) => map.get_mut(&part)?,
            Node::List(items) => {
                let i = existing(items, &part).ok()?;
                &mut items[i]
            }
            _ => return None,
        };
    }
    matches!(place, Node::Map(_) | Node::List(_)).then(|| (place, unescape(key)))
}

/// RFC 6901: `~1` is a slash, `~0` a tilde.
fn unescape(part: &str) -> Cow<'_, str> {
    if !part.contains('~') {
        return Cow::Borrowed(part);
    }
    let mut out = String::with_capacity(part.len());
    let mut rest = part;
    while let Some(i) = rest.find('~') {
        out.push_str(&rest[..i]);
        let (plain, used) = match rest.as_bytes().get(i + 1) {
            Some(b'0') => ('~', 2),
            Some(b'1') => ('/', 2),
            _ => ('~', 1),
        };
        out.push(plain);
        rest = &rest[i + used..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

fn get<'a>(place: &'a Node, key: &str) -> Result<Option<&'a Node>, String> {
    match place {
        Node::Map(map) => Ok(map.get(key)),
        Node::List(items) => existing(items, key).map(|i| items.get(i)),
        _ => Ok(None),
    }
}

fn add(place: &mut Node, key: &str, value: Node) -> Result<(), String> {
    match place {
        Node::Map(map) => drop(map.insert(key, value)),
        Node::List(items) if key == "-" => items.push(value),
        Node::List(items) => {
            let index = number(key).map_err(|e| format!("value was not a proper array index: '{key}': {e}"))?;
            // One more place than there are items: behind the last.
            let at = position(index, items.len() + 1)?;
            items.insert(at, value);
        }
        _ => {}
    }
    Ok(())
}

fn remove(place: &mut Node, key: &str) -> Result<Node, String> {
    match place {
        Node::Map(map) => map
            .remove(key)
            .ok_or_else(|| format!("Unable to remove nonexistent key: {key}: missing value")),
        Node::List(items) => existing(items, key).map(|i| items.remove(i)),
        _ => Ok(Node::Null),
    }
}

/// The position of an item that is there. Negative indices count from the end.
fn existing(items: &[Node], key: &str) -> Result<usize, String> {
    position(number(key)?, items.len())
}

fn position(index: i64, length: usize) -> Result<usize, String> {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let at = if index < 0 { index.saturating_add(length) } else { index };
    if at < 0 || at >= length {
        return Err(format!(
            "Unable to access invalid index: {index}: invalid index referenced"
        ));
    }
    usize::try_from(at).map_err(|e| e.to_string())
}

fn number(key: &str) -> Result<i64, String> {
    key.parse().map_err(|_| {
        format!(
            "strconv.Atoi: parsing {}: invalid syntax",
            fairlead_api::field::go_quote(key)
        )
    })
}

/// Moves can nest a document deeper than any body may be.
fn deeper_than(node: &Node, levels: usize) -> bool {
    match node {
        Node::Map(map) => levels == 0 || map.values().any(|v| deeper_than(v, levels - 1)),
        Node::List(items) => levels == 0 || items.iter().any(|v| deeper_than(v, levels - 1)),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
