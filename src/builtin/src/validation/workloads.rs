//! Deployments, replica sets, stateful sets, daemon sets, replication controllers and controller revisions.
//!
//! Source of the rules and wording: kubernetes pkg/apis/apps/validation and pkg/apis/core/validation.

mod counts;
mod strategies;

pub use counts::{greater_than, int_or_percent, non_negative_fields, not_decremented, percent_limit, value_of};

use super::at::At;
use super::pod::{self, Leniency};
use super::{claims, common, shown};
use fairlead_api::metadata::SelectorLeniency;
use fairlead_api::selector::LabelSelector;
use fairlead_api::{FieldError, FieldErrors, FieldPath, Map, Node, name};

const SELECTOR: &str = "*labelSelector";
const LABELS_MISMATCH: &str = "`selector` does not match template `labels`";

// === what they share ===

/// A selector that must be there, be valid and select something. Answers it, where it can be read.
fn required_selector(spec: &At, empty_detail: &str, errors: &mut FieldErrors) -> Option<LabelSelector> {
    match spec.get("selector") {
        None => spec.required("selector", "", errors),
        Some(selector) => {
            common::label_selector(spec, "selector", errors);
            selects_something(spec, &selector, empty_detail, errors);
        }
    }
    LabelSelector::from_node(spec.node.get("selector").unwrap_or(&Node::Null)).ok()
}

fn selects_something(spec: &At, selector: &At, detail: &str, errors: &mut FieldErrors) {
    if selector.len("matchLabels") + selector.len("matchExpressions") == 0 {
        let text = shown::json("labelSelector", Some(selector.node));
        spec.invalid_shown("selector", text, detail, errors);
    }
}

/// The selector must match what the template makes.
pub fn template_labels(spec: &At, selector: &LabelSelector, errors: &mut FieldErrors) {
    let labels = spec.node.at(&["template", "metadata", "labels"]);
    if !selector.is_empty() && !selector.matches(labels.and_then(Node::as_map)) {
        let path = spec.path_of("template").child("metadata").child("labels");
        let text = shown::json("{}string", labels);
        errors.push(FieldError::invalid(&path, Node::Null, LABELS_MISMATCH).showing(text));
    }
}

/// Pods that are replaced run until they are told to stop.
fn always_restarts(spec: &At, kind: &str, errors: &mut FieldErrors) {
    let template = spec.part("template");
    let pods = template.part("spec");
    if pods.str("restartPolicy") != "Always" {
        pods.not_supported("restartPolicy", pods.str("restartPolicy"), &["Always"], errors);
    }
    if pods.has("activeDeadlineSeconds") {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        pods.forbidden("activeDeadlineSeconds", detail, errors);
    }
}

fn template_leniency(old: Option<&Node>) -> Leniency {
    Leniency::of_template(old.and_then(|old| old.at(&["spec", "template"])))
}

fn spec_of<'a>(root: &'a At<'a>) -> At<'a> {
    root.part("spec")
}

// === deployments and replica sets ===

pub fn deployment(new: &Node, old: Option<&Node>, errors: &mut FieldErrors) {
    metadata(new, old, name::name_is_dns_subdomain, errors);
    let root = At::root(new);
    let spec = spec_of(&root);
    spec.non_negative("replicas", errors);
    replica_template(&spec, old, errors);
    strategies::of_deployment(&spec, errors);
    non_negative_fields(&spec, &["minReadySeconds", "revisionHistoryLimit"], errors);
    if let Some(deadline) = spec.number("progressDeadlineSeconds") {
        spec.non_negative("progressDeadlineSeconds", errors);
        if deadline <= spec.int("minReadySeconds") {
            let detail = "must be greater than minReadySeconds";
            spec.invalid("progressDeadlineSeconds", deadline, detail, errors);
        }
    }
    immutable_selector(&spec, old, errors);
}

pub fn replica_set(new: &Node, old: Option<&Node>, errors: &mut FieldErrors) {
    metadata(new, old, name::name_is_dns_subdomain, errors);
    let root = At::root(new);
    let spec = spec_of(&root);
    non_negative_fields(&spec, &["replicas", "minReadySeconds"], errors);
    replica_template(&spec, old, errors);
    immutable_selector(&spec, old, errors);
}

/// On create the whole metadata; on update what the engine leaves.
fn metadata(new: &Node, old: Option<&Node>, name: name::NameFn, errors: &mut FieldErrors) {
    match old {
        None => common::object_meta(new, true, name, errors),
        Some(_) => common::finalizers(new, errors),
    }
}

/// COMPAT: replica sets, too, say deployment.
fn replica_template(spec: &At, old: Option<&Node>, errors: &mut FieldErrors) {
    match required_selector(spec, "empty selector is invalid for deployment", errors) {
        None => {
            let text = shown::json(SELECTOR, spec.node.get("selector"));
            spec.invalid_shown("selector", text, "invalid label selector", errors);
        }
        Some(selector) => {
            template_labels(spec, &selector, errors);
            pod::template(spec, "template", &template_leniency(old), errors);
            always_restarts(spec, "ReplicaSet", errors);
        }
    }
}

fn immutable_selector(spec: &At, old: Option<&Node>, errors: &mut FieldErrors) {
    if let Some(old) = old.and_then(|old| old.get("spec")) {
        common::immutable(spec, old, "selector", SELECTOR, errors);
    }
}

pub fn deployment_status(new: &Node, old: &Node, errors: &mut FieldErrors) {
    common::finalizers(new, errors);
    let root = At::root(new);
    let status = root.part("status");
    let fields = [
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "terminatingReplicas",
        "collisionCount",
    ];
    non_negative_fields(&status, &fields, errors);
    greater_than(
        &status,
        &["updatedReplicas", "readyReplicas", "availableReplicas"],
        errors,
    );
    counts::available_within_ready(&status, "cannot be greater than readyReplicas", errors);
    not_decremented(&status, old, "collisionCount", errors);
}

/// Of replica sets and replication controllers.
pub fn replicas_status(new: &Node, errors: &mut FieldErrors) {
    common::finalizers(new, errors);
    let root = At::root(new);
    let status = root.part("status");
    let fields = [
        "replicas",
        "fullyLabeledReplicas",
        "readyReplicas",
        "availableReplicas",
        "observedGeneration",
        "terminatingReplicas",
    ];
    non_negative_fields(&status, &fields, errors);
    greater_than(
        &status,
        &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
        errors,
    );
    counts::available_within_ready(&status, "cannot be greater than readyReplicas", errors);
}

// === replication controllers ===

pub fn replication_controller(new: &Node, old: Option<&Node>, errors: &mut FieldErrors) {
    metadata(new, old, long_name, errors);
    let root = At::root(new);
    let spec = spec_of(&root);
    spec.non_negative("minReadySeconds", errors);
    if spec.len("selector") == 0 {
        spec.required("selector", "", errors);
    }
    match spec.has("replicas") {
        true => spec.non_negative("replicas", errors),
        false => spec.required("replicas", "", errors),
    }
    if !spec.has("template") {
        spec.required("template", "", errors);
        return;
    }
    let empty = Map::new();
    let selector = spec.node.get("selector").and_then(Node::as_map).unwrap_or(&empty);
    template_labels(&spec, &LabelSelector::from_map(selector), errors);
    pod::template(&spec, "template", &template_leniency(old), errors);
    always_restarts(&spec, "ReplicationController", errors);
}

/// COMPAT: the one name whose rule is declared at its type: prefixes are not checked, and lengths are told in bytes.
fn long_name(name: &str, prefix: bool) -> Vec<String> {
    match prefix {
        true => Vec::new(),
        false => {
            let complaints = name::name_is_dns_subdomain(name, false).into_iter();
            complaints
                .map(|complaint| complaint.replace("253 characters", "253 bytes"))
                .collect()
        }
    }
}

// === daemon sets ===

pub fn daemon_set(new: &Node, old: Option<&Node>, errors: &mut FieldErrors) {
    metadata(new, old, name::name_is_dns_subdomain, errors);
    let root = At::root(new);
    let spec = spec_of(&root);
    immutable_selector(&spec, old, errors);
    let mut leniency = template_leniency(old);
    let old_selector = old.and_then(|old| old.at(&["spec", "selector"]));
    leniency.affinity_label_values |= old_selector.is_some_and(has_bad_values);
    let selectors = SelectorLeniency {
        any_values: leniency.affinity_label_values,
        ..SelectorLeniency::default()
    };
    common::label_selector_with(&spec, "selector", selectors, errors);
    if let Ok(selector) = LabelSelector::from_node(spec.node.get("selector").unwrap_or(&Node::Null))
        && !selector.is_empty()
    {
        template_labels(&spec, &selector, errors);
    }
    if let Some(selector) = spec.get("selector") {
        selects_something(&spec, &selector, "empty selector is invalid for daemonset", errors);
    }
    pod::template(&spec, "template", &leniency, errors);
    always_restarts(&spec, "DaemonSet", errors);
    spec.non_negative("minReadySeconds", errors);
    strategies::of_daemon_set(&spec, errors);
    non_negative_fields(&spec, &["revisionHistoryLimit"], errors);
}

/// Whether a stored selector has values that no label can have.
pub fn has_bad_values(selector: &Node) -> bool {
    let mut values = selector.list("matchExpressions").iter().flat_map(|e| e.list("values"));
    values.any(|value| !name::is_valid_label_value(value.as_str().unwrap_or_default()).is_empty())
}

pub fn daemon_set_status(new: &Node, old: &Node, errors: &mut FieldErrors) {
    common::finalizers(new, errors);
    let root = At::root(new);
    let status = root.part("status");
    let fields = [
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        "collisionCount",
    ];
    non_negative_fields(&status, &fields, errors);
    not_decremented(&status, old, "collisionCount", errors);
}

// === stateful sets ===

/// What a stateful set that is stored may keep.
#[derive(Clone, Copy, Default)]
struct Kept {
    service_name: bool,
    template: bool,
    claims: bool,
}

pub fn stateful_set(new: &Node, old: Option<&Node>, errors: &mut FieldErrors) {
    metadata(new, old, name::name_is_dns_label, errors);
    let root = At::root(new);
    let spec = spec_of(&root);
    let leniency = template_leniency(old);
    let Some(old) = old else {
        return stateful_spec(&spec, &leniency, Kept::default(), errors);
    };
    let mut kept = Kept {
        service_name: true,
        template: false,
        claims: true,
    };
    let old_root = At::root(old);
    let mut old_errors = FieldErrors::new();
    stateful_spec(&spec_of(&old_root), &leniency, kept, &mut old_errors);
    kept.template = !old_errors.is_empty();
    stateful_spec(&spec, &leniency, kept, errors);
    only_mutable_changes(&spec, old, errors);
}

fn only_mutable_changes(spec: &At, old: &Node, errors: &mut FieldErrors) {
    const KIND: &str = "apps.StatefulSetSpec";
    let Some(old) = old.get("spec") else { return };
    let mut masked = spec.node.clone();
    for field in [
        "replicas",
        "template",
        "updateStrategy",
        "minReadySeconds",
        "ordinals",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
    ] {
        crate::value::copy(&mut masked, old, &[field]);
    }
    if !shown::equal(KIND, Some(&masked), Some(old)) {
        let detail = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
        spec.forbidden("", detail, errors);
    }
}

fn stateful_spec(spec: &At, leniency: &Leniency, kept: Kept, errors: &mut FieldErrors) {
    match spec.str("podManagementPolicy") {
        "" => spec.required("podManagementPolicy", "", errors),
        "OrderedReady" | "Parallel" => {}
        other => spec.invalid(
            "podManagementPolicy",
            other,
            "must be 'OrderedReady' or 'Parallel'",
            errors,
        ),
    }
    strategies::of_stateful_set(spec, errors);
    if let Some(policy) = spec.get("persistentVolumeClaimRetentionPolicy") {
        for field in ["whenDeleted", "whenScaled"] {
            policy.one_of(field, &["Retain", "Delete"], errors);
        }
    }
    if !kept.claims {
        for claim in spec.each("volumeClaimTemplates") {
            claims::spec(&claim.part("spec"), &claims::Leniency::default(), errors);
        }
    }
    non_negative_fields(spec, &["replicas", "minReadySeconds"], errors);
    if let Some(ordinals) = spec.get("ordinals") {
        let start = ordinals.int("start");
        if start < 0 {
            spec.invalid("ordinals.start", start, common::NEGATIVE, errors);
        }
    }
    if !kept.service_name && !spec.str("serviceName").is_empty() {
        common::dns_label(spec, "serviceName", errors);
    }
    match required_selector(spec, "empty selector is invalid for statefulset", errors) {
        None => {
            let text = shown::json(SELECTOR, spec.node.get("selector"));
            spec.invalid_shown("selector", text, "", errors);
        }
        Some(selector) => {
            template_labels(spec, &selector, errors);
            stateful_template(spec, leniency, kept, errors);
        }
    }
    always_restarts(spec, "StatefulSet", errors);
}

/// The template, without what the controller overwrites and with the volumes it adds.
fn stateful_template(spec: &At, leniency: &Leniency, kept: Kept, errors: &mut FieldErrors) {
    let mut changed = Node::map();
    changed.set("template", spec.node.get("template").cloned().unwrap_or_else(Node::map));
    let pods = changed.make_at(&["template", "spec"]);
    for field in ["subdomain", "hostname"] {
        pods.remove(field);
    }
    let names: Vec<&str> = spec.list("volumeClaimTemplates").iter().map(Node::name).collect();
    if !names.is_empty() {
        let mut volumes: Vec<Node> = names.iter().map(|name| claim_volume(name)).collect();
        let own = pods
            .list("volumes")
            .iter()
            .filter(|volume| !names.contains(&volume.str("name")));
        volumes.extend(own.cloned());
        pods.set("volumes", volumes);
    }
    let path = spec.path();
    let at = At::named(&changed, path.as_str());
    if !kept.template {
        pod::template(&at, "template", leniency, errors);
    }
    // COMPAT: labels and annotations are checked once more.
    pod::template_metadata(&at, "template", leniency, errors);
}

fn claim_volume(name: &str) -> Node {
    let mut claim = Node::map();
    claim.set("claimName", name);
    let mut volume = Node::map();
    volume.set("name", name);
    volume.set("persistentVolumeClaim", claim);
    volume
}

pub fn stateful_set_status(new: &Node, old: &Node, errors: &mut FieldErrors) {
    let root = At::root(new);
    let status = root.part("status");
    let fields = [
        "replicas",
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
        "observedGeneration",
        "collisionCount",
    ];
    non_negative_fields(&status, &fields, errors);
    let parts = [
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
    ];
    greater_than(&status, &parts, errors);
    counts::available_within_ready(&status, "cannot be greater than status.readyReplicas", errors);
    common::finalizers(new, errors);
    not_decremented(&status, old, "collisionCount", errors);
}

// === controller revisions ===

pub fn controller_revision(new: &Node, old: Option<&Node>, errors: &mut FieldErrors) {
    if old.is_some() {
        common::finalizers(new, errors);
    }
    common::object_meta(new, true, name::name_is_dns_subdomain, errors);
    let root = At::root(new);
    root.non_negative("revision", errors);
    let Some(old) = old else {
        match new.get("data") {
            None | Some(Node::Null) => root.required("data", "data is mandatory", errors),
            Some(Node::Map(_)) => {}
            Some(_) => root.required("data", "data must be a valid JSON object", errors),
        }
        return;
    };
    let (data, old_data) = (new.get("data"), old.get("data"));
    if data != old_data {
        errors.push(common::changed(&FieldPath::new("data"), data, "any", common::IMMUTABLE));
    }
}
