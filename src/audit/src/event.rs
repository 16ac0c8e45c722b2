//! Events: `audit.k8s.io/v1 Event` as JSON, and as the one line of the legacy format.
//!
//! Source of the order of fields: kubernetes/apiserver pkg/apis/audit/v1/types.go; of the line: pkg/audit/format.go.
// PERFORMANCE: per-request path

use crate::level::{Level, Stage};
use crate::trail::{Facts, Head};
use bytes::Bytes;
use compact_str::CompactString;
use fairlead_api::field::go_quote;
use fairlead_api::json::write_str;
use fairlead_api::{Node, Timestamp, UserInfo, json};
use std::net::IpAddr;

/// What the log has in front of what a list of events has too: an event's kind, and its opening brace.
pub const KIND: &[u8] = br#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","#;

/// One stage of one request, in the forms that the sinks want.
pub struct Event {
    pub stage: Stage,
    pub level: Level,
    /// JSON without the opening brace, so that [`KIND`] or a brace can stand in front.
    pub json: Bytes,
    /// The same without the objects, where [`Wanted::bare_above`] asks for it.
    pub bare: Option<Bytes>,
    /// The line of the legacy format.
    pub line: Option<Bytes>,
}

/// What the sinks want of an event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    pub json: bool,
    pub line: bool,
    /// Events larger than this are wanted without their objects, too.
    pub bare_above: Option<usize>,
}

/// What is said of an answer in `responseStatus`, beside its code.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub code: u16,
    /// `,"status":…,"message":…,"reason":…,"details":…`, or nothing.
    said: Vec<u8>,
}

impl Outcome {
    pub fn code(code: u16) -> Outcome {
        Outcome { code, said: Vec::new() }
    }

    /// From a `Status` that is the answer.
    pub fn status(status: &Node) -> Outcome {
        let mut said = Vec::new();
        for key in ["status", "message", "reason", "details"] {
            // Details can be there and empty.
            if let Some(value) = status.get(key).filter(|value| key == "details" || !value.is_zero()) {
                key_to(key, &mut said);
                json::write(value, &mut said);
            }
        }
        let code = status.get("code").and_then(Node::as_i64).unwrap_or(0);
        Outcome {
            code: u16::try_from(code).unwrap_or(0),
            said,
        }
    }
}

impl Event {
    pub(crate) fn new(head: &Head, facts: &Facts, stage: Stage, at: Timestamp, wanted: Wanted) -> Event {
        let json: Bytes = match wanted.json {
            true => write(head, facts, stage, at, true).into(),
            false => Bytes::new(),
        };
        let large = wanted.bare_above.is_some_and(|limit| size(&json) > limit);
        // Only objects can be left out.
        let bare = (large && head.level >= Level::Request).then(|| write(head, facts, stage, at, false).into());
        Event {
            stage,
            level: head.level,
            json,
            bare,
            line: wanted.line.then(|| line(head, facts, stage).into()),
        }
    }
}

/// How long an event is in the log.
pub fn size(json: &[u8]) -> usize {
    KIND.len() + json.len() + 1
}

fn write(head: &Head, facts: &Facts, stage: Stage, at: Timestamp, objects: bool) -> Vec<u8> {
    let held = |object: &Option<Bytes>| object.as_ref().map_or(0, Bytes::len);
    let room = 768
        + if objects {
            held(&facts.request) + held(&facts.response)
        } else {
            0
        };
    let mut out = Vec::with_capacity(room);
    let out = &mut out;
    out.extend_from_slice(b"\"level\":\"");
    out.extend_from_slice(head.level.as_str().as_bytes());
    out.push(b'"');
    string("auditID", &head.audit_id, out);
    string("stage", stage.as_str(), out);
    string("requestURI", &head.request_uri, out);
    string("verb", &head.verb, out);
    key_to("user", out);
    user(head.user.as_deref(), out);
    if let Some(impersonated) = &facts.impersonated {
        key_to("impersonatedUser", out);
        user(Some(impersonated), out);
    }
    if !facts.constraint.is_empty() {
        key_to("authenticationMetadata", out);
        out.extend_from_slice(b"{\"impersonationConstraint\":");
        write_str(&facts.constraint, out);
        out.push(b'}');
    }
    addresses(&head.source_ips, out);
    some("userAgent", &head.user_agent, out);
    if let Some(object) = &facts.object {
        key_to("objectRef", out);
        let fields = [
            ("resource", &object.resource),
            ("namespace", &object.namespace),
            ("name", &object.name),
            ("uid", &object.uid),
            ("apiGroup", &object.group),
            ("apiVersion", &object.version),
            ("resourceVersion", &object.resource_version),
            ("subresource", &object.subresource),
        ];
        nested(out, |out| fields.iter().for_each(|(key, value)| some(key, value, out)));
    }
    if let Some(outcome) = &facts.outcome {
        key_to("responseStatus", out);
        out.extend_from_slice(b"{\"metadata\":{}");
        out.extend_from_slice(&outcome.said);
        if outcome.code != 0 {
            key_to("code", out);
            out.extend_from_slice(outcome.code.to_string().as_bytes());
        }
        out.push(b'}');
    }
    if objects {
        for (key, object) in [("requestObject", &facts.request), ("responseObject", &facts.response)] {
            if let Some(object) = object {
                key_to(key, out);
                out.extend_from_slice(object);
            }
        }
    }
    string("requestReceivedTimestamp", &head.received.rfc3339_micro(), out);
    string("stageTimestamp", &at.rfc3339_micro(), out);
    annotations(facts, !objects, out);
    out.push(b'}');
    std::mem::take(out)
}

/// Sorted, as Go writes maps.
fn annotations(facts: &Facts, truncated: bool, out: &mut Vec<u8>) {
    const TRUNCATED: (&str, &str) = ("audit.k8s.io/truncated", "true");
    let mut all: Vec<(&str, &str)> = facts
        .annotations
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    if truncated {
        all.push(TRUNCATED);
        all.sort_unstable();
    }
    if !all.is_empty() {
        key_to("annotations", out);
        nested(out, |out| all.iter().for_each(|(key, value)| string(key, value, out)));
    }
}

fn user(user: Option<&UserInfo>, out: &mut Vec<u8>) {
    let Some(user) = user else {
        out.extend_from_slice(b"{}");
        return;
    };
    nested(out, |out| {
        some("username", &user.name, out);
        some("uid", &user.uid, out);
        if !user.groups.is_empty() {
            key_to("groups", out);
            strings(user.groups.iter().map(|g| g.as_str()), out);
        }
        if !user.extra.is_empty() {
            key_to("extra", out);
            nested(out, |out| {
                for (key, values) in &user.extra {
                    key_to(key, out);
                    strings(values.iter().map(String::as_str), out);
                }
            });
        }
    });
}

fn addresses(addresses: &[IpAddr], out: &mut Vec<u8>) {
    if !addresses.is_empty() {
        key_to("sourceIPs", out);
        let texts: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
        strings(texts.iter().map(String::as_str), out);
    }
}

fn strings<'a>(values: impl Iterator<Item = &'a str>, out: &mut Vec<u8>) {
    out.push(b'[');
    for (i, value) in values.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_str(value, out);
    }
    out.push(b']');
}

/// An object, whose first field's comma is taken away.
fn nested(out: &mut Vec<u8>, fields: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    fields(out);
    match out.get_mut(start) {
        Some(comma) => *comma = b'{',
        None => out.push(b'{'),
    }
    out.push(b'}');
}

fn key_to(key: &str, out: &mut Vec<u8>) {
    out.push(b',');
    write_str(key, out);
    out.push(b':');
}

fn string(key: &str, value: &str, out: &mut Vec<u8>) {
    key_to(key, out);
    write_str(value, out);
}

fn some(key: &str, value: &str, out: &mut Vec<u8>) {
    if !value.is_empty() {
        string(key, value, out);
    }
}

fn line(head: &Head, facts: &Facts, stage: Stage) -> String {
    let quoted = |groups: &[CompactString]| groups.iter().map(|g| go_quote(g)).collect::<Vec<_>>().join(",");
    let user = head.user.as_deref().filter(|user| !user.name.is_empty());
    let groups = user
        .filter(|user| !user.groups.is_empty())
        .map(|user| quoted(&user.groups));
    let acted = facts.impersonated.as_deref();
    let acted_groups = acted
        .filter(|user| !user.groups.is_empty())
        .map(|user| quoted(&user.groups));
    let namespace = facts
        .object
        .as_ref()
        .map(|o| o.namespace.as_str())
        .filter(|n| !n.is_empty());
    let code = facts.outcome.as_ref().map(|outcome| outcome.code.to_string());
    format!(
        "{} AUDIT: id={} stage={} ip={} method={} user={} groups={} as={} asgroups={} user-agent={} namespace={} uri={} response=\"{}\"",
        trimmed(head.received),
        go_quote(&head.audit_id),
        go_quote(stage.as_str()),
        go_quote(
            &head
                .source_ips
                .first()
                .map_or_else(|| "<unknown>".to_owned(), IpAddr::to_string)
        ),
        go_quote(&head.verb),
        go_quote(user.map_or("<none>", |user| &user.name)),
        go_quote(groups.as_deref().unwrap_or("<none>")),
        go_quote(acted.map_or("<self>", |user| &user.name)),
        go_quote(acted_groups.as_deref().unwrap_or("<lookup>")),
        go_quote(&head.user_agent),
        go_quote(namespace.unwrap_or("<none>")),
        go_quote(&head.request_uri),
        code.as_deref().unwrap_or("<deferred>"),
    )
}

/// With as many digits of a second as it has.
fn trimmed(at: Timestamp) -> String {
    let text = at.rfc3339_micro();
    let digits = text.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.');
    format!("{digits}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trail::ObjectRef;
    use fairlead_api::{Status, node};
    use std::sync::Arc;

    fn head() -> Head {
        let mut user = UserInfo::new("alice", &["devs", "system:authenticated"]);
        user.extra.insert("scopes".into(), vec!["a<b".into()]);
        Head {
            level: Level::Request,
            audit_id: "id-1".into(),
            request_uri: "/api/v1/namespaces/n/pods?a=1&b=2".into(),
            verb: "create".into(),
            user: Some(Arc::new(user)),
            source_ips: vec!["10.1.2.3".parse().unwrap(), "::1".parse().unwrap()],
            user_agent: "kubectl/v1.36".into(),
            received: Timestamp(1_700_000_000_123_456_789),
        }
    }

    fn facts() -> Facts {
        Facts {
            impersonated: Some(Arc::new(UserInfo::new("bob", &[]))),
            constraint: "impersonate:user-info".into(),
            object: Some(ObjectRef {
                resource: "pods".into(),
                namespace: "n".into(),
                name: "p".into(),
                version: "v1".into(),
                ..ObjectRef::default()
            }),
            outcome: Some(Outcome::status(&Status::bad_request("no <way>").to_node())),
            request: Some(Bytes::from_static(br#"{"kind":"Pod"}"#)),
            response: None,
            annotations: [("b".to_owned(), "2".to_owned()), ("a".to_owned(), "".to_owned())].into(),
            ..Facts::default()
        }
    }

    const JSON: Wanted = Wanted {
        json: true,
        line: false,
        bare_above: Some(100),
    };

    #[test]
    fn an_event_is_upstreams_byte_by_byte() {
        let event = Event::new(
            &head(),
            &facts(),
            Stage::ResponseComplete,
            Timestamp(1_700_000_001_000_000_000),
            JSON,
        );
        let text = [KIND, &event.json].concat();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            concat!(
                r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Request","auditID":"id-1","#,
                r#""stage":"ResponseComplete","requestURI":"/api/v1/namespaces/n/pods?a=1\u0026b=2","verb":"create","#,
                r#""user":{"username":"alice","groups":["devs","system:authenticated"],"extra":{"scopes":["a\u003cb"]}},"#,
                r#""impersonatedUser":{"username":"bob"},"#,
                r#""authenticationMetadata":{"impersonationConstraint":"impersonate:user-info"},"#,
                r#""sourceIPs":["10.1.2.3","::1"],"userAgent":"kubectl/v1.36","#,
                r#""objectRef":{"resource":"pods","namespace":"n","name":"p","apiVersion":"v1"},"#,
                r#""responseStatus":{"metadata":{},"status":"Failure","message":"no \u003cway\u003e","reason":"BadRequest","code":400},"#,
                r#""requestObject":{"kind":"Pod"},"#,
                r#""requestReceivedTimestamp":"2023-11-14T22:13:20.123456Z","stageTimestamp":"2023-11-14T22:13:21.000000Z","#,
                r#""annotations":{"a":"","b":"2"}}"#,
            )
        );
        let bare = String::from_utf8(event.bare.unwrap().to_vec()).unwrap();
        assert!(!bare.contains("requestObject"), "{bare}");
        assert!(
            bare.ends_with(r#""annotations":{"a":"","audit.k8s.io/truncated":"true","b":"2"}}"#),
            "{bare}"
        );
    }

    #[test]
    fn nobody_and_nothing_leave_little() {
        let nobody = Head {
            user: None,
            source_ips: Vec::new(),
            user_agent: String::new(),
            ..head()
        };
        let event = Event::new(&nobody, &Facts::default(), Stage::ResponseStarted, Timestamp(0), JSON);
        let text = String::from_utf8(event.json.to_vec()).unwrap();
        assert!(
            text.contains(r#""verb":"create","user":{},"requestReceivedTimestamp""#),
            "{text}"
        );
        assert!(
            text.ends_with(r#""stageTimestamp":"1970-01-01T00:00:00.000000Z"}"#),
            "{text}"
        );
        let empty = Outcome::status(&node!({"kind": "Status", "status": "Success"}));
        assert_eq!(
            (empty.code, empty.said.as_slice()),
            (0, br#","status":"Success""#.as_slice())
        );
    }

    #[test]
    fn the_legacy_line_is_upstreams() {
        let mut facts = facts();
        let wanted = Wanted {
            line: true,
            ..Wanted::default()
        };
        let line = |facts: &Facts, head: &Head| {
            let event = Event::new(head, facts, Stage::RequestReceived, Timestamp(0), wanted);
            assert!(event.json.is_empty());
            String::from_utf8(event.line.unwrap().to_vec()).unwrap()
        };
        assert_eq!(
            line(&facts, &head()),
            concat!(
                r#"2023-11-14T22:13:20.123456Z AUDIT: id="id-1" stage="RequestReceived" ip="10.1.2.3" method="create" "#,
                r#"user="alice" groups="\"devs\",\"system:authenticated\"" as="bob" asgroups="<lookup>" "#,
                r#"user-agent="kubectl/v1.36" namespace="n" uri="/api/v1/namespaces/n/pods?a=1&b=2" response="400""#,
            )
        );
        facts = Facts::default();
        let nobody = Head {
            user: None,
            received: Timestamp(0),
            ..head()
        };
        let text = line(&facts, &nobody);
        assert!(text.starts_with("1970-01-01T00:00:00Z AUDIT"), "{text}");
        assert!(
            text.contains(r#"user="<none>" groups="<none>" as="<self>" asgroups="<lookup>""#),
            "{text}"
        );
        assert!(text.ends_with(r#"response="<deferred>""#), "{text}");
    }
}
