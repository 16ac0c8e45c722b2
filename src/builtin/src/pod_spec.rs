//! What every pod specification has, in pods and in templates: defaulting shared by all kinds that hold one.
// PERFORMANCE: per-request path

use crate::value::{each, or, or_empty, with};
use fairlead_api::quantity::Quantity;
use fairlead_api::{Map, Node};

const DEFAULT_MODE: i64 = 0o644;

/// Defaults of a PodTemplateSpec at `path`.
pub fn default_template(object: &mut Node, path: &[&str]) {
    if let Some(Node::Map(_)) = object.at(path) {
        default_spec(object.at_mut(path).expect("it is there").make_at(&["spec"]));
    }
}

/// Defaults of a PodSpec.
pub fn default_spec(spec: &mut Node) {
    or(spec, "dnsPolicy", "ClusterFirst");
    or(spec, "restartPolicy", "Always");
    or(spec, "securityContext", Map::new());
    or(spec, "terminationGracePeriodSeconds", 30);
    or(spec, "schedulerName", "default-scheduler");
    // COMPAT: two names of one field, always written together.
    match spec.str("serviceAccountName") {
        "" => {
            if let Some(old) = spec.get("serviceAccount").cloned() {
                spec.set("serviceAccountName", old);
            }
        }
        name => {
            let name = Node::string(name);
            spec.set("serviceAccount", name);
        }
    }
    each(spec, "volumes", default_volume);
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        each(spec, list, default_container);
    }
    with(spec, &["overhead"], round_quantities);
    with(spec, &["resources"], default_resources);
}

fn default_container(container: &mut Node) {
    if container.str("imagePullPolicy").is_empty() {
        let policy = if is_latest(container.str("image")) {
            "Always"
        } else {
            "IfNotPresent"
        };
        container.set("imagePullPolicy", policy);
    }
    or(container, "terminationMessagePath", "/dev/termination-log");
    or(container, "terminationMessagePolicy", "File");
    each(container, "ports", |port| or(port, "protocol", "TCP"));
    each(container, "env", |env| {
        with(env, &["valueFrom", "fieldRef"], default_field_ref);
        with(env, &["valueFrom", "fileKeyRef"], |key| or(key, "optional", false));
    });
    with(container, &["resources"], default_resources);
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        with(container, &[probe], default_probe);
    }
    for handler in ["postStart", "preStop"] {
        with(container, &["lifecycle", handler, "httpGet"], default_http_get);
    }
}

fn default_probe(probe: &mut Node) {
    or(probe, "timeoutSeconds", 1);
    or(probe, "periodSeconds", 10);
    or(probe, "successThreshold", 1);
    or(probe, "failureThreshold", 3);
    with(probe, &["httpGet"], default_http_get);
    with(probe, &["grpc"], |grpc| or(grpc, "service", ""));
}

fn default_http_get(action: &mut Node) {
    or(action, "path", "/");
    or(action, "scheme", "HTTP");
}

fn default_field_ref(reference: &mut Node) {
    or_empty(reference, "apiVersion", "v1");
}

fn default_resources(resources: &mut Node) {
    with(resources, &["limits"], round_quantities);
    with(resources, &["requests"], round_quantities);
}

/// Quantities of resource lists are not kept finer than a thousandth; they are rounded away from zero.
pub fn round_quantities(list: &mut Node) {
    for (_, value) in list.as_map_mut().into_iter().flat_map(Map::iter_mut) {
        let Some(quantity) = value.as_str().and_then(|text| Quantity::parse(text).ok()) else {
            continue;
        };
        let milli = quantity.milli_value();
        // A value too big for thousandths has none finer either.
        if milli == i64::MAX || milli == i64::MIN || Quantity::from_milli(milli) == quantity {
            continue;
        }
        *value = Node::String(Quantity::from_milli(milli).canonical());
    }
}

fn default_volume(volume: &mut Node) {
    let source = volume
        .as_map()
        .and_then(|m| m.keys().find(|key| *key != "name").cloned());
    let Some(source) = source else {
        volume.set("emptyDir", Map::new());
        return;
    };
    let Some(inner) = volume.get_mut(&source) else { return };
    match source.as_str() {
        "hostPath" => or(inner, "type", ""),
        "secret" | "configMap" => or(inner, "defaultMode", DEFAULT_MODE),
        "downwardAPI" => {
            or(inner, "defaultMode", DEFAULT_MODE);
            each(inner, "items", default_downward_file);
        }
        "projected" => {
            or(inner, "defaultMode", DEFAULT_MODE);
            each(inner, "sources", |source| {
                with(source, &["downwardAPI"], |d| each(d, "items", default_downward_file));
                with(source, &["serviceAccountToken"], |token| {
                    or(token, "expirationSeconds", 3600)
                });
            });
        }
        "ephemeral" => with(inner, &["volumeClaimTemplate", "spec"], default_claim_spec),
        "image" => {
            let policy = if is_latest(inner.str("reference")) {
                "Always"
            } else {
                "IfNotPresent"
            };
            or(inner, "pullPolicy", policy);
        }
        "azureDisk" => {
            or(inner, "cachingMode", "ReadWrite");
            or(inner, "fsType", "ext4");
            or(inner, "readOnly", false);
            or(inner, "kind", "Shared");
        }
        "rbd" => default_rbd(inner),
        "iscsi" => or(inner, "iscsiInterface", "default"),
        "scaleIO" => default_scale_io(inner),
        _ => {}
    }
}

fn default_downward_file(file: &mut Node) {
    with(file, &["fieldRef"], default_field_ref);
}

/// Defaults of a PersistentVolumeClaimSpec.
pub fn default_claim_spec(spec: &mut Node) {
    or(spec, "volumeMode", "Filesystem");
    with(spec, &["resources"], default_resources);
}

pub fn default_rbd(source: &mut Node) {
    or(source, "pool", "rbd");
    or(source, "user", "admin");
    or(source, "keyring", "/etc/ceph/keyring");
}

pub fn default_scale_io(source: &mut Node) {
    or(source, "storageMode", "ThinProvisioned");
    or(source, "fsType", "xfs");
}

/// Whether an image reference names the tag `latest`, or neither a tag nor a digest. References that are none have no tag.
pub fn is_latest(image: &str) -> bool {
    if !is_reference(image) {
        return false;
    }
    let (name, digest) = image.split_once('@').map_or((image, false), |(name, _)| (name, true));
    let last = name.rsplit('/').next().unwrap_or(name);
    match last.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => !digest,
    }
}

/// A rough check of the grammar of image references: enough to tell words from nonsense.
fn is_reference(image: &str) -> bool {
    let (rest, digest) = image
        .split_once('@')
        .map_or((image, None), |(rest, digest)| (rest, Some(digest)));
    if digest.is_some_and(|d| {
        !d.split_once(':')
            .is_some_and(|(algorithm, hex)| is_alphanumeric(algorithm) && hex.len() >= 32)
    }) {
        return false;
    }
    let (path, last) = rest.rsplit_once('/').map_or(("", rest), |(path, last)| (path, last));
    let (last, tag) = last
        .split_once(':')
        .map_or((last, None), |(last, tag)| (last, Some(tag)));
    let is_tag = |tag: &str| {
        !tag.is_empty()
            && tag.len() <= 128
            && !tag.starts_with(['.', '-'])
            && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    if tag.is_some_and(|tag| !is_tag(tag)) || !is_component(last) {
        return false;
    }
    path.is_empty()
        || path
            .split('/')
            .enumerate()
            .all(|(i, part)| is_component(part) || (i == 0 && is_domain(part)))
}

fn is_alphanumeric(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+._-".contains(&b))
}

fn is_component(part: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    edge(part.bytes().next())
        && edge(part.bytes().last())
        && part
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
        && !part.contains("..")
        && !part.contains("___")
}

fn is_domain(part: &str) -> bool {
    let (host, port) = part
        .rsplit_once(':')
        .map_or((part, None), |(host, port)| (host, Some(port)));
    let is_host = host.starts_with('[')
        || (!host.is_empty()
            && host.split('.').all(|label| {
                !label.is_empty()
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            }));
    is_host && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn the_pull_policy_follows_the_tag() {
        for (image, latest) in [
            ("busybox", true),
            ("busybox:latest", true),
            ("busybox:1", false),
            ("registry:5000/team/app", true),
            ("registry:5000/team/app:v2", false),
            (
                "app@sha256:0123456789012345678901234567890123456789012345678901234567890123",
                false,
            ),
            ("", false),
            ("UPPER", false),
            ("a b", false),
        ] {
            assert_eq!(is_latest(image), latest, "{image}");
        }
    }

    #[test]
    fn a_bare_spec_is_filled_in() {
        let mut spec = node!({"containers": [{"name": "c", "image": "i:1", "resources": {}}], "volumes": [{"name": "v"}], "serviceAccount": "s"});
        default_spec(&mut spec);
        assert_eq!(spec.str("serviceAccountName"), "s");
        assert_eq!(spec.list("volumes")[0], node!({"name": "v", "emptyDir": {}}));
        assert_eq!(spec.list("containers")[0].str("imagePullPolicy"), "IfNotPresent");
        assert_eq!(spec.get("securityContext"), Some(&node!({})));
    }

    #[test]
    fn quantities_are_rounded_up_to_thousandths() {
        let mut list = node!({"cpu": "100u", "memory": "1Gi"});
        round_quantities(&mut list);
        assert_eq!(list, node!({"cpu": "1m", "memory": "1Gi"}));
    }
}
