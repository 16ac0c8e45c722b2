//! [`Trail`]: what is recorded of one request, from its arrival until its answer has been sent.
// PERFORMANCE: per-request path

use crate::auditor::Auditor;
use crate::event::{Event, Outcome};
use crate::level::{Level, Stage};
use crate::policy::Verdict;
use bytes::Bytes;
use compact_str::CompactString;
use fairlead_api::time::GoDuration;
use fairlead_api::{Node, Status, Timestamp, UserInfo, json, node};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What is known when a request comes, and does not change.
pub struct Head {
    pub level: Level,
    pub audit_id: String,
    pub request_uri: String,
    pub verb: CompactString,
    /// `None` where nobody could be authenticated.
    pub user: Option<Arc<UserInfo>>,
    pub source_ips: Vec<IpAddr>,
    pub user_agent: String,
    pub received: Timestamp,
}

/// What is learnt on the way.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub impersonated: Option<Arc<UserInfo>>,
    /// The verb that allowed it; empty where it was plain `impersonate`.
    pub constraint: CompactString,
    pub object: Option<ObjectRef>,
    pub outcome: Option<Outcome>,
    /// Compact JSON.
    pub request: Option<Bytes>,
    /// Compact JSON.
    pub response: Option<Bytes>,
    pub annotations: BTreeMap<String, String>,
    /// How long parts of the server took, told of slow requests.
    pub spent: Vec<(&'static str, Duration)>,
    /// A long answer takes its time, and nobody is told of that.
    pub started: bool,
}

/// The object a request is about. Empty fields are not shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectRef {
    pub resource: CompactString,
    pub namespace: CompactString,
    pub name: CompactString,
    pub uid: CompactString,
    pub group: CompactString,
    pub version: CompactString,
    pub resource_version: CompactString,
    pub subresource: CompactString,
}

/// What a request's body says of its object.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    pub namespace: CompactString,
    pub name: CompactString,
    pub uid: CompactString,
    pub resource_version: CompactString,
}

/// One audited request.
pub struct Trail {
    auditor: Arc<Auditor>,
    head: Head,
    verdict: Verdict,
    facts: Mutex<Facts>,
}

/// Above this, an event tells what took so long.
const SLOW: Duration = Duration::from_millis(500);
/// Patches of webhooks are told with the request's object, and not below.
const PATCHES: &str = "patch.webhook.admission.k8s.io/";

impl Trail {
    pub(crate) fn new(auditor: Arc<Auditor>, head: Head, verdict: Verdict, object: Option<ObjectRef>) -> Trail {
        Trail {
            auditor,
            head,
            verdict,
            facts: Mutex::new(Facts {
                object,
                ..Facts::default()
            }),
        }
    }

    /// Whether the request's object is recorded.
    pub fn wants_request(&self) -> bool {
        self.head.level >= Level::Request
    }

    /// Whether the answer's object is recorded.
    pub fn wants_response(&self) -> bool {
        self.head.level >= Level::RequestResponse
    }

    pub fn omits_managed_fields(&self) -> bool {
        self.verdict.omit_managed_fields
    }

    /// Adds an annotation. What is said first stays.
    pub fn annotate(&self, key: impl Into<String>, value: impl Into<String>) {
        let key = key.into();
        if key.starts_with(PATCHES) && !self.wants_request() {
            return;
        }
        self.facts().annotations.entry(key).or_insert_with(|| value.into());
    }

    /// Who the request is made as.
    pub fn impersonated(&self, user: Arc<UserInfo>, constraint: &str) {
        let mut facts = self.facts();
        facts.impersonated = Some(user);
        facts.constraint = constraint.into();
    }

    /// Completes what is known of the object by what the body says.
    pub fn recorded(&self, recorded: Recorded) {
        let mut facts = self.facts();
        let object = facts.object.get_or_insert_default();
        for (field, value) in [
            (&mut object.namespace, recorded.namespace),
            (&mut object.name, recorded.name),
            (&mut object.uid, recorded.uid),
            (&mut object.resource_version, recorded.resource_version),
        ] {
            if field.is_empty() {
                *field = value;
            }
        }
    }

    /// The request's object.
    pub fn request(&self, object: Node) {
        if self.wants_request() {
            let object = self.without_managed_fields(object);
            self.facts().request = Some(json::to_vec(&object).into());
        }
    }

    /// The request's object as it came; what is not JSON is not recorded.
    pub fn request_text(&self, text: &[u8]) {
        if self.wants_request()
            && let Some(compact) = compact(text)
        {
            self.facts().request = Some(compact.into());
        }
    }

    /// The answer is a `Status`: a failure, or the success of a delete.
    pub fn answered(&self, status: &Node) {
        let object = self.wants_response().then(|| json::to_vec(status).into());
        let mut facts = self.facts();
        facts.outcome = Some(Outcome::status(status));
        facts.response = object;
    }

    /// The answer is a failure.
    pub fn failed(&self, status: &Status) {
        self.answered(&status.to_node());
    }

    /// The answer is an object.
    pub fn response(&self, object: Node) {
        if self.wants_response() {
            let object = self.without_managed_fields(object);
            self.facts().response = Some(json::to_vec(&object).into());
        }
    }

    /// The answer is an object that is compact JSON already; its managed fields are recorded.
    pub fn response_text(&self, object: Bytes) {
        if self.wants_response() {
            self.facts().response = Some(object);
        }
    }

    /// A part of the server has taken its time.
    pub fn spent(&self, part: &'static str, time: Duration) {
        self.facts().spent.push((part, time));
    }

    /// The request is here. `false` where it must not be served, since its event could not be stored.
    pub async fn begin(&self) -> bool {
        let stored = self.stage(Stage::RequestReceived).await;
        if !stored {
            self.auditor.metrics().rejected();
        }
        stored
    }

    /// The head of an answer is there.
    pub async fn started(&self, code: u16) {
        self.code(code);
        self.facts().started = true;
        self.stage(Stage::ResponseStarted).await;
    }

    /// The answer has been sent.
    pub async fn complete(&self, code: u16) {
        self.code(code);
        self.explain();
        self.stage(Stage::ResponseComplete).await;
    }

    /// [`Trail::complete`] where nobody can wait.
    pub fn completed(&self, code: u16) {
        self.code(code);
        self.explain();
        if let Some(event) = self.event(Stage::ResponseComplete) {
            self.auditor.sinks().put_now(&event);
        }
    }

    /// Nobody waits for the answer any more: the request's time is over, or the client has gone.
    pub fn abandoned(&self, late: bool) {
        let why = if late {
            "context deadline exceeded"
        } else {
            "context canceled"
        };
        let status = Status::timeout(format!("request did not complete within requested timeout - {why}"), 0);
        self.failed(&status);
        self.completed(status.code());
    }

    pub async fn panicked(&self, why: &str) {
        let status = node!({
            "status": "Failure", "message": format!("APIServer panic'd: {why}"), "reason": "InternalError", "code": 500,
        });
        self.facts().outcome = Some(Outcome::status(&status));
        self.stage(Stage::Panic).await;
    }

    async fn stage(&self, stage: Stage) -> bool {
        match self.event(stage) {
            Some(event) => self.auditor.sinks().put(&event).await,
            None => true,
        }
    }

    fn event(&self, stage: Stage) -> Option<Event> {
        if self.verdict.omit.contains(stage) {
            return None;
        }
        let at = match stage {
            Stage::RequestReceived => self.head.received,
            _ => self.auditor.now(),
        };
        self.auditor.metrics().event();
        Some(Event::new(
            &self.head,
            &self.facts(),
            stage,
            at,
            self.auditor.sinks().wanted(),
        ))
    }

    fn code(&self, code: u16) {
        self.facts().outcome.get_or_insert_default().code = code;
    }

    /// Tells of a slow request what took so long.
    fn explain(&self) {
        let total = self.auditor.now().since(self.head.received);
        if total.0 <= SLOW.as_nanos() as i64 {
            return;
        }
        let mut facts = self.facts();
        if facts.started {
            return;
        }
        let spent = std::mem::take(&mut facts.spent);
        let mut tell = |part: &str, time: GoDuration| {
            let key = format!("apiserver.latency.k8s.io/{part}");
            facts.annotations.entry(key).or_insert_with(|| time.to_string());
        };
        for (part, time) in spent.into_iter().filter(|(_, time)| !time.is_zero()) {
            tell(part, GoDuration(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)));
        }
        tell("total", total);
    }

    fn without_managed_fields(&self, mut object: Node) -> Node {
        if self.verdict.omit_managed_fields {
            omit(&mut object);
        }
        object
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes managed fields out of an object, a list's items, or the objects of a Table's rows.
fn omit(object: &mut Node) {
    object.remove_at(&["metadata", "managedFields"]);
    if let Some(items) = object.get_mut("items").and_then(Node::as_list_mut) {
        for item in items {
            item.remove_at(&["metadata", "managedFields"]);
        }
    }
    if object.str("kind") == "Table"
        && let Some(rows) = object.get_mut("rows").and_then(Node::as_list_mut)
    {
        for row in rows {
            row.remove_at(&["object", "metadata", "managedFields"]);
        }
    }
}

/// JSON in one line, as Go compacts it; `None` for anything else.
fn compact(text: &[u8]) -> Option<Vec<u8>> {
    json::parse(text).ok()?;
    let mut out = Vec::with_capacity(text.len());
    let (mut quoted, mut escaped) = (false, false);
    for (i, &byte) in text.iter().enumerate() {
        if !quoted {
            quoted = byte == b'"';
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                out.push(byte);
            }
            continue;
        }
        match byte {
            b'<' => out.extend_from_slice(b"\\u003c"),
            b'>' => out.extend_from_slice(b"\\u003e"),
            b'&' => out.extend_from_slice(b"\\u0026"),
            // The line separators that are none in JSON.
            0xa8 if text[..i].ends_with(b"\xe2\x80") => separator(&mut out, b"\\u2028"),
            0xa9 if text[..i].ends_with(b"\xe2\x80") => separator(&mut out, b"\\u2029"),
            _ => out.push(byte),
        }
        quoted = escaped || byte != b'"';
        escaped = !escaped && byte == b'\\';
    }
    Some(out)
}

fn separator(out: &mut Vec<u8>, escape: &[u8]) {
    out.truncate(out.len() - 2);
    out.extend_from_slice(escape);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_compacted_and_nothing_else_is_taken() {
        let text = |bytes: &str| compact(bytes.as_bytes()).map(|b| String::from_utf8(b).unwrap());
        assert_eq!(
            text("{ \"a b\" : [ 1,\n 2 ], \"c\": \"x \\\" <&>\\\\\" }").as_deref(),
            Some(r#"{"a b":[1,2],"c":"x \" \u003c\u0026\u003e\\"}"#)
        );
        assert_eq!(text("\"a\u{2028}b\"").as_deref(), Some(r#""a\u2028b""#));
        assert_eq!(text("a: 1"), None);
        assert_eq!(text("{\"a\":1}\n{\"b\":2}"), None);
    }

    #[test]
    fn managed_fields_are_taken_out_of_lists_and_tables() {
        let mut list =
            node!({"metadata": {"managedFields": []}, "items": [{"metadata": {"name": "a", "managedFields": []}}]});
        omit(&mut list);
        assert_eq!(list, node!({"metadata": {}, "items": [{"metadata": {"name": "a"}}]}));
        let mut table = node!({"kind": "Table", "rows": [{"object": {"metadata": {"managedFields": []}}}]});
        omit(&mut table);
        assert_eq!(table, node!({"kind": "Table", "rows": [{"object": {"metadata": {}}}]}));
    }
}
