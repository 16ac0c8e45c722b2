//! MutatingAdmissionWebhook: webhooks that may patch or refuse a write, one after the other.
// PERFORMANCE: per-request path

use super::Plugin;
use crate::metrics::{Asked, Step};
use crate::webhook::review::{self, Answer, refusal};
use crate::webhook::select::{Invocation, select};
use crate::webhook::{self, Failure};
use crate::{Attributes, Cluster};
use fairlead_api::field::go_quote;
use fairlead_api::{Node, Status, StatusResult, json, node};
use fairlead_patch::json_patch;
use futures_util::future::BoxFuture;
use std::time::Instant;

#[derive(Default)]
pub struct MutatingAdmissionWebhook;

const MUTATION: &str = "mutation.webhook.admission.k8s.io/";
const PATCH: &str = "patch.webhook.admission.k8s.io/";

impl Plugin for MutatingAdmissionWebhook {
    fn mutates(&self) -> bool {
        true
    }

    fn concerns(&self, attributes: &Attributes) -> bool {
        !webhook::is_exempt(attributes)
    }

    fn mutate<'a>(&'a self, attributes: &'a mut Attributes, cluster: &'a Cluster) -> BoxFuture<'a, StatusResult<()>> {
        let configurations = cluster.lookup.list(webhook::GROUP, "mutatingwebhookconfigurations", "");
        if configurations.is_empty() {
            return super::now(Ok(()));
        }
        Box::pin(async move {
            let memory = &mut attributes.reinvocation;
            if memory.second && memory.left.as_deref().is_some_and(|left| *left != attributes.object) {
                memory.again.append(&mut memory.called);
            }
            for (place, (configuration, index, hook)) in webhook::all(&configurations).enumerate() {
                let Some(mut invocation) = select(hook, attributes, cluster).await? else {
                    continue;
                };
                (invocation.place, invocation.configuration) = (place, configuration.name());
                // The place among all may be another in the second round.
                let id = (configuration.name().to_owned(), index);
                let memory = &attributes.reinvocation;
                if !memory.second || memory.again.contains(&id) {
                    call(&invocation, id, attributes, cluster).await?;
                }
            }
            let memory = &mut attributes.reinvocation;
            let watched = !memory.second && !memory.called.is_empty();
            memory.left = watched.then(|| Box::new(attributes.object.clone()));
            Ok(())
        })
    }
}

async fn call(
    invocation: &Invocation<'_>,
    id: (String, usize),
    attributes: &mut Attributes,
    cluster: &Cluster,
) -> StatusResult<()> {
    let hook = invocation.hook;
    let round = format!("round_{}_index_{}", u8::from(attributes.reinvocation.second), invocation.place);
    let (started, operation) = (Instant::now(), attributes.operation);
    let result = ask(invocation, &round, attributes, cluster).await;
    let asked = result.as_ref().map_or_else(|failure| failure.asked(hook), |_| Asked::Allowed);
    cluster
        .metrics
        .webhook(hook.str("name"), Step::Admit, operation, asked, started.elapsed());
    let changed = matches!(result, Ok(true));
    let (configuration, name) = (invocation.configuration, hook.str("name"));
    let note = node!({"configuration": configuration, "webhook": name, "mutated": changed});
    attributes.audit.push((format!("{MUTATION}{round}"), json::to_string(&note)));
    let memory = &mut attributes.reinvocation;
    if changed {
        memory.again.append(&mut memory.called);
        memory.wanted = true;
    }
    if hook.str("reinvocationPolicy") == "IfNeeded" {
        memory.called.push(id);
    }
    match result {
        Ok(_) => Ok(()),
        Err(Failure::Fatal(status) | Failure::Refused(status)) => Err(status),
        Err(Failure::Call { why, .. }) if webhook::ignores_failures(hook) => {
            tracing::warn!(webhook = name, why, "failed calling webhook, failing open");
            attributes.audit.push((format!("failed-open.{MUTATION}{round}"), name.to_owned()));
            Ok(())
        }
        Err(Failure::Call { why, .. }) => Err(Status::internal(why)),
    }
}

/// Whether the webhook changed the object.
async fn ask(
    invocation: &Invocation<'_>,
    round: &str,
    attributes: &mut Attributes,
    cluster: &Cluster,
) -> Result<bool, Failure> {
    let hook = invocation.hook;
    let mut answer = webhook::ask(invocation, attributes, cluster, true).await?;
    webhook::note(&mut answer, hook, attributes);
    if !answer.allowed {
        return Err(Failure::Refused(refusal(hook.str("name"), &answer.status)));
    }
    if answer.patch.is_empty() {
        return Ok(false);
    }
    apply(invocation, round, &answer, attributes, cluster).await
}

async fn apply(
    invocation: &Invocation<'_>,
    round: &str,
    answer: &Answer,
    attributes: &mut Attributes,
    cluster: &Cluster,
) -> Result<bool, Failure> {
    let name = go_quote(invocation.hook.str("name"));
    let failed = |why: String| Failure::Call {
        why: format!("failed calling webhook {name}: {why}"),
        code: 503,
    };
    let fatal = |why: &dyn std::fmt::Display| Failure::Fatal(Status::internal(why));
    let undecodable = |why: String| failed(format!("received undecodable patch in webhook response: {why}"));
    let patch = json::parse(&answer.patch).map_err(|why| undecodable(why.to_string()))?;
    match &patch {
        Node::Null => return Ok(false),
        Node::List(operations) if operations.is_empty() => return Ok(false),
        Node::List(operations) => {
            if let Some(odd) = operations.iter().find(|one| !matches!(one, Node::Map(_) | Node::Null)) {
                let kind = review::go_kind(odd);
                return Err(undecodable(format!("json: cannot unmarshal {kind} into Go value of type jsonpatch.Operation")));
            }
        }
        other => {
            let kind = review::go_kind(other);
            return Err(undecodable(format!("json: cannot unmarshal {kind} into Go value of type jsonpatch.Patch")));
        }
    }
    if attributes.object.is_null() {
        return Err(fatal(&format_args!(
            "admission webhook {name} attempted to modify the object, which is not supported for this operation"
        )));
    }
    if answer.patch_type != "JSONPatch" {
        let given = go_quote(&answer.patch_type);
        return Err(failed(format!("unsupported patch type {given}")));
    }
    let objects = invocation.objects(attributes, cluster).await.map_err(Failure::Fatal)?;
    let before = objects.object.into_owned();
    let mut object = before.clone();
    json_patch::apply(&mut object, &patch).map_err(|why| fatal(&why))?;
    let served = invocation.equivalent.as_ref();
    let (resource, kind) = served.map_or((&attributes.resource, &attributes.kind), |s| (&s.resource, &s.kind));
    cluster.versions.reread(&mut object, resource, kind).map_err(|why| fatal(&why))?;
    let changed = object != before;
    if changed {
        let (resource, kind) = (&attributes.resource, &attributes.kind);
        let settled = cluster.versions.settle(object, resource, kind).await;
        attributes.replace(settled.map_err(Failure::Fatal)?);
    }
    let mut note = node!({"configuration": invocation.configuration, "webhook": invocation.hook.str("name")});
    note.set("patch", patch);
    note.set("patchType", "JSONPatch");
    attributes.audit.push((format!("{PATCH}{round}"), json::to_string(&note)));
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fake, create};
    use crate::{Admission, Chain};
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use futures_util::FutureExt;

    fn hook(url: &str, more: Node) -> Node {
        let mut hook = node!({"name": url, "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]});
        hook.set_at(&["clientConfig", "url"], url);
        for (key, value) in more.as_map().into_iter().flat_map(|more| more.iter()) {
            hook.set(key, value.clone());
        }
        hook
    }

    fn patch(operations: Node) -> Node {
        let patch = BASE64_STANDARD.encode(json::to_vec(&operations));
        node!({"allowed": true, "patchType": "JSONPatch", "patch": patch})
    }

    fn configured(hooks: Vec<Node>) -> Fake {
        let mut configuration = node!({"metadata": {"name": "c"}});
        configuration.set("webhooks", hooks);
        Fake::default().with("mutatingwebhookconfigurations", configuration)
    }

    fn run(fake: &Fake) -> (Result<(), String>, Attributes) {
        let chain = Chain::of(fake.cluster(), vec![Box::new(MutatingAdmissionWebhook)]);
        let mut request = create("configmaps", node!({"kind": "ConfigMap", "metadata": {"name": "x"}}));
        let result = chain.mutate(&mut request).now_or_never().expect("nothing to wait for");
        (result.map_err(|status| status.message().to_owned()), request)
    }

    #[test]
    fn a_webhook_sees_later_changes_once_more_if_it_wants_to() {
        let hooks = vec![hook("a", node!({"reinvocationPolicy": "IfNeeded"})), hook("b", node!({}))];
        let add = node!([{"op": "add", "path": "/data", "value": {"k": "v"}}]);
        let fake = configured(hooks).answering("a", node!({"allowed": true})).answering("b", patch(add));
        let (result, request) = run(&fake);
        assert_eq!(result, Ok(()));
        assert_eq!(request.object.str_at(&["data", "k"]), "v");
        assert_eq!(fake.called(), ["a", "b", "a"]);
        let rounds: Vec<&str> = request.audit.iter().map(|(key, _)| key.rsplit('/').next().unwrap()).collect();
        assert_eq!(rounds, ["round_0_index_0", "round_0_index_1", "round_0_index_1", "round_1_index_0"]);
    }

    #[test]
    fn the_owners_before_are_kept_where_they_are_changed() {
        let breaking = patch(node!([{"op": "add", "path": "/metadata/managedFields", "value": [{"operation": "x"}]}]));
        let (_, request) = run(&configured(vec![hook("a", node!({}))]).answering("a", breaking));
        assert_eq!(request.given_owners, Some(Node::Null));
        let other = patch(node!([{"op": "add", "path": "/data", "value": {}}]));
        let (_, request) = run(&configured(vec![hook("a", node!({}))]).answering("a", other));
        assert_eq!(request.given_owners, None);
    }

    #[test]
    fn the_failure_policy_covers_calls_and_not_refusals() {
        let ignoring = || vec![hook("a", node!({"failurePolicy": "Ignore"}))];
        assert_eq!(run(&configured(ignoring())).0, Ok(()));
        let refusing = configured(ignoring()).answering("a", node!({"allowed": false, "status": {"message": "no"}}));
        assert_eq!(run(&refusing).0.unwrap_err(), "admission webhook \"a\" denied the request: no");
        let mut told = String::new();
        fairlead_telemetry::text::write(&refusing.families.gather(), &mut told);
        for line in [
            "apiserver_admission_step_admission_duration_seconds_count{operation=\"CREATE\",rejected=\"true\",type=\"admit\"} 1",
            "apiserver_admission_controller_admission_duration_seconds_count{name=\"test\",operation=\"CREATE\",\
             rejected=\"true\",type=\"admit\"} 1",
            "apiserver_admission_webhook_request_total{code=\"400\",name=\"a\",operation=\"CREATE\",rejected=\"true\",\
             type=\"admit\"} 1",
            "apiserver_admission_webhook_rejection_count{error_type=\"no_error\",name=\"a\",operation=\"CREATE\",\
             rejection_code=\"400\",type=\"admit\"} 1",
        ] {
            assert!(told.contains(line), "{line}\n{told}");
        }
        assert_eq!(
            run(&configured(vec![hook("a", node!({}))])).0.unwrap_err(),
            "Internal error occurred: failed calling webhook \"a\": failed to call webhook: connection refused"
        );
    }

    #[test]
    fn an_equivalent_version_is_converted_to_and_back() {
        let rules = node!([{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v2"], "resources": ["*"]}]);
        let mut equivalent = hook("a", node!({}));
        equivalent.set("rules", rules);
        let mut exact = equivalent.clone();
        exact.set("matchPolicy", "Exact");
        let replace = || patch(node!([{"op": "test", "path": "/apiVersion", "value": "v2"}, {"op": "add", "path": "/b", "value": 1}]));
        let fake = configured(vec![equivalent]).answering("a", replace());
        let (result, request) = run(&fake);
        assert_eq!(result, Ok(()));
        assert_eq!((request.object.str("apiVersion"), request.object.get("b")), ("v1", Some(&Node::Int(1))));
        let fake = configured(vec![exact]);
        assert_eq!(run(&fake).0, Ok(()));
        assert!(fake.called().is_empty());
    }
}
