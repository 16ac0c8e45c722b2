//! OpenAPI documents in the protobuf form of gnostic, which older clients ask for.
//!
//! Source of the messages: google/gnostic-models openapiv2/OpenAPIv2.proto and openapiv3/OpenAPIv3.proto (proto3: zero
//! values are not written).

mod common;
mod v2;
mod v3;

use crate::protobuf::wire::{FIXED64, VARINT, Writer};
use crate::yaml_writer;
use fairlead_api::Node;

/// An OpenAPI v2 document as `openapi.v2.Document`.
pub fn openapi_v2(document: &Node) -> Vec<u8> {
    encode(&v2::DOCUMENT, document)
}

/// An OpenAPI v3 document as `openapi.v3.Document`.
pub fn openapi_v3(document: &Node) -> Vec<u8> {
    encode(&v3::DOCUMENT, document)
}

/// What one message is made of.
struct Message {
    /// Number, JSON name, form.
    fields: &'static [(u32, &'static str, Form)],
    /// Members that no field has: repeated pairs of a name (1) and a value (2).
    entries: Option<(u32, Form)>,
    /// Members that start with `x-`: repeated pairs of a name and anything. 0 where there are none.
    extensions: u32,
}

/// How a value is written.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Flag,
    Whole,
    Number,
    /// One string or several.
    Texts,
    /// Anything, as YAML in a message.
    Any,
    Message(&'static Message),
    /// One message or several.
    Each(&'static Form),
    /// A message that holds the value under a number.
    Within(u32, &'static Form),
    /// A message of 1, or where there is a `$ref`, of 2.
    OrReference(&'static Form, &'static Message),
    /// A schema (1) or a truth value (2).
    OrFlag(&'static Form),
    /// What the document decides.
    Special(fn(u32, &Node, &mut Writer)),
}

/// A message whose members are all named by the document.
const fn named(form: Form) -> Message {
    Message {
        fields: &[],
        entries: Some((1, form)),
        extensions: 0,
    }
}

fn encode(message: &Message, node: &Node) -> Vec<u8> {
    let mut out = Writer::with_capacity(1 << 20);
    content(message, node, &mut out);
    out.finish()
}

fn content(message: &Message, node: &Node, out: &mut Writer) {
    let Some(members) = node.as_map() else { return };
    if message.extensions > 0 || message.entries.is_some() {
        for (name, value) in members.iter().rev() {
            if message.fields.iter().any(|(_, field, _)| field == name) {
                continue;
            }
            let (number, form) = match message.entries {
                _ if name.starts_with("x-") && message.extensions > 0 => (message.extensions, Form::Any),
                Some(entries) => entries,
                None => continue,
            };
            let mark = out.len();
            form.write(2, value, out);
            out.field(1, name.as_bytes());
            out.close(number, mark);
        }
    }
    for (number, name, form) in message.fields.iter().rev() {
        if let Some(value) = members.get(name) {
            form.write(*number, value, out);
        }
    }
}

impl Form {
    fn write(&self, number: u32, node: &Node, out: &mut Writer) {
        let mark = out.len();
        match self {
            Form::Text => {
                if let Some(text) = node.as_str().filter(|text| !text.is_empty()) {
                    out.field(number, text.as_bytes());
                }
                return;
            }
            Form::Flag => {
                if node.as_bool() == Some(true) {
                    out.number(number, 1);
                }
                return;
            }
            Form::Whole => {
                if let Some(whole) = node.as_i64().filter(|whole| *whole != 0) {
                    out.varint(whole as u64);
                    out.key(number, VARINT);
                }
                return;
            }
            Form::Number => {
                if let Some(value) = node.as_f64().filter(|value| *value != 0.0) {
                    out.bytes(&value.to_le_bytes());
                    out.key(number, FIXED64);
                }
                return;
            }
            Form::Texts => {
                return each(node, |item| {
                    out.field(number, item.as_str().unwrap_or_default().as_bytes())
                });
            }
            Form::Each(form) => return each(node, |item| form.write(number, item, out)),
            Form::Special(write) => return write(number, node, out),
            Form::Any => out.field(2, &yaml_writer::write(node)),
            Form::Message(message) => content(message, node, out),
            Form::Within(inner, form) => form.write(*inner, node, out),
            Form::OrReference(_, reference) if node.get("$ref").is_some() => {
                Form::Message(reference).write(2, node, out)
            }
            Form::OrReference(form, _) => form.write(1, node, out),
            Form::OrFlag(form) => match node {
                Node::Bool(value) => {
                    out.varint((*value).into());
                    out.key(2, VARINT);
                }
                node => form.write(1, node, out),
            },
        }
        out.close(number, mark);
    }
}

fn each(node: &Node, mut write: impl FnMut(&Node)) {
    match node {
        Node::List(items) => items.iter().rev().for_each(write),
        one => write(one),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn a_small_document_is_what_gnostic_writes() {
        let document = node!({
            "swagger": "2.0",
            "info": {"title": "T", "version": "v1"},
            "paths": {"/a": {"get": {"operationId": "g", "x-a": "b", "parameters": [
                {"name": "q", "in": "query", "type": "string"},
                {"name": "b", "in": "body", "schema": {"$ref": "#/x"}},
            ]}}},
        });
        let bytes = openapi_v2(&document);
        assert!(bytes.starts_with(b"\x0a\x032.0\x12\x07\x0a\x01T\x12\x02v1\x42"));
        let contains = |part: &[u8]| bytes.windows(part.len()).any(|w| w == part);
        assert!(contains(b"\x2a\x01g"));
        // in (2), name (4), type (6) of a query parameter, in its three wrappings.
        assert!(contains(
            b"\x42\x18\x0a\x16\x12\x14\x1a\x12\x12\x05query\x22\x01q\x32\x06string"
        ));
        // name (2), in (3), schema (5) of a body parameter.
        assert!(contains(b"\x0a\x10\x12\x01b\x1a\x04body\x2a\x05\x0a\x03#/x"));
        // An extension: its name and its YAML.
        assert!(contains(b"\x6a\x0b\x0a\x03x-a\x12\x04\x12\x02b\n"));
    }

    #[test]
    fn a_document_is_written_by_its_numbers() {
        let document =
            node!({"swagger": "2.0", "info": {"title": "T"}, "definitions": {"A": {"type": "string", "x-y": 1}}});
        let expected = [
            b"\x0a\x032.0".as_slice(),
            b"\x12\x03\x0a\x01T",
            b"\x4a\x20\x0a\x1e\x0a\x01A\x12\x19",
            b"\xb2\x01\x08\x0a\x06string",
            b"\xfa\x01\x0b\x0a\x03x-y\x12\x04\x12\x021\n",
        ]
        .concat();
        assert_eq!(openapi_v2(&document), expected);
    }

    #[test]
    fn references_and_schemas_of_v3_differ() {
        let document = node!({"openapi": "3.0.0", "components": {"schemas": {
            "A": {"type": "object", "additionalProperties": {"$ref": "#/B"}},
            "B": {"additionalProperties": true, "default": {}},
        }}});
        let bytes = openapi_v3(&document);
        let contains = |part: &[u8]| bytes.windows(part.len()).any(|w| w == part);
        assert!(contains(b"\xca\x01\x06object"));
        assert!(contains(b"\x82\x02\x09\x0a\x07\x12\x05\x0a\x03#/B"));
        assert!(contains(b"\x82\x02\x02\x10\x01\x8a\x02\x00"));
    }
}
