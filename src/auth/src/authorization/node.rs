//! [`NodeAuthorizer`]: a kubelet may touch its own Node and what the pods bound to it need.
//!
//! Source of behaviour: kubernetes plugin/pkg/auth/authorizer/node/node_authorizer.go.
// PERFORMANCE: per-request path

use super::rule::Rule;
use super::{Authorizer, AuthzAttributes, Decision, ResolvedRules};
use crate::objects::ObjectSource;
use fairlead_api::UserInfo;
use futures_util::future::BoxFuture;
use graph::{Graph, Kind};
use std::future::ready;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

mod graph;
mod references;

/// The group kubelets are in.
pub const NODES: &str = "system:nodes";
/// What a kubelet's user name begins with.
pub const NODE_PREFIX: &str = "system:node:";

/// The Node authorizer. Other resources than those tied to a node go by the static rules of `system:node`.
pub struct NodeAuthorizer {
    source: Arc<dyn ObjectSource>,
    rules: Vec<Rule>,
    graph: RwLock<Graph>,
}

/// The name of the node a user is: `system:node:<name>` in group `system:nodes`. May be empty.
pub fn node_identity(user: &UserInfo) -> Option<&str> {
    user.name.strip_prefix(NODE_PREFIX).filter(|_| user.in_group(NODES))
}

impl NodeAuthorizer {
    pub fn new(source: Arc<dyn ObjectSource>, rules: Vec<Rule>) -> NodeAuthorizer {
        NodeAuthorizer {
            source,
            rules,
            graph: RwLock::default(),
        }
    }

    /// Decides at once; what [`Authorizer::authorize`] does.
    pub fn decide(&self, a: &AuthzAttributes) -> (Decision, String) {
        let verdict = match node_identity(&a.user) {
            None => return (Decision::NoOpinion, String::new()),
            Some("") => {
                return (
                    Decision::NoOpinion,
                    format!("unknown node for user {:?}", a.user.name.as_str()),
                );
            }
            Some(_) if !a.resource_request => self.by_rules(a),
            Some(node) => self.resource(node, a),
        };
        match verdict {
            Ok(()) => (Decision::Allow, String::new()),
            Err(reason) => (Decision::NoOpinion, reason),
        }
    }

    fn resource(&self, node: &str, a: &AuthzAttributes) -> Result<(), String> {
        match (a.group.as_str(), a.resource.as_str()) {
            ("", "secrets") => self.read(node, Kind::Secret, a),
            ("", "configmaps") => self.read(node, Kind::ConfigMap, a),
            ("", "persistentvolumeclaims") if a.subresource == "status" => self.status_update(node, Kind::Claim, a),
            ("", "persistentvolumeclaims") => self.get_only(node, Kind::Claim, a),
            ("", "persistentvolumes") => self.get_only(node, Kind::Volume, a),
            ("resource.k8s.io", "resourceclaims") => self.get_only(node, Kind::ResourceClaim, a),
            ("storage.k8s.io", "volumeattachments") => self.get_only(node, Kind::VolumeAttachment, a),
            ("", "serviceaccounts") if a.verb == "get" && a.subresource.is_empty() => {
                self.read(node, Kind::ServiceAccount, a)
            }
            ("", "serviceaccounts") => self.create_token(node, a),
            ("coordination.k8s.io", "leases") => lease(node, a),
            ("storage.k8s.io", "csinodes") => csi_node(node, a),
            ("resource.k8s.io", "resourceslices") => self.resource_slice(node, a),
            ("", "nodes") => own_node(node, a),
            ("", "pods") => self.pod(node, a),
            ("certificates.k8s.io", "podcertificaterequests") => self.pod_certificate_request(node, a),
            _ => self.by_rules(a),
        }
    }

    fn by_rules(&self, a: &AuthzAttributes) -> Result<(), String> {
        allow_if(self.rules.iter().any(|rule| rule.allows(a)), "")
    }

    fn related(&self, node: &str, kind: Kind, a: &AuthzAttributes) -> Result<(), String> {
        if a.name.is_empty() {
            return Err("No Object name found".into());
        }
        if self.current().related(kind, &a.namespace, &a.name, node) {
            return Ok(());
        }
        Err(format!("no relationship found between node '{node}' and this object"))
    }

    fn read(&self, node: &str, kind: Kind, a: &AuthzAttributes) -> Result<(), String> {
        allow_if(
            matches!(a.verb.as_str(), "get" | "list" | "watch"),
            "can only read resources of this type",
        )?;
        allow_if(a.subresource.is_empty(), "cannot read subresource")?;
        allow_if(!a.namespace.is_empty(), "can only read namespaced object of this type")?;
        self.related(node, kind, a)
    }

    fn get_only(&self, node: &str, kind: Kind, a: &AuthzAttributes) -> Result<(), String> {
        allow_if(a.verb == "get", "can only get individual resources of this type")?;
        allow_if(a.subresource.is_empty(), "cannot get subresource")?;
        self.related(node, kind, a)
    }

    fn status_update(&self, node: &str, kind: Kind, a: &AuthzAttributes) -> Result<(), String> {
        allow_if(
            matches!(a.verb.as_str(), "update" | "patch"),
            "can only get/update/patch this type",
        )?;
        self.related(node, kind, a)
    }

    fn create_token(&self, node: &str, a: &AuthzAttributes) -> Result<(), String> {
        let one = a.verb == "create" && !a.name.is_empty();
        allow_if(one, "can only create tokens for individual service accounts")?;
        allow_if(
            a.subresource == "token",
            "can only create token subresource of serviceaccount",
        )?;
        self.related(node, Kind::ServiceAccount, a)
    }

    fn resource_slice(&self, node: &str, a: &AuthzAttributes) -> Result<(), String> {
        allow_if(a.subresource.is_empty(), "cannot authorize ResourceSlice subresources")?;
        match a.verb.as_str() {
            // NodeRestriction checks the node name of the new object.
            "create" => Ok(()),
            "get" | "update" | "patch" | "delete" => self.related(node, Kind::ResourceSlice, a),
            "watch" | "list" | "deletecollection" => allow_if(
                selects(a, "spec.nodeName", node),
                "can only list/watch/deletecollection resourceslices with nodeName field selector",
            ),
            _ => Err("only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection".into()),
        }
    }

    fn pod(&self, node: &str, a: &AuthzAttributes) -> Result<(), String> {
        match (a.subresource.as_str(), a.verb.as_str()) {
            ("", "get") => self.related(node, Kind::Pod, a),
            ("", "list" | "watch") if selects(a, "spec.nodeName", node) => Ok(()),
            ("", "list" | "watch") if !a.name.is_empty() => self.related(node, Kind::Pod, a),
            ("", "list" | "watch") => Err("can only list/watch pods with spec.nodeName field selector".into()),
            // Mirror pods, their status, and evictions: NodeRestriction checks that they are its own.
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Ok(()),
            _ => Err(String::new()),
        }
    }

    fn pod_certificate_request(&self, node: &str, a: &AuthzAttributes) -> Result<(), String> {
        allow_if(
            a.subresource.is_empty(),
            "nodes may not access the status subresource of PodCertificateRequests",
        )?;
        match a.verb.as_str() {
            "create" => Ok(()),
            "get" => self.related(node, Kind::PodCertificateRequest, a),
            "list" | "watch" => allow_if(
                selects(a, "spec.nodeName", node),
                "can only list/watch podcertificaterequests with nodeName field selector",
            ),
            verb => Err(format!("nodes may not {verb} podcertificaterequests")),
        }
    }

    fn current(&self) -> RwLockReadGuard<'_, Graph> {
        let graph = self.graph.read().unwrap_or_else(PoisonError::into_inner);
        if graph.is_current(self.source.as_ref()) {
            return graph;
        }
        drop(graph);
        self.graph
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .follow(self.source.as_ref());
        self.graph.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Authorizer for NodeAuthorizer {
    fn authorize<'a>(&'a self, attributes: &'a AuthzAttributes) -> BoxFuture<'a, (Decision, String)> {
        Box::pin(ready(self.decide(attributes)))
    }

    fn rules_for<'a>(&'a self, user: &'a UserInfo, _: &'a str) -> BoxFuture<'a, ResolvedRules> {
        let mut rules = ResolvedRules::default();
        if node_identity(user).is_some() {
            rules.incomplete = true;
            rules
                .errors
                .push("node authorizer does not support user rule resolution".into());
        }
        Box::pin(ready(rules))
    }
}

fn own_node(node: &str, a: &AuthzAttributes) -> Result<(), String> {
    match (a.subresource.as_str(), a.verb.as_str()) {
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
        ("", "get" | "list" | "watch") if a.name == node => Ok(()),
        ("", "get" | "list" | "watch") if a.name.is_empty() => {
            Err(format!("node '{node}' cannot read all nodes, only its own Node object"))
        }
        ("", "get" | "list" | "watch") => Err(format!(
            "node '{node}' cannot read '{}', only its own Node object",
            a.name
        )),
        _ => Err(String::new()),
    }
}

fn lease(node: &str, a: &AuthzAttributes) -> Result<(), String> {
    allow_if(owns(a), "can only get, create, update, patch, or delete a node lease")?;
    allow_if(
        a.namespace == "kube-node-lease",
        r#"can only access leases in the "kube-node-lease" system namespace"#,
    )?;
    // The name is not known on create; NodeRestriction checks it.
    let own = a.verb == "create" || a.name == node;
    allow_if(
        own,
        "can only access node lease with the same name as the requesting node",
    )
}

fn csi_node(node: &str, a: &AuthzAttributes) -> Result<(), String> {
    allow_if(owns(a), "can only get, create, update, patch, or delete a CSINode")?;
    allow_if(a.subresource.is_empty(), "cannot authorize CSINode subresources")?;
    let own = a.verb == "create" || a.name == node;
    allow_if(own, "can only access CSINode with the same name as the requesting node")
}

fn owns(a: &AuthzAttributes) -> bool {
    matches!(a.verb.as_str(), "get" | "create" | "update" | "patch" | "delete")
}

/// Whether the request is limited to `field=value`.
fn selects(a: &AuthzAttributes, field: &str, value: &str) -> bool {
    a.field_selector
        .iter()
        .any(|r| r.field == field && !r.negated && r.value == value)
}

fn allow_if(condition: bool, reason: &str) -> Result<(), String> {
    if condition { Ok(()) } else { Err(reason.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::MemoryObjects;
    use fairlead_api::node;
    use fairlead_api::selector::FieldSelector;

    fn ask(verb: &str, resource: &str, namespace: &str, name: &str) -> AuthzAttributes {
        AuthzAttributes {
            user: Arc::new(UserInfo::new("system:node:n1", &[NODES])),
            verb: verb.into(),
            resource: resource.into(),
            namespace: namespace.into(),
            name: name.into(),
            resource_request: true,
            ..AuthzAttributes::default()
        }
    }

    fn cluster() -> (Arc<MemoryObjects>, NodeAuthorizer) {
        let objects = Arc::new(MemoryObjects::new());
        objects.put(
            "",
            "pods",
            node!({"metadata": {"name": "p", "namespace": "a"}, "spec": {
            "nodeName": "n1", "serviceAccountName": "sa",
            "containers": [{"name": "c", "envFrom": [{"configMapRef": {"name": "cm"}}],
                "env": [{"name": "x", "valueFrom": {"secretKeyRef": {"name": "s1", "key": "k"}}}]}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "pvc"}},
                {"name": "e", "ephemeral": {}}, {"name": "s", "secret": {"secretName": "s2"}}]}}),
        );
        objects.put(
            "",
            "persistentvolumes",
            node!({"metadata": {"name": "pv"}, "spec": {
            "claimRef": {"namespace": "a", "name": "pvc"},
            "csi": {"nodeStageSecretRef": {"namespace": "b", "name": "s3"},
                "controllerPublishSecretRef": {"namespace": "b", "name": "hidden"}}}}),
        );
        let authorizer = NodeAuthorizer::new(Arc::clone(&objects) as Arc<dyn ObjectSource>, Vec::new());
        (objects, authorizer)
    }

    #[test]
    fn a_node_reads_what_its_pods_need() {
        let (objects, authorizer) = cluster();
        let allowed = [
            ("secrets", "a", "s1"),
            ("secrets", "a", "s2"),
            ("secrets", "b", "s3"),
            ("configmaps", "a", "cm"),
            ("persistentvolumeclaims", "a", "pvc"),
            ("persistentvolumeclaims", "a", "p-e"),
            ("persistentvolumes", "", "pv"),
            ("serviceaccounts", "a", "sa"),
            ("pods", "a", "p"),
            ("nodes", "", "n1"),
        ];
        for (resource, namespace, name) in allowed {
            assert_eq!(
                authorizer.decide(&ask("get", resource, namespace, name)).0,
                Decision::Allow,
                "{resource} {name}"
            );
        }
        assert_eq!(
            authorizer.decide(&ask("get", "secrets", "b", "hidden")).1,
            "no relationship found between node 'n1' and this object"
        );
        assert_eq!(authorizer.decide(&ask("get", "nodes", "", "n2")).0, Decision::NoOpinion);
        objects.delete("", "pods", "a", "p");
        for (resource, namespace, name) in &allowed[..9] {
            assert_eq!(
                authorizer.decide(&ask("get", resource, namespace, name)).0,
                Decision::NoOpinion,
                "{resource}"
            );
        }
    }

    #[test]
    fn pods_are_listed_by_node_name_only() {
        let (_, authorizer) = cluster();
        let mut list = ask("list", "pods", "", "");
        assert_eq!(
            authorizer.decide(&list).1,
            "can only list/watch pods with spec.nodeName field selector"
        );
        list.field_selector = FieldSelector::equal("spec.nodeName", "n1").requirements;
        assert_eq!(authorizer.decide(&list).0, Decision::Allow);
    }

    #[test]
    fn only_members_of_system_nodes_are_nodes() {
        let (_, authorizer) = cluster();
        let mut get = ask("get", "nodes", "", "n1");
        get.user = Arc::new(UserInfo::new("system:node:n1", &[]));
        assert_eq!(authorizer.decide(&get), (Decision::NoOpinion, String::new()));
        get.user = Arc::new(UserInfo::new("system:node:", &[NODES]));
        assert_eq!(authorizer.decide(&get).1, r#"unknown node for user "system:node:""#);
    }
}
