//! Match conditions of webhooks: expressions that must all be true for a webhook to be asked.
//!
//! Source: kubernetes/apiserver pkg/admission/plugin/webhook/matchconditions/matcher.go.
// PERFORMANCE: per-request path

use super::select::Invocation;
use super::{ignores_failures, review};
use crate::expressions::{Expression, Scene, all_true};
use crate::{Attributes, Cluster};
use fairlead_api::{Node, Status, StatusResult};
use fairlead_cel::admission::{Compiler, Declared, Output};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// The conditions of all webhooks, compiled when they are first needed and kept by their text.
#[derive(Default)]
pub struct Conditions(RwLock<HashMap<Box<str>, Arc<Expression>>>);

/// How many are kept: more are only there after many have gone.
const KEPT: usize = 4096;

impl Conditions {
    fn get(&self, text: &str) -> Arc<Expression> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).get(text).cloned();
        known.unwrap_or_else(|| {
            let declared = Declared {
                authorizer: true,
                ..Declared::default()
            };
            let expression = Expression::compile(&Compiler::plain(), text, declared, Output::Bool);
            let expression = Arc::new(expression);
            let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= KEPT {
                known.clear();
            }
            known.insert(text.into(), expression.clone());
            expression
        })
    }
}

/// Whether all conditions of a webhook are met. One that cannot be decided is left to the failure policy.
///
/// # Errors
/// Why the request is refused where that is so.
pub async fn matches(invocation: &Invocation<'_>, attributes: &Attributes, cluster: &Cluster) -> StatusResult<bool> {
    let hook = invocation.hook;
    let conditions = hook.list("matchConditions");
    if conditions.is_empty() {
        return Ok(true);
    }
    let texts = conditions.iter().map(|condition| condition.str("expression"));
    let expressions: Vec<Arc<Expression>> = texts.map(|text| cluster.conditions.get(text)).collect();
    let objects = invocation.objects(attributes, cluster).await?;
    let request = match expressions.iter().any(|expression| expression.uses_request()) {
        true => review::facts(attributes, invocation.equivalent.as_ref()),
        false => Node::Null,
    };
    let mut scene = Scene::new(&objects.object, &objects.old_object, &request);
    if expressions.iter().any(|expression| expression.uses_authorizer()) {
        scene = scene.with_authorizer(attributes, cluster);
    }
    let expressions: Vec<&Expression> = expressions.iter().map(|expression| &**expression).collect();
    match all_true(&expressions, &[], &scene).await {
        Ok(met) => Ok(met),
        Err(why) if ignores_failures(hook) => {
            tracing::warn!(
                webhook = hook.str("name"),
                why,
                "match conditions cannot be decided, failing open"
            );
            Ok(false)
        }
        Err(why) => Err(Status::forbidden(&attributes.group_resource(), &attributes.name, why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fake, create};
    use fairlead_api::node;
    use futures_util::FutureExt;

    /// What becomes of a request for a ConfigMap `x` with conditions.
    fn decided(policy: &str, conditions: &[&str]) -> Result<bool, String> {
        let cluster = Fake::default().allowing("deny").cluster();
        let mut hook = node!({"name": "h.example.com"});
        hook.set("failurePolicy", policy);
        let conditions = conditions.iter().map(|text| {
            let mut condition = node!({"name": "c"});
            condition.set("expression", *text);
            condition
        });
        hook.set("matchConditions", conditions.collect::<Vec<Node>>());
        let invocation = Invocation {
            hook: &hook,
            configuration: "c",
            place: 0,
            equivalent: None,
        };
        let request = create("configmaps", node!({"kind": "ConfigMap", "metadata": {"name": "x"}}));
        let mut deciding = Box::pin(matches(&invocation, &request, &cluster));
        // An authorizer that does not know at once is asked a second time.
        let decided = (0..20).find_map(|_| (&mut deciding).now_or_never());
        decided.expect("soon").map_err(|status| status.message().to_owned())
    }

    #[test]
    fn all_conditions_must_be_true() {
        assert_eq!(decided("Fail", &["true", "request.name == 'x'"]), Ok(true));
        assert_eq!(decided("Fail", &["true", "object.metadata.name == 'y'"]), Ok(false));
        assert_eq!(
            decided("Fail", &["oldObject == null && namespaceObject == null"]),
            Ok(true)
        );
    }

    #[test]
    fn what_fails_is_left_to_the_policy_unless_something_is_false() {
        let bad = "object.nope == 1";
        let why = "configmaps \"x\" is forbidden: expression 'object.nope == 1' resulted in error: no such key: nope";
        assert_eq!(decided("Fail", &[bad, "true"]), Err(why.into()));
        assert_eq!(decided("Ignore", &[bad, "true"]), Ok(false));
        assert_eq!(decided("Fail", &[bad, "false"]), Ok(false));
        let two = decided("Fail", &[bad, "object.no == 1"]).unwrap_err();
        assert!(
            two.ends_with("no such key: nope, expression 'object.no == 1' resulted in error: no such key: no]"),
            "{two}"
        );
    }

    #[test]
    fn the_authorizer_may_take_its_time() {
        let may = |verb: &str| format!("authorizer.requestResource.check('{verb}').allowed()");
        assert_eq!(
            decided("Fail", &[&may("deny"), "object.metadata.name == 'x'"]),
            Ok(true)
        );
        assert_eq!(decided("Fail", &[&may("deny"), &may("escalate")]), Ok(false));
    }

    #[test]
    fn the_budget_is_for_all_conditions() {
        let costly = "authorizer.path('/a').check('get').allowed() || true";
        assert_eq!(decided("Fail", &[costly; 7]), Ok(true));
        let why = decided("Fail", &[costly; 8]).unwrap_err();
        assert!(
            why.ends_with(
                "validation failed due to running out of cost budget, no further validation rules will be run"
            )
        );
        assert_eq!(decided("Ignore", &[costly; 8]), Ok(false));
    }
}
