//! How backends are asked what they serve: seldom, cheaply, and without trust.

use crate::common::{GROUP, NAME, VERSION, World, text};
use fairlead_api::json;
use fairlead_gateway::discovery::Dialect;
use fairlead_gateway::openapi::Origin;
use fairlead_gateway::{Body, RemoteGroup};
use http::{Request, Response};
use hyper::body::Incoming;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What is served at a path: the text and its ETag.
type Pages = Arc<Mutex<Vec<(&'static str, String, &'static str)>>>;

/// Answers from pages, 304 to whoever knows them; everything else is not there.
fn answer(pages: &Pages, request: &Request<Incoming>) -> Response<Body> {
    let path = request.uri().path();
    let pages = pages.lock().unwrap();
    let Some((_, body, etag)) = pages.iter().find(|(p, ..)| *p == path) else {
        return text(404, "");
    };
    let known = request.headers().get("if-none-match").and_then(|v| v.to_str().ok());
    let mut response = match !etag.is_empty() && known == Some(*etag) {
        true => text(304, ""),
        false => text(200, body),
    };
    if !etag.is_empty() {
        response.headers_mut().insert("etag", etag.parse().unwrap());
    }
    response
}

const OWN: &str = "/apis/shipping.example.com/v1alpha1";

/// Aggregated discovery with these resources, and a group of somebody else.
fn discovery(resources: &[&str]) -> String {
    let list: Vec<String> = resources
        .iter()
        .map(|r| format!(r#"{{"resource":"{r}","scope":"Namespaced","verbs":["get"]}}"#))
        .collect();
    format!(
        r#"{{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2","items":[
        {{"metadata":{{"name":"apps"}},"versions":[{{"version":"v1","resources":[{{"resource":"evil","verbs":["get"]}}]}}]}},
        {{"metadata":{{"name":"{GROUP}"}},"versions":[{{"version":"{VERSION}","resources":[{}]}}]}}]}}"#,
        list.join(",")
    )
}

async fn until(world: &World, wanted: impl Fn(&RemoteGroup) -> bool) -> Arc<RemoteGroup> {
    let mut changes = world.gateway.group_changes();
    loop {
        changes.borrow_and_update();
        let group = world.gateway.remote_groups().get(NAME).cloned();
        if let Some(group) = group.filter(|g| wanted(g)) {
            return group;
        }
        changes.changed().await.unwrap();
    }
}

/// A backend of pages, registered and watched over; the number says how often `/apis` was sent in full.
async fn serving(pages: &[(&'static str, String, &'static str)]) -> (World, Pages, Arc<AtomicUsize>) {
    let mut world = World::new();
    let pages: Pages = Arc::new(Mutex::new(pages.to_vec()));
    let sent = Arc::new(AtomicUsize::new(0));
    let (served, counted) = (pages.clone(), sent.clone());
    let address = world
        .backend(&["h2"], move |request| {
            let response = answer(&served, &request);
            if request.uri().path() == "/apis" && response.status() == 200 {
                counted.fetch_add(1, Ordering::SeqCst);
            }
            Box::pin(async move { response })
        })
        .await;
    world.register(&[address], true);
    world.run();
    (world, pages, sent)
}

#[tokio::test]
async fn a_change_is_seen_and_nothing_is_sent_twice() {
    let apis = ("/apis", discovery(&["parcels"]), "\"1\"");
    let (world, pages, sent) = serving(&[apis, (OWN, "{}".into(), "")]).await;
    let names = |g: &RemoteGroup| {
        g.resources
            .iter()
            .map(|r| r.str("resource").to_owned())
            .collect::<Vec<_>>()
    };
    let group = until(&world, |g| names(g) == ["parcels"]).await;
    assert_eq!(group.dialect, Dialect::Aggregated);
    let claims: Vec<String> = group.claims.iter().map(ToString::to_string).collect();
    assert_eq!(claims, ["apps/v1"]);
    assert_eq!(world.gateway.remote_groups().len(), 1);
    *pages.lock().unwrap() = vec![
        ("/apis", discovery(&["parcels", "carriers"]), "\"2\""),
        (OWN, "{}".into(), ""),
    ];
    until(&world, |g| names(g) == ["parcels", "carriers"]).await;
    assert_eq!(sent.load(Ordering::SeqCst), 2);
}

const V3: &str = r##"{"openapi":"3.0.0","info":{"title":"t","version":"1"},
    "paths":{"/apis/shipping.example.com/v1alpha1/parcels":{"get":{"responses":{"200":{"description":"OK",
        "content":{"application/json":{"schema":{"$ref":"#/components/schemas/Parcel"}}}}}}},"/apis/apps/v1/x":{}},
    "components":{"schemas":{"Parcel":{"type":"object","properties":{"self":{"$ref":"#/components/schemas/Parcel"}}}}}}"##;
const INDEX: &str = r#"{"paths":{"apis/shipping.example.com/v1alpha1":{"serverRelativeURL":"/openapi/v3/own?hash=A"},
    "apis/apps/v1":{"serverRelativeURL":"/openapi/v3/evil?hash=B"}}}"#;
const V2: &str = r##"{"swagger":"2.0","info":{"title":"t","version":"1"},
    "paths":{"/apis/shipping.example.com/v1alpha1/parcels":{"get":{"produces":["application/json"],"responses":{"200":
        {"description":"OK","schema":{"$ref":"#/definitions/Parcel"}}}}},"/apis/apps/v1/x":{}},
    "definitions":{"Parcel":{"type":"object"},"Evil":{}}}"##;

#[tokio::test]
async fn one_version_of_openapi_is_made_of_the_other() {
    let apis = || ("/apis", discovery(&["parcels"]), "\"1\"");
    let own = || (OWN, "{}".to_owned(), "");
    let v3 = [
        apis(),
        own(),
        ("/openapi/v3", INDEX.into(), ""),
        ("/openapi/v3/own", V3.into(), ""),
    ];
    let (world, ..) = serving(&v3).await;
    let group = until(&world, |g| g.openapi.v2.is_some() && g.openapi.v3.is_some()).await;
    let (v2, v3) = (group.openapi.v2.as_ref().unwrap(), group.openapi.v3.as_ref().unwrap());
    assert_eq!((v2.origin, v3.origin), (Origin::Derived, Origin::Cut));
    assert!(!String::from_utf8_lossy(&v3.document.bytes).contains("apps"));
    let made = json::parse(&v2.document.bytes).unwrap();
    assert!(made.at(&["definitions", "Parcel"]).is_some());

    let (world, ..) = serving(&[apis(), own(), ("/openapi/v2", V2.into(), "\"x\"")]).await;
    let group = until(&world, |g| g.openapi.v2.is_some() && g.openapi.v3.is_some()).await;
    let (v2, v3) = (group.openapi.v2.as_ref().unwrap(), group.openapi.v3.as_ref().unwrap());
    assert_eq!((v2.origin, v3.origin), (Origin::Cut, Origin::Derived));
    let cut = String::from_utf8_lossy(&v2.document.bytes).into_owned();
    assert!(!cut.contains("apps") && !cut.contains("Evil"), "{cut}");
    assert!(String::from_utf8_lossy(&v3.document.bytes).contains("#/components/schemas/Parcel"));
}

#[tokio::test]
async fn documents_that_are_none_are_told_and_harm_nothing() {
    let deep = format!("{}{}", r#"{"swagger":"2.0","paths":"#, "[".repeat(100_000));
    let pages = [
        ("/apis", discovery(&["parcels"]), "\"1\""),
        (OWN, "{}".into(), ""),
        ("/openapi/v3", INDEX.into(), ""),
        ("/openapi/v3/own", r#"{"openapi":"3.0.0","paths":[]}"#.into(), ""),
        ("/openapi/v2", deep, ""),
    ];
    let (world, ..) = serving(&pages).await;
    let group = until(&world, |g| g.openapi.problems.len() == 2).await;
    assert_eq!((group.openapi.v2.as_ref(), group.openapi.v3.as_ref()), (None, None));
    assert_eq!(group.resources.len(), 1);
    for version in ["OpenAPI v2", "OpenAPI v3"] {
        assert!(
            group.openapi.problems.iter().any(|p| p.starts_with(version)),
            "{:?}",
            group.openapi.problems
        );
    }
}
