//! What a namespace says about its deletion.
//!
//! Source of conditions, reasons and messages: kubernetes/kubernetes pkg/controller/namespace/deletion.

use fairlead_api::{Node, node};
use std::collections::{BTreeMap, BTreeSet};

/// What stood in the way of emptying a namespace.
#[derive(Default, Debug, PartialEq, Eq)]
pub struct Found {
    /// How many objects are left, by resource as `plural.group`.
    pub remaining: BTreeMap<String, usize>,
    /// How many of them wait for a finalizer, by finalizer.
    pub finalizers: BTreeMap<String, usize>,
    /// Group-versions that could not be asked, and why.
    pub discovery: BTreeMap<String, String>,
    /// Deletes that failed.
    pub content: BTreeSet<String>,
}

impl Found {
    pub fn is_clean(&self) -> bool {
        self.remaining.is_empty() && self.discovery.is_empty() && self.content.is_empty()
    }
}

/// Sets the five conditions of a namespace's deletion. True where one of them differs from before.
pub fn set(namespace: &mut Node, found: &Found, now: &str) -> bool {
    let mut list: Vec<Node> = namespace
        .get("status")
        .map_or(Vec::new(), |s| s.list("conditions").to_vec());
    let mut changed = false;
    for (kind, problem, (fine, fine_message)) in conditions(found) {
        let (status, reason, message) = match &problem {
            Some((reason, message)) => ("True", *reason, message.as_str()),
            None => ("False", fine, fine_message),
        };
        let old = list.iter().position(|c| c.str("type") == kind);
        let known = old.map(|i| &list[i]);
        if known.is_some_and(|c| c.str("status") == status && c.str("reason") == reason && c.str("message") == message)
        {
            continue;
        }
        changed = true;
        let since = known
            .filter(|c| c.str("status") == status)
            .map_or(now, |c| c.str("lastTransitionTime"));
        let condition =
            node!({"type": kind, "status": status, "lastTransitionTime": since, "reason": reason, "message": message});
        match old {
            Some(i) => list[i] = condition,
            None => list.push(condition),
        }
    }
    if changed {
        namespace.set_at(&["status", "conditions"], list);
    }
    changed
}

/// Type, what is wrong, and reason and message where nothing is.
type Condition = (
    &'static str,
    Option<(&'static str, String)>,
    (&'static str, &'static str),
);

fn conditions(found: &Found) -> [Condition; 5] {
    let problem = |bad: bool, reason, message: &dyn Fn() -> String| bad.then(|| (reason, message()));
    let counted = |items: &BTreeMap<String, usize>, between: &str| {
        let parts: Vec<String> = items
            .iter()
            .map(|(what, n)| format!("{what} {between} {n} resource instances"))
            .collect();
        parts.join(", ")
    };
    let discovery = || {
        let failed: Vec<String> = found.discovery.iter().map(|(gv, why)| format!("{gv}: {why}")).collect();
        format!(
            "Discovery failed for some groups, {} failing: unable to retrieve the complete list of server APIs: {}",
            failed.len(),
            failed.join(", ")
        )
    };
    let content = || {
        let failed: Vec<&str> = found.content.iter().map(String::as_str).collect();
        format!(
            "Failed to delete all resource types, {} remaining: {}",
            failed.len(),
            failed.join(", ")
        )
    };
    let remaining = || format!("Some resources are remaining: {}", counted(&found.remaining, "has"));
    let finalizers = || {
        format!(
            "Some content in the namespace has finalizers remaining: {}",
            counted(&found.finalizers, "in")
        )
    };
    [
        (
            "NamespaceDeletionDiscoveryFailure",
            problem(!found.discovery.is_empty(), "DiscoveryFailed", &discovery),
            ("ResourcesDiscovered", "All resources successfully discovered"),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
        ),
        (
            "NamespaceDeletionContentFailure",
            problem(!found.content.is_empty(), "ContentDeletionFailed", &content),
            (
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization",
            ),
        ),
        (
            "NamespaceContentRemaining",
            problem(!found.remaining.is_empty(), "SomeResourcesRemain", &remaining),
            ("ContentRemoved", "All content successfully removed"),
        ),
        (
            "NamespaceFinalizersRemaining",
            problem(!found.finalizers.is_empty(), "SomeFinalizersRemain", &finalizers),
            ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_tell_what_is_in_the_way_and_since_when() {
        let mut namespace = node!({"metadata": {"name": "n"}});
        let mut found = Found::default();
        // COMPAT: the core group leaves a dot behind.
        found.remaining.insert("pods.".into(), 2);
        found.finalizers.insert("example.com/f".into(), 1);
        found.discovery.insert(
            "g.example.com/v1".into(),
            "stale GroupVersion discovery: g.example.com/v1".into(),
        );
        assert!(set(&mut namespace, &found, "then"));
        let of = |namespace: &Node, kind: &str| {
            let conditions = namespace.get("status").unwrap().list("conditions").to_vec();
            let c = conditions.iter().find(|c| c.str("type") == kind).unwrap();
            (
                c.str("status").to_owned(),
                c.str("lastTransitionTime").to_owned(),
                c.str("message").to_owned(),
            )
        };
        let said = |status: &str, at: &str, message: &str| (status.to_owned(), at.to_owned(), message.to_owned());
        assert_eq!(
            of(&namespace, "NamespaceContentRemaining"),
            said(
                "True",
                "then",
                "Some resources are remaining: pods. has 2 resource instances"
            )
        );
        assert_eq!(
            of(&namespace, "NamespaceDeletionDiscoveryFailure").2,
            "Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs: \
             g.example.com/v1: stale GroupVersion discovery: g.example.com/v1"
        );
        assert!(!set(&mut namespace, &found, "later"));
        found.remaining.insert("pods.".into(), 1);
        found.finalizers.clear();
        assert!(set(&mut namespace, &found, "later"));
        assert_eq!(of(&namespace, "NamespaceContentRemaining").1, "then");
        assert_eq!(
            of(&namespace, "NamespaceFinalizersRemaining"),
            said("False", "later", "All content-preserving finalizers finished")
        );
    }
}
