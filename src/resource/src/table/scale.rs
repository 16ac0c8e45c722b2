//! The Table of an object's Scale: columns of its own, whatever the object's are.

use super::{CREATED_DESCRIPTION, NAME_DESCRIPTION, age, header};
use fairlead_api::Node;

/// COMPAT: built-in kinds and custom resources describe the same columns differently.
pub(super) fn headers(custom: bool) -> Vec<Node> {
    let (format, desired, available, age) = match custom {
        true => (
            "name",
            "Number of desired replicas",
            "Number of actual replicas",
            "date",
        ),
        false => (
            "",
            "replicas is the desired number of instances for the scaled object.",
            "replicas is the actual number of observed instances of the scaled object.",
            "string",
        ),
    };
    vec![
        header("Name", "string", format, NAME_DESCRIPTION, 0),
        header("Desired", "integer", "", desired, 0),
        header("Available", "integer", "", available, 0),
        header("Age", age, "", CREATED_DESCRIPTION, 0),
    ]
}

/// COMPAT: of custom resources no wish is written down, not a wish for none.
pub(super) fn cells(scale: &Node, now_seconds: i64, custom: bool) -> Vec<Node> {
    let replicas = |part: &str| scale.at(&[part, "replicas"]).and_then(Node::as_i64);
    let desired = match replicas("spec") {
        None if custom => Node::Null,
        count => Node::Int(count.unwrap_or(0)),
    };
    vec![
        Node::string(scale.name()),
        desired,
        Node::Int(replicas("status").unwrap_or(0)),
        Node::from(age(scale.str_at(&["metadata", "creationTimestamp"]), now_seconds)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn scales_have_counts_and_ages() {
        let scale = node!({"metadata": {"name": "a", "creationTimestamp": "1970-01-01T00:01:00Z"},
            "spec": {"replicas": 3}, "status": {"replicas": 2}});
        assert_eq!(cells(&scale, 65, false), [node!("a"), node!(3), node!(2), node!("5s")]);
        let empty = node!({"metadata": {"name": "a"}, "spec": {}, "status": {"replicas": 0}});
        assert_eq!(cells(&empty, 65, false)[1..], [node!(0), node!(0), node!("<unknown>")]);
        assert_eq!(cells(&empty, 65, true)[1], Node::Null);
        assert_eq!(headers(true).len(), 4);
    }
}
