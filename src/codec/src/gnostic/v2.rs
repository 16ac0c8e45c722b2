//! The messages of OpenAPI v2.

use super::Form::{Any, Each, Flag, Message as M, Number, OrFlag, OrReference, Special, Text, Texts, Whole, Within};
use super::common::{CONTACT, EXTERNAL_DOCS, LICENSE, TAG};
use super::{Message, named};
use crate::protobuf::wire::Writer;
use fairlead_api::Node;

pub(super) static DOCUMENT: Message = Message {
    fields: &[
        (1, "swagger", Text),
        (2, "info", M(&INFO)),
        (3, "host", Text),
        (4, "basePath", Text),
        (5, "schemes", Texts),
        (6, "consumes", Texts),
        (7, "produces", Texts),
        (8, "paths", M(&PATHS)),
        (9, "definitions", M(&SCHEMAS)),
        (10, "parameters", M(&PARAMETERS)),
        (11, "responses", M(&RESPONSE_DEFINITIONS)),
        (12, "security", Each(&M(&SECURITY))),
        (13, "securityDefinitions", M(&SECURITY_DEFINITIONS)),
        (14, "tags", Each(&M(&TAG))),
        (15, "externalDocs", M(&EXTERNAL_DOCS)),
    ],
    entries: None,
    extensions: 16,
};

static INFO: Message = Message {
    fields: &[
        (1, "title", Text),
        (2, "version", Text),
        (3, "description", Text),
        (4, "termsOfService", Text),
        (5, "contact", M(&CONTACT)),
        (6, "license", M(&LICENSE)),
    ],
    entries: None,
    extensions: 7,
};

static PATHS: Message = Message {
    fields: &[],
    entries: Some((2, M(&PATH))),
    extensions: 1,
};

static PATH: Message = Message {
    fields: &[
        (1, "$ref", Text),
        (2, "get", M(&OPERATION)),
        (3, "put", M(&OPERATION)),
        (4, "post", M(&OPERATION)),
        (5, "delete", M(&OPERATION)),
        (6, "options", M(&OPERATION)),
        (7, "head", M(&OPERATION)),
        (8, "patch", M(&OPERATION)),
        (9, "parameters", Each(&OrReference(&Special(parameter), &REFERENCE))),
    ],
    entries: None,
    extensions: 10,
};

static OPERATION: Message = Message {
    fields: &[
        (1, "tags", Texts),
        (2, "summary", Text),
        (3, "description", Text),
        (4, "externalDocs", M(&EXTERNAL_DOCS)),
        (5, "operationId", Text),
        (6, "produces", Texts),
        (7, "consumes", Texts),
        (8, "parameters", Each(&OrReference(&Special(parameter), &REFERENCE))),
        (9, "responses", M(&RESPONSES)),
        (10, "schemes", Texts),
        (11, "deprecated", Flag),
        (12, "security", Each(&M(&SECURITY))),
    ],
    entries: None,
    extensions: 13,
};

static REFERENCE: Message = Message {
    fields: &[(1, "$ref", Text), (2, "description", Text)],
    entries: None,
    extensions: 0,
};

static PARAMETERS: Message = named(Special(parameter));

/// A `Parameter`: in the body, or else by where it is.
fn parameter(number: u32, node: &Node, out: &mut Writer) {
    let mark = out.len();
    let (place, form) = match node.str("in") {
        "body" => (0, M(&BODY_PARAMETER)),
        "header" => (1, M(&HEADER_PARAMETER)),
        "formData" => (2, M(&QUERY_PARAMETER)),
        "path" => (4, M(&HEADER_PARAMETER)),
        _ => (3, M(&QUERY_PARAMETER)),
    };
    if place == 0 {
        form.write(1, node, out);
    } else {
        form.write(place, node, out);
        out.close(2, mark);
    }
    out.close(number, mark);
}

static BODY_PARAMETER: Message = Message {
    fields: &[
        (1, "description", Text),
        (2, "name", Text),
        (3, "in", Text),
        (4, "required", Flag),
        (5, "schema", M(&SCHEMA)),
    ],
    entries: None,
    extensions: 6,
};

/// Of headers and paths.
static HEADER_PARAMETER: Message = Message {
    fields: &[
        (1, "required", Flag),
        (2, "in", Text),
        (3, "description", Text),
        (4, "name", Text),
        (5, "type", Text),
        (6, "format", Text),
        (7, "items", M(&ITEMS)),
        (8, "collectionFormat", Text),
        (9, "default", Any),
        (10, "maximum", Number),
        (11, "exclusiveMaximum", Flag),
        (12, "minimum", Number),
        (13, "exclusiveMinimum", Flag),
        (14, "maxLength", Whole),
        (15, "minLength", Whole),
        (16, "pattern", Text),
        (17, "maxItems", Whole),
        (18, "minItems", Whole),
        (19, "uniqueItems", Flag),
        (20, "enum", Each(&Any)),
        (21, "multipleOf", Number),
    ],
    entries: None,
    extensions: 22,
};

/// Of queries and forms.
static QUERY_PARAMETER: Message = Message {
    fields: &[
        (1, "required", Flag),
        (2, "in", Text),
        (3, "description", Text),
        (4, "name", Text),
        (5, "allowEmptyValue", Flag),
        (6, "type", Text),
        (7, "format", Text),
        (8, "items", M(&ITEMS)),
        (9, "collectionFormat", Text),
        (10, "default", Any),
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
        (21, "enum", Each(&Any)),
        (22, "multipleOf", Number),
    ],
    entries: None,
    extensions: 23,
};

static ITEMS: Message = Message {
    fields: &[
        (1, "type", Text),
        (2, "format", Text),
        (3, "items", M(&ITEMS)),
        (4, "collectionFormat", Text),
        (5, "default", Any),
        (6, "maximum", Number),
        (7, "exclusiveMaximum", Flag),
        (8, "minimum", Number),
        (9, "exclusiveMinimum", Flag),
        (10, "maxLength", Whole),
        (11, "minLength", Whole),
        (12, "pattern", Text),
        (13, "maxItems", Whole),
        (14, "minItems", Whole),
        (15, "uniqueItems", Flag),
        (16, "enum", Each(&Any)),
        (17, "multipleOf", Number),
    ],
    entries: None,
    extensions: 18,
};

static RESPONSES: Message = Message {
    fields: &[],
    entries: Some((1, OrReference(&M(&RESPONSE), &REFERENCE))),
    extensions: 2,
};

static RESPONSE_DEFINITIONS: Message = named(M(&RESPONSE));

static RESPONSE: Message = Message {
    fields: &[
        (1, "description", Text),
        (2, "schema", Within(1, &M(&SCHEMA))),
        (3, "headers", M(&HEADERS)),
        (4, "examples", M(&EXAMPLES)),
    ],
    entries: None,
    extensions: 5,
};

static EXAMPLES: Message = named(Any);
static HEADERS: Message = named(M(&HEADER));

static HEADER: Message = Message {
    fields: &[
        (1, "type", Text),
        (2, "format", Text),
        (3, "items", M(&ITEMS)),
        (4, "collectionFormat", Text),
        (5, "default", Any),
        (12, "pattern", Text),
        (16, "enum", Each(&Any)),
        (18, "description", Text),
    ],
    entries: None,
    extensions: 19,
};

static SCHEMAS: Message = named(M(&SCHEMA));

static SCHEMA: Message = Message {
    fields: &[
        (1, "$ref", Text),
        (2, "format", Text),
        (3, "title", Text),
        (4, "description", Text),
        (5, "default", Any),
        (6, "multipleOf", Number),
        (7, "maximum", Number),
        (8, "exclusiveMaximum", Flag),
        (9, "minimum", Number),
        (10, "exclusiveMinimum", Flag),
        (11, "maxLength", Whole),
        (12, "minLength", Whole),
        (13, "pattern", Text),
        (14, "maxItems", Whole),
        (15, "minItems", Whole),
        (16, "uniqueItems", Flag),
        (17, "maxProperties", Whole),
        (18, "minProperties", Whole),
        (19, "required", Texts),
        (20, "enum", Each(&Any)),
        (21, "additionalProperties", OrFlag(&M(&SCHEMA))),
        (22, "type", Within(1, &Texts)),
        (23, "items", Within(1, &Each(&M(&SCHEMA)))),
        (24, "allOf", Each(&M(&SCHEMA))),
        (25, "properties", M(&SCHEMAS)),
        (26, "discriminator", Text),
        (27, "readOnly", Flag),
        (29, "externalDocs", M(&EXTERNAL_DOCS)),
        (30, "example", Any),
    ],
    entries: None,
    extensions: 31,
};

static SECURITY: Message = named(Within(1, &Texts));
static SECURITY_DEFINITIONS: Message = named(Special(security_definition));

/// A `SecurityDefinitionsItem`. Those of OAuth are not written by any server of this kind.
fn security_definition(number: u32, node: &Node, out: &mut Writer) {
    let mark = out.len();
    match node.str("type") {
        "basic" => M(&BASIC).write(1, node, out),
        "apiKey" => M(&API_KEY).write(2, node, out),
        _ => {}
    }
    out.close(number, mark);
}

static BASIC: Message = Message {
    fields: &[(1, "type", Text), (2, "description", Text)],
    entries: None,
    extensions: 3,
};

static API_KEY: Message = Message {
    fields: &[
        (1, "type", Text),
        (2, "name", Text),
        (3, "in", Text),
        (4, "description", Text),
    ],
    entries: None,
    extensions: 5,
};
