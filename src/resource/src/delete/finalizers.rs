//! The garbage collector's finalizers: what a propagation policy makes of them.

use super::{DeleteOptions, Propagation};
use fairlead_api::Node;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// Sets the finalizers that the options ask for, or else those there are, or else the kind's default. Answers whether that changed which ones there are.
pub fn settle(object: &mut Node, options: &DeleteOptions, orphan_by_default: bool) -> bool {
    let had = |name: &str| object.finalizers().any(|f| f == name);
    let first = object
        .finalizers()
        .find(|f| *f == ORPHAN || *f == FOREGROUND)
        .map(String::from);
    let (orphan, foreground) = match (options.orphan_dependents, options.propagation) {
        (Some(orphan), _) => (orphan, false),
        (None, Some(policy)) => (policy == Propagation::Orphan, policy == Propagation::Foreground),
        (None, None) => match first.as_deref() {
            Some(finalizer) => (finalizer == ORPHAN, finalizer == FOREGROUND),
            None => (orphan_by_default, false),
        },
    };
    if had(ORPHAN) == orphan && had(FOREGROUND) == foreground {
        return false;
    }
    let others = object
        .finalizers()
        .filter(|f| *f != ORPHAN && *f != FOREGROUND)
        .map(Node::string);
    let mut finalizers: Vec<Node> = others.collect();
    finalizers.extend(orphan.then(|| Node::string(ORPHAN)));
    finalizers.extend(foreground.then(|| Node::string(FOREGROUND)));
    if finalizers.is_empty() {
        object.meta_mut().remove("finalizers");
    } else {
        object.meta_mut().insert("finalizers", Node::List(finalizers));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    fn settled(finalizers: &[&str], options: DeleteOptions) -> Vec<String> {
        let list = Node::List(finalizers.iter().map(|f| Node::string(*f)).collect());
        let mut object = node!({"metadata": {}});
        object.set_at(&["metadata", "finalizers"], list);
        settle(&mut object, &options, false);
        object.finalizers().map(String::from).collect()
    }

    #[test]
    fn policies_set_and_clear_finalizers() {
        let policy = |propagation| DeleteOptions {
            propagation: Some(propagation),
            ..DeleteOptions::default()
        };
        assert_eq!(
            settled(&["a"], policy(Propagation::Foreground)),
            ["a", "foregroundDeletion"]
        );
        assert_eq!(settled(&["orphan", "a"], policy(Propagation::Background)), ["a"]);
        assert_eq!(
            settled(&["foregroundDeletion"], policy(Propagation::Orphan)),
            ["orphan"]
        );
        assert_eq!(settled(&["orphan"], DeleteOptions::default()), ["orphan"]);
        let orphan = DeleteOptions {
            orphan_dependents: Some(true),
            ..DeleteOptions::default()
        };
        assert_eq!(settled(&[], orphan), ["orphan"]);
    }
}
