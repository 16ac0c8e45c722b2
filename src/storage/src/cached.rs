//! [`Cached`]: an object as the watch cache keeps it, its served bytes beside a small parsed header.

use crate::store::Revision;
use bytes::Bytes;
use compact_str::CompactString;
use std::sync::Arc;

mod forms;
mod json;
mod labels;

pub use forms::{Cells, FRAMES, Forms, GROUPS};
pub use json::{Json, Texts};
pub use labels::{Labels, Uid};

/// An object ready to be served. Immutable; every reader shares it.
#[derive(Debug)]
pub struct Cached {
    /// Relative to the cache's prefix: `name`, or `namespace/name`.
    pub key: Arc<str>,
    pub revision: Revision,
    /// The whole object as compact JSON in its stored version, `metadata.resourceVersion` included, no newline.
    pub json: Json,
    pub header: Header,
    /// Other encodings, made on first demand (see [`Forms`]).
    pub forms: Forms,
}

/// What selectors, indexes and deletion need without parsing the object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    pub uid: Uid,
    pub labels: Labels,
    /// The resource's selectable fields besides `metadata.name` and `metadata.namespace`, sorted by name.
    pub fields: Box<[(CompactString, CompactString)]>,
    /// How many bytes of the JSON follow the metadata; 0 where nobody has counted them.
    pub behind_metadata: u32,
}

/// Turns stored values into cached objects. Given to a cache by the owner of its resource.
pub trait Decode: Send + Sync {
    /// `key` is relative to the cache's prefix; `value` is what the store holds. Called for every put, and for every
    /// delete with the last value and the delete's revision. An error leaves the object out and is reported by the
    /// cache's health.
    fn decode(&self, key: &str, value: &Bytes, revision: Revision) -> Result<Cached, String>;

    /// What was decoded, at another revision: the last state of an object whose delete brought no value.
    fn at_revision(&self, object: &Cached, revision: Revision) -> Cached {
        Cached {
            key: object.key.clone(),
            revision,
            json: object.json.clone(),
            header: object.header.clone(),
            forms: Forms::default(),
        }
    }
}

impl Header {
    fn own(&self) -> usize {
        let pair = size_of::<(CompactString, CompactString)>();
        let text = |text: &CompactString| if text.is_heap_allocated() { text.capacity() } else { 0 };
        let fields: usize = self
            .fields
            .iter()
            .map(|(name, value)| pair + text(name) + text(value))
            .sum();
        self.labels.own() + self.uid.own() + fields
    }
}

impl Cached {
    /// The part of the key after the last slash.
    pub fn name(&self) -> &str {
        self.key.rsplit_once('/').map_or(&self.key, |(_, name)| name)
    }

    /// The value of a selectable field, empty where there is none.
    pub fn field(&self, name: &str) -> &str {
        match name {
            "metadata.name" => self.name(),
            "metadata.namespace" => self.namespace(),
            _ => {
                let fields = &self.header.fields;
                let found = fields.binary_search_by(|(known, _)| known.as_str().cmp(name));
                found.map_or("", |at| fields[at].1.as_str())
            }
        }
    }

    /// Bytes kept for this object alone, other forms and what an allocator adds left out.
    pub fn footprint(&self) -> usize {
        // Beside the object and beside its key stand two counters.
        let counters = 4 * size_of::<usize>();
        size_of::<Cached>() + counters + self.key.len() + self.json.own() + self.header.own()
    }

    /// The part of the key before the slash; empty for cluster-scoped objects.
    pub fn namespace(&self) -> &str {
        self.key.rsplit_once('/').map_or("", |(namespace, _)| namespace)
    }
}
