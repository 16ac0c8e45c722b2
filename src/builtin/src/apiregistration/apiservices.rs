//! APIServices. Whether a remote one is available is the gateway's to say.

use crate::cells::Row;
use crate::validation::values;
use crate::value::{copy, list, or, with};
use fairlead_api::metadata::complain;
use fairlead_api::name::{is_dns1035_label, is_dns1123_subdomain, is_valid_port_num, name_is_path_segment};
use fairlead_api::{FieldError, FieldErrors, FieldPath, Node};
use fairlead_resource::{HookContext, Hooks};

pub struct APIServices;

impl Hooks for APIServices {
    fn prints_status(&self) -> bool {
        false
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static [&'static str]] {
        match subresource {
            "status" => &[&["metadata"], &["spec"]],
            _ => &[&["status"]],
        }
    }

    fn default(&self, object: &mut Node) {
        with(object, &["spec", "service"], |service| or(service, "port", 443));
    }

    fn prepare_create(&self, object: &mut Node, context: &HookContext) {
        if object.at(&["spec", "service"]).is_none() {
            let mut condition = Node::map();
            condition.set("type", "Available");
            condition.set("status", "True");
            condition.set("lastTransitionTime", context.clock.now().rfc3339());
            condition.set("reason", "Local");
            condition.set("message", "Local APIServices are always available");
            object.set_at(&["status", "conditions"], vec![condition]);
        }
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validate(object, errors);
    }

    fn validate_update(&self, object: &Node, _: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validate(object, errors);
    }

    fn validate_status(&self, object: &Node, _: &Node, _: &HookContext, errors: &mut FieldErrors) {
        const KNOWN: [&str; 3] = ["False", "True", "Unknown"];
        let path = FieldPath::new("status.conditions");
        for (i, condition) in list(object, &["status", "conditions"]).iter().enumerate() {
            let status = condition.str("status");
            if !KNOWN.contains(&status) {
                errors.push(FieldError::not_supported(
                    &path.index(i).child("status"),
                    status,
                    &KNOWN,
                ));
            }
        }
    }

    fn prepare_status(&self, object: &mut Node, old: &Node, _: &HookContext) {
        for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
            copy(object, old, &["metadata", field]);
        }
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        let service = match object.at(&["spec", "service"]) {
            Some(service) => format!("{}/{}", service.str("namespace"), service.str("name")),
            None => "Local".into(),
        };
        let available = list(object, &["status", "conditions"])
            .iter()
            .find(|c| c.str("type") == "Available");
        let available = match available {
            Some(condition) if condition.str("status") == "True" || condition.str("reason").is_empty() => {
                condition.str("status").to_owned()
            }
            Some(condition) => format!("{} ({})", condition.str("status"), condition.str("reason")),
            None => "Unknown".into(),
        };
        Row::named(object, now_seconds)
            .cell(service)
            .cell(available)
            .age()
            .done()
    }
}

const MAX_GROUP_PRIORITY: i64 = 20_000;
const MAX_VERSION_PRIORITY: i64 = 1_000;

/// Source of order and wording: kubernetes/kube-aggregator pkg/apis/apiregistration/validation/validation.go.
fn validate(object: &Node, errors: &mut FieldErrors) {
    let spec = object.get("spec");
    let text = |key: &str| spec.map_or("", |s| s.str(key));
    let number = |key: &str| spec.and_then(|s| s.get(key)).and_then(Node::as_i64).unwrap_or(0);
    let path = FieldPath::new("spec");

    let (group, version) = (text("group"), text("version"));
    let (name, wanted) = (object.name(), format!("{version}.{group}"));
    let meta = object.meta().unwrap_or(&Node::Null);
    for (field, name) in [
        ("metadata.generateName", meta.str("generateName")),
        ("metadata.name", name),
    ] {
        let complaints = match name_is_path_segment(name, false) {
            complaints if !complaints.is_empty() => complaints,
            _ if name.is_empty() || name == wanted => continue,
            _ => vec![format!(
                "must be `spec.version+\".\"+spec.group`: {}",
                fairlead_api::field::go_quote(&wanted)
            )],
        };
        complain(errors, &FieldPath::new(field), name, complaints);
    }
    values::plain_meta(object, false, values::any_name, errors);
    if group.is_empty() && version != "v1" {
        let detail = "only v1 may have an empty group and it better be legacy kube";
        errors.push(FieldError::required(&path.child("group"), detail));
    }
    if !group.is_empty() {
        errors.extend(
            is_dns1123_subdomain(group)
                .into_iter()
                .map(|c| FieldError::invalid(&path.child("group"), group, c)),
        );
    }
    errors.extend(
        is_dns1035_label(version)
            .into_iter()
            .map(|c| FieldError::invalid(&path.child("version"), version, c)),
    );
    for (key, max) in [
        ("groupPriorityMinimum", MAX_GROUP_PRIORITY),
        ("versionPriority", MAX_VERSION_PRIORITY),
    ] {
        let value = number(key);
        if value <= 0 || value > max {
            let detail = format!("must be positive and less than {max}");
            errors.push(FieldError::invalid(&path.child(key), value, detail));
        }
    }

    let bundle = decoded_length(text("caBundle"));
    let insecure = spec
        .and_then(|s| s.get("insecureSkipTLSVerify"))
        .and_then(Node::as_bool)
        .unwrap_or(false);
    let skip = path.child("insecureSkipTLSVerify");
    let Some(service) = spec.and_then(|s| s.get("service")).filter(|s| !s.is_null()) else {
        if bundle > 0 {
            let detail = "local APIServices may not have a caBundle";
            errors.push(FieldError::invalid(
                &path.child("caBundle"),
                format!("{bundle} bytes"),
                detail,
            ));
        }
        if insecure {
            errors.push(FieldError::invalid(
                &skip,
                true,
                "local APIServices may not have insecureSkipTLSVerify",
            ));
        }
        return;
    };
    let at = path.child("service");
    for key in ["namespace", "name"] {
        if service.str(key).is_empty() {
            errors.push(FieldError::required(&at.child(key), ""));
        }
    }
    let port = service.get("port").and_then(Node::as_i64).unwrap_or(0);
    let complaints: Vec<String> = is_valid_port_num(port).into_iter().map(|c| c.to_string()).collect();
    if !complaints.is_empty() {
        let detail = format!("port is not valid: {}", complaints.join(", "));
        errors.push(FieldError::invalid(&at.child("port"), port, detail));
    }
    if insecure && bundle > 0 {
        errors.push(FieldError::invalid(
            &skip,
            true,
            "may not be true if caBundle is present",
        ));
    }
}

/// How many bytes a base64 text stands for; that it is one was checked when it was decoded.
fn decoded_length(base64: &str) -> usize {
    base64.bytes().filter(|b| !matches!(b, b'=' | b'\r' | b'\n')).count() * 3 / 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    fn complaints(change: impl FnOnce(&mut Node)) -> Vec<String> {
        let mut object = node!({
            "metadata": {"name": "v1.g.example.com"},
            "spec": {
                "group": "g.example.com", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 15,
                "service": {"namespace": "default", "name": "s", "port": 443}, "caBundle": "YWJjZA==",
            },
        });
        change(&mut object);
        let mut errors = Vec::new();
        validate(&object, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn mistakes_are_told_in_upstream_words() {
        assert!(complaints(|_| ()).is_empty());
        let wrong_name = complaints(|o| o.set_at(&["metadata", "name"], "foo"));
        assert_eq!(
            wrong_name,
            ["metadata.name: Invalid value: \"foo\": must be `spec.version+\".\"+spec.group`: \"v1.g.example.com\""]
        );
        let priorities = complaints(|o| {
            o.set_at(&["spec", "groupPriorityMinimum"], 20_001);
            o.set_at(&["spec", "versionPriority"], 0);
        });
        assert_eq!(
            priorities,
            [
                "spec.groupPriorityMinimum: Invalid value: 20001: must be positive and less than 20000",
                "spec.versionPriority: Invalid value: 0: must be positive and less than 1000",
            ]
        );
        let local = complaints(|o| {
            o.remove_at(&["spec", "service"]);
            o.set_at(&["spec", "insecureSkipTLSVerify"], true);
        });
        assert_eq!(
            local,
            [
                "spec.caBundle: Invalid value: \"4 bytes\": local APIServices may not have a caBundle",
                "spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify",
            ]
        );
        let empty = complaints(|o| o.set_at(&["spec", "service"], node!({"port": 443})));
        assert_eq!(
            empty,
            [
                "spec.service.namespace: Required value",
                "spec.service.name: Required value"
            ]
        );
        let both = complaints(|o| o.set_at(&["spec", "insecureSkipTLSVerify"], true));
        assert_eq!(
            both,
            ["spec.insecureSkipTLSVerify: Invalid value: true: may not be true if caBundle is present"]
        );
        let port = complaints(|o| o.set_at(&["spec", "service", "port"], 65_536));
        let expected =
            "spec.service.port: Invalid value: 65536: port is not valid: must be between 1 and 65535, inclusive";
        assert_eq!(port, [expected]);
    }
}
