//! `spec` of a CustomResourceDefinition.
//!
//! Source: apiextensions-apiserver pkg/apis/apiextensions/validation/validation.go.

use super::internal::{Spec, place};
use super::options::{Options, has_extensions};
use super::props::{flag, present};
use super::{conversion, schema, structural, versions};
use fairlead_api::name::{is_dns1035_label, is_dns1123_subdomain};
use fairlead_api::{FieldError, FieldErrors, FieldPath, Node};

/// Checks a whole `spec`.
pub fn check(spec: &Spec, options: &Options, path: &FieldPath) -> FieldErrors {
    let mut errors = FieldErrors::new();
    group(spec.node.str("group"), &path.child("group"), &mut errors);
    match spec.node.str("scope") {
        "" => errors.push(FieldError::required(&path.child("scope"), "")),
        "Cluster" | "Namespaced" => {}
        other => errors.push(FieldError::not_supported(
            &path.child("scope"),
            other,
            &["Cluster", "Namespaced"],
        )),
    }
    let preserves = flag(spec.node, "preserveUnknownFields");
    let mut options = options.clone();
    let has_defaults = spec.any_schema(&mut |s| present(s, "default").is_some());
    options.structural |= !preserves || has_defaults || has_extensions(spec);
    missing_schemas(spec, &options, preserves, path, &mut errors);
    if has_defaults && preserves {
        let detail = "must be false in order to use defaults in the schema";
        errors.push(FieldError::invalid(&path.child("preserveUnknownFields"), true, detail));
    }
    each_version(spec, &options, path, &mut errors);
    versions_together(spec, &path.child("versions"), &mut errors);
    names_given(spec.node, &path.child("names"), &mut errors);
    names(spec.node.get("names"), &path.child("names"), &mut errors);
    shared(spec, &options, path, &mut errors);
    let strategy = spec.node.str_at(&["conversion", "strategy"]);
    if present(spec.node, "conversion").is_some() && strategy != "None" && preserves {
        let detail = "must be None if spec.preserveUnknownFields is true";
        errors.push(FieldError::invalid(
            &path.child("conversion").child("strategy"),
            strategy,
            detail,
        ));
    }
    errors.extend(conversion::check(spec.node, &options, &path.child("conversion")));
    errors
}

fn group(group: &str, path: &FieldPath, errors: &mut FieldErrors) {
    if group.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let complaints = is_dns1123_subdomain(group);
    if !complaints.is_empty() {
        errors.push(FieldError::invalid(path, group, complaints.join(",")));
    } else if !group.contains('.') {
        errors.push(FieldError::invalid(
            path,
            group,
            "should be a domain with at least one dot",
        ));
    }
}

fn missing_schemas(spec: &Spec, options: &Options, preserves: bool, path: &FieldPath, errors: &mut FieldErrors) {
    for (i, version) in spec.versions.iter().enumerate().filter(|(_, v)| v.schema().is_none()) {
        let at = path.child("versions").index(i).child("schema").child("openAPIV3Schema");
        if options.schemas {
            errors.push(FieldError::required(&at, ""));
        } else if !preserves && version.flag("served") {
            errors.push(FieldError::required(&at, "because otherwise all fields are pruned"));
        }
    }
}

/// What each version says for itself.
fn each_version(spec: &Spec, options: &Options, path: &FieldPath, errors: &mut FieldErrors) {
    for (i, version) in spec.versions.iter().enumerate() {
        let at = path.child("versions").index(i);
        let complaints = is_dns1035_label(version.name);
        if !complaints.is_empty() {
            errors.push(FieldError::invalid(
                &at.child("name"),
                version.name,
                complaints.join(","),
            ));
        }
        versions::deprecation(version, &at, errors);
        let own_schema = version.schema().filter(|_| !spec.shared.schema);
        if let Some(own) = own_schema {
            let at = at.child("schema").child("openAPIV3Schema");
            errors.extend(schema::check(
                own,
                version.has_status(),
                &costless(options, version.name),
                &at,
            ));
        }
        if !spec.shared.subresources {
            versions::subresources(version.node.get("subresources"), &at.child("subresources"), errors);
        }
        if !spec.shared.columns {
            let columns = version.node.list("additionalPrinterColumns");
            versions::columns(columns, &at.child("additionalPrinterColumns"), errors);
        }
        let fields = version.node.list("selectableFields");
        if !spec.shared.selectable && !fields.is_empty() {
            selectable(fields, own_schema, options, version.name, &at, errors);
        }
    }
}

/// What all versions say together, reported at the top.
fn shared(spec: &Spec, options: &Options, path: &FieldPath, errors: &mut FieldErrors) {
    let Some(first) = spec.first() else { return };
    let top = |name: &str, shared: bool| place(shared, path, 0, name, name);
    let shared_schema = first.schema().filter(|_| spec.shared.schema);
    if let Some(shared) = shared_schema {
        let has_status = spec.versions.iter().any(super::internal::Version::has_status);
        let at = top("validation", true).child("openAPIV3Schema");
        errors.extend(schema::check(shared, has_status, &costless(options, first.name), &at));
    }
    if spec.shared.subresources {
        versions::subresources(first.node.get("subresources"), &top("subresources", true), errors);
    }
    if spec.shared.columns {
        let columns = first.node.list("additionalPrinterColumns");
        versions::columns(columns, &top("additionalPrinterColumns", true), errors);
    }
    let fields = first.node.list("selectableFields");
    if spec.shared.selectable && !fields.is_empty() {
        if !spec.shared.schema || present(first.node, "schema").is_none() {
            let detail = "may only be set when validations.schema is included";
            errors.push(FieldError::invalid(&path.child("selectableFields"), "", detail));
        } else {
            selectable(fields, shared_schema, options, "", path, errors);
        }
    }
}

/// Rules of a schema that is as it was stored may cost what they do.
fn costless(options: &Options, version: &str) -> Options {
    let mut options = options.clone();
    if !options.unchanged_schemas.contains(version) {
        options.unchanged_schemas.clear();
    }
    options
}

fn selectable(
    fields: &[Node],
    schema: Option<&Node>,
    options: &Options,
    version: &str,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let at = path.child("selectableFields");
    let Some(schema) = schema else {
        // COMPAT: the words say the opposite of what is meant.
        let detail = "may only be set when `version.schema.openAPIV3Schema` is not included";
        errors.push(FieldError::invalid(&at, "", detail));
        return;
    };
    if let Some(why) = structural::unreadable(schema) {
        errors.push(FieldError::invalid(&path.child("schema.openAPIV3Schema"), "", why));
        return;
    }
    versions::selectable(fields, schema, options, version, &at, errors);
}

/// Names of versions are unique, and one is stored.
fn versions_together(spec: &Spec, path: &FieldPath, errors: &mut FieldErrors) {
    let mut refuse =
        |detail: &str| errors.push(FieldError::invalid(path, Node::Null, detail).showing(spec.print_versions()));
    let names: std::collections::BTreeSet<&str> = spec.versions.iter().map(|v| v.name).collect();
    if names.len() != spec.versions.len() {
        refuse("must contain unique version names");
    }
    if spec.versions.iter().filter(|v| v.flag("storage")).count() != 1 {
        refuse("must have exactly one version marked as storage version");
    }
    // The internal version repeats the name of the first version.
    if let Some(first) = spec.first().filter(|v| !v.name.is_empty()) {
        let complaints = is_dns1035_label(first.name);
        if !complaints.is_empty() {
            let at = FieldPath::new("spec").child("version");
            errors.push(FieldError::invalid(&at, first.name, complaints.join(",")));
        }
    }
}

fn names_given(spec: &Node, path: &FieldPath, errors: &mut FieldErrors) {
    for field in ["plural", "singular", "kind", "listKind"] {
        if spec.str_at(&["names", field]).is_empty() {
            errors.push(FieldError::required(&path.child(field), ""));
        }
    }
}

/// What names look like, in `spec.names` and `status.acceptedNames`.
pub fn names(names: Option<&Node>, path: &FieldPath, errors: &mut FieldErrors) {
    let Some(names) = names else { return };
    for field in ["plural", "singular"] {
        let name = names.str(field);
        let complaints = is_dns1035_label(name);
        if !name.is_empty() && !complaints.is_empty() {
            errors.push(FieldError::invalid(&path.child(field), name, complaints.join(",")));
        }
    }
    for field in ["kind", "listKind"] {
        let name = names.str(field);
        let complaints = is_dns1035_label(&name.to_lowercase());
        if !name.is_empty() && !complaints.is_empty() {
            let detail = format!(
                "may have mixed case, but should otherwise match: {}",
                complaints.join(",")
            );
            errors.push(FieldError::invalid(&path.child(field), name, detail));
        }
    }
    labels(names, "shortNames", path, errors);
    let kind = names.str("kind");
    if !kind.is_empty() && kind == names.str("listKind") {
        let detail = "kind and listKind may not be the same";
        errors.push(FieldError::invalid(&path.child("listKind"), kind, detail));
    }
    labels(names, "categories", path, errors);
}

fn labels(names: &Node, field: &str, path: &FieldPath, errors: &mut FieldErrors) {
    for (i, name) in names.list(field).iter().enumerate() {
        let name = name.as_str().unwrap_or_default();
        let complaints = is_dns1035_label(name);
        if !complaints.is_empty() {
            errors.push(FieldError::invalid(
                &path.child(field).index(i),
                name,
                complaints.join(","),
            ));
        }
    }
}
