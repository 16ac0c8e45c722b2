//! Which of its names a CustomResourceDefinition gets, and the conditions that say so.
//!
//! Source of reasons and messages: apiextensions-apiserver pkg/controller/status/naming_controller.go and
//! pkg/controller/establish.

use crate::condition::{self, Condition};
use fairlead_api::{Node, node};
use std::collections::BTreeSet;

/// Computes `status.acceptedNames` and the conditions NamesAccepted and Established of `crd`, beside `others` of
/// all groups. Answers whether the status changed.
pub fn accept(crd: &mut Node, others: &[&Node], now: &str) -> bool {
    let before = crd.get("status").cloned();
    let group = crd.str_at(&["spec", "group"]).to_owned();
    let taken = Taken::of(others.iter().copied().filter(|o| o.str_at(&["spec", "group"]) == group));
    let requested = crd.at(&["spec", "names"]).cloned().unwrap_or_default();
    let mut accepted = crd.at(&["status", "acceptedNames"]).cloned().unwrap_or_else(Node::map);
    let mut conflict: Option<(&str, String)> = None;

    for (field, reason, set) in [
        ("plural", "PluralConflict", &taken.resources),
        ("singular", "SingularConflict", &taken.resources),
        ("kind", "KindConflict", &taken.kinds),
        ("listKind", "ListKindConflict", &taken.kinds),
    ] {
        let name = requested.str(field);
        if field == "kind" {
            short_names(&requested, &mut accepted, &taken.resources, &mut conflict);
        }
        if name.is_empty() || name == accepted.str(field) || !set.contains(name) {
            if !name.is_empty() {
                accepted.set(field, name);
            }
        } else {
            conflict = Some((
                reason,
                format!("{} is already in use", fairlead_api::field::go_quote(name)),
            ));
        }
    }
    match requested.get("categories") {
        Some(categories) => accepted.set("categories", categories.clone()),
        None => {
            accepted.remove("categories");
        }
    }
    crd.set_at(&["status", "acceptedNames"], accepted);

    let free = conflict.is_none();
    let names = match &conflict {
        None => Condition::new("NamesAccepted", true, "NoConflicts", "no conflicts found"),
        Some((reason, message)) => Condition::new("NamesAccepted", false, reason, message),
    };
    condition::set(crd, &names, now);
    let established = if free || condition::is_true(crd, "Established") {
        Condition::new(
            "Established",
            true,
            "InitialNamesAccepted",
            "the initial names have been accepted",
        )
    } else {
        Condition::new("Established", false, "NotAccepted", "not all names are accepted")
    };
    condition::set(crd, &established, now);
    crd.get("status") != before.as_ref()
}

fn short_names(requested: &Node, accepted: &mut Node, taken: &BTreeSet<&str>, conflict: &mut Option<(&str, String)>) {
    let held: BTreeSet<&str> = accepted.list("shortNames").iter().filter_map(Node::as_str).collect();
    let wanted: Vec<&str> = requested.list("shortNames").iter().filter_map(Node::as_str).collect();
    let errors: Vec<String> = wanted
        .iter()
        .filter(|name| !held.contains(*name) && taken.contains(*name))
        .map(|name| format!("{} is already in use", fairlead_api::field::go_quote(name)))
        .collect();
    if !errors.is_empty() {
        let text = if errors.len() == 1 {
            errors[0].clone()
        } else {
            format!("[{}]", errors.join(", "))
        };
        *conflict = Some(("ShortNamesConflict", text));
    } else if wanted.is_empty() {
        accepted.remove("shortNames");
    } else {
        accepted.set("shortNames", wanted.iter().map(|n| Node::from(*n)).collect::<Vec<_>>());
    }
}

/// The names that other definitions of a group hold.
struct Taken<'a> {
    resources: BTreeSet<&'a str>,
    kinds: BTreeSet<&'a str>,
}

impl<'a> Taken<'a> {
    fn of(others: impl Iterator<Item = &'a Node>) -> Taken<'a> {
        let (mut resources, mut kinds) = (BTreeSet::new(), BTreeSet::new());
        for names in others.filter_map(|o| o.at(&["status", "acceptedNames"])) {
            let short = names.list("shortNames").iter().filter_map(Node::as_str);
            resources.extend(["plural", "singular"].map(|f| names.str(f)).into_iter().chain(short));
            kinds.extend(["kind", "listKind"].map(|f| names.str(f)));
        }
        Taken { resources, kinds }
    }
}

/// The status of a new object: nothing accepted yet, the storage version recorded.
pub fn initial_status(crd: &Node) -> Node {
    let mut status = node!({"acceptedNames": {"kind": "", "plural": ""}, "conditions": null});
    status.set("storedVersions", stored_versions(crd));
    status
}

/// The version that objects are stored in, as a list.
pub fn stored_versions(crd: &Node) -> Node {
    let stored = crate::versions(crd).find(|v| v.get("storage").and_then(Node::as_bool) == Some(true));
    stored.map_or(Node::Null, |v| Node::List(vec![Node::from(v.str("name"))]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crd(plural: &str, kind: &str) -> Node {
        node!({"spec": {"group": "g.io", "names": {"plural": plural, "singular": plural, "kind": kind, "listKind": format!("{kind}List")}}})
    }

    #[test]
    fn the_first_gets_its_names_and_the_second_is_told_why_not() {
        let mut first = crd("widgets", "Widget");
        assert!(accept(&mut first, &[], "t"));
        assert!(condition::is_true(&first, "Established"));
        assert!(!accept(&mut first, &[], "later"));

        let mut second = crd("gadgets", "Widget");
        accept(&mut second, &[&first], "t");
        assert!(!condition::is_true(&second, "Established"));
        let names = condition::get(&second, "NamesAccepted").unwrap();
        assert_eq!(
            (names.str("reason"), names.str("message")),
            ("ListKindConflict", "\"WidgetList\" is already in use")
        );
        assert_eq!(second.str_at(&["status", "acceptedNames", "plural"]), "gadgets");
        assert_eq!(second.str_at(&["status", "acceptedNames", "kind"]), "");
    }
}
