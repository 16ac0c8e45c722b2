//! [`AtRest`]: the forms in which values of built-in kinds are stored, and which of them is written.
//!
//! kube-apiserver writes built-in kinds as protobuf and has written older versions of some. Whoever shares its store
//! reads all of that. Custom resources are JSON everywhere.
// PERFORMANCE: per-request path

use crate::definition::{Conversion, ResourceDefinition};
use crate::{storage_codec, typed};
use fairlead_api::{GroupVersionKind, Node, json};
use fairlead_codec::protobuf::{Protobuf, envelope};
use fairlead_schema::{self as schema, TypeId, TypeRef, Types};
use std::borrow::Cow;
use std::sync::Arc;

/// What objects are written as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    #[default]
    Json,
    /// A message in an envelope that begins with `k8s` and a zero byte.
    Protobuf,
}

/// How values of one built-in resource are written and read.
#[derive(Clone)]
pub struct AtRest {
    pub form: Form,
    pub protobuf: Arc<Protobuf>,
    pub types: Arc<Types>,
    pub written_as: Option<Older>,
}

/// A version that is written but not served: upstream stores some kinds in an older version than it serves.
#[derive(Clone, Copy)]
pub struct Older {
    pub api_version: &'static str,
    /// In place, from the stored version of the definition.
    pub to: fn(&mut Node),
    /// In place, to the stored version of the definition. `apiVersion` is set by the caller.
    pub from: fn(&mut Node),
}

/// The value an object is stored as.
pub fn write(definition: &ResourceDefinition, mut object: Node) -> Vec<u8> {
    let Some(at_rest) = &definition.storage.at_rest else {
        return storage_codec::encode(&object);
    };
    if at_rest.form == Form::Json {
        return storage_codec::encode(&object);
    }
    if let Some(older) = &at_rest.written_as {
        (older.to)(&mut object);
        object.set("apiVersion", older.api_version);
        return storage_codec::encode(&object);
    }
    object.meta_mut().remove("resourceVersion");
    let (api_version, kind) = (object.str("apiVersion"), object.str("kind"));
    match at_rest.of(definition, api_version, kind) {
        Some(id) => envelope::seal(api_version, kind, &at_rest.protobuf.encode(&object, id)),
        None => storage_codec::encode(&object),
    }
}

/// The object of a value, in the definition's stored version; borrowed where it is JSON of that version already.
///
/// # Errors
/// Why it cannot be read.
pub fn read<'a>(definition: &ResourceDefinition, value: &'a [u8]) -> Result<Cow<'a, [u8]>, String> {
    let Some(at_rest) = &definition.storage.at_rest else {
        return Ok(Cow::Borrowed(value));
    };
    if !value.starts_with(envelope::MAGIC) && is_current(&definition.storage.kind, value) {
        return Ok(Cow::Borrowed(value));
    }
    let mut object = match value.starts_with(envelope::MAGIC) {
        true => at_rest.message(definition, value)?,
        false => json::parse(value).map_err(|error| error.to_string())?,
    };
    at_rest.convert(definition, &mut object);
    if value.starts_with(envelope::MAGIC) {
        // COMPAT: as upstream, defaults are those of whoever reads: some are younger than what is stored, some never stored.
        typed::default(&mut object, definition);
    }
    Ok(Cow::Owned(storage_codec::encode(&object)))
}

impl AtRest {
    /// The message of a kind. A version that is stored but not served has the fields of the one that is.
    fn of(&self, definition: &ResourceDefinition, api_version: &str, kind: &str) -> Option<TypeId> {
        let served = || (definition.kind == kind).then_some(definition.schema.root);
        self.protobuf.message_of(api_version, kind).or_else(served)
    }

    fn message(&self, definition: &ResourceDefinition, value: &[u8]) -> Result<Node, String> {
        let document = envelope::open(value).map_err(|error| error.to_string())?;
        let (api_version, kind) = (&document.api_version, &document.kind);
        let id = self
            .of(definition, api_version, kind)
            .ok_or_else(|| format!("no kind {kind:?} is registered for version {api_version:?}"))?;
        let mut object = self
            .protobuf
            .decode(document.message, id)
            .map_err(|error| error.to_string())?;
        let of = TypeRef { types: &self.types, id };
        schema::complete(&mut object, of);
        object.set("apiVersion", api_version.as_str());
        object.set("kind", kind.as_str());
        Ok(object)
    }

    fn convert(&self, definition: &ResourceDefinition, object: &mut Node) {
        let stored = definition.storage.kind.group_version().to_string();
        if object.str("apiVersion") == stored {
            return;
        }
        match (&self.written_as, &definition.conversion) {
            (Some(older), _) if object.str("apiVersion") == older.api_version => (older.from)(object),
            (_, Conversion::Builtin(convert)) => convert(object, &stored),
            _ => {}
        }
        object.set("apiVersion", stored);
    }
}

/// Whether JSON that begins as stored objects do is in this version. What begins otherwise is read all the same.
fn is_current(kind: &GroupVersionKind, value: &[u8]) -> bool {
    let Some(version) = storage_codec::api_version(value) else {
        return false;
    };
    let rest = match kind.group.as_str() {
        "" => Some(version),
        group => version
            .strip_prefix(group.as_bytes())
            .and_then(|rest| rest.strip_prefix(b"/")),
    };
    rest == Some(kind.version.as_bytes())
}

impl std::fmt::Debug for AtRest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let older = self.written_as.map(|older| older.api_version);
        f.debug_struct("AtRest")
            .field("form", &self.form)
            .field("written_as", &older)
            .finish_non_exhaustive()
    }
}

impl PartialEq for AtRest {
    fn eq(&self, other: &AtRest) -> bool {
        self.form == other.form && Arc::ptr_eq(&self.protobuf, &other.protobuf)
    }
}

impl Eq for AtRest {}
