//! The request path, end to end over loopback.

use crate::common::{NAME, World, body, echo, text};
use bytes::Bytes;
use fairlead_api::{Node, node};
use fairlead_gateway::objects::{API_SERVICES, SERVICES};
use fairlead_gateway::{ObjectSource, Routing, Tuning};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;

const THINGS: &str = "/apis/shipping.example.com/v1alpha1/namespaces/default/parcels";

#[tokio::test]
async fn a_real_extension_server_is_served_over_http2() {
    let mut world = World::new();
    let address = world.extension_server().await;
    world.register(&[address], true);
    let parcel = r#"{"metadata":{"name":"a"},"spec":{"carrier":"post","destination":"x"}}"#;
    let request = Request::post(THINGS)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(parcel)));
    let created = world.send(request.unwrap()).await;
    assert_eq!(created.status(), StatusCode::CREATED);
    let created = body(created).await;
    assert!(
        created.contains(r#""shipping.example.com/created-by":"alice""#),
        "{created}"
    );

    // A watch is streamed: its first line comes while the answer is open.
    let watch = world.get(&format!("{THINGS}?watch=true")).await;
    let mut events = watch.into_body();
    let line = events.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(line.starts_with(br#"{"object""#) && line.ends_with(b"\n"));
}

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[tokio::test]
async fn headers_say_who_and_whence() {
    for protocols in [&["h2"][..], &["http/1.1"]] {
        let mut world = World::new();
        let address = world.backend(protocols, echo).await;
        world.register(&[address], true);
        let request = Request::put(format!("{THINGS}/a%2Fb?z=1&a=%20"))
            .header("x-remote-user", "evil")
            .header("x_remote_group", "system:masters")
            .header("authorization", "Bearer secret")
            .header("connection", "x-remote-group, x-hop")
            .header("x-hop", "gone")
            .header("x-forwarded-for", "203.0.113.9")
            .header("traceparent", TRACE)
            .header("tracestate", "vendor=1")
            .header("content-length", "5")
            .body(Full::new(Bytes::from("hello")));
        let echoed = body(world.send(request.unwrap()).await).await;
        assert!(
            echoed.starts_with(&format!("PUT {THINGS}/a/b?a=+&z=1 hello\n")),
            "{echoed}"
        );
        for expected in [
            "x-remote-user: alice\n",
            "x-remote-group: dev\n",
            "x-remote-group: system:authenticated\n",
            "x-forwarded-for: 203.0.113.9, 192.0.2.1\n",
            "x-forwarded-proto: https\n",
            &format!("x-forwarded-uri: {THINGS}/a/b\n"),
            &format!("x-forwarded-host: {address}\n"),
            "audit-id: audit-1",
            &format!("traceparent: {TRACE}\n"),
            "tracestate: vendor=1\n",
        ] {
            assert!(format!("{echoed}\n").contains(expected), "{expected} in {echoed}");
        }
        for gone in ["evil", "masters", "secret", "x-hop"] {
            assert!(!echoed.contains(gone), "{gone} in {echoed}");
        }
    }
}

/// A host outside of the cluster; its certificate is still one for the Service.
#[tokio::test]
async fn an_external_name_leads_to_its_host() {
    let mut world = World::with(|c| c.routing = Routing::ClusterIp);
    let address = world.backend(&["h2"], echo).await;
    world.objects.put(
        SERVICES,
        node!({
            "metadata": {"name": "shipping", "namespace": "default"},
            "spec": {"type": "ExternalName", "externalName": "localhost"},
        }),
    );
    world.register_only(false);
    let mut object = Node::clone(&world.objects.get(API_SERVICES, "", NAME).unwrap());
    object.set_at(&["spec", "service", "port"], i64::from(address.port()));
    world.objects.put(API_SERVICES, object);
    world.run();
    assert_eq!(world.reason("Passed").await, "all checks passed");
    let mut verdicts = world.gateway.backend(NAME).unwrap().verdicts();
    verdicts.wait_for(|verdict| verdict.is_true()).await.unwrap();
    assert!(
        body(world.get(THINGS).await)
            .await
            .starts_with(&format!("GET {THINGS} "))
    );
}

/// CVE-2022-3172: answers that lead elsewhere end here.
#[tokio::test]
async fn cve_2022_3172_redirects_are_refused() {
    let mut world = World::new();
    let address = world
        .backend(&["h2"], |request| {
            Box::pin(async move {
                let mut response = text(
                    if request.uri().path().ends_with("304") {
                        304
                    } else {
                        307
                    },
                    "",
                );
                if !request.uri().path().ends_with("300") {
                    response
                        .headers_mut()
                        .insert("location", "https://evil.example.com/".parse().unwrap());
                }
                response
                    .headers_mut()
                    .insert("access-control-allow-origin", "*".parse().unwrap());
                response
            })
        })
        .await;
    world.register(&[address], true);
    let response = world.get(THINGS).await;
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    assert!(!response.headers().contains_key("location"));
    assert_eq!(
        body(response).await,
        "the backend attempted to redirect this request, which is not permitted"
    );
    // Without a target there is nothing to follow.
    let response = world.get(&format!("{THINGS}/300")).await;
    assert_eq!(response.status(), StatusCode::TEMPORARY_REDIRECT);
    assert!(!response.headers().contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn redirects_are_passed_on_where_that_is_wished() {
    let mut world = World::with(|c| c.policy.passes_redirects = true);
    let address = world
        .backend(&["h2"], |_| {
            let mut response = text(307, "");
            let elsewhere = "https://elsewhere.example.com/".parse().unwrap();
            response.headers_mut().insert("location", elsewhere);
            Box::pin(async move { response })
        })
        .await;
    world.register(&[address], true);
    let response = world.get(THINGS).await;
    assert_eq!(response.status(), StatusCode::TEMPORARY_REDIRECT);
    assert!(response.headers().contains_key("location"));
}

#[tokio::test]
async fn kk_58070_texts_of_failures_name_no_backend() {
    let mut world = World::new();
    // Nobody listens there.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    world.register(&[address], true);
    let response = world.get(THINGS).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    // k/k#58070: what clients read names no address.
    assert_eq!(
        body(response).await,
        "error trying to reach service: dial tcp: connect: connection refused\n"
    );

    let acceptor = world.acceptor(world.serving_certificate(), &["http/1.1"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.put_slice(&[listener.local_addr().unwrap()]);
    world.tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Takes the request, and closes.
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let mut buffer = [0; 4096];
                drop(tokio::io::AsyncReadExt::read(&mut stream, &mut buffer).await);
                drop(tokio::io::AsyncWriteExt::shutdown(&mut stream).await);
            }
        }
    });
    assert_eq!(
        body(world.get(THINGS).await).await,
        "error trying to reach service: EOF\n"
    );
    world.put_slice(&[]);
    assert_eq!(body(world.get(THINGS).await).await, "service unavailable\n");
}

/// NCC MRE: every way a certificate can be wrong.
#[tokio::test]
async fn ncc_mre_certificates_are_checked() {
    let mut world = World::new();
    let other = crate::common::Authority::new("other CA");
    let names = &["shipping.default.svc"];
    let past = |p: &mut rcgen::CertificateParams| p.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let future = |p: &mut rcgen::CertificateParams| p.not_before = rcgen::date_time_ymd(2999, 1, 1);
    let cases = [
        (
            other.sign("x", names, |_| {}),
            "x509: certificate signed by unknown authority",
        ),
        (
            world.serving.sign("x", &["shipping.evil.svc"], |_| {}),
            "x509: certificate is not valid for the name of the service",
        ),
        (
            world.serving.sign("shipping.default.svc", &[], |_| {}),
            "x509: certificate is not valid for the name of the service",
        ),
        (world.serving.sign("x", names, past), "is after 2020-01-01T00:00:00Z"),
        (world.serving.sign("x", names, future), "is before 2999-01-01T00:00:00Z"),
    ];
    let before = prometheus_value(&world, "apiserver_kube_aggregator_x509_missing_san_total");
    for (certificate, expected) in cases {
        let acceptor = world.acceptor(certificate, &["h2"]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        world.register(&[listener.local_addr().unwrap()], true);
        world.tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                drop(acceptor.accept(stream).await);
            }
        });
        let text = body(world.get(THINGS).await).await;
        assert!(
            text.starts_with("error trying to reach service: tls: failed to verify certificate: x509: "),
            "{text}"
        );
        assert!(text.contains(expected), "{text}");
    }
    assert!(prometheus_value(&world, "apiserver_kube_aggregator_x509_missing_san_total") > before);
}

fn prometheus_value(world: &World, name: &str) -> u64 {
    let families = world.families.gather();
    let family = families.iter().find(|f| f.name() == name).unwrap();
    family
        .get_metric()
        .iter()
        .map(|m| m.get_counter().get_value() as u64)
        .sum()
}

#[tokio::test]
async fn a_dead_endpoint_is_passed_over() {
    let mut world = World::new();
    let alive = world.backend(&["h2"], echo).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = listener.local_addr().unwrap();
    drop(listener);
    world.register(&[dead, alive], true);
    for i in 0..20 {
        // Nothing of a POST was sent either, so it may be tried again.
        let method = if i % 2 == 0 { Method::GET } else { Method::POST };
        let request = Request::builder()
            .method(method)
            .uri(THINGS)
            .body(Full::new(Bytes::from("x")))
            .unwrap();
        assert_eq!(world.send(request).await.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn a_post_that_may_have_been_seen_is_not_sent_twice() {
    for (method, expected) in [(Method::POST, 1), (Method::GET, 3)] {
        let mut world = World::new();
        let seen = Arc::new(AtomicUsize::new(0));
        let count = seen.clone();
        let acceptor = world.acceptor(world.serving_certificate(), &["http/1.1"]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        world.register(&[listener.local_addr().unwrap()], true);
        world.tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let mut buffer = [0; 4096];
                if tokio::io::AsyncReadExt::read(&mut stream, &mut buffer)
                    .await
                    .is_ok_and(|n| n > 0)
                {
                    count.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        let request = Request::builder()
            .method(method)
            .uri(THINGS)
            .body(Full::new(Bytes::from("x")))
            .unwrap();
        assert_eq!(world.send(request).await.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(seen.load(Ordering::SeqCst), expected);
    }
}

#[tokio::test]
async fn connections_are_used_again() {
    for protocols in [&["h2"][..], &["http/1.1"]] {
        let mut world = World::new();
        let address = world.backend(protocols, echo).await;
        world.register(&[address], true);
        for _ in 0..10 {
            body(world.get(THINGS).await).await;
        }
        let families = world.families.gather();
        let connects = families
            .iter()
            .find(|f| f.name() == "fairlead_backend_connect_duration_seconds")
            .unwrap();
        assert_eq!(
            connects.get_metric()[0].get_histogram().get_sample_count(),
            1,
            "{protocols:?}"
        );
    }
}

#[tokio::test]
async fn connections_of_a_burst_do_not_stay_for_ever() {
    let mut world = World::with(|c| c.policy.tuning.idle_timeout = Duration::ZERO);
    let barrier = Arc::new(tokio::sync::Barrier::new(6));
    let address = world
        .backend(&["http/1.1"], move |_| {
            let barrier = barrier.clone();
            Box::pin(async move {
                barrier.wait().await;
                text(200, "")
            })
        })
        .await;
    world.register(&[address], true);
    let burst = (0..6).map(|_| async { body(world.get(THINGS).await).await });
    futures_util::future::join_all(burst).await;
    let open = || {
        let families = world.families.gather();
        let family = families.iter().find(|f| f.name() == "fairlead_backend_connections");
        family.map_or(0.0, |f| f.get_metric().iter().map(|m| m.get_gauge().get_value()).sum())
    };
    let closed = async {
        while open() > 1.0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let closed = tokio::time::timeout(Duration::from_secs(10), closed).await;
    assert!(closed.is_ok(), "{} connections are open", open());
}

#[tokio::test]
async fn a_frozen_backend_is_noticed_within_a_second() {
    let tuning = Tuning {
        ping_interval: Duration::from_millis(20),
        ping_timeout: Duration::from_millis(50),
        ..Tuning::default()
    };
    let mut world = World::with(|c| c.policy.tuning = tuning);
    let acceptor = world.acceptor(world.serving_certificate(), &["h2"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.register(&[listener.local_addr().unwrap()], true);
    world.tasks.spawn(async move {
        let mut frozen = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            frozen.push(acceptor.accept(stream).await);
        }
    });
    let request = Request::post(THINGS).body(Full::new(Bytes::new())).unwrap();
    let response = tokio::time::timeout(Duration::from_secs(20), world.send(request))
        .await
        .expect("noticed");
    assert_eq!(
        body(response).await,
        "error trying to reach service: http2: client connection lost\n"
    );
}

#[tokio::test]
async fn one_slow_backend_has_a_bound() {
    let mut world = World::with(|c| c.policy.bound.in_flight = 1);
    let address = world.backend(&["h2"], |_| Box::pin(std::future::pending())).await;
    world.register(&[address], true);
    let slow = world.get(THINGS);
    tokio::pin!(slow);
    assert!(futures_util::poll!(&mut slow).is_pending());
    let refused = world.get(THINGS).await;
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["retry-after"]),
        (429, &"1".parse().unwrap())
    );
}

#[tokio::test]
async fn gzip_that_the_client_did_not_ask_for_is_undone() {
    let mut world = World::new();
    let address = world
        .backend(&["h2"], |request| {
            Box::pin(async move {
                assert_eq!(request.headers()["accept-encoding"], "gzip");
                let mut zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                zip.write_all(b"hello").unwrap();
                let mut response = text(200, "");
                *response.body_mut() = fairlead_gateway::body::full(zip.finish().unwrap());
                response
                    .headers_mut()
                    .insert("content-encoding", "gzip".parse().unwrap());
                response
            })
        })
        .await;
    world.register(&[address], true);
    assert_eq!(body(world.get(THINGS).await).await, "hello");
    let request = Request::get(THINGS)
        .header("accept-encoding", "gzip")
        .body(Full::new(Bytes::new()))
        .unwrap();
    assert_eq!(world.send(request).await.headers()["content-encoding"], "gzip");
}

/// An HTTP/2 backend by hand: what it does with its `n`th stream is up to `act`.
async fn h2_backend(
    world: &mut World,
    act: impl Fn(usize, h2::server::SendResponse<Bytes>) -> bool + Clone + Send + Sync + 'static,
) -> Arc<AtomicUsize> {
    let acceptor = world.acceptor(world.serving_certificate(), &["h2"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.register(&[listener.local_addr().unwrap()], true);
    let streams = Arc::new(AtomicUsize::new(0));
    let count = streams.clone();
    world.tasks.spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, count, act) = (acceptor.clone(), count.clone(), act.clone());
            connections.spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let Ok(mut connection) = h2::server::handshake(stream).await else {
                    return;
                };
                while let Some(Ok((_, respond))) = connection.accept().await {
                    if act(count.fetch_add(1, Ordering::SeqCst), respond) {
                        connection.graceful_shutdown();
                    }
                }
            });
        }
    });
    streams
}

fn answer_ok(mut respond: h2::server::SendResponse<Bytes>) {
    respond.send_response(http::Response::new(()), true).unwrap();
}

#[tokio::test]
async fn a_refused_stream_is_sent_again_whatever_its_method() {
    let mut world = World::new();
    let streams = h2_backend(&mut world, |n, mut respond| {
        if n == 0 {
            respond.send_reset(h2::Reason::REFUSED_STREAM)
        } else {
            answer_ok(respond)
        }
        false
    })
    .await;
    let post = || Request::post(THINGS).body(Full::new(Bytes::from("x"))).unwrap();
    assert_eq!(world.send(post()).await.status(), StatusCode::OK);
    assert_eq!(streams.load(Ordering::SeqCst), 2);

    // Any other reset may come after the backend has acted.
    let mut world = World::new();
    let streams = h2_backend(&mut world, |_, mut respond| {
        respond.send_reset(h2::Reason::INTERNAL_ERROR);
        false
    })
    .await;
    assert_eq!(
        body(world.send(post()).await).await,
        "error trying to reach service: stream error: INTERNAL_ERROR; received from peer\n"
    );
    assert_eq!(streams.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_backend_that_goes_away_loses_nothing() {
    let mut world = World::new();
    // Every answer is the last of its connection.
    let streams = h2_backend(&mut world, |_, respond| {
        answer_ok(respond);
        true
    })
    .await;
    for _ in 0..20 {
        let request = Request::post(THINGS).body(Full::new(Bytes::from("x"))).unwrap();
        assert_eq!(world.send(request).await.status(), StatusCode::OK);
    }
    assert_eq!(streams.load(Ordering::SeqCst), 20);
}

#[tokio::test]
async fn load_is_spread() {
    let mut world = World::new();
    let counts: [Arc<AtomicUsize>; 3] = Default::default();
    let mut addresses = Vec::new();
    for count in counts.clone() {
        let address = world.backend(&["h2"], move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            Box::pin(async { text(200, "ok") })
        });
        addresses.push(address.await);
    }
    world.register(&addresses, true);
    for _ in 0..60 {
        world.get(THINGS).await;
    }
    for count in &counts {
        assert!(count.load(Ordering::SeqCst) >= 8, "{counts:?}");
    }
}
