//! SelfSubjectRulesReview: what may I do in a namespace?

use crate::authorization::Authorizer;
use crate::authorization::rbac::aggregate;
use fairlead_api::{Node, Status, StatusResult, UserInfo};

pub async fn self_subject_rules_review(
    review: &Node,
    user: &UserInfo,
    authorizer: &dyn Authorizer,
) -> StatusResult<Node> {
    let namespace = review.str_at(&["spec", "namespace"]);
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
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
    Ok(answer)
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
        let answer = ask(node!({"spec": {"namespace": "ns"}})).unwrap();
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
            ask(node!({"spec": {}})).unwrap_err().message(),
            "no namespace on request"
        );
    }
}
