//! What may change in a pod: little of its spec, and ephemeral containers only by being added.

use super::super::at::At;
use super::super::{common, difference, shown};
use super::{Leniency, annotations, scheduling, validate_whole};
use fairlead_api::{FieldError, FieldErrors, FieldPath, Node, name};
use std::collections::HashSet;

const SPEC: &str = "core.PodSpec";
const UPDATABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";

pub fn validate_update(new: &Node, old: &Node, errors: &mut FieldErrors) {
    let leniency = Leniency::of_pod(old);
    whole_update(new, old, &leniency, errors);
    let (new_root, old_root) = (At::root(new), At::root(old));
    let (spec, old_spec) = (new_root.part("spec"), old_root.part("spec"));
    for list in ["containers", "initContainers"] {
        if !same_containers(&spec, &old_spec, list, errors) {
            return;
        }
    }
    if !deadline(&spec, &old_spec, errors) {
        return;
    }
    only_added_tolerations(&spec, &old_spec, &leniency, errors);
    only_deleted_gates(&spec, &old_spec, errors);
    if shown::equal(SPEC, Some(spec.node), Some(old_spec.node)) {
        return;
    }
    let mut masked = with_mutable_parts_of(spec.node, old_spec.node);
    if old_spec.len("schedulingGates") > 0 {
        gated_changes(&mut masked, &old_spec, errors);
    }
    if !shown::equal(SPEC, Some(&masked), Some(old_spec.node)) {
        let (before, after) = (
            shown::pretty(SPEC, Some(old_spec.node)),
            shown::pretty(SPEC, Some(&masked)),
        );
        let detail = format!("{UPDATABLE}\n{}", difference::unified(&before, &after));
        spec.forbidden("", detail, errors);
    }
}

/// What all updates of pods begin with.
fn whole_update(new: &Node, old: &Node, leniency: &Leniency, errors: &mut FieldErrors) {
    common::finalizers(new, errors);
    validate_whole(new, leniency, errors);
    annotations::validate_update(new, old, errors);
    let root = At::root(new);
    annotations::validate(new, &root.part("spec"), leniency, errors);
}

fn same_containers(spec: &At, old: &At, list: &str, errors: &mut FieldErrors) -> bool {
    if spec.len(list) != old.len(list) {
        spec.forbidden(list, "pod updates may not add or remove containers", errors);
        return false;
    }
    let path = spec.path_of(list);
    for (i, container) in spec.list(list).iter().enumerate() {
        let path = path.index(i);
        let container = At::named(container, path.as_str());
        container.require("image", errors);
        super::containers::image_without_spaces(&container, errors);
    }
    true
}

/// Answers whether checks go on.
fn deadline(spec: &At, old: &At, errors: &mut FieldErrors) -> bool {
    const FIELD: &str = "activeDeadlineSeconds";
    match (spec.number(FIELD), old.number(FIELD)) {
        (Some(now), _) if !name::is_in_range(now, 0, i32::MAX.into()).is_empty() => {
            for complaint in name::is_in_range(now, 0, i32::MAX.into()) {
                spec.invalid(FIELD, now, complaint, errors);
            }
            false
        }
        (Some(now), Some(before)) if before < now => {
            let detail = "must be less than or equal to previous value";
            spec.invalid(FIELD, now, detail, errors);
            false
        }
        (None, Some(_)) => {
            let detail = "must not update from a positive integer to nil value";
            spec.invalid(FIELD, Node::Null, detail, errors);
            true
        }
        _ => true,
    }
}

fn only_added_tolerations(spec: &At, old: &At, leniency: &Leniency, errors: &mut FieldErrors) {
    let same = |a: &Node, b: &Node| {
        ["key", "operator", "value", "effect"]
            .iter()
            .all(|f| a.str(f) == b.str(f))
    };
    let kept = |toleration: &Node| spec.list("tolerations").iter().any(|new| same(new, toleration));
    if !old.list("tolerations").iter().all(kept) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        spec.forbidden("tolerations", detail, errors);
        return;
    }
    scheduling::tolerations(spec, "tolerations", leniency.comparison_tolerations, errors);
}

fn only_deleted_gates(spec: &At, old: &At, errors: &mut FieldErrors) {
    let known: HashSet<&str> = old
        .list("schedulingGates")
        .iter()
        .map(|gate| gate.str("name"))
        .collect();
    for gate in spec.each("schedulingGates") {
        let name = gate.str("name");
        if !known.contains(name) {
            let detail = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            gate.forbidden("name", detail, errors);
        }
    }
}

/// The new spec with what may change as it was.
fn with_mutable_parts_of(new: &Node, old: &Node) -> Node {
    let mut masked = new.clone();
    for list in ["containers", "initContainers"] {
        let images: Vec<Option<Node>> = old.list(list).iter().map(|c| c.get("image").cloned()).collect();
        if let Some(Node::List(containers)) = masked.get_mut(list) {
            for (container, image) in containers.iter_mut().zip(images) {
                container.set("image", image.unwrap_or_else(|| Node::string("")));
            }
        }
        // Upstream rebuilds these lists, so that an empty one is none.
        if masked.list(list).is_empty() {
            masked.remove(list);
        }
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        crate::value::copy(&mut masked, old, &[field]);
    }
    const GRACE: &str = "terminationGracePeriodSeconds";
    let grace = |spec: &Node| spec.get(GRACE).and_then(Node::as_i64);
    if grace(old).is_some_and(|seconds| seconds < 0) && grace(&masked) == Some(1) {
        crate::value::copy(&mut masked, old, &[GRACE]);
    }
    masked
}

// === pods that wait at gates may be narrowed ===

fn gated_changes(masked: &mut Node, old: &At, errors: &mut FieldErrors) {
    let empty = Node::map();
    let selector = masked.get("nodeSelector").cloned().unwrap_or_else(Node::map);
    let old_selector = old.node.get("nodeSelector").unwrap_or(&empty);
    let path = old.path();
    if let Some(labels) = old_selector.as_map()
        && labels.iter().any(|(key, value)| selector.get(key) != Some(value))
    {
        let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        let text = shown::json("{}string", masked.get("nodeSelector"));
        errors.push(FieldError::invalid(&path.child("nodeSelector"), Node::Null, detail).showing(text));
    }
    crate::value::copy(masked, old.node, &["nodeSelector"]);

    const NODE: &[&str] = &["affinity", "nodeAffinity"];
    let (new_affinity, old_affinity) = (masked.at(NODE).cloned(), old.node.at(NODE).cloned());
    if shown::equal("*core.NodeAffinity", new_affinity.as_ref(), old_affinity.as_ref()) {
        return;
    }
    let path = path.child("affinity.nodeAffinity");
    affinity_change(&path, new_affinity.as_ref(), old_affinity.as_ref(), errors);
    let others = |spec: &Node| {
        ["podAffinity", "podAntiAffinity"]
            .iter()
            .any(|kind| spec.at(&["affinity", kind]).is_some())
    };
    match old_affinity {
        None if old.node.get("affinity").is_none() && !others(masked) => {
            masked.remove("affinity");
        }
        None => {
            masked.remove_at(NODE);
        }
        Some(affinity) => masked.set_at(NODE, affinity),
    }
}

fn affinity_change(path: &FieldPath, new: Option<&Node>, old: Option<&Node>, errors: &mut FieldErrors) {
    let terms = |affinity: Option<&Node>| {
        let required = affinity.and_then(|affinity| affinity.get(REQUIRED));
        required.and_then(|selector| selector.get("nodeSelectorTerms")).cloned()
    };
    let (new, old) = (terms(new), terms(old));
    let path = path.child(REQUIRED).child("nodeSelectorTerms");
    let list = |terms: &Option<Node>| terms.as_ref().and_then(Node::as_list).cloned().unwrap_or_default();
    let (new_terms, old_terms) = (list(&new), list(&old));
    if !old_terms.is_empty() && old_terms.len() != new_terms.len() {
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        let text = shown::json("[]core.NodeSelectorTerm", new.as_ref());
        errors.push(FieldError::invalid(&path, Node::Null, detail).showing(text));
        return;
    }
    for (i, (new, old)) in new_terms.iter().zip(&old_terms).enumerate() {
        if !only_additions(new, old) {
            let detail = "only additions are allowed (no mutations or deletions)";
            let text = shown::json("core.NodeSelectorTerm", Some(new));
            errors.push(FieldError::invalid(&path.index(i), Node::Null, detail).showing(text));
        }
    }
}

fn only_additions(new: &Node, old: &Node) -> bool {
    const LISTS: [&str; 2] = ["matchExpressions", "matchFields"];
    let empty = |term: &Node| LISTS.iter().all(|list| term.list(list).is_empty());
    if empty(old) {
        return empty(new);
    }
    LISTS.iter().all(|list| new.list(list).starts_with(old.list(list)))
}

// === ephemeral containers ===

pub fn validate_ephemeral_containers(new: &Node, old: &Node, errors: &mut FieldErrors) {
    const KIND: &str = "core.EphemeralContainer";
    let before = errors.len();
    whole_update(new, old, &Leniency::of_pod(old), errors);
    if old
        .annotations()
        .is_some_and(|annotations| annotations.contains_key(annotations::MIRROR))
    {
        errors.truncate(before);
        let detail = "static pods do not support ephemeral containers";
        errors.push(FieldError::forbidden(&FieldPath::root(), detail));
        return;
    }
    let path = FieldPath::new("spec.ephemeralContainers");
    let list = |pod: &Node| crate::value::list(pod, &["spec", "ephemeralContainers"]).to_vec();
    let containers = list(new);
    for old in list(old) {
        let name = old.str("name");
        let quoted = fairlead_api::field::go_quote(name);
        let detail = match containers.iter().rev().find(|container| container.str("name") == name) {
            None => format!("existing ephemeral containers {quoted} may not be removed\n"),
            Some(new) if !shown::equal(KIND, Some(new), Some(&old)) => {
                let (before, after) = (shown::pretty(KIND, Some(&old)), shown::pretty(KIND, Some(new)));
                let difference = difference::unified(&before, &after);
                format!("existing ephemeral containers {quoted} may not be changed\n{difference}")
            }
            Some(_) => continue,
        };
        errors.push(FieldError::forbidden(&path, detail));
    }
}
