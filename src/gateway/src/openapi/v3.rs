//! OpenAPI v3 of one group-version, checked by the openapiv3 model and cut by it.

use super::{Document, DocumentError, Known, Origin, bounded, is_below, prefix};
use bytes::Bytes;
use fairlead_api::{GroupVersion, Node, json};
use openapiv3::OpenAPI;
use serde_json::Value;
use std::collections::HashSet;

const V3: &str = "v3";

/// A document as a backend sent it, and its model. Bytes that need no change stay as they are.
pub fn read(bytes: &Bytes, gv: &GroupVersion) -> Result<(Known, OpenAPI), DocumentError> {
    bounded(bytes, V3)?;
    let mut model = parse(bytes)?;
    let prefix = prefix(gv);
    let before = model.paths.paths.len();
    model.paths.paths.retain(|path, _| is_below(path, &prefix));
    if model.paths.paths.len() == before {
        let document = Document::new(bytes.clone());
        let origin = Origin::Backend;
        return Ok((Known { document, origin }, model));
    }
    prune(&mut model);
    let document = write(&model)?;
    let origin = Origin::Cut;
    Ok((Known { document, origin }, model))
}

/// Checks a document that was made of another version.
pub(super) fn derived(made: &Node) -> Result<Known, DocumentError> {
    let model = parse(&json::to_vec(made))?;
    Ok(Known {
        document: write(&model)?,
        origin: Origin::Derived,
    })
}

fn parse(bytes: &[u8]) -> Result<OpenAPI, DocumentError> {
    let model: OpenAPI = serde_json::from_slice(bytes).map_err(invalid)?;
    if model.openapi.starts_with("3.") {
        Ok(model)
    } else {
        Err(DocumentError::Version(V3))
    }
}

fn write(model: &OpenAPI) -> Result<Document, DocumentError> {
    serde_json::to_vec(model)
        .map(|bytes| Document::new(bytes.into()))
        .map_err(invalid)
}

fn invalid(error: serde_json::Error) -> DocumentError {
    DocumentError::Invalid(V3, error.to_string())
}

/// Drops the schemas that no path leads to.
fn prune(model: &mut OpenAPI) {
    let Some(components) = &mut model.components else {
        return;
    };
    let mut open = Vec::new();
    references(&serde_json::to_value(&model.paths).unwrap_or_default(), &mut open);
    let mut needed: HashSet<String> = HashSet::new();
    while let Some(name) = open.pop() {
        if !needed.contains(&name) {
            if let Some(schema) = components.schemas.get(&name) {
                references(&serde_json::to_value(schema).unwrap_or_default(), &mut open);
            }
            needed.insert(name);
        }
    }
    components.schemas.retain(|name, _| needed.contains(name));
}

/// Collects the schemas that a value refers to.
pub(super) fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value.as_str().filter(|_| key == "$ref") {
                    Some(text) => found.extend(text.strip_prefix("#/components/schemas/").map(str::to_owned)),
                    None => references(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gv() -> GroupVersion {
        GroupVersion::new("g.example.com", "v1")
    }

    fn read_text(text: &'static str) -> Result<Known, DocumentError> {
        read(&Bytes::from_static(text.as_bytes()), &gv()).map(|(known, _)| known)
    }

    #[test]
    fn what_is_only_its_own_stays_as_it_is() {
        let text = r#"{ "openapi":"3.0.0","info":{"title":"","version":""},"paths":{"/apis/g.example.com/v1/":{}}}"#;
        let known = read_text(text).unwrap();
        assert_eq!(
            (known.origin, &known.document.bytes[..]),
            (Origin::Backend, text.as_bytes())
        );
    }

    #[test]
    fn what_belongs_to_others_is_cut() {
        let known = read_text(
            r##"{"openapi":"3.0.0","info":{"title":"","version":""},
            "paths":{"/apis/apps/v1":{},"/apis/g.example.com/v10/":{},"/apis/g.example.com/v1/things":{"get":{"responses":
                {"200":{"description":"","content":{"*/*":{"schema":{"$ref":"#/components/schemas/A"}}}}}}}},
            "components":{"schemas":{"A":{"properties":{"b":{"allOf":[{"$ref":"#/components/schemas/B"}]}}},
                "B":{"items":{"$ref":"#/components/schemas/A"},"type":"array"},"Evil":{}}}}"##,
        )
        .unwrap();
        let text = String::from_utf8_lossy(&known.document.bytes);
        assert_eq!(known.origin, Origin::Cut);
        assert!(
            !text.contains("apps") && !text.contains("Evil") && !text.contains("v10"),
            "{text}"
        );
        assert!(text.contains("\"A\"") && text.contains("\"B\""), "{text}");
    }

    #[test]
    fn what_is_no_document_is_refused() {
        assert!(matches!(read_text("<html>"), Err(DocumentError::Invalid(..))));
        assert!(matches!(
            read_text(r#"{"openapi":"3.0.0","paths":{}}"#),
            Err(DocumentError::Invalid(..))
        ));
        let other = r#"{"openapi":"4.0.0","info":{"title":"","version":""},"paths":{}}"#;
        assert_eq!(read_text(other), Err(DocumentError::Version("v3")));
        let wrong = r#"{"openapi":"3.0.0","info":[],"paths":5}"#;
        assert!(matches!(read_text(wrong), Err(DocumentError::Invalid(..))));
        let deep: &'static str = Box::leak(format!("{}{}", r#"{"openapi":"#, "[".repeat(5000)).into_boxed_str());
        assert!(matches!(read_text(deep), Err(DocumentError::Invalid(..))));
    }
}
