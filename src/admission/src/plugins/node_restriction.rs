//! NodeRestriction: kubelets write their own node and what runs on it, and nothing that would draw more to them.
//! Off unless asked for.

use super::Plugin;
use super::certificate_approval::{GROUP as CERTIFICATES, REQUESTS};
use super::certificate_subject_restriction::subject;
use crate::cluster::Action;
use crate::{Attributes, Cluster, Operation, pod};
use fairlead_api::field::go_quote;
use fairlead_api::{GroupResource, Map, Node, Status, StatusResult};
use futures_util::future::BoxFuture;
use std::collections::BTreeSet;

#[derive(Default)]
pub struct NodeRestriction;

const PREFIX: &str = "system:node:";
const NODES: &str = "system:nodes";

impl Plugin for NodeRestriction {
    fn mutates(&self) -> bool {
        true
    }

    fn concerns(&self, attributes: &Attributes) -> bool {
        attributes.operation != Operation::Connect
            && attributes.user.name.starts_with(PREFIX)
            && attributes.user.in_group(NODES)
    }

    fn mutate<'a>(&'a self, attributes: &'a mut Attributes, cluster: &'a Cluster) -> BoxFuture<'a, StatusResult<()>> {
        Box::pin(check(attributes, cluster))
    }
}

async fn check(attributes: &Attributes, cluster: &Cluster) -> StatusResult<()> {
    let node = attributes.user.name.strip_prefix(PREFIX).unwrap_or("");
    if node.is_empty() {
        let user = go_quote(&attributes.user.name);
        return Err(attributes.forbidden(format_args!("could not determine node from user {user}")));
    }
    let subresource = attributes.subresource.as_str();
    match (attributes.resource.group.as_str(), attributes.resource.resource.as_str()) {
        ("", "pods") => match subresource {
            "" => check_pod(node, attributes, cluster).await,
            "status" => check_pod_status(node, attributes),
            "eviction" => check_eviction(node, attributes, cluster).await,
            other => {
                let other = go_quote(other);
                Err(attributes.forbidden(format_args!(
                    "unexpected pod subresource {other}, only 'status' and 'eviction' are allowed"
                )))
            }
        },
        ("", "nodes") => check_node(node, attributes),
        ("", "persistentvolumeclaims") if subresource == "status" => check_claim_status(node, attributes),
        ("", "persistentvolumeclaims") => Err(attributes.forbidden("may only update PVC status")),
        ("", "serviceaccounts") if attributes.creates() && subresource == "token" => {
            check_token(node, attributes, cluster).await
        }
        ("coordination.k8s.io", "leases") => {
            if attributes.namespace != "kube-node-lease" {
                return Err(attributes.forbidden("can only access leases in the \"kube-node-lease\" system namespace"));
            }
            same_name(node, attributes, "can only access node lease with the same name as the requesting node")
        }
        ("storage.k8s.io", "csinodes") => {
            same_name(node, attributes, "can only access CSINode with the same name as the requesting node")
        }
        ("resource.k8s.io", "resourceslices") => check_slice(node, attributes),
        (CERTIFICATES, "podcertificaterequests") => {
            Err(attributes.forbidden("PodCertificateRequest feature gate is disabled"))
        }
        (CERTIFICATES, REQUESTS) if attributes.creates() => check_certificate_request(node, attributes),
        _ => Ok(()),
    }
}

fn refuse<T>(attributes: &Attributes, why: impl std::fmt::Display) -> StatusResult<T> {
    Err(attributes.forbidden(why))
}

fn same_name(node: &str, attributes: &Attributes, why: &str) -> StatusResult<()> {
    let name = if attributes.creates() { attributes.object.name() } else { attributes.name.as_str() };
    if name == node { Ok(()) } else { refuse(attributes, why) }
}

fn not_found(plural: &str, name: &str) -> Status {
    Status::not_found(&GroupResource::new("", plural), name)
}

// === pods ===

async fn check_pod(node: &str, attributes: &Attributes, cluster: &Cluster) -> StatusResult<()> {
    let quoted = go_quote(node);
    match attributes.operation {
        Operation::Create => check_pod_create(node, attributes, cluster).await,
        Operation::Delete => {
            let pod = cluster.find("", "pods", &attributes.namespace, &attributes.name).await;
            let pod = pod.ok_or_else(|| not_found("pods", &attributes.name))?;
            if pod.str_at(&["spec", "nodeName"]) == node {
                return Ok(());
            }
            refuse(attributes, format_args!("node {quoted} can only delete pods with spec.nodeName set to itself"))
        }
        other => {
            let operation = go_quote(other.as_str());
            let why = format!("unexpected operation {operation}, node {quoted} can only create and delete mirror pods");
            refuse(attributes, why)
        }
    }
}

async fn check_pod_create(node: &str, attributes: &Attributes, cluster: &Cluster) -> StatusResult<()> {
    let (created, quoted) = (&attributes.object, go_quote(node));
    let only = |what: &str| refuse(attributes, format_args!("node {quoted} can only create pods with {what}"));
    if !pod::is_mirror(created) {
        let why = format!(
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node {quoted} can only create mirror pods"
        );
        return refuse(attributes, why);
    }
    if created.str_at(&["spec", "nodeName"]) != node {
        return only("spec.nodeName set to itself");
    }
    let owner = match created.owner_references() {
        [] => return only("an owner reference set to itself"),
        [owner] => owner,
        _ => return only("a single owner reference set to itself"),
    };
    if owner.str("apiVersion") != "v1" || owner.str("kind") != "Node" || owner.str("name") != node {
        return only("an owner reference set to itself");
    }
    let flag = |field: &str| owner.get(field).and_then(Node::as_bool) == Some(true);
    if !flag("controller") {
        return only("a controller owner reference set to itself");
    }
    if flag("blockOwnerDeletion") {
        return refuse(attributes, format_args!("node {quoted} must not set blockOwnerDeletion on an owner reference"));
    }
    let stored = cluster.find("", "nodes", "", node).await.ok_or_else(|| not_found("nodes", node))?;
    if owner.str("uid") != stored.uid() {
        let (given, uid) = (owner.str("uid"), stored.uid());
        return refuse(attributes, format_args!("node {node} UID mismatch: expected {given} got {uid}"));
    }
    match api_reference(created.get("spec").unwrap_or(&Node::Null)) {
        Ok(None) => Ok(()),
        Ok(Some(what)) => refuse(attributes, format_args!("node {quoted} can not create pods that reference {what}")),
        Err(why) => refuse(attributes, format_args!("error checking mirror pod for API references: {why}")),
    }
}

/// The first kind of API object that a pod refers to.
fn api_reference(spec: &Node) -> Result<Option<&'static str>, String> {
    const PLAIN: [&str; 22] = [
        "awsElasticBlockStore",
        "azureDisk",
        "cephfs",
        "cinder",
        "downwardAPI",
        "emptyDir",
        "fc",
        "flexVolume",
        "flocker",
        "gcePersistentDisk",
        "gitRepo",
        "hostPath",
        "image",
        "iscsi",
        "nfs",
        "photonPersistentDisk",
        "portworxVolume",
        "quobyte",
        "rbd",
        "scaleIO",
        "storageos",
        "vsphereVolume",
    ];
    const REFERRING: [(&str, &str); 7] = [
        ("configMap", "configmaps (via configmap volumes)"),
        ("secret", "secrets (via secret volumes)"),
        ("csi", "csidrivers (via CSI volumes)"),
        ("glusterfs", "endpoints (via glusterFS volumes)"),
        ("persistentVolumeClaim", "persistentvolumeclaims"),
        ("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
        ("azureFile", "secrets (via azureFile volumes)"),
    ];
    const PROJECTED: [(&str, &str); 5] = [
        ("configMap", "configmaps (via projected volumes)"),
        ("secret", "secrets (via projected volumes)"),
        ("serviceAccountToken", "serviceaccounts (via projected volumes)"),
        ("clusterTrustBundle", "clustertrustbundles"),
        ("podCertificate", "podcertificates"),
    ];
    if !spec.str("serviceAccountName").is_empty() {
        return Ok(Some("serviceaccounts"));
    }
    if pod::references_secrets(spec) {
        return Ok(Some("secrets"));
    }
    if pod::references_config_maps(spec) {
        return Ok(Some("configmaps"));
    }
    if !spec.list("resourceClaims").is_empty() {
        return Ok(Some("resourceclaims"));
    }
    for volume in spec.list("volumes") {
        let name = go_quote(volume.str("name"));
        if PLAIN.iter().any(|source| volume.get(source).is_some()) {
            continue;
        }
        if let Some((_, what)) = REFERRING.iter().find(|(source, _)| volume.get(source).is_some()) {
            return Ok(Some(what));
        }
        let Some(projected) = volume.get("projected") else {
            return Err(format!("unknown volume type for volume  {name}"));
        };
        for source in projected.list("sources") {
            if let Some((_, what)) = PROJECTED.iter().find(|(kind, _)| source.get(kind).is_some()) {
                return Ok(Some(what));
            }
            if source.get("downwardAPI").is_none() {
                return Err(format!("unknown source for projected volume {name}"));
            }
        }
    }
    Ok(None)
}

fn check_pod_status(node: &str, attributes: &Attributes) -> StatusResult<()> {
    let quoted = go_quote(node);
    if !attributes.updates() {
        let operation = go_quote(attributes.operation.as_str());
        return refuse(attributes, format_args!("unexpected operation {operation}"));
    }
    let (new, old) = (&attributes.object, &*attributes.old_object);
    if old.str_at(&["spec", "nodeName"]) != node {
        let why = format!("node {quoted} can only update pod status for pods with spec.nodeName set to itself");
        return refuse(attributes, why);
    }
    let same = |path: &[&str]| {
        let set = |node: &Node| node.at(path).filter(|value| !value.is_zero()).cloned();
        set(new) == set(old)
    };
    if !same(&["metadata", "labels"]) {
        return refuse(attributes, format_args!("node {quoted} cannot update labels through pod status"));
    }
    if !same(&["status", "resourceClaimStatuses"]) {
        return refuse(attributes, format_args!("node {quoted} cannot update resource claim statues"));
    }
    if !same(&["status", "extendedResourceClaimStatus"]) {
        return refuse(attributes, format_args!("node {quoted} cannot update extended resource claim status"));
    }
    Ok(())
}

async fn check_eviction(node: &str, attributes: &Attributes, cluster: &Cluster) -> StatusResult<()> {
    if !attributes.creates() {
        let operation = attributes.operation.as_str();
        return refuse(attributes, format_args!("unexpected operation {operation}"));
    }
    let name = if attributes.name.is_empty() { attributes.object.name() } else { attributes.name.as_str() };
    if name.is_empty() {
        return refuse(attributes, "could not determine pod from request data");
    }
    let pod = cluster.find("", "pods", &attributes.namespace, name).await.ok_or_else(|| not_found("pods", name))?;
    if pod.str_at(&["spec", "nodeName"]) != node {
        return refuse(attributes, format_args!("node {node} can only evict pods with spec.nodeName set to itself"));
    }
    Ok(())
}

// === nodes ===

fn check_node(node: &str, attributes: &Attributes) -> StatusResult<()> {
    let quoted = go_quote(node);
    if attributes.name != node {
        let other = go_quote(&attributes.name);
        return refuse(attributes, format_args!("node {quoted} is not allowed to modify node {other}"));
    }
    let (new, old) = (&attributes.object, &*attributes.old_object);
    let at = |node: &Node, path: &[&str]| node.at(path).filter(|value| !value.is_zero()).cloned();
    let source = at(new, &["spec", "configSource"]);
    match attributes.operation {
        Operation::Create => {
            if source.is_some() {
                let why = format!("node {quoted} is not allowed to create pods with a non-nil configSource");
                return refuse(attributes, why);
            }
            let labels = forbidden_labels(new.labels(), None);
            if !labels.is_empty() {
                let why = format!("node {quoted} is not allowed to set the following labels: {}", labels.join(", "));
                return refuse(attributes, why);
            }
            Ok(())
        }
        Operation::Update => {
            if source.is_some() && source != at(old, &["spec", "configSource"]) {
                let why = format!("node {quoted} is not allowed to update configSource to a new non-nil configSource");
                return refuse(attributes, why);
            }
            if at(new, &["spec", "taints"]) != at(old, &["spec", "taints"]) {
                return refuse(attributes, format_args!("node {quoted} is not allowed to modify taints"));
            }
            if at(new, &["metadata", "ownerReferences"]) != at(old, &["metadata", "ownerReferences"]) {
                return refuse(attributes, format_args!("node {quoted} is not allowed to modify ownerReferences"));
            }
            let labels = forbidden_labels(new.labels(), old.labels());
            if !labels.is_empty() {
                let labels = labels.join(", ");
                return refuse(attributes, format_args!("is not allowed to modify labels: {labels}"));
            }
            Ok(())
        }
        Operation::Delete | Operation::Connect => Ok(()),
    }
}

/// The labels a kubelet sets and may not set: those of node restriction, and Kubernetes' own but for a few.
fn forbidden_labels<'a>(new: Option<&'a Map>, old: Option<&'a Map>) -> Vec<&'a str> {
    let changed = |a: Option<&'a Map>, b: Option<&'a Map>| {
        let entries = a.into_iter().flat_map(Map::iter);
        entries.filter(move |(key, value)| b.and_then(|b| b.get(key)) != Some(value)).map(|(key, _)| key.as_str())
    };
    let keys: BTreeSet<&str> = changed(new, old).chain(changed(old, new)).collect();
    keys.into_iter().filter(|key| is_forbidden(key)).collect()
}

fn is_forbidden(label: &str) -> bool {
    const ALLOWED: [&str; 11] = [
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
    ];
    let domain = label.split_once('/').map_or("", |(domain, _)| domain);
    let within = |parent: &str| domain.strip_suffix(parent).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    if within("node-restriction.kubernetes.io") {
        return true;
    }
    let own = within("kubernetes.io") || within("k8s.io");
    own && !ALLOWED.contains(&label) && !within("kubelet.kubernetes.io") && !within("node.kubernetes.io")
}

// === what belongs to pods and nodes ===

fn check_claim_status(node: &str, attributes: &Attributes) -> StatusResult<()> {
    if !attributes.updates() {
        let operation = go_quote(attributes.operation.as_str());
        return refuse(attributes, format_args!("unexpected operation {operation}"));
    }
    let rest = |claim: &Node| {
        let mut claim = claim.clone();
        for field in ["resourceVersion", "managedFields"] {
            claim.remove_at(&["metadata", field]);
        }
        for field in ["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"] {
            claim.remove_at(&["status", field]);
        }
        claim
    };
    if rest(&attributes.object) == rest(&attributes.old_object) {
        return Ok(());
    }
    let node = go_quote(node);
    let why = format!("node {node} is not allowed to update fields other than status.quantity and status.conditions");
    refuse(attributes, why)
}

/// Tokens are for pods that run on the node, and for audiences that those pods ask for.
async fn check_token(node: &str, attributes: &Attributes, cluster: &Cluster) -> StatusResult<()> {
    let spec = attributes.object.get("spec").unwrap_or(&Node::Null);
    let bound = spec.get("boundObjectRef").unwrap_or(&Node::Null);
    if bound.str("apiVersion") != "v1" || bound.str("kind") != "Pod" || bound.str("name").is_empty() {
        return refuse(attributes, "node requested token not bound to a pod");
    }
    let uid = bound.str("uid");
    if uid.is_empty() {
        return refuse(attributes, "node requested token with a pod binding without a uid");
    }
    let name = bound.str("name");
    let pod = cluster.find("", "pods", &attributes.namespace, name).await.ok_or_else(|| not_found("pods", name))?;
    if uid != pod.uid() {
        return refuse(
            attributes,
            format_args!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have \
                 been deleted and then recreated"
            ),
        );
    }
    if pod.str_at(&["spec", "nodeName"]) != node {
        return refuse(attributes, "node requested token bound to a pod scheduled on a different node");
    }
    let audience = match spec.list("audiences") {
        [] => "",
        [one] => one.as_str().unwrap_or(""),
        _ => return refuse(attributes, "node may only request 0 or 1 audiences"),
    };
    if asks_for_audience(&pod, audience, cluster) {
        return Ok(());
    }
    let action = Action {
        verb: "request-serviceaccounts-token-audience",
        version: "v1",
        resource: audience,
        namespace: &attributes.namespace,
        name: attributes.name.clone(),
        ..Action::default()
    };
    if cluster.permissions.allowed(&attributes.user, action).await {
        return Ok(());
    }
    let (audience, user) = (go_quote(audience), &attributes.user.name);
    let why = format!("audience {audience} not found in pod spec volume, {user} is not authorized to request tokens for this audience");
    refuse(attributes, why)
}

/// Whether a volume of the pod wants tokens for an audience, by itself or through its CSI driver.
fn asks_for_audience(pod: &Node, audience: &str, cluster: &Cluster) -> bool {
    let namespace = pod.namespace();
    let driver_of_claim = |claim: &str| {
        let claim = cluster.lookup.get("", "persistentvolumeclaims", namespace, claim)?;
        let volume = cluster.lookup.get("", "persistentvolumes", "", claim.str_at(&["spec", "volumeName"]))?;
        Some(volume.str_at(&["spec", "csi", "driver"]).to_owned())
    };
    let by_driver = |driver: &str| {
        let driver = cluster.lookup.get("storage.k8s.io", "csidrivers", "", driver);
        driver.is_some_and(|driver| {
            let requests = driver.get("spec").map_or(&[][..], |spec| spec.list("tokenRequests"));
            requests.iter().any(|request| request.str("audience") == audience)
        })
    };
    pod.get("spec").map_or(&[][..], |spec| spec.list("volumes")).iter().any(|volume| {
        if let Some(projected) = volume.get("projected") {
            let mut tokens = projected.list("sources").iter().filter_map(|source| source.get("serviceAccountToken"));
            return tokens.any(|token| token.str("audience") == audience);
        }
        let driver = if volume.at(&["ephemeral", "volumeClaimTemplate"]).is_some() {
            driver_of_claim(&format!("{}-{}", pod.name(), volume.str("name")))
        } else if let Some(claim) = volume.get("persistentVolumeClaim") {
            driver_of_claim(claim.str("claimName"))
        } else {
            Some(volume.str_at(&["csi", "driver"]).to_owned())
        };
        driver.is_some_and(|driver| !driver.is_empty() && by_driver(&driver))
    })
}

fn check_slice(node: &str, attributes: &Attributes) -> StatusResult<()> {
    let (slice, what) = match attributes.operation {
        Operation::Create => (&attributes.object, "create"),
        Operation::Delete => (&*attributes.old_object, "delete"),
        Operation::Update | Operation::Connect => return Ok(()),
    };
    if slice.str_at(&["spec", "nodeName"]) == node {
        return Ok(());
    }
    refuse(attributes, format_args!("can only {what} ResourceSlice with the same NodeName as the requesting node"))
}

fn check_certificate_request(node: &str, attributes: &Attributes) -> StatusResult<()> {
    let spec = attributes.object.get("spec").unwrap_or(&Node::Null);
    if !matches!(spec.str("signerName"), "kubernetes.io/kubelet-serving" | "kubernetes.io/kube-apiserver-client-kubelet") {
        return Ok(());
    }
    match subject(spec.str("request")) {
        Err(why) => refuse(attributes, format_args!("unable to parse csr: {why}")),
        Ok(subject) if subject.common_name == format!("{PREFIX}{node}") => Ok(()),
        Ok(_) => refuse(attributes, format_args!("can only create a node CSR with CN={PREFIX}{node}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fake, create, run, update};
    use fairlead_api::{UserInfo, node};
    use std::sync::Arc;

    fn as_node(mut attributes: Attributes) -> Attributes {
        attributes.user = Arc::new(UserInfo::new("system:node:n1", &[NODES]));
        attributes
    }

    /// CVE-2025-5187, CVE-2025-4563: what a node must not do to itself.
    #[test]
    fn a_node_cannot_make_itself_more_than_it_is() {
        let old = node!({"kind": "Node", "metadata": {"name": "n1", "labels": {"a": "b"}}});
        for (path, value, why) in [
            (
                &["metadata", "ownerReferences"][..],
                node!([{"name": "x"}]),
                "node \"n1\" is not allowed to modify ownerReferences",
            ),
            (&["spec", "taints"], node!([{"key": "x"}]), "node \"n1\" is not allowed to modify taints"),
            (
                &["metadata", "labels", "node-restriction.kubernetes.io/x"],
                node!("y"),
                "is not allowed to modify labels: node-restriction.kubernetes.io/x",
            ),
        ] {
            let mut new = old.clone();
            new.set_at(path, value);
            let mut request = as_node(update("nodes", old.clone(), new));
            let refused = run(&NodeRestriction, &mut request, &Fake::default().cluster()).unwrap_err();
            assert!(refused.ends_with(why), "{refused}");
        }
        let mut new = old.clone();
        new.set_at(&["metadata", "labels", "kubelet.kubernetes.io/x"], "y");
        assert_eq!(run(&NodeRestriction, &mut as_node(update("nodes", old, new)), &Fake::default().cluster()), Ok(()));
    }

    #[test]
    fn mirror_pods_refer_to_nothing() {
        let pod = |claims: Node| {
            let mut pod = node!({"kind": "Pod", "metadata": {"name": "p", "annotations": {"kubernetes.io/config.mirror": "x"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u", "controller": true}]},
                "spec": {"nodeName": "n1"}});
            pod.set_at(&["spec", "resourceClaims"], claims);
            as_node(create("pods", pod))
        };
        let cluster = Fake::default().with("nodes", node!({"metadata": {"name": "n1", "uid": "u"}})).cluster();
        assert_eq!(run(&NodeRestriction, &mut pod(node!([])), &cluster), Ok(()));
        let refused = run(&NodeRestriction, &mut pod(node!([{"name": "c"}])), &cluster).unwrap_err();
        assert!(refused.ends_with("node \"n1\" can not create pods that reference resourceclaims"), "{refused}");
    }
}
