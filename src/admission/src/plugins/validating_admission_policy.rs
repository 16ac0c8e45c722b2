//! ValidatingAdmissionPolicy: policies whose expressions may refuse a write.
//!
//! Source: kubernetes/apiserver pkg/admission/plugin/policy/validating/dispatcher.go.
// PERFORMANCE: per-request path

use super::Plugin;
use crate::expressions::{Asker, Scene};
use crate::policy::set::{Plurals, Policies, Policy};
use crate::policy::validating::{Annotation, Refusal, Validator};
use crate::policy::{self, ignores_failures, matching, params};
use crate::webhook::review;
use crate::webhook::select::Objects;
use crate::{Attributes, Cluster};
use fairlead_api::status::Cause;
use fairlead_api::{Node, Status, StatusResult, json, node};
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

pub struct ValidatingAdmissionPolicy(Policies<Validator>);

/// Longer values of audit annotations are cut off, in bytes.
const MAX_ANNOTATION: usize = 10 * 1024;
const FAILURE: &str = "validation.policy.admission.k8s.io/validation_failure";

impl Default for ValidatingAdmissionPolicy {
    fn default() -> ValidatingAdmissionPolicy {
        let plurals = Plurals {
            policies: "validatingadmissionpolicies",
            bindings: "validatingadmissionpolicybindings",
        };
        ValidatingAdmissionPolicy(Policies::new(plurals, Validator::compile))
    }
}

impl Plugin for ValidatingAdmissionPolicy {
    fn validates(&self) -> bool {
        true
    }

    fn concerns(&self, attributes: &Attributes) -> bool {
        !policy::is_exempt(attributes)
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes, cluster: &'a Cluster) -> BoxFuture<'a, StatusResult<()>> {
        let Some(set) = self.0.current(&*cluster.lookup) else {
            return super::now(Ok(()));
        };
        Box::pin(async move {
            let mut findings = Findings::default();
            for policy in &set.policies {
                judge(policy, attributes, cluster, &mut findings).await?;
            }
            let Findings {
                denied,
                mut warnings,
                audit,
                ..
            } = findings;
            attributes.warnings.append(&mut warnings);
            for (key, value) in audit {
                // The first one to say something has said it.
                if !attributes.audit.iter().any(|(known, _)| *known == key) {
                    attributes.audit.push((key, value));
                }
            }
            match denied.into_iter().next() {
                None => Ok(()),
                Some(denied) => Err(denied.status(attributes)),
            }
        })
    }
}

/// What all policies say together.
#[derive(Default)]
struct Findings {
    denied: Vec<Denied>,
    warnings: Vec<String>,
    audit: Vec<(String, String)>,
    /// Asked by all policies.
    asker: Option<Arc<Asker>>,
}

struct Denied {
    policy: String,
    binding: Option<String>,
    message: String,
    reason: String,
}

impl Denied {
    fn status(self, attributes: &Attributes) -> Status {
        let policy = self.policy;
        let with = self.binding.map(|binding| format!(" with binding '{binding}'")).unwrap_or_default();
        let message = format!("ValidatingAdmissionPolicy '{policy}'{with} denied request: {}", self.message);
        let mut status = attributes.forbidden(&message);
        let content = status.content_mut();
        (content.code, content.reason) = match self.reason.as_str() {
            "Forbidden" => (403, "Forbidden".into()),
            "Unauthorized" => (401, "Unauthorized".into()),
            "RequestEntityTooLarge" => (413, "RequestEntityTooLarge".into()),
            _ => (422, "Invalid".into()),
        };
        content.details.get_or_insert_default().causes.push(Cause {
            message,
            ..Cause::default()
        });
        status
    }
}

/// # Errors
/// What ends the request at once.
async fn judge(
    policy: &Policy<Validator>,
    attributes: &Attributes,
    cluster: &Cluster,
    findings: &mut Findings,
) -> StatusResult<()> {
    let object = &*policy.object;
    let misconfigured = |why: String, binding: Option<&Node>, findings: &mut Findings| {
        if !ignores_failures(object) {
            let what = if binding.is_some() { "binding" } else { "policy" };
            findings.denied.push(Denied {
                policy: object.name().to_owned(),
                binding: binding.map(|binding| binding.name().to_owned()),
                message: format!("failed to configure {what}: {why}"),
                reason: String::new(),
            });
        }
    };
    let matched = match matching::policy(object, attributes, cluster).await {
        Ok(Some(matched)) => matched,
        Ok(None) => return Ok(()),
        Err(why) => {
            misconfigured(why, None, findings);
            return Ok(());
        }
    };
    let kind = match params::kind(object, cluster) {
        Ok(kind) => kind,
        Err(why) => {
            misconfigured(why, None, findings);
            return Ok(());
        }
    };
    let uses = policy.compiled.program().uses;
    let mut objects: Option<Objects> = None;
    let mut annotations: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for binding in &policy.bindings {
        match matching::binding(binding, attributes, cluster).await {
            Ok(true) => {}
            Ok(false) => continue,
            Err(why) => {
                misconfigured(why, Some(binding), findings);
                continue;
            }
        }
        let params = match params::collect(&kind, binding, &attributes.namespace, cluster).await {
            Ok(params) => params,
            Err(why) => {
                misconfigured(why, Some(binding), findings);
                continue;
            }
        };
        if objects.is_none() && !params.is_empty() {
            match Objects::of(attributes, matched.as_ref(), cluster).await {
                Ok(versioned) => objects = Some(versioned),
                Err(status) => {
                    let why = format!("failed to convert object version: {}", status.message());
                    misconfigured(why, Some(binding), findings);
                    continue;
                }
            }
        }
        let namespace = policy::namespace(attributes, cluster).await?;
        let Some(objects) = &objects else { continue };
        let request = match uses.request {
            true => review::facts(attributes, matched.as_ref()),
            false => Node::Null,
        };
        let mut scene = Scene::new(&objects.object, &objects.old_object, &request).with_namespace(&namespace);
        if uses.authorizer {
            let new = || Arc::new(Asker::new(attributes.user.clone(), cluster.permissions.clone()));
            scene = scene.with_asker(findings.asker.get_or_insert_with(new), attributes);
        }
        for param in &params {
            let started = Instant::now();
            let verdict = policy.compiled.validate(&scene.clone().with_params(param)).await;
            let took = started.elapsed();
            let found = |why: &str, action: &str| {
                let metrics = &cluster.metrics;
                metrics.validating_policy([object.name(), binding.name()], why, action, took);
            };
            for why in verdict.ignored {
                found(&why, "allow");
            }
            for refusal in verdict.refusals {
                for action in actions(binding) {
                    found(&refusal.message, &action.to_ascii_lowercase());
                }
                refuse(object, binding, refusal, findings);
            }
            for annotation in verdict.annotations {
                match annotation {
                    Annotation::Value { key, mut value } => {
                        value.truncate(value.floor_char_boundary(MAX_ANNOTATION));
                        let values = annotations.entry(key).or_default();
                        if !values.contains(&value) {
                            values.push(value);
                        }
                    }
                    Annotation::Failed(message) => {
                        found(&message, "deny");
                        findings.denied.push(Denied {
                            policy: object.name().to_owned(),
                            binding: Some(binding.name().to_owned()),
                            message,
                            reason: String::new(),
                        });
                    }
                }
            }
        }
    }
    let named = |(key, values): (String, Vec<String>)| (format!("{}/{key}", object.name()), values.join(", "));
    findings.audit.extend(annotations.into_iter().map(named));
    Ok(())
}

/// What a binding does with refusals: `Deny`, `Warn`, `Audit`.
fn actions(binding: &Node) -> impl Iterator<Item = &str> {
    let actions = binding.get("spec").map_or(&[][..], |spec| spec.list("validationActions"));
    actions.iter().filter_map(Node::as_str)
}

/// Does with a refusal what the binding says.
fn refuse(policy: &Node, binding: &Node, refusal: Refusal, findings: &mut Findings) {
    let (name, bound) = (policy.name(), binding.name());
    for action in actions(binding) {
        match action {
            "Deny" => findings.denied.push(Denied {
                policy: name.to_owned(),
                binding: Some(bound.to_owned()),
                message: refusal.message.clone(),
                reason: refusal.reason.clone(),
            }),
            "Warn" => findings.warnings.push(format!(
                "Validation failed for ValidatingAdmissionPolicy '{name}' with binding '{bound}': {}",
                refusal.message
            )),
            "Audit" => {
                let mut failure = node!({"policy": name, "binding": bound});
                failure.set("message", refusal.message.as_str());
                failure.set("expressionIndex", refusal.index as i64);
                failure.set("validationActions", actions(binding).map(Node::from).collect::<Vec<_>>());
                findings.audit.push((FAILURE.to_owned(), json::to_string(&Node::List(vec![failure]))));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fake, create};
    use futures_util::FutureExt;

    fn policy(spec: Node) -> Node {
        let rules = node!({"resourceRules": [
            {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]});
        let mut policy = node!({"metadata": {"name": "p"}});
        policy.set("spec", spec);
        policy.set_at(&["spec", "matchConstraints"], rules);
        policy
    }

    fn binding(name: &str, actions: Node, more: Node) -> Node {
        let mut binding = node!({"metadata": {"name": name}, "spec": {"policyName": "p"}});
        binding.set_at(&["spec", "validationActions"], actions);
        for (key, value) in more.as_map().into_iter().flat_map(|more| more.iter()) {
            binding.set_at(&["spec", key], value.clone());
        }
        binding
    }

    fn with(policy: Node, bindings: Vec<Node>) -> Fake {
        let fake = Fake::default()
            .with("namespaces", node!({"metadata": {"name": "ns", "labels": {"env": "prod"}}}))
            .with("validatingadmissionpolicies", policy);
        bindings
            .into_iter()
            .fold(fake, |fake, binding| fake.with("validatingadmissionpolicybindings", binding))
    }

    fn run(fake: &Fake) -> (StatusResult<()>, Attributes) {
        let plugin = ValidatingAdmissionPolicy::default();
        let mut request = create("configmaps", node!({"kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"a": "1"}}));
        assert!(plugin.concerns(&request));
        let cluster = fake.cluster();
        let mut validating = plugin.validate(&mut request, &cluster);
        let result = (0..20).find_map(|_| (&mut validating).now_or_never()).expect("soon");
        drop(validating);
        (result, request)
    }

    #[test]
    fn the_binding_says_what_becomes_of_a_refusal() {
        let refusing = || policy(node!({"validations": [{"expression": "object.data['a'] == '2'", "message": "no", "reason": "Forbidden"}]}));
        let denying = binding("b", node!(["Deny"]), node!({}));
        let status = run(&with(refusing(), vec![denying])).0.unwrap_err();
        assert_eq!((status.code(), status.reason()), (403, "Forbidden"));
        let message = "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no";
        assert_eq!(status.message(), format!("configmaps \"x\" is forbidden: {message}"));
        assert_eq!(status.details().unwrap().causes[0].message, message);
        let telling = binding("b", node!(["Warn", "Audit"]), node!({}));
        let (result, request) = run(&with(refusing(), vec![telling]));
        assert!(result.is_ok());
        let both = with(refusing(), vec![binding("b", node!(["Warn", "Audit"]), node!({}))]);
        assert!(run(&both).0.is_ok());
        let mut told = String::new();
        fairlead_telemetry::text::write(&both.families.gather(), &mut told);
        for action in ["warn", "audit"] {
            let line = format!(
                "apiserver_validating_admission_policy_check_total{{enforcement_action=\"{action}\",\
                 error_type=\"invalid_error\",policy=\"p\",policy_binding=\"b\"}} 1"
            );
            assert!(told.contains(&line), "{told}");
        }
        assert_eq!(request.warnings, ["Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': no"]);
        assert_eq!(request.audit[0].0, FAILURE);
        assert!(request.audit[0].1.contains(r#""expressionIndex":0"#), "{}", request.audit[0].1);
    }

    #[test]
    fn bindings_choose_requests_and_parameters() {
        let policy = || {
            policy(node!({"paramKind": {"apiVersion": "v1", "kind": "Limit"}, "validations": [
                {"expression": "params == null || size(object.data) < params.max", "messageExpression": "'max ' + string(params.max)"}],
                "auditAnnotations": [{"key": "max", "valueExpression": "string(params.max)"}]}))
        };
        let limit = |name: &str, max: i64| {
            let mut limit = node!({"metadata": {"namespace": "ns", "labels": {"l": "1"}}});
            limit.set_at(&["metadata", "name"], name);
            limit.set("max", max);
            limit
        };
        let outcome = |more: Node| {
            let fake = with(policy(), vec![binding("b", node!(["Deny"]), more)]);
            let (result, request) = run(&fake.with("limits", limit("one", 1)).with("limits", limit("two", 2)));
            (result.map_err(|status| status.message().rsplit(": ").next().unwrap_or("").to_owned()), request.audit)
        };
        let refer = |reference: Node| {
            let mut spec = node!({});
            spec.set("paramRef", reference);
            spec
        };
        assert_eq!(outcome(refer(node!({"name": "one"}))).0, Err("max 1".into()));
        let (result, audit) = outcome(refer(node!({"selector": {"matchLabels": {"l": "1"}}})));
        assert_eq!(result, Err("max 1".into()));
        assert_eq!(audit, [("p/max".to_owned(), "1, 2".to_owned())]);
        assert_eq!(outcome(refer(node!({"name": "no", "parameterNotFoundAction": "Allow"}))).0, Ok(()));
        assert_eq!(
            outcome(refer(node!({"name": "no", "parameterNotFoundAction": "Deny"}))).0,
            Err("no params found for policy binding with `Deny` parameterNotFoundAction".into())
        );
        let elsewhere = node!({"matchResources": {"namespaceSelector": {"matchLabels": {"env": "dev"}}}});
        assert_eq!(outcome(elsewhere).0, Ok(()));
    }

    #[test]
    fn the_authorizer_and_the_namespace_can_be_asked() {
        let validation = "authorizer.requestResource.check('deny').allowed() && namespaceObject.metadata.labels['env'] == 'prod' \
                          && request.name == 'x' && request.operation == 'CREATE'";
        let policy = || {
            let mut spec = node!({"validations": [{}]});
            let mut validations = node!([{}]);
            if let Node::List(validations) = &mut validations {
                validations[0].set("expression", validation);
            }
            spec.set("validations", validations);
            policy(spec)
        };
        let denying = || binding("b", node!(["Deny"]), node!({}));
        assert!(run(&with(policy(), vec![denying()])).0.is_err());
        assert!(run(&with(policy(), vec![denying()]).allowing("deny")).0.is_ok());
    }

    #[test]
    fn what_cannot_be_configured_is_a_failure() {
        let unknown = |policy_more: &str| {
            let mut spec = node!({"paramKind": {"apiVersion": "g/v1", "kind": "Unknown"}, "validations": [{"expression": "true"}]});
            spec.set("failurePolicy", policy_more);
            run(&with(policy(spec), vec![binding("b", node!(["Deny"]), node!({}))])).0
        };
        assert_eq!(
            unknown("Fail").unwrap_err().message(),
            "configmaps \"x\" is forbidden: ValidatingAdmissionPolicy 'p' denied request: failed to configure policy: \
             failed to find resource referenced by paramKind: 'g/v1, Kind=Unknown'"
        );
        assert!(unknown("Ignore").is_ok());
    }
}
