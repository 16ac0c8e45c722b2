//! APIServices that register themselves: one for every group-version served here, built-in or custom.
//!
//! Source of names, labels and priorities: kubernetes/kube-aggregator pkg/controllers/autoregister,
//! kubernetes/kubernetes pkg/controlplane/apiserver/aggregator.go.

use crate::objects::{API_SERVICES, ApiServices, ObjectSource};
use crate::pace::Pace;
use fairlead_api::{GroupVersion, Node, Status, node};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// Says who keeps an APIService as it is.
pub const AUTOMANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// How an APIService is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Managed {
    /// Put right once, at start: administrators may change it afterwards.
    OnStart,
    /// Put right whenever it differs.
    Always,
}

/// Group and version priority of every group-version that kube-apiserver 1.36 knows. Groups of a cluster's own rank below.
const PRIORITIES: &[(&str, &str, i64, i64)] = &[
    ("", "v1", 18000, 1),
    ("apps", "v1", 17800, 15),
    ("events.k8s.io", "v1", 17750, 15),
    ("events.k8s.io", "v1beta1", 17750, 5),
    ("authentication.k8s.io", "v1", 17700, 15),
    ("authentication.k8s.io", "v1beta1", 17700, 9),
    ("authentication.k8s.io", "v1alpha1", 17700, 1),
    ("authorization.k8s.io", "v1", 17600, 15),
    ("autoscaling", "v1", 17500, 15),
    ("autoscaling", "v2", 17500, 30),
    ("autoscaling", "v2beta1", 17500, 9),
    ("autoscaling", "v2beta2", 17500, 1),
    ("batch", "v1", 17400, 15),
    ("batch", "v1beta1", 17400, 9),
    ("batch", "v2alpha1", 17400, 9),
    ("certificates.k8s.io", "v1", 17300, 15),
    ("certificates.k8s.io", "v1beta1", 17300, 9),
    ("certificates.k8s.io", "v1alpha1", 17300, 1),
    ("networking.k8s.io", "v1", 17200, 15),
    ("networking.k8s.io", "v1beta1", 17200, 9),
    ("policy", "v1", 17100, 15),
    ("policy", "v1beta1", 17100, 9),
    ("rbac.authorization.k8s.io", "v1", 17000, 15),
    ("storage.k8s.io", "v1", 16800, 15),
    ("storage.k8s.io", "v1beta1", 16800, 9),
    ("storage.k8s.io", "v1alpha1", 16800, 1),
    ("apiextensions.k8s.io", "v1", 16700, 15),
    ("admissionregistration.k8s.io", "v1", 16700, 15),
    ("admissionregistration.k8s.io", "v1beta1", 16700, 12),
    ("admissionregistration.k8s.io", "v1alpha1", 16700, 9),
    ("scheduling.k8s.io", "v1", 16600, 15),
    ("scheduling.k8s.io", "v1alpha2", 16600, 2),
    ("coordination.k8s.io", "v1", 16500, 15),
    ("coordination.k8s.io", "v1beta1", 16500, 13),
    ("coordination.k8s.io", "v1alpha2", 16500, 12),
    ("node.k8s.io", "v1", 16300, 15),
    ("node.k8s.io", "v1alpha1", 16300, 1),
    ("node.k8s.io", "v1beta1", 16300, 9),
    ("discovery.k8s.io", "v1", 16200, 15),
    ("discovery.k8s.io", "v1beta1", 16200, 12),
    ("resource.k8s.io", "v1", 16200, 21),
    ("resource.k8s.io", "v1beta2", 16200, 15),
    ("resource.k8s.io", "v1beta1", 16200, 9),
    ("resource.k8s.io", "v1alpha3", 16200, 1),
    ("flowcontrol.apiserver.k8s.io", "v1", 16100, 21),
    ("flowcontrol.apiserver.k8s.io", "v1beta3", 16100, 18),
    ("flowcontrol.apiserver.k8s.io", "v1beta2", 16100, 15),
    ("flowcontrol.apiserver.k8s.io", "v1beta1", 16100, 12),
    ("flowcontrol.apiserver.k8s.io", "v1alpha1", 16100, 9),
    ("internal.apiserver.k8s.io", "v1alpha1", 16000, 9),
    ("storagemigration.k8s.io", "v1beta1", 15800, 9),
];

/// Of custom resources.
const CUSTOM_PRIORITY: (i64, i64) = (1000, 100);

/// The group that an APIService cannot be needed for: without it there is none.
const OWN_GROUP: &str = "apiregistration.k8s.io";

/// `VERSION.GROUP`.
pub fn name(gv: &GroupVersion) -> String {
    format!("{}.{}", gv.version, gv.group)
}

/// The APIService of a group-version served here.
pub fn api_service(gv: &GroupVersion, managed: Managed) -> Node {
    let known = PRIORITIES
        .iter()
        .find(|(group, version, ..)| gv.group == *group && gv.version == *version);
    let (group_priority, version_priority) = match managed {
        Managed::OnStart => known.map_or(CUSTOM_PRIORITY, |(_, _, group, version)| (*group, *version)),
        Managed::Always => CUSTOM_PRIORITY,
    };
    let label = match managed {
        Managed::OnStart => "onstart",
        Managed::Always => "true",
    };
    let mut object = node!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": (name(gv)), "labels": {AUTOMANAGED: label}},
        "spec": {"version": (gv.version.as_str()), "groupPriorityMinimum": group_priority, "versionPriority": version_priority},
    });
    if !gv.group.is_empty() {
        object.set_at(&["spec", "group"], gv.group.clone());
    }
    object
}

/// All APIServices that should be there: of the built-in group-versions, and of the versions that CRDs serve.
///
/// `definitions` are CustomResourceDefinition objects; one that claims a built-in group-version adds nothing.
pub fn wanted<'a>(built_in: &[GroupVersion], definitions: impl IntoIterator<Item = &'a Node>) -> Vec<Node> {
    let built_in: BTreeSet<&GroupVersion> = built_in.iter().filter(|gv| gv.group != OWN_GROUP).collect();
    let mut custom = BTreeSet::new();
    for crd in definitions {
        let spec = crd.get("spec");
        for version in spec.map_or(&[][..], |s| s.list("versions")) {
            let served = version.get("served").and_then(Node::as_bool).unwrap_or(false);
            let gv = GroupVersion::new(crd.str_at(&["spec", "group"]), version.str("name"));
            if served && !built_in.contains(&gv) && gv.group != OWN_GROUP {
                custom.insert(gv);
            }
        }
    }
    let built_in = built_in.into_iter().map(|gv| api_service(gv, Managed::OnStart));
    built_in
        .chain(custom.iter().map(|gv| api_service(gv, Managed::Always)))
        .collect()
}

/// What has to be done about one APIService.
#[derive(Debug, PartialEq)]
enum Action {
    Nothing,
    Create(Node),
    Update(Node),
    Delete { uid: String },
}

fn managed(object: &Node) -> Option<Managed> {
    match object.labels()?.get(AUTOMANAGED)?.as_str()? {
        "onstart" => Some(Managed::OnStart),
        "true" => Some(Managed::Always),
        _ => None,
    }
}

/// `at_start`: it was there when this server started. `done`: it has been put right once since.
fn action(wanted: Option<&Node>, current: Option<&Node>, at_start: bool, done: bool) -> Action {
    let once = |object: &Node| managed(object) == Some(Managed::OnStart);
    if done && wanted.is_some_and(once) {
        return Action::Nothing;
    }
    let Some(current) = current else {
        return wanted.map_or(Action::Nothing, |w| Action::Create(w.clone()));
    };
    if managed(current).is_none() || (once(current) && (!at_start || done)) {
        return Action::Nothing;
    }
    let Some(wanted) = wanted else {
        return Action::Delete {
            uid: current.uid().into(),
        };
    };
    if current.get("spec") == wanted.get("spec") {
        return Action::Nothing;
    }
    let mut changed = current.clone();
    changed.set("spec", wanted.get("spec").cloned().unwrap_or_default());
    Action::Update(changed)
}

/// Keeps APIServices as they are wanted.
pub struct Registrar {
    source: Arc<dyn ObjectSource>,
    api_services: Arc<dyn ApiServices>,
    /// The result of [`wanted`], whenever it changes.
    wanted: watch::Receiver<Arc<Vec<Node>>>,
    at_start: BTreeSet<String>,
    done: BTreeSet<String>,
}

/// After a write that failed.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

impl Registrar {
    /// To be called when the objects are loaded: what is there now counts as there at start.
    pub fn new(
        source: Arc<dyn ObjectSource>,
        api_services: Arc<dyn ApiServices>,
        wanted: watch::Receiver<Arc<Vec<Node>>>,
    ) -> Registrar {
        let at_start = source.list(API_SERVICES).iter().map(|o| o.name().to_owned()).collect();
        Registrar {
            source,
            api_services,
            wanted,
            at_start,
            done: BTreeSet::new(),
        }
    }

    /// One round over everything. Returns whether all is as wanted, as far as writes tell.
    pub async fn reconcile(&mut self) -> bool {
        let wanted = self.wanted.borrow_and_update().clone();
        let wanted: BTreeMap<&str, &Node> = wanted.iter().map(|o| (o.name(), o)).collect();
        let current: BTreeMap<String, Arc<Node>> = self
            .source
            .list(API_SERVICES)
            .into_iter()
            .map(|o| (o.name().to_owned(), o))
            .collect();
        let names: BTreeSet<&str> = wanted
            .keys()
            .copied()
            .chain(current.keys().map(String::as_str))
            .collect();
        let mut all = true;
        for name in names {
            let (at_start, done) = (self.at_start.contains(name), self.done.contains(name));
            let action = action(
                wanted.get(name).copied(),
                current.get(name).map(Arc::as_ref),
                at_start,
                done,
            );
            match self.act(name, action).await {
                Ok(()) => drop(self.done.insert(name.to_owned())),
                // Somebody was quicker: the change of the object leads to another round.
                Err(error) if matches!(error.code(), 404 | 409) => {}
                Err(error) => {
                    tracing::warn!(apiservice = name, %error, "not registered");
                    all = false;
                }
            }
        }
        all
    }

    /// Reconciles whenever something changes, until `stop` resolves.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut changes = self.source.changes(API_SERVICES);
        let mut stop = std::pin::pin!(stop);
        let mut pace = Pace::default();
        loop {
            tokio::select! {
                () = pace.turn() => {}
                () = &mut stop => return,
            }
            changes.borrow_and_update();
            let all = self.reconcile().await;
            pace.done();
            tokio::select! {
                changed = self.wanted.changed() => if changed.is_err() { return },
                changed = changes.changed() => if changed.is_err() { return },
                () = sleep(RETRY_PAUSE), if !all => {}
                () = &mut stop => return,
            }
        }
    }

    async fn act(&self, name: &str, action: Action) -> Result<(), Status> {
        match action {
            Action::Nothing => Ok(()),
            Action::Create(object) => self.api_services.create(object).await,
            Action::Update(object) => self.api_services.update(object).await,
            Action::Delete { uid } => self.api_services.delete(name, &uid).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_and_custom_versions_are_wanted() {
        let crd = node!({"spec": {"group": "example.com", "versions": [
            {"name": "v1", "served": true}, {"name": "v2", "served": false}]}});
        let shadow = node!({"spec": {"group": "apps", "versions": [{"name": "v1", "served": true}]}});
        let built_in = ["v1", "apps/v1", "apiregistration.k8s.io/v1"].map(|gv| GroupVersion::parse(gv).unwrap());
        let wanted = wanted(&built_in, [&crd, &shadow]);
        let brief: Vec<(&str, &str, Option<i64>)> = wanted
            .iter()
            .map(|o| {
                let label = o.labels().unwrap().get(AUTOMANAGED).unwrap().as_str().unwrap();
                (
                    o.name(),
                    label,
                    o.at(&["spec", "groupPriorityMinimum"]).unwrap().as_i64(),
                )
            })
            .collect();
        assert_eq!(
            brief,
            [
                ("v1.", "onstart", Some(18000)),
                ("v1.apps", "onstart", Some(17800)),
                ("v1.example.com", "true", Some(1000)),
            ]
        );
        assert!(wanted[0].get("spec").unwrap().get("group").is_none());
    }

    #[test]
    fn what_is_done_follows_from_who_manages_it() {
        let gv = GroupVersion::new("g", "v1");
        let (once, always) = (api_service(&gv, Managed::OnStart), api_service(&gv, Managed::Always));
        let changed = |object: &Node| {
            let mut object = object.clone();
            object.set_at(&["spec", "versionPriority"], 7);
            object.set_at(&["metadata", "uid"], "u");
            object
        };
        let mut foreign = changed(&always);
        foreign.set_at(&["metadata", "labels"], Node::map());
        let update = |object: &Node, wanted: &Node| {
            let mut object = object.clone();
            object.set("spec", wanted.get("spec").unwrap().clone());
            Action::Update(object)
        };
        let delete = || Action::Delete { uid: "u".into() };
        let (c_once, c_always) = (changed(&once), changed(&always));
        for (wanted, current, at_start, done, expected) in [
            (None, None, false, false, Action::Nothing),
            (Some(&once), None, false, false, Action::Create(once.clone())),
            (Some(&once), None, false, true, Action::Nothing),
            (Some(&always), None, false, true, Action::Create(always.clone())),
            (Some(&always), Some(&foreign), true, false, Action::Nothing),
            (None, Some(&foreign), true, false, Action::Nothing),
            (Some(&once), Some(&c_once), false, false, Action::Nothing),
            (Some(&once), Some(&c_once), true, false, update(&c_once, &once)),
            (Some(&once), Some(&c_once), true, true, Action::Nothing),
            (None, Some(&c_once), true, false, delete()),
            (None, Some(&c_once), true, true, Action::Nothing),
            (None, Some(&c_always), false, true, delete()),
            (Some(&always), Some(&c_always), false, true, update(&c_always, &always)),
            (Some(&always), Some(&always), false, false, Action::Nothing),
        ] {
            assert_eq!(action(wanted, current, at_start, done), expected);
        }
    }
}
