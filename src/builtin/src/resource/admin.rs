//! Admin access to devices: only in namespaces that say so.
//!
//! Source of the rules and wording: kubernetes pkg/registry/resource/utils.go.

use crate::auth::Auth;
use crate::value::{flag, list};
use fairlead_api::{FieldError, FieldErrors, FieldPath, Node};
use fairlead_resource::HookContext;
use std::sync::Arc;

const LABEL: &str = "resource.kubernetes.io/admin-access";

/// Checks the requests of the claim specification at `spec`.
pub fn of_requests(
    auth: &Option<Arc<Auth>>,
    object: &Node,
    spec: &[&str],
    context: &HookContext,
    errors: &mut FieldErrors,
) {
    let requests = object
        .at(spec)
        .map_or(&[][..], |spec| list(spec, &["devices", "requests"]));
    let wanted = requests
        .iter()
        .position(|request| flag(request, &["exactly", "adminAccess"]));
    // COMPAT: the path is the one of claims, also in templates, and leaves out a step.
    check(auth, wanted, &FieldPath::new("spec.devices.requests"), context, errors);
}

/// Checks what was allocated.
pub fn of_results(auth: &Option<Arc<Auth>>, object: &Node, context: &HookContext, errors: &mut FieldErrors) {
    let results = list(object, &["status", "allocation", "devices", "results"]);
    let wanted = results.iter().position(|result| flag(result, &["adminAccess"]));
    let path = FieldPath::new("status.allocation.devices.results");
    check(auth, wanted, &path, context, errors);
}

fn check(
    auth: &Option<Arc<Auth>>,
    wanted: Option<usize>,
    path: &FieldPath,
    context: &HookContext,
    errors: &mut FieldErrors,
) {
    let (Some(auth), Some(index)) = (auth, wanted) else {
        return;
    };
    let path = path.index(index).child("adminAccess");
    let Some(namespace) = auth.objects.get("", "namespaces", "", context.namespace) else {
        let why = format!(
            "could not retrieve namespace to verify admin access: namespaces {:?} not found",
            context.namespace
        );
        return errors.push(FieldError::internal(&path, why));
    };
    let labelled = namespace
        .labels()
        .and_then(|labels| labels.get(LABEL))
        .and_then(Node::as_str);
    if labelled != Some("true") {
        let detail = format!("admin access to devices requires the `{LABEL}: true` label on the containing namespace");
        errors.push(FieldError::forbidden(&path, detail));
    }
}
