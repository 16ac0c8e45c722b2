//! [`alike`]: whether two values mean the same to kube-apiserver.
// PERFORMANCE: per-request path

use crate::node::{Map, Node};

/// Whether two parts of objects are equal, where absent, null and an empty list are one (`equality.Semantic.DeepEqual`).
pub fn alike(one: Option<&Node>, other: Option<&Node>) -> bool {
    match (one, other) {
        (Some(Node::Map(one)), Some(Node::Map(other))) => same_members(one, other),
        (Some(Node::List(one)), Some(Node::List(other))) => {
            let pairs = || one.iter().zip(other);
            one.len() == other.len() && pairs().all(|(one, other)| alike(Some(one), Some(other)))
        }
        (one, other) if says_nothing(one) || says_nothing(other) => says_nothing(one) && says_nothing(other),
        (one, other) => one == other,
    }
}

fn same_members(one: &Map, other: &Map) -> bool {
    let in_both = one.iter().all(|(key, value)| alike(Some(value), other.get(key)));
    in_both
        && other
            .iter()
            .all(|(key, value)| one.contains_key(key) || says_nothing(Some(value)))
}

fn says_nothing(value: Option<&Node>) -> bool {
    match value {
        None | Some(Node::Null) => true,
        Some(Node::List(items)) => items.is_empty(),
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node;

    #[test]
    fn nothing_is_nothing_however_it_is_written() {
        let alike = |one: Node, other: Node| alike(Some(&one), Some(&other));
        assert!(alike(node!({"a": [], "b": 1}), node!({"b": 1})));
        assert!(alike(node!({"b": 1}), node!({"a": null, "b": 1})));
        assert!(alike(node!([{"a": null}]), node!([{"a": []}])));
        assert!(!alike(node!({"a": {}}), node!({})));
        assert!(!alike(node!({"a": 0}), node!({})));
        assert!(!alike(node!([1]), node!([])));
        assert!(!alike(node!([1, 2]), node!([2, 1])));
    }
}
