//! The fault `common-type`: OpenAPI documents in which parcels have an address, of a type that other servers have too and
//! need not mean the same by. No part of a real server.

use crate::api::{self, Answer};
use crate::{GROUP_VERSION, openapi};
use http::Response;
use serde_json::{Value, json};

/// No group's name is in it, so it is the same whatever the group is called.
const NAME: &str = "com.example.common.v1.Address";

/// The other document of a path; `None` where it stays as it is.
pub fn answer(path: &str, kind: &str) -> Option<Response<Answer>> {
    let v3 = openapi::v3();
    let altered_v3 = || altered(&v3.bytes, "/components/schemas", kind);
    let document = match path.trim_end_matches('/') {
        "/openapi/v2" => altered(&openapi::v2().bytes, "/definitions", kind).bytes,
        "/openapi/v3" => {
            let index = String::from_utf8_lossy(&openapi::v3_index().bytes).into_owned();
            index.replace(&v3.hash, &altered_v3().hash).into()
        }
        path if path == format!("/openapi/v3/apis/{GROUP_VERSION}") => altered_v3().bytes,
        _ => return None,
    };
    let text = String::from_utf8_lossy(&document).into_owned();
    Some(api::typed_text("application/json", text))
}

/// A document with the type, as one of `kind`, and with a reference to it from every specification.
fn altered(document: &[u8], schemas: &str, kind: &str) -> openapi::Document {
    let mut document: Value = serde_json::from_slice(document).unwrap_or_default();
    if let Some(all) = document.pointer_mut(schemas).and_then(Value::as_object_mut) {
        for schema in all.values_mut() {
            if let Some(fields) = schema.pointer_mut("/properties/spec/properties") {
                fields["address"] = json!({"$ref": format!("#{schemas}/{NAME}")});
            }
        }
        all.insert(NAME.into(), json!({"type": kind}));
    }
    openapi::Document::new(&document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_lead_to_the_type() {
        for (document, schemas) in [
            (&openapi::v2().bytes, "/definitions"),
            (&openapi::v3().bytes, "/components/schemas"),
        ] {
            let document: Value = serde_json::from_slice(&altered(document, schemas, "string").bytes).unwrap();
            assert_eq!(
                document.pointer(&format!("{schemas}/{NAME}/type")),
                Some(&json!("string"))
            );
            assert!(
                document
                    .to_string()
                    .contains(&format!("{{\"$ref\":\"#{schemas}/{NAME}\"}}"))
            );
        }
        assert!(answer("/apis", "string").is_none());
    }
}
