//! CSIDrivers.

use crate::cells::{NONE, Row, UNSET, join};
use crate::gated::drop_unless_used;
use crate::validation::at::At;
use crate::validation::common;
use crate::value::{bump_generation, list, or};
use fairlead_api::name;
use fairlead_api::{FieldErrors, Node};
use fairlead_resource::{HookContext, Hooks};
use std::collections::BTreeSet;

const PREVENT: &[&str] = &["spec", "preventPodSchedulingIfMissing"];

pub struct CSIDrivers;

impl Hooks for CSIDrivers {
    fn default(&self, object: &mut Node) {
        let spec = object.make_at(&["spec"]);
        or(spec, "attachRequired", true);
        for field in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
            or(spec, field, false);
        }
        or(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        if list(spec, &["volumeLifecycleModes"]).is_empty() {
            spec.set("volumeLifecycleModes", vec![Node::string("Persistent")]);
        }
    }

    fn prepare_create(&self, object: &mut Node, _: &HookContext) {
        drop_unless_used(object, None, PREVENT);
    }

    fn prepare_update(&self, object: &mut Node, old: &Node, _: &HookContext) {
        drop_unless_used(object, Some(old), PREVENT);
        // COMPAT: the generation counts changes only, so a new one has none.
        bump_generation(object, old, &[&["spec"]]);
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        common::object_meta(object, false, name::name_is_dns_subdomain, errors);
        validate(object, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        common::finalizers(object, errors);
        validate(object, errors);
        let at = At::root(object);
        let spec = at.part("spec");
        let old = old.get("spec").unwrap_or(&Node::Null);
        let (attach, was) = (spec.node.get("attachRequired"), old.get("attachRequired"));
        if attach != was {
            // COMPAT: the path is misspelt.
            errors.push(common::changed(
                &spec.path_of("attachedRequired"),
                attach,
                "*bool",
                common::IMMUTABLE,
            ));
        }
        common::immutable(&spec, old, "volumeLifecycleModes", "[]string", errors);
    }

    fn warnings(&self, object: &Node, old: Option<&Node>, _: &HookContext) -> Vec<String> {
        let requests = |object: &Node| list(object, &["spec", "tokenRequests"]).to_vec();
        let (now, set) = (
            requests(object),
            object.at(&["spec", "serviceAccountTokenInSecrets"]).is_some(),
        );
        let changed = old.is_none_or(|old| requests(old) != now);
        match changed && !now.is_empty() && !set {
            true => vec![TOKENS_IN_SECRETS.to_owned()],
            false => Vec::new(),
        }
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        let modes = join(
            list(object, &["spec", "volumeLifecycleModes"])
                .iter()
                .filter_map(Node::as_str),
            ",",
        );
        let tokens = match object.at(&["spec", "tokenRequests"]) {
            Some(Node::List(requests)) => join(requests.iter().map(|r| r.str("audience")), ","),
            _ => UNSET.into(),
        };
        let attach = object
            .at(&["spec", "attachRequired"])
            .and_then(Node::as_bool)
            .unwrap_or(true);
        Row::named(object, now_seconds)
            .cell(attach)
            .flag(&["spec", "podInfoOnMount"])
            .flag(&["spec", "storageCapacity"])
            .cell(tokens)
            .flag(&["spec", "requiresRepublish"])
            .cell(if modes.is_empty() { NONE.to_owned() } else { modes })
            .age()
            .done()
    }
}

/// Source of the rules, their order and wording: kubernetes pkg/apis/storage/validation/validation.go.
fn validate(object: &Node, errors: &mut FieldErrors) {
    let at = At::root(object);
    let spec = at.part("spec");
    for (field, called) in [
        ("attachRequired", "attachedRequired"),
        ("podInfoOnMount", "podInfoOnMount"),
        ("storageCapacity", "storageCapacity"),
    ] {
        if !spec.has(field) {
            spec.required(called, "", errors);
        }
    }
    spec.one_of_if_set("fsGroupPolicy", &["File", "None", "ReadWriteOnceWithFSType"], errors);
    token_requests(&spec, errors);
    for (_, mode) in spec.strings("volumeLifecycleModes") {
        if !matches!(mode, "Persistent" | "Ephemeral") {
            spec.not_supported("volumeLifecycleModes", mode, &["Persistent", "Ephemeral"], errors);
        }
    }
    if !spec.has("seLinuxMount") {
        spec.required("seLinuxMount", "", errors);
    }
    if let Some(period) = spec.number("nodeAllocatableUpdatePeriodSeconds").filter(|p| *p < 10) {
        let detail = "must be greater than or equal to 10 seconds";
        spec.invalid("nodeAllocatableUpdatePeriodSeconds", period, detail, errors);
    }
    if spec.has("serviceAccountTokenInSecrets") && spec.len("tokenRequests") == 0 {
        let detail = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        let value = spec.flag("serviceAccountTokenInSecrets");
        spec.invalid("serviceAccountTokenInSecrets", value, detail, errors);
    }
}

fn token_requests(spec: &At, errors: &mut FieldErrors) {
    let mut audiences = BTreeSet::new();
    for request in spec.each("tokenRequests") {
        let audience = request.str("audience");
        if !audiences.insert(audience) {
            request.duplicate("audience", audience, errors);
            continue;
        }
        let Some(seconds) = request.number("expirationSeconds") else {
            continue;
        };
        if seconds < 600 {
            let detail = "may not specify a duration less than 10 minutes";
            request.invalid("expirationSeconds", seconds, detail, errors);
        }
        if seconds > 1 << 32 {
            let detail = "may not specify a duration larger than 2^32 seconds";
            request.invalid("expirationSeconds", seconds, detail, errors);
        }
    }
}

const TOKENS_IN_SECRETS: &str = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes";
