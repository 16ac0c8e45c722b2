//! What an admission plugin is asked about.

use compact_str::CompactString;
use fairlead_api::{GroupVersionKind, GroupVersionResource, Node, UserInfo};
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// One write on its way to the store. Objects are in the request's version.
#[derive(Clone, Debug)]
pub struct Attributes {
    pub operation: Operation,
    pub kind: GroupVersionKind,
    pub resource: GroupVersionResource,
    /// Empty for the resource itself.
    pub subresource: CompactString,
    pub namespace: CompactString,
    /// Empty on a create with `generateName`.
    pub name: CompactString,
    /// The new object; null on delete. Mutating plugins change it in place.
    pub object: Node,
    /// The stored object; null on create.
    pub old_object: Arc<Node>,
    /// `CreateOptions`, `UpdateOptions`, `PatchOptions` or `DeleteOptions`, with apiVersion and kind.
    pub options: Node,
    pub dry_run: bool,
    pub user: Arc<UserInfo>,
    /// Sent to the client as `Warning` headers.
    pub warnings: Vec<String>,
    /// Annotations for the audit event: key and value.
    pub audit: Vec<(String, String)>,
}

impl Operation {
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
}
