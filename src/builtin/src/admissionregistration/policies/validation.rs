//! What admission policies and their bindings are checked for.
//!
//! Source of the rules, their order and wording: kubernetes pkg/apis/admissionregistration/validation/validation.go.
// PERFORMANCE: per-request path

use crate::admissionregistration::expressions::{Compiler, Purpose};
use crate::admissionregistration::rules::{self, FAILURE_POLICIES};
use crate::validation::at::At;
use crate::validation::{common, shown, values};
use fairlead_api::{FieldErrors, Node, name};
use fairlead_cel::escape::is_reserved;
use std::collections::BTreeSet;

const MAX_ANNOTATIONS: usize = 20;
const MAX_ANNOTATION_EXPRESSION: usize = 5 * 1024;
const ONE_ITEM: &str = "validations or auditAnnotations must contain at least one item";

// === policies ===

/// A ValidatingAdmissionPolicy; `old` is what is stored.
pub fn validating(object: &Node, old: Option<&Node>, errors: &mut FieldErrors) {
    values::plain_meta(object, false, name::name_is_dns_subdomain, errors);
    let at = At::root(object);
    let spec = at.part("spec");
    let mut compiler = match spec.len("variables") {
        0 => Compiler::new(spec.has("paramKind")),
        _ => Compiler::composing(spec.has("paramKind")),
    };
    matching(&spec, old, false, &compiler, errors);
    variables(&spec, &mut compiler, errors);
    if spec.len("validations") == 0 && spec.len("auditAnnotations") == 0 {
        spec.required("validations", ONE_ITEM, errors);
        spec.required("auditAnnotations", ONE_ITEM, errors);
        return;
    }
    for validation in spec.each("validations") {
        self::validation(&validation, &compiler, errors);
    }
    annotations(&spec, object.name(), &compiler, errors);
}

/// A MutatingAdmissionPolicy.
pub fn mutating(object: &Node, old: Option<&Node>, errors: &mut FieldErrors) {
    values::plain_meta(object, false, name::name_is_dns_subdomain, errors);
    let at = At::root(object);
    let spec = at.part("spec");
    let mut compiler = Compiler::composing(spec.has("paramKind"));
    matching(&spec, old, true, &compiler, errors);
    variables(&spec, &mut compiler, errors);
    if spec.len("mutations") == 0 {
        spec.required("mutations", "mutations must contain at least one item", errors);
    }
    for mutation in spec.each("mutations") {
        self::mutation(&mutation, &compiler, errors);
    }
    spec.required_one_of("reinvocationPolicy", &["IfNeeded", "Never"], errors);
}

/// What policies of both kinds begin with.
fn matching(spec: &At, old: Option<&Node>, mutates: bool, compiler: &Compiler, errors: &mut FieldErrors) {
    match spec.has("failurePolicy") {
        true => spec.one_of("failurePolicy", FAILURE_POLICIES, errors),
        false => spec.required("failurePolicy", "", errors),
    }
    if let Some(kind) = spec.get("paramKind") {
        param_kind(&kind, errors);
    }
    match spec.get("matchConstraints") {
        None => spec.required("matchConstraints", "", errors),
        Some(constraints) => {
            rules::match_resources(&constraints, errors);
            if constraints.len("resourceRules") == 0 {
                constraints.required("resourceRules", "", errors);
            }
            if mutates {
                rules::mutable_operations(&constraints, errors);
            }
        }
    }
    // Conditions that did not change, nor what they may use, are not looked at again.
    let same = |old: &Node| {
        let old = old.get("spec").unwrap_or(&Node::Null);
        let conditions = "[]admissionregistration.MatchCondition";
        shown::equal(
            "*admissionregistration.ParamKind",
            spec.node.get("paramKind"),
            old.get("paramKind"),
        ) && shown::equal(conditions, spec.node.get("matchConditions"), old.get("matchConditions"))
    };
    if !old.is_some_and(same) {
        rules::match_conditions(spec, compiler, errors);
    }
}

fn param_kind(at: &At, errors: &mut FieldErrors) {
    let version = at.str("apiVersion");
    match version.split('/').collect::<Vec<&str>>()[..] {
        [""] => at.required("apiVersion", "", errors),
        // COMPAT: a slash alone is neither a group nor a version.
        ["", ""] => at.invalid("apiVersion", version, "version must be specified", errors),
        [version] => label(at, version, errors),
        [group, name] => {
            let complaints = if group.is_empty() {
                Vec::new()
            } else {
                name::is_dns1123_subdomain(group)
            };
            if !complaints.is_empty() {
                at.invalid("apiVersion", group, complaints.join(","), errors);
            }
            match name {
                "" => at.invalid("apiVersion", version, "version must be specified", errors),
                _ => label(at, name, errors),
            }
        }
        _ => {
            let detail = format!("unexpected GroupVersion string: {version}");
            at.invalid("apiVersion", version, detail, errors);
        }
    }
    let kind = at.str("kind");
    if at.require("kind", errors) {
        let complaints = name::is_dns1035_label(&kind.to_lowercase());
        if !complaints.is_empty() {
            let detail = format!(
                "may have mixed case, but should otherwise match: {}",
                complaints.join(",")
            );
            at.invalid("kind", kind, detail, errors);
        }
    }
}

fn label(at: &At, version: &str, errors: &mut FieldErrors) {
    let complaints = name::is_dns1035_label(version);
    if !complaints.is_empty() {
        at.invalid("apiVersion", version, complaints.join(","), errors);
    }
}

// === parts of policies ===

fn variables(spec: &At, compiler: &mut Compiler, errors: &mut FieldErrors) {
    for variable in spec.each("variables") {
        let (name, text) = (variable.str("name"), variable.str("expression"));
        if name.trim().is_empty() {
            variable.required("name", "name is not specified", errors);
        } else if !is_identifier(name) {
            variable.invalid("name", name, "must be a valid CEL identifier", errors);
        }
        match text.trim() {
            "" => variable.required("expression", "expression is not specified", errors),
            _ => compiler.define(&variable, name, text, errors),
        }
    }
}

fn is_identifier(name: &str) -> bool {
    let letter = |b: u8| b == b'_' || b.is_ascii_alphabetic();
    name.bytes().next().is_some_and(letter)
        && name.bytes().all(|b| letter(b) || b.is_ascii_digit())
        && !is_reserved(name)
}

fn validation(at: &At, compiler: &Compiler, errors: &mut FieldErrors) {
    let text = at.str("expression");
    match text.trim() {
        "" => at.required("expression", "expression is not specified", errors),
        _ => compiler.check(Purpose::Validation, at, "expression", text, errors),
    }
    let (said, message) = (at.str("messageExpression"), at.str("message"));
    if !said.trim().is_empty() {
        compiler.check(Purpose::Message, at, "messageExpression", said, errors);
    } else if !said.is_empty() {
        at.invalid("messageExpression", said, "must be non-empty if specified", errors);
    }
    if !message.is_empty() && message.trim().is_empty() {
        at.invalid("message", message, "must be non-empty if specified", errors);
    } else if message.trim().contains(['\n', '\r']) {
        at.invalid("message", message, "must not contain line breaks", errors);
    }
    at.one_of_if_set("reason", &["Forbidden", "Invalid", "RequestEntityTooLarge"], errors);
}

fn annotations(spec: &At, policy: &str, compiler: &Compiler, errors: &mut FieldErrors) {
    const FIELD: &str = "auditAnnotations";
    if spec.len(FIELD) > MAX_ANNOTATIONS {
        let shown = shown::json("[]admissionregistration.AuditAnnotation", spec.node.get(FIELD));
        let detail = format!("must not have more than {MAX_ANNOTATIONS} auditAnnotations");
        spec.invalid_shown(FIELD, shown, &detail, errors);
    }
    let mut keys = BTreeSet::new();
    for annotation in spec.each(FIELD) {
        let key = annotation.str("key");
        if policy.is_empty() {
            annotation.invalid("key", key, "requires metadata.name be non-empty", errors);
        } else {
            let whole = format!("{policy}/{key}");
            annotation.complain("key", &whole, name::is_qualified_name(&whole), errors);
        }
        match annotation.str("valueExpression").trim() {
            "" => annotation.required("valueExpression", "valueExpression is not specified", errors),
            text if text.len() > MAX_ANNOTATION_EXPRESSION => {
                let detail = format!("must not exceed {MAX_ANNOTATION_EXPRESSION} bytes in length");
                annotation.required("valueExpression", &detail, errors);
            }
            text => compiler.check(Purpose::AuditAnnotation, &annotation, "valueExpression", text, errors),
        }
        if !keys.insert(key.to_owned()) {
            annotation.duplicate("key", key, errors);
        }
    }
}

fn mutation(at: &At, compiler: &Compiler, errors: &mut FieldErrors) {
    let kind = at.str("patchType");
    let (own, other, purpose) = match kind {
        "" => return at.required("patchType", "", errors),
        "JSONPatch" => ("jsonPatch", "applyConfiguration", Purpose::JsonPatch),
        "ApplyConfiguration" => ("applyConfiguration", "jsonPatch", Purpose::ApplyConfiguration),
        _ => return at.one_of("patchType", &["ApplyConfiguration", "JSONPatch"], errors),
    };
    match at.get(own) {
        None => at.required(own, &format!("must be specified when patchType is {kind}"), errors),
        Some(patch) => match patch.str("expression").trim() {
            "" => patch.required("expression", "", errors),
            text => compiler.check(purpose, &patch, "expression", text, errors),
        },
    }
    if at.has(other) {
        let detail = format!("must not be specified when patchType is {kind}");
        at.invalid(other, format!("{{{other}}}"), detail, errors);
    }
}

// === status ===

/// The status of a ValidatingAdmissionPolicy.
pub fn status(object: &Node, errors: &mut FieldErrors) {
    let at = At::root(object);
    let status = at.part("status");
    let checking = status.part("typeChecking");
    for warning in checking.each("expressionWarnings") {
        warning.require("warning", errors);
        if warning.str("fieldRef").trim().is_empty() {
            warning.required("fieldRef", "", errors);
        }
    }
    values::conditions(&status, "conditions", errors);
}

// === bindings ===

/// A binding of a policy that `mutates` or validates.
pub fn binding(object: &Node, mutates: bool, errors: &mut FieldErrors) {
    values::plain_meta(object, false, name::name_is_dns_subdomain, errors);
    let at = At::root(object);
    let spec = at.part("spec");
    if spec.require("policyName", errors) {
        common::dns_subdomain(&spec, "policyName", errors);
    }
    if let Some(reference) = spec.get("paramRef") {
        param_ref(&reference, errors);
    }
    if let Some(resources) = spec.get("matchResources") {
        rules::match_resources(&resources, errors);
        if mutates {
            rules::mutable_operations(&resources, errors);
        }
    }
    if !mutates {
        actions(&spec, errors);
    }
}

fn param_ref(at: &At, errors: &mut FieldErrors) {
    const EITHER: &str = "name and selector are mutually exclusive";
    let (named, selected) = (!at.str("name").is_empty(), at.has("selector"));
    if named {
        values::path_segment(at, "name", errors);
    }
    if named && selected {
        at.forbidden("name", EITHER, errors);
    }
    common::label_selector(at, "selector", errors);
    if named && selected {
        at.forbidden("selector", EITHER, errors);
    }
    if !named && !selected {
        at.required("", "one of name or selector must be specified", errors);
    }
    at.required_one_of("parameterNotFoundAction", &["Deny", "Allow"], errors);
}

fn actions(spec: &At, errors: &mut FieldErrors) {
    const FIELD: &str = "validationActions";
    const ACTIONS: &[&str] = &["Audit", "Deny", "Warn"];
    let mut seen = BTreeSet::new();
    for action in spec.each(FIELD) {
        let text = action.node.as_str().unwrap_or_default();
        if !ACTIONS.contains(&text) {
            action.not_supported("", text, ACTIONS, errors);
        }
        if !seen.insert(text.to_owned()) {
            action.duplicate("", text, errors);
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        spec.invalid_shown(FIELD, shown::json("[]string", spec.node.get(FIELD)), detail, errors);
    }
    if seen.is_empty() {
        spec.required(FIELD, "at least one validation action is required", errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    fn texts(check: impl FnOnce(&mut FieldErrors)) -> Vec<String> {
        let mut errors = Vec::new();
        check(&mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn kinds_of_parameters_have_a_version() {
        let complaints = |version: &str| {
            let mut kind = node!({"kind": "Limit"});
            kind.set("apiVersion", version);
            texts(|errors| param_kind(&At::named(&kind, "p"), errors)).len()
        };
        assert_eq!(["v1", "g.example.com/v1"].map(complaints), [0, 0]);
        assert_eq!(["", "/", "g/", "G/v1", "a/b/c", "1"].map(complaints), [1; 6]);
    }

    #[test]
    fn a_mutation_has_the_patch_of_its_type() {
        let at = node!({"patchType": "JSONPatch", "applyConfiguration": {"expression": "x"}});
        assert_eq!(
            texts(|errors| mutation(&At::named(&at, "m"), &Compiler::new(false), errors)),
            [
                "m.jsonPatch: Required value: must be specified when patchType is JSONPatch",
                r#"m.applyConfiguration: Invalid value: "{applyConfiguration}": must not be specified when patchType is JSONPatch"#,
            ]
        );
    }

    #[test]
    fn a_binding_does_something() {
        let binding = node!({"metadata": {"name": "a"}, "spec": {"policyName": "p"}});
        let complaints = texts(|errors| self::binding(&binding, false, errors));
        assert_eq!(
            complaints,
            ["spec.validationActions: Required value: at least one validation action is required"]
        );
        assert!(texts(|errors| self::binding(&binding, true, errors)).is_empty());
    }
}
