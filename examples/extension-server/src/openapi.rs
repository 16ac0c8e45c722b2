//! OpenAPI: v2 in one document, v3 as an index and one document for each group-version. Aggregators ask often: all are
//! made once.

use crate::kinds::{Field, KINDS, Kind};
use crate::{GROUP, GROUP_VERSION, VERSION};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::sync::LazyLock;

/// A document with the hash that names its content.
pub struct Document {
    pub bytes: Bytes,
    pub hash: String,
}

impl Document {
    pub(crate) fn new(value: &Value) -> Document {
        let bytes = Bytes::from(value.to_string());
        let mut hash = String::new();
        for byte in Sha256::digest(&bytes) {
            write!(hash, "{byte:02X}").expect("writing to a string");
        }
        Document { bytes, hash }
    }
}

/// `/openapi/v3`: where each group-version's document is; the hash lets clients keep it for ever.
pub fn v3_index() -> &'static Document {
    static INDEX: LazyLock<Document> = LazyLock::new(|| {
        let hash = &v3().hash;
        let mut paths = Map::new();
        paths.insert(
            format!("apis/{GROUP_VERSION}"),
            json!({"serverRelativeURL": format!("/openapi/v3/apis/{GROUP_VERSION}?hash={hash}")}),
        );
        Document::new(&json!({"paths": paths}))
    });
    &INDEX
}

/// `/openapi/v3/apis/G/V`.
pub fn v3() -> &'static Document {
    static V3: LazyLock<Document> = LazyLock::new(make_v3);
    &V3
}

/// `/openapi/v2`.
pub fn v2() -> &'static Document {
    static V2: LazyLock<Document> = LazyLock::new(make_v2);
    &V2
}

fn make_v3() -> Document {
    let schemas: Map<String, Value> = schemas("#/components/schemas/");
    let body = |reference: Value| json!({"application/json": {"schema": reference}});
    let paths = paths(
        "#/components/schemas/",
        &|name, required, description, place| {
            let kind = if name == "pretty" { "boolean" } else { "string" };
            json!({"name": name, "in": place, "required": required, "description": description, "schema": {"type": kind}})
        },
        &|operation, reference, takes_body| {
            operation["responses"]["200"]["content"] = body(reference.clone());
            if takes_body {
                operation["requestBody"] = json!({"required": true, "content": body(reference)});
            }
        },
    );
    Document::new(&json!({
        "openapi": "3.0.0", "info": {"title": "extension-server", "version": VERSION},
        "paths": paths, "components": {"schemas": schemas},
    }))
}

fn make_v2() -> Document {
    let paths = paths(
        "#/definitions/",
        &|name, required, description, place| {
            let kind = if name == "pretty" { "boolean" } else { "string" };
            json!({"name": name, "in": place, "required": required, "description": description, "type": kind})
        },
        &|operation, reference, takes_body| {
            operation["responses"]["200"]["schema"] = reference.clone();
            if takes_body && let Some(parameters) = operation["parameters"].as_array_mut() {
                parameters.push(json!({"name": "body", "in": "body", "required": true, "schema": reference}));
            }
        },
    );
    Document::new(&json!({
        "swagger": "2.0", "info": {"title": "extension-server", "version": VERSION},
        "paths": paths, "definitions": schemas("#/definitions/"),
    }))
}

type MakeParameter<'a> = &'a dyn Fn(&str, bool, &str, &str) -> Value;
type AddBodies<'a> = &'a dyn Fn(&mut Value, Value, bool);

fn paths(prefix: &str, parameter: MakeParameter, bodies: AddBodies) -> Map<String, Value> {
    let mut paths = Map::new();
    for kind in KINDS {
        let scope = if kind.namespaced { "/namespaces/{namespace}" } else { "" };
        let collection = format!("/apis/{GROUP_VERSION}{scope}/{}", kind.plural);
        let object = format!("{collection}/{{name}}");
        for (path, verbs) in [
            (
                collection,
                &[("get", "list"), ("post", "post"), ("delete", "deletecollection")][..],
            ),
            (
                format!("{object}/status"),
                &[("get", "get"), ("put", "put"), ("patch", "patch")][..],
            ),
            (
                object,
                &[("get", "get"), ("put", "put"), ("patch", "patch"), ("delete", "delete")][..],
            ),
        ] {
            let mut item = Map::new();
            for (method, action) in verbs {
                item.insert(
                    (*method).into(),
                    operation(kind, &path, action, prefix, parameter, bodies),
                );
            }
            paths.insert(path, item.into());
        }
    }
    paths
}

fn operation(
    kind: &Kind,
    path: &str,
    action: &str,
    prefix: &str,
    parameter: MakeParameter,
    bodies: AddBodies,
) -> Value {
    let mut parameters = vec![parameter(
        "pretty",
        false,
        "Whether to print with indentation.",
        "query",
    )];
    for (name, description) in [
        ("namespace", "Namespace of the object."),
        ("name", "Name of the object."),
    ] {
        if path.contains(&format!("{{{name}}}")) {
            parameters.push(parameter(name, true, description, "path"));
        }
    }
    let part = if path.ends_with("/status") { "Status" } else { "" };
    let mut operation = json!({
        "operationId": format!("{action}ShippingV1alpha1{}{part}", kind.kind),
        "description": format!("{action} {}", kind.kind), "tags": ["shipping_v1alpha1"],
        "parameters": parameters, "responses": {"200": {"description": "OK"}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {"group": GROUP, "version": VERSION, "kind": kind.kind},
    });
    let list = if action == "list" { "List" } else { "" };
    let reference = json!({"$ref": format!("{prefix}{}{list}", kind.schema_name())});
    bodies(&mut operation, reference, matches!(action, "post" | "put" | "patch"));
    operation
}

fn schemas(prefix: &str) -> Map<String, Value> {
    let mut schemas = Map::new();
    for kind in KINDS {
        let gvk = json!([{"group": GROUP, "version": VERSION, "kind": kind.kind}]);
        let object = json!({
            "type": "object", "description": kind.description,
            "properties": {
                "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
                "spec": fields(kind.spec), "status": fields(kind.status),
            },
            "x-kubernetes-group-version-kind": gvk,
        });
        let list = json!({
            "type": "object", "description": format!("{}List is a list of {}.", kind.kind, kind.plural), "required": ["items"],
            "properties": {
                "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
                "items": {"type": "array", "items": {"$ref": format!("{prefix}{}", kind.schema_name())}},
            },
            "x-kubernetes-group-version-kind": [{"group": GROUP, "version": VERSION, "kind": format!("{}List", kind.kind)}],
        });
        schemas.insert(kind.schema_name(), object);
        schemas.insert(format!("{}List", kind.schema_name()), list);
    }
    schemas
}

fn fields(fields: &[Field]) -> Value {
    let properties: Map<String, Value> = fields
        .iter()
        .map(|f| {
            (
                f.name.to_owned(),
                json!({"type": f.field_type, "description": f.description}),
            )
        })
        .collect();
    let required: Vec<&str> = fields.iter().filter(|f| f.required).map(|f| f.name).collect();
    let mut schema = json!({"type": "object", "properties": properties});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_names_the_document_by_its_hash() {
        let index = String::from_utf8_lossy(&v3_index().bytes);
        assert!(index.contains(&v3().hash));
        assert_eq!(v3().hash.len(), 64);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document: Value = serde_json::from_slice(&v2().bytes).unwrap();
        let text = document.to_string();
        for reference in text.split("\"#/definitions/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(document["definitions"].get(name).is_some(), "{name}");
        }
    }
}
