//! Admission webhooks: which are asked ([`select`]), what they are asked and answer ([`review`]), what becomes of it.
//!
//! Source of the rules and texts: kubernetes/apiserver pkg/admission/plugin/webhook.
// PERFORMANCE: per-request path

pub mod conditions;
pub mod review;
pub mod select;

use crate::metrics::Asked;
use crate::{Attributes, Cluster};
use fairlead_api::field::go_quote;
use fairlead_api::{Node, Status, StatusResult};
use review::{Answer, Version};
use select::Invocation;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The configurations of webhooks are kept in this group.
pub const GROUP: &str = "admissionregistration.k8s.io";

/// What went wrong with a webhook.
pub enum Failure {
    /// It could not be asked, or its answer made no sense: the failure policy decides.
    Call { why: String, code: u16 },
    /// It refuses the write.
    Refused(Status),
    /// The request fails whatever the policy.
    Fatal(Status),
}

impl Failure {
    /// As metrics tell it.
    pub fn asked(&self, hook: &Node) -> Asked {
        match self {
            Failure::Call { code, .. } => Asked::Failed {
                code: *code,
                ignored: ignores_failures(hook),
            },
            Failure::Refused(status) => Asked::Refused(status.code()),
            Failure::Fatal(_) => Asked::Internal,
        }
    }
}

/// Asks one webhook. Its warnings and annotations are in the answer, which may be a refusal.
pub async fn ask(
    invocation: &Invocation<'_>,
    attributes: &Attributes,
    cluster: &Cluster,
    mutating: bool,
) -> Result<Answer, Failure> {
    let hook = invocation.hook;
    let name = hook.str("name");
    if attributes.dry_run && !matches!(hook.str("sideEffects"), "None" | "NoneOnDryRun") {
        let why = format!("admission webhook {} does not support dry run", go_quote(name));
        return Err(Failure::Fatal(Status::bad_request(why)));
    }
    let failed = |code, why: String| Failure::Call {
        why: format!("failed calling webhook {}: {why}", go_quote(name)),
        code,
    };
    let versions = hook.list("admissionReviewVersions").iter().filter_map(Node::as_str);
    let version = versions.into_iter().find_map(Version::parse).ok_or_else(|| {
        failed(
            400,
            "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)"
                .into(),
        )
    })?;
    let objects = invocation.objects(attributes, cluster).await.map_err(Failure::Fatal)?;
    let uid = cluster.generate_uid();
    let body = review::request(version, &uid, attributes, invocation, objects);
    let seconds = hook
        .get("timeoutSeconds")
        .and_then(Node::as_i64)
        .unwrap_or(10)
        .clamp(1, 30);
    let config = hook.get("clientConfig").unwrap_or(&Node::Null);
    let timeout = within(Duration::from_secs(seconds.unsigned_abs()), attributes.deadline);
    let bytes = cluster.webhooks.call(config, body, timeout).await;
    if bytes.is_err() && attributes.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
        // The time of the whole request is over: whoever watches that tells the client so, and ends this.
        std::future::pending::<()>().await;
    }
    let bytes = bytes.map_err(|why| failed(why.code, format!("failed to call webhook: {}", why.text)))?;
    let response =
        review::decode(version, &bytes).map_err(|why| failed(503, format!("failed to call webhook: {why}")))?;
    review::verify(version, &uid, response, mutating)
        .map_err(|why| failed(503, format!("received invalid webhook response: {why}")))
}

/// No longer than the request has left, in whole seconds: webhooks are told how long they may take.
fn within(timeout: Duration, deadline: Option<Instant>) -> Duration {
    let Some(deadline) = deadline else { return timeout };
    let left = deadline.saturating_duration_since(Instant::now());
    let begun = u64::from(left.subsec_nanos() > 0);
    timeout.min(Duration::from_secs((left.as_secs() + begun).max(1)))
}

/// Whether a webhook that cannot be asked is passed over.
pub fn ignores_failures(hook: &Node) -> bool {
    hook.str("failurePolicy") == "Ignore"
}

/// What a webhook answered beside its verdict, for client and audit.
pub fn note(answer: &mut Answer, hook: &Node, attributes: &mut Attributes) {
    let name = hook.str("name");
    let annotations = std::mem::take(&mut answer.audit);
    attributes.audit.extend(
        annotations
            .into_iter()
            .map(|(key, value)| (format!("{name}/{key}"), value)),
    );
    attributes.warnings.append(&mut answer.warnings);
}

/// All webhooks of a kind of configuration that such a request goes to, in order, with their place among all.
///
/// # Errors
/// A namespace that cannot be found, a selector that cannot be read, what match conditions cannot be decided on.
pub async fn selected<'a>(
    configurations: &'a [Arc<Node>],
    attributes: &Attributes,
    cluster: &Cluster,
) -> StatusResult<Vec<Invocation<'a>>> {
    let mut invocations = Vec::new();
    for (place, (configuration, _, hook)) in all(configurations).enumerate() {
        if let Some(mut invocation) = select::select(hook, attributes, cluster).await? {
            invocation.place = place;
            invocation.configuration = configuration.name();
            invocations.push(invocation);
        }
    }
    Ok(invocations)
}

/// The webhooks of all configurations, with their place in their own.
pub fn all(configurations: &[Arc<Node>]) -> impl Iterator<Item = (&Node, usize, &Node)> {
    configurations.iter().flat_map(|configuration| {
        let hooks = configuration.list("webhooks").iter().enumerate();
        hooks.map(|(index, hook)| (&**configuration, index, hook))
    })
}

/// Whether a request is about what decides about requests; webhooks and policies must not lock themselves in.
pub fn is_exempt(attributes: &Attributes) -> bool {
    attributes.kind.group == GROUP
        && matches!(
            attributes.kind.kind.as_str(),
            "ValidatingWebhookConfiguration"
                | "MutatingWebhookConfiguration"
                | "ValidatingAdmissionPolicy"
                | "ValidatingAdmissionPolicyBinding"
                | "MutatingAdmissionPolicy"
                | "MutatingAdmissionPolicyBinding"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_has_no_more_time_than_the_request() {
        let (ten, now) = (Duration::from_secs(10), Instant::now());
        assert_eq!(within(ten, None), ten);
        assert_eq!(within(ten, Some(now + Duration::from_secs(60))), ten);
        assert_eq!(within(ten, Some(now + Duration::from_secs(5))), Duration::from_secs(5));
        assert_eq!(within(ten, Some(now)), Duration::from_secs(1));
    }
}
