//! The RBAC objects every server has, and how a start brings stored ones up to date.
//!
//! The tables are in `bootstrap/*.txt`; the head of each explains its lines.
//! Source of behaviour: component-helpers auth/rbac/reconciliation, kubernetes pkg/registry/rbac/rest/storage_rbac.go,
//! pkg/controller/clusterroleaggregation. Left out: the moves from roles older than Kubernetes 1.9.

use crate::authorization::rbac::GROUP;
use crate::authorization::rule::Rule;
use compact_str::CompactString;
use fairlead_api::selector::LabelSelector;
use fairlead_api::{Map, Node, node};

const CLUSTER_ROLES: &str = include_str!("../bootstrap/clusterroles.txt");
const ROLES: &str = include_str!("../bootstrap/roles.txt");
const CLUSTER_ROLE_BINDINGS: &str = include_str!("../bootstrap/clusterrolebindings.txt");
const ROLE_BINDINGS: &str = include_str!("../bootstrap/rolebindings.txt");

/// `false` in this annotation keeps an object from being reconciled.
const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// One expected object and the resource it belongs to.
pub struct Expected {
    pub plural: &'static str,
    pub object: Node,
}

/// What has to happen to a stored object.
#[derive(Clone, Debug, PartialEq)]
pub enum Reconciled {
    Nothing,
    Create(Node),
    Update(Node),
    /// The role reference differs, which cannot be updated: delete, then create.
    Recreate(Node),
}

/// All expected objects, with `apiVersion` and `kind`, in the order they are to be made.
pub fn objects() -> Vec<Expected> {
    let mut all = Vec::with_capacity(140);
    let mut add =
        |plural, objects: Vec<Node>| all.extend(objects.into_iter().map(|object| Expected { plural, object }));
    add("clusterroles", roles(CLUSTER_ROLES, "ClusterRole"));
    add(
        "clusterrolebindings",
        bindings(CLUSTER_ROLE_BINDINGS, "ClusterRoleBinding", "ClusterRole"),
    );
    add("roles", roles(ROLES, "Role"));
    add("rolebindings", bindings(ROLE_BINDINGS, "RoleBinding", "Role"));
    all
}

/// The static rules of the Node authorizer: those of the ClusterRole `system:node`.
pub fn node_rules() -> Vec<Rule> {
    let is_node = |role: &Node| role.name() == "system:node";
    roles(CLUSTER_ROLES, "ClusterRole")
        .iter()
        .find(|r| is_node(r))
        .map(Rule::all_of)
        .unwrap_or_default()
}

/// Compares a stored object (if there is one) with what is expected: missing labels, annotations, rules, selectors and
/// subjects are added, nothing is taken away but an aggregation rule that does not belong.
pub fn reconcile(expected: &Node, stored: Option<&Node>) -> Reconciled {
    let Some(stored) = stored else {
        return Reconciled::Create(expected.clone());
    };
    if stored
        .annotations()
        .is_some_and(|a| a.get(AUTO_UPDATE).and_then(Node::as_str) == Some("false"))
    {
        return Reconciled::Nothing;
    }
    let mut updated = stored.clone();
    if expected.get("roleRef").is_some() {
        if expected.get("roleRef") != stored.get("roleRef") {
            return Reconciled::Recreate(expected.clone());
        }
        append_missing(&mut updated, expected, &["subjects"]);
    } else {
        let have = Rule::all_of(stored);
        let pieces = Rule::all_of(expected).into_iter().flat_map(|rule| rule.pieces());
        let missing = pieces.filter(|p| !have.iter().any(|h| h.covers(p)));
        append(&mut updated, &["rules"], missing.map(|piece| piece.to_node()).collect());
        if expected.get("aggregationRule").is_some() {
            append_missing(&mut updated, expected, &["aggregationRule", "clusterRoleSelectors"]);
        } else {
            updated.remove("aggregationRule");
        }
    }
    for kind in ["labels", "annotations"] {
        for (key, value) in expected
            .at(&["metadata", kind])
            .and_then(Node::as_map)
            .into_iter()
            .flat_map(Map::iter)
        {
            let map = updated.make_at(&["metadata", kind]).make_map();
            if !map.contains_key(key) {
                map.insert(key.clone(), value.clone());
            }
        }
    }
    if updated == *stored {
        Reconciled::Nothing
    } else {
        Reconciled::Update(updated)
    }
}

/// The rules an aggregating ClusterRole should have: those of all roles its selectors match, by name, each once.
/// `None` where the role does not aggregate.
pub fn aggregated_rules<'a>(role: &Node, all: impl Iterator<Item = &'a Node> + Clone) -> Option<Vec<Node>> {
    let selectors = role.get("aggregationRule")?.list("clusterRoleSelectors");
    let mut rules: Vec<Node> = Vec::new();
    for selector in selectors {
        let Ok(selector) = LabelSelector::from_node(selector) else {
            continue;
        };
        let others = all.clone().filter(|r| r.name() != role.name());
        let mut matching: Vec<&Node> = others.filter(|r| selector.matches(r.labels())).collect();
        matching.sort_by_key(|r| r.name());
        for rule in matching.into_iter().flat_map(|r| r.list("rules")) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    Some(rules)
}

// === reading the tables ===

fn roles(table: &str, kind: &str) -> Vec<Node> {
    let mut roles: Vec<Node> = Vec::new();
    for line in lines(table) {
        let Some(detail) = line.strip_prefix("  ") else {
            roles.push(object(kind, line));
            continue;
        };
        let Some(role) = roles.last_mut() else { continue };
        if let Some((key, value)) = labelled(detail, "label ") {
            role.set_at(&["metadata", "labels", key], value);
        } else if let Some((key, value)) = labelled(detail, "aggregates ") {
            append(
                role,
                &["aggregationRule", "clusterRoleSelectors"],
                vec![node!({"matchLabels": {key: value}})],
            );
        } else {
            append(role, &["rules"], vec![rule(detail).to_node()]);
        }
    }
    for role in &mut roles {
        // Filled by the aggregation controller; null until then, as Go writes a nil slice.
        if role.get("rules").is_none() {
            role.set("rules", Node::Null);
        }
    }
    roles
}

fn labelled<'a>(line: &'a str, what: &str) -> Option<(&'a str, &'a str)> {
    line.strip_prefix(what)?.split_once('=')
}

fn rule(line: &str) -> Rule {
    let fields: Vec<&str> = line.split(" | ").collect();
    let words = |i: usize| -> Vec<CompactString> {
        fields
            .get(i)
            .map(|f| f.split_whitespace().map(CompactString::from).collect())
            .unwrap_or_default()
    };
    if fields.len() == 2 {
        return Rule {
            verbs: words(0),
            urls: words(1),
            ..Rule::default()
        };
    }
    let groups = words(1)
        .into_iter()
        .map(|g| if g == "core" { CompactString::default() } else { g })
        .collect();
    Rule {
        verbs: words(0),
        groups,
        resources: words(2),
        names: words(3),
        ..Rule::default()
    }
}

fn bindings(table: &str, kind: &str, role_kind: &str) -> Vec<Node> {
    let binding = |line: &str| {
        let (place, rest) = line.split_once(" =")?;
        let mut binding = object(kind, place);
        let (subjects, role) = rest.split_once(" -> ").unwrap_or((rest, ""));
        let role = if role.is_empty() {
            binding.name().to_owned()
        } else {
            role.to_owned()
        };
        append(
            &mut binding,
            &["subjects"],
            subjects.split(", ").filter_map(|s| subject(s.trim())).collect(),
        );
        binding.set("roleRef", node!({"apiGroup": GROUP, "kind": role_kind, "name": role}));
        Some(binding)
    };
    lines(table).filter_map(binding).collect()
}

fn subject(text: &str) -> Option<Node> {
    let (kind, name) = text.split_once(' ')?;
    Some(match name.split_once('/').filter(|_| kind == "ServiceAccount") {
        Some((namespace, name)) => node!({"kind": kind, "namespace": namespace, "name": name}),
        None => node!({"apiGroup": GROUP, "kind": kind, "name": name}),
    })
}

/// An object named `NAME` or `NAMESPACE NAME`.
fn object(kind: &str, place: &str) -> Node {
    let (namespace, name) = place.split_once(' ').unwrap_or(("", place));
    let mut object = node!({"apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": {
        "name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}, "annotations": {AUTO_UPDATE: "true"}}});
    if !namespace.is_empty() {
        object.set_at(&["metadata", "namespace"], namespace);
    }
    object
}

fn lines(table: &str) -> impl Iterator<Item = &str> {
    table.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

// === changing nodes ===

fn append(object: &mut Node, path: &[&str], items: Vec<Node>) {
    if items.is_empty() {
        return;
    }
    let slot = object.make_at(path);
    match slot {
        Node::List(list) => list.extend(items),
        _ => *slot = Node::List(items),
    }
}

fn append_missing(object: &mut Node, expected: &Node, path: &[&str]) {
    let list = |node: &Node| node.at(path).and_then(Node::as_list).cloned().unwrap_or_default();
    let have = list(object);
    append(
        object,
        path,
        list(expected).into_iter().filter(|item| !have.contains(item)).collect(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn conformance() -> Option<PathBuf> {
        let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance");
        let found = std::env::var_os("FAIRLEAD_CONFORMANCE").map_or(beside, PathBuf::from);
        found.is_dir().then_some(found)
    }

    #[test]
    fn tables_equal_the_recorded_objects() {
        let Some(conformance) = conformance() else {
            return println!("no conformance data: skipped");
        };
        let ours = objects();
        for plural in ["clusterroles", "clusterrolebindings", "roles", "rolebindings"] {
            let text = std::fs::read(conformance.join(format!("golden/bootstrap/{plural}.json"))).unwrap();
            let golden = fairlead_api::json::parse(&text).unwrap();
            let place = |o: &Node| format!("{}/{}", o.namespace(), o.name());
            let mine: Vec<&Node> = ours.iter().filter(|e| e.plural == plural).map(|e| &e.object).collect();
            assert_eq!(mine.len(), golden.list("items").len(), "{plural}");
            for want in golden.list("items") {
                let mut got = (*mine
                    .iter()
                    .find(|o| place(o) == place(want))
                    .expect("every recorded object is ours"))
                .clone();
                got.remove("apiVersion");
                got.remove("kind");
                assert_eq!(&got, want, "{plural} {}", place(want));
            }
        }
        assert!(node_rules().len() > 15);
    }

    #[test]
    fn reconciling_adds_and_never_takes_away() {
        let expected = roles("x\n  get list | core | pods\n", "ClusterRole").remove(0);
        assert_eq!(reconcile(&expected, None), Reconciled::Create(expected.clone()));
        assert_eq!(reconcile(&expected, Some(&expected)), Reconciled::Nothing);
        let mut stored = expected.clone();
        stored.set(
            "rules",
            node!([{"apiGroups": [""], "resources": ["pods", "secrets"], "verbs": ["get"]}]),
        );
        stored.remove_at(&["metadata", "labels"]);
        let Reconciled::Update(updated) = reconcile(&expected, Some(&stored)) else {
            panic!("an update was expected")
        };
        assert_eq!(
            updated.list("rules")[1..],
            [node!({"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]})]
        );
        assert_eq!(updated.labels(), expected.labels());
        stored.set_at(&["metadata", "annotations", AUTO_UPDATE], "false");
        assert_eq!(reconcile(&expected, Some(&stored)), Reconciled::Nothing);
    }

    #[test]
    fn bindings_to_another_role_are_made_anew() {
        let expected = bindings("b = Group g -> r\n", "ClusterRoleBinding", "ClusterRole").remove(0);
        let mut stored = expected.clone();
        stored.set("subjects", node!([{"kind": "User", "name": "u"}]));
        let Reconciled::Update(updated) = reconcile(&expected, Some(&stored)) else {
            panic!("an update was expected")
        };
        assert_eq!(updated.list("subjects").len(), 2);
        stored.set_at(&["roleRef", "name"], "other");
        assert_eq!(reconcile(&expected, Some(&stored)), Reconciled::Recreate(expected));
    }

    #[test]
    fn admin_gathers_what_its_label_finds() {
        let all: Vec<Node> = objects()
            .into_iter()
            .filter(|e| e.plural == "clusterroles")
            .map(|e| e.object)
            .collect();
        let view = all.iter().find(|r| r.name() == "view").unwrap();
        let source = all.iter().find(|r| r.name() == "system:aggregate-to-view").unwrap();
        assert_eq!(aggregated_rules(view, all.iter()).unwrap(), source.list("rules"));
        assert_eq!(aggregated_rules(source, all.iter()), None);
    }
}
