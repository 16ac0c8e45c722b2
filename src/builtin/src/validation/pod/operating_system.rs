//! Fields that one operating system has and the other has not.
// PERFORMANCE: per-request path

use super::super::at::At;
use fairlead_api::FieldErrors;

const NOT_ON_WINDOWS: &str = "cannot be set for a windows pod";
const NOT_ON_LINUX: &str = "windows options cannot be set for a linux pod";

pub fn validate(spec: &At, errors: &mut FieldErrors) {
    let Some(os) = spec.get("os") else { return };
    match os.str("name") {
        "" => os.required("name", "", errors),
        "linux" => linux(spec, errors),
        "windows" => windows(spec, errors),
        other => os.not_supported("", other, &["linux", "windows"], errors),
    }
}

fn linux(spec: &At, errors: &mut FieldErrors) {
    let mut check = |at: &At| {
        if let Some(context) = at.get("securityContext")
            && context.has("windowsOptions")
        {
            context.forbidden("windowsOptions", NOT_ON_LINUX, errors);
        }
    };
    check(spec);
    super::each_container(spec).for_each(|container| check(&container));
}

fn windows(spec: &At, errors: &mut FieldErrors) {
    let context = spec.part("securityContext");
    let of_context = |fields: &[&str], errors: &mut FieldErrors| forbid(&context, fields, errors);
    of_context(&["appArmorProfile", "seLinuxOptions"], errors);
    forbid(spec, &["hostUsers"], errors);
    for field in ["hostPID", "hostIPC"] {
        if spec.flag(field) {
            spec.forbidden(field, NOT_ON_WINDOWS, errors);
        }
    }
    of_context(&["seccompProfile", "fsGroup", "fsGroupChangePolicy"], errors);
    if context.len("sysctls") > 0 {
        context.forbidden("sysctls", NOT_ON_WINDOWS, errors);
    }
    forbid(spec, &["shareProcessNamespace"], errors);
    let rest = [
        "runAsUser",
        "runAsGroup",
        "supplementalGroups",
        "supplementalGroupsPolicy",
        "seLinuxChangePolicy",
    ];
    of_context(&rest, errors);
    for container in super::each_container(spec) {
        if let Some(context) = container.get("securityContext") {
            let fields = [
                "appArmorProfile",
                "seLinuxOptions",
                "seccompProfile",
                "capabilities",
                "readOnlyRootFilesystem",
                "privileged",
                "allowPrivilegeEscalation",
                "procMount",
                "runAsUser",
                "runAsGroup",
            ];
            forbid(&context, &fields, errors);
        }
    }
}

fn forbid(at: &At, fields: &[&str], errors: &mut FieldErrors) {
    for field in fields.iter().filter(|field| at.has(field)) {
        at.forbidden(field, NOT_ON_WINDOWS, errors);
    }
}
