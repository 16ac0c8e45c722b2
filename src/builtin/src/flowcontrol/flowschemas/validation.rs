//! What FlowSchemas are checked for.
//!
//! Source of the rules, their order and wording: kubernetes pkg/apis/flowcontrol/validation/validation.go and
//! apiserver pkg/apis/flowcontrol/bootstrap.
// PERFORMANCE: per-request path

use crate::validation::at::At;
use crate::validation::{common, shown};
use fairlead_api::{FieldError, FieldErrors, Node, name, node};
use std::collections::BTreeSet;

const HIGHEST_PRECEDENCE: i64 = 10_000;
const VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "proxy",
    "update",
    "watch",
];

pub fn validate(object: &Node, errors: &mut FieldErrors) {
    common::object_meta(object, false, name::name_is_dns_subdomain, errors);
    let at = At::root(object);
    let spec = at.part("spec");
    self::spec(&spec, object.name(), errors);
    if let Some(fixed) = mandatory(object.name())
        && !shown::equal("flowcontrol.FlowSchemaSpec", Some(&fixed), Some(spec.node))
    {
        let detail = format!("spec of '{}' must equal the fixed value", object.name());
        spec.invalid_shown(
            "",
            shown::json("flowcontrol.FlowSchemaSpec", Some(spec.node)),
            &detail,
            errors,
        );
    }
    conditions(object, errors);
}

/// Also those of priority levels.
pub fn conditions(object: &Node, errors: &mut FieldErrors) {
    let at = At::root(object);
    let mut types = BTreeSet::new();
    for condition in at.part("status").each("conditions") {
        let kind = condition.str("type");
        if !types.insert(kind) {
            condition.duplicate("type", kind, errors);
        }
        condition.require("type", errors);
    }
}

/// What the schemas that every server has say, and nobody changes.
fn mandatory(name: &str) -> Option<Node> {
    let (groups, precedence): (&[&str], i64) = match name {
        "exempt" => (&["system:masters"], 1),
        "catch-all" => (&["system:unauthenticated", "system:authenticated"], HIGHEST_PRECEDENCE),
        _ => return None,
    };
    let mut rule = node!({
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]}],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]
    });
    let subject = |group: &&str| {
        let mut subject = node!({"kind": "Group"});
        subject.set_at(&["group", "name"], *group);
        subject
    };
    rule.set("subjects", groups.iter().map(subject).collect::<Vec<Node>>());
    let mut spec = node!({});
    spec.set_at(&["priorityLevelConfiguration", "name"], name);
    spec.set("matchingPrecedence", precedence);
    if name == "catch-all" {
        spec.set_at(&["distinguisherMethod", "type"], "ByUser");
    }
    spec.set("rules", vec![rule]);
    Some(spec)
}

fn spec(at: &At, name: &str, errors: &mut FieldErrors) {
    const FIELD: &str = "matchingPrecedence";
    let precedence = at.int(FIELD);
    if precedence <= 0 {
        at.invalid(FIELD, precedence, "must be a positive value", errors);
    }
    if precedence > HIGHEST_PRECEDENCE {
        let detail = format!("must not be greater than {HIGHEST_PRECEDENCE}");
        at.invalid(FIELD, precedence, detail, errors);
    }
    if precedence == 1 && name != "exempt" {
        let detail = "only the schema named 'exempt' may have matchingPrecedence 1";
        at.invalid(FIELD, precedence, detail, errors);
    }
    if let Some(method) = at.get("distinguisherMethod")
        && !matches!(method.str("type"), "ByNamespace" | "ByUser")
    {
        // COMPAT: the whole method is shown.
        let shown = shown::json("flowcontrol.FlowDistinguisherMethod", Some(method.node));
        let error = FieldError::not_supported(&method.path_of("type"), Node::Null, &["ByNamespace", "ByUser"]);
        errors.push(error.showing(shown));
    }
    let level = at.part("priorityLevelConfiguration");
    match level.str("name") {
        "" => level.required("name", "must reference a priority level", errors),
        _ => common::dns_subdomain(&level, "name", errors),
    }
    for rule in at.each("rules") {
        self::rule(&rule, errors);
    }
}

// === rules ===

fn rule(at: &At, errors: &mut FieldErrors) {
    if at.len("subjects") == 0 {
        at.required("subjects", "subjects must contain at least one value", errors);
    }
    for subject in at.each("subjects") {
        self::subject(&subject, errors);
    }
    if at.len("resourceRules") == 0 && at.len("nonResourceRules") == 0 {
        let detail = "at least one of resourceRules and nonResourceRules has to be non-empty";
        at.required("", detail, errors);
    }
    for rule in at.each("resourceRules") {
        resource_rule(&rule, errors);
    }
    for rule in at.each("nonResourceRules") {
        path_rule(&rule, errors);
    }
}

fn subject(at: &At, errors: &mut FieldErrors) {
    const KINDS: [(&str, &str); 3] = [
        ("User", "user"),
        ("Group", "group"),
        ("ServiceAccount", "serviceAccount"),
    ];
    let kind = at.str("kind");
    let Some((_, own)) = KINDS.into_iter().find(|(known, _)| *known == kind) else {
        return at.one_of("kind", &["Group", "ServiceAccount", "User"], errors);
    };
    match at.get(own) {
        None => at.required(own, &format!("{own} is required when subject kind is '{kind}'"), errors),
        Some(account) if own == "serviceAccount" => service_account(&account, errors),
        Some(named) => drop(named.require("name", errors)),
    }
    // Told in the order service account, user, group.
    for (other, field) in [KINDS[2], KINDS[0], KINDS[1]] {
        if field != own && at.has(field) {
            let detail = format!("{field} is forbidden when subject kind is not '{other}'");
            at.forbidden(field, detail, errors);
        }
    }
}

fn service_account(at: &At, errors: &mut FieldErrors) {
    match at.str("name") {
        "" => at.required("name", "", errors),
        "*" => {}
        _ => common::dns_subdomain(at, "name", errors),
    }
    match at.str("namespace") {
        "" => at.required("namespace", "must specify namespace for service account", errors),
        _ => common::dns_label(at, "namespace", errors),
    }
}

fn resource_rule(at: &At, errors: &mut FieldErrors) {
    verbs(at, errors);
    for (field, one, others) in [
        ("apiGroups", "api group", "api groups"),
        ("resources", "resource", "resources"),
    ] {
        if at.len(field) == 0 {
            at.required(field, &format!("resource rules must supply at least one {one}"), errors);
        }
        only_wildcard(at, field, others, errors);
    }
    if at.len("namespaces") == 0 && !at.flag("clusterScope") {
        let detail = "resource rules that are not cluster scoped must supply at least one namespace";
        return at.required("namespaces", detail, errors);
    }
    if only_wildcard(at, "namespaces", "namespaces", errors) {
        return;
    }
    for namespace in at.each("namespaces") {
        let text = namespace.node.as_str().unwrap_or_default();
        for complaint in name::is_dns1123_label(text) {
            let detail = format!("each member of this list must be '*' or a DNS-1123 label; {complaint}");
            namespace.invalid("", text, detail, errors);
        }
    }
}

fn path_rule(at: &At, errors: &mut FieldErrors) {
    verbs(at, errors);
    const FIELD: &str = "nonResourceURLs";
    if at.len(FIELD) == 0 {
        return at.required(FIELD, "nonResourceURLs must contain at least one value", errors);
    }
    if only_wildcard(at, FIELD, "non-resource URLs", errors) {
        return;
    }
    for path in at.each(FIELD) {
        let text = path.node.as_str().unwrap_or_default();
        if let Some(mistake) = path_mistake(text) {
            path.invalid("", text, mistake, errors);
        }
    }
}

fn path_mistake(path: &str) -> Option<&'static str> {
    let stars = path.matches('*').count();
    match path {
        "" => Some("must not be empty"),
        "/" => None,
        _ if !path.starts_with('/') => Some("must start with slash"),
        _ if path.contains(' ') => Some("must not contain white-space"),
        _ if path.contains("//") => Some("must not contain double slash"),
        _ if stars > 1 || (stars == 1 && !path.ends_with("/*")) => Some("wildcard can only do suffix matching"),
        _ => None,
    }
}

fn verbs(at: &At, errors: &mut FieldErrors) {
    if at.len("verbs") == 0 {
        at.required("verbs", "verbs must contain at least one value", errors);
    } else if !only_wildcard(at, "verbs", "verbs", errors) && !at.strings("verbs").all(|(_, v)| VERBS.contains(&v)) {
        at.not_supported("verbs", at.list("verbs").to_vec(), VERBS, errors);
    }
}

/// A star stands alone. Answers whether there is one.
fn only_wildcard(at: &At, field: &str, others: &str, errors: &mut FieldErrors) -> bool {
    let found = at.strings(field).any(|(_, value)| value == "*");
    if found && at.len(field) > 1 {
        let shown = shown::json("[]string", at.node.get(field));
        let detail = format!("if '*' is present, must not specify other {others}");
        at.invalid_shown(field, shown, &detail, errors);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_end_in_a_star_or_have_none() {
        for good in ["/", "/a", "/a/*", "/*"] {
            assert_eq!(path_mistake(good), None, "{good}");
        }
        for bad in ["", "a", "/a b", "/a//b", "/a*", "/*/a", "/*/*"] {
            assert!(path_mistake(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn mandatory_schemas_do_not_change() {
        let mut object = node!({"metadata": {"name": "catch-all"}});
        object.set("spec", mandatory("catch-all").expect("it is mandatory"));
        let mut errors = Vec::new();
        validate(&object, &mut errors);
        assert_eq!(errors, []);
        object.set_at(&["spec", "matchingPrecedence"], 9999);
        validate(&object, &mut errors);
        assert!(
            errors[0]
                .to_string()
                .ends_with("spec of 'catch-all' must equal the fixed value")
        );
    }
}
