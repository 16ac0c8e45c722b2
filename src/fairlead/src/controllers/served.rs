//! The loops in a whole server, as clients see them. Everything is waited for on watches.

use crate::testing::{TOKEN, TestServer};
use fairlead_api::{Node, json, node};
use fairlead_server::Connection;
use fairlead_server::body::Payload;
use fairlead_server::request::Received;
use http_body_util::BodyExt;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

struct Bench(TestServer);

type Objects = BTreeMap<String, Node>;

impl Bench {
    async fn start(controllers: &str) -> Bench {
        Bench(
            TestServer::builder()
                .flag(format!("--controllers={controllers}"))
                .start()
                .await
                .unwrap(),
        )
    }

    async fn response(&self, method: &str, uri: &str, media_type: &str, body: String) -> fairlead_server::Response {
        let request = http::Request::builder()
            .method(method)
            .uri(uri)
            .header("authorization", format!("Bearer {TOKEN}"))
            .header("content-type", media_type);
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let received = Received {
            parts,
            payload: Payload::Bytes(body.into()),
            connection: Arc::new(Connection::local()),
            at: tokio::time::Instant::now(),
            audit_id: "a".into(),
        };
        self.0.chain().serve(received).await
    }

    async fn send(&self, method: &str, uri: &str, body: &Node) -> (u16, Node) {
        let media_type = if method == "PATCH" {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        let body = if body.is_null() {
            String::new()
        } else {
            json::to_string(body)
        };
        let response = self.response(method, uri, media_type, body).await;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (code, json::parse(&bytes).unwrap_or_default())
    }

    /// A request that must succeed.
    async fn ok(&self, method: &str, uri: &str, body: Node) -> Node {
        let (code, answer) = self.send(method, uri, &body).await;
        assert!((200..300).contains(&code), "{method} {uri}: {code} {answer:?}");
        answer
    }

    async fn get(&self, uri: &str) -> Node {
        self.ok("GET", uri, Node::Null).await
    }

    /// Watches a collection until its objects, by name, are as `wanted`; answers them.
    async fn until(&self, uri: &str, wanted: impl Fn(&Objects) -> bool) -> Objects {
        let watching = async {
            let watch = format!(
                "{uri}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
            );
            let response = self.response("GET", &watch, "application/json", String::new()).await;
            let mut body = response.into_body();
            let (mut rest, mut objects, mut complete) = (Vec::new(), Objects::new(), false);
            while let Some(frame) = body.frame().await {
                rest.extend_from_slice(&frame.unwrap().into_data().unwrap_or_default());
                while let Some(end) = rest.iter().position(|b| *b == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    let event = json::parse(&line).unwrap();
                    let object = event.get("object").cloned().unwrap_or_default();
                    match event.str("type") {
                        "DELETED" => drop(objects.remove(object.name())),
                        "BOOKMARK" => complete = true,
                        "ERROR" => panic!("{uri}: {object:?}"),
                        _ => drop(objects.insert(object.name().to_owned(), object)),
                    }
                    if complete && wanted(&objects) {
                        return objects;
                    }
                }
            }
            panic!("the watch of {uri} ended: {objects:?}")
        };
        match tokio::time::timeout(PATIENCE, watching).await {
            Ok(objects) => objects,
            Err(_) => panic!(
                "{uri} did not become as wanted: {:?}",
                self.send("GET", uri, &Node::Null).await
            ),
        }
    }

    async fn until_gone(&self, uri: &str, name: &str) {
        self.until(uri, |objects| !objects.contains_key(name)).await;
    }

    /// Makes a ConfigMap in `default` that these own.
    async fn owned(&self, name: &str, owners: Vec<Node>) -> Node {
        self.owned_with(name, owners, &[]).await
    }

    async fn owned_with(&self, name: &str, owners: Vec<Node>, finalizers: &[&str]) -> Node {
        let mut object = node!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
        object.set_at(&["metadata", "ownerReferences"], owners);
        object.set_at(
            &["metadata", "finalizers"],
            finalizers.iter().map(|f| Node::string(*f)).collect::<Vec<_>>(),
        );
        self.ok("POST", MAPS, object).await
    }

    async fn delete(&self, uri: &str, policy: &str) -> Node {
        self.ok(
            "DELETE",
            uri,
            node!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy}),
        )
        .await
    }

    /// Whether the garbage collector has looked at everything written so far.
    async fn settled(&self, number: u32) {
        let (owner, dependent) = (format!("settle-owner-{number}"), format!("settle-{number}"));
        let made = self.owned(&owner, vec![]).await;
        self.owned(&dependent, vec![reference(&made, true)]).await;
        self.delete(&format!("{MAPS}/{owner}"), "Background").await;
        self.until_gone(MAPS, &dependent).await;
    }
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const WIDGETS: &str = "/apis/example.com/v1/widgets";

fn reference(owner: &Node, blocks: bool) -> Node {
    node!({
        "apiVersion": owner.str("apiVersion"), "kind": owner.str("kind"), "name": owner.name(), "uid": owner.uid(),
        "blockOwnerDeletion": blocks,
    })
}

fn names(objects: &Objects) -> Vec<&str> {
    objects
        .keys()
        .map(String::as_str)
        .filter(|n| *n != "kube-root-ca.crt")
        .collect()
}

fn condition<'a>(namespace: &'a Node, kind: &str) -> Option<&'a Node> {
    namespace
        .get("status")?
        .list("conditions")
        .iter()
        .find(|c| c.str("type") == kind)
}

// === every namespace ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_namespace_has_a_service_account_and_the_root_ca() {
    let bench = Bench::start("*").await;
    let namespace = node!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}});
    bench.ok("POST", "/api/v1/namespaces", namespace).await;
    for namespace in ["default", "kube-system", "n"] {
        bench
            .until(&format!("/api/v1/namespaces/{namespace}/serviceaccounts"), |o| {
                o.contains_key("default")
            })
            .await;
        let maps = format!("/api/v1/namespaces/{namespace}/configmaps");
        let found = bench.until(&maps, |o| o.contains_key("kube-root-ca.crt")).await;
        assert_eq!(
            found["kube-root-ca.crt"].str_at(&["data", "ca.crt"]),
            bench.0.authority_pem()
        );
    }
    // What is taken away or spoilt comes back.
    let accounts = "/api/v1/namespaces/n/serviceaccounts";
    let before = bench.get(&format!("{accounts}/default")).await.uid().to_owned();
    bench.delete(&format!("{accounts}/default"), "Background").await;
    bench
        .until(accounts, |o| o.get("default").is_some_and(|a| a.uid() != before))
        .await;
    let map = "/api/v1/namespaces/n/configmaps/kube-root-ca.crt";
    bench.ok("PATCH", map, node!({"data": {"ca.crt": "spoilt"}})).await;
    let pem = bench.0.authority_pem().to_owned();
    bench
        .until("/api/v1/namespaces/n/configmaps", |o| {
            o["kube-root-ca.crt"].str_at(&["data", "ca.crt"]) == pem
        })
        .await;
    // A namespace that goes is not filled again.
    bench.delete("/api/v1/namespaces/n", "Background").await;
    bench.until_gone("/api/v1/namespaces", "n").await;
    assert!(bench.get(accounts).await.list("items").is_empty());
    bench.0.stop().await;
}

// === roles ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_gather_the_rules_of_others() {
    let bench = Bench::start("clusterrole-aggregation").await;
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let has = |role: Option<&Node>, resource: &str| {
        role.is_some_and(|r| {
            r.list("rules")
                .iter()
                .any(|rule| rule.list("resources").iter().any(|x| x.as_str() == Some(resource)))
        })
    };
    // View gathers from its parts, edit from view as well, admin from both.
    bench
        .until(roles, |o| {
            has(o.get("view"), "configmaps") && has(o.get("edit"), "pods/exec") && has(o.get("admin"), "rolebindings")
        })
        .await;
    let widgets = node!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "widgets", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        "rules": [{"apiGroups": ["example.com"], "resources": ["widgets"], "verbs": ["get"]}],
    });
    bench.ok("POST", roles, widgets).await;
    bench
        .until(roles, |o| {
            ["view", "edit", "admin"].iter().all(|r| has(o.get(*r), "widgets"))
        })
        .await;
    bench.delete(&format!("{roles}/widgets"), "Background").await;
    let found = bench
        .until(roles, |o| {
            ["view", "edit", "admin"].iter().all(|r| !has(o.get(*r), "widgets"))
        })
        .await;
    let fields = found["view"].get("metadata").unwrap().list("managedFields").to_vec();
    assert!(
        fields
            .iter()
            .any(|f| f.str("manager") == "clusterrole-aggregation-controller"),
        "{fields:?}"
    );
    bench.0.stop().await;
}

// === quotas ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quotas_say_what_is_used() {
    let bench = Bench::start("resourcequota").await;
    let quotas = "/api/v1/namespaces/default/resourcequotas";
    bench.owned("first", vec![]).await;
    let quota = node!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"},
        "spec": {"hard": {"count/configmaps": "2", "pods": "1"}}});
    bench.ok("POST", quotas, quota).await;
    let used = |o: &Objects, what: &str| {
        o.get("q")
            .map(|q| q.str_at(&["status", "used", what]).to_owned())
            .unwrap_or_default()
    };
    bench
        .until(quotas, |o| used(o, "count/configmaps") == "1" && used(o, "pods") == "0")
        .await;
    bench.owned("second", vec![]).await;
    bench.until(quotas, |o| used(o, "count/configmaps") == "2").await;
    let third = node!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "third"}});
    assert_eq!(bench.send("POST", MAPS, &third).await.0, 403);
    bench.delete(&format!("{MAPS}/first"), "Background").await;
    bench.until(quotas, |o| used(o, "count/configmaps") == "1").await;
    assert_eq!(bench.send("POST", MAPS, &third).await.0, 201);
    bench
        .ok(
            "PATCH",
            &format!("{quotas}/q"),
            node!({"spec": {"hard": {"count/configmaps": "9"}}}),
        )
        .await;
    bench
        .until(quotas, |o| {
            o["q"].str_at(&["status", "hard", "count/configmaps"]) == "9"
        })
        .await;
    bench.0.stop().await;
}

// === namespaces ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_goes_with_all_it_holds() {
    let bench = Bench::start("*").await;
    let make = |name: &str| node!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    for name in ["empty", "full", "stuck"] {
        bench.ok("POST", "/api/v1/namespaces", make(name)).await;
    }
    let stuck = node!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "stuck", "finalizers": ["example.com/wait"]}});
    bench.ok("POST", "/api/v1/namespaces/stuck/configmaps", stuck).await;
    for n in 0..150 {
        let map = node!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("m{n}")}});
        bench.ok("POST", "/api/v1/namespaces/full/configmaps", map).await;
    }
    // One that has to wait keeps no other waiting.
    let answer = bench.delete("/api/v1/namespaces/stuck", "Background").await;
    assert_eq!(answer.str_at(&["status", "phase"]), "Terminating");
    let waits = |n: &Node| condition(n, "NamespaceFinalizersRemaining").is_some_and(|c| c.str("status") == "True");
    let found = bench
        .until("/api/v1/namespaces", |o| o.get("stuck").is_some_and(waits))
        .await;
    let said = |kind: &str| condition(&found["stuck"], kind).unwrap().str("message").to_owned();
    assert_eq!(
        said("NamespaceContentRemaining"),
        "Some resources are remaining: configmaps. has 1 resource instances"
    );
    assert_eq!(
        said("NamespaceFinalizersRemaining"),
        "Some content in the namespace has finalizers remaining: example.com/wait in 1 resource instances"
    );
    for name in ["empty", "full"] {
        bench.delete(&format!("/api/v1/namespaces/{name}"), "Background").await;
        bench.until_gone("/api/v1/namespaces", name).await;
    }
    assert!(
        bench
            .get("/api/v1/namespaces/full/configmaps")
            .await
            .list("items")
            .is_empty()
    );
    bench
        .ok(
            "PATCH",
            "/api/v1/namespaces/stuck/configmaps/stuck",
            node!({"metadata": {"finalizers": null}}),
        )
        .await;
    bench.until_gone("/api/v1/namespaces", "stuck").await;
    // Its name is free again, and nothing of before is left.
    bench.ok("POST", "/api/v1/namespaces", make("stuck")).await;
    bench
        .until("/api/v1/namespaces/stuck/serviceaccounts", |o| {
            o.contains_key("default")
        })
        .await;
    bench.0.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_go_before_what_they_use() {
    let bench = Bench::start("namespace").await;
    let namespace = node!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}});
    bench.ok("POST", "/api/v1/namespaces", namespace).await;
    let account = node!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    bench.ok("POST", "/api/v1/namespaces/n/serviceaccounts", account).await;
    let pod = node!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "finalizers": ["example.com/wait"]},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    bench.ok("POST", "/api/v1/namespaces/n/pods", pod).await;
    let map = node!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}});
    bench.ok("POST", "/api/v1/namespaces/n/configmaps", map).await;
    bench.delete("/api/v1/namespaces/n", "Background").await;
    bench
        .until("/api/v1/namespaces", |o| {
            o.get("n")
                .is_some_and(|n| condition(n, "NamespaceContentRemaining").is_some())
        })
        .await;
    assert_eq!(
        bench
            .send("GET", "/api/v1/namespaces/n/configmaps/m", &Node::Null)
            .await
            .0,
        200
    );
    bench
        .ok(
            "PATCH",
            "/api/v1/namespaces/n/pods/p",
            node!({"metadata": {"finalizers": null}}),
        )
        .await;
    bench.until_gone("/api/v1/namespaces", "n").await;
    assert_eq!(
        bench
            .send("GET", "/api/v1/namespaces/n/configmaps/m", &Node::Null)
            .await
            .0,
        404
    );
    bench.0.stop().await;
}

// === garbage ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dependents_follow_their_owners() {
    let bench = Bench::start("garbagecollector").await;
    // A chain goes from the top down.
    let a = bench.owned("a", vec![]).await;
    let b = bench.owned("b", vec![reference(&a, true)]).await;
    let c = bench.owned("c", vec![reference(&b, true)]).await;
    bench.owned("d", vec![reference(&c, false)]).await;
    // Two owners: one is enough to stay.
    let x = bench.owned("x", vec![]).await;
    bench
        .owned("both", vec![reference(&a, true), reference(&x, true)])
        .await;
    bench.delete(&format!("{MAPS}/a"), "Background").await;
    let both = |o: &Objects| o.get("both").is_some_and(|b| b.owner_references().len() == 1);
    let left = bench.until(MAPS, |o| names(o) == ["both", "x"] && both(o)).await;
    assert_eq!(left["both"].owner_references()[0].str("uid"), x.uid());
    // An owner that never was: gone at once. One of the right name and another uid as well.
    let mut other = reference(&x, true);
    other.set("uid", "00000000-0000-4000-8000-000000000000");
    bench.owned("lost", vec![other.clone()]).await;
    bench.until_gone(MAPS, "lost").await;
    // A kind nobody knows may come to be known.
    other.set("apiVersion", "unknown.example.com/v1");
    bench.owned("unknown", vec![other]).await;
    bench.settled(1).await;
    bench.delete(&format!("{MAPS}/x"), "Background").await;
    bench.until(MAPS, |o| names(o) == ["unknown"]).await;
    bench.0.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orphans_stay_and_owners_wait_where_they_shall() {
    let bench = Bench::start("garbagecollector").await;
    let a = bench.owned("a", vec![]).await;
    for n in 0..20 {
        bench.owned(&format!("kept{n:02}"), vec![reference(&a, true)]).await;
    }
    // The last of them has hardly been told when the owner goes.
    bench.delete(&format!("{MAPS}/a"), "Orphan").await;
    let free = |o: &Objects| o.values().all(|k| k.owner_references().is_empty());
    let left = bench.until(MAPS, |o| !o.contains_key("a") && free(o)).await;
    assert_eq!(names(&left).len(), 20);

    // Foreground: the owner waits for those that block it, and only for those.
    let b = bench.owned("b", vec![]).await;
    bench
        .owned_with("blocks", vec![reference(&b, true)], &["example.com/wait"])
        .await;
    bench
        .owned_with("lags", vec![reference(&b, false)], &["example.com/wait"])
        .await;
    let deleted = bench.delete(&format!("{MAPS}/b"), "Foreground").await;
    assert_eq!(deleted.finalizers().collect::<Vec<_>>(), ["foregroundDeletion"]);
    let going = |o: &Objects, name: &str| o.get(name).is_some_and(|k| k.deletion_timestamp().is_some());
    bench.until(MAPS, |o| going(o, "blocks") && going(o, "lags")).await;
    bench.settled(1).await;
    assert!(bench.get(&format!("{MAPS}/b")).await.deletion_timestamp().is_some());
    bench
        .ok(
            "PATCH",
            &format!("{MAPS}/blocks"),
            node!({"metadata": {"finalizers": null}}),
        )
        .await;
    let left = bench.until(MAPS, |o| !o.contains_key("b")).await;
    assert!(left.contains_key("lags") && !left.contains_key("blocks"));
    bench
        .ok(
            "PATCH",
            &format!("{MAPS}/lags"),
            node!({"metadata": {"finalizers": null}}),
        )
        .await;

    // A dependent with another owner is taken from the one that waits.
    let (c, keeper) = (bench.owned("c", vec![]).await, bench.owned("keeper", vec![]).await);
    bench
        .owned("shared", vec![reference(&c, true), reference(&keeper, true)])
        .await;
    bench.delete(&format!("{MAPS}/c"), "Foreground").await;
    let left = bench.until(MAPS, |o| !o.contains_key("c")).await;
    assert_eq!(left["shared"].owner_references()[0].str("name"), "keeper");

    // Grandchildren go first, and two that own each other do not wait for ever.
    let d = bench.owned("d", vec![]).await;
    let e = bench.owned("e", vec![reference(&d, true)]).await;
    bench.owned("f", vec![reference(&e, true)]).await;
    bench
        .ok("PATCH", &format!("{MAPS}/d"), {
            let mut patch = node!({});
            patch.set_at(&["metadata", "ownerReferences"], vec![reference(&e, true)]);
            patch
        })
        .await;
    bench.delete(&format!("{MAPS}/d"), "Foreground").await;
    bench
        .until(MAPS, |o| ["d", "e", "f"].iter().all(|n| !o.contains_key(*n)))
        .await;
    bench.0.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn custom_and_cluster_scoped_owners_count() {
    let bench = Bench::start("*").await;
    let crd = json::parse(
        br#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition",
        "metadata":{"name":"widgets.example.com"},"spec":{"group":"example.com","scope":"Cluster",
        "names":{"plural":"widgets","kind":"Widget"},"versions":[{"name":"v1","served":true,"storage":true,
        "schema":{"openAPIV3Schema":{"type":"object"}}}]}}"#,
    )
    .unwrap();
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    bench.ok("POST", crds, crd.clone()).await;
    let widget = |name: &str| node!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}});
    let a = bench.ok("POST", WIDGETS, widget("a")).await;
    let b = bench.ok("POST", WIDGETS, widget("b")).await;
    bench.owned("of-a", vec![reference(&a, true)]).await;
    bench.owned("of-b", vec![reference(&b, true)]).await;
    let mut custom = widget("of-a");
    custom.set_at(&["metadata", "ownerReferences"], vec![reference(&a, true)]);
    bench.ok("POST", WIDGETS, custom).await;
    // A cluster-scoped object cannot have an owner in a namespace: it stays.
    let map = bench.owned("map", vec![]).await;
    let mut stays = widget("stays");
    stays.set_at(&["metadata", "ownerReferences"], vec![reference(&map, true)]);
    bench.ok("POST", WIDGETS, stays).await;
    bench.delete(&format!("{MAPS}/map"), "Background").await;
    bench.delete(&format!("{WIDGETS}/a"), "Foreground").await;
    bench.until(WIDGETS, |o| names(o) == ["b", "stays"]).await;
    bench.until(MAPS, |o| names(o) == ["of-b"]).await;
    // With its definition a custom object goes, and what it owned with it.
    // Whoever watches sees it go: the watch does not end when the definition begins to.
    let looked = tokio::sync::Notify::new();
    let watching = bench.until(WIDGETS, |o| {
        looked.notify_one();
        o.is_empty()
    });
    let deleting = async {
        looked.notified().await;
        bench.delete(&format!("{crds}/widgets.example.com"), "Background").await
    };
    tokio::join!(watching, deleting);
    bench.until(MAPS, |o| names(o).is_empty()).await;
    // An owner whose kind came later.
    let mut early = reference(&a, true);
    early.set("uid", "00000000-0000-4000-8000-000000000000");
    bench.owned("early", vec![early]).await;
    bench.settled(1).await;
    assert!(bench.until(MAPS, |_| true).await.contains_key("early"));
    bench.ok("POST", crds, crd).await;
    bench.until_gone(MAPS, "early").await;
    bench.0.stop().await;
}
