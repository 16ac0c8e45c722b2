//! The admission plugins: what each is ([`Plugin`]), and in which order they run ([`ORDER`]).
// PERFORMANCE: per-request path

use crate::{Attributes, Cluster};
use fairlead_api::StatusResult;
use futures_util::future::BoxFuture;

/// One rule about writes. Does nothing unless it overrides `mutate` or `validate`, and says so.
pub trait Plugin: Send + Sync {
    fn mutates(&self) -> bool {
        false
    }

    fn validates(&self) -> bool {
        false
    }

    /// Whether this can matter to such a request. Asked of every plugin on every write: compares words, nothing more.
    fn concerns(&self, attributes: &Attributes) -> bool;

    /// # Errors
    /// What ends the request.
    fn mutate<'a>(&'a self, _: &'a mut Attributes, _: &'a Cluster) -> BoxFuture<'a, StatusResult<()>> {
        now(Ok(()))
    }

    /// # Errors
    /// What ends the request.
    fn validate<'a>(&'a self, _: &'a mut Attributes, _: &'a Cluster) -> BoxFuture<'a, StatusResult<()>> {
        now(Ok(()))
    }
}

/// A plugin by its name.
pub struct Entry {
    pub name: &'static str,
    pub default_on: bool,
    /// `None` for what this server does not have. What is on by default and missing has nothing to do (yet).
    pub make: Option<fn() -> Box<dyn Plugin>>,
}

/// The result of something that did not have to wait.
pub(crate) fn now<'a>(result: StatusResult<()>) -> BoxFuture<'a, StatusResult<()>> {
    Box::pin(std::future::ready(result))
}

macro_rules! plugins {
    ($($name:literal $state:ident $($module:ident :: $type:ident)?;)+) => {
        $($(pub mod $module; const _: Option<$module::$type> = None;)?)+

        /// Upstream's order of all plugins (kubernetes pkg/kubeapiserver/options/plugins.go).
        pub const ORDER: &[Entry] = &[$(Entry {
            name: $name,
            default_on: plugins!(@state $state),
            make: plugins!(@make $($module::$type)?),
        }),+];
    };
    (@state on) => { true };
    (@state off) => { false };
    (@make) => { None };
    (@make $module:ident :: $type:ident) => { Some(|| Box::<$module::$type>::default()) };
}

plugins! {
    "AlwaysAdmit" off;
    "NamespaceAutoProvision" off;
    "NamespaceLifecycle" on namespace_lifecycle::NamespaceLifecycle;
    "NamespaceExists" off namespace_exists::NamespaceExists;
    "LimitPodHardAntiAffinityTopology" off;
    "LimitRanger" on limit_ranger::LimitRanger;
    "ServiceAccount" on service_account::ServiceAccount;
    "NodeRestriction" off node_restriction::NodeRestriction;
    "TaintNodesByCondition" on taint_nodes_by_condition::TaintNodesByCondition;
    "AlwaysPullImages" off;
    "ImagePolicyWebhook" off;
    "PodSecurity" on pod_security::PodSecurity;
    "PodNodeSelector" off;
    "Priority" on priority::Priority;
    "DefaultTolerationSeconds" on default_toleration_seconds::DefaultTolerationSeconds;
    "PodTolerationRestriction" off;
    "EventRateLimit" off;
    "ExtendedResourceToleration" off;
    "DefaultStorageClass" on default_storage_class::DefaultStorageClass;
    "StorageObjectInUseProtection" on storage_object_in_use_protection::StorageObjectInUseProtection;
    "PodGroupProtection" on;
    "OwnerReferencesPermissionEnforcement" off;
    "PersistentVolumeClaimResize" on persistent_volume_claim_resize::PersistentVolumeClaimResize;
    "RuntimeClass" on runtime_class::RuntimeClass;
    "CertificateApproval" on certificate_approval::CertificateApproval;
    "CertificateSigning" on certificate_signing::CertificateSigning;
    "ClusterTrustBundleAttest" on cluster_trust_bundle_attest::ClusterTrustBundleAttest;
    "CertificateSubjectRestriction" on certificate_subject_restriction::CertificateSubjectRestriction;
    "DefaultIngressClass" on default_ingress_class::DefaultIngressClass;
    "DenyServiceExternalIPs" off;
    "PodTopologyLabels" on pod_topology_labels::PodTopologyLabels;
    "PodGroupWorkloadExists" on;
    "NodeDeclaredFeatureValidator" on node_declared_feature_validator::NodeDeclaredFeatureValidator;
    "JobValidation" on;
    "PodResizeValidator" on pod_resize_validator::PodResizeValidator;
    "MutatingAdmissionPolicy" on mutating_admission_policy::MutatingAdmissionPolicy;
    "MutatingAdmissionWebhook" on mutating_admission_webhook::MutatingAdmissionWebhook;
    "ValidatingAdmissionPolicy" on validating_admission_policy::ValidatingAdmissionPolicy;
    "ValidatingAdmissionWebhook" on validating_admission_webhook::ValidatingAdmissionWebhook;
    "ResourceQuota" on resource_quota::ResourceQuota;
    "AlwaysDeny" off;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `AllOrderedPlugins` and `DefaultOffAdmissionPlugins` of kubernetes 1.36 have them.
    #[test]
    fn the_order_is_upstreams() {
        let ours = ORDER
            .iter()
            .map(|entry| format!("{} {}\n", entry.name, if entry.default_on { "on" } else { "off" }));
        assert_eq!(ours.collect::<String>(), include_str!("../testdata/order.txt"));
    }
}
