//! Objects as they are stored: compact JSON, `kind` and `apiVersion` first, then `metadata`, without resourceVersion;
//! and as they are served: the same bytes with the resourceVersion spliced in as the first member of the metadata.
//!
//! kube-apiserver writes built-in kinds in JSON with the same beginning, so its values are spliced, too.
// PERFORMANCE: per-request path

use crate::definition::{ResourceDefinition, SelectableField};
use crate::projection::Projection;
use crate::{at_rest, jsonpath, typed};
use bytes::Bytes;
use compact_str::CompactString;
use fairlead_api::{Map, Node, json};
use fairlead_schema as schema;
use fairlead_storage::{Cached, Decode, Forms, Header, Json, Labels, Revision, Texts};
use memchr::memmem;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Writes an object the way it is stored. `metadata.resourceVersion` is left out.
pub fn encode(object: &Node) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    write_object(object, &mut out);
    out
}

/// Writes an object the way it is served, with `revision` as its resourceVersion.
pub fn encode_served(object: &Node, revision: Revision) -> Vec<u8> {
    let stored = encode(object);
    match splice(&stored, revision) {
        Some(served) => served,
        // Nothing that goes through the engine, but a store may hold anything.
        None => {
            let mut object = object.clone();
            object
                .meta_mut()
                .insert("resourceVersion", Node::from(revision.0.to_string()));
            json::to_vec(&object)
        }
    }
}

/// A stored object with its resourceVersion in place; `None` where it does not begin as [`encode`] makes it.
pub fn splice(stored: &[u8], revision: Revision) -> Option<Vec<u8>> {
    let at = metadata_start(stored)?;
    let revision = revision.0.to_string();
    let mut out = Vec::with_capacity(stored.len() + RESOURCE_VERSION.len() + revision.len() + 2);
    out.extend_from_slice(&stored[..at]);
    out.extend_from_slice(RESOURCE_VERSION);
    out.extend_from_slice(revision.as_bytes());
    out.push(b'"');
    if stored.get(at) != Some(&b'}') {
        out.push(b',');
    }
    out.extend_from_slice(stored[at..].trim_ascii_end());
    Some(out)
}

/// A served object at another revision: what a DELETED event shows.
pub fn at_revision(object: &Cached, revision: Revision) -> Cached {
    let json = respliced(&object.json.text(), revision).unwrap_or_else(|| object.json.to_vec());
    Cached {
        key: object.key.clone(),
        revision,
        json: json.into(),
        header: object.header.clone(),
        forms: Forms::default(),
    }
}

/// Where the members of a served object begin behind its `kind` and `apiVersion`: what stands in a list of a built-in
/// kind, after a `{`.
pub fn untyped(json: &Json) -> usize {
    type_meta_len(json.beginning()).unwrap_or(1.min(json.len()))
}

/// The length of `{"kind":"…","apiVersion":"…",` where an object begins with it.
pub fn type_meta_len(json: &[u8]) -> Option<usize> {
    let rest = json.strip_prefix(KIND)?;
    let kind = rest.iter().position(|b| *b == b'"')?;
    let rest = rest[kind..].strip_prefix(API_VERSION)?;
    let version = rest.iter().position(|b| *b == b'"')?;
    rest[version..]
        .starts_with(b"\",")
        .then(|| KIND.len() + kind + API_VERSION.len() + version + 2)
}

/// The `apiVersion` of an object in served form.
pub fn api_version(json: &[u8]) -> Option<&[u8]> {
    let end = type_meta_len(json)?.checked_sub(2)?;
    let start = json[..end].iter().rposition(|b| *b == b'"')? + 1;
    json.get(start..end)
}

/// [`Decode`] for the objects of one resource. Holds the definition of the stored version, and of the others that
/// objects may have been stored in.
pub struct StoredObjects {
    definition: Arc<ResourceDefinition>,
    others: Vec<Arc<ResourceDefinition>>,
    /// Custom resources are pruned and defaulted whenever they are read, since their schema may have changed.
    normalize: bool,
    /// What selectable fields are read from; `None` where there are none.
    fields: Option<Projection>,
    /// The beginnings of managedFields.
    owners: Texts,
}

impl StoredObjects {
    pub fn new(definition: Arc<ResourceDefinition>) -> StoredObjects {
        let normalize = definition.is_custom();
        let fields = (!definition.selectable_fields.is_empty()).then(|| projection(&definition));
        StoredObjects {
            definition,
            others: Vec::new(),
            normalize,
            fields,
            owners: Texts::default(),
        }
    }

    /// Custom objects that were stored in one of these versions are read by it.
    #[must_use]
    pub fn beside(mut self, others: Vec<Arc<ResourceDefinition>>) -> StoredObjects {
        self.others = others;
        self
    }

    /// The definition of the version that an object is in, where it is served.
    fn of(&self, api_version: &[u8]) -> Option<&ResourceDefinition> {
        let is_its = |d: &&Arc<ResourceDefinition>| {
            api_version
                .strip_prefix(d.group.as_bytes())
                .and_then(|rest| rest.strip_prefix(b"/"))
                == Some(d.version.as_bytes())
        };
        std::iter::once(&self.definition)
            .chain(&self.others)
            .find(is_its)
            .map(|d| &**d)
    }
}

impl Decode for StoredObjects {
    fn decode(&self, key: &str, value: &Bytes, revision: Revision) -> Result<Cached, String> {
        let value = &*at_rest::read(&self.definition, value)?;
        let spliced = splice(value, revision);
        let (json, header) = match spliced {
            Some(json) if !self.normalize || self.is_settled(value, &json) => {
                let mut header = metadata_header(&json).ok_or("the metadata cannot be read")?;
                if let Some(wanted) = &self.fields {
                    let part = wanted.read(value).map_err(|error| error.to_string())?;
                    header.fields = fields(&part, &self.definition);
                }
                (json, header)
            }
            spliced => {
                let mut object = json::parse(value).map_err(|error| error.to_string())?;
                // Versions that are no longer served have no schema to be read by.
                let definition = self.of(object.str("apiVersion").as_bytes());
                let changed =
                    self.normalize && definition.is_some_and(|definition| typed::normalize(&mut object, definition));
                let json = match spliced {
                    Some(json) if !changed => json,
                    _ => encode_served(&object, revision),
                };
                (json, header(&object, definition.unwrap_or(&self.definition)))
            }
        };
        Ok(Cached {
            key: key.into(),
            revision,
            json: packed(json, &self.owners),
            header,
            forms: Forms::default(),
        })
    }

    fn at_revision(&self, object: &Cached, revision: Revision) -> Cached {
        at_revision(object, revision)
    }
}

impl StoredObjects {
    /// Whether a custom object can be served as it is stored.
    fn is_settled(&self, value: &[u8], served: &[u8]) -> bool {
        let Some(definition) = self.of(api_version(served).unwrap_or_default()) else {
            return false;
        };
        // Other versions may select by other fields.
        let selected = definition.selectable_fields == self.definition.selectable_fields;
        selected && schema::is_settled(value, definition.schema.root())
    }
}

/// Keeps what its managedFields have in common with those of other objects only once.
fn packed(json: Vec<u8>, known: &Texts) -> Json {
    let Some(part) = owners(&json) else { return json.into() };
    match known.share(&json[part.clone()]) {
        Some(text) => Json::sharing(&json, part, text),
        None => json.into(),
    }
}

/// The managedFields of an object up to their first time, which is what tells objects of one manager apart.
fn owners(json: &[u8]) -> Option<Range<usize>> {
    // Neither text can stand inside of a JSON string.
    let start = memmem::find(json, b"\"managedFields\":[{")?;
    let length = memmem::find(&json[start..], b"\"time\":\"")?;
    Some(start..start + length)
}

/// A cached object made of a node: a converted copy, or one that was not stored.
pub fn cached(key: Arc<str>, object: &Node, revision: Revision, definition: &ResourceDefinition) -> Cached {
    Cached {
        key,
        revision,
        json: encode_served(object, revision).into(),
        header: header(object, definition),
        forms: Forms::default(),
    }
}

/// The header of a parsed object.
pub fn header(object: &Node, definition: &ResourceDefinition) -> Header {
    let labels = object.labels().into_iter().flat_map(Map::iter);
    Header {
        uid: object.uid().into(),
        labels: labels.map(|(k, v)| (k, v.as_str().unwrap_or(""))).collect(),
        fields: fields(object, definition),
        behind_metadata: 0,
    }
}

fn fields(object: &Node, definition: &ResourceDefinition) -> Box<[(CompactString, CompactString)]> {
    let mut fields: Vec<(CompactString, CompactString)> = definition
        .selectable_fields
        .iter()
        .map(|field| (field.name.clone(), selectable(object, field)))
        .collect();
    for (name, value) in definition.hooks.selectable(object) {
        match fields.iter_mut().find(|(n, _)| *n == name) {
            Some(field) => field.1 = value,
            None => fields.push((name, value)),
        }
    }
    fields.sort();
    fields.into()
}

/// What must be read of an object for its selectable fields; all of it where a path does more than name members.
fn projection(definition: &ResourceDefinition) -> Projection {
    let mut projection = Projection::default();
    for field in &definition.selectable_fields {
        let Some(names) = Projection::names(&field.json_path) else {
            return Projection::default();
        };
        projection.add(names);
    }
    for path in definition.hooks.selectable_from() {
        projection.add(path.iter().copied());
    }
    projection
}

fn selectable(object: &Node, field: &SelectableField) -> CompactString {
    match jsonpath::first(object, &field.json_path) {
        None | Some(Node::Null) => field.default.clone(),
        Some(Node::String(s)) if s.is_empty() => field.default.clone(),
        Some(Node::String(s)) => s.clone(),
        Some(other) => json::to_string(other).into(),
    }
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow, default)]
    uid: Cow<'a, str>,
    #[serde(borrow, default)]
    labels: Option<BTreeMap<Cow<'a, str>, Cow<'a, str>>>,
}

/// The header of an object in served form, from its metadata alone.
fn metadata_header(json: &[u8]) -> Option<Header> {
    let start = metadata_start(json)? - 1;
    let mut values = serde_json::Deserializer::from_slice(&json[start..]).into_iter();
    let metadata: Metadata = values.next()?.ok()?;
    let behind = json.len() - start - values.byte_offset();
    let labels: Labels = metadata.labels.into_iter().flatten().collect();
    Some(Header {
        uid: (&*metadata.uid).into(),
        labels,
        fields: Box::default(),
        behind_metadata: u32::try_from(behind).unwrap_or(0),
    })
}

/// The metadata of a cached object, as JSON: a part of its bytes, wherever it stands where it should.
pub fn metadata(object: &Cached) -> Bytes {
    metadata_part(object).unwrap_or_else(|| {
        let parsed = json::parse(&object.json.text()).unwrap_or_default();
        parsed.meta().map_or_else(|| b"{}".to_vec(), json::to_vec).into()
    })
}

fn metadata_part(object: &Cached) -> Option<Bytes> {
    let start = metadata_start(object.json.beginning())? - 1;
    let behind = match object.header.behind_metadata {
        0 => {
            let text = object.json.text();
            let mut values = serde_json::Deserializer::from_slice(&text[start..]).into_iter::<IgnoredAny>();
            values.next()?.ok()?;
            text.len() - start - values.byte_offset()
        }
        known => known as usize,
    };
    let mut metadata = Vec::with_capacity(object.json.len() - start);
    object.json.write(start, &mut metadata);
    metadata.truncate(metadata.len().checked_sub(behind)?);
    Some(metadata.into())
}

/// Where the first member of the metadata starts.
fn metadata_start(json: &[u8]) -> Option<usize> {
    let start = type_meta_len(json)?;
    json[start..].starts_with(METADATA).then_some(start + METADATA.len())
}

fn respliced(json: &[u8], revision: Revision) -> Option<Vec<u8>> {
    let at = metadata_start(json)?;
    let rest = json[at..].strip_prefix(RESOURCE_VERSION)?;
    let end = rest.iter().position(|b| *b == b'"')?;
    let mut out = Vec::with_capacity(json.len() + 8);
    out.extend_from_slice(&json[..at + RESOURCE_VERSION.len()]);
    out.extend_from_slice(revision.0.to_string().as_bytes());
    out.extend_from_slice(&rest[end..]);
    Some(out)
}

const KIND: &[u8] = br#"{"kind":""#;
const API_VERSION: &[u8] = br#"","apiVersion":""#;
const METADATA: &[u8] = br#""metadata":{"#;
const RESOURCE_VERSION: &[u8] = br#""resourceVersion":""#;

fn write_object(object: &Node, out: &mut Vec<u8>) {
    let Node::Map(members) = object else {
        json::write(object, out);
        return;
    };
    out.push(b'{');
    for key in ["kind", "apiVersion"] {
        if let Some(value) = members.get(key) {
            member(key, value, out);
        }
    }
    if let Some(metadata) = members.get("metadata") {
        separate(out);
        out.extend_from_slice(b"\"metadata\":");
        write_metadata(metadata, out);
    }
    for (key, value) in members.iter() {
        if !matches!(key.as_str(), "kind" | "apiVersion" | "metadata") {
            member(key, value, out);
        }
    }
    out.push(b'}');
}

fn write_metadata(metadata: &Node, out: &mut Vec<u8>) {
    let Node::Map(members) = metadata else {
        json::write(metadata, out);
        return;
    };
    out.push(b'{');
    for (key, value) in members.iter() {
        if key != "resourceVersion" {
            member(key, value, out);
        }
    }
    out.push(b'}');
}

fn member(key: &str, value: &Node, out: &mut Vec<u8>) {
    separate(out);
    json::write_str(key, out);
    out.push(b':');
    json::write(value, out);
}

fn separate(out: &mut Vec<u8>) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn objects_are_stored_without_and_served_with_their_version() {
        let object =
            node!({"apiVersion": "v1", "a": 1, "kind": "Thing", "metadata": {"name": "x", "resourceVersion": "7"}});
        let stored = encode(&object);
        assert_eq!(
            stored,
            br#"{"kind":"Thing","apiVersion":"v1","metadata":{"name":"x"},"a":1}"#
        );
        let served = encode_served(&object, Revision(9));
        assert_eq!(
            &served[..],
            br#"{"kind":"Thing","apiVersion":"v1","metadata":{"resourceVersion":"9","name":"x"},"a":1}"#
        );
        assert_eq!(
            &served[untyped(&served.clone().into())..],
            br#""metadata":{"resourceVersion":"9","name":"x"},"a":1}"#
        );
        assert_eq!(untyped(&"{\"a\":1}".to_owned().into()), 1);
        assert_eq!(
            respliced(&served, Revision(123)).unwrap(),
            encode_served(&object, Revision(123))
        );
    }

    #[test]
    fn values_of_other_writers_are_spliced_or_rewritten() {
        let foreign = b"{\"kind\":\"Thing\",\"apiVersion\":\"v1\",\"metadata\":{},\"z\":1}\n";
        assert_eq!(
            splice(foreign, Revision(3)).unwrap(),
            br#"{"kind":"Thing","apiVersion":"v1","metadata":{"resourceVersion":"3"},"z":1}"#
        );
        assert_eq!(
            splice(br#"{"apiVersion":"v1","kind":"Thing","metadata":{}}"#, Revision(3)),
            None
        );
    }

    #[test]
    fn headers_come_from_the_metadata_alone() {
        let json = br#"{"kind":"T","apiVersion":"v1","metadata":{"resourceVersion":"3","labels":{"a":"b\n"},"uid":"u"},"spec": not json"#;
        let header = metadata_header(json).unwrap();
        assert_eq!(header.uid, "u".into());
        assert_eq!(header.labels.iter().collect::<Vec<_>>(), [("a", "b\n")]);
        assert_eq!(header.behind_metadata, 17);
    }

    /// Ten thousand ConfigMaps of 1 KiB shall take 20 MiB at most, all in all.
    #[test]
    fn an_object_costs_little_more_than_its_text() {
        let known = Texts::default();
        let made = |n: usize| {
            let name = format!("filled-{n}");
            let mut object = node!({"kind": "ConfigMap", "apiVersion": "v1",
                "metadata": {"uid": format!("83ce138f-bd59-4007-a85e-{n:012}"), "creationTimestamp": "2026-11-24T12:37:17Z",
                    "labels": {"bench": "filled"}, "managedFields": [{"manager": "bench", "operation": "Update",
                        "apiVersion": "v1", "time": format!("2026-11-24T12:37:{n:02}Z"), "fieldsType": "FieldsV1",
                        "fieldsV1": {"f:data": {".": {}, "f:filling": {}, "f:value": {}},
                            "f:metadata": {"f:labels": {".": {}, "f:bench": {}}}}}]},
                "data": {"value": "filled", "filling": "x".repeat(540)}});
            object.set_at(&["metadata", "name"], name.as_str());
            object.set_at(&["metadata", "namespace"], "default");
            let json = encode_served(&object, Revision(n as u64));
            let header = metadata_header(&json).unwrap();
            let cached = Cached {
                key: format!("default/{name}").into(),
                revision: Revision(n as u64),
                json: packed(json.clone(), &known),
                header,
                forms: Forms::default(),
            };
            assert_eq!(cached.json.to_vec(), json);
            assert_eq!(
                json::parse(&metadata(&cached)).unwrap(),
                *json::parse(&json).unwrap().meta().unwrap()
            );
            (json.len(), cached)
        };
        let all: Vec<_> = (10..30).map(made).collect();
        for (length, cached) in &all[2..] {
            assert!((1000..1100).contains(length), "{length}");
            assert!(cached.json.own() + 200 < *length, "{} of {length}", cached.json.own());
            assert!(cached.footprint() <= length + 64, "{} for {length}", cached.footprint());
        }
    }

    #[test]
    fn metadata_is_a_part_of_the_object() {
        let json = br#"{"kind":"T","apiVersion":"v1","metadata":{"resourceVersion":"3","labels":{"a":"}"}},"spec":{}}"#;
        let mut object = Cached {
            key: "x".into(),
            revision: Revision(3),
            json: json.to_vec().into(),
            header: Header::default(),
            forms: Forms::default(),
        };
        let expected = r#"{"resourceVersion":"3","labels":{"a":"}"}}"#;
        assert_eq!(metadata(&object), expected);
        object.header = metadata_header(json).unwrap();
        assert_ne!(object.header.behind_metadata, 0);
        assert_eq!(metadata(&object), expected);
        assert_eq!(
            metadata(&at_revision(&object, Revision(1234))),
            expected.replace('3', "1234")
        );
    }
}
