//! Protobuf of built-in kinds: from and to [`Node`]s, driven by the tables of [`Types`].
//!
//! [`Protobuf`] holds one message for every struct type, found by [`TypeId`] or by apiVersion and kind. Documents stand
//! in an [`envelope`] that names their kind; lists and watches put messages together that were encoded before.
//! What is written is what Go's generated code writes: fields by number, values even where they are empty, absent
//! pointers never, maps by key, repeated numbers one by one.
// PERFORMANCE: per-request path

mod decode;
mod encode;
pub mod envelope;
mod message;
mod scalar;
mod status;
pub mod wire;

pub use status::status;

use compact_str::CompactString;
use fairlead_api::{GroupVersionKind, Node};
use fairlead_schema::{TypeId, Types};
use message::Message;
use std::collections::HashMap;

/// Why bytes are not a message, in the words of Go's generated decoders.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("unexpected EOF")]
    Eof,
    #[error("proto: negative length found during unmarshaling")]
    NegativeLength,
    #[error("proto: integer overflow")]
    Overflow,
    #[error("proto: unexpected end of group")]
    EndOfGroup,
    #[error("proto: exceeded max depth")]
    TooDeep,
    #[error("proto: message is too complex")]
    TooComplex,
    #[error("{0}")]
    Other(String),
}

/// The messages of all types of one table.
#[derive(Debug, Default)]
pub struct Protobuf {
    /// By [`TypeId`]; behind them those that no type stands for.
    messages: Vec<Message>,
    /// By kind: group, version, type.
    kinds: HashMap<CompactString, Vec<(CompactString, CompactString, TypeId)>>,
}

impl Protobuf {
    /// Compiles the messages of `types`; `kinds` says what documents of them are called.
    pub fn new<'a>(types: &Types, kinds: impl IntoIterator<Item = (&'a GroupVersionKind, TypeId)>) -> Protobuf {
        let mut protobuf = Protobuf {
            messages: message::compile(types),
            kinds: HashMap::new(),
        };
        for (gvk, id) in kinds {
            protobuf.name(&gvk.group, &gvk.version, &gvk.kind, id);
        }
        protobuf.name_lists();
        protobuf
    }

    /// The message of a kind. Those of `meta/v1` are found under every group.
    pub fn message(&self, group: &str, version: &str, kind: &str) -> Option<TypeId> {
        let known = self.kinds.get(kind)?;
        let exact = known.iter().find(|(g, v, _)| g == group && v == version);
        let meta = || known.iter().find(|(g, v, _)| g.is_empty() && v == "v1");
        exact.or_else(meta).map(|(_, _, id)| *id)
    }

    /// The message of what `apiVersion` and `kind` say.
    pub fn message_of(&self, api_version: &str, kind: &str) -> Option<TypeId> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.message(group, version, kind)
    }

    /// The message of a message's field.
    pub fn field(&self, id: TypeId, name: &str) -> Option<TypeId> {
        self.messages.get(id.0 as usize)?.field(name)
    }

    /// The message of `node`, without an envelope.
    pub fn encode(&self, node: &Node, id: TypeId) -> Vec<u8> {
        encode::message(&self.messages, id, node)
    }

    /// `node` in an envelope with its own apiVersion and kind; `None` for kinds that have no protobuf.
    pub fn document(&self, node: &Node) -> Option<Vec<u8>> {
        let (api_version, kind) = (node.str("apiVersion"), node.str("kind"));
        let id = self.message_of(api_version, kind)?;
        Some(envelope::seal(api_version, kind, &self.encode(node, id)))
    }

    /// Reads a message. Values that Go would not write in JSON are left out; fields it always writes may be missing.
    ///
    /// # Errors
    /// Go's words. Cost is linear in the bytes, depth is bounded.
    pub fn decode(&self, bytes: &[u8], id: TypeId) -> Result<Node, Error> {
        decode::message(&self.messages, id, bytes)
    }

    fn name(&mut self, group: &str, version: &str, kind: &str, id: TypeId) {
        self.kinds
            .entry(kind.into())
            .or_default()
            .push((group.into(), version.into(), id));
    }

    /// Lists that no declaration has. COMPAT: the two versions of metadata differ in their numbers.
    fn name_lists(&mut self) {
        const LISTS: [(&str, &str, &str, u32, u32); 3] = [
            ("meta.k8s.io", "v1", "PartialObjectMetadata", 1, 2),
            ("meta.k8s.io", "v1beta1", "PartialObjectMetadata", 2, 1),
            ("apidiscovery.k8s.io", "v2", "APIGroupDiscovery", 1, 2),
        ];
        let Some(metadata) = self
            .message("", "v1", "Status")
            .and_then(|id| self.field(id, "metadata"))
        else {
            return;
        };
        for (group, version, item, metadata_number, items_number) in LISTS {
            let Some(items) = self.message(group, version, item) else {
                continue;
            };
            let kind = format!("{item}List");
            let id = TypeId(u32::try_from(self.messages.len()).expect("fewer than 2^32 messages"));
            self.messages
                .push(Message::list(&kind, (metadata_number, metadata), (items_number, items)));
            self.name(group, version, &kind, id);
        }
    }
}
