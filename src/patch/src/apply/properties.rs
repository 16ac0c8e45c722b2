//! Properties of apply over random configurations: what must hold whatever is applied.

use super::tests::{World, config_of, world};
use crate::fields::equal_values;
use crate::typed::Cursor;
use crate::typed::compare::compare;
use crate::typed::merge::merge;
use crate::typed::to_set::to_set;
use fairlead_api::{Map, Node, node};
use proptest::prelude::*;

fn scalar() -> impl Strategy<Value = Node> {
    prop_oneof![
        (0i64..3).prop_map(Node::Int),
        "[ab]".prop_map(Node::string),
        any::<bool>().prop_map(Node::Bool)
    ]
}

fn free() -> impl Strategy<Value = Node> {
    scalar().prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Node::List),
            proptest::collection::btree_map("[xyz]", inner, 0..3).prop_map(|m| Node::Map(m.into_iter().collect())),
        ]
    })
}

fn strings() -> impl Strategy<Value = Node> {
    proptest::collection::btree_map("[abc]", "[12]", 0..3)
        .prop_map(|m| Node::Map(m.into_iter().map(|(k, v)| (k, Node::string(v))).collect()))
}

fn container() -> impl Strategy<Value = (String, Node)> {
    let port = (80i64..83, proptest::option::of(Just("UDP")));
    let ports = proptest::collection::btree_map(port, proptest::option::of("[pq]"), 0..3);
    ("[abcd]", proptest::option::of("[12]"), proptest::option::of(ports)).prop_map(|(name, image, ports)| {
        let mut container = node!({"name": name.as_str()});
        if let Some(image) = image {
            container.set("image", image);
        }
        if let Some(ports) = ports {
            let port = |((port, protocol), name): ((i64, Option<&str>), Option<String>)| {
                let mut node = node!({"port": port});
                if let Some(protocol) = protocol {
                    node.set("protocol", protocol);
                }
                if let Some(name) = name {
                    node.set("name", name);
                }
                node
            };
            container.set("ports", ports.into_iter().map(port).collect::<Vec<_>>());
        }
        (name, container)
    })
}

/// Workloads without what two items of one list could share: every item has its own element. Declared lists are
/// not empty: empty ones are owned by nobody, and built-in types do not write them.
fn config() -> impl Strategy<Value = Node> {
    let containers = proptest::collection::vec(container(), 1..4).prop_map(|items| {
        let mut names = Vec::new();
        let fresh = items.into_iter().filter(|(name, _)| {
            let new = !names.contains(name);
            names.push(name.clone());
            new
        });
        Node::List(fresh.map(|(_, container)| container).collect())
    });
    let member = |name: &'static str, value: BoxedStrategy<Node>| {
        proptest::option::of(value).prop_map(move |v| v.map(|v| (name, v)))
    };
    let finalizers = proptest::collection::btree_set("[fgh]", 1..3)
        .prop_map(|s| Node::List(s.into_iter().map(Node::string).collect()));
    (
        member("replicas", (0i64..3).prop_map(Node::Int).boxed()),
        member("selector", strings().boxed()),
        member("containers", containers.boxed()),
        member("free", free().boxed()),
        member("labels", strings().boxed()),
        member("finalizers", finalizers.boxed()),
    )
        .prop_map(|(replicas, selector, containers, free, labels, finalizers)| {
            let spec: Map = [replicas, selector, containers, free].into_iter().flatten().collect();
            let metadata: Map = [labels, finalizers].into_iter().flatten().collect();
            config_of(Node::Map(spec), Node::Map(metadata))
        })
}

fn after(applies: &[(&str, Node)]) -> World {
    let mut w = world();
    for (manager, config) in applies {
        w.apply(manager, config.clone(), true).unwrap();
    }
    w
}

proptest! {
    #[test]
    fn applying_the_same_again_changes_nothing(a in config(), b in config()) {
        let mut w = after(&[("a", a), ("b", b.clone())]);
        let before = w.object.clone();
        w.apply("b", b, false).unwrap();
        prop_assert_eq!(w.object, before);
    }

    #[test]
    fn a_forced_apply_gets_what_it_says(a in config(), b in config()) {
        let w = after(&[("a", a), ("b", b.clone())]);
        let object = w.object.unwrap();
        let cursor = Cursor::root(w.schema.root());
        // Merging it in once more is no change.
        prop_assert!(equal_values(&merge(cursor, &object, &b), &object));
    }

    #[test]
    fn owners_who_apply_nothing_leave_nothing(a in config(), b in config(), c in config()) {
        let nothing = config_of(Node::map(), Node::map());
        let mut w = after(&[("a", a), ("b", b), ("a", c)]);
        w.apply("a", nothing.clone(), false).unwrap();
        w.apply("b", nothing, false).unwrap();
        prop_assert!(w.owners().is_empty(), "{:?}", w.owners());
        prop_assert!(w.object.unwrap().get("spec").is_none_or(Node::is_zero));
    }

    #[test]
    fn comparing_with_itself_finds_nothing_and_with_nothing_everything(a in config()) {
        let w = world();
        let cursor = Cursor::root(w.schema.root());
        prop_assert_eq!(compare(cursor, &a, &a), Default::default());
        let added = compare(cursor, &Node::map(), &a).added;
        prop_assert!(to_set(cursor, &a).is_subset(&added));
    }

    #[test]
    fn what_was_removed_or_added_explains_the_difference(a in config(), b in config()) {
        let w = world();
        let cursor = Cursor::root(w.schema.root());
        let there = compare(cursor, &a, &b);
        let back = compare(cursor, &b, &a);
        prop_assert_eq!(there.added, back.removed);
        prop_assert_eq!(there.removed, back.added);
        prop_assert_eq!(there.modified, back.modified);
    }
}
