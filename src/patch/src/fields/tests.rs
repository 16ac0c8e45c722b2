//! Sets against their wire form and against plain sets of paths.

use super::*;
use fairlead_api::{Node, json, node};
use proptest::prelude::*;

fn set(text: &str) -> FieldSet {
    FieldSet::from_node(&json::parse(text.as_bytes()).unwrap()).unwrap()
}

fn text(set: &FieldSet) -> String {
    json::to_string(&set.to_node())
}

#[test]
fn the_wire_form_comes_back() {
    for wire in [
        "{}",
        r#"{"f:spec":{"f:replicas":{}}}"#,
        r#"{"f:spec":{".":{},"f:ports":{".":{},"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:port":{}}}}}"#,
        r#"{"f:metadata":{"f:finalizers":{".":{},"v:\"a/b\"":{}}}}"#,
        r#"{"f:l":{"i:3":{}}}"#,
    ] {
        assert_eq!(text(&set(wire)), wire);
    }
    assert_eq!(
        text(&set(r#"{"f:a":{".":{}},"x:what":{},"f:b":null}"#)),
        r#"{"f:a":{},"f:b":{}}"#
    );
    assert!(FieldSet::from_node(&node!({"k:{": {}})).is_err());
    assert!(FieldSet::from_node(&node!({"fa": {}})).is_err());
    assert!(FieldSet::from_node(&node!({"f:a": 1})).is_err());
}

#[test]
fn operations_treat_parents_and_children_apart() {
    let parent = set(r#"{"f:a":{}}"#);
    let child = set(r#"{"f:a":{"f:b":{}}}"#);
    let both = set(r#"{"f:a":{".":{},"f:b":{}}}"#);
    assert_eq!(parent.clone().union(child.clone()), both);
    assert_eq!(both.difference(&parent), child);
    assert_eq!(both.difference(&child), parent);
    assert_eq!(parent.difference(&child), parent);
    assert!(both.recursive_difference(&parent).is_empty());
    assert!(both.intersection(&set(r#"{"f:c":{}}"#)).is_empty());
    assert_eq!(both.intersection(&child), child);
    assert!(child.is_subset(&both) && !parent.is_subset(&child));
    assert_eq!(both.len(), 2);
}

#[test]
fn numbers_match_across_integer_and_float() {
    let mut floats = FieldSet::new();
    floats.insert(&[Element::Key([("port".into(), Node::Float(80.0))].into())]);
    assert!(floats.contains(&[Element::Key([("port".into(), Node::Int(80))].into())]));
}

#[test]
fn keys_sort_by_value_and_paths_display_as_in_conflicts() {
    let set = set(r#"{"f:p":{"k:{\"port\":443}":{"f:n":{}},"k:{\"port\":80}":{}},"f:m":{"f:x":{}},"f:z":{}}"#);
    let mut paths = Vec::new();
    set.for_each(&mut |path| paths.push(Path::new(path).to_string()));
    assert_eq!(paths, [".z", ".m.x", ".p[port=80]", ".p[port=443].n"]);
}

#[test]
fn patterns_select_subtrees() {
    let set = set(r#"{"f:spec":{"f:c":{"k:{\"name\":\"a\"}":{".":{},"f:r":{"f:x":{}},"f:i":{}}},"f:o":{}},"f:q":{}}"#);
    let kept = set.only(&[&["spec", "c", "*", "r"]]);
    assert_eq!(
        text(&kept),
        r#"{"f:spec":{"f:c":{"k:{\"name\":\"a\"}":{".":{},"f:r":{"f:x":{}}}}}}"#
    );
    assert_eq!(set.only(&[&[]]), set);
}

fn any_set() -> impl Strategy<Value = FieldSet> {
    proptest::collection::vec(proptest::collection::vec(0u8..3, 1..4), 0..8).prop_map(|paths| {
        let mut set = FieldSet::new();
        for path in paths {
            set.insert(&path.iter().map(|n| Element::Index(i64::from(*n))).collect::<Vec<_>>());
        }
        set
    })
}

fn paths(set: &FieldSet) -> std::collections::BTreeSet<Path> {
    let mut out = std::collections::BTreeSet::new();
    set.for_each(&mut |path| assert!(out.insert(Path::new(path))));
    out
}

proptest! {
    #[test]
    fn set_operations_agree_with_a_set_of_paths(a in any_set(), b in any_set()) {
        prop_assert_eq!(paths(&a.clone().union(b.clone())), &paths(&a) | &paths(&b));
        prop_assert_eq!(paths(&a.intersection(&b)), &paths(&a) & &paths(&b));
        prop_assert_eq!(paths(&a.difference(&b)), &paths(&a) - &paths(&b));
        prop_assert_eq!(a.is_subset(&b), paths(&a).is_subset(&paths(&b)));
        let below: std::collections::BTreeSet<Path> = paths(&a)
            .into_iter()
            .filter(|p| !(1..=p.len()).any(|n| b.contains(&p[..n])))
            .collect();
        prop_assert_eq!(paths(&a.recursive_difference(&b)), below);
        prop_assert_eq!(FieldSet::from_node(&a.to_node()), Ok(a));
    }
}
