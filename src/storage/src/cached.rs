//! [`Cached`]: an object as the watch cache keeps it, its served bytes beside a small parsed header.

use crate::store::Revision;
use bytes::Bytes;
use compact_str::CompactString;
use std::sync::{Arc, OnceLock};

/// An object ready to be served. Immutable; every reader shares it.
#[derive(Debug)]
pub struct Cached {
    /// Relative to the cache's prefix: `name`, or `namespace/name`.
    pub key: Arc<str>,
    pub revision: Revision,
    /// The whole object as compact JSON in its stored version, `metadata.resourceVersion` included, no newline.
    pub json: Bytes,
    pub header: Header,
    /// Other encodings, made on first demand (see [`Forms`]).
    pub forms: Forms,
}

/// What selectors, indexes and deletion need without parsing the object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    pub uid: CompactString,
    /// Sorted by key.
    pub labels: Box<[(CompactString, CompactString)]>,
    /// The resource's selectable fields besides `metadata.name` and `metadata.namespace`, sorted by name.
    pub fields: Box<[(CompactString, CompactString)]>,
}

/// Lazily made encodings of one object; dropped with it.
#[derive(Debug, Default)]
pub struct Forms {
    pub protobuf: OnceLock<Bytes>,
    /// The watch frames `{"type":"ADDED","object":…}\n` and so on share this object's bytes; only whole frames are kept.
    pub watch_added: OnceLock<Bytes>,
    pub watch_modified: OnceLock<Bytes>,
    pub watch_deleted: OnceLock<Bytes>,
}

/// Turns stored values into cached objects. Given to a cache by the owner of its resource.
pub trait Decode: Send + Sync {
    /// `key` is relative to the cache's prefix; `value` is what the store holds. Called for every put, and for every
    /// delete with the last value and the delete's revision. An error leaves the object out and is reported by the
    /// cache's health.
    fn decode(&self, key: &str, value: &Bytes, revision: Revision) -> Result<Cached, String>;
}

impl Cached {
    /// The part of the key after the last slash.
    pub fn name(&self) -> &str {
        self.key.rsplit_once('/').map_or(&self.key, |(_, name)| name)
    }

    /// The part of the key before the slash; empty for cluster-scoped objects.
    pub fn namespace(&self) -> &str {
        self.key.rsplit_once('/').map_or("", |(namespace, _)| namespace)
    }
}
