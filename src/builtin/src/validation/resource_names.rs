//! Names of compute resources and what they mean for quantities: used by pods, quotas, limit ranges and nodes.
//!
//! Source of the rules and wording: kubernetes pkg/apis/core/helper/helpers.go.
// PERFORMANCE: per-request path

use super::at::At;
use super::common::{NEGATIVE, quantity};
use fairlead_api::quantity::Quantity;
use fairlead_api::{FieldErrors, name};

const STANDARD: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
];
const COUNTED: &[&str] = &[
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];
const HUGE_PAGES: &str = "hugepages-";

/// Any resource: a standard one or a qualified name. `at` is where the name is the key. Answers whether it was valid.
pub fn resource_name(at: &At, value: &str, errors: &mut FieldErrors) -> bool {
    let complaints = name::is_qualified_name(value);
    if !complaints.is_empty() {
        at.complain("", value, complaints, errors);
        return false;
    }
    let valid = value.contains('/') || STANDARD.contains(&value) || is_quota_huge_pages(value);
    if !valid {
        let detail = "must be a standard resource type or fully qualified";
        at.invalid("", value, detail, errors);
    }
    valid
}

/// What containers may ask for.
pub fn container_resource_name(at: &At, value: &str, errors: &mut FieldErrors) {
    resource_name(at, value, errors);
    if !value.contains('/') {
        if !matches!(value, "cpu" | "memory" | "ephemeral-storage") && !is_huge_pages(value) {
            at.invalid("", value, "must be a standard resource for containers", errors);
        }
    } else if !is_native(value) && !is_extended(value) {
        at.invalid("", value, "doesn't follow extended resource name standard", errors);
    }
}

/// What a pod as a whole may ask for.
pub fn pod_resource_name(at: &At, value: &str, errors: &mut FieldErrors) {
    if resource_name(at, value, errors) && !matches!(value, "cpu" | "memory") && !is_huge_pages(value) {
        at.not_supported("", value, &["cpu", HUGE_PAGES, "memory"], errors);
    }
}

/// What a quota can limit.
pub fn quota_resource_name(at: &At, value: &str, errors: &mut FieldErrors) {
    resource_name(at, value, errors);
    if !value.contains('/') && !is_standard_quota(value) {
        at.invalid("", value, "must be a standard resource for quota", errors);
    }
}

/// Whether quotas know a resource by that name.
pub fn is_standard_quota(resource: &str) -> bool {
    // Storage itself cannot be limited, only requests of it.
    (STANDARD.contains(&resource) && resource != "storage") || is_quota_huge_pages(resource)
}

/// A quantity of a resource: not negative, and whole where the resource is counted.
pub fn resource_quantity(at: &At, resource: &str, errors: &mut FieldErrors) {
    let value = quantity(Some(at.node));
    if value.sign() < 0 {
        at.invalid("", value.canonical(), NEGATIVE, errors);
    }
    if (COUNTED.contains(&resource) || is_extended(resource)) && value.milli_value() % 1000 != 0 {
        at.invalid("", value.canonical(), "must be an integer", errors);
    }
}

/// A quantity of anything: not negative.
pub fn basic_quantity(at: &At, errors: &mut FieldErrors) {
    let value = quantity(Some(at.node)).value();
    if value < 0 {
        at.invalid("", value, "must be a valid resource quantity", errors);
    }
}

/// Whether the name is, or is taken to be, in `kubernetes.io/`.
pub fn is_native(resource: &str) -> bool {
    !resource.contains('/') || resource.contains("kubernetes.io/")
}

/// Whether a device plugin can offer a resource of that name.
pub fn is_extended(resource: &str) -> bool {
    !is_native(resource)
        && !resource.starts_with("requests.")
        && name::is_qualified_name(&format!("requests.{resource}")).is_empty()
}

pub fn is_huge_pages(resource: &str) -> bool {
    resource.starts_with(HUGE_PAGES)
}

fn is_quota_huge_pages(resource: &str) -> bool {
    is_huge_pages(resource) || resource.starts_with("requests.hugepages-")
}

/// Whether requests may be lower than limits.
pub fn allows_overcommit(resource: &str) -> bool {
    is_native(resource) && !is_huge_pages(resource)
}

/// Whether an amount of huge pages is whole pages.
pub fn is_whole_pages(resource: &str, amount: &Quantity) -> bool {
    let Some(Ok(page)) = resource.strip_prefix(HUGE_PAGES).map(Quantity::parse) else {
        return false;
    };
    page.sign() > 0 && page.milli_value() % 1000 == 0 && amount.value() % page.value() == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_whole() {
        let amount = |text: &str| Quantity::parse(text).expect("a quantity");
        assert!(is_whole_pages("hugepages-2Mi", &amount("4Mi")));
        assert!(!is_whole_pages("hugepages-2Mi", &amount("3Mi")));
        assert!(!is_whole_pages("hugepages-x", &amount("3Mi")));
    }

    #[test]
    fn extended_resources_have_a_foreign_domain() {
        assert!(is_extended("example.com/gpu"));
        assert!(!is_extended("cpu") && !is_extended("kubernetes.io/x") && !is_extended("requests.example.com/gpu"));
    }
}
