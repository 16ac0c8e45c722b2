//! A cluster in memory and requests for it, for the tests of plugins.

use crate::cluster::{
    Action, Cluster, Known, Lookup, NoAnswer, Permissions, QuotaWriter, Served, Settings, Versions, WebhookClient,
};
use crate::metrics::Metrics;
use crate::plugins::Plugin;
use crate::{Attributes, Operation};
use fairlead_api::time::FixedClock;
use fairlead_api::{GroupVersionKind, GroupVersionResource, Node, StatusResult, Timestamp, UserInfo, json, node};
use fairlead_cel::{Question, Ruling};
use fairlead_telemetry::Families;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Place = (String, String, String);

/// Objects by plural, namespace and name, and who may do what by verb.
#[derive(Clone, Default)]
pub struct Fake {
    objects: Arc<Mutex<BTreeMap<Place, Arc<Node>>>>,
    allowed: Vec<&'static str>,
    /// What webhooks answer beside the uid, by their URL.
    answers: BTreeMap<String, Node>,
    /// The URLs that were called, in order.
    called: Arc<Mutex<Vec<String>>>,
    pub families: Families,
}

impl Fake {
    pub fn with(self, plural: &str, object: Node) -> Fake {
        self.put(plural, object);
        self
    }

    pub fn allowing(mut self, verb: &'static str) -> Fake {
        self.allowed.push(verb);
        self
    }

    /// A webhook at `url` that answers so.
    pub fn answering(mut self, url: &str, response: Node) -> Fake {
        self.answers.insert(url.to_owned(), response);
        self
    }

    pub fn called(&self) -> Vec<String> {
        self.called.lock().unwrap().clone()
    }

    pub fn object(&self, plural: &str, namespace: &str, name: &str) -> Option<Arc<Node>> {
        self.objects
            .lock()
            .unwrap()
            .get(&(plural.into(), namespace.into(), name.into()))
            .cloned()
    }

    pub fn cluster(&self) -> Cluster {
        Cluster {
            lookup: Arc::new(self.clone()),
            writer: Arc::new(self.clone()),
            permissions: Arc::new(self.clone()),
            webhooks: Arc::new(self.clone()),
            versions: Arc::new(self.clone()),
            conditions: Default::default(),
            clock: Arc::new(FixedClock(Timestamp::from_unix_seconds(1_700_000_000))),
            random: Arc::new(|| 0),
            settings: Settings::default(),
            metrics: Metrics::register(&self.families),
        }
    }

    fn put(&self, plural: &str, object: Node) {
        let place = (plural.into(), object.namespace().into(), object.name().into());
        self.objects.lock().unwrap().insert(place, Arc::new(object));
    }
}

impl Lookup for Fake {
    fn get(&self, _: &str, plural: &str, namespace: &str, name: &str) -> Option<Arc<Node>> {
        self.object(plural, namespace, name)
    }

    fn list(&self, _: &str, plural: &str, namespace: &str) -> Vec<Arc<Node>> {
        let objects = self.objects.lock().unwrap();
        let wanted = |place: &Place| place.0 == plural && (namespace.is_empty() || place.1 == namespace);
        objects
            .iter()
            .filter(|(place, _)| wanted(place))
            .map(|(_, object)| object.clone())
            .collect()
    }

    fn stamp(&self, group: &str, plural: &str) -> u64 {
        let all = self.list(group, plural, "");
        all.iter()
            .map(|object| json::to_vec(object))
            .fold(0, |stamp: u64, text| {
                let bytes = text
                    .iter()
                    .fold(17u64, |sum, byte| sum.wrapping_mul(31) ^ u64::from(*byte));
                stamp.wrapping_mul(31) ^ bytes
            })
    }
}

impl QuotaWriter for Fake {
    fn write_status(&self, quota: Node) -> BoxFuture<'_, StatusResult<()>> {
        self.put("resourcequotas", quota);
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Permissions for Fake {
    fn allowed<'a>(&'a self, _: &'a Arc<UserInfo>, action: Action<'a>) -> BoxFuture<'a, bool> {
        Box::pin(std::future::ready(self.allowed.contains(&action.verb)))
    }

    fn decide(&self, _: Arc<UserInfo>, question: &Question) -> BoxFuture<'static, Ruling> {
        let allowed = self.allowed.contains(&question.verb.as_str());
        let ruling = Ruling {
            allowed,
            ..Ruling::default()
        };
        // Not at once, as a webhook would.
        let mut asked = false;
        Box::pin(std::future::poll_fn(move |context| {
            if std::mem::replace(&mut asked, true) {
                return std::task::Poll::Ready(ruling.clone());
            }
            context.waker().wake_by_ref();
            std::task::Poll::Pending
        }))
    }
}

impl WebhookClient for Fake {
    fn call<'a>(&'a self, config: &'a Node, body: Vec<u8>, _: Duration) -> BoxFuture<'a, Result<Vec<u8>, NoAnswer>> {
        let url = config.str("url");
        self.called.lock().unwrap().push(url.to_owned());
        let answer = self.answers.get(url).cloned().ok_or_else(|| NoAnswer {
            text: "connection refused".into(),
            code: 503,
        });
        Box::pin(std::future::ready(answer.map(|mut response| {
            let review = json::parse(&body).unwrap();
            response.set("uid", review.str_at(&["request", "uid"]));
            let mut answer = node!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"});
            answer.set("response", response);
            json::to_vec(&answer)
        })))
    }
}

impl Versions for Fake {
    fn known(&self, kind: &GroupVersionKind) -> Option<Known> {
        let plural = format!("{}s", kind.kind.to_lowercase());
        (kind.kind != "Unknown").then(|| Known {
            resource: GroupVersionResource {
                group: kind.group.clone(),
                version: kind.version.clone(),
                resource: plural.into(),
            },
            namespaced: true,
        })
    }

    fn equivalents(&self, resource: &GroupVersionResource, _: &str) -> Vec<Served> {
        let resource = GroupVersionResource {
            version: "v2".into(),
            ..resource.clone()
        };
        let kind = GroupVersionKind {
            group: resource.group.clone(),
            version: "v2".into(),
            kind: "Two".into(),
        };
        vec![Served { resource, kind }]
    }

    fn convert<'a>(
        &'a self,
        mut object: Node,
        _: &'a GroupVersionResource,
        to: &'a GroupVersionResource,
    ) -> BoxFuture<'a, StatusResult<Node>> {
        object.set("apiVersion", to.version.as_str());
        Box::pin(std::future::ready(Ok(object)))
    }

    /// Nothing knows of a field `unknown`.
    fn reread(&self, object: &mut Node, _: &GroupVersionResource, _: &GroupVersionKind) -> Result<Vec<String>, String> {
        Ok(object
            .remove("unknown")
            .map(|_| "unknown".to_owned())
            .into_iter()
            .collect())
    }

    fn settle<'a>(
        &'a self,
        mut object: Node,
        resource: &'a GroupVersionResource,
        _: &'a GroupVersionKind,
    ) -> BoxFuture<'a, StatusResult<Node>> {
        if object.get("apiVersion").is_some() {
            object.set("apiVersion", resource.version.as_str());
        }
        Box::pin(std::future::ready(Ok(object)))
    }

    fn configure(
        &self,
        object: &Node,
        config: &Node,
        _: &GroupVersionResource,
        _: &GroupVersionKind,
    ) -> Result<Node, String> {
        let mut merged = object.clone();
        fairlead_patch::merge_patch::apply(&mut merged, config);
        Ok(merged)
    }
}

/// A create of a core object in namespace `ns`, by nobody in particular.
pub fn create(plural: &str, object: Node) -> Attributes {
    let kind = object.str("kind");
    Attributes {
        operation: Operation::Create,
        kind: GroupVersionKind {
            group: "".into(),
            version: "v1".into(),
            kind: kind.into(),
        },
        resource: GroupVersionResource {
            group: "".into(),
            version: "v1".into(),
            resource: plural.into(),
        },
        subresource: "".into(),
        namespace: "ns".into(),
        name: object.name().into(),
        object,
        old_object: Arc::new(Node::Null),
        options: Node::Null,
        dry_run: false,
        user: Arc::new(UserInfo::new("someone", &[])),
        warnings: Vec::new(),
        audit: Vec::new(),
        deadline: None,
        reinvocation: Default::default(),
        given_owners: None,
    }
}

pub fn update(plural: &str, old: Node, object: Node) -> Attributes {
    let mut attributes = create(plural, object);
    attributes.operation = Operation::Update;
    attributes.old_object = Arc::new(old);
    attributes
}

/// Runs what concerns the request; the message where it is refused.
pub fn run(plugin: &dyn Plugin, attributes: &mut Attributes, cluster: &Cluster) -> Result<(), String> {
    if plugin.mutates() && plugin.concerns(attributes) {
        let done = plugin
            .mutate(attributes, cluster)
            .now_or_never()
            .expect("nothing to wait for");
        done.map_err(|status| status.message().to_owned())?;
    }
    if plugin.validates() && plugin.concerns(attributes) {
        let done = plugin
            .validate(attributes, cluster)
            .now_or_never()
            .expect("nothing to wait for");
        done.map_err(|status| status.message().to_owned())?;
    }
    Ok(())
}
