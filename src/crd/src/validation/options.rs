//! [`Options`]: which rules hold, given what is stored already: nothing is refused that was taken before.

use super::internal::Spec;
use super::openapi::{has_non_atomic_set, loose_map_keys};
use super::{conversion, defaults, props, structural};
use crate::condition;
use fairlead_api::{FieldPath, Node};
use std::collections::BTreeSet;

const MAX_SELECTABLE: usize = 8;

/// What is asked of a definition.
#[derive(Clone, Debug)]
pub struct Options {
    /// A webhook must take a version of conversion reviews that this server speaks.
    pub recognized_reviews: bool,
    /// Scope and kind stay.
    pub immutable_names: bool,
    /// Every version has a schema.
    pub schemas: bool,
    pub valid_types: bool,
    pub structural: bool,
    pub pruned_defaults: bool,
    pub atomic_sets: bool,
    pub map_keys: bool,
    /// A broken CA bundle may stay, and may come before anything depends on it.
    pub broken_ca: bool,
    /// Versions whose schemas are as stored: what their rules may cost is not asked again.
    pub unchanged_schemas: BTreeSet<String>,
    /// Versions that keep more selectable fields than there may be; "" where all share them.
    pub too_many_selectable: BTreeSet<String>,
}

impl Options {
    pub fn create() -> Options {
        Options {
            recognized_reviews: true,
            immutable_names: false,
            schemas: true,
            valid_types: true,
            structural: true,
            pruned_defaults: true,
            atomic_sets: true,
            map_keys: true,
            broken_ca: true,
            unchanged_schemas: BTreeSet::new(),
            too_many_selectable: BTreeSet::new(),
        }
    }

    pub fn update(crd: &Node, old: &Node) -> Options {
        let established = condition::is_true(old, "Established");
        let (spec, old_spec) = (Spec::of(crd), Spec::of(old));
        let root = FieldPath::root();
        let unchanged_schemas = spec
            .versions
            .iter()
            .filter(|v| {
                old_spec
                    .version(v.name)
                    .is_some_and(|o| o.node.get("schema") == v.node.get("schema"))
            })
            .map(|v| v.name.to_owned());
        let known_type =
            |ty: &str| ty.is_empty() || matches!(ty, "array" | "boolean" | "integer" | "number" | "object" | "string");
        Options {
            recognized_reviews: conversion::has_recognized_or_no_reviews(old_spec.node),
            immutable_names: established,
            schemas: old_spec.established_versions_have_schemas(),
            valid_types: !old_spec.any_schema(&mut |s| !known_type(s.str("type"))),
            structural: old_spec
                .schemas()
                .all(|s| structural::unreadable(s).is_none() && structural::check(s, &root).is_empty()),
            pruned_defaults: !old_spec.schemas().any(defaults::has_unpruned),
            atomic_sets: !old_spec.any_schema(&mut has_non_atomic_set),
            map_keys: !old_spec.any_schema(&mut |s| !loose_map_keys(s, &root).is_empty()),
            broken_ca: !established || conversion::has_broken_ca(old_spec.node),
            unchanged_schemas: unchanged_schemas.collect(),
            too_many_selectable: too_many_selectable(&spec, &old_spec),
        }
    }

    /// Whether more selectable fields than the limit are an error here.
    pub fn limits_selectable(&self, count: usize, version: &str) -> bool {
        count > MAX_SELECTABLE && !self.too_many_selectable.contains(version)
    }

    pub fn max_selectable() -> usize {
        MAX_SELECTABLE
    }
}

fn too_many_selectable(spec: &Spec, old: &Spec) -> BTreeSet<String> {
    let fields = |version: super::internal::Version| version.node.get("selectableFields").cloned();
    let kept = |new: Option<Node>, old: Option<Node>| {
        old.as_ref()
            .and_then(Node::as_list)
            .is_some_and(|l| l.len() > MAX_SELECTABLE)
            && new == old
    };
    let mut found = BTreeSet::new();
    if spec.shared.selectable
        && old.shared.selectable
        && kept(spec.first().and_then(fields), old.first().and_then(fields))
    {
        found.insert(String::new());
    }
    for version in &spec.versions {
        let before = old
            .version(version.name)
            .filter(|_| !old.shared.selectable && !spec.shared.selectable);
        if before.is_some_and(|before| kept(fields(*version), fields(before))) {
            found.insert(version.name.to_owned());
        }
    }
    found
}

/// Whether some schema uses what only structural schemas may.
pub fn has_extensions(spec: &Spec) -> bool {
    spec.any_schema(&mut |s| {
        props::flag(s, "x-kubernetes-embedded-resource")
            || props::flag(s, "x-kubernetes-int-or-string")
            || ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-list-type"]
                .iter()
                .any(|key| props::present(s, key).is_some())
            || ["x-kubernetes-list-map-keys", "x-kubernetes-validations"]
                .iter()
                .any(|key| !s.list(key).is_empty())
    })
}
