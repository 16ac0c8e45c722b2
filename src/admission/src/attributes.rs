//! What an admission plugin is asked about.

use compact_str::CompactString;
use fairlead_api::{GroupResource, GroupVersionKind, GroupVersionResource, Node, Status, UserInfo};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

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
    /// When the client stops waiting for an answer.
    pub deadline: Option<Instant>,
    pub reinvocation: Reinvocation,
    /// The managedFields of the object before a plugin changed them, for whoever checks what it made of them.
    pub given_owners: Option<Node>,
}

/// What mutating plugins remember between the two rounds they run in when a webhook or a policy changed the object.
#[derive(Clone, Debug, Default)]
pub struct Reinvocation {
    /// Set by a plugin: the others have to see the object again.
    pub wanted: bool,
    /// Whether this is the second round.
    pub second: bool,
    /// Webhooks that were called and want to be called again after changes, by configuration and place.
    pub called: Vec<(String, usize)>,
    /// Webhooks to call in the second round.
    pub again: Vec<(String, usize)>,
    /// The object as the webhooks left it, where one of them wants to know whether that stayed so.
    pub left: Option<Box<Node>>,
    pub policies: PolicyRounds,
}

/// The same of policies, by policy, binding and parameter.
#[derive(Clone, Debug, Default)]
pub struct PolicyRounds {
    pub called: Vec<String>,
    pub again: Vec<String>,
    pub left: Option<Box<Node>>,
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

impl Attributes {
    /// Takes over what a webhook or a policy made of the object.
    pub fn replace(&mut self, object: Node) {
        let owners = |object: &Node| object.at(&["metadata", "managedFields"]).cloned().unwrap_or_default();
        let before = owners(&self.object);
        if self.given_owners.is_none() && before != owners(&object) {
            self.given_owners = Some(before);
        }
        self.object = object;
    }

    pub fn group_resource(&self) -> GroupResource {
        GroupResource {
            group: self.resource.group.clone(),
            resource: self.resource.resource.clone(),
        }
    }

    /// Whether the request is about `plural` of `group`, its subresources included.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.resource.resource == plural && self.resource.group == group
    }

    /// Whether the request is about `plural` of `group` itself and not about a subresource.
    pub fn is_main(&self, group: &str, plural: &str) -> bool {
        self.subresource.is_empty() && self.is(group, plural)
    }

    pub fn creates(&self) -> bool {
        self.operation == Operation::Create
    }

    pub fn updates(&self) -> bool {
        self.operation == Operation::Update
    }

    /// What the object is called in a refusal: names are generated after admission.
    pub fn shown_name(&self) -> &str {
        let generate = self.object.str_at(&["metadata", "generateName"]);
        [self.name.as_str(), self.object.name(), generate]
            .into_iter()
            .find(|name| !name.is_empty())
            .unwrap_or("Unknown")
    }

    /// A refusal in the words of kubernetes/apiserver pkg/admission/errors.go.
    pub fn forbidden(&self, why: impl fmt::Display) -> Status {
        Status::forbidden(&self.group_resource(), self.shown_name(), why)
    }
}
