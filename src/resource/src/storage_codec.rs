//! Objects as they are stored: compact JSON, `kind` and `apiVersion` first, without `metadata.resourceVersion`;
//! and as they are served: the same bytes with the resourceVersion spliced in.
// PERFORMANCE: per-request path

use bytes::Bytes;
use fairlead_api::{Node, json};

/// Writes an object the way it is stored: `{"kind":…,"apiVersion":…,"metadata":{…},…}`, the rest sorted.
/// `metadata.resourceVersion` is left out.
pub fn encode(object: &Node) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    write_object(object, None, &mut out);
    out
}

/// Writes an object the way it is served, with `resource_version` in its metadata.
pub fn encode_served(object: &Node, resource_version: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    write_object(object, Some(resource_version), &mut out);
    out
}

/// The members of a served object behind its leading `kind` and `apiVersion`, as JSON: what stands in a list of a
/// built-in kind. Objects that do not begin so come back whole.
pub fn untyped(json: &Bytes) -> Bytes {
    match type_meta_len(json) {
        // The brace is the byte before the first member; a comma stands there, so the caller writes the brace.
        Some(end) => json.slice(end..),
        None => json.slice(1.min(json.len())..),
    }
}

/// The length of `{"kind":"…","apiVersion":"…",` where an object begins with it.
pub fn type_meta_len(json: &[u8]) -> Option<usize> {
    let rest = json.strip_prefix(br#"{"kind":""#)?;
    let kind = rest.iter().position(|b| *b == b'"')?;
    let rest = rest[kind..].strip_prefix(br#"","apiVersion":""#)?;
    let version = rest.iter().position(|b| *b == b'"')?;
    rest[version..].starts_with(b"\",").then(|| 9 + kind + 16 + version + 2)
}

fn write_object(object: &Node, resource_version: Option<&str>, out: &mut Vec<u8>) {
    let Node::Map(members) = object else {
        json::write(object, out);
        return;
    };
    out.push(b'{');
    for key in ["kind", "apiVersion"] {
        if let Some(value) = members.get(key) {
            member(key, value, out);
        }
    }
    if let Some(metadata) = members.get("metadata") {
        separate(out);
        out.extend_from_slice(b"\"metadata\":");
        write_metadata(metadata, resource_version, out);
    }
    for (key, value) in members.iter() {
        if !matches!(key.as_str(), "kind" | "apiVersion" | "metadata") {
            member(key, value, out);
        }
    }
    out.push(b'}');
}

fn write_metadata(metadata: &Node, resource_version: Option<&str>, out: &mut Vec<u8>) {
    let Node::Map(members) = metadata else {
        json::write(metadata, out);
        return;
    };
    out.push(b'{');
    for (key, value) in members.iter() {
        if key != "resourceVersion" {
            member(key, value, out);
        }
    }
    if let Some(version) = resource_version {
        separate(out);
        out.extend_from_slice(b"\"resourceVersion\":");
        json::write_str(version, out);
    }
    out.push(b'}');
}

fn member(key: &str, value: &Node, out: &mut Vec<u8>) {
    separate(out);
    json::write_str(key, out);
    out.push(b':');
    json::write(value, out);
}

fn separate(out: &mut Vec<u8>) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn type_meta_stands_first_and_can_be_cut_off() {
        let object = node!({"apiVersion": "v1", "a": 1, "kind": "Thing", "metadata": {"name": "x", "resourceVersion": "7"}});
        let stored = encode(&object);
        assert_eq!(stored, br#"{"kind":"Thing","apiVersion":"v1","metadata":{"name":"x"},"a":1}"#);
        let served = Bytes::from(encode_served(&object, "9"));
        assert_eq!(&served[..], br#"{"kind":"Thing","apiVersion":"v1","metadata":{"name":"x","resourceVersion":"9"},"a":1}"#);
        assert_eq!(&untyped(&served)[..], br#""metadata":{"name":"x","resourceVersion":"9"},"a":1}"#);
        assert_eq!(&untyped(&Bytes::from_static(b"{\"a\":1}"))[..], b"\"a\":1}");
    }
}
