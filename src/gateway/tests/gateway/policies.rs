//! BackendPolicies, from the object to what requests meet.

use crate::common::{NAME, Store, World, body, echo, text};
use bytes::Bytes;
use fairlead_api::{Node, StatusResult, node};
use fairlead_gateway::objects::{BACKEND_POLICIES, SERVICES};
use fairlead_gateway::resolve::Target;
use fairlead_gateway::{BackendPolicies, DiscoveryMode, ObjectSource};
use fairlead_telemetry::task::spawn;
use futures_util::future::BoxFuture;
use http::{Request, StatusCode};
use http_body_util::Full;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;

const THINGS: &str = "/apis/shipping.example.com/v1alpha1/namespaces/default/parcels";

impl BackendPolicies for Store {
    fn update_policy_status(&self, object: Node) -> BoxFuture<'_, StatusResult<()>> {
        self.1.lock().unwrap().push(object.clone());
        self.0.put(BACKEND_POLICIES, object);
        Box::pin(std::future::ready(Ok(())))
    }
}

impl World {
    fn put_policy(&self, name: &str, created: &str, spec: Node) {
        let mut policy = node!({"metadata": {"name": name, "creationTimestamp": created, "generation": 1}});
        policy.set("spec", spec);
        policy.set_at(&["spec", "targetRefs"], node!([{"name": NAME}]));
        self.objects.put(BACKEND_POLICIES, policy);
    }

    fn policy(&self, spec: Node) {
        self.put_policy("shipping", "2026-01-01T00:00:00Z", spec);
    }

    fn count(&self, family: &str) -> u64 {
        let families = self.families.gather();
        let family = families.iter().find(|f| f.name() == family).expect("a known family");
        let metrics = family.get_metric().iter();
        metrics
            .map(|m| m.get_counter().get_value() as u64 + m.get_histogram().get_sample_count())
            .sum()
    }
}

fn addresses(addresses: &[SocketAddr]) -> Node {
    let list: Vec<Node> = addresses
        .iter()
        .map(|a| node!({"host": (a.ip().to_string()), "port": (a.port())}))
        .collect();
    let mut spec = Node::map();
    spec.set("addresses", list);
    spec
}

/// A backend that says its name.
async fn named(world: &mut World, name: &'static str) -> SocketAddr {
    world
        .backend(&["h2"], move |_| Box::pin(async move { text(200, name) }))
        .await
}

#[tokio::test]
async fn backends_need_no_service_where_their_addresses_are_given() {
    let mut world = World::new();
    let (flagged, policed) = (named(&mut world, "flag").await, named(&mut world, "policy").await);
    let by_flag = vec![("shipping.example.com".to_owned(), Target::Address(flagged))];
    let mut other = World::with(|c| c.static_addresses = by_flag);
    // One CA for both worlds.
    std::mem::swap(&mut other.serving, &mut world.serving);
    let world = other;
    world.register_only(true);
    assert_eq!(body(world.get(THINGS).await).await, "flag");
    world.policy(addresses(&[policed]));
    assert_eq!(body(world.get(THINGS).await).await, "policy");
    world.objects.delete(BACKEND_POLICIES, "", "shipping");
    assert_eq!(body(world.get(THINGS).await).await, "flag");
}

/// The Service has not changed meanwhile, but what is known of it no longer counts.
#[tokio::test]
async fn without_given_addresses_the_service_leads_again() {
    let mut world = World::new();
    let (served, policed) = (named(&mut world, "service").await, named(&mut world, "policy").await);
    world.register(&[served], true);
    for _ in 0..2 {
        assert_eq!(body(world.get(THINGS).await).await, "service");
        world.policy(addresses(&[policed]));
        assert_eq!(body(world.get(THINGS).await).await, "policy");
        world.objects.delete(BACKEND_POLICIES, "", "shipping");
    }
    assert_eq!(body(world.get(THINGS).await).await, "service");
}

#[tokio::test]
async fn another_policy_keeps_the_connections() {
    let mut world = World::new();
    let address = world.backend(&["h2"], echo).await;
    world.register(&[address], true);
    assert_eq!(world.get(THINGS).await.status(), 200);
    for i in 1..5 {
        world.policy(node!({"maxInFlight": i, "discovery": "LastKnown"}));
        let backend = world.gateway.backend(NAME).unwrap();
        assert_eq!(backend.policy().bound.in_flight, i as usize);
        assert_eq!(backend.policy().discovery, DiscoveryMode::LastKnown);
        assert_eq!(world.get(THINGS).await.status(), 200);
    }
    assert_eq!(world.count("fairlead_backend_connect_duration_seconds"), 1);
}

#[tokio::test]
async fn the_status_tells_who_holds_and_how_endpoints_are() {
    let mut world = World::new();
    let address = world.backend(&["h2"], echo).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = listener.local_addr().unwrap();
    drop(listener);
    world.register_only(true);
    world.put_policy("old", "2026-01-01T00:00:00Z", addresses(&[address, dead]));
    world.put_policy("young", "2026-01-02T00:00:00Z", node!({"maxInFlight": 1}));
    world.run();
    let (gateway, store) = (world.gateway.clone(), world.store.clone());
    world.tasks.spawn(gateway.run_policies(store, std::future::pending()));
    for _ in 0..20 {
        assert_eq!(world.get(THINGS).await.status(), 200);
    }
    let condition = |policy: &Node, kind: &str| {
        let conditions = policy
            .get("status")
            .map(|s| s.list("conditions").to_vec())
            .unwrap_or_default();
        let found = conditions
            .iter()
            .find(|c| c.str("type") == kind)
            .cloned()
            .unwrap_or_default();
        format!("{} {}", found.str("status"), found.str("reason"))
    };
    let states = |policy: &Node| {
        let endpoints = policy
            .get("status")
            .map(|s| s.list("endpoints").to_vec())
            .unwrap_or_default();
        endpoints
            .iter()
            .map(|e| format!("{} {} {}", e.str("address"), e.str("state"), e.str("reason")))
            .collect::<Vec<_>>()
    };
    let wanted = [format!("{address} Healthy "), format!("{dead} Ejected NoAnswer")];
    let mut changes = world.objects.changes(BACKEND_POLICIES);
    loop {
        let old = world.objects.get(BACKEND_POLICIES, "", "old").unwrap();
        let young = world.objects.get(BACKEND_POLICIES, "", "young").unwrap();
        let told = states(&old);
        if wanted.iter().all(|w| told.contains(w)) && young.get("status").is_some() {
            assert_eq!(condition(&old, "Accepted"), "True Accepted");
            assert_eq!(condition(&old, "Conflicted"), "False NoConflict");
            assert_eq!(condition(&young, "Accepted"), "False Conflicted");
            assert_eq!(condition(&young, "Conflicted"), "True OlderPolicy");
            assert!(states(&young).is_empty());
            break;
        }
        changes.changed().await.unwrap();
    }
}

#[tokio::test]
async fn requests_are_split_between_services() {
    let mut world = World::new();
    let stable = named(&mut world, "stable").await;
    world.register(&[stable], true);
    // The other Service has a certificate of its own name.
    let certificate = world.serving.sign("canary", &["canary.default.svc"], |_| {});
    let acceptor = world.acceptor(certificate, &["http/1.1"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let canary = listener.local_addr().unwrap();
    world.tasks.spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            drop(spawn("canary", async move {
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\ncanary";
                    stream.write_all(answer).await.unwrap();
                }
            }));
        }
    });
    world.objects.put(
        SERVICES,
        node!({"metadata": {"name": "canary", "namespace": "default"},
            "spec": {"clusterIP": "None", "ports": [{"name": "https", "port": 443}]}}),
    );
    let slice = node!({
        "metadata": {"name": "canary-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "canary"}},
        "addressType": "IPv4", "endpoints": [{"addresses": ["127.0.0.1"]}],
        "ports": [{"name": "https", "port": (canary.port())}],
    });
    let put_slice = |world: &World| {
        world
            .objects
            .put(fairlead_gateway::objects::ENDPOINT_SLICES, slice.clone())
    };
    put_slice(&world);
    let route = |name: &str, weight: i64| node!({"service": {"namespace": "default", "name": name}, "weight": weight});
    let mut spec = Node::map();
    let mut by_header = route("canary", 0);
    by_header.set("headers", node!([{"name": "X-Canary", "value": "always"}]));
    spec.set("traffic", vec![route("shipping", 3), route("canary", 1), by_header]);
    world.policy(spec);
    let mut canaries = 0;
    for _ in 0..200 {
        canaries += usize::from(body(world.get(THINGS).await).await == "canary");
    }
    assert!((20..90).contains(&canaries), "{canaries}");
    for _ in 0..5 {
        let request = Request::get(THINGS).header("x-canary", "always");
        let answer = world.send(request.body(Full::new(Bytes::new())).unwrap()).await;
        assert_eq!(body(answer).await, "canary");
    }
    // A Service that leads nowhere loses its share to the other.
    world
        .objects
        .delete(fairlead_gateway::objects::ENDPOINT_SLICES, "default", "canary-1");
    for _ in 0..50 {
        assert_eq!(body(world.get(THINGS).await).await, "stable");
    }
}

#[tokio::test]
async fn the_breaker_gives_a_backend_a_rest() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.register(&[listener.local_addr().unwrap()], true);
    drop(listener);
    world.policy(node!({"circuitBreaker": {"minimumRequests": 5, "openTime": "1m"}, "retries": {"attempts": 1}}));
    for _ in 0..5 {
        let answer = world.get(THINGS).await;
        assert!(body(answer).await.starts_with("error trying to reach service: "));
    }
    let answer = world.get(THINGS).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()["retry-after"], "60");
    assert_eq!(body(answer).await, "service unavailable\n");
    // Without one there is no rest.
    world.policy(node!({"circuitBreaker": {"disabled": true}}));
    assert!(
        body(world.get(THINGS).await)
            .await
            .starts_with("error trying to reach service: ")
    );
}

#[tokio::test]
async fn health_checks_leave_endpoints_out_and_take_them_back() {
    let mut world = World::new();
    let good = named(&mut world, "good").await;
    let (well, checks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (is_well, count) = (well.clone(), checks.clone());
    let moody = world
        .backend(&["h2"], move |request| {
            let is_check = request.uri().path() == "/healthz";
            count.fetch_add(usize::from(is_check), Ordering::SeqCst);
            let status = if is_check && !is_well.load(Ordering::SeqCst) {
                500
            } else {
                200
            };
            Box::pin(async move { text(status, "moody") })
        })
        .await;
    world.register(&[good, moody], true);
    let active = node!({"active": {"path": "/healthz", "interval": "20ms"}});
    let mut spec = Node::map();
    spec.set("health", active);
    world.policy(spec);
    world.run();
    let backend = world.gateway.backend(NAME).unwrap();
    let ejected = |backend: &fairlead_gateway::Backend| {
        let pool = backend.pool().unwrap();
        let endpoints = pool.endpoints();
        let moody = endpoints.iter().find(|e| e.authority == moody.to_string()).unwrap();
        pool.state(moody).as_str() == "Ejected"
    };
    let until = async |wanted| {
        while ejected(&backend) != wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    until(true).await;
    assert!(checks.load(Ordering::SeqCst) >= 2, "one bad answer is not enough");
    for _ in 0..50 {
        assert_eq!(body(world.get(THINGS).await).await, "good");
    }
    well.store(true, Ordering::SeqCst);
    until(false).await;
    while body(world.get(THINGS).await).await != "moody" {}
    // Without checks nobody is left out because of them.
    well.store(false, Ordering::SeqCst);
    until(true).await;
    world.policy(node!({}));
    until(false).await;
}

#[tokio::test]
async fn an_endpoint_that_answers_with_errors_is_left_out() {
    let mut world = World::new();
    let good = named(&mut world, "good").await;
    let bad = world.backend(&["h2"], |_| Box::pin(async { text(503, "bad") })).await;
    world.register(&[good, bad], true);
    let mut spec = Node::map();
    spec.set(
        "health",
        node!({"passive": {"consecutiveErrors": 2, "ejectionTime": "1m", "maxEjectionTime": "1m"}}),
    );
    world.policy(spec);
    let mut errors = 0;
    for _ in 0..60 {
        errors += usize::from(world.get(THINGS).await.status() == 503);
    }
    assert_eq!(errors, 2);
    // Answers tell that it can be reached: one is never left out alone.
    let mut all = Node::map();
    all.set(
        "health",
        node!({"passive": {"consecutiveErrors": 1, "maxEjectedPercent": 0}}),
    );
    world.policy(all);
    tokio::task::yield_now().await;
    world.put_slice(&[bad]);
    for _ in 0..5 {
        assert_eq!(world.get(THINGS).await.status(), 503);
    }
}

#[tokio::test]
async fn a_slow_answer_is_overtaken_by_another_endpoints() {
    let mut world = World::new();
    let quick = named(&mut world, "quick").await;
    let slow = world.backend(&["h2"], |_| Box::pin(std::future::pending())).await;
    world.register(&[quick, slow], true);
    world.policy(node!({"hedging": {"delay": "20ms", "budgetPercent": 100}}));
    for _ in 0..20 {
        let answer = tokio::time::timeout(Duration::from_secs(5), world.get(THINGS)).await;
        assert_eq!(body(answer.expect("overtaken")).await, "quick");
    }
    assert!(world.count("fairlead_backend_hedged_requests_total") > 0);
}
