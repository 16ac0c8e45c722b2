//! ValidatingAdmissionWebhook: webhooks that may refuse a write, all at once.
// PERFORMANCE: per-request path

use super::Plugin;
use crate::metrics::{Asked, Step};
use crate::webhook::review::{Answer, refusal};
use crate::webhook::select::Invocation;
use crate::webhook::{self, Failure};
use crate::{Attributes, Cluster};
use fairlead_api::{Status, StatusResult};
use futures_util::future::{BoxFuture, join_all};
use std::time::Instant;

#[derive(Default)]
pub struct ValidatingAdmissionWebhook;

const FAILED_OPEN: &str = "failed-open.validating.webhook.admission.k8s.io/";

impl Plugin for ValidatingAdmissionWebhook {
    fn validates(&self) -> bool {
        true
    }

    fn concerns(&self, attributes: &Attributes) -> bool {
        !webhook::is_exempt(attributes)
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes, cluster: &'a Cluster) -> BoxFuture<'a, StatusResult<()>> {
        let configurations = cluster.lookup.list(webhook::GROUP, "validatingwebhookconfigurations", "");
        if configurations.is_empty() {
            return super::now(Ok(()));
        }
        Box::pin(async move {
            let invocations = webhook::selected(&configurations, attributes, cluster).await?;
            let asked: &Attributes = attributes;
            let answers = join_all(invocations.iter().map(|one| ask(one, asked, cluster))).await;
            let mut verdict = Ok(());
            for (index, (invocation, answer)) in invocations.iter().zip(answers).enumerate() {
                let hook = invocation.hook;
                let name = hook.str("name");
                let refused = match answer {
                    Ok(mut answer) => {
                        webhook::note(&mut answer, hook, attributes);
                        if answer.allowed { Ok(()) } else { Err(refusal(name, &answer.status)) }
                    }
                    Err(Failure::Fatal(status) | Failure::Refused(status)) => Err(status),
                    Err(Failure::Call { why, .. }) if webhook::ignores_failures(hook) => {
                        tracing::warn!(webhook = name, why, "failed calling webhook, failing open");
                        attributes.audit.push((format!("{FAILED_OPEN}round_0_index_{index}"), name.to_owned()));
                        Ok(())
                    }
                    Err(Failure::Call { why, .. }) => Err(Status::internal(why)),
                };
                verdict = verdict.and(refused);
            }
            verdict
        })
    }
}

/// Asks one webhook, and counts what becomes of it.
async fn ask(invocation: &Invocation<'_>, attributes: &Attributes, cluster: &Cluster) -> Result<Answer, Failure> {
    let started = Instant::now();
    let result = webhook::ask(invocation, attributes, cluster, false).await;
    let (hook, name) = (invocation.hook, invocation.hook.str("name"));
    let asked = match &result {
        Ok(answer) if answer.allowed => Asked::Allowed,
        Ok(answer) => Asked::Refused(refusal(name, &answer.status).code()),
        Err(failure) => failure.asked(hook),
    };
    cluster
        .metrics
        .webhook(name, Step::Validate, attributes.operation, asked, started.elapsed());
    result
}
