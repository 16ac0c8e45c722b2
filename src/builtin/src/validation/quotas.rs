//! Resource quotas and limit ranges.
//!
//! Source of the rules and wording: kubernetes pkg/apis/core/validation/validation.go.

use super::at::At;
use super::common::{self, quantity};
use super::resource_names::{
    allows_overcommit, container_resource_name, is_standard_quota, quota_resource_name, resource_name,
    resource_quantity,
};
use super::shown;
use fairlead_api::quantity::Quantity;
use fairlead_api::{FieldErrors, Node, name};
use std::collections::{BTreeMap, BTreeSet, HashSet};

const SCOPES: &[&str] = &[
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "VolumeAttributesClass",
    "CrossNamespacePodAffinity",
];
const CONFLICTS: [[&str; 2]; 2] = [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];

// === quotas ===

pub fn resource_quota(new: &Node, old: Option<&Node>, errors: &mut FieldErrors) {
    let root = At::root(new);
    let spec = root.part("spec");
    let Some(old) = old else {
        common::object_meta(new, true, name::name_is_dns_subdomain, errors);
        quota_spec(&spec, errors);
        return quota_status(new, errors);
    };
    common::finalizers(new, errors);
    quota_spec(&spec, errors);
    let scopes = |quota: &'_ Node| -> BTreeSet<String> {
        let scopes = crate::value::list(quota, &["spec", "scopes"]).iter();
        scopes.filter_map(Node::as_str).map(str::to_owned).collect()
    };
    if scopes(new) != scopes(old) {
        spec.invalid_shown("scopes", shown_scopes(&spec), common::IMMUTABLE, errors);
    }
}

pub fn resource_quota_status(new: &Node, errors: &mut FieldErrors) {
    common::finalizers(new, errors);
    quota_status(new, errors);
}

fn quota_status(quota: &Node, errors: &mut FieldErrors) {
    let root = At::root(quota);
    let status = root.part("status");
    amounts(&status, "hard", errors);
    amounts(&status, "used", errors);
}

fn amounts(at: &At, list: &str, errors: &mut FieldErrors) {
    for (resource, amount) in at.entries(list) {
        quota_resource_name(&amount, resource, errors);
        resource_quantity(&amount, resource, errors);
    }
}

fn quota_spec(spec: &At, errors: &mut FieldErrors) {
    amounts(spec, "hard", errors);
    let scopes: HashSet<&str> = spec.strings("scopes").map(|(_, scope)| scope).collect();
    let invalid = |detail: &str, errors: &mut FieldErrors| {
        spec.invalid_shown("scopes", shown_scopes(spec), detail, errors);
    };
    for (_, scope) in spec.strings("scopes") {
        if !SCOPES.contains(&scope) {
            invalid("unsupported scope", errors);
        }
        for _ in misplaced(spec, scope) {
            invalid("unsupported scope applied to resource", errors);
        }
    }
    for _ in CONFLICTS
        .iter()
        .filter(|pair| pair.iter().all(|scope| scopes.contains(scope)))
    {
        invalid("conflicting scopes", errors);
    }
    if let Some(selector) = spec.get("scopeSelector") {
        scope_selector(spec, &selector, errors);
    }
}

fn shown_scopes(spec: &At) -> String {
    shown::json("[]string", spec.node.get("scopes"))
}

/// COMPAT: requirements are reported without their index.
fn scope_selector(spec: &At, selector: &At, errors: &mut FieldErrors) {
    let path = selector.path_of("matchExpressions");
    let mut scopes = HashSet::new();
    for requirement in selector.list("matchExpressions") {
        let at = At::named(requirement, path.as_str());
        let scope = requirement.str("scopeName");
        if !SCOPES.contains(&scope) {
            at.invalid("scopeName", scope, "unsupported scope", errors);
        }
        for _ in misplaced(spec, scope) {
            let text = shown::json("core.ScopeSelector", Some(selector.node));
            at.invalid_shown("", text, "unsupported scope applied to resource", errors);
        }
        let operator = at.str("operator");
        let exists_only = matches!(
            scope,
            "BestEffort" | "NotBestEffort" | "Terminating" | "NotTerminating" | "CrossNamespacePodAffinity"
        );
        if exists_only && operator != "Exists" {
            let detail = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            at.invalid("operator", operator, detail, errors);
        }
        match operator {
            "In" | "NotIn" if at.len("values") == 0 => {
                let detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                at.required("values", detail, errors);
            }
            "Exists" | "DoesNotExist" if at.len("values") > 0 => {
                let detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                at.invalid("values", at.list("values").to_vec(), detail, errors);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => at.invalid("operator", operator, "not a valid selector operator", errors),
        }
        scopes.insert(scope);
    }
    for _ in CONFLICTS
        .iter()
        .filter(|pair| pair.iter().all(|scope| scopes.contains(scope)))
    {
        selector.invalid_shown("matchExpressions", shown_scopes(spec), "conflicting scopes", errors);
    }
}

/// Limits that a scope has nothing to do with.
fn misplaced<'a>(spec: &'a At<'a>, scope: &'a str) -> impl Iterator<Item = &'a str> {
    let limits = spec.entries("hard").map(|(resource, _)| resource);
    limits.filter(move |resource| is_standard_quota(resource) && !applies(scope, resource))
}

fn applies(scope: &str, resource: &str) -> bool {
    let compute = matches!(
        resource,
        "cpu" | "memory" | "limits.cpu" | "limits.memory" | "requests.cpu" | "requests.memory"
    );
    match scope {
        "Terminating" | "NotTerminating" | "NotBestEffort" | "PriorityClass" | "CrossNamespacePodAffinity" => {
            resource == "pods" || compute
        }
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        _ => true,
    }
}

// === limit ranges ===

pub fn limit_range(new: &Node, errors: &mut FieldErrors) {
    common::object_meta(new, true, name::name_is_dns_subdomain, errors);
    let root = At::root(new);
    let spec = root.part("spec");
    let mut kinds = HashSet::new();
    for limit in spec.each("limits") {
        limit_type(&limit, errors);
        let kind = limit.node.str("type").to_owned();
        if !kinds.insert(kind.clone()) {
            limit.duplicate("type", kind, errors);
        }
        limit_amounts(&limit, errors);
    }
}

fn limit_type(limit: &At, errors: &mut FieldErrors) {
    let kind = limit.str("type");
    let complaints = name::is_qualified_name(kind);
    if !complaints.is_empty() {
        limit.complain("type", kind, complaints, errors);
    } else if !kind.contains('/') && !matches!(kind, "Pod" | "Container" | "PersistentVolumeClaim") {
        let detail = "must be a standard limit type or fully qualified";
        limit.invalid("type", kind, detail, errors);
    }
}

fn limit_amounts(limit: &At, errors: &mut FieldErrors) {
    let kind = limit.str("type");
    let names = |list: &str, errors: &mut FieldErrors| {
        for (resource, amount) in limit.entries(list) {
            match kind {
                "Pod" | "Container" => container_resource_name(&amount, resource, errors),
                _ => {
                    resource_name(&amount, resource, errors);
                }
            }
        }
    };
    names("max", errors);
    names("min", errors);
    let defaults = ["default", "defaultRequest"];
    if kind == "Pod" {
        for list in defaults.into_iter().filter(|list| limit.len(list) > 0) {
            limit.forbidden(list, "may not be specified when `type` is 'Pod'", errors);
        }
    } else {
        defaults.into_iter().for_each(|list| names(list, errors));
    }
    if kind == "PersistentVolumeClaim" {
        let has = |list: &str| limit.node.at(&[list, "storage"]).is_some();
        if !has("min") && !has("max") {
            let detail = "either minimum or maximum storage value is required, but neither was provided";
            limit.required("limits", detail, errors);
        }
    }
    names("maxLimitRequestRatio", errors);
    let mut resources: BTreeMap<&str, Amounts> = BTreeMap::new();
    for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        if kind == "Pod" && defaults.contains(&list) {
            continue;
        }
        for (resource, amount) in limit.entries(list) {
            let amounts = resources.entry(resource).or_default();
            *amounts.slot(list) = Some(quantity(Some(amount.node)));
        }
    }
    for (resource, amounts) in resources {
        amounts.check(limit, resource, errors);
    }
}

/// What a limit says about one resource.
#[derive(Default)]
struct Amounts {
    min: Option<Quantity>,
    max: Option<Quantity>,
    default: Option<Quantity>,
    request: Option<Quantity>,
    ratio: Option<Quantity>,
}

impl Amounts {
    fn slot(&mut self, list: &str) -> &mut Option<Quantity> {
        match list {
            "min" => &mut self.min,
            "max" => &mut self.max,
            "default" => &mut self.default,
            "defaultRequest" => &mut self.request,
            _ => &mut self.ratio,
        }
    }

    fn check(&self, limit: &At, resource: &str, errors: &mut FieldErrors) {
        let (min, max) = (("min", &self.min), ("max", &self.max));
        let (default, request) = (("default", &self.default), ("default request", &self.request));
        let limit_value = ("default limit", &self.default);
        // Which list an error is reported at, and which of the two amounts it shows.
        ordered(limit, resource, "min", (min, max), Show::Lower, errors);
        ordered(limit, resource, "defaultRequest", (min, request), Show::Upper, errors);
        ordered(limit, resource, "defaultRequest", (request, max), Show::Lower, errors);
        ordered(
            limit,
            resource,
            "defaultRequest",
            (request, limit_value),
            Show::Lower,
            errors,
        );
        ordered(limit, resource, "default", (min, default), Show::Lower, errors);
        ordered(limit, resource, "default", (default, max), Show::Upper, errors);
        self.check_ratio(limit, resource, errors);
        if let (Some(default), Some(request)) = (&self.default, &self.request)
            && !allows_overcommit(resource)
            && default != request
        {
            let (default, request) = (default.canonical(), request.canonical());
            let detail = format!("default value {default} must equal to defaultRequest value {request} in {resource}");
            invalid(limit, "defaultRequest", resource, &request, &detail, errors);
        }
    }

    fn check_ratio(&self, limit: &At, resource: &str, errors: &mut FieldErrors) {
        const LIST: &str = "maxLimitRequestRatio";
        const MILLI_LIMIT: i64 = i64::MAX / 1000;
        let Some(ratio) = &self.ratio else { return };
        let text = ratio.canonical();
        if *ratio < Quantity::new(1, fairlead_api::quantity::Format::DecimalSi) {
            invalid(
                limit,
                LIST,
                resource,
                &text,
                &format!("ratio {text} is less than 1"),
                errors,
            );
        }
        let (Some(min), Some(max)) = (&self.min, &self.max) else {
            return;
        };
        let fine = [ratio, min, max].iter().all(|amount| amount.value() < MILLI_LIMIT);
        let (value, min, max) = match fine {
            true => (
                ratio.milli_value() as f64 / 1000.0,
                min.milli_value(),
                max.milli_value(),
            ),
            false => (ratio.value() as f64, min.value(), max.value()),
        };
        let most = max as f64 / min as f64;
        if value > most {
            let detail = format!("ratio {text} is greater than max/min = {most:.6}");
            invalid(limit, LIST, resource, &text, &detail, errors);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Show {
    Lower,
    Upper,
}

type Named<'a> = (&'a str, &'a Option<Quantity>);

/// The first of two amounts may not be more than the second.
fn ordered(
    limit: &At,
    resource: &str,
    list: &str,
    ((lower_name, lower), (upper_name, upper)): (Named, Named),
    show: Show,
    errors: &mut FieldErrors,
) {
    let (Some(lower), Some(upper)) = (lower, upper) else {
        return;
    };
    if lower <= upper {
        return;
    }
    let (lower, upper) = (lower.canonical(), upper.canonical());
    let detail = format!("{lower_name} value {lower} is greater than {upper_name} value {upper}");
    let shown = if show == Show::Lower { &lower } else { &upper };
    invalid(limit, list, resource, shown, &detail, errors);
}

fn invalid(limit: &At, list: &str, resource: &str, shown: &str, detail: &str, errors: &mut FieldErrors) {
    let path = limit.path_of(list).key(resource);
    errors.push(fairlead_api::FieldError::invalid(&path, shown, detail));
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn amounts_are_in_order() {
        let range = node!({"metadata": {"name": "a", "namespace": "b"}, "spec": {"limits": [{
            "type": "Container", "max": {"cpu": "1"}, "min": {"cpu": "2"}, "maxLimitRequestRatio": {"cpu": "3"}}]}});
        let mut errors = Vec::new();
        limit_range(&range, &mut errors);
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                r#"spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1"#,
                r#"spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: "3": ratio 3 is greater than max/min = 0.500000"#,
            ]
        );
    }
}
