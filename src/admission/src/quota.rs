//! What objects count as towards a ResourceQuota. For admission, and for the loop that recounts.
//!
//! Source of the rules: kubernetes pkg/quota/v1/evaluator/core.
// PERFORMANCE: per-request path

use crate::plugins::persistent_volume_claim_resize::class;
use crate::pod::{self, Amounts, Count};
use crate::{Attributes, Operation};
use fairlead_api::quantity::{Format, Quantity};
use fairlead_api::selector::LabelSelector;
use fairlead_api::{Map, Node, Timestamp, node};
use std::collections::{BTreeMap, BTreeSet};

mod compute;

pub use compute::usage as pod_usage;

/// How one resource is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Counting {
    Pods,
    Services,
    PersistentVolumeClaims,
    ResourceClaims,
    /// By number only, under these names.
    Objects(Vec<String>),
}

/// Resources that are not stored, or never were counted.
const IGNORED: [(&str, &str); 10] = [
    ("", "bindings"),
    ("", "componentstatuses"),
    ("", "events"),
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authentication.k8s.io", "tokenreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
    ("events.k8s.io", "events"),
];

/// Names that were there before `count/…`.
const ALIASES: [&str; 4] = ["configmaps", "resourcequotas", "replicationcontrollers", "secrets"];

const STORAGE_CLASS: &str = ".storageclass.storage.k8s.io/";
const DEVICE_CLASS: &str = ".deviceclass.resource.k8s.io/devices";
/// What "all devices" counts as.
const MOST_DEVICES: i64 = 32;

impl Counting {
    /// `None` for what is never counted.
    pub fn of(group: &str, plural: &str) -> Option<Counting> {
        if IGNORED.contains(&(group, plural)) {
            return None;
        }
        Some(match (group, plural) {
            ("", "pods") => Counting::Pods,
            ("", "services") => Counting::Services,
            ("", "persistentvolumeclaims") => Counting::PersistentVolumeClaims,
            ("resource.k8s.io", "resourceclaims") => Counting::ResourceClaims,
            ("", plural) => {
                let mut names = vec![format!("count/{plural}")];
                names.extend(
                    ALIASES
                        .iter()
                        .find(|alias| **alias == plural)
                        .map(|alias| (*alias).to_owned()),
                );
                Counting::Objects(names)
            }
            (group, plural) => Counting::Objects(vec![format!("count/{plural}.{group}")]),
        })
    }

    /// Whether such a write can change what is used.
    pub fn handles(&self, attributes: &Attributes) -> bool {
        let (operation, subresource) = (attributes.operation, attributes.subresource.as_str());
        let writes = matches!(operation, Operation::Create | Operation::Update);
        match self {
            Counting::Pods => match (subresource, operation) {
                ("", Operation::Create) | ("resize", Operation::Update) => true,
                ("", Operation::Update) => ends(&attributes.object) != ends(&attributes.old_object),
                _ => false,
            },
            Counting::PersistentVolumeClaims if subresource == "status" => {
                let (new, old) = (&attributes.object, &*attributes.old_object);
                operation == Operation::Update
                    && (new.at(ALLOCATED) != old.at(ALLOCATED) || attribute_classes(new) != attribute_classes(old))
            }
            Counting::Services | Counting::PersistentVolumeClaims | Counting::ResourceClaims => {
                subresource.is_empty() && writes
            }
            Counting::Objects(_) => subresource.is_empty() && operation == Operation::Create,
        }
    }

    /// Whether a quota for `resource` limits this.
    pub fn matches(&self, resource: &str) -> bool {
        match self {
            Counting::Pods => compute::matches(resource),
            Counting::Services => {
                matches!(
                    resource,
                    "count/services" | "services" | "services.nodeports" | "services.loadbalancers"
                )
            }
            Counting::PersistentVolumeClaims => {
                let claim = |name: &str| matches!(name, "persistentvolumeclaims" | "requests.storage");
                resource == "count/persistentvolumeclaims"
                    || claim(resource)
                    || resource.split_once(STORAGE_CLASS).is_some_and(|(_, rest)| claim(rest))
            }
            Counting::ResourceClaims => {
                resource == "count/resourceclaims.resource.k8s.io" || resource.ends_with(DEVICE_CLASS)
            }
            Counting::Objects(names) => names.iter().any(|name| name == resource),
        }
    }

    /// Whether an object is within one scope of a quota.
    pub fn in_scope(&self, scope: &Node, object: &Node) -> bool {
        match (self, scope.str("scopeName")) {
            (Counting::Pods, "Terminating") => ends(object),
            (Counting::Pods, "NotTerminating") => !ends(object),
            (Counting::Pods, "BestEffort") => compute::is_best_effort(object),
            (Counting::Pods, "NotBestEffort") => !compute::is_best_effort(object),
            (Counting::Pods, "CrossNamespacePodAffinity") => compute::crosses_namespaces(object),
            (Counting::Pods, "PriorityClass") => {
                let class = object.str_at(&["spec", "priorityClassName"]);
                let names: BTreeSet<&str> = Some(class).filter(|class| !class.is_empty()).into_iter().collect();
                selects(scope, &names)
            }
            (Counting::PersistentVolumeClaims, "VolumeAttributesClass") => selects(scope, &attribute_classes(object)),
            _ => false,
        }
    }

    /// What must be said and is not: for pods, the amounts that a quota for cpu or memory wants of every container.
    ///
    /// # Errors
    /// What is missing, in words.
    pub fn require(&self, limited: &[&str], object: &Node) -> Result<(), String> {
        match self {
            Counting::Pods => compute::require(limited, object),
            _ => Ok(()),
        }
    }

    /// What an object uses.
    pub fn usage(&self, object: &Node, now: Timestamp) -> Amounts {
        match self {
            Counting::Pods => compute::usage(object, now),
            Counting::Services => services(object),
            Counting::PersistentVolumeClaims => claims(object),
            Counting::ResourceClaims => devices(object),
            Counting::Objects(names) => names.iter().map(|name| (name.clone(), number(1))).collect(),
        }
    }
}

/// The scopes of a quota, as selectors.
pub fn scopes(quota: &Node) -> Vec<Node> {
    let Some(spec) = quota.get("spec") else {
        return Vec::new();
    };
    let plain = spec.list("scopes").iter().filter_map(Node::as_str);
    let mut scopes: Vec<Node> = plain
        .map(|name| node!({"scopeName": name, "operator": "Exists"}))
        .collect();
    if let Some(selector) = spec.get("scopeSelector") {
        scopes.extend_from_slice(selector.list("matchExpressions"));
    }
    scopes
}

fn number(count: i64) -> Quantity {
    Quantity::new(count, Format::DecimalSi)
}

/// Whether a pod ends by itself.
fn ends(pod: &Node) -> bool {
    pod.at(&["spec", "activeDeadlineSeconds"])
        .and_then(Node::as_i64)
        .is_some_and(|seconds| seconds >= 0)
}

/// Whether one of `names` is what the scope's selector asks for.
fn selects(scope: &Node, names: &BTreeSet<&str>) -> bool {
    match scope.str("operator") {
        "Exists" => !names.is_empty(),
        "DoesNotExist" => names.is_empty(),
        operator => {
            const KEY: &str = "name";
            let mut expression = node!({"key": KEY, "operator": operator});
            expression.set("values", scope.list("values").to_vec());
            let mut selector = Node::map();
            selector.set("matchExpressions", vec![expression]);
            let Ok(selector) = LabelSelector::from_node(&selector) else {
                return false;
            };
            let labelled = |name: Option<&str>| {
                let labels: Map = name.map(|name| (KEY, Node::string(name))).into_iter().collect();
                selector.matches(Some(&labels))
            };
            if names.is_empty() {
                labelled(None)
            } else {
                names.iter().any(|name| labelled(Some(name)))
            }
        }
    }
}

const ALLOCATED: &[&str] = &["status", "allocatedResources", "storage"];

/// The attribute classes a claim has, is to have, or is getting.
fn attribute_classes(claim: &Node) -> BTreeSet<&str> {
    const PLACES: [&[&str]; 3] = [
        &["spec", "volumeAttributesClassName"],
        &["status", "currentVolumeAttributesClassName"],
        &["status", "modifyVolumeStatus", "targetVolumeAttributesClassName"],
    ];
    PLACES
        .iter()
        .map(|path| claim.str_at(path))
        .filter(|name| !name.is_empty())
        .collect()
}

fn services(service: &Node) -> Amounts {
    let spec = service.get("spec").unwrap_or(&Node::Null);
    let ports = spec.list("ports");
    let kind = spec.str("type");
    let allocates = spec.get("allocateLoadBalancerNodePorts").and_then(Node::as_bool) != Some(false);
    let node_ports = match kind {
        "NodePort" => ports.len(),
        "LoadBalancer" if allocates => ports.len(),
        "LoadBalancer" => ports
            .iter()
            .filter(|port| port.get("nodePort").and_then(Node::as_i64).is_some_and(|p| p != 0))
            .count(),
        _ => 0,
    };
    let amounts = [
        ("count/services", 1),
        ("services", 1),
        ("services.nodeports", i64::try_from(node_ports).unwrap_or(i64::MAX)),
        ("services.loadbalancers", i64::from(kind == "LoadBalancer")),
    ];
    amounts
        .into_iter()
        .map(|(name, count)| (name.to_owned(), number(count)))
        .collect()
}

fn claims(claim: &Node) -> Amounts {
    let mut amounts = Amounts::new();
    amounts.insert("persistentvolumeclaims".into(), number(1));
    amounts.insert("count/persistentvolumeclaims".into(), number(1));
    let class = class(claim);
    if !class.is_empty() {
        amounts.insert(format!("{class}{STORAGE_CLASS}persistentvolumeclaims"), number(1));
    }
    let requested = claim
        .at(&["spec", "resources", "requests", "storage"])
        .and_then(pod::quantity);
    let Some(mut storage) = requested else {
        return amounts;
    };
    if let Some(allocated) = claim
        .at(ALLOCATED)
        .and_then(pod::quantity)
        .filter(|allocated| *allocated > storage)
    {
        storage = allocated;
    }
    let whole = Quantity::new(storage.value(), storage.format());
    let storage = if whole == storage { storage } else { whole };
    if !class.is_empty() {
        amounts.insert(format!("{class}{STORAGE_CLASS}requests.storage"), storage.clone());
    }
    amounts.insert("requests.storage".into(), storage);
    amounts
}

fn devices(claim: &Node) -> Amounts {
    let mut amounts = Amounts::new();
    amounts.insert("count/resourceclaims.resource.k8s.io".into(), number(1));
    let count = |request: &Node| match request.str("allocationMode") {
        "ExactCount" => request.get("count").and_then(Node::as_i64).unwrap_or(0),
        "All" => MOST_DEVICES,
        _ => 0,
    };
    let mut charge = |class: &str, count: i64| {
        let name = format!("{class}{DEVICE_CLASS}");
        let sum = amounts
            .get(&name)
            .cloned()
            .unwrap_or(Quantity::ZERO)
            .add(&number(count));
        amounts.insert(name, sum);
    };
    for request in claim
        .at(&["spec", "devices"])
        .map_or(&[][..], |devices| devices.list("requests"))
    {
        let alternatives = request.list("firstAvailable");
        if let Some(exactly) = request.get("exactly").filter(|_| alternatives.is_empty()) {
            charge(exactly.str("deviceClassName"), count(exactly));
        }
        // Of alternatives the worst of each class counts.
        let mut worst: BTreeMap<&str, i64> = BTreeMap::new();
        for alternative in alternatives {
            let most = worst.entry(alternative.str("deviceClassName")).or_insert(0);
            *most = (*most).max(count(alternative));
        }
        for (class, count) in worst.into_iter().filter(|(_, count)| *count > 0) {
            charge(class, count);
        }
    }
    amounts
}

/// What a pod as a whole asks for, for the table of compute resources.
fn totals(pod: &Node) -> (Amounts, Amounts) {
    (
        pod::total(pod, "requests", Count::Everything),
        pod::total(pod, "limits", Count::Everything),
    )
}
