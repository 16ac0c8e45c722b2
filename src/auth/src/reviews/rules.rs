//! SelfSubjectRulesReview: what may I do in a namespace?

use crate::authorization::Authorizer;
use crate::authorization::rbac::aggregate;
use fairlead_api::{Node, Status, StatusResult, UserInfo};

/// # Errors
/// BadRequest for a review of no namespace.
pub fn check_self_subject_rules_review(review: &Node) -> StatusResult<()> {
    match review.str_at(&["spec", "namespace"]) {
        "" => Err(Status::bad_request("no namespace on request")),
        _ => Ok(()),
    }
}

pub async fn self_subject_rules_review(review: &Node, user: &UserInfo, authorizer: &dyn Authorizer) -> Node {
    let namespace = review.str_at(&["spec", "namespace"]);
    let rules = authorizer.rules_for(user, namespace).await;
    let mut answer = Node::map();
    for key in ["kind", "apiVersion"] {
        answer.set(key, review.str(key));
    }
    // COMPAT: the answer is a new object; the question is not in it.
    answer.set("metadata", Node::map());
    answer.set("spec", Node::map());
    answer.set_at(&["status", "resourceRules"], rules.resource_rules);
    answer.set_at(&["status", "nonResourceRules"], rules.non_resource_rules);
    answer.set_at(&["status", "incomplete"], rules.incomplete);
    if !rules.errors.is_empty() {
        answer.set_at(&["status", "evaluationError"], aggregate(rules.errors));
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authorization::union::AlwaysAllow;
    use fairlead_api::node;
    use futures_util::FutureExt;

    #[test]
    fn rules_are_listed_for_a_namespace() {
        let ask = |body: Node| {
            self_subject_rules_review(&body, &UserInfo::default(), &AlwaysAllow)
                .now_or_never()
                .unwrap()
        };
        let answer = ask(node!({"spec": {"namespace": "ns"}}));
        assert_eq!(
            answer
                .at(&["status", "resourceRules"])
                .unwrap()
                .as_list()
                .unwrap()
                .len(),
            1
        );
        assert_eq!(answer.at(&["status", "incomplete"]), Some(&Node::Bool(false)));
        assert_eq!(
            check_self_subject_rules_review(&node!({"spec": {}}))
                .unwrap_err()
                .message(),
            "no namespace on request"
        );
    }
}
