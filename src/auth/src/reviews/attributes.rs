//! What a review asks, as authorizer attributes; its selectors read as far as they can be.
//!
//! Source of behaviour: kubernetes pkg/registry/authorization/util, apimachinery pkg/apis/meta/v1/validation.

use crate::authorization::AuthzAttributes;
use compact_str::CompactString;
use fairlead_api::field::{FieldError, FieldErrors, FieldPath};
use fairlead_api::selector::{FieldRequirement, FieldSelector, LabelSelector, Operator, Requirement};
use fairlead_api::{Node, UserInfo, name};
use std::sync::Arc;

/// A question and what of it was not understood.
pub(super) struct Asked {
    pub(super) attributes: AuthzAttributes,
    pub(super) errors: Vec<&'static str>,
}

impl Asked {
    pub(super) fn about_resource(user: &Arc<UserInfo>, attributes: &Node) -> Asked {
        let text = |key: &str| CompactString::from(attributes.str(key));
        let version = text("version");
        let mut asked = Asked {
            attributes: AuthzAttributes {
                user: Arc::clone(user),
                verb: text("verb"),
                namespace: text("namespace"),
                group: text("group"),
                version: if version.is_empty() { "*".into() } else { version },
                resource: text("resource"),
                subresource: text("subresource"),
                name: text("name"),
                resource_request: true,
                ..AuthzAttributes::default()
            },
            errors: Vec::new(),
        };
        if let Some(selector) = selector(attributes, "fieldSelector") {
            let (requirements, whole) = field_requirements(selector);
            match (whole, requirements.is_empty()) {
                (true, _) => {}
                (false, true) => asked
                    .errors
                    .push("spec.resourceAttributes.fieldSelector ignored due to parse error"),
                (false, false) => {
                    asked
                        .errors
                        .push("spec.resourceAttributes.fieldSelector partially ignored due to parse error");
                }
            }
            asked.attributes.field_selector = requirements;
        }
        if let Some(selector) = selector(attributes, "labelSelector") {
            let (requirements, whole) = label_requirements(selector);
            match (whole, requirements.is_empty()) {
                (true, _) => {}
                (false, true) => asked
                    .errors
                    .push("spec.resourceAttributes.labelSelector ignored due to parse error"),
                (false, false) => {
                    asked
                        .errors
                        .push("spec.resourceAttributes.labelSelector partially ignored due to parse error");
                }
            }
            asked.attributes.label_selector = requirements;
        }
        asked
    }

    pub(super) fn about_path(user: &Arc<UserInfo>, attributes: &Node) -> Asked {
        Asked {
            attributes: AuthzAttributes {
                user: Arc::clone(user),
                verb: attributes.str("verb").into(),
                path: attributes.str("path").into(),
                ..AuthzAttributes::default()
            },
            errors: Vec::new(),
        }
    }
}

/// Checks `fieldSelector` and `labelSelector` of resource attributes. Unknown operators pass: a newer client may know them.
pub(super) fn check_selectors(attributes: &Node, path: &FieldPath, errors: &mut FieldErrors) {
    for kind in ["fieldSelector", "labelSelector"] {
        let Some(selector) = selector(attributes, kind) else {
            continue;
        };
        let path = path.child(kind);
        let (raw, requirements) = (selector.str("rawSelector"), selector.list("requirements"));
        if !raw.is_empty() && !requirements.is_empty() {
            let detail = "may not specified at the same time as requirements";
            errors.push(FieldError::invalid(&path.child("rawSelector"), raw, detail));
        }
        if raw.is_empty() && requirements.is_empty() {
            let detail = format!("when {path} is specified, requirements or rawSelector is required");
            errors.push(FieldError::required(&path.child("requirements"), detail));
        }
        for (i, requirement) in requirements.iter().enumerate() {
            let path = path.child("requirements").index(i);
            if kind == "fieldSelector" && requirement.str("key").is_empty() {
                errors.push(FieldError::required(&path.child("key"), "must be specified"));
            }
            check_values(requirement, &path, errors);
            if kind == "labelSelector" {
                check_label(requirement, &path, errors);
            }
        }
    }
}

fn selector<'a>(attributes: &'a Node, kind: &str) -> Option<&'a Node> {
    attributes.get(kind).filter(|s| !s.is_null())
}

fn check_values(requirement: &Node, path: &FieldPath, errors: &mut FieldErrors) {
    let path = path.child("values");
    match (requirement.str("operator"), requirement.list("values").is_empty()) {
        ("In" | "NotIn", true) => {
            errors.push(FieldError::required(
                &path,
                "must be specified when `operator` is 'In' or 'NotIn'",
            ));
        }
        ("Exists" | "DoesNotExist", false) => {
            errors.push(FieldError::forbidden(
                &path,
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ));
        }
        _ => {}
    }
}

fn check_label(requirement: &Node, path: &FieldPath, errors: &mut FieldErrors) {
    let key = requirement.str("key");
    errors.extend(
        name::is_qualified_name(key)
            .iter()
            .map(|why| FieldError::invalid(&path.child("key"), key, why)),
    );
    for (i, value) in requirement.list("values").iter().filter_map(Node::as_str).enumerate() {
        let path = path.child("values").index(i);
        errors.extend(
            name::is_valid_label_value(value)
                .iter()
                .map(|why| FieldError::invalid(&path, value, why)),
        );
    }
}

/// The requirements that could be read, and whether those are all.
fn field_requirements(selector: &Node) -> (Vec<FieldRequirement>, bool) {
    let listed = selector.list("requirements");
    if listed.is_empty() {
        return match FieldSelector::parse(selector.str("rawSelector")) {
            Ok(parsed) => (parsed.requirements, true),
            Err(_) => (Vec::new(), false),
        };
    }
    let read = |requirement: &Node| {
        let negated = match requirement.str("operator") {
            "In" => false,
            "NotIn" => true,
            _ => return None,
        };
        let [value] = requirement.list("values") else {
            return None;
        };
        Some(FieldRequirement {
            field: requirement.str("key").into(),
            value: value.as_str()?.into(),
            negated,
        })
    };
    let read: Vec<FieldRequirement> = listed.iter().filter_map(read).collect();
    let whole = read.len() == listed.len();
    (read, whole)
}

fn label_requirements(selector: &Node) -> (Vec<Requirement>, bool) {
    let listed = selector.list("requirements");
    if listed.is_empty() {
        return match LabelSelector::parse(selector.str("rawSelector")) {
            Ok(parsed) => (parsed.requirements().to_vec(), true),
            Err(_) => (Vec::new(), false),
        };
    }
    let read = |requirement: &Node| {
        let operator = match requirement.str("operator") {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            _ => return None,
        };
        let values = requirement
            .list("values")
            .iter()
            .filter_map(Node::as_str)
            .map(Into::into)
            .collect();
        Requirement::new(requirement.str("key"), operator, values).ok()
    };
    let read: Vec<Requirement> = listed.iter().filter_map(read).collect();
    let whole = read.len() == listed.len();
    (read, whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn what_cannot_be_read_is_left_out_and_told() {
        let user = Arc::new(UserInfo::default());
        let asked = Asked::about_resource(
            &user,
            &node!({"labelSelector": {"rawSelector": "a in ("}, "fieldSelector": {"requirements": [
                {"key": "a", "operator": "In", "values": ["b"]}, {"key": "a", "operator": "Foo"}]}}),
        );
        assert_eq!(asked.attributes.field_selector.len(), 1);
        assert_eq!(asked.attributes.version, "*");
        assert_eq!(
            asked.errors,
            [
                "spec.resourceAttributes.fieldSelector partially ignored due to parse error",
                "spec.resourceAttributes.labelSelector ignored due to parse error"
            ]
        );
    }

    #[test]
    fn selectors_need_requirements_with_values() {
        let mut errors = FieldErrors::new();
        let attributes =
            node!({"fieldSelector": {}, "labelSelector": {"requirements": [{"key": "-", "operator": "In"}]}});
        check_selectors(&attributes, &FieldPath::new("spec.resourceAttributes"), &mut errors);
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts[0],
            "spec.resourceAttributes.fieldSelector.requirements: Required value: when spec.resourceAttributes.fieldSelector \
             is specified, requirements or rawSelector is required"
        );
        assert!(texts[1].starts_with("spec.resourceAttributes.labelSelector.requirements[0].values: Required value"));
        assert!(
            texts[2].starts_with("spec.resourceAttributes.labelSelector.requirements[0].key: Invalid value: \"-\"")
        );
    }
}
