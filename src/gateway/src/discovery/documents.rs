//! Discovery documents as backends write them, read into the aggregated form.
//!
//! A backend is asked for one group-version and can say something about no other: only fields known here are taken over.

use fairlead_api::{GroupVersion, Node, node};

/// More than any API group has; bounds what a broken backend can make everybody's discovery cost.
const MAX_RESOURCES: usize = 2000;

/// Whether a document is an `APIGroupDiscoveryList` of a version known here.
pub fn is_aggregated(document: &Node) -> bool {
    document.str("kind") == "APIGroupDiscoveryList"
        && matches!(
            document.str("apiVersion"),
            "apidiscovery.k8s.io/v2" | "apidiscovery.k8s.io/v2beta1"
        )
}

/// Every group-version that an `APIGroupDiscoveryList` speaks of.
pub fn spoken_of(document: &Node) -> impl Iterator<Item = GroupVersion> {
    let of = |group: &Node| {
        let name = group.name().to_owned();
        let versions = group.list("versions").iter().map(|v| v.str("version").to_owned());
        versions
            .map(move |version| GroupVersion::new(&name, &version))
            .collect::<Vec<_>>()
    };
    document.list("items").iter().flat_map(of).take(MAX_RESOURCES)
}

/// The resources of `gv` in an `APIGroupDiscoveryList`; `None` if it is none, or does not speak of `gv`.
pub fn from_aggregated(document: &Node, gv: &GroupVersion) -> Option<Vec<Node>> {
    if !is_aggregated(document) {
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
pub fn from_legacy(document: &Node, gv: &GroupVersion) -> Option<Vec<Node>> {
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
