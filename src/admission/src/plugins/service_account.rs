//! ServiceAccount: every pod runs as an account that exists, with its token and its pull secrets.
// PERFORMANCE: per-request path

use super::Plugin;
use crate::{Attributes, Cluster, pod};
use fairlead_api::field::go_quote;
use fairlead_api::{Node, StatusResult, node};
use futures_util::future::BoxFuture;
use std::sync::Arc;

#[derive(Default)]
pub struct ServiceAccount;

const DEFAULT: &str = "default";
const VOLUME_PREFIX: &str = "kube-api-access-";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// An hour and seven seconds: the odd number marks tokens of this volume, which may be used for longer.
const TOKEN_SECONDS: i64 = 3607;
const ENFORCE_SECRETS: &str = "kubernetes.io/enforce-mountable-secrets";

impl Plugin for ServiceAccount {
    fn mutates(&self) -> bool {
        true
    }

    fn validates(&self) -> bool {
        true
    }

    fn concerns(&self, attributes: &Attributes) -> bool {
        attributes.is("", "pods")
            && match attributes.subresource.as_str() {
                "" => attributes.creates(),
                "ephemeralcontainers" => attributes.updates(),
                _ => false,
            }
    }

    fn mutate<'a>(&'a self, attributes: &'a mut Attributes, cluster: &'a Cluster) -> BoxFuture<'a, StatusResult<()>> {
        Box::pin(async move {
            if !attributes.creates() {
                return Ok(());
            }
            if pod::is_mirror(&attributes.object) {
                return check_mirror(attributes);
            }
            let spec = attributes.object.make_at(&["spec"]);
            if spec.str("serviceAccountName").is_empty() {
                spec.set("serviceAccountName", DEFAULT);
                spec.set("serviceAccount", DEFAULT);
            }
            let account = account(attributes, cluster).await?;
            let spec = attributes.object.make_at(&["spec"]);
            if automounts(&account, spec) {
                mount_token(spec, cluster);
            }
            let secrets = account.list("imagePullSecrets");
            if spec.list("imagePullSecrets").is_empty() && !secrets.is_empty() {
                let names = secrets.iter().map(|secret| node!({"name": secret.str("name")}));
                spec.set("imagePullSecrets", names.collect::<Vec<_>>());
            }
            check_secrets(attributes, &account)
        })
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes, cluster: &'a Cluster) -> BoxFuture<'a, StatusResult<()>> {
        Box::pin(async move {
            if attributes.creates() && pod::is_mirror(&attributes.object) {
                return check_mirror(attributes);
            }
            if attributes.object.str_at(&["spec", "serviceAccountName"]).is_empty() {
                let (namespace, name) = (&attributes.namespace, attributes.object.name());
                return Err(attributes
                    .forbidden(format_args!("no service account specified for pod {namespace}/{name}")));
            }
            let account = account(attributes, cluster).await?;
            check_secrets(attributes, &account)
        })
    }
}

async fn account(attributes: &Attributes, cluster: &Cluster) -> StatusResult<Arc<Node>> {
    let namespace = attributes.namespace.as_str();
    let name = attributes.object.str_at(&["spec", "serviceAccountName"]);
    match cluster.find("", "serviceaccounts", namespace, name).await {
        Some(account) => Ok(account),
        None => {
            let quoted = go_quote(name);
            Err(attributes.forbidden(format_args!(
                "error looking up service account {namespace}/{name}: serviceaccount {quoted} not found"
            )))
        }
    }
}

/// The pod's own word, or else the account's.
fn automounts(account: &Node, spec: &Node) -> bool {
    [spec, account]
        .iter()
        .find_map(|node| node.get("automountServiceAccountToken").and_then(Node::as_bool))
        .unwrap_or(true)
}

fn mount_token(spec: &mut Node, cluster: &Cluster) {
    let existing = spec.list("volumes").iter().map(|volume| volume.str("name"));
    let existing = existing.into_iter().find(|name| name.starts_with(VOLUME_PREFIX)).map(str::to_owned);
    let made = existing.is_none();
    let volume = existing.unwrap_or_else(|| cluster.generate_name(VOLUME_PREFIX));
    let mut mounted = false;
    for field in ["initContainers", "containers"] {
        let Some(Node::List(containers)) = spec.get_mut(field) else {
            continue;
        };
        for container in containers {
            // Something mounted there by hand stays.
            if container.list("volumeMounts").iter().any(|mount| mount.str("mountPath") == MOUNT_PATH) {
                continue;
            }
            push(container, "volumeMounts", node!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH}));
            mounted = true;
        }
    }
    if made && mounted {
        push(spec, "volumes", token_volume(&volume));
    }
}

fn push(node: &mut Node, field: &str, item: Node) {
    match node.make_at(&[field]) {
        Node::List(items) => items.push(item),
        other => *other = Node::List(vec![item]),
    }
}

/// What client libraries in a pod find: the token, whom to trust, and the namespace.
fn token_volume(name: &str) -> Node {
    node!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": TOKEN_SECONDS}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace",
            "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}})
}

/// Mirrors of static pods reference nothing of the API.
fn check_mirror(attributes: &Attributes) -> StatusResult<()> {
    let spec = attributes.object.get("spec").unwrap_or(&Node::Null);
    if !spec.str("serviceAccountName").is_empty() {
        return Err(attributes.forbidden("a mirror pod may not reference service accounts"));
    }
    if pod::references_secrets(spec) {
        return Err(attributes.forbidden("a mirror pod may not reference secrets"));
    }
    let mut projected = spec.list("volumes").iter().filter_map(|volume| volume.get("projected"));
    if projected.any(|volume| volume.list("sources").iter().any(|source| source.get("serviceAccountToken").is_some())) {
        return Err(attributes.forbidden("a mirror pod may not use ServiceAccountToken volume projections"));
    }
    Ok(())
}

/// For accounts that ask for it: pods mount only secrets the account lists.
fn check_secrets(attributes: &Attributes, account: &Node) -> StatusResult<()> {
    let asked = account.annotations().and_then(|a| a.get(ENFORCE_SECRETS)).and_then(Node::as_str);
    if !asked.is_some_and(|text| matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")) {
        return Ok(());
    }
    let spec = attributes.object.get("spec").unwrap_or(&Node::Null);
    match unlisted_secret(spec, account, attributes.creates()) {
        None => Ok(()),
        // COMPAT: upstream answers this one without a reason.
        Some(why) if attributes.updates() => Err(fairlead_api::Status::new(500, "", why)),
        Some(why) => Err(attributes.forbidden(why)),
    }
}

fn unlisted_secret(spec: &Node, account: &Node, creates: bool) -> Option<String> {
    let listed = |list: &str, name: &str| account.list(list).iter().any(|secret| secret.str("name") == name);
    let owner = account.name();
    let tail = format!("is not allowed because service account {owner} does not reference that");
    let kinds: &[(&str, &str)] = if creates {
        &[("initContainers", "init container"), ("containers", "container")]
    } else {
        &[("ephemeralContainers", "ephemeral container")]
    };
    if creates {
        for secret in spec.list("volumes").iter().filter_map(|volume| volume.get("secret")) {
            let name = secret.str("secretName");
            if !listed("secrets", name) {
                return Some(format!("volume with secret.secretName=\"{name}\" {tail} secret"));
            }
        }
    }
    for (field, kind) in kinds {
        for container in spec.list(field) {
            let who = container.str("name");
            for env in container.list("env") {
                let Some(name) = env.at(&["valueFrom", "secretKeyRef"]).map(|secret| secret.str("name")) else {
                    continue;
                };
                if !listed("secrets", name) {
                    let variable = env.str("name");
                    return Some(format!(
                        "{kind} {who} with envVar {variable} referencing secret.secretName=\"{name}\" {tail} secret"
                    ));
                }
            }
            for name in container.list("envFrom").iter().filter_map(|e| e.get("secretRef")).map(|s| s.str("name")) {
                if !listed("secrets", name) {
                    return Some(format!("{kind} {who} with envFrom referencing secret.secretName=\"{name}\" {tail} secret"));
                }
            }
        }
    }
    if creates {
        for (i, secret) in spec.list("imagePullSecrets").iter().enumerate() {
            let name = secret.str("name");
            if !listed("imagePullSecrets", name) {
                return Some(format!("imagePullSecrets[{i}].name=\"{name}\" {tail} imagePullSecret"));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fake, create, run};

    fn pod(spec: Node) -> Attributes {
        let mut pod = node!({"kind": "Pod", "metadata": {"name": "p", "namespace": "ns"}});
        pod.set("spec", spec);
        create("pods", pod)
    }

    fn accounts(account: Node) -> Fake {
        let mut account = account;
        account.set("metadata", node!({"name": "default", "namespace": "ns"}));
        Fake::default().with("serviceaccounts", account)
    }

    #[test]
    fn the_token_is_mounted_where_nothing_else_is() {
        let spec = node!({"containers": [
            {"name": "a"}, {"name": "b", "volumeMounts": [{"name": "own", "mountPath": MOUNT_PATH}]}]});
        let mut request = pod(spec);
        let cluster = accounts(node!({"imagePullSecrets": [{"name": "pull"}]})).cluster();
        assert_eq!(run(&ServiceAccount, &mut request, &cluster), Ok(()));
        let spec = request.object.get("spec").unwrap();
        assert_eq!(spec.str("serviceAccountName"), "default");
        assert_eq!(spec.list("containers")[0].list("volumeMounts").len(), 1);
        assert_eq!(spec.list("containers")[1].list("volumeMounts")[0].str("name"), "own");
        assert_eq!(spec.list("volumes")[0].str("name"), "kube-api-access-bbbbb");
        assert_eq!(spec.list("imagePullSecrets")[0].str("name"), "pull");
    }

    #[test]
    fn pod_and_account_may_want_no_token() {
        let mut request = pod(node!({"containers": [{"name": "a"}]}));
        let cluster = accounts(node!({"automountServiceAccountToken": false})).cluster();
        assert_eq!(run(&ServiceAccount, &mut request, &cluster), Ok(()));
        assert_eq!(request.object.at(&["spec", "volumes"]), None);
    }

    #[test]
    fn the_account_must_exist() {
        let why = run(&ServiceAccount, &mut pod(node!({})), &Fake::default().cluster()).unwrap_err();
        assert_eq!(
            why,
            "pods \"p\" is forbidden: error looking up service account ns/default: serviceaccount \"default\" not found"
        );
    }
}
