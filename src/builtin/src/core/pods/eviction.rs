//! `pods/eviction`: a delete that minds the disruption budgets of a pod.

use super::binding::set_condition;
use crate::peers::Peers;
use crate::value::{int, list};
use fairlead_api::selector::LabelSelector;
use fairlead_api::status::Cause;
use fairlead_api::{FieldError, FieldPath, GroupKind, GroupResource, Node, Status, StatusResult, node};
use fairlead_resource::hooks::{Answered, AnswersCreate, HookContext};
use fairlead_resource::{Client, Engine, Request};
use futures_util::future::BoxFuture;

/// How many evictions a budget's status may hold unconfirmed.
const MAX_DISRUPTED: usize = 2000;

pub struct Eviction {
    pub peers: Peers,
}

impl AnswersCreate for Eviction {
    fn check<'a>(
        &'a self,
        eviction: &'a mut Node,
        request: &'a Request,
        _: &'a HookContext<'a>,
    ) -> BoxFuture<'a, StatusResult<()>> {
        Box::pin(async move {
            if eviction.name() != request.name {
                return Err(Status::bad_request(
                    "name in URL does not match name in Eviction object",
                ));
            }
            const UNSAFE: &str = "ignoreStoreReadErrorWithClusterBreakingPotential";
            if eviction.at(&["deleteOptions", UNSAFE]).and_then(Node::as_bool) == Some(true) {
                let path = FieldPath::new("deleteOptions").child(UNSAFE);
                let why = "can not be set for pod eviction, try after removing the option";
                let kind = GroupKind::new("policy", "Eviction");
                return Err(Status::invalid(
                    &kind,
                    &request.name,
                    &vec![FieldError::invalid(&path, true, why)],
                ));
            }
            Ok(())
        })
    }

    fn answer<'a>(
        &'a self,
        eviction: Node,
        request: &'a Request,
        engine: &'a Engine,
        context: &'a HookContext<'a>,
    ) -> BoxFuture<'a, StatusResult<Answered>> {
        Box::pin(async move {
            let client = Client::new(engine.clone(), "eviction");
            let pods = &request.definition;
            let mut options = eviction
                .get("deleteOptions")
                .filter(|o| o.as_map().is_some())
                .cloned()
                .unwrap_or(Node::map());
            let dry_run = context.dry_run || !list(&options, &["dryRun"]).is_empty();
            let pod = client.get(pods, context.namespace, &request.name).await?;
            let unbudgeted = matches!(pod.str_at(&["status", "phase"]), "Succeeded" | "Failed" | "Pending")
                || pod.deletion_timestamp().is_some();
            let mut pinned =
                unbudgeted && pod.str_at(&["status", "phase"]) == "Pending" && pod.deletion_timestamp().is_none();
            if !unbudgeted {
                let budgets = self.peers.get("policy", "poddisruptionbudgets")?;
                let all = client.list(&budgets, context.namespace).await?;
                let matching: Vec<&Node> = all.iter().filter(|budget| selects(budget, &pod)).collect();
                if matching.len() > 1 {
                    let message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
                    return Err(Status::new(500, "", message));
                }
                if let Some(budget) = matching.first() {
                    pinned = !is_ready(&pod) && may_evict_unready(budget);
                    if !pinned {
                        let now = context.clock.now().rfc3339();
                        let name = request.name.as_str();
                        let change = |budget: &mut Node| spend(budget, name, &now);
                        engine
                            .modify(&budgets, context.namespace, budget.name(), dry_run, &change)
                            .await?;
                    }
                }
            }
            let pinned = pinned.then(|| pod.resource_version().to_owned());
            if !dry_run {
                let written = mark(engine, request, &options, pinned.as_deref(), context).await?;
                let wanted = options.at(&["preconditions", "resourceVersion"]).is_some();
                if wanted || pinned.is_some() {
                    options.set_at(&["preconditions", "resourceVersion"], written.resource_version());
                }
                client.delete(pods, context.namespace, &request.name, &options).await?;
            }
            Ok(answered(
                node!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
            ))
        })
    }
}

fn answered(object: Node) -> Answered {
    Answered {
        object,
        warnings: Vec::new(),
        audit: Vec::new(),
    }
}

fn selects(budget: &Node, pod: &Node) -> bool {
    let selector = budget.at(&["spec", "selector"]).unwrap_or(&Node::Null);
    LabelSelector::from_node(selector).is_ok_and(|selector| selector.matches(pod.labels()))
}

fn is_ready(pod: &Node) -> bool {
    list(pod, &["status", "conditions"])
        .iter()
        .any(|c| c.str("type") == "Ready" && c.str("status") == "True")
}

/// Pods that are not ready count for nothing, so they go where the others suffice, or where the budget says so.
fn may_evict_unready(budget: &Node) -> bool {
    let (healthy, desired) = (
        int(budget, &["status", "currentHealthy"]),
        int(budget, &["status", "desiredHealthy"]),
    );
    budget.str_at(&["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow" || (healthy >= desired && desired > 0)
}

/// Takes one disruption from a budget and notes the pod.
fn spend(budget: &mut Node, pod: &str, now: &str) -> StatusResult<()> {
    const ALLOWED: &[&str] = &["status", "disruptionsAllowed"];
    let name = budget.name().to_owned();
    let resource = GroupResource::new("policy", "poddisruptionbudget");
    if int(budget, &["status", "observedGeneration"]) < budget.generation() {
        return Err(too_many(
            10,
            format!("The disruption budget {name} is still being processed by the server."),
        ));
    }
    let allowed = int(budget, ALLOWED);
    if allowed < 0 {
        return Err(Status::forbidden(
            &resource,
            &name,
            "pdb disruptions allowed is negative",
        ));
    }
    let disrupted = budget
        .at(&["status", "disruptedPods"])
        .and_then(Node::as_map)
        .map_or(0, fairlead_api::Map::len);
    if disrupted > MAX_DISRUPTED {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(Status::forbidden(&resource, &name, why));
    }
    if allowed == 0 {
        return Err(too_many(0, refusal(budget, &name)));
    }
    budget.set_at(ALLOWED, allowed - 1);
    budget.set_at(&["status", "disruptedPods", pod], now);
    if allowed == 1 {
        forbid_more(budget, now);
    }
    Ok(())
}

/// Says in the budget's condition that nothing is left.
fn forbid_more(budget: &mut Node, now: &str) {
    let generation = int(budget, &["status", "observedGeneration"]);
    let mut conditions = list(budget, &["status", "conditions"]).to_vec();
    let mut condition =
        node!({"type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods", "message": ""});
    condition.set("lastTransitionTime", now);
    if generation != 0 {
        condition.set("observedGeneration", generation);
    }
    match conditions.iter_mut().find(|c| c.str("type") == "DisruptionAllowed") {
        Some(old) => *old = condition,
        None => conditions.push(condition),
    }
    budget.set_at(&["status", "conditions"], conditions);
}

fn refusal(budget: &Node, name: &str) -> String {
    let condition = list(budget, &["status", "conditions"])
        .iter()
        .find(|c| c.str("type") == "DisruptionAllowed");
    let told = condition.filter(|c| c.str("status") == "False" && !c.str("message").is_empty());
    let (healthy, desired) = (
        int(budget, &["status", "currentHealthy"]),
        int(budget, &["status", "desiredHealthy"]),
    );
    match told {
        Some(c) if c.str("reason") == "SyncFailed" => format!(
            "The disruption budget {name} does not allow evicting pods currently because it failed sync: {}",
            c.str("message")
        ),
        _ if healthy <= desired => {
            format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently")
        }
        Some(c) => format!(
            "The disruption budget {name} does not allow evicting pods currently ({}): {}",
            c.str("reason"),
            c.str("message")
        ),
        None => format!("The disruption budget {name} does not allow evicting pods currently"),
    }
}

fn too_many(retry_after_seconds: i64, why: String) -> Status {
    let message = "Cannot evict pod as it would violate the pod's disruption budget.";
    let mut status = match retry_after_seconds {
        0 => Status::new(429, "TooManyRequests", message),
        seconds => Status::too_many_requests(message, seconds),
    };
    let cause = Cause {
        reason: "DisruptionBudget".into(),
        message: why,
        ..Cause::default()
    };
    status.content_mut().details.get_or_insert_default().causes.push(cause);
    status
}

/// Notes in the pod why it goes, if it is still the one that is meant.
async fn mark(
    engine: &Engine,
    request: &Request,
    options: &Node,
    pinned: Option<&str>,
    context: &HookContext<'_>,
) -> StatusResult<Node> {
    let now = context.clock.now().rfc3339();
    let change = |pod: &mut Node| {
        let version = options.str_at(&["preconditions", "resourceVersion"]);
        let version = if version.is_empty() {
            pinned.unwrap_or_default()
        } else {
            version
        };
        let checks = [
            (
                "UID",
                options.str_at(&["preconditions", "uid"]),
                pod.uid(),
                "deleted and then recreated",
            ),
            ("ResourceVersion", version, pod.resource_version(), "modified"),
        ];
        for (what, wanted, has, maybe) in checks {
            if !wanted.is_empty() && wanted != has {
                let why = format!(
                    "the {what} in the precondition ({wanted}) does not match the {what} in record ({has}). The object might have been {maybe}"
                );
                return Err(Status::conflict(&GroupResource::new("", "Pod"), pod.name(), why));
            }
        }
        let condition = node!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting"});
        set_condition(pod, condition, &now);
        Ok(())
    };
    engine
        .modify(&request.definition, context.namespace, &request.name, false, &change)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_spent_once() {
        let mut budget = node!({"metadata": {"name": "b", "generation": 1},
            "status": {"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1}});
        assert_eq!(spend(&mut budget, "p", "t"), Ok(()));
        assert_eq!(budget.str_at(&["status", "disruptedPods", "p"]), "t");
        let refused = spend(&mut budget, "q", "t").unwrap_err();
        assert_eq!(refused.code(), 429);
    }

    #[test]
    fn a_budget_that_lags_behind_is_waited_for() {
        let mut budget = node!({"metadata": {"name": "b", "generation": 2}, "status": {"observedGeneration": 1}});
        let refused = spend(&mut budget, "p", "t").unwrap_err();
        assert_eq!(refused.details().unwrap().retry_after_seconds, Some(10));
    }
}
