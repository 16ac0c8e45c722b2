//! [`Auditor`]: what the server's chain asks. Shared by all requests.
// PERFORMANCE: per-request path

use crate::level::Level;
use crate::metrics::Metrics;
use crate::policy::{Asked, Policy, Verdict};
use crate::sink::Sinks;
use crate::trail::{Head, ObjectRef, Trail};
use fairlead_api::{Clock, Timestamp, UserInfo};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The policy, and where events go.
pub struct Auditor {
    policy: Policy,
    sinks: Sinks,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
}

/// What only audited requests are asked for.
pub struct Received {
    pub audit_id: String,
    pub request_uri: String,
    pub user: Option<Arc<UserInfo>>,
    pub source_ips: Vec<IpAddr>,
    pub user_agent: String,
    /// How long ago it came.
    pub ago: Duration,
}

/// Longer user agents are cut, in bytes.
const USER_AGENT: usize = 1024;

impl Auditor {
    pub fn new(policy: Policy, sinks: Sinks, metrics: Metrics, clock: Arc<dyn Clock>) -> Auditor {
        Auditor {
            policy,
            sinks,
            metrics,
            clock,
        }
    }

    /// What is to be recorded of a request; `None` where nothing is.
    pub fn judge(&self, asked: &Asked) -> Option<Verdict> {
        let verdict = self.policy.judge(asked);
        self.metrics.level(verdict.level);
        (verdict.level != Level::None).then_some(verdict)
    }

    /// Begins the record of a request that was judged.
    pub fn begin(self: &Arc<Auditor>, verdict: Verdict, asked: &Asked, received: Received) -> Arc<Trail> {
        let object = asked.resource_request.then(|| ObjectRef {
            resource: asked.resource.into(),
            namespace: asked.namespace.into(),
            name: asked.name.into(),
            group: asked.group.into(),
            version: asked.version.into(),
            subresource: asked.subresource.into(),
            ..ObjectRef::default()
        });
        let head = Head {
            level: verdict.level,
            audit_id: received.audit_id,
            request_uri: received.request_uri,
            verb: asked.verb.into(),
            user: received.user,
            source_ips: received.source_ips,
            user_agent: shortened(received.user_agent),
            received: Timestamp(self.now().0 - received.ago.as_nanos() as i128),
        };
        Arc::new(Trail::new(self.clone(), head, verdict, object))
    }

    /// Writes what is waiting, for as long as that may take, and takes no more.
    pub async fn close(&self, patience: Duration) {
        self.sinks.close(patience).await;
    }

    pub(crate) fn sinks(&self) -> &Sinks {
        &self.sinks
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

fn shortened(mut user_agent: String) -> String {
    if user_agent.len() > USER_AGENT {
        user_agent.truncate(user_agent.floor_char_boundary(USER_AGENT));
        user_agent.push_str("...TRUNCATED");
    }
    user_agent
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Recorded;
    use crate::sink::tests::{Kept, kept};
    use crate::sink::{Form, Mode};
    use fairlead_api::time::FixedClock;
    use fairlead_api::{Node, Status, node};
    use fairlead_telemetry::Families;

    fn asked<'a>(user: &'a UserInfo) -> Asked<'a> {
        Asked {
            user: Some(user),
            verb: "create",
            resource_request: true,
            namespace: "n",
            group: "",
            version: "v1",
            resource: "pods",
            subresource: "",
            name: "",
            path: "/api/v1/namespaces/n/pods",
        }
    }

    fn auditor(rule: Node) -> (Arc<Auditor>, Kept, Families) {
        let families = Families::default();
        let metrics = Metrics::register(&families);
        let document = node!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [rule]});
        let (sink, kept) = kept(Form::Json, Mode::Batch, None, &metrics);
        let clock = Arc::new(FixedClock(Timestamp(2_000_000_000)));
        let auditor = Auditor::new(
            Policy::from_node(&document).unwrap(),
            Sinks::new(vec![sink]),
            metrics,
            clock,
        );
        (Arc::new(auditor), kept, families)
    }

    fn begun(auditor: &Arc<Auditor>, ago: Duration) -> Arc<Trail> {
        let user = UserInfo::new("alice", &[]);
        let asked = asked(&user);
        let verdict = auditor.judge(&asked).unwrap();
        let received = Received {
            audit_id: "id".into(),
            request_uri: "/api/v1/namespaces/n/pods".into(),
            user: Some(Arc::new(user.clone())),
            source_ips: Vec::new(),
            user_agent: "ü".repeat(1000),
            ago,
        };
        auditor.begin(verdict, &asked, received)
    }

    #[tokio::test]
    async fn a_request_leaves_two_events() {
        let (auditor, mut kept, families) = auditor(node!({"level": "RequestResponse", "omitManagedFields": true}));
        let trail = begun(&auditor, Duration::from_secs(1));
        assert!(trail.begin().await);
        trail.recorded(Recorded {
            name: "p".into(),
            namespace: "other".into(),
            ..Recorded::default()
        });
        trail.request(node!({"metadata": {"name": "p", "managedFields": [1]}}));
        trail.annotate("a", "first");
        trail.annotate("a", "second");
        trail.annotate("patch.webhook.admission.k8s.io/round_0_index_0", "{}");
        trail.spent("authorization", Duration::from_millis(2));
        trail.response(node!({"metadata": {"uid": "u", "managedFields": []}}));
        trail.complete(201).await;
        let [received, complete] = &kept.events()[..] else {
            panic!("two events");
        };
        assert!(received.str("userAgent").ends_with("ü...TRUNCATED"));
        assert_eq!(received.str("stageTimestamp"), "1970-01-01T00:00:01.000000Z");
        assert_eq!(received.get("annotations"), None);
        assert_eq!(complete.str("stageTimestamp"), "1970-01-01T00:00:02.000000Z");
        let object = node!({"resource": "pods", "namespace": "n", "name": "p", "apiVersion": "v1"});
        assert_eq!(complete.get("objectRef"), Some(&object));
        assert_eq!(
            complete.get("responseStatus"),
            Some(&node!({"metadata": {}, "code": 201}))
        );
        assert_eq!(complete.get("requestObject"), Some(&node!({"metadata": {"name": "p"}})));
        assert_eq!(complete.get("responseObject"), Some(&node!({"metadata": {"uid": "u"}})));
        assert_eq!(
            complete.get("annotations"),
            Some(
                &node!({"a": "first", "patch.webhook.admission.k8s.io/round_0_index_0": "{}",
                "apiserver.latency.k8s.io/authorization": "2ms", "apiserver.latency.k8s.io/total": "1s"})
            )
        );
        let mut text = String::new();
        fairlead_telemetry::text::write(&families.gather(), &mut text);
        for line in [
            "apiserver_audit_event_total 2",
            "apiserver_audit_level_total{level=\"RequestResponse\"} 1",
            "apiserver_audit_requests_rejected_total 0",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[tokio::test]
    async fn failures_are_told_and_bodies_are_not_at_metadata() {
        let (auditor, mut kept, _) = auditor(node!({"level": "Metadata", "omitStages": ["RequestReceived"]}));
        let trail = begun(&auditor, Duration::ZERO);
        assert!(trail.begin().await);
        trail.request(node!({"a": 1}));
        trail.request_text(b"{}");
        trail.annotate("patch.webhook.admission.k8s.io/round_0_index_0", "{}");
        trail.failed(&Status::bad_request("no"));
        trail.completed(400);
        begun(&auditor, Duration::ZERO).abandoned(true);
        begun(&auditor, Duration::ZERO).panicked("boom").await;
        let events = kept.events();
        assert_eq!(events.len(), 3);
        for (event, stage, reason, code) in [
            (&events[0], "ResponseComplete", "BadRequest", 400),
            (&events[1], "ResponseComplete", "Timeout", 504),
            (&events[2], "Panic", "InternalError", 500),
        ] {
            assert_eq!(event.str("stage"), stage);
            assert_eq!(event.str_at(&["responseStatus", "reason"]), reason);
            assert_eq!(event.at(&["responseStatus", "code"]), Some(&Node::Int(code)));
            for absent in ["requestObject", "responseObject", "annotations"] {
                assert_eq!(event.get(absent), None, "{event:?}");
            }
        }
    }

    #[test]
    fn what_no_rule_matches_is_not_audited() {
        let (auditor, _, _) = auditor(node!({"level": "Metadata", "verbs": ["get"]}));
        assert!(auditor.judge(&asked(&UserInfo::default())).is_none());
    }
}
