//! RuntimeClasses.

use crate::cells::Row;
use crate::pod_spec::round_quantities;
use crate::validation::at::At;
use crate::validation::{common, node_labels, pod, shown, values};
use crate::value::{self, with};
use fairlead_api::name;
use fairlead_api::{FieldError, FieldErrors, Map, Node};
use fairlead_resource::{HookContext, Hooks};
use std::collections::BTreeSet;

pub struct RuntimeClasses;

impl Hooks for RuntimeClasses {
    fn default(&self, object: &mut Node) {
        with(object, &["overhead", "podFixed"], round_quantities);
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validate(object, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validate(object, errors);
        values::plain_meta_update(object, old, errors);
        common::immutable(&At::root(object), old, "handler", "string", errors);
    }

    fn repeats_metadata_checks(&self) -> bool {
        false
    }

    fn warnings(&self, object: &Node, _: Option<&Node>, _: &HookContext) -> Vec<String> {
        let selected = value::map(object, &["scheduling", "nodeSelector"])
            .into_iter()
            .flat_map(Map::keys);
        selected
            .filter_map(|key| Some(format!("scheduling.nodeSelector: {}", node_labels::deprecation(key)?)))
            .collect()
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        Row::named(object, now_seconds).text(&["handler"]).age().done()
    }
}

/// Source of the rules, their order and wording: kubernetes pkg/apis/node/validation/validation.go.
fn validate(object: &Node, errors: &mut FieldErrors) {
    values::plain_meta(object, false, name::name_is_dns_subdomain, errors);
    let at = At::root(object);
    if at.require("handler", errors) {
        common::dns_label(&at, "handler", errors);
    }
    if let Some(fixed) = object.at(&["overhead", "podFixed"]) {
        let mut pod = Node::map();
        pod.set("overhead", fixed.clone());
        pod::overhead(&At::root(&pod), &pod::Leniency::of_new_pod(), errors);
    }
    if let Some(scheduling) = at.get("scheduling") {
        common::labels(&scheduling, "nodeSelector", errors);
        tolerations(&scheduling, errors);
    }
}

fn tolerations(at: &At, errors: &mut FieldErrors) {
    pod::scheduling::tolerations(at, "tolerations", false, errors);
    let mut seen = BTreeSet::new();
    for toleration in at.each("tolerations") {
        let key = ["key", "operator", "value", "effect"].map(|field| toleration.str(field).to_owned());
        if !seen.insert(key) {
            let shown = shown::json("core.Toleration", Some(toleration.node));
            errors.push(FieldError::duplicate(&toleration.path(), Node::Null).showing(shown));
        }
    }
}
