//! JSON merge patch (RFC 7386), with the treatment of nulls of the Go library kube-apiserver uses.
// PERFORMANCE: per-request path

use fairlead_api::{Map, Node};

/// Merges `patch` into `doc`: null removes a member, objects merge, everything else replaces.
///
/// COMPAT: where the RFC keeps nulls inside lists, a list that is new to its object loses the null members of the
/// objects in it (null items stay).
pub fn apply(doc: &mut Node, patch: &Node) {
    match (&mut *doc, patch) {
        (Node::Map(doc), Node::Map(patch)) => merge(doc, patch),
        _ => *doc = without_nulls(patch),
    }
}

fn merge(doc: &mut Map, patch: &Map) {
    for (key, value) in patch.iter() {
        if value.is_null() {
            doc.remove(key);
            continue;
        }
        match (doc.get_mut(key), value) {
            (Some(Node::Map(old)), Node::Map(new)) => merge(old, new),
            (Some(old @ Node::Map(_)), new) => *old = new.clone(),
            (Some(old), new) => *old = without_nulls(new),
            (None, new) => {
                doc.insert(key.clone(), without_nulls(new));
            }
        }
    }
}

/// A copy without null members, at any depth.
fn without_nulls(node: &Node) -> Node {
    match node {
        Node::Map(map) => Node::Map(
            map.iter()
                .filter(|(_, v)| !v.is_null())
                .map(|(k, v)| (k.clone(), without_nulls(v)))
                .collect::<Map>(),
        ),
        Node::List(items) => Node::List(items.iter().map(without_nulls).collect()),
        scalar => scalar.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_the_rfc_hold() {
        for (doc, patch, result) in [
            (node!({"a": "b"}), node!({"a": "c"}), node!({"a": "c"})),
            (node!({"a": "b"}), node!({"b": "c"}), node!({"a": "b", "b": "c"})),
            (node!({"a": "b", "b": "c"}), node!({"a": null}), node!({"b": "c"})),
            (node!({"a": ["b"]}), node!({"a": "c"}), node!({"a": "c"})),
            (
                node!({"a": {"b": "c"}}),
                node!({"a": {"b": "d", "c": null}}),
                node!({"a": {"b": "d"}}),
            ),
            (node!({"a": [{"b": "c"}]}), node!({"a": [1]}), node!({"a": [1]})),
            (node!(["a", "b"]), node!(["c", "d"]), node!(["c", "d"])),
            (node!({"a": "b"}), node!(["c"]), node!(["c"])),
            (node!({"e": null}), node!({"a": 1}), node!({"e": null, "a": 1})),
            (node!({}), node!({"a": {"bb": {"ccc": null}}}), node!({"a": {"bb": {}}})),
        ] {
            let mut got = doc.clone();
            apply(&mut got, &patch);
            assert_eq!(got, result, "{doc:?} + {patch:?}");
        }
    }

    #[test]
    fn nulls_in_new_lists_go_but_items_stay() {
        let mut doc = node!({});
        apply(&mut doc, &node!({"l": [null, {"a": null, "b": 1}]}));
        assert_eq!(doc, node!({"l": [null, {"b": 1}]}));
    }

    /// The RFC's pseudo code, over documents without lists (where nothing is added to it).
    fn oracle(target: Option<&Node>, patch: &Node) -> Node {
        let Some(members) = patch.as_map() else {
            return patch.clone();
        };
        let mut names: Vec<&str> = target
            .and_then(Node::as_map)
            .into_iter()
            .flat_map(|m| m.keys().map(|k| k.as_str()))
            .collect();
        names.extend(members.keys().map(|k| k.as_str()));
        let mut out = Node::map();
        for name in names {
            let old = target.and_then(|t| t.get(name));
            match members.get(name) {
                Some(Node::Null) => {}
                Some(new) => out.set(name, oracle(old, new)),
                None => out.set(name, old.cloned().unwrap_or_default()),
            }
        }
        out
    }

    fn tree() -> impl Strategy<Value = Node> {
        let leaf = prop_oneof![Just(Node::Null), (0i64..3).prop_map(Node::Int), Just(Node::string("s"))];
        leaf.prop_recursive(4, 24, 4, |inner| {
            proptest::collection::btree_map("[abc]", inner, 0..4).prop_map(|m| Node::Map(m.into_iter().collect()))
        })
    }

    proptest! {
        #[test]
        fn merging_agrees_with_the_rfc(doc in tree(), patch in tree()) {
            let mut got = doc.clone();
            apply(&mut got, &patch);
            prop_assert_eq!(got, oracle(Some(&doc), &patch));
        }
    }
}
