//! The loops: conditions, discovery and what stays visible of a backend that is gone.

use crate::common::{GROUP, NAME, VERSION, World, body, service, text};
use bytes::Bytes;
use fairlead_api::node;
use fairlead_gateway::availability::Probing;
use fairlead_gateway::objects::{API_SERVICES, SERVICES};
use fairlead_gateway::{Freshness, ObjectSource, Registrar, registration};
use http::Request;
use http_body_util::Full;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const THINGS: &str = "/apis/shipping.example.com/v1alpha1/namespaces/default/parcels";

#[tokio::test]
async fn a_condition_follows_what_happens() {
    let mut world = World::new();
    world.run();
    world.register_only(false);
    assert_eq!(
        world.reason("ServiceNotFound").await,
        "service/shipping in \"default\" is not present"
    );
    world.objects.put(SERVICES, service());
    world.reason("EndpointsNotFound").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = listener.local_addr().unwrap();
    drop(listener);
    world.put_slice(&[dead]);
    let url = format!("https://{dead}/apis/{GROUP}/{VERSION}");
    assert_eq!(
        world.reason("FailedDiscoveryCheck").await,
        format!("failing or missing response from {url}: Get \"{url}\": dial tcp {dead}: connect: connection refused")
    );
    let address = world.extension_server().await;
    world.put_slice(&[address]);
    assert_eq!(world.reason("Passed").await, "all checks passed");
    assert_eq!(world.get(THINGS).await.status(), 200);

    let mut changes = world.gateway.group_changes();
    let group = loop {
        let group = world.gateway.remote_groups().get(NAME).cloned();
        if let Some(group) = group.filter(|g| g.openapi.v3.is_some()) {
            break group;
        }
        changes.changed().await.unwrap();
    };
    assert_eq!((group.freshness, group.resources.len()), (Freshness::Current, 2));
    assert_eq!(group.resources[0].str("resource"), "parcels");
    let v2 = &group.openapi.v2.as_ref().unwrap().document;
    let v2 = fairlead_api::json::parse(&v2.bytes).unwrap();
    assert!(v2.get("definitions").unwrap().as_map().unwrap().len() >= 4);

    // The endpoint goes: what was learnt stays, marked stale, and requests are refused at once.
    world.put_slice(&[]);
    world.reason("EndpointsNotFound").await;
    assert_eq!(world.get(THINGS).await.status(), 503);
    let stale = loop {
        changes.borrow_and_update();
        let group = world.gateway.remote_groups()[NAME].clone();
        if group.freshness == Freshness::Stale {
            break group;
        }
        changes.changed().await.unwrap();
    };
    assert_eq!((stale.resources.len(), stale.learnt.at()), (2, group.learnt.at()));
    assert!(stale.openapi.v3.is_some());

    world.objects.delete(API_SERVICES, "", NAME);
    while world.gateway.remote_groups().contains_key(NAME) {
        changes.changed().await.unwrap();
    }
    assert!(world.gateway.backend(NAME).is_none());
    let unavailable = || {
        world
            .families
            .gather()
            .iter()
            .any(|f| f.name() == "aggregator_unavailable_apiservice")
    };
    while unavailable() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_bad_answer_is_told_and_a_failure_under_a_request_is_noticed_at_once() {
    // Nothing but trouble leads to another check of a healthy backend.
    let probing = Probing {
        interval: Duration::from_secs(3600),
        ..Probing::default()
    };
    let mut world = World::with(|c| c.probing = probing);
    world.run();
    let code = Arc::new(AtomicU16::new(500));
    let seen = code.clone();
    let address = world
        .backend(&["h2"], move |_| {
            let code = seen.load(Ordering::SeqCst);
            Box::pin(async move { text(code, "{}") })
        })
        .await;
    world.register(&[address], false);
    let message = world.reason("FailedDiscoveryCheck").await;
    let url = format!("https://{address}/apis/{GROUP}/{VERSION}");
    assert_eq!(
        message,
        format!("failing or missing response from {url}: bad status from {url}: 500")
    );
    // A redirect is no good answer either, and not followed.
    code.store(302, Ordering::SeqCst);
    world.put_slice(&[]);
    world.put_slice(&[address]);
    while !world.reason("FailedDiscoveryCheck").await.ends_with(": 302") {
        tokio::task::yield_now().await;
    }
    code.store(200, Ordering::SeqCst);
    world.reason("Passed").await;
    // Its discovery is nonsense, so nothing is known of it.
    let groups = world.gateway.remote_groups();
    assert!(groups.get(NAME).is_none_or(|g| g.resources.is_empty()));

    world.tasks.abort_all();
    while world.tasks.join_next().await.is_some() {}
    world.run();
    let _ = world.get(THINGS).await;
    assert!(
        world
            .reason("FailedDiscoveryCheck")
            .await
            .contains("connection refused")
    );
}

#[tokio::test]
async fn groups_served_here_are_always_available() {
    let mut world = World::new();
    world.objects.put(
        API_SERVICES,
        node!({"metadata": {"name": NAME}, "spec": {"group": GROUP, "version": VERSION}}),
    );
    world.run();
    assert_eq!(world.reason("Local").await, "Local APIServices are always available");
    assert_eq!(world.store.1.lock().unwrap().len(), 1);
}

/// k/k#119662: whatever a backend answers to aggregated discovery, legacy discovery counts; and only for its own group.
#[tokio::test]
async fn kk_119662_hostile_discovery_falls_back() {
    const LEGACY: &str = r#"{"kind":"APIResourceList","groupVersion":"shipping.example.com/v1alpha1",
        "resources":[{"name":"parcels","singularName":"parcel","namespaced":true,"kind":"Parcel","verbs":["get"]}]}"#;
    const OTHERS: &str = r#"{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2","items":[
        {"metadata":{"name":"apps"},"versions":[{"version":"v1","resources":[{"resource":"evil","verbs":["get"]}]}]}]}"#;
    for (code, aggregated) in [
        (200, "<html>login</html>"),
        (406, ""),
        (403, r#"{"kind":"Status"}"#),
        (200, "{}"),
        (200, ""),
        (200, r#"{"kind":"APIGroupList","apiVersion":"v1","groups":[]}"#),
        (200, OTHERS),
        (302, ""),
    ] {
        let mut world = World::new();
        let address = world
            .backend(&["h2"], move |request| {
                Box::pin(async move {
                    match request.uri().path() {
                        "/apis" => {
                            let mut response = text(code, aggregated);
                            response
                                .headers_mut()
                                .insert("location", "https://evil.example.com/".parse().unwrap());
                            response
                        }
                        "/apis/shipping.example.com/v1alpha1" => text(200, LEGACY),
                        _ => text(404, ""),
                    }
                })
            })
            .await;
        world.register(&[address], false);
        let mut changes = world.gateway.group_changes();
        world.run();
        let group = loop {
            let group = world.gateway.remote_groups().get(NAME).cloned();
            if let Some(group) = group.filter(|g| g.learnt.at().is_some()) {
                break group;
            }
            changes.changed().await.unwrap();
        };
        let names: Vec<&str> = group.resources.iter().map(|r| r.str("resource")).collect();
        assert_eq!(names, ["parcels"], "{code} {aggregated}");
        assert_eq!(world.gateway.remote_groups().len(), 1);
    }
}

#[tokio::test]
async fn custom_groups_register_and_leave() {
    let world = World::new();
    let gv = fairlead_api::GroupVersion::new("example.com", "v1");
    let wanted = |gvs: &[fairlead_api::GroupVersion]| {
        let crds: Vec<_> = gvs
            .iter()
            .map(|gv| {
                let versions = node!([{"name": (gv.version.as_str()), "served": true}]);
                let mut crd = node!({"spec": {"group": (gv.group.as_str())}});
                crd.set_at(&["spec", "versions"], versions);
                crd
            })
            .collect();
        Arc::new(registration::wanted(&[], &crds))
    };
    let (sender, receiver) = tokio::sync::watch::channel(wanted(std::slice::from_ref(&gv)));
    let mut registrar = Registrar::new(world.objects.clone(), world.store.clone(), receiver);
    assert!(registrar.reconcile().await);
    let registered = world.objects.get(API_SERVICES, "", "v1.example.com").unwrap();
    assert_eq!(registered.at(&["spec", "versionPriority"]).unwrap().as_i64(), Some(100));
    sender.send(wanted(&[])).unwrap();
    assert!(registrar.reconcile().await);
    assert!(world.objects.get(API_SERVICES, "", "v1.example.com").is_none());
}

/// A process that is stopped while it holds an HTTP/1.1 request: no ping shows that, a check does.
#[tokio::test]
async fn a_backend_frozen_under_a_request_is_given_up() {
    let probing = Probing {
        interval: Duration::from_secs(3600),
        suspicious_timeout: Duration::from_millis(100),
        ..Probing::default()
    };
    let mut world = World::with(|c| {
        c.probing = probing;
        c.policy.tuning.suspicion = Duration::from_millis(50);
        c.policy.tuning.handshake_timeout = Duration::from_millis(200);
    });
    let acceptor = world.acceptor(world.serving_certificate(), &["http/1.1"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.register(&[listener.local_addr().unwrap()], true);
    let (frozen, freeze) = tokio::sync::oneshot::channel();
    world.tasks.spawn(async move {
        // The first connection answers the check, then takes a request and no longer answers; nor does any other.
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        let mut buffer = [0; 4096];
        assert!(stream.read(&mut buffer).await.unwrap() > 0);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            .await
            .unwrap();
        frozen.send(()).unwrap();
        std::future::pending().await
    });
    let mut verdicts = world.gateway.backend(NAME).unwrap().verdicts();
    world.run();
    freeze.await.unwrap();
    let request = Request::post(THINGS).body(Full::new(Bytes::new())).unwrap();
    let answer = body(world.send(request).await).await;
    let expected = [
        "error trying to reach service: net/http: timeout awaiting response headers\n",
        "error trying to reach service: net/http: TLS handshake timeout\n",
    ];
    assert!(expected.contains(&answer.as_str()), "{answer}");
    verdicts.wait_for(|v| !v.is_true()).await.unwrap();
    assert_eq!(body(world.get(THINGS).await).await, "service unavailable\n");
}
