//! IngressClasses.

use super::ingresses::validation::object_reference;
use crate::cells::{NONE, Row};
use crate::validation::at::At;
use crate::validation::{common, values};
use crate::value::{or, with};
use fairlead_api::name;
use fairlead_api::{FieldErrors, Node};
use fairlead_resource::{HookContext, Hooks};

pub struct IngressClasses;

impl Hooks for IngressClasses {
    fn default(&self, object: &mut Node) {
        with(object, &["spec", "parameters"], |parameters| {
            or(parameters, "scope", "Cluster")
        });
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validate(object, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        common::finalizers(object, errors);
        let at = At::root(object);
        let old = old.get("spec").unwrap_or(&Node::Null);
        common::immutable(&at.part("spec"), old, "controller", "string", errors);
        validate(object, errors);
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        let parameters = match object.at(&["spec", "parameters"]) {
            None => NONE.to_owned(),
            Some(reference) => {
                let group = reference
                    .get("apiGroup")
                    .and_then(Node::as_str)
                    .map(|g| format!(".{g}"));
                format!(
                    "{}{}/{}",
                    reference.str("kind"),
                    group.unwrap_or_default(),
                    reference.str("name")
                )
            }
        };
        Row::new(object, now_seconds)
            .cell(default_name(object, &["ingressclass.kubernetes.io/is-default-class"]))
            .text(&["spec", "controller"])
            .cell(parameters)
            .age()
            .done()
    }
}

const CONTROLLER_LIMIT: usize = 250;

/// Source of the rules, their order and wording: kubernetes pkg/apis/networking/validation/validation.go.
fn validate(object: &Node, errors: &mut FieldErrors) {
    common::object_meta(object, false, name::name_is_dns_subdomain, errors);
    let at = At::root(object);
    let spec = at.part("spec");
    if spec.str("controller").len() > CONTROLLER_LIMIT {
        spec.too_long("controller", CONTROLLER_LIMIT as i64, errors);
    }
    values::domain_prefixed_path(&spec, "controller", errors);
    if let Some(parameters) = spec.get("parameters") {
        self::parameters(&parameters, errors);
    }
}

fn parameters(at: &At, errors: &mut FieldErrors) {
    object_reference(at, errors);
    match at.text("scope") {
        None => at.required("scope", "", errors),
        Some("Namespace") if !at.has("namespace") => {
            at.required("namespace", "`parameters.scope` is set to 'Namespace'", errors);
        }
        Some("Namespace") => common::dns_label(at, "namespace", errors),
        Some("Cluster") if at.has("namespace") => {
            at.forbidden("namespace", "`parameters.scope` is set to 'Cluster'", errors);
        }
        Some("Cluster") => {}
        Some(_) => at.one_of("scope", &["Cluster", "Namespace"], errors),
    }
}

/// The name, marked where one of these annotations makes the object the default one.
pub fn default_name(object: &Node, annotations: &[&str]) -> String {
    let is_set = |key: &&str| object.annotations().and_then(|a| a.get(key)).and_then(Node::as_str) == Some("true");
    match annotations.iter().any(is_set) {
        true => format!("{} (default)", object.name()),
        false => object.name().to_owned(),
    }
}
