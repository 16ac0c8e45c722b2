//! What a pod needs from the API, and which secrets a volume needs on the node.
//!
//! Source of behaviour: kubernetes pkg/api/v1/pod (visitors), pkg/api/v1/persistentvolume,
//! plugin/pkg/auth/authorizer/node/graph.go (AddPod).

use super::graph::{Kind, Object};
use fairlead_api::Node;

/// Everything in a pod's namespace that its node has to read. A mirror pod needs nothing.
pub(super) fn pod_references(pod: &Node) -> Vec<Object> {
    if pod
        .annotations()
        .is_some_and(|a| a.contains_key("kubernetes.io/config.mirror"))
    {
        return Vec::new();
    }
    let mut found = Found {
        namespace: pod.namespace(),
        objects: Vec::new(),
    };
    let spec = pod.get("spec").unwrap_or(&Node::Null);
    found.add(Kind::ServiceAccount, spec.str("serviceAccountName"));
    for secret in spec.list("imagePullSecrets") {
        found.add(Kind::Secret, secret.str("name"));
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in spec.list(list) {
            found.container(container);
        }
    }
    for volume in spec.list("volumes") {
        found.volume(pod.name(), volume);
    }
    for claim in spec.list("resourceClaims") {
        found.add(Kind::ResourceClaim, resource_claim(pod, claim));
    }
    found.add(
        Kind::ResourceClaim,
        pod.str_at(&["status", "extendedResourceClaimStatus", "resourceClaimName"]),
    );
    found.objects
}

/// The secrets a kubelet needs to mount a volume.
pub(super) fn volume_secrets(volume: &Node) -> Vec<Object> {
    let spec = volume.get("spec").unwrap_or(&Node::Null);
    let claim_namespace = spec.str_at(&["claimRef", "namespace"]);
    let mut secrets = Vec::new();
    let mut add = |namespace: &str, name: &str| {
        if !name.is_empty() {
            secrets.push((Kind::Secret, namespace.into(), name.into()));
        }
    };
    if let Some(azure) = spec.get("azureFile") {
        let own = azure.str("secretNamespace");
        add(
            if own.is_empty() { claim_namespace } else { own },
            azure.str("secretName"),
        );
    }
    // Volumes from before secret references had namespaces use the claim's.
    for source in ["cephfs", "flexVolume", "rbd", "scaleIO", "iscsi"] {
        if let Some(secret) = spec.at(&[source, "secretRef"]) {
            let own = secret.str("namespace");
            add(if own.is_empty() { claim_namespace } else { own }, secret.str("name"));
        }
    }
    for path in [
        ["cinder", "secretRef"],
        ["storageos", "secretRef"],
        ["csi", "nodePublishSecretRef"],
        ["csi", "nodeStageSecretRef"],
        ["csi", "nodeExpandSecretRef"],
    ] {
        if let Some(secret) = spec.at(&path) {
            add(secret.str("namespace"), secret.str("name"));
        }
    }
    secrets
}

struct Found<'a> {
    namespace: &'a str,
    objects: Vec<Object>,
}

impl Found<'_> {
    fn add(&mut self, kind: Kind, name: &str) {
        if !name.is_empty() {
            self.objects.push((kind, self.namespace.into(), name.into()));
        }
    }

    fn container(&mut self, container: &Node) {
        for source in container.list("envFrom") {
            self.add(Kind::Secret, source.str_at(&["secretRef", "name"]));
            self.add(Kind::ConfigMap, source.str_at(&["configMapRef", "name"]));
        }
        for variable in container.list("env") {
            self.add(Kind::Secret, variable.str_at(&["valueFrom", "secretKeyRef", "name"]));
            self.add(
                Kind::ConfigMap,
                variable.str_at(&["valueFrom", "configMapKeyRef", "name"]),
            );
        }
    }

    fn volume(&mut self, pod_name: &str, volume: &Node) {
        self.add(Kind::Secret, volume.str_at(&["secret", "secretName"]));
        self.add(Kind::Secret, volume.str_at(&["azureFile", "secretName"]));
        for source in ["cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos"] {
            self.add(Kind::Secret, volume.str_at(&[source, "secretRef", "name"]));
        }
        self.add(Kind::Secret, volume.str_at(&["csi", "nodePublishSecretRef", "name"]));
        self.add(Kind::ConfigMap, volume.str_at(&["configMap", "name"]));
        for source in volume.get("projected").map_or(&[][..], |p| p.list("sources")) {
            self.add(Kind::Secret, source.str_at(&["secret", "name"]));
            self.add(Kind::ConfigMap, source.str_at(&["configMap", "name"]));
        }
        self.add(Kind::Claim, volume.str_at(&["persistentVolumeClaim", "claimName"]));
        if volume.get("ephemeral").is_some() {
            self.add(Kind::Claim, &format!("{pod_name}-{}", volume.str("name")));
        }
    }
}

/// The name of the claim a pod's entry stands for: given, or made from a template and told in the status.
fn resource_claim<'a>(pod: &'a Node, claim: &'a Node) -> &'a str {
    let given = claim.str("resourceClaimName");
    if !given.is_empty() {
        return given;
    }
    let statuses = pod.get("status").map_or(&[][..], |s| s.list("resourceClaimStatuses"));
    statuses
        .iter()
        .find(|s| s.str("name") == claim.str("name"))
        .map_or("", |s| s.str("resourceClaimName"))
}
