//! Labels of nodes that have newer names: what to tell those who still select by them.
//!
//! Source of the wording: kubernetes pkg/api/node/util.go.

use super::at::At;
use fairlead_api::{FieldPath, Map, Node, name};

/// What is said about a deprecated label.
pub fn deprecation(key: &str) -> Option<&'static str> {
    Some(match key {
        "beta.kubernetes.io/arch" => r#"deprecated since v1.14; use "kubernetes.io/arch" instead"#,
        "beta.kubernetes.io/os" => r#"deprecated since v1.14; use "kubernetes.io/os" instead"#,
        "failure-domain.beta.kubernetes.io/region" => {
            r#"deprecated since v1.17; use "topology.kubernetes.io/region" instead"#
        }
        "failure-domain.beta.kubernetes.io/zone" => {
            r#"deprecated since v1.17; use "topology.kubernetes.io/zone" instead"#
        }
        "beta.kubernetes.io/instance-type" => {
            r#"deprecated since v1.17; use "node.kubernetes.io/instance-type" instead"#
        }
        "app.kubernetes.io/created-by" => "deprecated since v1.9",
        "scheduler.alpha.kubernetes.io/preferAvoidPods" => "deprecated since v1.22; use Taints and Tolerations instead",
        "node-role.kubernetes.io/master" => r#"use "node-role.kubernetes.io/control-plane" instead"#,
        _ => return None,
    })
}

/// Warnings about the keys of a `metav1.LabelSelector` that selects nodes.
pub fn selector_warnings(selector: &Node, path: &FieldPath) -> Vec<String> {
    let expressions = selector
        .list("matchExpressions")
        .iter()
        .enumerate()
        .filter_map(|(i, expression)| {
            let (key, path) = (
                expression.str("key"),
                path.child("matchExpressions").index(i).child("key"),
            );
            Some(format!("{path}: {key} is {}", deprecation(key)?))
        });
    let labels = selector
        .get("matchLabels")
        .and_then(Node::as_map)
        .into_iter()
        .flat_map(Map::keys);
    let path = path.child("matchLabels");
    let labels = labels.filter_map(|key| Some(format!("{}: {}", path.child(key), deprecation(key)?)));
    expressions.chain(labels).collect()
}

/// Warns about a `NodeSelectorTerm`: old keys and, where asked, values that no label has.
pub fn warn_term(term: &At, values: bool, warnings: &mut Vec<String>) {
    for expression in term.each("matchExpressions") {
        let key = expression.str("key");
        if let Some(message) = deprecation(key) {
            warnings.push(format!("{}: {key} is {message}", expression.path_of("key")));
        }
        if !values {
            continue;
        }
        for value in expression.each("values") {
            let text = value.node.as_str().unwrap_or_default();
            let complaints = name::is_valid_label_value(text).into_iter();
            warnings.extend(complaints.map(|complaint| format!("{}: {text} is invalid, {complaint}", value.path())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn old_names_are_told() {
        let selector = node!({"matchLabels": {"beta.kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}});
        assert_eq!(
            selector_warnings(&selector, &FieldPath::new("nodeTopology")),
            [
                r#"nodeTopology.matchLabels.beta.kubernetes.io/os: deprecated since v1.14; use "kubernetes.io/os" instead"#
            ]
        );
    }
}
