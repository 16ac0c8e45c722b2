//! The vocabulary of the files under `openapi/`: what a declaration of a group-version may say.
//!
//! A field of a type is one line: `containers: Container[] @2 always keys(name) patch(merge) by(name)`.
//!
//! | word | meaning |
//! | --- | --- |
//! | `T`, `T[]`, `T{}` | a value, a list, a map from strings |
//! | `T?` | a Go pointer: absent differs from zero |
//! | `@2` | the protobuf field number |
//! | `always` | written even when zero (no `omitempty`); required unless `optional` |
//! | `empties` | an empty list differs from an absent one until it is stored, as it does for every list with `always` |
//! | `listed` | OpenAPI shows a list type of these bytes, which are a list to Go |
//! | `omitzero` | a zero struct is not written either |
//! | `required`, `optional` | where `always` says otherwise |
//! | `default(…)` | filled in where absent; JSON |
//! | `keys(a,b)`, `set` | the list is a map by these keys, a set; other lists are atomic |
//! | `atomic`, `granular` | the map is replaced as a whole; the struct is not, though its type says so |
//! | `key(T)` | the Go type of a map's keys, where it is not `string` |
//! | `patch(merge,retainKeys)`, `by(key)` | strategic merge |
//!
//! `_:` says what holds for the whole struct: `object` (has apiVersion and kind), `atomic`,
//! `union(discriminator,field=Value,…)`. `_inline:` names a type whose fields stand here in JSON.

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;

/// One file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declaration {
    /// Where the file is: `apps/v1`, `core/v1`. Filled in by the build.
    #[serde(default)]
    pub path: String,
    /// Before the type names in OpenAPI: `io.k8s.api.apps.v1`.
    pub package: String,
    #[serde(default)]
    pub resources: Ordered<Resource>,
    /// String types with known values.
    #[serde(default)]
    pub enums: Ordered<Vec<String>>,
    /// String types without known values.
    #[serde(default)]
    pub strings: Vec<String>,
    /// Named lists, which protobuf wraps in a message, and named maps, which it does not.
    #[serde(default)]
    pub named: Ordered<String>,
    #[serde(default)]
    pub types: Ordered<TypeBody>,
    /// Descriptions of fields by type, where the typed bindings have none; `_` is the type itself.
    #[serde(default)]
    pub words: Ordered<Ordered<String>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resource {
    pub kind: String,
    /// The lower-case kind unless given.
    #[serde(default)]
    pub singular: String,
    pub scope: String,
    #[serde(default)]
    pub short: Vec<String>,
    #[serde(default)]
    pub categories: Vec<String>,
    pub verbs: Verbs,
    /// Of the storage keys; none for what is not stored.
    #[serde(default)]
    pub prefix: String,
    /// The apiVersion objects are stored in, where it is not this one.
    #[serde(default)]
    pub stored: String,
    /// The apiVersion the storage version hash speaks of, where it is not the stored one.
    #[serde(default)]
    pub hashed: String,
    #[serde(default)]
    pub generation: bool,
    #[serde(default)]
    pub unconditional_update: bool,
    #[serde(default)]
    pub create_on_update: bool,
    #[serde(default)]
    pub lifetime_seconds: u64,
    /// A warning every answer carries.
    #[serde(default)]
    pub warning: String,
    #[serde(default)]
    pub subresources: Ordered<Subresource>,
    #[serde(default)]
    pub selectable: Vec<Selectable>,
    #[serde(default)]
    pub columns: Vec<Column>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Verbs {
    /// `all`: the eight of a stored resource.
    Word(String),
    List(Vec<String>),
}

/// `status` and `scale` behave as such; any other name is served by the resource's hook.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subresource {
    /// `autoscaling/v1.Scale`, or a kind of this file; the resource's own unless given.
    #[serde(default)]
    pub kind: String,
    /// get, patch and update unless given.
    #[serde(default)]
    pub verbs: Vec<String>,
    /// Of `scale`: where the object keeps the wanted and the current number and the selector.
    #[serde(default)]
    pub replicas: String,
    #[serde(default)]
    pub current: String,
    #[serde(default)]
    pub selector: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Selectable {
    Name(String),
    Field {
        name: String,
        #[serde(default)]
        path: String,
        #[serde(default)]
        default: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Column {
    /// `name`, `age` or `created`.
    Word(String),
    Full {
        name: String,
        #[serde(default, rename = "type")]
        type_name: String,
        #[serde(default)]
        format: String,
        #[serde(default)]
        priority: i64,
        #[serde(default)]
        path: String,
        /// The description, or
        #[serde(default)]
        about: String,
        /// the field whose description it is: `meta/v1.ObjectMeta.name`, `ConfigMap.data`.
        #[serde(default)]
        word: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TypeBody {
    /// `any`.
    Word(String),
    Fields(Ordered<String>),
}

/// A map in the order of the file.
#[derive(Debug)]
pub struct Ordered<T>(pub Vec<(String, T)>);

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Ordered(Vec::new())
    }
}

impl<T: Serialize> Serialize for Ordered<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(k, v)| (k, v)))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Ordered<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Ordered<T>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::with_capacity(map.size_hint().unwrap_or(0));
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Ordered(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}
