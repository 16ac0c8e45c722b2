//! What the server itself does to metadata: names, uids, times, namespaces, generations, owner references.
// PERFORMANCE: per-request path

use crate::call::Call;
use crate::hooks::Entropy;
use compact_str::CompactString;
use fairlead_api::{Key, Node, Status, StatusResult, Timestamp};
use std::fmt::Write;

/// Clears what clients may not set on create.
pub fn wipe(object: &mut Node) {
    let meta = object.meta_mut();
    for key in [
        "creationTimestamp",
        "uid",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
    ] {
        meta.remove(key);
    }
}

/// Gives a new object its creation time and uid, and its name where it asks for a generated one.
pub fn fill(object: &mut Node, now: Timestamp, entropy: &dyn Entropy) {
    let meta = object.meta_mut();
    meta.insert("creationTimestamp", Node::from(now.rfc3339()));
    meta.insert("uid", Node::String(uid(entropy)));
    if object.name().is_empty() {
        let prefix = object.str_at(&["metadata", "generateName"]);
        if !prefix.is_empty() {
            let name = generated_name(prefix, entropy);
            object.meta_mut().insert("name", Node::String(name));
        }
    }
}

/// Makes the object's namespace the request's.
///
/// # Errors
/// BadRequest where both are given and differ.
pub fn ensure_namespace(object: &mut Node, namespace: &str) -> StatusResult<()> {
    let own = object.namespace();
    if own == namespace {
        return Ok(());
    }
    if !own.is_empty() && !namespace.is_empty() {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    if namespace.is_empty() {
        object.meta_mut().remove("namespace");
    } else {
        object.meta_mut().insert("namespace", Node::string(namespace));
    }
    Ok(())
}

/// Refuses an object whose name is not the path's.
///
/// # Errors
/// BadRequest.
pub fn check_name(object: &Node, name: &str, namespace: &str) -> StatusResult<()> {
    let (own, own_namespace) = (object.name(), object.namespace());
    if own.is_empty() {
        return Err(Status::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        )));
    }
    if own != name {
        return Err(Status::bad_request(format!(
            "the name of the object ({own}) does not match the name on the URL ({name})"
        )));
    }
    if !namespace.is_empty() && !own_namespace.is_empty() && own_namespace != namespace {
        return Err(Status::bad_request(format!(
            "the namespace of the object ({own_namespace}) does not match the namespace on the request ({namespace})"
        )));
    }
    Ok(())
}

/// Removes owner references that stand twice, with a warning.
pub fn dedup_owner_references(call: &mut Call, object: &mut Node, after_admission: bool) {
    let Some(Node::List(references)) = object.at_mut(&["metadata", "ownerReferences"]) else {
        return;
    };
    if references.len() < 2 {
        return;
    }
    let mut duplicates = Vec::new();
    let mut kept: Vec<Node> = Vec::with_capacity(references.len());
    for reference in references.drain(..) {
        if kept.contains(&reference) {
            duplicates.push(reference.str("uid").to_owned());
        } else {
            kept.push(reference);
        }
    }
    *references = kept;
    if !duplicates.is_empty() {
        let when = if after_admission {
            " after mutating admission happens"
        } else {
            ""
        };
        call.warn(format!(
            ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, \
             and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
            duplicates.join(", ")
        ));
    }
}

/// Puts back what an update may not change, and the uid where it is left out.
pub fn restore(object: &mut Node, old: &Node) {
    let kept = |key: &str| old.at(&["metadata", key]).filter(|value| !value.is_null()).cloned();
    let meta = object.meta_mut();
    if meta.get("uid").and_then(Node::as_str).unwrap_or("").is_empty()
        && let Some(uid) = kept("uid")
    {
        meta.insert("uid", uid);
    }
    for key in ["creationTimestamp", "deletionTimestamp"] {
        if let Some(value) = kept(key) {
            meta.insert(key, value);
        }
    }
    if meta.get("deletionGracePeriodSeconds").is_none_or(Node::is_null)
        && let Some(seconds) = kept("deletionGracePeriodSeconds")
    {
        meta.insert("deletionGracePeriodSeconds", seconds);
    }
}

/// Sets `metadata.generation`; 0 is absent.
pub fn set_generation(object: &mut Node, generation: i64) {
    let meta = object.meta_mut();
    if generation == 0 {
        meta.remove("generation");
    } else {
        meta.insert("generation", Node::Int(generation));
    }
}

/// Whether two objects are equal outside their metadata, `status` left out where it is a subresource. `equal` compares
/// members.
pub fn same_outside_metadata(
    one: &Node,
    other: &Node,
    ignore_status: bool,
    equal: impl Fn(Option<&Node>, Option<&Node>) -> bool,
) -> bool {
    let (Node::Map(one), Node::Map(other)) = (one, other) else {
        return one == other;
    };
    let counts = |key: &str| key != "metadata" && !(ignore_status && key == "status");
    let same = |(key, value): (&Key, &Node)| !counts(key) || equal(Some(value), other.get(key));
    let gone = |(key, value): (&Key, &Node)| counts(key) && !one.contains_key(key) && !equal(None, Some(value));
    one.iter().all(same) && !other.iter().any(gone)
}

/// A random (version 4) UUID.
pub fn uid(entropy: &dyn Entropy) -> CompactString {
    let high = entropy.bits() & !0xf000 | 0x4000;
    let low = entropy.bits() & !(0b11 << 62) | (0b10 << 62);
    let mut text = CompactString::with_capacity(36);
    write!(
        text,
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
    .expect("writing to a string cannot fail");
    text
}

/// `prefix` and five random characters, 63 at most.
pub fn generated_name(prefix: &str, entropy: &dyn Entropy) -> CompactString {
    let end = (0..=prefix.len().min(GENERATED_PREFIX_MAX))
        .rev()
        .find(|i| prefix.is_char_boundary(*i))
        .unwrap_or(0);
    let mut name = CompactString::from(&prefix[..end]);
    let mut bits = entropy.bits();
    for _ in 0..5 {
        name.push(char::from(NAME_LETTERS[(bits % NAME_LETTERS.len() as u64) as usize]));
        bits /= NAME_LETTERS.len() as u64;
    }
    name
}

/// No vowels, no digits that look like letters.
const NAME_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const GENERATED_PREFIX_MAX: usize = 58;

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::alike;
    use fairlead_api::node;

    struct Fixed(u64);

    impl Entropy for Fixed {
        fn bits(&self) -> u64 {
            self.0
        }
    }

    #[test]
    fn uids_are_version_four() {
        let text = uid(&Fixed(u64::MAX));
        assert_eq!(text, "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(uid(&Fixed(0)), "00000000-0000-4000-8000-000000000000");
    }

    #[test]
    fn generated_names_stay_within_a_label() {
        let name = generated_name(&"a".repeat(80), &Fixed(12345));
        assert_eq!(name.len(), 63);
        assert_eq!(generated_name("x-", &Fixed(0)), "x-bbbbb");
    }

    #[test]
    fn namespaces_must_agree() {
        let mut object = node!({"metadata": {"name": "a"}});
        ensure_namespace(&mut object, "n").unwrap();
        assert_eq!(object.namespace(), "n");
        assert_eq!(ensure_namespace(&mut object, "m").unwrap_err().code(), 400);
        ensure_namespace(&mut object, "").unwrap();
        assert_eq!(object.namespace(), "");
    }

    #[test]
    fn generations_count_what_is_outside_metadata() {
        let old = node!({"metadata": {"a": 1}, "spec": {"x": 1}, "status": {}});
        let new = node!({"metadata": {"a": 2}, "spec": {"x": 1}, "status": {"y": 1}});
        assert!(same_outside_metadata(&old, &new, true, alike));
        assert!(!same_outside_metadata(&old, &new, false, alike));
    }
}
