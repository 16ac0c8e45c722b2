//! What a CustomResourceDefinition must be, on create, update and status update, in kube-apiserver's words.
//!
//! Paths are those of the internal version: what all versions share is reported at the top of `spec` ([`internal`]).
//! Source: apiextensions-apiserver pkg/apis/apiextensions/validation/validation.go.

mod conversion;
mod defaults;
mod field_path;
mod internal;
mod openapi;
mod options;
mod props;
mod rules;
mod schema;
mod spec;
mod structural;
mod versions;

use crate::approval::{self, Approval};
use fairlead_api::metadata::validate_object_meta;
use fairlead_api::name::name_is_dns_subdomain;
use fairlead_api::{FieldError, FieldErrors, FieldPath, Node};
use fairlead_schema::TypeRef;
use internal::Spec;
use options::Options;
use std::collections::BTreeSet;

/// A rule's `fieldPath` as errors show it, below the place of the rule.
pub fn normalized_field_path(path: &str, schema: TypeRef) -> Option<String> {
    let found = field_path::find(path, schema, field_path::Brackets::Allowed).ok()?;
    Some(found.path.as_str().to_owned())
}

/// What is wrong with a new definition.
pub fn create(crd: &Node) -> FieldErrors {
    let meta = crd.get("metadata").unwrap_or(&Node::Null);
    let metadata = FieldPath::new("metadata");
    let mut errors = validate_object_meta(meta, false, name_is_dns_subdomain, &metadata);
    own_name(crd, &metadata, &mut errors);
    errors.extend(spec::check(&Spec::of(crd), &Options::create(), &FieldPath::new("spec")));
    status_errors(crd, &mut errors);
    errors.extend(approval_error(crd, None));
    errors.extend(preserve_error(crd, None));
    errors
}

/// What is wrong with a changed definition, beside its metadata.
pub fn update(crd: &Node, old: &Node) -> FieldErrors {
    let options = Options::update(crd, old);
    let path = FieldPath::new("spec");
    let mut errors = spec::check(&Spec::of(crd), &options, &path);
    let names = path.child("names");
    let mut immutable = |keys: &[&str], path: FieldPath| {
        let (new, before) = (crd.str_at(keys), old.str_at(keys));
        if new != before {
            errors.push(FieldError::invalid(&path, new, "field is immutable"));
        }
    };
    if options.immutable_names {
        immutable(&["spec", "scope"], path.child("scope"));
        immutable(&["spec", "names", "kind"], names.child("kind"));
    }
    immutable(&["spec", "group"], path.child("group"));
    immutable(&["spec", "names", "plural"], names.child("plural"));
    status_errors(crd, &mut errors);
    errors.extend(approval_error(crd, Some(old)));
    errors.extend(preserve_error(crd, Some(old)));
    errors
}

/// What is wrong with a changed status, beside metadata.
pub fn status(crd: &Node) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let names = crd.at(&["status", "acceptedNames"]);
    spec::names(names, &FieldPath::new("status.acceptedNames"), &mut errors);
    errors
}

/// Formats no schema knows; `old` on update, whose unknown formats are forgiven.
pub fn warnings(crd: &Node, old: Option<&Node>) -> Vec<String> {
    let known: BTreeSet<String> = old.map(unknown_formats).unwrap_or_default().into_iter().collect();
    unknown_formats(crd)
        .into_iter()
        .filter(|format| !known.contains(format))
        .map(|format| format!("unrecognized format {}", fairlead_api::field::go_quote(&format)))
        .collect()
}

fn unknown_formats(crd: &Node) -> Vec<String> {
    let mut found = Vec::new();
    Spec::of(crd).any_schema(&mut |schema| {
        let format = schema.str("format");
        if !format.is_empty() && !fairlead_schema::is_known_format(format, schema.str("type")) {
            found.push(format.to_owned());
        }
        false
    });
    found
}

/// A definition is named by its plural and group, also where its name is generated.
fn own_name(crd: &Node, path: &FieldPath, errors: &mut FieldErrors) {
    let wanted = format!(
        "{}.{}",
        crd.str_at(&["spec", "names", "plural"]),
        crd.str_at(&["spec", "group"])
    );
    for field in ["generateName", "name"] {
        let name = crd.str_at(&["metadata", field]);
        if !name.is_empty() && name != wanted {
            let at = path.child(field);
            // Complaints of one field stand together, those of the generated name first.
            let is_before = |e: &FieldError| e.path == at || e.path == path.child("generateName");
            let after = errors.iter().rposition(is_before).map_or(0, |i| i + 1);
            let error = FieldError::invalid(&at, name, "must be spec.names.plural+\".\"+spec.group");
            errors.insert(after, error);
        }
    }
}

fn status_errors(crd: &Node, errors: &mut FieldErrors) {
    errors.extend(status(crd));
    let path = FieldPath::new("status.storedVersions");
    let value = crd.at(&["status", "storedVersions"]).cloned().unwrap_or_default();
    let stored: Vec<&str> = value.as_list().into_iter().flatten().filter_map(Node::as_str).collect();
    if stored.is_empty() {
        errors.push(FieldError::invalid(
            &path,
            value,
            "must have at least one stored version",
        ));
        return;
    }
    let spec = Spec::of(crd);
    for version in spec
        .versions
        .iter()
        .filter(|v| v.flag("storage") && !stored.contains(&v.name))
    {
        let detail = format!("must have the storage version {}", version.name);
        errors.push(FieldError::invalid(&path, value.clone(), detail));
    }
    for (i, name) in stored
        .iter()
        .enumerate()
        .filter(|(_, name)| spec.version(name).is_none())
    {
        let detail = format!(
            "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
        );
        errors.push(FieldError::invalid(&path.index(i), *name, detail));
    }
}

/// Groups of the Kubernetes project need approval; one that was missing may stay missing.
fn approval_error(crd: &Node, old: Option<&Node>) -> Option<FieldError> {
    if !approval::is_protected(crd.str_at(&["spec", "group"])) {
        return None;
    }
    let (state, reason) = approval::state(crd);
    if old.is_some_and(|old| approval::state(old).0 == state) {
        return None;
    }
    let path = FieldPath::new("metadata.annotations").key(approval::ANNOTATION);
    match state {
        Approval::Approved | Approval::Bypassed => None,
        Approval::Missing => Some(FieldError::required(&path, reason)),
        Approval::Invalid => Some(FieldError::invalid(&path, approval::annotation(crd), reason)),
    }
}

fn preserve_error(crd: &Node, old: Option<&Node>) -> Option<FieldError> {
    let preserves = |crd: &Node| crd.at(&["spec", "preserveUnknownFields"]).and_then(Node::as_bool) == Some(true);
    if !preserves(crd) || old.is_some_and(preserves) {
        return None;
    }
    let detail =
        "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
    Some(FieldError::invalid(
        &FieldPath::new("spec.preserveUnknownFields"),
        true,
        detail,
    ))
}
