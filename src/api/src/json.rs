//! Reads and writes [`Node`] trees as JSON, with Go's rules where they differ from serde_json's.
// PERFORMANCE: per-request path

use crate::node::{Key, Map, Node};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// How deep arrays and objects may nest in anything a client sends.
///
/// Go stops at 10,000; no API object comes near this bound, and every walk over a tree may recurse this deep.
pub const MAX_DEPTH: usize = 500;

/// Why a body is not JSON. Displays in the words of Go's `encoding/json`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SyntaxError {
    #[error("{0}")]
    Syntax(String),
    #[error("json: exceeded max depth")]
    TooDeep,
}

/// A parsed document and the paths of the keys that stood in it twice (the last value counts).
#[derive(Debug, Default)]
pub struct Parsed {
    pub node: Node,
    /// In document order, as `spec.containers[0].name`.
    pub duplicates: Vec<String>,
}

/// Reads one JSON document; anything but white space behind it is an error.
pub fn parse(bytes: &[u8]) -> Result<Node, SyntaxError> {
    parse_strict(bytes).map(|parsed| parsed.node)
}

/// Like [`parse`], and tells which keys were given twice.
pub fn parse_strict(bytes: &[u8]) -> Result<Parsed, SyntaxError> {
    let mut context = Context::default();
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    reader.disable_recursion_limit();
    let result = Seed {
        context: &mut context,
        depth: 0,
    }
    .deserialize(&mut reader)
    .and_then(|node| {
        reader.end()?;
        Ok(node)
    });
    match result {
        Ok(node) => Ok(Parsed {
            node,
            duplicates: context.duplicates,
        }),
        Err(_) if context.too_deep => Err(SyntaxError::TooDeep),
        Err(error) => Err(SyntaxError::Syntax(go_message(bytes, &error))),
    }
}

/// Reads a node from any serde format (YAML, CBOR bridges).
pub fn deserialize_node<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
    Seed {
        context: &mut Context::default(),
        depth: 0,
    }
    .deserialize(deserializer)
}

impl<'de> serde::Deserialize<'de> for Parsed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Parsed, D::Error> {
        let mut context = Context::default();
        let node = Seed {
            context: &mut context,
            depth: 0,
        }
        .deserialize(deserializer)?;
        Ok(Parsed {
            node,
            duplicates: context.duplicates,
        })
    }
}

/// The compact JSON of `node`, keys sorted, `<`, `>` and `&` escaped as Go does.
pub fn to_vec(node: &Node) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    write(node, &mut out);
    out
}

pub fn to_string(node: &Node) -> String {
    String::from_utf8(to_vec(node)).expect("the writer writes UTF-8")
}

/// Appends the JSON of `node`.
pub fn write(node: &Node, out: &mut Vec<u8>) {
    match node {
        Node::Null => out.extend_from_slice(b"null"),
        Node::Bool(true) => out.extend_from_slice(b"true"),
        Node::Bool(false) => out.extend_from_slice(b"false"),
        Node::Int(i) => write_int(*i, out),
        Node::Float(f) => write_float(*f, out),
        Node::String(s) => write_str(s, out),
        Node::List(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write(item, out);
            }
            out.push(b']');
        }
        Node::Map(map) => {
            out.push(b'{');
            for (i, (key, value)) in map.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_str(key, out);
                out.push(b':');
                write(value, out);
            }
            out.push(b'}');
        }
    }
}

/// Appends a JSON string literal.
pub fn write_str(s: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = s.as_bytes();
    let mut start = 0;
    for (i, &b) in bytes.iter().enumerate() {
        let escape: &[u8] = match b {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0x08 => b"\\b",
            0x0c => b"\\f",
            b'<' => b"\\u003c",
            b'>' => b"\\u003e",
            b'&' => b"\\u0026",
            // U+2028 and U+2029, which Go escapes too.
            0xe2 if bytes[i..].starts_with(b"\xe2\x80\xa8") || bytes[i..].starts_with(b"\xe2\x80\xa9") => {
                out.extend_from_slice(&bytes[start..i]);
                out.extend_from_slice(if bytes[i + 2] == 0xa8 { b"\\u2028" } else { b"\\u2029" });
                start = i + 3;
                continue;
            }
            0..0x20 => {
                out.extend_from_slice(&bytes[start..i]);
                out.extend_from_slice(format!("\\u{b:04x}").as_bytes());
                start = i + 1;
                continue;
            }
            _ => continue,
        };
        out.extend_from_slice(&bytes[start..i]);
        out.extend_from_slice(escape);
        start = i + 1;
    }
    out.extend_from_slice(&bytes[start..]);
    out.push(b'"');
}

fn write_int(mut i: i64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let negative = i < 0;
    loop {
        at -= 1;
        digits[at] = b'0' + (i % 10).unsigned_abs() as u8;
        i /= 10;
        if i == 0 {
            break;
        }
    }
    if negative {
        at -= 1;
        digits[at] = b'-';
    }
    out.extend_from_slice(&digits[at..]);
}

/// Go's form: no fraction on whole numbers, an exponent below 1e-6 and from 1e21 on.
fn write_float(f: f64, out: &mut Vec<u8>) {
    let magnitude = f.abs();
    if !f.is_finite() {
        out.extend_from_slice(b"null");
    } else if f == 0.0 || (1e-6..1e21).contains(&magnitude) {
        out.extend_from_slice(format!("{f}").as_bytes());
    } else {
        let text = format!("{f:e}");
        match text.split_once('e') {
            Some((mantissa, exponent)) if !exponent.starts_with('-') => {
                out.extend_from_slice(format!("{mantissa}e+{exponent}").as_bytes());
            }
            _ => out.extend_from_slice(text.as_bytes()),
        }
    }
}

// === reading ===

#[derive(Default)]
struct Context {
    path: String,
    duplicates: Vec<String>,
    too_deep: bool,
}

struct Seed<'a> {
    context: &'a mut Context,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Node, E> {
        Ok(Node::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Node, E> {
        Ok(Node::Int(v))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Node, E> {
        Ok(i64::try_from(v).map_or(Node::Float(v as f64), Node::Int))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Node, E> {
        Ok(Node::Float(v))
    }

    fn visit_str<E>(self, v: &str) -> Result<Node, E> {
        Ok(Node::String(v.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        if self.depth >= MAX_DEPTH {
            self.context.too_deep = true;
            return Err(A::Error::custom("too deep"));
        }
        let mut items = Vec::new();
        loop {
            let length = self.context.path.len();
            push_index(&mut self.context.path, items.len());
            let item = seq.next_element_seed(Seed {
                context: self.context,
                depth: self.depth + 1,
            })?;
            self.context.path.truncate(length);
            match item {
                Some(item) => items.push(item),
                None => return Ok(Node::List(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        if self.depth >= MAX_DEPTH {
            self.context.too_deep = true;
            return Err(A::Error::custom("too deep"));
        }
        let mut entries: Vec<(Key, Node)> = Vec::new();
        // Entries with duplicates inside, and how many were known before.
        let mut inner: Vec<(usize, usize)> = Vec::new();
        while let Some(key) = map.next_key_seed(KeySeed)? {
            let length = self.context.path.len();
            if length > 0 {
                self.context.path.push('.');
            }
            self.context.path.push_str(&key);
            let known = self.context.duplicates.len();
            let value = map.next_value_seed(Seed {
                context: self.context,
                depth: self.depth + 1,
            })?;
            self.context.path.truncate(length);
            if self.context.duplicates.len() > known {
                inner.push((entries.len(), known));
            }
            entries.push((key, value));
        }
        let count = entries.len();
        if !entries.windows(2).all(|w| w[0].0 < w[1].0) {
            let mut names: Vec<(usize, Key)> = entries.iter().enumerate().map(|(i, (k, _))| (i, k.clone())).collect();
            names.sort_by(|a, b| a.1.cmp(&b.1).then(a.0.cmp(&b.0)));
            let mut repeats: Vec<&(usize, Key)> =
                names.windows(2).filter(|w| w[0].1 == w[1].1).map(|w| &w[1]).collect();
            repeats.sort();
            // A repeated key is noticed before what it holds is read.
            for (i, key) in repeats.into_iter().rev() {
                let dot = if self.context.path.is_empty() { "" } else { "." };
                let all = &mut self.context.duplicates;
                let place = inner
                    .iter()
                    .find(|(entry, _)| entry >= i)
                    .map_or(all.len(), |(_, known)| *known);
                all.insert(place, format!("{}{dot}{key}", self.context.path));
            }
        }
        let map = Map::from_entries(entries);
        debug_assert!(map.len() <= count);
        Ok(Node::Map(map))
    }
}

struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_str(KeySeed)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object key")
    }

    fn visit_str<E>(self, v: &str) -> Result<Key, E> {
        Ok(v.into())
    }
}

fn push_index(path: &mut String, index: usize) {
    use fmt::Write;
    write!(path, "[{index}]").expect("writing to a String cannot fail");
}

/// The words Go's scanner has for the same mistake.
fn go_message(bytes: &[u8], error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "unexpected end of JSON input".into();
    }
    crate::json::go::message(bytes).unwrap_or_else(|| error.to_string())
}

mod go;
mod literal;
mod order;

pub use literal::{Step, literal_at};
pub use order::{in_document_order, in_document_order_of};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_are_named_by_path_and_the_last_value_counts() {
        let parsed = parse_strict(br#"{"a":1,"b":[{"x":1,"x":2}],"a":3}"#).unwrap();
        assert_eq!(parsed.duplicates, ["b[0].x", "a"]);
        assert_eq!(to_string(&parsed.node), r#"{"a":3,"b":[{"x":2}]}"#);
        let parsed = parse_strict(br#"{"a":{},"b":{"y":1,"y":1},"a":{"x":1,"x":2},"b":1}"#).unwrap();
        assert_eq!(parsed.duplicates, ["b.y", "a", "a.x", "b"]);
    }

    #[test]
    fn numbers_print_as_go_prints_them() {
        let parsed = parse(b"[1.0, 1e3, 1e21, 1e-7, 18446744073709551615, -5, 0.1, 9223372036854775807]").unwrap();
        assert_eq!(
            to_string(&parsed),
            "[1,1000,1e+21,1e-7,18446744073709552000,-5,0.1,9223372036854775807]"
        );
    }

    #[test]
    fn strings_escape_as_go_escapes_them() {
        assert_eq!(
            to_string(&Node::string("<a>&\"\\\n\u{1}\u{2028}é")),
            r#""\u003ca\u003e\u0026\"\\\n\u0001\u2028é""#
        );
    }

    #[test]
    fn depth_is_bounded() {
        assert_eq!(
            parse("[".repeat(MAX_DEPTH + 1).as_bytes()).unwrap_err(),
            SyntaxError::TooDeep
        );
        let deep = format!("{}{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
        assert!(parse(deep.as_bytes()).is_ok());
    }

    #[test]
    fn syntax_errors_speak_go() {
        for (text, message) in [
            ("{", "unexpected end of JSON input"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            (
                "{a}",
                "invalid character 'a' looking for beginning of object key string",
            ),
            ("[1 2]", "invalid character '2' after array element"),
            ("{} x", "invalid character 'x' after top-level value"),
            ("nope", "invalid character 'o' in literal null (expecting 'u')"),
            (
                "{\"a\":1,}",
                "invalid character '}' looking for beginning of object key string",
            ),
            ("<html>", "invalid character '<' looking for beginning of value"),
            ("01", "invalid character '1' after top-level value"),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap_err().to_string(), message, "{text}");
        }
    }
}
