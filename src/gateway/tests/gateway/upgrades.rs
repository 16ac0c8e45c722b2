//! Upgrades over real sockets: a listener that hands everything to the gateway, and clients that speak HTTP by hand.

use crate::common::World;
use fairlead_api::UserInfo;
use fairlead_gateway::{Body, Gateway, RequestContext};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

pub const PATH: &str = "/apis/shipping.example.com/v1alpha1/namespaces/default/parcels/x/exec";

/// The server in front, without TLS or any filter.
pub async fn front(world: &mut World) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let gateway = world.gateway.clone();
    world.tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let gateway = gateway.clone();
            connections.spawn(async move {
                let service = service_fn(move |request| answer(gateway.clone(), request));
                drop(
                    http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades()
                        .await,
                );
            });
        }
    });
    address
}

async fn answer(gateway: Gateway, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let user = UserInfo::new("alice", &[]);
    Ok(gateway
        .proxy(crate::common::NAME, request, &user, &RequestContext::default())
        .await
        .unwrap())
}

/// A backend that answers each connection's first bytes with `reply`, then echoes; counts what it read in all.
pub async fn raw_backend(world: &mut World, reply: &'static str) -> Arc<AtomicUsize> {
    let acceptor = world.acceptor(world.serving_certificate(), &["http/1.1"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.register(&[listener.local_addr().unwrap()], true);
    let requests = Arc::new(AtomicUsize::new(0));
    let count = requests.clone();
    world.tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, count) = (acceptor.clone(), count.clone());
            connections.spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let mut buffer = vec![0; 8192];
                let n = stream.read(&mut buffer).await.unwrap_or(0);
                count.fetch_add(
                    buffer[..n].windows(4).filter(|w| w == b"GET ").count(),
                    Ordering::SeqCst,
                );
                if stream.write_all(reply.as_bytes()).await.is_err() {
                    return;
                }
                while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                    count.fetch_add(
                        buffer[..n].windows(4).filter(|w| w == b"GET ").count(),
                        Ordering::SeqCst,
                    );
                    if stream.write_all(&[b"echo:", &buffer[..n]].concat()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    requests
}

pub fn upgrade_request(protocol: &str) -> String {
    format!(
        "GET {PATH} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\nX-Remote-User: evil\r\n\r\n"
    )
}

pub async fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 1024];
    while !String::from_utf8_lossy(&text).contains(end) {
        match stream.read(&mut buffer).await {
            Ok(n @ 1..) => text.extend_from_slice(&buffer[..n]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn a_tunnel_carries_bytes_both_ways_and_ends_with_either_side() {
    for protocol in ["websocket", "SPDY/3.1"] {
        let mut world = World::new();
        let reply: &'static str = if protocol == "websocket" {
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Seen: yes\r\n\r\n"
        } else {
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Seen: yes\r\n\r\n"
        };
        raw_backend(&mut world, reply).await;
        let mut client = TcpStream::connect(front(&mut world).await).await.unwrap();
        client.write_all(upgrade_request(protocol).as_bytes()).await.unwrap();
        let head = until(&mut client, "\r\n\r\n").await;
        assert!(
            head.starts_with("HTTP/1.1 101 ") && head.contains("x-seen: yes"),
            "{head}"
        );
        client.write_all(b"hello").await.unwrap();
        assert_eq!(until(&mut client, "hello").await, "echo:hello");
        client.shutdown().await.unwrap();
        assert_eq!(until(&mut client, "never").await, "");
    }
}

/// CVE-2018-1002105: without a 101 there is no tunnel, and no second request on the backend's connection.
#[tokio::test]
async fn cve_2018_1002105_a_refused_upgrade_closes_both_connections() {
    for (reply, expected) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            "invalid upgrade response: status code 200\n",
        ),
        (
            "HTTP/1.1 302 Found\r\nLocation: https://evil/\r\nContent-Length: 0\r\n\r\n",
            "invalid upgrade response: status code 302\n",
        ),
        ("HTTP/1.1 400 Bad Request\r\nContent-Length: 3\r\n\r\nbad", "bad"),
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", "no"),
        ("HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops", "oops"),
    ] {
        let mut world = World::new();
        let requests = raw_backend(&mut world, reply).await;
        let mut client = TcpStream::connect(front(&mut world).await).await.unwrap();
        let pipelined = format!(
            "{}GET /api/v1/secrets HTTP/1.1\r\nHost: x\r\n\r\n",
            upgrade_request("SPDY/3.1")
        );
        client.write_all(pipelined.as_bytes()).await.unwrap();
        let mut all = String::new();
        client.read_to_string(&mut all).await.unwrap();
        assert!(all.ends_with(expected), "{all}");
        assert!(all.contains("connection: close") && !all.contains("evil"), "{all}");
        assert_eq!(requests.load(Ordering::SeqCst), 1, "{reply}");
    }
}

/// k/k#72112: anything else never reaches the backend.
#[tokio::test]
async fn kk_72112_other_protocols_are_refused() {
    for protocol in ["foo", "h2c", "websocket, h2c", "TLS/1.0", ""] {
        let mut world = World::new();
        let requests = raw_backend(
            &mut world,
            "HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n",
        )
        .await;
        let mut client = TcpStream::connect(front(&mut world).await).await.unwrap();
        client.write_all(upgrade_request(protocol).as_bytes()).await.unwrap();
        let answer = until(&mut client, "protocol\n").await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert_eq!(requests.load(Ordering::SeqCst), 0);
    }
}

#[tokio::test]
async fn a_backend_cannot_switch_to_what_was_not_asked_for() {
    let mut world = World::new();
    raw_backend(
        &mut world,
        "HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    )
    .await;
    let mut client = TcpStream::connect(front(&mut world).await).await.unwrap();
    client.write_all(upgrade_request("websocket").as_bytes()).await.unwrap();
    let answer = until(&mut client, "another protocol\n").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}

/// What the client sends next would be read by somebody who takes it for something else.
#[tokio::test]
async fn nobody_switches_who_was_not_asked_to() {
    let mut world = World::new();
    raw_backend(
        &mut world,
        "HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    )
    .await;
    let mut client = TcpStream::connect(front(&mut world).await).await.unwrap();
    let request = format!("GET {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let answer = until(&mut client, "was requested\n").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    let text = "backend tried to switch protocol \"websocket\" when \"\" was requested\n";
    assert!(answer.ends_with(text), "{answer}");
}
