//! MutatingAdmissionPolicy: policies whose expressions change an object on its way to the store.
//!
//! Source: kubernetes/apiserver pkg/admission/plugin/policy/mutating/dispatcher.go, generic/policy_dispatcher.go.
// PERFORMANCE: per-request path

use super::Plugin;
use crate::expressions::{Asker, Scene};
use crate::policy::matching::{self, Matched};
use crate::policy::mutating::{Change, Mutation, Mutator};
use crate::policy::set::{Plurals, Policies, Policy};
use crate::policy::{self, ignores_failures, params};
use crate::webhook::review;
use crate::webhook::select::Objects;
use crate::{Attributes, Cluster};
use fairlead_api::field::go_quote;
use fairlead_api::status::Cause;
use fairlead_api::{Node, Status, StatusResult};
use fairlead_patch::json_patch;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Instant;

pub struct MutatingAdmissionPolicy(Policies<Mutator>);

impl Default for MutatingAdmissionPolicy {
    fn default() -> MutatingAdmissionPolicy {
        let plurals = Plurals {
            policies: "mutatingadmissionpolicies",
            bindings: "mutatingadmissionpolicybindings",
        };
        MutatingAdmissionPolicy(Policies::new(plurals, Mutator::compile))
    }
}

/// A policy that is for the request, and a parameter to evaluate it with.
struct Invocation<'s> {
    policy: &'s Policy<Mutator>,
    binding: &'s Node,
    matched: Matched,
    param: Arc<Node>,
}

/// What goes wrong with a policy.
struct Failure<'s> {
    policy: &'s Node,
    binding: Option<&'s Node>,
    why: String,
    reason: &'static str,
}

impl Plugin for MutatingAdmissionPolicy {
    fn mutates(&self) -> bool {
        true
    }

    fn concerns(&self, attributes: &Attributes) -> bool {
        !policy::is_exempt(attributes)
    }

    fn mutate<'a>(&'a self, attributes: &'a mut Attributes, cluster: &'a Cluster) -> BoxFuture<'a, StatusResult<()>> {
        let Some(set) = self.0.current(&*cluster.lookup) else {
            return super::now(Ok(()));
        };
        Box::pin(async move {
            let mut failures = Vec::new();
            let mut invocations = Vec::new();
            for policy in &set.policies {
                find(policy, attributes, cluster, &mut invocations, &mut failures).await;
            }
            if !invocations.is_empty() {
                invoke(&invocations, attributes, cluster, &mut failures).await?;
            }
            failures.retain(|failure| !ignores_failures(failure.policy));
            refuse(&failures, attributes)
        })
    }
}

async fn find<'s>(
    policy: &'s Policy<Mutator>,
    attributes: &Attributes,
    cluster: &Cluster,
    invocations: &mut Vec<Invocation<'s>>,
    failures: &mut Vec<Failure<'s>>,
) {
    let object = &*policy.object;
    let misconfigured = |why: String, binding: Option<&'s Node>| Failure {
        policy: object,
        binding,
        why: format!(
            "failed to configure {}: {why}",
            if binding.is_some() { "binding" } else { "policy" }
        ),
        reason: "",
    };
    let matched = match matching::policy(object, attributes, cluster).await {
        Ok(Some(matched)) => matched,
        Ok(None) => return,
        Err(why) => return failures.push(misconfigured(why, None)),
    };
    let kind = match params::kind(object, cluster) {
        Ok(kind) => kind,
        Err(why) => return failures.push(misconfigured(why, None)),
    };
    for binding in &policy.bindings {
        match matching::binding(binding, attributes, cluster).await {
            Ok(true) => {}
            Ok(false) => continue,
            Err(why) => {
                failures.push(misconfigured(why, Some(binding)));
                continue;
            }
        }
        match params::collect(&kind, binding, &attributes.namespace, cluster).await {
            Err(why) => failures.push(misconfigured(why, Some(binding))),
            Ok(params) => invocations.extend(params.into_iter().map(|param| Invocation {
                policy,
                binding,
                matched: matched.clone(),
                param,
            })),
        }
    }
}

/// # Errors
/// What ends the request at once.
async fn invoke<'s>(
    invocations: &[Invocation<'s>],
    attributes: &mut Attributes,
    cluster: &Cluster,
    failures: &mut Vec<Failure<'s>>,
) -> StatusResult<()> {
    let rounds = &mut attributes.reinvocation;
    let left = rounds.policies.left.take();
    if rounds.second && left.is_none_or(|left| *left != attributes.object) {
        rounds.policies.again.append(&mut rounds.policies.called);
    }
    let namespace = policy::namespace(attributes, cluster).await?;
    let mut asker = None;
    let mut mutated = false;
    for invocation in invocations {
        mutated |= run(invocation, &namespace, &mut asker, attributes, cluster, failures).await?;
    }
    let rounds = &mut attributes.reinvocation;
    if mutated {
        rounds.policies.again.append(&mut rounds.policies.called);
        rounds.wanted = true;
    }
    let watched = !rounds.second;
    rounds.policies.left = watched.then(|| Box::new(attributes.object.clone()));
    Ok(())
}

/// Whether a mutation was made, even one that changed nothing.
async fn run<'s>(
    invocation: &Invocation<'s>,
    namespace: &Node,
    asker: &mut Option<Arc<Asker>>,
    attributes: &mut Attributes,
    cluster: &Cluster,
    failures: &mut Vec<Failure<'s>>,
) -> StatusResult<bool> {
    let (policy, binding) = (&*invocation.policy.object, invocation.binding);
    let mutator = &*invocation.policy.compiled;
    let failure = |why: String| Failure {
        policy,
        binding: Some(binding),
        why,
        reason: "Invalid",
    };
    let stage = Stage {
        invocation,
        namespace,
        asker: mutator.program().uses.authorizer.then(|| {
            let new = || Arc::new(Asker::new(attributes.user.clone(), cluster.permissions.clone()));
            asker.get_or_insert_with(new).clone()
        }),
    };
    let matches = stage.with(attributes, cluster, async |scene| mutator.matches(scene).await).await?;
    match matches {
        Ok(true) => {}
        Ok(false) => return Ok(false),
        Err(why) => {
            failures.push(failure(why));
            return Ok(false);
        }
    }
    let param = &invocation.param;
    let key = [policy.name(), binding.name(), param.namespace(), param.name()].join("/");
    let rounds = &attributes.reinvocation;
    if rounds.second && !rounds.policies.again.contains(&key) {
        return Ok(false);
    }
    let (mut mutated, mut changed) = (false, false);
    for mutation in &mutator.mutations {
        if attributes.object.is_null() {
            break;
        }
        let started = Instant::now();
        let result = stage.mutate(mutation, attributes, cluster).await;
        let why = match &result {
            Ok(made) => made.as_ref().err().map(String::as_str),
            Err(status) => Some(status.message()),
        };
        let of = [policy.name(), binding.name()];
        cluster.metrics.mutating_policy(of, why, started.elapsed());
        match result? {
            Ok(differs) => (mutated, changed) = (true, changed || differs),
            Err(why) => failures.push(failure(why)),
        }
    }
    let rounds = &mut attributes.reinvocation;
    if changed {
        rounds.policies.again.append(&mut rounds.policies.called);
        rounds.wanted = true;
    }
    if mutator.reinvoked {
        rounds.policies.called.push(key);
    }
    Ok(mutated)
}

/// What an invocation sees beside the object, which changes from step to step.
struct Stage<'s, 'i> {
    invocation: &'i Invocation<'s>,
    namespace: &'i Node,
    asker: Option<Arc<Asker>>,
}

impl Stage<'_, '_> {
    /// Does something with what expressions see of the request.
    async fn with<T>(
        &self,
        attributes: &Attributes,
        cluster: &Cluster,
        act: impl AsyncFnOnce(&Scene<'_>) -> T,
    ) -> StatusResult<T> {
        let matched = self.invocation.matched.as_ref();
        let objects = Objects::of(attributes, matched, cluster).await?;
        let request = match self.invocation.policy.compiled.program().uses.request {
            true => review::facts(attributes, matched),
            false => Node::Null,
        };
        let mut scene = Scene::new(&objects.object, &objects.old_object, &request)
            .with_namespace(self.namespace)
            .with_params(&self.invocation.param);
        if let Some(asker) = &self.asker {
            scene = scene.with_asker(asker, attributes);
        }
        Ok(act(&scene).await)
    }

    /// Whether the object is another one now; inside, why the mutation cannot be made.
    async fn mutate(
        &self,
        mutation: &Mutation,
        attributes: &mut Attributes,
        cluster: &Cluster,
    ) -> StatusResult<Result<bool, String>> {
        let mutator = &*self.invocation.policy.compiled;
        let change = self.with(attributes, cluster, async |scene| mutator.change(mutation, scene).await).await?;
        let change = match change {
            Ok(change) => change,
            Err(why) => return Ok(Err(why)),
        };
        let matched = self.invocation.matched.as_ref();
        let (resource, kind) = match matched {
            Some(served) => (&served.resource, &served.kind),
            None => (&attributes.resource, &attributes.kind),
        };
        let strict = matches!(change, Change::JsonPatch(_));
        let before = Objects::of(attributes, matched, cluster).await?.object.into_owned();
        let mut object = match made(&before, change, |object, config| {
            cluster.versions.configure(object, config, resource, kind)
        }) {
            Ok(object) => object,
            Err(why) => return Ok(Err(why)),
        };
        let unknown = cluster.versions.reread(&mut object, resource, kind).map_err(Status::internal)?;
        if strict && !unknown.is_empty() {
            let fields = unknown.iter().map(|path| format!("unknown field {}", go_quote(path)));
            let fields = fields.collect::<Vec<_>>().join(", ");
            return Err(Status::internal(format!("strict decoding error: {fields}")));
        }
        let changed = object != before;
        if changed {
            let settled = cluster.versions.settle(object, &attributes.resource, &attributes.kind).await;
            attributes.replace(
                settled.map_err(|status| Status::internal(format!("failed to convert object: {}", status.message())))?,
            );
        }
        Ok(Ok(changed))
    }
}

/// The object after a change.
fn made(
    before: &Node,
    change: Change,
    configure: impl FnOnce(&Node, &Node) -> Result<Node, String>,
) -> Result<Node, String> {
    match change {
        Change::JsonPatch(patch) => {
            let mut object = before.clone();
            match json_patch::apply(&mut object, &patch) {
                Ok(()) => Ok(object),
                Err(error) if error.is_failed_test() => Ok(before.clone()),
                Err(error) => Err(format!("JSON Patch: {error}")),
            }
        }
        Change::Apply(mut config) => {
            config.set("apiVersion", before.str("apiVersion"));
            config.set("kind", before.str("kind"));
            configure(before, &config).map_err(|why| format!("error applying patch: {why}"))
        }
    }
}

/// # Errors
/// All that went wrong; what went wrong first gives it message and reason.
fn refuse(failures: &[Failure], attributes: &Attributes) -> StatusResult<()> {
    let Some(first) = failures.first() else { return Ok(()) };
    let mut status = attributes.forbidden("");
    let content = status.content_mut();
    content.message = first.text();
    if !first.reason.is_empty() {
        content.reason = first.reason.into();
    }
    let causes = failures.iter().map(|failure| Cause {
        message: failure.text(),
        ..Cause::default()
    });
    content.details.get_or_insert_default().causes.extend(causes);
    Err(status)
}

impl Failure<'_> {
    fn text(&self) -> String {
        let (policy, why) = (self.policy.name(), &self.why);
        match self.binding {
            Some(binding) => format!("policy '{policy}' with binding '{}' denied request: {why}", binding.name()),
            None => format!("policy {} denied request: {why}", go_quote(policy)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fake, create};
    use crate::{Admission, Chain};
    use fairlead_api::node;
    use futures_util::FutureExt;

    /// A policy with one mutation.
    fn policy(name: &str, expression: &str, more: Node) -> Node {
        let mut policy = node!({"spec": {"matchConstraints": {"resourceRules": [
            {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]}}});
        policy.set_at(&["metadata", "name"], name);
        let (kind, field) = match expression.starts_with('[') {
            true => ("JSONPatch", "jsonPatch"),
            false => ("ApplyConfiguration", "applyConfiguration"),
        };
        let mut mutation = node!({});
        mutation.set("patchType", kind);
        mutation.set_at(&[field, "expression"], expression);
        policy.set_at(&["spec", "mutations"], vec![mutation]);
        for (key, value) in more.as_map().into_iter().flat_map(|more| more.iter()) {
            policy.set_at(&["spec", key], value.clone());
        }
        policy
    }

    fn run(policies: Vec<Node>) -> (StatusResult<()>, Node) {
        let fake = Fake::default().with("namespaces", node!({"metadata": {"name": "ns"}}));
        let fake = policies.into_iter().fold(fake, |fake, policy| {
            let mut binding = node!({});
            binding.set_at(&["metadata", "name"], format!("{}-binding", policy.name()));
            binding.set_at(&["spec", "policyName"], policy.name());
            fake.with("mutatingadmissionpolicies", policy)
                .with("mutatingadmissionpolicybindings", binding)
        });
        let chain = Chain::of(fake.cluster(), vec![Box::<MutatingAdmissionPolicy>::default()]);
        let mut request = create("configmaps", node!({"kind": "ConfigMap", "metadata": {"name": "x"}, "n": 1}));
        let result = chain.mutate(&mut request).now_or_never().expect("nothing to wait for");
        (result, request.object)
    }

    #[test]
    fn policies_change_the_object_one_after_the_other() {
        let first = policy("a", "Object{n: object.n + 1}", node!({}));
        let second = policy("b", "[JSONPatch{op: 'add', path: '/m', value: object.n * 10}]", node!({}));
        let (result, object) = run(vec![first, second]);
        assert!(result.is_ok());
        assert_eq!((object.get("n"), object.get("m")), (Some(&Node::Int(2)), Some(&Node::Int(20))));
    }

    #[test]
    fn who_wants_to_sees_later_changes_once_more() {
        let again = node!({"reinvocationPolicy": "IfNeeded"});
        let first = policy("a", "Object{seen: has(object.m)}", again);
        let second = policy("b", "Object{m: object.n + 1, n: object.n + 1}", node!({}));
        let object = run(vec![first, second]).1;
        assert_eq!(object.get("seen"), Some(&Node::Bool(true)));
        assert_eq!(object.get("n"), Some(&Node::Int(2)), "who does not want to is called once");
    }

    #[test]
    fn failures_are_told_together_unless_they_are_ignored() {
        let bad = "[JSONPatch{op: 'remove', path: '/nosuch'}]";
        let ignored = policy("a", bad, node!({"failurePolicy": "Ignore"}));
        let (result, object) = run(vec![ignored, policy("b", "Object{m: 1}", node!({}))]);
        assert!(result.is_ok() && object.get("m").is_some());
        let failing = policy("c", bad, node!({}));
        let unknown = policy("d", "Object{}", node!({"paramKind": {"apiVersion": "v1", "kind": "Unknown"}}));
        let status = run(vec![failing, unknown]).0.unwrap_err();
        assert_eq!((status.code(), status.reason()), (403, "Forbidden"));
        let messages = status.details().unwrap().causes.iter().map(|cause| cause.message.as_str());
        assert_eq!(
            messages.collect::<Vec<&str>>(),
            [
                "policy \"d\" denied request: failed to configure policy: failed to find resource referenced by paramKind: '/v1, Kind=Unknown'",
                "policy 'c' with binding 'c-binding' denied request: JSON Patch: error in remove for path: '/nosuch': Unable to remove nonexistent key: nosuch: missing value",
            ]
        );
    }

    #[test]
    fn a_json_patch_may_add_only_what_is_known() {
        let patched = policy("a", "[JSONPatch{op: 'add', path: '/unknown', value: 1}]", node!({"failurePolicy": "Ignore"}));
        let status = run(vec![patched]).0.unwrap_err();
        assert_eq!(status.code(), 500);
        assert_eq!(
            status.message(),
            "Internal error occurred: strict decoding error: unknown field \"unknown\""
        );
    }

    #[test]
    fn a_failed_test_leaves_the_object() {
        let tested = policy("a", "[JSONPatch{op: 'test', path: '/n', value: 2}, JSONPatch{op: 'remove', path: '/n'}]", node!({}));
        let (result, object) = run(vec![tested]);
        assert!(result.is_ok());
        assert_eq!(object.get("n"), Some(&Node::Int(1)));
    }
}
