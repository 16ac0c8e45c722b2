//! Objects that every namespace has: the service account `default`, and the ConfigMap by which pods know the server.
//!
//! Source of behaviour: kubernetes/kubernetes pkg/controller/serviceaccount (serviceaccounts_controller.go),
//! pkg/controller/certificates/rootcacertpublisher.

use crate::{Context, RETRY};
use fairlead_api::{Node, StatusResult, node};
use fairlead_resource::client::{Cached, parse};
use fairlead_resource::request::{EventKind, WatchEvent, WatchStream};
use fairlead_resource::{ResourceDefinition, client};
use std::collections::HashSet;
use std::sync::Arc;

/// An object that every active namespace shall have.
pub struct Wanted {
    plural: &'static str,
    name: &'static str,
    object: Node,
    /// Whether what is there is put right where it differs.
    repaired: bool,
}

const DESCRIPTION: &str = "kubernetes.io/description";

/// What pods run as if they do not say.
pub fn default_service_account() -> Wanted {
    let object = node!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    Wanted {
        plural: "serviceaccounts",
        name: "default",
        object,
        repaired: false,
    }
}

/// What pods verify this server by.
pub fn root_ca(pem: &str) -> Wanted {
    let description = "The certificate authority that pods verify the API server's certificate by when they reach it at \
                       kubernetes.default.svc or its address inside the cluster. It vouches for nothing else.";
    let object = node!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "kube-root-ca.crt", "annotations": {DESCRIPTION: description}},
        "data": {"ca.crt": pem},
    });
    Wanted {
        plural: "configmaps",
        name: "kube-root-ca.crt",
        object,
        repaired: true,
    }
}

/// Runs until the drain.
pub async fn run(mut context: Context, wanted: Wanted) {
    loop {
        // Begins again when a watch broke off: the store is away, or this was too slow.
        if rounds(&mut context, &wanted).await.is_some() || !context.pause(RETRY).await {
            return;
        }
    }
}

/// Where the object is missing or wrong.
#[derive(Default)]
struct State {
    active: HashSet<String>,
    /// Namespaces whose object is as it should be.
    good: HashSet<String>,
    /// To be looked at.
    doubtful: HashSet<String>,
}

/// Follows namespaces and objects. `Some` at the drain, `None` when a watch broke off.
async fn rounds(context: &mut Context, wanted: &Wanted) -> Option<()> {
    let definition = context.built_in("", "v1", wanted.plural)?;
    let namespaces = context.built_in("", "v1", "namespaces")?;
    let mut objects = context.client.follow(&definition, "", wanted.name).await.ok()?;
    let mut state = State::default();
    // What there is first, so that nothing is made in vain.
    until_complete(objects.as_mut(), |kind, object| state.object(kind, object, wanted)).await?;
    let mut spaces = context.client.follow(&namespaces, "", "").await.ok()?;
    loop {
        for namespace in std::mem::take(&mut state.doubtful) {
            if !state.active.contains(&namespace) || state.good.contains(&namespace) {
                continue;
            }
            match ensure(context, &namespaces, &definition, wanted, &namespace).await {
                Ok(()) => {}
                Err(status) => {
                    tracing::warn!(namespace, name = wanted.name, %status, "a namespace lacks what every one should have");
                    state.doubtful.insert(namespace);
                }
            }
        }
        let failed = !state.doubtful.is_empty();
        tokio::select! {
            event = objects.next() => if let WatchEvent::Object { kind, object } = event? {
                state.object(kind, &object, wanted);
            },
            event = spaces.next() => if let WatchEvent::Object { kind, object } = event? {
                state.namespace(kind, &object);
            },
            () = tokio::time::sleep(RETRY), if failed => {}
            _ = context.drain.changed() => return Some(()),
        }
    }
}

async fn until_complete(stream: &mut dyn WatchStream, mut each: impl FnMut(EventKind, &Cached)) -> Option<()> {
    loop {
        match stream.next().await? {
            WatchEvent::Object { kind, object } => each(kind, &object),
            WatchEvent::Node {
                kind: EventKind::Bookmark,
                ..
            } => return Some(()),
            WatchEvent::Node { .. } => {}
        }
    }
}

impl State {
    fn namespace(&mut self, kind: EventKind, cached: &Cached) {
        let name = cached.name().to_owned();
        let active =
            kind != EventKind::Deleted && parse(&cached.json.text()).is_ok_and(|namespace| is_active(&namespace));
        if active {
            self.active.insert(name.clone());
            self.doubtful.insert(name);
        } else {
            self.active.remove(&name);
        }
    }

    fn object(&mut self, kind: EventKind, cached: &Cached, wanted: &Wanted) {
        let namespace = cached.namespace().to_owned();
        let good = kind != EventKind::Deleted
            && (!wanted.repaired || parse(&cached.json.text()).is_ok_and(|object| repaired(&object, wanted).is_none()));
        if good {
            self.good.insert(namespace);
        } else {
            self.good.remove(&namespace);
            self.doubtful.insert(namespace);
        }
    }
}

fn is_active(namespace: &Node) -> bool {
    namespace.deletion_timestamp().is_none() && namespace.str_at(&["status", "phase"]) == "Active"
}

/// The object as it should be; `None` where it is.
fn repaired(object: &Node, wanted: &Wanted) -> Option<Node> {
    let described = object
        .annotations()
        .is_some_and(|a| a.get(DESCRIPTION).and_then(Node::as_str).is_some_and(|t| !t.is_empty()));
    let data = wanted.object.get("data");
    if described && object.get("data") == data {
        return None;
    }
    let mut repaired = object.clone();
    repaired.set("data", data.cloned().unwrap_or_default());
    let text = wanted
        .object
        .at(&["metadata", "annotations", DESCRIPTION])
        .cloned()
        .unwrap_or_default();
    repaired.set_at(&["metadata", "annotations", DESCRIPTION], text);
    Some(repaired)
}

/// Makes the object, or puts it right, in a namespace that is still there to stay.
async fn ensure(
    context: &Context,
    namespaces: &Arc<ResourceDefinition>,
    definition: &Arc<ResourceDefinition>,
    wanted: &Wanted,
    namespace: &str,
) -> StatusResult<()> {
    let client: &client::Client = &context.client;
    match client.get(namespaces, "", namespace).await {
        Ok(namespace) if is_active(&namespace) => {}
        Ok(_) => return Ok(()),
        Err(status) if status.code() == 404 => return Ok(()),
        Err(status) => return Err(status),
    }
    let result = match client.get(definition, namespace, wanted.name).await {
        Ok(_) if !wanted.repaired => return Ok(()),
        Ok(object) => match repaired(&object, wanted) {
            Some(object) => client.update(definition, &object).await,
            None => return Ok(()),
        },
        Err(status) if status.code() == 404 => client.create(definition, namespace, &wanted.object).await,
        Err(status) => return Err(status),
    };
    match result {
        // Somebody was quicker: the change of the object leads to another look.
        Err(status) if !matches!(status.reason(), "AlreadyExists" | "Conflict" | "NotFound") => Err(status),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_ca_that_differs_is_put_right() {
        let wanted = root_ca("PEM");
        assert_eq!(repaired(&wanted.object, &wanted), None);
        let mut other = wanted.object.clone();
        other.set_at(&["data", "ca.crt"], "OTHER");
        other.set_at(&["data", "more"], "x");
        other.set_at(&["metadata", "annotations"], node!({"mine": "kept"}));
        let right = repaired(&other, &wanted).unwrap();
        assert_eq!(right.get("data"), wanted.object.get("data"));
        assert_eq!(right.str_at(&["metadata", "annotations", "mine"]), "kept");
        assert_eq!(repaired(&right, &wanted), None);
        // Whoever describes it in other words is left alone.
        let mut described = wanted.object.clone();
        described.set_at(&["metadata", "annotations", DESCRIPTION], "ours");
        assert_eq!(repaired(&described, &wanted), None);
    }
}
