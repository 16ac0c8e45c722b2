//! What roles and bindings are checked for.
//!
//! Source of the rules, their order and wording: kubernetes pkg/apis/rbac/validation/validation.go.
// PERFORMANCE: per-request path

use crate::validation::at::At;
use crate::validation::{common, shown, values};
use fairlead_api::metadata::SelectorLeniency;
use fairlead_api::selector::LabelSelector;
use fairlead_api::{FieldErrors, Node, name};

const GROUP: &str = "rbac.authorization.k8s.io";

// === roles ===

/// A Role, or where it is not `namespaced` a ClusterRole; `old` is what is stored.
pub fn role(object: &Node, old: Option<&Node>, namespaced: bool, errors: &mut FieldErrors) {
    common::object_meta(object, namespaced, values::path_segment_name, errors);
    let at = At::root(object);
    for rule in at.each("rules") {
        self::rule(&rule, namespaced, errors);
    }
    if !namespaced && let Some(aggregation) = at.get("aggregationRule") {
        self::aggregation(&aggregation, old, errors);
    }
    if let Some(old) = old {
        values::metadata_update(object, old, errors);
    }
}

fn rule(at: &At, namespaced: bool, errors: &mut FieldErrors) {
    if at.len("verbs") == 0 {
        at.required("verbs", "verbs must contain at least one value", errors);
    }
    if at.len("nonResourceURLs") == 0 {
        for (field, one) in [("apiGroups", "api group"), ("resources", "resource")] {
            if at.len(field) == 0 {
                let detail = format!("resource rules must supply at least one {one}");
                at.required(field, &detail, errors);
            }
        }
        return;
    }
    let refuse = |detail, errors: &mut FieldErrors| {
        let shown = shown::json("[]string", at.node.get("nonResourceURLs"));
        at.invalid_shown("nonResourceURLs", shown, detail, errors);
    };
    if namespaced {
        refuse("namespaced rules cannot apply to non-resource URLs", errors);
    }
    if ["apiGroups", "resources", "resourceNames"]
        .iter()
        .any(|field| at.len(field) > 0)
    {
        refuse(
            "rules cannot apply to both regular resources and non-resource URLs",
            errors,
        );
    }
}

fn aggregation(at: &At, old: Option<&Node>, errors: &mut FieldErrors) {
    const FIELD: &str = "clusterRoleSelectors";
    if at.len(FIELD) == 0 {
        let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        at.required(FIELD, detail, errors);
    }
    let stored = old
        .and_then(|old| old.get("aggregationRule"))
        .map_or(&[][..], |rule| rule.list(FIELD));
    let leniency = stored
        .iter()
        .map(|selector| values::leniency_for(Some(selector)))
        .find(|leniency| leniency.any_values)
        .unwrap_or(SelectorLeniency::default());
    for selector in at.each(FIELD) {
        values::selector(&selector, leniency, errors);
        if LabelSelector::from_node(selector.node).is_err() {
            selector.invalid("", Node::Null, "invalid label selector.", errors);
        }
    }
}

// === bindings ===

/// A RoleBinding, or where it is not `namespaced` a ClusterRoleBinding.
pub fn binding(object: &Node, old: Option<&Node>, namespaced: bool, errors: &mut FieldErrors) {
    common::object_meta(object, namespaced, values::path_segment_name, errors);
    let at = At::root(object);
    let role = at.part("roleRef");
    role.one_of("apiGroup", &[GROUP], errors);
    let kinds: &[&str] = if namespaced {
        &["Role", "ClusterRole"]
    } else {
        &["ClusterRole"]
    };
    role.one_of("kind", kinds, errors);
    values::required_path_segment(&role, "name", errors);
    for subject in at.each("subjects") {
        self::subject(&subject, namespaced, errors);
    }
    if let Some(old) = old {
        values::metadata_update(object, old, errors);
        common::immutable_with(&at, old, "roleRef", "rbac.RoleRef", "cannot change roleRef", errors);
    }
}

fn subject(at: &At, namespaced: bool, errors: &mut FieldErrors) {
    let named = at.require("name", errors);
    match at.str("kind") {
        "ServiceAccount" => {
            if named {
                values::object_name(at, "name", name::name_is_dns_subdomain, errors);
            }
            if !at.str("apiGroup").is_empty() {
                at.one_of("apiGroup", &[""], errors);
            }
            if !namespaced {
                at.require("namespace", errors);
            }
        }
        "User" | "Group" => at.one_of("apiGroup", &[GROUP], errors),
        _ => at.one_of("kind", &["ServiceAccount", "User", "Group"], errors),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    fn texts(check: impl FnOnce(&mut FieldErrors)) -> Vec<String> {
        let mut errors = Vec::new();
        check(&mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rules_are_of_resources_or_of_paths() {
        let mut role = node!({"metadata": {"name": "a", "namespace": "b"}});
        role.set(
            "rules",
            vec![
                node!({"verbs": ["get"], "nonResourceURLs": ["/x"]}),
                node!({"resources": ["pods"]}),
            ],
        );
        assert_eq!(
            texts(|errors| self::role(&role, None, true, errors)),
            [
                r#"rules[0].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs"#,
                "rules[1].verbs: Required value: verbs must contain at least one value",
                "rules[1].apiGroups: Required value: resource rules must supply at least one api group",
            ]
        );
    }

    #[test]
    fn a_binding_keeps_its_role() {
        let old = node!({"metadata": {"name": "a", "resourceVersion": "1"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "x"}});
        let mut new = old.clone();
        new.set_at(&["roleRef", "name"], "y");
        assert_eq!(
            texts(|errors| binding(&new, Some(&old), false, errors)),
            [
                r#"roleRef: Invalid value: {"APIGroup":"rbac.authorization.k8s.io","Kind":"ClusterRole","Name":"y"}: cannot change roleRef"#
            ]
        );
        assert!(texts(|errors| binding(&old, Some(&old), false, errors)).is_empty());
    }
}
