//! Versions that nobody serves any more and kube-apiserver still knows: their objects are read, and then refused for
//! their version only.

use fairlead_api::GroupVersionKind;

/// Group, version, kinds: a line each. The kinds are those that a served version has, too.
const UNSERVED: &str = "\
admissionregistration.k8s.io v1alpha1 MutatingAdmissionPolicy MutatingAdmissionPolicyBinding ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding
admissionregistration.k8s.io v1beta1 MutatingAdmissionPolicy MutatingAdmissionPolicyBinding MutatingWebhookConfiguration ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding ValidatingWebhookConfiguration
apiextensions.k8s.io v1beta1 CustomResourceDefinition
apps v1beta1 ControllerRevision Deployment StatefulSet
apps v1beta2 ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet
authentication.k8s.io v1alpha1 SelfSubjectReview
authentication.k8s.io v1beta1 SelfSubjectReview TokenReview
authorization.k8s.io v1beta1 LocalSubjectAccessReview SelfSubjectAccessReview SelfSubjectRulesReview SubjectAccessReview
batch v1beta1 CronJob
certificates.k8s.io v1beta1 CertificateSigningRequest
coordination.k8s.io v1beta1 Lease
discovery.k8s.io v1beta1 EndpointSlice
events.k8s.io v1beta1 Event
extensions v1beta1 DaemonSet Deployment Ingress NetworkPolicy ReplicaSet
flowcontrol.apiserver.k8s.io v1beta1 FlowSchema PriorityLevelConfiguration
flowcontrol.apiserver.k8s.io v1beta2 FlowSchema PriorityLevelConfiguration
flowcontrol.apiserver.k8s.io v1beta3 FlowSchema PriorityLevelConfiguration
networking.k8s.io v1beta1 IPAddress Ingress IngressClass ServiceCIDR
node.k8s.io v1alpha1 RuntimeClass
node.k8s.io v1beta1 RuntimeClass
policy v1beta1 Eviction PodDisruptionBudget
rbac.authorization.k8s.io v1alpha1 ClusterRole ClusterRoleBinding Role RoleBinding
rbac.authorization.k8s.io v1beta1 ClusterRole ClusterRoleBinding Role RoleBinding
resource.k8s.io v1beta1 DeviceClass ResourceClaim ResourceClaimTemplate ResourceSlice
resource.k8s.io v1beta2 DeviceClass ResourceClaim ResourceClaimTemplate ResourceSlice
scheduling.k8s.io v1beta1 PriorityClass
storage.k8s.io v1alpha1 CSIStorageCapacity VolumeAttachment VolumeAttributesClass
storage.k8s.io v1beta1 CSIDriver CSINode CSIStorageCapacity StorageClass VolumeAttachment VolumeAttributesClass";

/// The served version of a kind that is known in this one, but not served; of what a kind was before it moved to
/// another group, where it is now.
pub fn successor(kind: &GroupVersionKind) -> Option<GroupVersionKind> {
    let is_known = UNSERVED.lines().any(|line| {
        let mut words = line.split(' ');
        let version = (words.next(), words.next());
        version == (Some(&*kind.group), Some(&*kind.version)) && words.any(|known| known == kind.kind)
    });
    if !is_known {
        return None;
    }
    let group = match (kind.group.as_str(), kind.kind.as_str()) {
        ("extensions", "Ingress" | "NetworkPolicy") => "networking.k8s.io",
        ("extensions", _) => "apps",
        (group, _) => group,
    };
    Some(GroupVersionKind::new(group, "v1", &kind.kind))
}

/// Whether two kinds are one, in two versions or in two groups.
pub fn same(one: &GroupVersionKind, other: &GroupVersionKind) -> bool {
    let now = |kind: &GroupVersionKind| {
        let kind = successor(kind).unwrap_or_else(|| kind.clone());
        // Events are the only kind that two groups serve.
        match (kind.group.as_str(), kind.kind.as_str()) {
            ("events.k8s.io", "Event") => (Default::default(), kind.kind),
            _ => (kind.group, kind.kind),
        }
    };
    one == other || now(one) == now(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(group: &str, version: &str, kind: &str) -> GroupVersionKind {
        GroupVersionKind::new(group, version, kind)
    }

    #[test]
    fn old_versions_have_successors() {
        let deployment = kind("apps", "v1", "Deployment");
        for (group, version) in [("extensions", "v1beta1"), ("apps", "v1beta2")] {
            let old = kind(group, version, "Deployment");
            assert_eq!(successor(&old), Some(deployment.clone()));
            assert!(same(&old, &deployment));
        }
        let ingress = kind("extensions", "v1beta1", "Ingress");
        assert!(same(&ingress, &kind("networking.k8s.io", "v1", "Ingress")) && !same(&ingress, &deployment));
        for unknown in [
            kind("apps", "v1beta1", "DaemonSet"),
            kind("apps", "v1", "Deployment"),
            kind("batch", "v2", "Job"),
        ] {
            assert_eq!(successor(&unknown), None);
        }
        assert!(same(&kind("events.k8s.io", "v1", "Event"), &kind("", "v1", "Event")));
        assert!(!same(&kind("", "v1", "Pod"), &kind("", "v1", "PodTemplate")));
    }
}
