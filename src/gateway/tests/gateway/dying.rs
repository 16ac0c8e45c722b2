//! Endpoints that die, hang or vanish under requests, and a machine that is too slow itself.

use crate::common::{World, body, echo, text};
use bytes::Bytes;
use fairlead_gateway::Tuning;
use fairlead_telemetry::task::spawn;
use http::{Method, Request};
use http_body_util::Full;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpSocket};

const THINGS: &str = "/apis/shipping.example.com/v1alpha1/namespaces/default/parcels";

fn request(method: Method) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(THINGS);
    request.body(Full::new(Bytes::from("x"))).unwrap()
}

/// A second endpoint that does nothing good, ejected in no time: all reading requests are answered, none late.
async fn nobody_waits(world: &World, bad: SocketAddr, good: SocketAddr, at_most: Duration) {
    world.register(&[bad, good], true);
    let started = Instant::now();
    for _ in 0..40 {
        assert_eq!(world.get(THINGS).await.status(), 200);
    }
    let took = started.elapsed();
    assert!(took < at_most, "{took:?}");
}

/// Takes connections and says nothing: not even a handshake.
#[tokio::test]
async fn a_hung_endpoint_is_left_out() {
    let mut world = World::with(|c| c.policy.tuning.handshake_timeout = Duration::from_millis(300));
    let good = world.backend(&["h2"], echo).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hung = listener.local_addr().unwrap();
    nobody_waits(&world, hung, good, Duration::from_secs(3)).await;
    drop(listener);
}

/// Drops packets, as far as one can tell: its accept queue is full.
#[tokio::test]
async fn a_black_hole_is_left_out() {
    let mut world = World::with(|c| c.policy.tuning.dial_timeout = Duration::from_millis(300));
    let good = world.backend(&["h2"], echo).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let hole = listener.local_addr().unwrap();
    let mut filling = Vec::new();
    let connect = || tokio::time::timeout(Duration::from_millis(100), tokio::net::TcpStream::connect(hole));
    while let Ok(stream) = connect().await {
        filling.push(stream);
    }
    nobody_waits(&world, hole, good, Duration::from_secs(3)).await;
    // A write was never sent, so it goes elsewhere as well.
    world.put_slice(&[good]);
    world.put_slice(&[hole, good]);
    for _ in 0..10 {
        assert_eq!(world.send(request(Method::POST)).await.status(), 200);
    }
}

/// Answers the handshake, then takes requests and never answers one.
#[tokio::test]
async fn requests_to_an_endpoint_that_stops_answering_move_elsewhere() {
    let tuning = Tuning {
        ping_interval: Duration::from_millis(50),
        ping_timeout: Duration::from_millis(150),
        ..Tuning::default()
    };
    let mut world = World::with(|c| c.policy.tuning = tuning);
    let good = world.backend(&["h2"], echo).await;
    let acceptor = world.acceptor(world.serving_certificate(), &["h2"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let frozen = listener.local_addr().unwrap();
    world.tasks.spawn(async move {
        let mut connections = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.push(acceptor.accept(stream).await);
        }
    });
    nobody_waits(&world, frozen, good, Duration::from_secs(3)).await;
}

/// One endpoint is killed under load: whatever may be sent again is, so that no reading request fails.
#[tokio::test]
async fn a_killed_endpoint_fails_no_reading_request() {
    let mut world = World::new();
    let answer = |_| -> futures_util::future::BoxFuture<'static, _> {
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            text(200, "")
        })
    };
    let stays = world.backend(&["h2"], answer).await;
    let others = std::mem::take(&mut world.tasks);
    let goes = world.backend(&["h2"], answer).await;
    let mut killed = std::mem::replace(&mut world.tasks, others);
    world.register(&[stays, goes], true);
    let (reads, writes) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let client = |i: usize| {
        let (world, reads, writes) = (&world, &reads, &writes);
        async move {
            for n in 0..60 {
                let method = if (i + n).is_multiple_of(4) {
                    Method::POST
                } else {
                    Method::GET
                };
                let failed = usize::from(world.send(request(method.clone())).await.status() != 200);
                let count = if method == Method::GET { reads } else { writes };
                count.set(count.get() + failed);
            }
        }
    };
    let clients = futures_util::future::join_all((0..8).map(client));
    let kill = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        killed.shutdown().await;
    };
    futures_util::future::join(clients, kill).await;
    assert_eq!(reads.get(), 0);
    // Those that were under way to it: it may have acted on them.
    assert!(writes.get() <= 8, "{}", writes.get());
}

/// The pings are answered; only this thread has not looked for a while.
#[tokio::test]
async fn a_starved_gateway_kills_no_connection() {
    let tuning = Tuning {
        ping_interval: Duration::from_millis(20),
        ping_timeout: Duration::from_millis(60),
        ..Tuning::default()
    };
    let world = World::with(|c| c.policy.tuning = tuning);
    let certificate = world.serving_certificate();
    let acceptor = world.acceptor(certificate, &["h2"]);
    // On a runtime of its own, which is not starved.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            let serve = async {
                while let Ok((stream, _)) = listener.accept().await {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        continue;
                    };
                    let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| async move {
                        if request.uri().path().ends_with("/slow") {
                            tokio::time::sleep(Duration::from_millis(1_300)).await;
                        }
                        Ok::<_, std::convert::Infallible>(text(200, "well"))
                    });
                    let executor = hyper_util::rt::TokioExecutor::new();
                    let connection = hyper::server::conn::http2::Builder::new(executor)
                        .serve_connection(hyper_util::rt::TokioIo::new(stream), service);
                    drop(spawn("backend", async move { drop(connection.await) }));
                }
            };
            // Sluggish, though in time: most pings are under way when the gateway is held up.
            let dawdle = async {
                loop {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    std::thread::sleep(Duration::from_millis(25));
                }
            };
            tokio::select! {
                () = serve => {}
                () = dawdle => {}
                _ = stopped => {}
            }
        });
    });
    world.register(&[address], true);
    assert_eq!(body(world.get(THINGS).await).await, "well");
    // A write would not be sent again: if the connection dies under it, it fails.
    let mut slow = request(Method::POST);
    *slow.uri_mut() = format!("{THINGS}/slow").parse().unwrap();
    let starve = async {
        for pause in [25, 31, 37, 43, 49, 55, 61, 67] {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    let (answer, ()) = futures_util::future::join(world.send(slow), starve).await;
    assert_eq!(body(answer).await, "well");
    let families = world.families.gather();
    let connects = families
        .iter()
        .find(|f| f.name() == "fairlead_backend_connect_duration_seconds")
        .unwrap();
    assert_eq!(connects.get_metric()[0].get_histogram().get_sample_count(), 1);
    drop(stop);
    serving.join().unwrap();
}
