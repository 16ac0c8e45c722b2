//! What other API servers keep, as loops see it: [`RemoteResource`] names a resource, [`RemoteObjects`] reaches its objects.

use fairlead_api::{Node, StatusResult};
use fairlead_discovery::snapshot::Serves;
use fairlead_discovery::{RemoteGroupVersion, RoutingSnapshot};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use std::collections::HashMap;
use std::sync::Arc;

/// A resource that another API server serves.
#[derive(Debug, PartialEq, Eq)]
pub struct RemoteResource {
    /// By which the gateway knows the backend.
    pub api_service: String,
    pub group: String,
    pub version: String,
    pub plural: String,
    pub kind: String,
    pub namespaced: bool,
    /// Names it among all resources that are followed.
    pub prefix: String,
}

/// What following a remote resource tells. Objects carry at least their metadata.
#[derive(Debug)]
pub enum RemoteEvent {
    Changed(Node),
    Deleted(Node),
    /// All objects there are have been told.
    Complete,
}

/// Objects of other API servers, reached as the server itself.
pub trait RemoteObjects: Send + Sync {
    /// Lists, then watches. Ends when the backend can no longer be asked.
    fn follow(&self, resource: Arc<RemoteResource>) -> BoxStream<'static, RemoteEvent>;

    fn get<'a>(
        &'a self,
        resource: &'a RemoteResource,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, StatusResult<Node>>;

    /// A merge patch.
    fn patch<'a>(
        &'a self,
        resource: &'a RemoteResource,
        namespace: &'a str,
        name: &'a str,
        patch: &'a Node,
    ) -> BoxFuture<'a, StatusResult<Node>>;

    fn delete<'a>(
        &'a self,
        resource: &'a RemoteResource,
        namespace: &'a str,
        name: &'a str,
        options: &'a Node,
    ) -> BoxFuture<'a, StatusResult<()>>;
}

impl RemoteResource {
    fn new(remote: &RemoteGroupVersion, known: &Node) -> RemoteResource {
        let plural = known.str("resource");
        RemoteResource {
            api_service: remote.api_service.to_string(),
            group: remote.group.to_string(),
            version: remote.version.to_string(),
            plural: plural.to_owned(),
            kind: known.str_at(&["responseKind", "kind"]).to_owned(),
            namespaced: known.str("scope") == "Namespaced",
            prefix: format!("{} {}/{}/{plural}", remote.api_service, remote.group, remote.version),
        }
    }
}

/// The remote resources whose objects can be listed, watched and deleted: one version of each.
pub fn followed(snapshot: &RoutingSnapshot) -> HashMap<String, Arc<RemoteResource>> {
    let mut found = HashMap::new();
    for group in snapshot.groups() {
        let mut known: Vec<&str> = Vec::new();
        for version in &group.versions {
            let Serves::Remote(remote) = &version.serves else {
                continue;
            };
            for resource in remote.resources.iter().filter(|r| can_all(r)) {
                let plural = resource.str("resource");
                if !known.contains(&plural) {
                    known.push(plural);
                    let resource = Arc::new(RemoteResource::new(remote, resource));
                    found.insert(resource.prefix.clone(), resource);
                }
            }
        }
    }
    found
}

/// The remote resource of a kind.
pub fn of_kind(snapshot: &RoutingSnapshot, group: &str, version: &str, kind: &str) -> Option<RemoteResource> {
    let Serves::Remote(remote) = &snapshot.version(group, version)?.serves else {
        return None;
    };
    let resource = remote
        .resources
        .iter()
        .find(|r| r.str_at(&["responseKind", "kind"]) == kind && can(r, "get"))?;
    Some(RemoteResource::new(remote, resource))
}

fn can_all(resource: &Node) -> bool {
    ["list", "watch", "delete"].iter().all(|verb| can(resource, verb))
}

fn can(resource: &Node, verb: &str) -> bool {
    resource.list("verbs").iter().any(|v| v.as_str() == Some(verb))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::{GroupVersion, node};
    use fairlead_discovery::Registration;

    #[test]
    fn one_version_of_each_resource_is_followed() {
        let registration = |version: &str, priority, resources: &[(&str, &str)]| {
            let one = |(name, verbs): &(&str, &str)| {
                let verbs: Vec<&str> = verbs.split(' ').collect();
                node!({"resource": name, "scope": "Namespaced", "verbs": verbs, "responseKind": {"kind": "K"}})
            };
            Registration {
                group_version: GroupVersion::new("g", version),
                group_priority: 1000,
                version_priority: priority,
                remote: Some(Arc::new(RemoteGroupVersion {
                    api_service: format!("{version}.g").into(),
                    group: "g".into(),
                    version: version.into(),
                    resources: Arc::new(resources.iter().map(one).collect()),
                    ..RemoteGroupVersion::default()
                })),
            }
        };
        let all = "get list watch delete";
        let registrations = [
            registration("v1", 20, &[("things", all), ("metrics", "get list")]),
            registration("v2", 10, &[("things", all), ("others", all)]),
        ];
        let snapshot = RoutingSnapshot::build(None, &[], &registrations);
        let mut prefixes: Vec<String> = followed(&snapshot).into_keys().collect();
        prefixes.sort();
        assert_eq!(prefixes, ["v1.g g/v1/things", "v2.g g/v2/others"]);
        assert_eq!(
            of_kind(&snapshot, "g", "v2", "K").map(|r| r.plural),
            Some("things".into())
        );
        assert_eq!(of_kind(&snapshot, "g", "v3", "K"), None);
    }
}
