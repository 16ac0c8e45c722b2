//! AdmissionReview: what is sent to a webhook, and how its answer is read.
// PERFORMANCE: per-request path

use super::select::{Invocation, Objects};
use crate::Attributes;
use crate::cluster::Served;
use base64::prelude::BASE64_STANDARD;
use base64::{DecodeError, Engine};
use fairlead_api::field::go_quote;
use fairlead_api::status::{Cause, Details};
use fairlead_api::{GroupVersionKind, GroupVersionResource, Map, Node, Status, UserInfo, json, node};
use fairlead_codec::yaml;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V1Beta1,
}

/// What a webhook said.
#[derive(Debug, Default)]
pub struct Answer {
    pub allowed: bool,
    /// The `status` beside a refusal; may be null.
    pub status: Node,
    pub patch: Vec<u8>,
    pub patch_type: String,
    pub warnings: Vec<String>,
    pub audit: Vec<(String, String)>,
}

impl Version {
    pub fn parse(text: &str) -> Option<Version> {
        match text {
            "v1" => Some(Version::V1),
            "v1beta1" => Some(Version::V1Beta1),
            _ => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Version::V1 => "v1",
            Version::V1Beta1 => "v1beta1",
        }
    }
}

// === the question ===

/// The bytes of a review.
pub fn request(
    version: Version,
    uid: &str,
    attributes: &Attributes,
    invocation: &Invocation,
    objects: Objects,
) -> Vec<u8> {
    let mut request = facts(attributes, invocation.equivalent.as_ref());
    request.set("uid", uid);
    // The objects are written from where they are: they may be large.
    let mut head = json::to_vec(&request);
    head.pop();
    let mut body = Vec::with_capacity(head.len() + 2048);
    body.extend_from_slice(b"{\"kind\":\"AdmissionReview\",\"apiVersion\":\"admission.k8s.io/");
    body.extend_from_slice(version.as_str().as_bytes());
    body.extend_from_slice(b"\",\"request\":");
    body.extend_from_slice(&head);
    body.extend_from_slice(b",\"object\":");
    body.extend_from_slice(&json::to_vec(&objects.object));
    body.extend_from_slice(b",\"oldObject\":");
    body.extend_from_slice(&json::to_vec(&objects.old_object));
    body.extend_from_slice(b"}}\n");
    body
}

/// What is told of a request beside its objects. `equivalent` is as what the resource is known to who is told.
pub fn facts(attributes: &Attributes, equivalent: Option<&Served>) -> Node {
    let (kind, resource) = match equivalent {
        Some(served) => (&served.kind, &served.resource),
        None => (&attributes.kind, &attributes.resource),
    };
    let mut request = node!({"operation": attributes.operation.as_str(), "dryRun": attributes.dry_run});
    request.set("kind", kind_node(kind));
    request.set("resource", resource_node(resource));
    request.set("requestKind", kind_node(&attributes.kind));
    request.set("requestResource", resource_node(&attributes.resource));
    for (field, value) in [
        ("subResource", &attributes.subresource),
        ("requestSubResource", &attributes.subresource),
        ("name", &attributes.name),
        ("namespace", &attributes.namespace),
    ] {
        if !value.is_empty() {
            request.set(field, value.as_str());
        }
    }
    request.set("userInfo", user(&attributes.user));
    request.set("options", attributes.options.clone());
    request
}

fn kind_node(kind: &GroupVersionKind) -> Node {
    node!({"group": kind.group.as_str(), "version": kind.version.as_str(), "kind": kind.kind.as_str()})
}

fn resource_node(of: &GroupVersionResource) -> Node {
    node!({"group": of.group.as_str(), "version": of.version.as_str(), "resource": of.resource.as_str()})
}

/// A user as reviews show it.
pub fn user(user: &UserInfo) -> Node {
    let texts = |values: &mut dyn Iterator<Item = &str>| Node::List(values.map(Node::string).collect());
    let mut info = Node::map();
    for (field, value) in [("username", &user.name), ("uid", &user.uid)] {
        if !value.is_empty() {
            info.set(field, value.as_str());
        }
    }
    if !user.groups.is_empty() {
        info.set("groups", texts(&mut user.groups.iter().map(|group| group.as_str())));
    }
    if !user.extra.is_empty() {
        let extra = user.extra.iter();
        let extra: Map = extra
            .map(|(key, values)| (key.as_str(), texts(&mut values.iter().map(String::as_str))))
            .collect();
        info.set("extra", extra);
    }
    info
}

// === the answer ===

/// A review's `response`, null where it is absent, and whether the review said what it is.
#[derive(Debug)]
pub struct Response {
    node: Node,
    typed: bool,
}

/// Reads a review as Go would into the type that was sent.
///
/// # Errors
/// Go's words for what cannot be read.
pub fn decode(version: Version, bytes: &[u8]) -> Result<Response, String> {
    const KINDLESS: &str = "couldn't get version/kind; json parse error: ";
    // COMPAT: what is not JSON is read as YAML, in which nearly everything is a string.
    let mut review = json::parse(bytes).or_else(|why| yaml::parse(bytes).map_err(|_| format!("{KINDLESS}{why}")))?;
    if !matches!(review, Node::Map(_) | Node::Null) {
        let kind = go_kind(&review);
        return Err(format!(
            "{KINDLESS}json: cannot unmarshal {kind} into Go value of type struct {{ APIVersion string \
             \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}"
        ));
    }
    check_type(version, review.str("apiVersion"), review.str("kind"))?;
    let typed = !review.str("kind").is_empty();
    let response = review.remove("response").unwrap_or_default();
    if !matches!(response, Node::Map(_) | Node::Null) {
        let kind = go_kind(&response);
        let version = version.as_str();
        return Err(format!(
            "json: cannot unmarshal {kind} into Go struct field AdmissionReview.response of type {version}.AdmissionResponse"
        ));
    }
    check_fields(version, &response)?;
    base64(response.str("patch"))?;
    Ok(Response { node: response, typed })
}

/// Go's reading of a list of bytes.
fn base64(text: &str) -> Result<Vec<u8>, String> {
    BASE64_STANDARD.decode(text.replace(['\r', '\n'], "")).map_err(|why| {
        let at = match why {
            DecodeError::InvalidByte(at, _) => at,
            _ => text.len() - text.len() % 4,
        };
        format!("illegal base64 data at input byte {at}")
    })
}

/// Webhooks may leave out what a review is; what they say it is must be what was sent.
fn check_type(version: Version, given: &str, kind: &str) -> Result<(), String> {
    let wanted = version.as_str();
    let group = given.split_once('/').map_or("", |(group, _)| group);
    let given_version = given.rsplit('/').next().unwrap_or("");
    if (given.is_empty() || given == format!("admission.k8s.io/{wanted}")) && matches!(kind, "" | "AdmissionReview") {
        return Ok(());
    }
    let registered = match (group, kind) {
        ("admission.k8s.io", "AdmissionReview") => matches!(given_version, "v1" | "v1beta1"),
        ("", "Status") => given_version == "v1",
        _ => false,
    };
    if registered {
        return Err(format!(
            "converting ({given_version}.{kind}) to ({wanted}.AdmissionReview): unknown conversion"
        ));
    }
    let (kind, given) = (go_quote(kind), go_quote(given));
    Err(format!(
        "no kind {kind} is registered for version {given} in scheme \"pkg/util/webhook/client.go:71\""
    ))
}

fn check_fields(version: Version, response: &Node) -> Result<(), String> {
    let version = version.as_str();
    let patch_type = format!("{version}.PatchType");
    let fields: [(&str, &str, fn(&Node) -> bool); 7] = [
        ("uid", "types.UID", |node| node.as_str().is_some()),
        ("allowed", "bool", |node| node.as_bool().is_some()),
        ("status", "v1.Status", |node| node.as_map().is_some()),
        ("patch", "[]uint8", |node| node.as_str().is_some()),
        ("patchType", &patch_type, |node| node.as_str().is_some()),
        ("auditAnnotations", "map[string]string", |node| node.as_map().is_some()),
        ("warnings", "[]string", |node| node.as_list().is_some()),
    ];
    let complain = |value: &Node, field: &str, kind: &str| {
        let given = go_kind(value);
        Err(format!(
            "json: cannot unmarshal {given} into Go struct field AdmissionResponse.response.{field} of type {kind}"
        ))
    };
    for (field, kind, fits) in fields {
        match response.get(field) {
            None | Some(Node::Null) => {}
            Some(value) if !fits(value) => return complain(value, field, kind),
            Some(Node::List(items)) => {
                if let Some(odd) = items.iter().find(|item| !item.is_null() && item.as_str().is_none()) {
                    return complain(odd, field, "string");
                }
            }
            Some(Node::Map(entries)) if field == "auditAnnotations" => {
                if let Some(odd) = entries
                    .values()
                    .find(|value| !value.is_null() && value.as_str().is_none())
                {
                    return complain(odd, field, "string");
                }
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// What Go's decoder calls a value's type.
pub fn go_kind(node: &Node) -> &'static str {
    match node {
        Node::Bool(_) => "bool",
        Node::Int(_) | Node::Float(_) => "number",
        other => other.type_name(),
    }
}

/// Checks that an answer belongs to its question.
///
/// # Errors
/// What is wrong with it.
pub fn verify(version: Version, uid: &str, response: Response, mutating: bool) -> Result<Answer, String> {
    let Response { node: response, typed } = response;
    if response.is_null() {
        return Err("webhook response was absent".into());
    }
    let strict = version == Version::V1;
    let patch = response.str("patch");
    let patch_type = response.get("patchType").and_then(Node::as_str);
    if strict {
        if response.str("uid") != uid {
            let (uid, got) = (go_quote(uid), go_quote(response.str("uid")));
            return Err(format!("expected response.uid={uid}, got {got}"));
        }
        if !typed {
            return Err("expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind=".into());
        }
        match (mutating, patch.is_empty(), patch_type) {
            (true, false, None) => return Err("webhook returned response.patch but not response.patchType".into()),
            (true, true, Some(_)) => return Err("webhook returned response.patchType but not response.patch".into()),
            (true, _, Some("")) => return Err("webhook returned invalid response.patchType of \"\"".into()),
            (false, false, _) => return Err("validating webhook may not return response.patch".into()),
            (false, _, Some(_)) => return Err("validating webhook may not return response.patchType".into()),
            _ => {}
        }
    }
    let patch = base64(patch)?;
    let patch_type = match patch_type {
        Some(given) if strict => given.to_owned(),
        _ => "JSONPatch".to_owned(),
    };
    let texts = response
        .list("warnings")
        .iter()
        .map(|text| text.as_str().unwrap_or("").to_owned());
    let audit = response
        .get("auditAnnotations")
        .and_then(Node::as_map)
        .into_iter()
        .flat_map(Map::iter);
    Ok(Answer {
        allowed: response.get("allowed").and_then(Node::as_bool).unwrap_or(false),
        status: response.get("status").cloned().unwrap_or_default(),
        patch: if mutating { patch } else { Vec::new() },
        patch_type,
        warnings: texts.collect(),
        audit: audit
            .map(|(key, value)| (key.to_string(), value.as_str().unwrap_or("").to_owned()))
            .collect(),
    })
}

/// A webhook's refusal as the client gets it: the webhook's own status, with who it was.
pub fn refusal(name: &str, status: &Node) -> Status {
    let code = status
        .get("code")
        .and_then(Node::as_i64)
        .and_then(|code| u16::try_from(code).ok());
    let denied = format!("admission webhook {} denied the request", go_quote(name));
    let reason = status.str("reason");
    let message = match (status.str("message"), reason) {
        ("", "") => format!("{denied} without explanation"),
        ("", text) | (text, _) => format!("{denied}: {text}"),
    };
    let mut refusal = Status::new(code.unwrap_or(0).max(400), reason.to_owned(), message);
    let metadata = ["selfLink", "resourceVersion", "continue", "remainingItemCount"];
    let given = metadata
        .iter()
        .filter_map(|field| Some((*field, status.at(&["metadata", field])?.clone())));
    refusal.content_mut().metadata = given.filter(|(_, value)| !value.is_zero()).collect();
    match status.get("details").filter(|details| details.as_map().is_some()) {
        None => refusal,
        Some(details) => refusal.with_details(Details {
            name: details.str("name").into(),
            group: details.str("group").into(),
            kind: details.str("kind").into(),
            uid: details.str("uid").into(),
            causes: details.list("causes").iter().map(cause).collect(),
            retry_after_seconds: details.get("retryAfterSeconds").and_then(Node::as_i64),
        }),
    }
}

fn cause(node: &Node) -> Cause {
    Cause {
        reason: node.str("reason").into(),
        message: node.str("message").into(),
        field: node.str("field").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &str) -> Result<Answer, String> {
        verify(Version::V1, "u", decode(Version::V1, body.as_bytes())?, true)
    }

    #[test]
    fn answers_are_read_as_go_reads_them() {
        let typed = r#""apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview""#;
        for (body, why) in [
            ("{}".to_owned(), "webhook response was absent"),
            (
                "no review".to_owned(),
                "couldn't get version/kind; json parse error: json: cannot unmarshal string into Go value of type struct { \
                 APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }",
            ),
            (
                format!(r#"{{{typed},"response":{{"uid":"x"}}}}"#),
                "expected response.uid=\"u\", got \"x\"",
            ),
            (
                r#"{"apiVersion":"v1","kind":"Status"}"#.to_owned(),
                "converting (v1.Status) to (v1.AdmissionReview): unknown conversion",
            ),
            (
                format!(r#"{{{typed},"response":{{"uid":"u","warnings":"w"}}}}"#),
                "json: cannot unmarshal string into Go struct field AdmissionResponse.response.warnings of type []string",
            ),
            (
                format!(r#"{{{typed},"response":{{"uid":"u","patch":"!!"}}}}"#),
                "illegal base64 data at input byte 0",
            ),
            (
                format!(r#"{{{typed},"response":{{"uid":"u","patch":"W10="}}}}"#),
                "webhook returned response.patch but not response.patchType",
            ),
        ] {
            assert_eq!(answer(&body).unwrap_err(), why);
        }
        let body = format!(r#"{{{typed},"response":{{"uid":"u","allowed":true,"warnings":["a"]}}}}"#);
        assert_eq!(answer(&body).unwrap().warnings, ["a"]);
    }

    #[test]
    fn a_refusal_is_a_failure_whatever_it_says() {
        let said = node!({"code": 201, "reason": "MyReason", "status": "Success", "metadata": {"resourceVersion": "5", "x": 1}});
        let status = refusal("w", &said);
        assert_eq!(status.to_node().get("metadata"), Some(&node!({"resourceVersion": "5"})));
        assert_eq!((status.code(), status.reason()), (400, "MyReason"));
        assert_eq!(status.message(), "admission webhook \"w\" denied the request: MyReason");
        assert_eq!(
            refusal("w", &Node::Null).message(),
            "admission webhook \"w\" denied the request without explanation"
        );
    }
}
