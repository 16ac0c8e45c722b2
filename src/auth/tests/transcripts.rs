//! Replays the recorded authorization scenarios: who was refused what, in which words, and what reviews answered.
//!
//! Only decisions are checked here: objects are put into memory as they were sent. Scenarios with tokens are the
//! black-box suite's.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use fairlead_api::selector::FieldSelector;
use fairlead_api::{Node, Status, UserInfo, json};
use fairlead_auth::authentication::Headers;
use fairlead_auth::authorization::forbidden::forbidden;
use fairlead_auth::authorization::node::NodeAuthorizer;
use fairlead_auth::authorization::rbac::{GROUP as RBAC, Rbac};
use fairlead_auth::authorization::union::{Masters, Union};
use fairlead_auth::escalation::{self, Write};
use fairlead_auth::impersonation::{Impersonation, requested};
use fairlead_auth::objects::MemoryObjects;
use fairlead_auth::{Authorizer, AuthzAttributes, Decision, ObjectSource, bootstrap, reviews};
use futures_util::FutureExt;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

const NAMESPACE: &str = "ns1";

#[test]
fn decisions_are_those_recorded() {
    let Some(text) = transcript() else {
        return println!("no conformance data: skipped");
    };
    let (mut steps, mut failures) = (0, Vec::new());
    for line in text.replace("${ns}", NAMESPACE).lines() {
        let scenario = json::parse(line.as_bytes()).unwrap();
        if line.contains("${tok}") || line.contains("nonsense") || line.contains("Bearer ") {
            continue;
        }
        let world = World::new();
        for (i, step) in scenario
            .list("flow")
            .iter()
            .enumerate()
            .filter(|(_, s)| s.get("method").is_some())
        {
            let Some(got) = world.take(step) else { break };
            let expect = step.get("expect").unwrap_or(&Node::Null);
            let want = expect.get("body").unwrap_or(&Node::Null);
            steps += 1;
            if let Some(difference) = compare(&got, expect.get("status").and_then(Node::as_i64), want, step) {
                failures.push(format!("{} step {i}: {difference}", scenario.str("id")));
            }
        }
    }
    assert!(steps > 400, "only {steps} steps ran");
    assert!(
        failures.is_empty(),
        "{} of {steps}:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

fn transcript() -> Option<String> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance");
    let conformance = std::env::var_os("FAIRLEAD_CONFORMANCE").map_or(beside, PathBuf::from);
    let file = std::fs::File::open(conformance.join("transcripts/streams-auth.jsonl.gz")).ok()?;
    let mut text = String::new();
    flate2::read::GzDecoder::new(file)
        .read_to_string(&mut text)
        .expect("the transcript is gzipped text");
    Some(text)
}

/// What a step came to, as far as this crate decides it.
enum Got {
    Refused(Status),
    Answered(Node),
    Allowed,
}

fn compare(got: &Got, status: Option<i64>, want: &Node, step: &Node) -> Option<String> {
    let described = |s: &Status| format!("{} {}", s.code(), s.message());
    // Refusals of later stages look different from ours.
    let ours = |text: &str| {
        text.contains(" cannot ") || text.contains("is attempting to grant") || text.contains("aggregationRule")
    };
    match got {
        Got::Refused(ours) if status.is_some_and(|code| code != i64::from(ours.code())) => Some(format!(
            "wanted {status:?} {}, got {}",
            want.str("message"),
            described(ours)
        )),
        Got::Refused(ours) if want.get("message").is_some() && want.str("message") != ours.message() => {
            Some(format!("wanted {}, got {}", want.str("message"), described(ours)))
        }
        Got::Allowed if status == Some(403) && ours(want.str("message")) => {
            Some(format!("wanted a refusal: {}", want.str("message")))
        }
        Got::Answered(answer) if status == Some(201) && want.get("status").is_some() => {
            (without_reason(answer) != without_reason(want)).then(|| {
                format!(
                    "wanted {:?}, got {:?} for {:?}",
                    want.get("status"),
                    answer.get("status"),
                    step.get("body")
                )
            })
        }
        Got::Answered(answer) if status.is_some_and(|s| s >= 400) => {
            Some(format!("wanted {}, got {answer:?}", want.str("message")))
        }
        _ => None,
    }
}

/// The status, without the name of the binding: of several that allow, upstream names any.
fn without_reason(review: &Node) -> Option<Node> {
    let mut status = review.get("status")?.clone();
    if status.str("reason").starts_with("RBAC: allowed by ClusterRoleBinding") {
        status.remove("reason");
    }
    Some(status)
}

struct World {
    objects: Arc<MemoryObjects>,
    rbac: Arc<Rbac>,
    authorizer: Union,
    impersonation: Impersonation,
}

impl World {
    fn new() -> World {
        let objects = Arc::new(MemoryObjects::new());
        for expected in bootstrap::objects() {
            objects.put(RBAC, expected.plural, expected.object);
        }
        let source = || Arc::clone(&objects) as Arc<dyn ObjectSource>;
        let rbac = Arc::new(Rbac::new(source()));
        let node = NodeAuthorizer::new(source(), bootstrap::node_rules());
        let authorizer = Union(vec![
            Arc::new(Masters),
            Arc::new(node),
            Arc::clone(&rbac) as Arc<dyn Authorizer>,
        ]);
        World {
            objects,
            rbac,
            authorizer,
            impersonation: Impersonation::default(),
        }
    }

    /// `None` where a step needs more than this crate.
    fn take(&self, step: &Node) -> Option<Got> {
        let mut attributes = attributes(step)?;
        let headers = StepHeaders::new(step);
        let anonymous = step.get("headers").and_then(|h| h.get("Authorization")).is_some();
        attributes.user = Arc::new(match anonymous {
            true => UserInfo::new("system:anonymous", &["system:unauthenticated"]),
            false => UserInfo::new("admin", &["system:masters", "system:authenticated"]),
        });
        let wanted = match requested(&headers) {
            Ok(wanted) => wanted,
            Err(status) => return Some(Got::Refused(status)),
        };
        if let Some(wanted) = wanted {
            match now(self.impersonation.check(&self.authorizer, &attributes, &wanted)) {
                Ok(impersonated) => attributes.user = impersonated.user,
                Err(status) => return Some(Got::Refused(status)),
            }
        }
        let (decision, reason) = now(self.authorizer.authorize(&attributes));
        if decision != Decision::Allow {
            return Some(Got::Refused(forbidden(&attributes, &reason)));
        }
        match now(self.serve(step, &attributes)) {
            Ok(got) => Some(got),
            Err(status) => Some(Got::Refused(status)),
        }
    }

    async fn serve(&self, step: &Node, a: &AuthzAttributes) -> Result<Got, Status> {
        if a.verb == "delete" {
            self.objects.delete(&a.group, &a.resource, &a.namespace, &a.name);
        }
        let Some(body) = step.get("body").filter(|b| b.as_map().is_some()) else {
            return Ok(Got::Allowed);
        };
        let (body, user, authorizer) = (body.clone(), &a.user, &self.authorizer);
        if a.verb == "create" && body.str("kind").ends_with("Review") && step.at(&["headers", "Accept"]).is_none() {
            return match a.resource.as_str() {
                "subjectaccessreviews" => {
                    reviews::check_subject_access_review(&body)?;
                    Ok(Got::Answered(reviews::subject_access_review(body, authorizer).await))
                }
                "selfsubjectaccessreviews" => {
                    // Its answers in error hold managed fields, which the engine makes.
                    if body.get("metadata").is_some() {
                        return Ok(Got::Allowed);
                    }
                    reviews::check_self_subject_access_review(&body)?;
                    let answered = reviews::self_subject_access_review(body, user, authorizer).await;
                    Ok(Got::Answered(answered))
                }
                "localsubjectaccessreviews" => {
                    let mut body = body;
                    if body.namespace().is_empty() {
                        body.set_at(&["metadata", "namespace"], a.namespace.as_str());
                    }
                    reviews::check_local_subject_access_review(&body, &a.namespace)?;
                    Ok(Got::Answered(reviews::subject_access_review(body, authorizer).await))
                }
                "selfsubjectrulesreviews" => {
                    reviews::check_self_subject_rules_review(&body)?;
                    let answered = reviews::self_subject_rules_review(&body, user, authorizer).await;
                    Ok(Got::Answered(answered))
                }
                _ => Ok(Got::Allowed),
            };
        }
        if !matches!(a.verb.as_str(), "create" | "update" | "patch") {
            return Ok(Got::Allowed);
        }
        let name = if a.name.is_empty() { body.name() } else { &a.name };
        let old = self.objects.get(&a.group, &a.resource, &a.namespace, name);
        let mut object = match (a.verb.as_str(), &old) {
            ("patch", Some(old)) => merged(old, &body),
            _ => body.clone(),
        };
        for (key, value) in [("name", name), ("namespace", a.namespace.as_str())] {
            if !value.is_empty() {
                object.set_at(&["metadata", key], value);
            }
        }
        if a.resource == "pods" {
            // The ServiceAccount plugin's default.
            object.set_at(&["spec", "serviceAccountName"], "default");
        }
        let write = Write {
            user,
            plural: &a.resource,
            namespace: &a.namespace,
            object: &object,
            old: old.as_deref(),
        };
        escalation::check(&self.rbac, authorizer, &write).await?;
        let refused = step
            .at(&["expect", "status"])
            .and_then(Node::as_i64)
            .is_some_and(|code| code >= 400);
        if !refused && a.subresource.is_empty() {
            self.objects.put(&a.group, &a.resource, object);
        }
        Ok(Got::Allowed)
    }
}

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("nothing waits")
}

fn merged(old: &Node, patch: &Node) -> Node {
    let (Node::Map(_), Some(patch)) = (old, patch.as_map()) else {
        return patch.clone();
    };
    let mut new = old.clone();
    for (key, value) in patch.iter() {
        let value = merged(old.get(key).unwrap_or(&Node::Null), value);
        new.set(key, value);
    }
    new
}

/// The attributes of a request, without its user: enough of the server's rules for these scenarios.
fn attributes(step: &Node) -> Option<AuthzAttributes> {
    let (path, query) = (step.str("path").split('?').next()?, query(step));
    let method = step.str("method");
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => ("", "", &[][..]),
    };
    if rest.is_empty() {
        return Some(AuthzAttributes {
            verb: method.to_lowercase().into(),
            path: path.into(),
            ..AuthzAttributes::default()
        });
    }
    let (watch, rest) = match rest {
        ["watch", rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let (namespace, rest) = match rest {
        ["namespaces", name] => (*name, &["namespaces", *name][..]),
        ["namespaces", name, sub @ ("status" | "finalize")] => (*name, &["namespaces", *name, *sub][..]),
        ["namespaces", namespace, rest @ ..] => (*namespace, rest),
        rest => ("", rest),
    };
    let part = |i: usize| rest.get(i).copied().unwrap_or_default();
    let flag = |key: &str| query.iter().any(|(k, v)| k == key && (v == "true" || v == "1"));
    let verb = match (method, part(1).is_empty()) {
        ("GET", _) if watch => "watch",
        ("GET" | "HEAD", true) if flag("watch") => "watch",
        ("GET" | "HEAD", true) => "list",
        ("GET" | "HEAD", false) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", true) => "deletecollection",
        ("DELETE", false) => "delete",
        _ => return None,
    };
    let selector = query
        .iter()
        .find(|(k, _)| k == "fieldSelector")
        .map_or("", |(_, v)| v.as_str());
    let fields = FieldSelector::parse(selector)
        .map(|s| s.requirements)
        .unwrap_or_default();
    let by_name = fields
        .iter()
        .find(|r| r.field == "metadata.name" && !r.negated)
        .map_or("", |r| r.value.as_str());
    let name = if matches!(verb, "list" | "watch") && part(1).is_empty() {
        by_name
    } else {
        part(1)
    };
    Some(AuthzAttributes {
        verb: verb.into(),
        group: group.into(),
        version: version.into(),
        namespace: namespace.into(),
        resource: part(0).into(),
        name: name.into(),
        subresource: part(2).into(),
        resource_request: true,
        path: path.into(),
        field_selector: fields.clone(),
        ..AuthzAttributes::default()
    })
}

fn query(step: &Node) -> Vec<(String, String)> {
    let given = step
        .get("query")
        .and_then(Node::as_map)
        .into_iter()
        .flat_map(|q| q.iter());
    let given = given.filter_map(|(k, v)| Some((k.to_string(), v.as_str()?.to_owned())));
    let inline = step.str("path").split_once('?').map_or("", |(_, q)| q);
    let inline = inline
        .split('&')
        .filter_map(|p| p.split_once('='))
        .map(|(k, v)| (k.to_owned(), v.replace("%3D", "=")));
    given.chain(inline).collect()
}

/// The impersonation headers of a step, names in lower case.
struct StepHeaders(Vec<(String, String)>);

impl StepHeaders {
    fn new(step: &Node) -> StepHeaders {
        let mut headers = Vec::new();
        for (name, value) in step
            .get("headers")
            .and_then(Node::as_map)
            .into_iter()
            .flat_map(|h| h.iter())
        {
            let name = name.to_lowercase().to_string();
            let values = match value {
                Node::List(many) => many.iter().filter_map(Node::as_str).collect(),
                one => one.as_str().into_iter().collect::<Vec<_>>(),
            };
            headers.extend(values.into_iter().map(|v| (name.clone(), v.to_owned())));
        }
        StepHeaders(headers)
    }
}

impl Headers for StepHeaders {
    fn values(&self, name: &str) -> Vec<&str> {
        self.0
            .iter()
            .filter(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
            .collect()
    }

    fn with_prefix(&self, prefix: &str) -> Vec<(&str, &str)> {
        self.0
            .iter()
            .filter_map(|(n, v)| Some((n.strip_prefix(prefix)?, v.as_str())))
            .collect()
    }
}
