//! [`Status`]: the one error clients see. Each constructor is one row of the mapping from error to reason and code.
//!
//! Source of the wording: kubernetes/apimachinery pkg/api/errors/errors.go.

use crate::field::FieldErrors;
use crate::gvk::{GroupKind, GroupResource};
use crate::node::{Map, Node, json};
use std::borrow::Cow;
use std::fmt;

pub type StatusResult<T> = Result<T, Status>;

/// A failed request, as `meta/v1 Status`. Boxed inside, so that a `Result` stays small.
#[derive(Clone, PartialEq)]
pub struct Status(Box<Content>);

#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    pub code: u16,
    /// Empty where upstream sends none. Webhooks make up their own.
    pub reason: Cow<'static, str>,
    pub message: String,
    pub details: Option<Details>,
    /// `metadata`: `continue` says how to go on with a list whose state is gone; webhooks make up their own.
    pub metadata: Map,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    pub name: String,
    pub group: String,
    /// The resource for most errors, the kind for Invalid ones.
    pub kind: String,
    pub uid: String,
    pub causes: Vec<Cause>,
    pub retry_after_seconds: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cause {
    pub reason: String,
    pub message: String,
    pub field: String,
}

impl Status {
    /// Any failure that has no constructor of its own.
    pub fn new(code: u16, reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Status {
        Status(Box::new(Content {
            code,
            reason: reason.into(),
            message: message.into(),
            details: None,
            metadata: Map::default(),
        }))
    }

    #[must_use]
    pub fn with_details(mut self, details: Details) -> Status {
        self.0.details = Some(details);
        self
    }

    /// Sets `details.retryAfterSeconds`, which the listener also sends as `Retry-After`.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: i64) -> Status {
        self.0.details.get_or_insert_default().retry_after_seconds = Some(seconds);
        self
    }

    /// Sets `metadata.continue`.
    #[must_use]
    pub fn with_continue(mut self, token: String) -> Status {
        self.0.metadata.insert("continue", Node::from(token));
        self
    }

    fn about(self, resource: &GroupResource, name: &str) -> Status {
        self.with_details(Details {
            name: name.into(),
            group: resource.group.to_string(),
            kind: resource.resource.to_string(),
            ..Details::default()
        })
    }

    pub fn not_found(resource: &GroupResource, name: &str) -> Status {
        Status::new(404, "NotFound", format!("{resource} {} not found", quoted(name))).about(resource, name)
    }

    /// A path that leads to no resource.
    pub fn no_such_resource() -> Status {
        Status::new(404, "NotFound", "the server could not find the requested resource")
            .with_details(Details::default())
    }

    pub fn already_exists(resource: &GroupResource, name: &str) -> Status {
        Status::new(
            409,
            "AlreadyExists",
            format!("{resource} {} already exists", quoted(name)),
        )
        .about(resource, name)
    }

    pub fn conflict(resource: &GroupResource, name: &str, why: impl fmt::Display) -> Status {
        let message = format!("Operation cannot be fulfilled on {resource} {}: {why}", quoted(name));
        Status::new(409, "Conflict", message).about(resource, name)
    }

    /// A write against a version that is no longer the latest.
    pub fn modified(resource: &GroupResource, name: &str) -> Status {
        Status::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    pub fn invalid(kind: &GroupKind, name: &str, errors: &FieldErrors) -> Status {
        let causes = errors
            .iter()
            .map(|e| Cause {
                reason: e.kind.reason().into(),
                message: e.body(),
                field: e.path.to_string(),
            })
            .collect();
        let mut message = format!("{kind} {} is invalid", quoted(name));
        match errors.as_slice() {
            [] => {}
            [one] => message = format!("{message}: {one}"),
            many => {
                let mut texts: Vec<String> = Vec::new();
                for error in many {
                    let text = error.to_string();
                    if !texts.contains(&text) {
                        texts.push(text);
                    }
                }
                message = match texts.as_slice() {
                    [one] => format!("{message}: {one}"),
                    texts => format!("{message}: [{}]", texts.join(", ")),
                };
            }
        }
        Status::new(422, "Invalid", message).with_details(Details {
            name: name.into(),
            group: kind.group.to_string(),
            kind: kind.kind.to_string(),
            causes,
            ..Details::default()
        })
    }

    pub fn bad_request(message: impl Into<String>) -> Status {
        Status::new(400, "BadRequest", message)
    }

    pub fn unauthorized() -> Status {
        Status::new(401, "Unauthorized", "Unauthorized")
    }

    pub fn forbidden(resource: &GroupResource, name: &str, why: impl fmt::Display) -> Status {
        let message = match (name, resource.resource.as_str()) {
            (_, "") => format!("forbidden: {why}"),
            ("", _) => format!("{resource} is forbidden: {why}"),
            _ => format!("{resource} {} is forbidden: {why}", quoted(name)),
        };
        Status::new(403, "Forbidden", message).about(resource, name)
    }

    pub fn method_not_supported(resource: &GroupResource, action: &str) -> Status {
        let message = format!(
            "{action} is not supported on resources of kind {}",
            quoted(&resource.to_string())
        );
        Status::new(405, "MethodNotAllowed", message).about(resource, "")
    }

    /// A method that a path does not have.
    pub fn method_not_allowed() -> Status {
        Status::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
        .with_details(Details::default())
    }

    pub fn not_acceptable(message: impl Into<String>) -> Status {
        Status::new(406, "NotAcceptable", message)
    }

    pub fn unsupported_media_type(message: impl Into<String>) -> Status {
        Status::new(415, "UnsupportedMediaType", message)
    }

    pub fn too_large(message: impl Into<String>) -> Status {
        Status::new(413, "RequestEntityTooLarge", message)
    }

    pub fn expired(message: impl Into<String>) -> Status {
        Status::new(410, "Expired", message)
    }

    pub fn gone(message: impl Into<String>) -> Status {
        Status::new(410, "Gone", message)
    }

    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: i64) -> Status {
        Status::new(429, "TooManyRequests", message).with_retry_after(retry_after_seconds)
    }

    pub fn timeout(message: impl Into<String>, retry_after_seconds: i64) -> Status {
        Status::new(504, "Timeout", format!("Timeout: {}", message.into())).with_retry_after(retry_after_seconds)
    }

    /// The store did not answer, or not in time: the write may or may not have happened.
    pub fn server_timeout(resource: &GroupResource, operation: &str, retry_after_seconds: i64) -> Status {
        let message = format!(
            "The {operation} operation against {resource} could not be completed at this time, please try again."
        );
        Status::new(500, "ServerTimeout", message)
            .about(resource, operation)
            .with_retry_after(retry_after_seconds)
    }

    pub fn unavailable(message: impl Into<String>) -> Status {
        Status::new(503, "ServiceUnavailable", message)
    }

    pub fn internal(why: impl fmt::Display) -> Status {
        let cause = Cause {
            message: why.to_string(),
            ..Cause::default()
        };
        Status::new(500, "InternalError", format!("Internal error occurred: {why}")).with_details(Details {
            causes: vec![cause],
            ..Details::default()
        })
    }

    pub fn code(&self) -> u16 {
        self.0.code
    }

    pub fn reason(&self) -> &str {
        &self.0.reason
    }

    pub fn message(&self) -> &str {
        &self.0.message
    }

    pub fn details(&self) -> Option<&Details> {
        self.0.details.as_ref()
    }

    pub fn content_mut(&mut self) -> &mut Content {
        &mut self.0
    }

    /// The wire form, with `kind`, `apiVersion` and an empty `metadata`.
    pub fn to_node(&self) -> Node {
        let mut node = Node::from(json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": self.0.code,
        }));
        for (key, value) in [("message", self.0.message.as_str()), ("reason", &*self.0.reason)] {
            if !value.is_empty() {
                node.set(key, value);
            }
        }
        if !self.0.metadata.is_empty() {
            node.set("metadata", self.0.metadata.clone());
        }
        if let Some(details) = &self.0.details {
            node.set("details", details.to_node());
        }
        node
    }
}

impl Details {
    fn to_node(&self) -> Node {
        let mut node = Node::map();
        for (key, value) in [
            ("name", &self.name),
            ("group", &self.group),
            ("kind", &self.kind),
            ("uid", &self.uid),
        ] {
            if !value.is_empty() {
                node.set(key, value.as_str());
            }
        }
        if !self.causes.is_empty() {
            node.set("causes", self.causes.iter().map(Cause::to_node).collect::<Vec<_>>());
        }
        if let Some(seconds) = self.retry_after_seconds.filter(|s| *s != 0) {
            node.set("retryAfterSeconds", seconds);
        }
        node
    }
}

impl Cause {
    fn to_node(&self) -> Node {
        let mut node = Node::map();
        for (key, value) in [
            ("reason", &self.reason),
            ("message", &self.message),
            ("field", &self.field),
        ] {
            if !value.is_empty() {
                node.set(key, value.as_str());
            }
        }
        node
    }
}

/// The successful answer of a delete: `status: Success` with the object's name, group, kind and uid.
pub fn success(resource: &GroupResource, name: &str, uid: &str) -> Node {
    let details = Details {
        name: name.into(),
        group: resource.group.to_string(),
        kind: resource.resource.to_string(),
        uid: uid.into(),
        ..Details::default()
    };
    Node::from(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}))
        .with("details", details.to_node())
}

impl Node {
    fn with(mut self, key: &str, value: Node) -> Node {
        self.set(key, value);
        self
    }
}

fn quoted(name: &str) -> String {
    crate::field::go_quote(name)
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Status {}
