//! OpenAPI v2 documents in gnostic's protobuf form, which client-go asks for first.
//!
//! Field numbers are those of gnostic's `OpenAPIv2.proto`. One table a message; a walk over the JSON document writes
//! what the tables know, everything that starts with `x-` as a vendor extension.

use fairlead_api::{Node, json};

/// `application/com.github.proto-openapi.spec.v2.v1.0+protobuf`.
pub const MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The bytes of a document. What the format cannot say is left out.
pub fn encode(document: &Node) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 20);
    message(document, &DOCUMENT, &mut out);
    out
}

struct Message {
    fields: &'static [(&'static str, u32, Kind)],
    /// The number of `vendor_extension`; 0 where there is none.
    extensions: u32,
}

enum Kind {
    Text,
    Texts,
    Flag,
    Whole,
    Number,
    /// Any value, as YAML (which JSON is).
    Value,
    Values,
    One(&'static Message),
    Many(&'static Message),
    /// A message around one repeated field of `{name = 1, value = 2}`.
    Named(u32, &'static Message),
    /// `paths`, `responses`: [`Kind::Named`] with vendor extensions beside the names.
    Paths(u32, u32, &'static Message),
    Parameter,
    Parameters,
    NamedParameters,
    /// A message around one other: number, what it holds.
    Wrapped(u32, &'static Message),
    Type,
    Items,
    Additional,
    Requirements,
    SecurityDefinitions,
}

use Kind::*;

static DOCUMENT: Message = Message {
    fields: &[
        ("swagger", 1, Text), ("info", 2, One(&INFO)), ("host", 3, Text), ("basePath", 4, Text), ("schemes", 5, Texts),
        ("consumes", 6, Texts), ("produces", 7, Texts), ("paths", 8, Paths(2, 1, &PATH_ITEM)), ("definitions", 9, Named(1, &SCHEMA)),
        ("parameters", 10, NamedParameters), ("security", 12, Requirements), ("securityDefinitions", 13, SecurityDefinitions),
    ],
    extensions: 16,
};
static INFO: Message = Message {
    fields: &[("title", 1, Text), ("version", 2, Text), ("description", 3, Text), ("termsOfService", 4, Text)],
    extensions: 7,
};
static PATH_ITEM: Message = Message {
    fields: &[
        ("$ref", 1, Text), ("get", 2, One(&OPERATION)), ("put", 3, One(&OPERATION)), ("post", 4, One(&OPERATION)),
        ("delete", 5, One(&OPERATION)), ("options", 6, One(&OPERATION)), ("head", 7, One(&OPERATION)),
        ("patch", 8, One(&OPERATION)), ("parameters", 9, Parameters),
    ],
    extensions: 10,
};
static OPERATION: Message = Message {
    fields: &[
        ("tags", 1, Texts), ("summary", 2, Text), ("description", 3, Text), ("operationId", 5, Text), ("produces", 6, Texts),
        ("consumes", 7, Texts), ("parameters", 8, Parameters), ("responses", 9, Paths(1, 2, &RESPONSE_VALUE)),
        ("schemes", 10, Texts), ("deprecated", 11, Flag), ("security", 12, Requirements),
    ],
    extensions: 13,
};
/// A response or a reference to one; references do not occur.
static RESPONSE_VALUE: Message = Message { fields: &[("", 1, One(&RESPONSE))], extensions: 0 };
static RESPONSE: Message = Message {
    fields: &[("description", 1, Text), ("schema", 2, Wrapped(1, &SCHEMA))],
    extensions: 5,
};
static SCHEMA: Message = Message {
    fields: &[
        ("$ref", 1, Text), ("format", 2, Text), ("title", 3, Text), ("description", 4, Text), ("default", 5, Value),
        ("multipleOf", 6, Number), ("maximum", 7, Number), ("exclusiveMaximum", 8, Flag), ("minimum", 9, Number),
        ("exclusiveMinimum", 10, Flag), ("maxLength", 11, Whole), ("minLength", 12, Whole), ("pattern", 13, Text),
        ("maxItems", 14, Whole), ("minItems", 15, Whole), ("uniqueItems", 16, Flag), ("maxProperties", 17, Whole),
        ("minProperties", 18, Whole), ("required", 19, Texts), ("enum", 20, Values), ("additionalProperties", 21, Additional),
        ("type", 22, Type), ("items", 23, Items), ("allOf", 24, Many(&SCHEMA)), ("properties", 25, Named(1, &SCHEMA)),
        ("discriminator", 26, Text), ("readOnly", 27, Flag), ("example", 30, Value),
    ],
    extensions: 31,
};
static BODY_PARAMETER: Message = Message {
    fields: &[("description", 1, Text), ("name", 2, Text), ("in", 3, Text), ("required", 4, Flag), ("schema", 5, One(&SCHEMA))],
    extensions: 6,
};
static PATH_PARAMETER: Message = Message {
    fields: &[
        ("required", 1, Flag), ("in", 2, Text), ("description", 3, Text), ("name", 4, Text), ("type", 5, Text), ("format", 6, Text),
        ("collectionFormat", 8, Text), ("default", 9, Value), ("maximum", 10, Number), ("exclusiveMaximum", 11, Flag),
        ("minimum", 12, Number), ("exclusiveMinimum", 13, Flag), ("maxLength", 14, Whole), ("minLength", 15, Whole),
        ("pattern", 16, Text), ("maxItems", 17, Whole), ("minItems", 18, Whole), ("uniqueItems", 19, Flag), ("enum", 20, Values),
        ("multipleOf", 21, Number),
    ],
    extensions: 22,
};
static QUERY_PARAMETER: Message = Message {
    fields: &[
        ("required", 1, Flag), ("in", 2, Text), ("description", 3, Text), ("name", 4, Text), ("allowEmptyValue", 5, Flag),
        ("type", 6, Text), ("format", 7, Text), ("collectionFormat", 9, Text), ("default", 10, Value), ("maximum", 11, Number),
        ("exclusiveMaximum", 12, Flag), ("minimum", 13, Number), ("exclusiveMinimum", 14, Flag), ("maxLength", 15, Whole),
        ("minLength", 16, Whole), ("pattern", 17, Text), ("maxItems", 18, Whole), ("minItems", 19, Whole), ("uniqueItems", 20, Flag),
        ("enum", 21, Values), ("multipleOf", 22, Number),
    ],
    extensions: 23,
};
static REFERENCE: Message = Message { fields: &[("$ref", 1, Text), ("description", 2, Text)], extensions: 0 };
static API_KEY: Message = Message {
    fields: &[("type", 1, Text), ("name", 2, Text), ("in", 3, Text), ("description", 4, Text)],
    extensions: 5,
};

fn message(node: &Node, message: &Message, out: &mut Vec<u8>) {
    for (key, number, kind) in message.fields {
        // A message that only wraps another has one nameless field: the whole node.
        let value = if key.is_empty() { Some(node) } else { node.get(key) };
        if let Some(value) = value {
            field(value, *number, kind, out);
        }
    }
    if message.extensions != 0 {
        extensions(node, message.extensions, out);
    }
}

fn field(value: &Node, number: u32, kind: &Kind, out: &mut Vec<u8>) {
    match kind {
        Text => text(number, value.as_str().unwrap_or_default(), out),
        Texts => strings(value).for_each(|s| bytes(number, s.as_bytes(), out)),
        Flag if value.as_bool() == Some(true) => varint_field(number, 1, out),
        Flag => {}
        Whole => match value.as_i64() {
            Some(i) if i != 0 => varint_field(number, i as u64, out),
            _ => {}
        },
        Number => match value.as_f64() {
            Some(f) if f != 0.0 => {
                varint(u64::from(number << 3 | 1), out);
                out.extend_from_slice(&f.to_le_bytes());
            }
            _ => {}
        },
        Value => nested(number, out, |out| any(value, out)),
        Values => items(value).for_each(|v| nested(number, out, |out| any(v, out))),
        One(m) => nested(number, out, |out| message(value, m, out)),
        Many(m) => items(value).for_each(|v| nested(number, out, |out| message(v, m, out))),
        Wrapped(inner, m) => nested(number, out, |out| nested(*inner, out, |out| message(value, m, out))),
        Named(inner, m) => nested(number, out, |out| named(value, *inner, out, |v, out| message(v, m, out))),
        Paths(inner, beside, m) => nested(number, out, |out| {
            extensions(value, *beside, out);
            named(value, *inner, out, |v, out| message(v, m, out));
        }),
        Parameter => nested(number, out, |out| parameter(value, out)),
        Parameters => items(value).for_each(|v| {
            nested(number, out, |out| match v.get("$ref") {
                Some(_) => nested(2, out, |out| message(v, &REFERENCE, out)),
                None => field(v, 1, &Parameter, out),
            });
        }),
        NamedParameters => nested(number, out, |out| named(value, 1, out, parameter)),
        Type => nested(number, out, |out| match value {
            Node::List(_) => strings(value).for_each(|s| bytes(1, s.as_bytes(), out)),
            other => text(1, other.as_str().unwrap_or_default(), out),
        }),
        Items => nested(number, out, |out| match value {
            Node::List(list) => list.iter().for_each(|v| nested(1, out, |out| message(v, &SCHEMA, out))),
            one => nested(1, out, |out| message(one, &SCHEMA, out)),
        }),
        Additional => nested(number, out, |out| match value {
            Node::Bool(flag) => varint_field(2, u64::from(*flag), out),
            schema => nested(1, out, |out| message(schema, &SCHEMA, out)),
        }),
        Requirements => items(value).for_each(|requirement| {
            nested(number, out, |out| {
                named(requirement, 1, out, |scopes, out| strings(scopes).for_each(|s| bytes(1, s.as_bytes(), out)));
            });
        }),
        SecurityDefinitions => nested(number, out, |out| {
            named(value, 1, out, |definition, out| {
                if definition.str("type") == "apiKey" {
                    nested(2, out, |out| message(definition, &API_KEY, out));
                }
            });
        }),
    }
}

fn parameter(value: &Node, out: &mut Vec<u8>) {
    match value.str("in") {
        "body" => nested(1, out, |out| message(value, &BODY_PARAMETER, out)),
        place => {
            let (number, table) = match place {
                "header" => (1, &PATH_PARAMETER),
                "formData" => (2, &QUERY_PARAMETER),
                "query" => (3, &QUERY_PARAMETER),
                _ => (4, &PATH_PARAMETER),
            };
            nested(2, out, |out| nested(number, out, |out| message(value, table, out)));
        }
    }
}

/// The members of an object as repeated `{name = 1, value = 2}`; vendor extensions are no names.
fn named(value: &Node, number: u32, out: &mut Vec<u8>, write: impl Fn(&Node, &mut Vec<u8>)) {
    for (name, member) in value.as_map().into_iter().flat_map(|m| m.iter()) {
        if name.starts_with("x-") && number != 1 {
            continue;
        }
        nested(number, out, |out| {
            text(1, name, out);
            nested(2, out, |out| write(member, out));
        });
    }
}

fn extensions(node: &Node, number: u32, out: &mut Vec<u8>) {
    for (name, value) in node.as_map().into_iter().flat_map(|m| m.iter()).filter(|(name, _)| name.starts_with("x-")) {
        nested(number, out, |out| {
            text(1, name, out);
            nested(2, out, |out| any(value, out));
        });
    }
}

fn any(value: &Node, out: &mut Vec<u8>) {
    let mut yaml = json::to_vec(value);
    yaml.push(b'\n');
    bytes(2, &yaml, out);
}

fn items(value: &Node) -> impl Iterator<Item = &Node> {
    value.as_list().into_iter().flatten()
}

fn strings(value: &Node) -> impl Iterator<Item = &str> {
    items(value).filter_map(Node::as_str)
}

fn text(number: u32, value: &str, out: &mut Vec<u8>) {
    if !value.is_empty() {
        bytes(number, value.as_bytes(), out);
    }
}

fn bytes(number: u32, value: &[u8], out: &mut Vec<u8>) {
    varint(u64::from(number << 3 | 2), out);
    varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

fn nested(number: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    write(&mut inner);
    bytes(number, &inner, out);
}

fn varint_field(number: u32, value: u64, out: &mut Vec<u8>) {
    varint(u64::from(number << 3), out);
    varint(value, out);
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn a_document_is_written_by_its_numbers() {
        let document = node!({"swagger": "2.0", "info": {"title": "T"}, "definitions": {"A": {"type": "string", "x-y": 1}}});
        let expected = [
            b"\x0a\x032.0".as_slice(),
            b"\x12\x03\x0a\x01T",
            b"\x4a\x20\x0a\x1e\x0a\x01A\x12\x19",
            b"\xb2\x01\x08\x0a\x06string",
            b"\xfa\x01\x0b\x0a\x03x-y\x12\x04\x12\x021\n",
        ]
        .concat();
        assert_eq!(encode(&document), expected);
    }
}
