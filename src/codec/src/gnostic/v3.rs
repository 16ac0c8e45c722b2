//! The messages of OpenAPI v3.

use super::Form::{Any, Each, Flag, Message as M, Number, OrFlag, OrReference, Special, Text, Texts, Whole, Within};
use super::common::{CONTACT, EXTERNAL_DOCS, LICENSE, TAG};
use super::{Form, Message, named};
use crate::protobuf::wire::{FIXED64, VARINT, Writer};
use fairlead_api::Node;

pub(super) static DOCUMENT: Message = Message {
    fields: &[
        (1, "openapi", Text),
        (2, "info", M(&INFO)),
        (3, "servers", Each(&M(&SERVER))),
        (4, "paths", M(&PATHS)),
        (5, "components", M(&COMPONENTS)),
        (6, "security", Each(&M(&SECURITY))),
        (7, "tags", Each(&M(&TAG))),
        (8, "externalDocs", M(&EXTERNAL_DOCS)),
    ],
    entries: None,
    extensions: 9,
};

static INFO: Message = Message {
    fields: &[
        (1, "title", Text),
        (2, "description", Text),
        (3, "termsOfService", Text),
        (4, "contact", M(&CONTACT)),
        (5, "license", M(&LICENSE)),
        (6, "version", Text),
        (8, "summary", Text),
    ],
    entries: None,
    extensions: 7,
};

static SERVER: Message = Message {
    fields: &[(1, "url", Text), (2, "description", Text)],
    entries: None,
    extensions: 4,
};

static PATHS: Message = Message {
    fields: &[],
    entries: Some((1, M(&PATH))),
    extensions: 2,
};

static PATH: Message = Message {
    fields: &[
        (1, "$ref", Text),
        (2, "summary", Text),
        (3, "description", Text),
        (4, "get", M(&OPERATION)),
        (5, "put", M(&OPERATION)),
        (6, "post", M(&OPERATION)),
        (7, "delete", M(&OPERATION)),
        (8, "options", M(&OPERATION)),
        (9, "head", M(&OPERATION)),
        (10, "patch", M(&OPERATION)),
        (11, "trace", M(&OPERATION)),
        (12, "servers", Each(&M(&SERVER))),
        (13, "parameters", Each(&PARAMETER_ITEM)),
    ],
    entries: None,
    extensions: 14,
};

static OPERATION: Message = Message {
    fields: &[
        (1, "tags", Texts),
        (2, "summary", Text),
        (3, "description", Text),
        (4, "externalDocs", M(&EXTERNAL_DOCS)),
        (5, "operationId", Text),
        (6, "parameters", Each(&PARAMETER_ITEM)),
        (7, "requestBody", OrReference(&M(&REQUEST_BODY), &REFERENCE)),
        (8, "responses", M(&RESPONSES)),
        (10, "deprecated", Flag),
        (11, "security", Each(&M(&SECURITY))),
        (12, "servers", Each(&M(&SERVER))),
    ],
    entries: None,
    extensions: 13,
};

static REFERENCE: Message = Message {
    fields: &[(1, "$ref", Text), (2, "summary", Text), (3, "description", Text)],
    entries: None,
    extensions: 0,
};

static PARAMETER_ITEM: Form = OrReference(&M(&PARAMETER), &REFERENCE);
static SCHEMA_ITEM: Form = OrReference(&M(&SCHEMA), &REFERENCE);

static PARAMETER: Message = Message {
    fields: &[
        (1, "name", Text),
        (2, "in", Text),
        (3, "description", Text),
        (4, "required", Flag),
        (5, "deprecated", Flag),
        (6, "allowEmptyValue", Flag),
        (7, "style", Text),
        (8, "explode", Flag),
        (9, "allowReserved", Flag),
        (10, "schema", OrReference(&M(&SCHEMA), &REFERENCE)),
        (11, "example", Any),
        (13, "content", M(&MEDIA_TYPES)),
    ],
    entries: None,
    extensions: 14,
};

static REQUEST_BODY: Message = Message {
    fields: &[
        (1, "description", Text),
        (2, "content", M(&MEDIA_TYPES)),
        (3, "required", Flag),
    ],
    entries: None,
    extensions: 4,
};

static MEDIA_TYPES: Message = named(M(&MEDIA_TYPE));

static MEDIA_TYPE: Message = Message {
    fields: &[(1, "schema", OrReference(&M(&SCHEMA), &REFERENCE)), (2, "example", Any)],
    entries: None,
    extensions: 5,
};

static RESPONSES: Message = Message {
    fields: &[(1, "default", OrReference(&M(&RESPONSE), &REFERENCE))],
    entries: Some((2, OrReference(&M(&RESPONSE), &REFERENCE))),
    extensions: 3,
};

static RESPONSE: Message = Message {
    fields: &[(1, "description", Text), (3, "content", M(&MEDIA_TYPES))],
    entries: None,
    extensions: 5,
};

static COMPONENTS: Message = Message {
    fields: &[
        (1, "schemas", M(&SCHEMAS)),
        (2, "responses", M(&RESPONSE_COMPONENTS)),
        (3, "parameters", M(&PARAMETER_COMPONENTS)),
        (7, "securitySchemes", M(&SECURITY_SCHEMES)),
    ],
    entries: None,
    extensions: 10,
};

static RESPONSE_COMPONENTS: Message = named(Within(1, &M(&RESPONSE)));
static PARAMETER_COMPONENTS: Message = named(OrReference(&M(&PARAMETER), &REFERENCE));
static SECURITY_SCHEMES: Message = named(OrReference(&M(&SECURITY_SCHEME), &REFERENCE));

static SECURITY_SCHEME: Message = Message {
    fields: &[
        (1, "type", Text),
        (2, "description", Text),
        (3, "name", Text),
        (4, "in", Text),
        (5, "scheme", Text),
        (6, "bearerFormat", Text),
        (8, "openIdConnectUrl", Text),
    ],
    entries: None,
    extensions: 9,
};

static SECURITY: Message = named(Within(1, &Texts));
static SCHEMAS: Message = named(OrReference(&M(&SCHEMA), &REFERENCE));

static SCHEMA: Message = Message {
    fields: &[
        (1, "nullable", Flag),
        (3, "readOnly", Flag),
        (4, "writeOnly", Flag),
        (6, "externalDocs", M(&EXTERNAL_DOCS)),
        (7, "example", Any),
        (8, "deprecated", Flag),
        (9, "title", Text),
        (10, "multipleOf", Number),
        (11, "maximum", Number),
        (12, "exclusiveMaximum", Flag),
        (13, "minimum", Number),
        (14, "exclusiveMinimum", Flag),
        (15, "maxLength", Whole),
        (16, "minLength", Whole),
        (17, "pattern", Text),
        (18, "maxItems", Whole),
        (19, "minItems", Whole),
        (20, "uniqueItems", Flag),
        (21, "maxProperties", Whole),
        (22, "minProperties", Whole),
        (23, "required", Texts),
        (24, "enum", Each(&Any)),
        (25, "type", Text),
        (26, "allOf", Each(&SCHEMA_ITEM)),
        (27, "oneOf", Each(&SCHEMA_ITEM)),
        (28, "anyOf", Each(&SCHEMA_ITEM)),
        (29, "not", M(&SCHEMA)),
        (30, "items", Within(1, &Each(&SCHEMA_ITEM))),
        (31, "properties", M(&SCHEMAS)),
        (32, "additionalProperties", OrFlag(&SCHEMA_ITEM)),
        (33, "default", Special(default)),
        (34, "description", Text),
        (35, "format", Text),
    ],
    entries: None,
    extensions: 36,
};

/// A `DefaultType`: only scalars have a place in it.
fn default(number: u32, node: &Node, out: &mut Writer) {
    let mark = out.len();
    match node {
        Node::Bool(value) => {
            out.varint((*value).into());
            out.key(2, VARINT);
        }
        Node::String(text) => out.field(3, text.as_bytes()),
        Node::Int(_) | Node::Float(_) => {
            out.bytes(&node.as_f64().unwrap_or_default().to_le_bytes());
            out.key(1, FIXED64);
        }
        _ => {}
    }
    out.close(number, mark);
}
