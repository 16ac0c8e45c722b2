//! The hook table: which resource has which hooks.

use crate::allocators::Allocators;
use crate::auth::{self, Auth, Token};
use crate::enabled::Enabled;
use crate::peers::Peers;
use crate::{
    admissionregistration, apiextensions, apiregistration, apps, autoscaling, batch, certificates, coordination, core,
    discovery, events, flowcontrol, gateway, networking, node, policy, rbac, resource, scheduling, storage,
};
use fairlead_resource::at_rest::Form;
use fairlead_resource::hooks::{Hooks, NoHooks};
use std::sync::Arc;

/// What hooks need from the rest of the server.
#[derive(Clone)]
pub struct Deps {
    /// `None` in tools that only look at definitions.
    pub auth: Option<Arc<Auth>>,
    pub allocators: Allocators,
    /// The hooks of `customresourcedefinitions`: `None` in tools.
    pub custom: Option<Arc<dyn Hooks>>,
    /// Which group-versions and resources are served.
    pub enabled: Enabled,
    /// What objects are written as.
    pub form: Form,
}

impl Default for Deps {
    /// The default ranges of service addresses and node ports.
    fn default() -> Deps {
        let range = "10.0.0.0/24".parse().expect("a range in CIDR notation");
        Deps {
            auth: None,
            custom: None,
            enabled: Enabled::default(),
            form: Form::Json,
            allocators: Allocators::in_memory(vec![range], 30000..=32767),
        }
    }
}

/// The hooks of a resource, by group and plural name.
#[rustfmt::skip]
pub fn of(group: &str, plural: &str, deps: &Deps, peers: &Peers) -> Arc<dyn Hooks> {
    let auth = || deps.auth.clone();
    match (group, plural) {
        ("", "bindings") => Arc::new(core::pods::binding::Bindings::new(peers)),
        ("", "componentstatuses") => Arc::new(core::componentstatuses::ComponentStatuses),
        ("", "configmaps") => Arc::new(core::configmaps::ConfigMaps),
        ("", "endpoints") => Arc::new(core::endpoints::Endpoints),
        ("", "events") => Arc::new(core::events::Events),
        ("", "limitranges") => Arc::new(core::limitranges::LimitRanges),
        ("", "namespaces") => Arc::new(core::namespaces::Namespaces),
        ("", "nodes") => Arc::new(core::nodes::Nodes),
        ("", "persistentvolumeclaims") => Arc::new(core::persistentvolumeclaims::PersistentVolumeClaims),
        ("", "persistentvolumes") => Arc::new(core::persistentvolumes::PersistentVolumes),
        ("", "pods") => Arc::new(core::pods::Pods::new(peers)),
        ("", "podtemplates") => Arc::new(core::podtemplates::PodTemplates),
        ("", "replicationcontrollers") => Arc::new(core::replicationcontrollers::ReplicationControllers),
        ("", "resourcequotas") => Arc::new(core::resourcequotas::ResourceQuotas),
        ("", "secrets") => Arc::new(core::secrets::Secrets),
        ("", "serviceaccounts") => Arc::new(core::serviceaccounts::ServiceAccounts { token: auth().map(Token) }),
        ("", "services") => Arc::new(core::services::Services { allocators: deps.allocators.clone() }),
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies") => Arc::new(admissionregistration::policies::Policies { rules: "mutations" }),
        ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings") => Arc::new(admissionregistration::policies::PolicyBindings { mutates: true }),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations") => Arc::new(admissionregistration::webhooks::MutatingWebhookConfigurations),
        ("admissionregistration.k8s.io", "validatingadmissionpolicies") => Arc::new(admissionregistration::policies::Policies { rules: "validations" }),
        ("admissionregistration.k8s.io", "validatingadmissionpolicybindings") => Arc::new(admissionregistration::policies::PolicyBindings { mutates: false }),
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations") => Arc::new(admissionregistration::webhooks::ValidatingWebhookConfigurations),
        ("apiextensions.k8s.io", "customresourcedefinitions") => deps.custom.clone().unwrap_or_else(|| Arc::new(apiextensions::customresourcedefinitions::CustomResourceDefinitions)),
        ("apiregistration.k8s.io", "apiservices") => Arc::new(apiregistration::apiservices::APIServices),
        ("apps", "controllerrevisions") => Arc::new(apps::controllerrevisions::ControllerRevisions),
        ("apps", "daemonsets") => Arc::new(apps::daemonsets::DaemonSets),
        ("apps", "deployments") => Arc::new(apps::deployments::Deployments),
        ("apps", "replicasets") => Arc::new(apps::replicasets::ReplicaSets),
        ("apps", "statefulsets") => Arc::new(apps::statefulsets::StatefulSets),
        ("autoscaling", "horizontalpodautoscalers") => Arc::new(autoscaling::horizontalpodautoscalers::HorizontalPodAutoscalers),
        ("batch", "cronjobs") => Arc::new(batch::cronjobs::CronJobs),
        ("batch", "jobs") => Arc::new(batch::jobs::Jobs),
        ("certificates.k8s.io", "certificatesigningrequests") => Arc::new(certificates::certificatesigningrequests::CertificateSigningRequests),
        ("coordination.k8s.io", "leases") => Arc::new(coordination::leases::Leases),
        ("discovery.k8s.io", "endpointslices") => Arc::new(discovery::endpointslices::EndpointSlices),
        ("events.k8s.io", "events") => Arc::new(events::events::Events),
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => Arc::new(flowcontrol::flowschemas::FlowSchemas),
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => Arc::new(flowcontrol::prioritylevelconfigurations::PriorityLevelConfigurations),
        ("gateway.fairlead.dev", "backendpolicies") => Arc::new(gateway::backendpolicies::BackendPolicies),
        ("networking.k8s.io", "ingressclasses") => Arc::new(networking::ingressclasses::IngressClasses),
        ("networking.k8s.io", "ingresses") => Arc::new(networking::ingresses::Ingresses),
        ("networking.k8s.io", "ipaddresses") => Arc::new(networking::ipaddresses::IPAddresses),
        ("networking.k8s.io", "networkpolicies") => Arc::new(networking::networkpolicies::NetworkPolicies),
        ("networking.k8s.io", "servicecidrs") => Arc::new(networking::servicecidrs::ServiceCIDRs),
        ("node.k8s.io", "runtimeclasses") => Arc::new(node::runtimeclasses::RuntimeClasses),
        ("policy", "poddisruptionbudgets") => Arc::new(policy::poddisruptionbudgets::PodDisruptionBudgets),
        ("rbac.authorization.k8s.io", "clusterrolebindings" | "rolebindings") => Arc::new(rbac::bindings::Bindings { auth: auth() }),
        ("rbac.authorization.k8s.io", "clusterroles" | "roles") => Arc::new(rbac::roles::Roles { auth: auth() }),
        ("resource.k8s.io", "deviceclasses") => Arc::new(resource::resourceslices::DeviceClasses),
        ("resource.k8s.io", "resourceclaims") => Arc::new(resource::resourceclaims::ResourceClaims { auth: auth() }),
        ("resource.k8s.io", "resourceclaimtemplates") => Arc::new(resource::resourceclaims::ResourceClaimTemplates { auth: auth() }),
        ("resource.k8s.io", "resourceslices") => Arc::new(resource::resourceslices::ResourceSlices),
        ("scheduling.k8s.io", "priorityclasses") => Arc::new(scheduling::priorityclasses::PriorityClasses),
        ("storage.k8s.io", "csidrivers") => Arc::new(storage::csidrivers::CSIDrivers),
        ("storage.k8s.io", "csinodes") => Arc::new(storage::csinodes::CSINodes),
        ("storage.k8s.io", "csistoragecapacities") => Arc::new(storage::csistoragecapacities::CSIStorageCapacities),
        ("storage.k8s.io", "storageclasses") => Arc::new(storage::classes::StorageClasses),
        ("storage.k8s.io", "volumeattachments") => Arc::new(storage::volumeattachments::VolumeAttachments),
        ("storage.k8s.io", "volumeattributesclasses") => Arc::new(storage::classes::VolumeAttributesClasses),
        _ => match auth().and_then(|auth| auth::review(group, plural, &auth)) {
            Some(review) => Arc::new(review),
            None => Arc::new(NoHooks),
        },
    }
}
