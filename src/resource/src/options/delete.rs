//! `DeleteOptions`, from the body or, without one, from the query.

use super::{all, boolean, check, options_node, parse_int, validate_dry_run};
use crate::body::{self, go_kind, protobuf as protobuf_body};
use crate::request::Request;
use fairlead_api::{FieldError, FieldErrors, FieldPath, Node, Status, StatusResult};
use fairlead_codec::protobuf::{Protobuf, envelope};

/// `propagationPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    pub dry_run: bool,
    pub grace_period_seconds: Option<i64>,
    pub orphan_dependents: Option<bool>,
    pub propagation: Option<Propagation>,
    pub precondition_uid: Option<String>,
    pub precondition_version: Option<String>,
}

impl DeleteOptions {
    /// # Errors
    /// BadRequest for what cannot be decoded, Invalid for `DeleteOptions.meta.k8s.io`.
    pub fn parse(request: &Request, protobuf: Option<&Protobuf>) -> StatusResult<DeleteOptions> {
        let mut options = DeleteOptions::default();
        let (dry_run, propagation) = if request.body.bytes.is_empty() {
            options.grace_period_seconds = request.query("gracePeriodSeconds").map(parse_int).transpose()?;
            options.orphan_dependents = request.query("orphanDependents").map(boolean);
            let dry_run: Vec<String> = all(request, "dryRun").into_iter().map(String::from).collect();
            (dry_run, request.query("propagationPolicy").map(String::from))
        } else {
            options.read_body(request, protobuf)?
        };
        let mut errors = FieldErrors::new();
        let path = FieldPath::new("propagationPolicy");
        if let (Some(_), Some(policy)) = (options.orphan_dependents, &propagation) {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            errors.push(FieldError::invalid(&path, policy.as_str(), why));
        }
        options.propagation = match propagation.as_deref() {
            None => None,
            Some("Orphan") => Some(Propagation::Orphan),
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some(other) => {
                let supported = ["Foreground", "Background", "Orphan", "nil"];
                errors.push(FieldError::not_supported(&path, other, &supported));
                None
            }
        };
        validate_dry_run(&dry_run.iter().map(String::as_str).collect::<Vec<_>>(), &mut errors);
        check("DeleteOptions", &errors)?;
        options.dry_run = !dry_run.is_empty();
        Ok(options)
    }

    /// Reads the body; answers `dryRun` and `propagationPolicy` as given.
    fn read_body(
        &mut self,
        request: &Request,
        protobuf: Option<&Protobuf>,
    ) -> StatusResult<(Vec<String>, Option<String>)> {
        let protobuf = protobuf.filter(|_| request.body.media_type == protobuf_body::MEDIA_TYPE);
        let node = match protobuf {
            Some(protobuf) => document(&request.body.bytes, protobuf)?,
            None => {
                body::parse(&request.body)
                    .map_err(|why| Status::bad_request(format!("couldn't get version/kind; json parse error: {why}")))?
                    .node
            }
        };
        let Node::Map(members) = &node else {
            return Err(Status::bad_request(format!(
                "couldn't get version/kind; json parse error: json: cannot unmarshal {} into Go value of type struct {{ \
                 APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}",
                go_kind(&node)
            )));
        };
        let (kind, version) = (node.str("kind"), node.str("apiVersion"));
        if !matches!(kind, "" | "DeleteOptions") {
            return Err(Status::bad_request(format!(
                "no kind {} is registered for version {} in scheme \
                 \"pkg/apis/meta/internalversion/scheme/register.go:27\"",
                fairlead_api::field::go_quote(kind),
                fairlead_api::field::go_quote(if version.is_empty() { "meta.k8s.io/v1" } else { version }),
            )));
        }
        let field = |name: &str| members.get(name).filter(|value| !value.is_null());
        let wrong = |name: &str, value: &Node, go_type: &str| {
            Status::bad_request(format!(
                "json: cannot unmarshal {} into Go struct field {name} of type {go_type}",
                go_kind(value)
            ))
        };
        if let Some(value) = field("gracePeriodSeconds") {
            let seconds = value
                .as_i64()
                .ok_or_else(|| wrong("DeleteOptions.gracePeriodSeconds", value, "int64"))?;
            self.grace_period_seconds = Some(seconds);
        }
        if let Some(value) = field("orphanDependents") {
            self.orphan_dependents = Some(
                value
                    .as_bool()
                    .ok_or_else(|| wrong("DeleteOptions.orphanDependents", value, "bool"))?,
            );
        }
        if let Some(value) = field("preconditions") {
            let Node::Map(preconditions) = value else {
                return Err(wrong("DeleteOptions.preconditions", value, "v1.Preconditions"));
            };
            let text = |name: &str, go_type: &str| match preconditions.get(name) {
                None | Some(Node::Null) => Ok(None),
                Some(Node::String(s)) => Ok(Some(s.to_string())),
                Some(other) => Err(wrong(&format!("Preconditions.preconditions.{name}"), other, go_type)),
            };
            self.precondition_uid = text("uid", "types.UID")?;
            self.precondition_version = text("resourceVersion", "string")?;
        }
        let propagation = match field("propagationPolicy") {
            None => None,
            Some(Node::String(s)) => Some(s.to_string()),
            Some(other) => {
                return Err(wrong(
                    "DeleteOptions.propagationPolicy",
                    other,
                    "v1.DeletionPropagation",
                ));
            }
        };
        let mut dry_run = Vec::new();
        match field("dryRun") {
            None => {}
            Some(Node::List(items)) => {
                for item in items {
                    let text = item
                        .as_str()
                        .ok_or_else(|| wrong("DeleteOptions.dryRun", item, "string"))?;
                    dry_run.push(text.to_owned());
                }
            }
            Some(other) => return Err(wrong("DeleteOptions.dryRun", other, "[]string")),
        }
        Ok((dry_run, propagation))
    }

    /// The options object that admission sees.
    pub fn to_node(&self) -> Node {
        let mut node = options_node("DeleteOptions");
        if self.dry_run {
            node.set("dryRun", vec![Node::string("All")]);
        }
        if let Some(seconds) = self.grace_period_seconds {
            node.set("gracePeriodSeconds", seconds);
        }
        if let Some(orphan) = self.orphan_dependents {
            node.set("orphanDependents", orphan);
        }
        if let Some(propagation) = self.propagation {
            node.set("propagationPolicy", propagation.as_str());
        }
        if let Some(uid) = &self.precondition_uid {
            node.set_at(&["preconditions", "uid"], uid.as_str());
        }
        if let Some(version) = &self.precondition_version {
            node.set_at(&["preconditions", "resourceVersion"], version.as_str());
        }
        node
    }
}

/// Options in protobuf. COMPAT: every version has the same ones.
fn document(bytes: &[u8], protobuf: &Protobuf) -> StatusResult<Node> {
    let bad = |error| Status::bad_request(format!("{error}"));
    let document = envelope::open(bytes).map_err(bad)?;
    let mut node = match protobuf.message("", "v1", "DeleteOptions") {
        Some(options) if matches!(document.kind.as_str(), "" | "DeleteOptions") => {
            protobuf.decode(document.message, options).map_err(bad)?
        }
        _ => Node::map(),
    };
    node.set("kind", document.kind.as_str());
    node.set("apiVersion", document.api_version.as_str());
    Ok(node)
}

impl Propagation {
    pub fn as_str(self) -> &'static str {
        match self {
            Propagation::Orphan => "Orphan",
            Propagation::Background => "Background",
            Propagation::Foreground => "Foreground",
        }
    }
}
