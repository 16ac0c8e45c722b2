//! LimitRanges.

use crate::pod_spec::round_quantities;
use crate::validation::quotas;
use crate::value::{each, with};
use fairlead_api::{FieldErrors, Map, Node};
use fairlead_resource::{HookContext, Hooks};

pub struct LimitRanges;

impl Hooks for LimitRanges {
    fn repeats_metadata_checks(&self) -> bool {
        false
    }

    fn default(&self, object: &mut Node) {
        each(object.make_at(&["spec"]), "limits", |item| {
            if item.str("type") == "Container" {
                default_container_item(item);
            }
            for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
                with(item, &[list], round_quantities);
            }
        });
    }

    fn prepare_create(&self, object: &mut Node, context: &HookContext) {
        if object.name().is_empty() {
            let name = fairlead_resource::meta::uid(context.entropy);
            object.set_at(&["metadata", "name"], name);
        }
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        quotas::limit_range(object, errors);
    }

    fn validate_update(&self, object: &Node, _: &Node, _: &HookContext, errors: &mut FieldErrors) {
        quotas::limit_range(object, errors);
    }
}

/// The default limit follows the maximum; the default request the default limit, then the minimum.
fn default_container_item(item: &mut Node) {
    let of = |item: &Node, key: &str| item.get(key).and_then(Node::as_map).cloned().unwrap_or_default();
    let (mut limits, mut requests) = (of(item, "default"), of(item, "defaultRequest"));
    fill(&mut limits, of(item, "max"));
    fill(&mut requests, limits.clone());
    fill(&mut requests, of(item, "min"));
    for (key, list) in [("default", limits), ("defaultRequest", requests)] {
        if !list.is_empty() {
            item.set(key, list);
        }
    }
}

fn fill(list: &mut Map, from: Map) {
    for (name, quantity) in from {
        if !list.contains_key(&name) {
            list.insert(name, quantity);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn defaults_follow_the_bounds() {
        let mut item = node!({"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}});
        default_container_item(&mut item);
        assert_eq!(item.get("default"), Some(&node!({"cpu": "2"})));
        assert_eq!(item.get("defaultRequest"), Some(&node!({"cpu": "2", "memory": "1Mi"})));
    }
}
