//! What the engine is asked and what it answers. Bodies are bytes; negotiation has already happened.

use crate::assembled::Assembled;
use crate::definition::{ResourceDefinition, Verb};
use crate::piece::{Piece, Writer};
use bytes::Bytes;
use compact_str::CompactString;
use fairlead_api::{Node, StatusResult, UserInfo};
use fairlead_storage::Cached;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

/// An authenticated, authorized request for one resource.
#[derive(Clone)]
pub struct Request {
    pub verb: Verb,
    pub definition: Arc<ResourceDefinition>,
    /// Empty for cluster-scoped resources and for all namespaces.
    pub namespace: CompactString,
    /// Empty for collections.
    pub name: CompactString,
    /// Empty for the resource itself.
    pub subresource: CompactString,
    /// What follows the subresource in the path (proxies); empty otherwise.
    pub subpath: String,
    /// Decoded query parameters in order.
    pub query: Vec<(String, String)>,
    pub body: Body,
    /// What the client accepts, decided by content negotiation.
    pub view: View,
    pub user: Arc<UserInfo>,
    /// For the default field manager: the part of User-Agent before the first `/`.
    pub user_agent: String,
    /// When the client stops waiting for an answer.
    pub deadline: Option<Instant>,
    /// Set for the server's own loops, whose writes skip admission.
    pub internal: bool,
    pub recording: Recording,
}

/// What is kept of a request's body for its audit event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recording {
    #[default]
    Nothing,
    /// What it says of its object's name.
    Metadata,
    Object,
}

/// A request body as it came.
#[derive(Clone, Debug, Default)]
pub struct Body {
    pub bytes: Bytes,
    /// The media type without parameters, lower case: `application/json`, `application/merge-patch+json` …
    pub media_type: String,
}

/// In which shape objects are asked for, besides their encoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    #[default]
    Object,
    /// `as=PartialObjectMetadata`.
    Metadata(MetaVersion),
    /// `as=PartialObjectMetadataList`.
    MetadataList(MetaVersion),
    /// `as=Table`; `includeObject` is read from the query.
    Table(MetaVersion),
}

/// `v=` beside `g=meta.k8s.io`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetaVersion {
    #[default]
    V1,
    V1Beta1,
}

/// What [`crate::Engine::handle`] answers. Warnings and annotations belong to failures as well as to successes.
pub struct Answer {
    pub result: StatusResult<Response>,
    /// For `Warning` headers, in order, each once.
    pub warnings: Vec<String>,
    /// For the audit event: key and value.
    pub audit: Vec<(String, String)>,
    /// The request's object, decoded and with its defaults, as far as [`Request::recording`] asks for it.
    pub recorded: Option<Node>,
}

/// A successful answer. The caller encodes it.
pub enum Response {
    /// An object in the request's version whose bytes can be sent: the stored one, or a converted copy.
    Cached {
        code: u16,
        object: Arc<Cached>,
    },
    /// Anything else: a made object, a Table, metadata, a `Status`. `kind` and `apiVersion` are in it.
    Node {
        code: u16,
        node: Node,
    },
    List(List),
    /// A Table or a list of metadata, from bytes.
    Assembled(Assembled),
    Watch(Box<dyn WatchStream>),
    /// Warnings beside any of these. For what [`crate::hooks::Serve`] answers; the engine unwraps it.
    Warned {
        response: Box<Response>,
        warnings: Vec<String>,
    },
}

/// A list whose items are sent as they are stored, one after the other.
#[derive(Clone)]
pub struct List {
    pub api_version: String,
    pub kind: String,
    /// `resourceVersion`, `continue`, `remainingItemCount`.
    pub metadata: Node,
    pub items: Vec<Arc<Cached>>,
    /// Whether items are sent with their own `kind` and `apiVersion` (custom resources) or without (built-in ones):
    /// [`crate::storage_codec::untyped`] cuts them off without parsing.
    pub typed_items: bool,
}

/// A watch: events in the request's view.
pub trait WatchStream: Send {
    /// The next event; `None` ends the watch. Cancel-safe.
    fn next(&mut self) -> futures_util::future::BoxFuture<'_, Option<WatchEvent>>;

    /// From now on nothing that has happened is held back, for the sake of many who watch the same.
    fn hurry(&mut self) {}

    /// The next events in one piece, which is not empty; `None` ends the watch. What is ready is not waited for.
    fn poll_piece(&mut self, context: &mut Context<'_>, writer: &dyn Writer) -> Poll<Option<Piece>> {
        Piece::poll_each(self, context, writer)
    }
}

/// One event of a watch.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    Object {
        kind: EventKind,
        object: Arc<Cached>,
    },
    /// A made object (Table, metadata, converted), a bookmark or an error `Status`.
    Node {
        kind: EventKind,
        node: Node,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Added,
    Modified,
    Deleted,
    Bookmark,
    Error,
}

impl MetaVersion {
    /// As in `apiVersion`.
    pub fn api_version(self) -> &'static str {
        match self {
            MetaVersion::V1 => "meta.k8s.io/v1",
            MetaVersion::V1Beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

impl EventKind {
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::Added => "ADDED",
            EventKind::Modified => "MODIFIED",
            EventKind::Deleted => "DELETED",
            EventKind::Bookmark => "BOOKMARK",
            EventKind::Error => "ERROR",
        }
    }
}

impl Request {
    /// The first value of a query parameter.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }
}
