//! A cluster in memory and requests for it, for the tests of plugins.

use crate::cluster::{Action, Cluster, Lookup, Permissions, QuotaWriter, Settings};
use crate::plugins::Plugin;
use crate::{Attributes, Operation};
use fairlead_api::time::FixedClock;
use fairlead_api::{GroupVersionKind, GroupVersionResource, Node, StatusResult, Timestamp, UserInfo};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

type Place = (String, String, String);

/// Objects by plural, namespace and name, and who may do what by verb.
#[derive(Clone, Default)]
pub struct Fake {
    objects: Arc<Mutex<BTreeMap<Place, Arc<Node>>>>,
    allowed: Vec<&'static str>,
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

    pub fn object(&self, plural: &str, namespace: &str, name: &str) -> Option<Arc<Node>> {
        self.objects.lock().unwrap().get(&(plural.into(), namespace.into(), name.into())).cloned()
    }

    pub fn cluster(&self) -> Cluster {
        Cluster {
            lookup: Arc::new(self.clone()),
            writer: Arc::new(self.clone()),
            permissions: Arc::new(self.clone()),
            clock: Arc::new(FixedClock(Timestamp::from_unix_seconds(1_700_000_000))),
            random: Arc::new(|| 0),
            settings: Settings::default(),
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
        objects.iter().filter(|(place, _)| wanted(place)).map(|(_, object)| object.clone()).collect()
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
}

/// A create of a core object in namespace `ns`, by nobody in particular.
pub fn create(plural: &str, object: Node) -> Attributes {
    let kind = object.str("kind");
    Attributes {
        operation: Operation::Create,
        kind: GroupVersionKind { group: "".into(), version: "v1".into(), kind: kind.into() },
        resource: GroupVersionResource { group: "".into(), version: "v1".into(), resource: plural.into() },
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
        let done = plugin.mutate(attributes, cluster).now_or_never().expect("nothing to wait for");
        done.map_err(|status| status.message().to_owned())?;
    }
    if plugin.validates() && plugin.concerns(attributes) {
        let done = plugin.validate(attributes, cluster).now_or_never().expect("nothing to wait for");
        done.map_err(|status| status.message().to_owned())?;
    }
    Ok(())
}
