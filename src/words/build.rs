//! Collects the descriptions k8s-openapi carries into one compressed table: `type NUL field NUL text NUL …`, sorted.

use flate2::write::DeflateEncoder;
use schemars::SchemaGenerator;
use std::collections::BTreeMap;
use std::io::Write;

macro_rules! roots {
    ($generator:ident: $($module:path { $($kind:ident)+ })+) => {
        $({ use $module as m; $($generator.subschema_for::<m::$kind>();)+ })+
    };
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let mut generator = SchemaGenerator::default();
    collect(&mut generator);
    let mut words = BTreeMap::new();
    for (name, schema) in generator.definitions() {
        let text = |value: &schemars::_private::serde_json::Value| {
            value.get("description").and_then(|d| d.as_str()).map(str::to_owned)
        };
        words.extend(text(schema).map(|t| ((name.clone(), String::new()), t)));
        for (field, property) in schema
            .get("properties")
            .and_then(|p| p.as_object())
            .into_iter()
            .flatten()
        {
            words.extend(text(property).map(|t| ((name.clone(), field.clone()), t)));
        }
    }
    let directory = std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    let file = std::fs::File::create(std::path::Path::new(&directory).join("words")).expect("OUT_DIR is writable");
    let mut out = DeflateEncoder::new(file, flate2::Compression::best());
    for ((name, field), text) in &words {
        write!(out, "{name}\0{field}\0{text}\0").expect("OUT_DIR is writable");
    }
    out.finish().expect("OUT_DIR is writable");
}

#[rustfmt::skip]
fn collect(generator: &mut SchemaGenerator) {
    use k8s_openapi::{api, apiextensions_apiserver, apimachinery, kube_aggregator};
    roots! { generator:
        api::admissionregistration::v1 { MutatingWebhookConfiguration ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding
            ValidatingWebhookConfiguration MutatingAdmissionPolicy MutatingAdmissionPolicyBinding }
        api::apps::v1 { ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet }
        api::authentication::v1 { SelfSubjectReview TokenRequest TokenReview }
        api::authorization::v1 { LocalSubjectAccessReview SelfSubjectAccessReview SelfSubjectRulesReview SubjectAccessReview }
        api::autoscaling::v1 { HorizontalPodAutoscaler Scale }
        api::autoscaling::v2 { HorizontalPodAutoscaler }
        api::batch::v1 { CronJob Job }
        api::certificates::v1 { CertificateSigningRequest }
        api::coordination::v1 { Lease }
        api::core::v1 { Binding ComponentStatus ConfigMap Endpoints Event LimitRange Namespace Node PersistentVolume
            PersistentVolumeClaim Pod PodTemplate ReplicationController ResourceQuota Secret Service ServiceAccount }
        api::discovery::v1 { EndpointSlice }
        api::events::v1 { Event }
        api::flowcontrol::v1 { FlowSchema PriorityLevelConfiguration }
        api::networking::v1 { IPAddress Ingress IngressClass NetworkPolicy ServiceCIDR }
        api::node::v1 { RuntimeClass }
        api::policy::v1 { Eviction PodDisruptionBudget }
        api::rbac::v1 { ClusterRole ClusterRoleBinding Role RoleBinding }
        api::resource::v1 { DeviceClass ResourceClaim ResourceClaimTemplate ResourceSlice }
        api::scheduling::v1 { PriorityClass }
        api::storage::v1 { CSIDriver CSINode CSIStorageCapacity StorageClass VolumeAttachment VolumeAttributesClass }
        apiextensions_apiserver::pkg::apis::apiextensions::v1 { CustomResourceDefinition }
        kube_aggregator::pkg::apis::apiregistration::v1 { APIService }
        apimachinery::pkg::apis::meta::v1 { APIGroup APIGroupList APIResourceList APIVersions DeleteOptions ListMeta Patch Status }
    }
}
