//! IPAddresses.

use crate::cells::{NONE, Row};
use crate::validation::at::At;
use crate::validation::{common, values};
use fairlead_api::name::ip;
use fairlead_api::{FieldErrors, Node};
use fairlead_resource::{HookContext, Hooks};

pub struct IPAddresses;

impl Hooks for IPAddresses {
    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validate(object, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validate(object, errors);
        values::metadata_update(object, old, errors);
        let at = At::root(object);
        let old = old.get("spec").unwrap_or(&Node::Null);
        common::immutable(
            &at.part("spec"),
            old,
            "parentRef",
            "*networking.ParentReference",
            errors,
        );
    }

    fn repeats_metadata_checks(&self) -> bool {
        false
    }

    fn prepare_create(&self, object: &mut Node, _: &HookContext) {
        // COMPAT: nothing is added to names that are generated, since no address is valid with a suffix.
        const SUFFIX: usize = 5;
        let prefix = object.str_at(&["metadata", "generateName"]).to_owned();
        let suffix = object.name().strip_prefix(prefix.as_str()).map(str::len);
        if !prefix.is_empty() && suffix == Some(SUFFIX) {
            object.set_at(&["metadata", "name"], prefix);
        }
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        let parent = match object.at(&["spec", "parentRef"]) {
            None => NONE.to_owned(),
            Some(parent) => {
                let mut text = parent.str("resource").to_lowercase();
                for (separator, key) in [(".", "group"), ("/", "namespace")] {
                    if !parent.str(key).is_empty() {
                        text = format!("{text}{separator}{}", parent.str(key));
                    }
                }
                format!("{text}/{}", parent.str("name"))
            }
        };
        Row::named(object, now_seconds).cell(parent).age().done()
    }
}

/// Source of the rules, their order and wording: kubernetes pkg/apis/networking/validation/validation.go.
fn validate(object: &Node, errors: &mut FieldErrors) {
    common::object_meta(object, false, |name, _| ip::is_valid_ip(name), errors);
    let at = At::root(object);
    let spec = at.part("spec");
    let Some(parent) = spec.get("parentRef") else {
        return spec.required("parentRef", "", errors);
    };
    if !parent.str("group").is_empty() {
        common::dns_subdomain(&parent, "group", errors);
    }
    values::required_path_segment(&parent, "resource", errors);
    values::required_path_segment(&parent, "name", errors);
    if !parent.str("namespace").is_empty() {
        values::path_segment(&parent, "namespace", errors);
    }
}
