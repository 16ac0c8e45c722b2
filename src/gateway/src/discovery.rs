//! What a backend serves: its discovery, aggregated where it speaks that (KEP-3352), else legacy.
//!
//! A backend is asked for one group-version and can say something about no other: only fields known here are taken over.

use crate::backend::Backend;
use crate::fetch::Fetch;
use crate::openapi::{self, OpenApi};
use crate::pool::Pool;
use compact_str::CompactString;
use fairlead_api::{GroupVersion, Node, Timestamp, json, node};
use std::sync::Arc;
use std::time::Duration;

/// What is known of a group-version that a backend serves.
#[derive(Clone, Debug)]
pub struct RemoteGroup {
    pub api_service: CompactString,
    pub group_version: GroupVersion,
    /// `APIResourceDiscovery` objects, in the backend's order.
    pub resources: Vec<Node>,
    pub freshness: Freshness,
    /// When the backend last confirmed `resources`; `None` before its first answer.
    pub learnt: Option<Timestamp>,
    pub openapi: OpenApi,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    Current,
    /// The backend does not answer: this is what it said before.
    Stale,
}

/// Why discovery is not known.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    #[error("{0}")]
    Send(String),
    #[error("status {0}")]
    Status(u16),
    #[error("not a discovery document of {0}")]
    Document(GroupVersion),
}

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                          application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
const DISCOVERY_USER: &str = "system:kube-aggregator";
const LIMIT: usize = 16 << 20;
const TIMEOUT: Duration = Duration::from_secs(5);
/// More than any API group has; bounds what a broken backend can make everybody's discovery cost.
const MAX_RESOURCES: usize = 2000;

impl RemoteGroup {
    /// Of a backend that has not been asked yet.
    pub fn unknown(backend: &Backend) -> RemoteGroup {
        RemoteGroup {
            api_service: backend.api_service.name.clone(),
            group_version: backend.api_service.group_version.clone(),
            resources: Vec::new(),
            freshness: Freshness::Stale,
            learnt: None,
            openapi: OpenApi::default(),
        }
    }

    /// The backend's answer as of `now`, with the documents known before.
    pub async fn learn(&self, backend: &Backend, now: Timestamp) -> Result<RemoteGroup, DiscoveryError> {
        let pool = backend.pool().map_err(|e| DiscoveryError::Send(e.to_string()))?;
        let resources = resources(&pool, &self.group_version, &backend.api_service.discovery_path()).await?;
        Ok(RemoteGroup {
            resources,
            freshness: Freshness::Current,
            learnt: Some(now),
            ..self.clone()
        })
    }

    /// The same with the backend's OpenAPI documents as they are now; what cannot be had stays as it was.
    pub async fn learn_openapi(&self, backend: &Backend) -> RemoteGroup {
        let Ok(pool) = backend.pool() else { return self.clone() };
        let openapi = openapi::learn(&pool, &self.group_version, &self.openapi).await;
        RemoteGroup {
            openapi,
            ..self.clone()
        }
    }

    /// The same, of a backend that no longer answers.
    pub fn stale(&self) -> RemoteGroup {
        RemoteGroup {
            freshness: Freshness::Stale,
            ..self.clone()
        }
    }

    /// Whether clients would see a difference.
    pub fn shows_same(&self, other: &RemoteGroup) -> bool {
        self.resources == other.resources
            && self.freshness == other.freshness
            && self.learnt.is_some() == other.learnt.is_some()
            && self.openapi.same(&other.openapi)
    }
}

async fn resources(pool: &Pool, gv: &GroupVersion, legacy_path: &str) -> Result<Vec<Node>, DiscoveryError> {
    let fetch = Fetch {
        path: "/apis",
        accept: AGGREGATED,
        etag: "",
        user: DISCOVERY_USER,
        limit: LIMIT,
        timeout: TIMEOUT,
    };
    // Whatever is wrong with this answer, the legacy document is what every backend must have.
    if !gv.group.is_empty()
        && let Ok(fetched) = fetch.get(pool).await
        && fetched.status.is_success()
        && let Some(resources) = json::parse(&fetched.bytes).ok().and_then(|d| from_aggregated(&d, gv))
    {
        return Ok(resources);
    }
    let fetch = Fetch {
        path: legacy_path,
        accept: "application/json",
        ..fetch
    };
    let fetched = fetch.get(pool).await.map_err(|e| DiscoveryError::Send(e.text))?;
    if !fetched.status.is_success() {
        return Err(DiscoveryError::Status(fetched.status.as_u16()));
    }
    let document = json::parse(&fetched.bytes).ok();
    document
        .and_then(|d| from_legacy(&d, gv))
        .ok_or_else(|| DiscoveryError::Document(gv.clone()))
}

/// The resources of `gv` in an `APIGroupDiscoveryList`; `None` if it is none, or does not speak of `gv`.
fn from_aggregated(document: &Node, gv: &GroupVersion) -> Option<Vec<Node>> {
    let api_version = document.str("apiVersion");
    if document.str("kind") != "APIGroupDiscoveryList"
        || !matches!(api_version, "apidiscovery.k8s.io/v2" | "apidiscovery.k8s.io/v2beta1")
    {
        return None;
    }
    let group = document.list("items").iter().find(|g| g.name() == gv.group)?;
    let version = group.list("versions").iter().find(|v| v.str("version") == gv.version)?;
    let resources = version.list("resources").iter().filter_map(|r| {
        let mut resource = entry(r, "resource")?;
        resource.set(
            "scope",
            if r.str("scope") == "Namespaced" {
                "Namespaced"
            } else {
                "Cluster"
            },
        );
        resource.set("singularResource", r.str("singularResource"));
        set_texts(&mut resource, "shortNames", r);
        set_texts(&mut resource, "categories", r);
        let subresources: Vec<Node> = r
            .list("subresources")
            .iter()
            .filter_map(|s| entry(s, "subresource"))
            .collect();
        if !subresources.is_empty() {
            resource.set("subresources", subresources);
        }
        Some(resource)
    });
    Some(resources.take(MAX_RESOURCES).collect())
}

/// A resource or subresource: its name, kind and verbs.
fn entry(given: &Node, name_key: &str) -> Option<Node> {
    let name = path_word(given.str(name_key))?;
    let kind = given.get("responseKind");
    let kind = |key: &str| kind.map_or("", |k| k.str(key));
    let mut made = node!({
        name_key: name,
        "responseKind": {"group": (kind("group")), "version": (kind("version")), "kind": (kind("kind"))},
    });
    set_texts(&mut made, "verbs", given);
    Some(made)
}

/// The resources in an `APIResourceList`, in the aggregated form.
fn from_legacy(document: &Node, gv: &GroupVersion) -> Option<Vec<Node>> {
    if document.str("kind") != "APIResourceList" || document.str("groupVersion") != gv.to_string() {
        return None;
    }
    let mut resources: Vec<Node> = Vec::new();
    let given = document.list("resources");
    let response_kind =
        |r: &Node| node!({"group": (r.str("group")), "version": (r.str("version")), "kind": (r.str("kind"))});
    let scope = |r: &Node| {
        if r.get("namespaced").and_then(Node::as_bool) == Some(true) {
            "Namespaced"
        } else {
            "Cluster"
        }
    };
    for r in given {
        let Some(name) = path_word(r.str("name")) else { continue };
        let mut resource = node!({
            "resource": name, "responseKind": {}, "scope": (scope(r)), "singularResource": (r.str("singularName")),
        });
        resource.set("responseKind", response_kind(r));
        for key in ["verbs", "shortNames", "categories"] {
            set_texts(&mut resource, key, r);
        }
        resources.push(resource);
    }
    for r in given {
        let Some((parent, name)) = r.str("name").split_once('/') else {
            continue;
        };
        let (Some(parent), Some(name)) = (path_word(parent), path_word(name)) else {
            continue;
        };
        let mut subresource = node!({"subresource": name});
        subresource.set("responseKind", response_kind(r));
        set_texts(&mut subresource, "verbs", r);
        let known = resources.iter().position(|p| p.str("resource") == parent);
        let position = known.unwrap_or_else(|| {
            let empty = node!({"group": "", "version": "", "kind": ""});
            let mut orphaned = node!({"resource": parent, "scope": (scope(r)), "singularResource": ""});
            orphaned.set("responseKind", empty);
            orphaned.set("verbs", Vec::new());
            resources.push(orphaned);
            resources.len() - 1
        });
        let slot = resources[position].make_at(&["subresources"]);
        match slot.as_list_mut() {
            Some(list) => list.push(subresource),
            None => *slot = Node::List(vec![subresource]),
        }
    }
    resources.truncate(MAX_RESOURCES);
    Some(resources)
}

/// A word that can stand in a path.
fn path_word(word: &str) -> Option<&str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    (!word.is_empty() && word.len() <= 253 && word.bytes().all(plain)).then_some(word)
}

/// Takes over a list of strings; an empty one only where it must be there.
fn set_texts(made: &mut Node, key: &str, given: &Node) {
    let texts: Vec<Node> = given
        .list(key)
        .iter()
        .filter(|t| t.as_str().is_some())
        .cloned()
        .collect();
    if !texts.is_empty() || key == "verbs" {
        made.set(key, texts);
    }
}

/// All that is known of remote groups, by APIService.
pub type RemoteGroups = std::collections::HashMap<CompactString, Arc<RemoteGroup>>;

#[cfg(test)]
mod tests {
    use super::*;

    fn gv() -> GroupVersion {
        GroupVersion::new("g.example.com", "v1")
    }

    #[test]
    fn a_backend_speaks_only_of_its_own_group() {
        let document = node!({
            "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2",
            "items": [
                {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [{"resource": "evil", "verbs": ["get"]}]}]},
                {"metadata": {"name": "g.example.com"}, "versions": [{"version": "v1", "resources": [
                    {"resource": "things", "scope": "Namespaced", "verbs": ["get", 5], "shortNames": [], "surprise": true,
                     "subresources": [{"subresource": "status", "verbs": ["get"]}, {"subresource": "a/b", "verbs": []}]},
                    {"resource": "../x", "verbs": ["get"]},
                ]}]},
            ],
        });
        let resources = from_aggregated(&document, &gv()).unwrap();
        let empty = node!({"group": "", "version": "", "kind": ""});
        let mut expected = node!({
            "resource": "things", "scope": "Namespaced", "singularResource": "", "verbs": ["get"],
            "subresources": [{"subresource": "status", "verbs": ["get"]}],
        });
        expected.set("responseKind", empty.clone());
        expected.get_mut("subresources").unwrap().as_list_mut().unwrap()[0].set("responseKind", empty);
        assert_eq!(resources, [expected]);
        assert_eq!(from_aggregated(&document, &GroupVersion::new("other", "v1")), None);
        assert_eq!(from_aggregated(&node!({"kind": "List"}), &gv()), None);
    }

    #[test]
    fn legacy_discovery_becomes_the_aggregated_form() {
        let document = node!({
            "kind": "APIResourceList", "groupVersion": "g.example.com/v1", "resources": [
                {"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing", "verbs": ["get"], "shortNames": ["th"]},
                {"name": "things/status", "singularName": "", "namespaced": true, "kind": "Thing", "verbs": ["get"]},
                {"name": "orphans/scale", "namespaced": false, "kind": "Scale", "group": "autoscaling", "version": "v1", "verbs": ["get"]},
            ],
        });
        let resources = from_legacy(&document, &gv()).unwrap();
        assert_eq!(resources.len(), 2);
        assert_eq!(resources[0].str_at(&["responseKind", "kind"]), "Thing");
        assert_eq!(resources[0].list("subresources")[0].str("subresource"), "status");
        assert_eq!(
            resources[1].list("subresources")[0].str_at(&["responseKind", "group"]),
            "autoscaling"
        );
        let mut other = document.clone();
        other.set("groupVersion", "apps/v1");
        assert_eq!(from_legacy(&other, &gv()), None);
    }
}
