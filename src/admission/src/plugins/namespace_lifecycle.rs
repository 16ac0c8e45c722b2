//! NamespaceLifecycle: nothing is created in namespaces that are missing or on their way out, and some never go.
// PERFORMANCE: per-request path

use super::{Plugin, now};
use crate::{Attributes, Cluster, Operation};
use fairlead_api::status::Cause;
use fairlead_api::{GroupResource, Node, Status, StatusResult};
use futures_util::future::BoxFuture;
use std::sync::Arc;

#[derive(Default)]
pub struct NamespaceLifecycle;

const IMMORTAL: [&str; 3] = ["default", "kube-public", "kube-system"];

impl Plugin for NamespaceLifecycle {
    fn mutates(&self) -> bool {
        true
    }

    fn concerns(&self, attributes: &Attributes) -> bool {
        match attributes.operation {
            Operation::Connect => false,
            Operation::Delete => attributes.is("", "namespaces"),
            Operation::Create | Operation::Update => {
                !attributes.namespace.is_empty()
                    && !attributes.is("", "namespaces")
                    // Its answer must not tell who has a namespace.
                    && !attributes.is("authorization.k8s.io", "localsubjectaccessreviews")
            }
        }
    }

    fn mutate<'a>(&'a self, attributes: &'a mut Attributes, cluster: &'a Cluster) -> BoxFuture<'a, StatusResult<()>> {
        if attributes.operation == Operation::Delete {
            return now(check_delete(attributes));
        }
        match cluster.lookup.get("", "namespaces", "", &attributes.namespace) {
            Some(namespace) => now(check(attributes, Some(namespace))),
            None => Box::pin(async move {
                let namespace = cluster.lookup.latest("", "namespaces", "", &attributes.namespace).await;
                check(attributes, namespace)
            }),
        }
    }
}

fn check_delete(attributes: &Attributes) -> StatusResult<()> {
    if IMMORTAL.contains(&attributes.name.as_str()) {
        let resource = attributes.group_resource();
        return Err(Status::forbidden(&resource, &attributes.name, "this namespace may not be deleted"));
    }
    Ok(())
}

fn check(attributes: &Attributes, namespace: Option<Arc<Node>>) -> StatusResult<()> {
    let name = attributes.namespace.as_str();
    let Some(namespace) = namespace else {
        return Err(Status::not_found(&GroupResource::new("", "namespaces"), name));
    };
    if !attributes.creates() || namespace.str_at(&["status", "phase"]) != "Terminating" {
        return Ok(());
    }
    let mut status = attributes.forbidden(format_args!(
        "unable to create new content in namespace {name} because it is being terminated"
    ));
    status.content_mut().details.get_or_insert_default().causes.push(Cause {
        reason: "NamespaceTerminating".into(),
        message: format!("namespace {name} is being terminated"),
        field: "metadata.namespace".into(),
    });
    Err(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fake, create, run};
    use fairlead_api::node;

    fn refused(namespaces: Fake) -> Result<(), String> {
        let mut request = create("configmaps", node!({"kind": "ConfigMap", "metadata": {"name": "c"}}));
        run(&NamespaceLifecycle, &mut request, &namespaces.cluster())
    }

    #[test]
    fn a_namespace_must_exist_and_stay() {
        let namespace = |phase: &str| node!({"metadata": {"name": "ns"}, "status": {"phase": phase}});
        assert_eq!(refused(Fake::default()), Err("namespaces \"ns\" not found".into()));
        assert_eq!(refused(Fake::default().with("namespaces", namespace("Active"))), Ok(()));
        let why = refused(Fake::default().with("namespaces", namespace("Terminating"))).unwrap_err();
        assert!(why.ends_with("unable to create new content in namespace ns because it is being terminated"), "{why}");
    }

    #[test]
    fn some_namespaces_never_go() {
        let mut request = create("namespaces", node!({"metadata": {"name": "kube-system"}}));
        request.operation = Operation::Delete;
        let why = run(&NamespaceLifecycle, &mut request, &Fake::default().cluster()).unwrap_err();
        assert_eq!(why, "namespaces \"kube-system\" is forbidden: this namespace may not be deleted");
    }
}
