//! [`Document`]: a finished discovery or OpenAPI document.

use bytes::Bytes;
use fairlead_api::{Node, json};
use sha2::{Digest, Sha512};
use std::fmt::Write;
use std::sync::{Arc, OnceLock};

/// Bytes to serve as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Compact JSON.
    pub json: Bytes,
    /// A strong entity tag with its quotes; `None` where upstream sends none.
    pub etag: Option<String>,
    /// The same in protobuf, made by whoever serves it when it is first asked for.
    pub protobuf: Arc<OnceLock<Bytes>>,
}

impl Document {
    pub fn new(json: Bytes, etag: Option<String>) -> Document {
        Document {
            json,
            etag,
            protobuf: Arc::default(),
        }
    }

    /// A document without an entity tag.
    pub fn plain(node: &Node) -> Document {
        Document::new(json::to_vec(node).into(), None)
    }

    /// A document tagged by its content.
    pub fn tagged(node: &Node) -> Document {
        let json: Bytes = json::to_vec(node).into();
        let etag = Some(format!("\"{}\"", hash(&json)));
        Document::new(json, etag)
    }
}

/// COMPAT: the upper-case hexadecimal SHA-512 of `bytes`, as in entity tags and hashed URLs (kube-openapi
/// pkg/handler3/handler.go): a document that is passed on unchanged keeps the URL its own server gives it.
pub fn hash(bytes: &[u8]) -> String {
    Sha512::digest(bytes)
        .iter()
        .fold(String::with_capacity(128), |mut text, byte| {
            write!(text, "{byte:02X}").expect("writing to a String cannot fail");
            text
        })
}
