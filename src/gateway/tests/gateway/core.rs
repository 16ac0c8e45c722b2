//! A whole API server behind the gateway (`--core-backend`): tunnels, logs that are followed and watches, all in the
//! caller's name.

use crate::common::{World, text};
use crate::upgrades::until;
use bytes::Bytes;
use fairlead_api::UserInfo;
use fairlead_gateway::{Body, Core, CoreConfig, Metrics, RequestContext, Tuning};
use futures_util::stream;
use http::{Request, Response, header};
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

const POD: &str = "/api/v1/namespaces/default/pods/web";

fn core(world: &World, address: SocketAddr) -> Core {
    let config = CoreConfig {
        host: address.ip().to_string(),
        port: address.port(),
        base: String::new(),
        ca: Some(world.serving.pem.clone().into_bytes()),
        insecure_skip_tls_verify: false,
        server_name: Some("shipping.default.svc".into()),
        identity: None,
        tuning: Tuning::default(),
    };
    let roots = Arc::new(rustls::RootCertStore::empty());
    let core = Core::new(config, &Metrics::new(&world.families), &roots).unwrap();
    core.set_token(Some("of-the-front"));
    core
}

/// The server in front, whose every caller is alice.
async fn front(world: &mut World, core: Core) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    world.tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let core = core.clone();
            connections.spawn(async move {
                let service = service_fn(move |request| answer(core.clone(), request));
                let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                drop(serving.with_upgrades().await);
            });
        }
    });
    address
}

async fn answer(core: Core, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let mut user = UserInfo::new("alice", &["dev", "system:authenticated"]);
    user.uid = "7".into();
    let context = RequestContext {
        verb: "CONNECT",
        long_running: true,
        ..RequestContext::default()
    };
    Ok(core.proxy(request, &user, &context, ("", "v1")).await)
}

/// A core that keeps what it is asked, answers with `reply`, and echoes.
async fn raw_core(world: &mut World, reply: String) -> (SocketAddr, Arc<Mutex<String>>) {
    let acceptor = world.acceptor(world.serving_certificate(), &["http/1.1"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, asked) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(String::new())));
    let kept = asked.clone();
    world.tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, kept, reply) = (acceptor.clone(), kept.clone(), reply.clone());
            connections.spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let (mut head, mut buffer) = (Vec::new(), vec![0; 8192]);
                while !head.windows(4).any(|w| w == b"\r\n\r\n") {
                    match stream.read(&mut buffer).await {
                        Ok(n @ 1..) => head.extend_from_slice(&buffer[..n]),
                        _ => return,
                    }
                }
                *kept.lock().unwrap() = String::from_utf8_lossy(&head).to_lowercase();
                if stream.write_all(reply.as_bytes()).await.is_err() {
                    return;
                }
                while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                    if stream.write_all(&[b"echo:", &buffer[..n]].concat()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, asked)
}

/// A core whose every answer is what is sent on the channel, as it comes; what it was asked comes on the other.
async fn streaming_core(
    world: &mut World,
    media_type: &'static str,
) -> (
    SocketAddr,
    mpsc::Receiver<Request<()>>,
    mpsc::Receiver<mpsc::Sender<&'static str>>,
) {
    let (asked, was_asked) = mpsc::channel(1);
    let (opened, answers) = mpsc::channel(1);
    let address = world
        .backend(&["h2", "http/1.1"], move |request| {
            let (asked, opened) = (asked.clone(), opened.clone());
            Box::pin(async move {
                let (sender, pieces) = mpsc::channel::<&'static str>(1);
                asked
                    .send(Request::from_parts(request.into_parts().0, ()))
                    .await
                    .unwrap();
                opened.send(sender).await.unwrap();
                let frames = stream::unfold(pieces, async |mut pieces| {
                    let piece: &'static str = pieces.recv().await?;
                    Some((
                        Ok::<_, Infallible>(Frame::data(Bytes::from_static(piece.as_bytes()))),
                        pieces,
                    ))
                });
                let mut response = text(200, "").map(|_| Body::new(StreamBody::new(frames)));
                response
                    .headers_mut()
                    .insert(header::CONTENT_TYPE, media_type.parse().unwrap());
                response
            })
        })
        .await;
    (address, was_asked, answers)
}

fn hostile() -> &'static str {
    "Authorization: Bearer of-the-client\r\nImpersonate-User: root\r\nImpersonate-Group: system:masters\r\n\
     Impersonate-Extra-Scopes: all\r\nX-Remote-User: root\r\n"
}

fn is_of_alice(head: &str) {
    for line in [
        "authorization: bearer of-the-front",
        "impersonate-user: alice",
        "impersonate-uid: 7",
        "impersonate-group: dev",
        "impersonate-group: system:authenticated",
    ] {
        assert!(head.lines().any(|l| l == line), "{line}: {head}");
    }
    for word in ["of-the-client", "root", "masters", "impersonate-extra", "x-remote"] {
        assert!(!head.contains(word), "{word}: {head}");
    }
}

#[tokio::test]
async fn exec_attach_and_port_forward_are_tunnels_in_the_callers_name() {
    for (method, what, upgrade, asks, told) in [
        (
            "GET",
            "exec?command=ls&command=-l+x&container=c&stdin=true&stdout=true",
            "websocket",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Protocol: v5.channel.k8s.io, v4.channel.k8s.io\r\n",
            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n",
        ),
        (
            "POST",
            "attach?stdin=true&tty=true",
            "SPDY/3.1",
            "X-Stream-Protocol-Version: v5.channel.k8s.io\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\nContent-Length: 0\r\n",
            "X-Stream-Protocol-Version: v4.channel.k8s.io\r\n",
        ),
        (
            "GET",
            "portforward?ports=80",
            "websocket",
            "Sec-WebSocket-Protocol: SPDY/3.1+portforward.k8s.io\r\n",
            "Sec-WebSocket-Protocol: SPDY/3.1+portforward.k8s.io\r\n",
        ),
        (
            "POST",
            "portforward",
            "SPDY/3.1",
            "X-Stream-Protocol-Version: portforward.k8s.io\r\nContent-Length: 0\r\n",
            "X-Stream-Protocol-Version: portforward.k8s.io\r\n",
        ),
    ] {
        let mut world = World::new();
        let reply =
            format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n{told}\r\n");
        let (address, asked) = raw_core(&mut world, reply).await;
        let core = core(&world, address);
        let mut client = TcpStream::connect(front(&mut world, core).await).await.unwrap();
        let request = format!(
            "{method} {POD}/{what} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n{asks}{}\r\n",
            hostile()
        );
        client.write_all(request.as_bytes()).await.unwrap();
        let head = until(&mut client, "\r\n\r\n").await.to_lowercase();
        assert!(head.starts_with("http/1.1 101 "), "{what}: {head}");
        for line in told.to_lowercase().lines() {
            assert!(head.contains(line), "{line}: {head}");
        }
        client.write_all(b"\x00ls\n").await.unwrap();
        assert_eq!(until(&mut client, "ls\n").await, "echo:\0ls\n");
        let asked = asked.lock().unwrap().clone();
        assert!(
            asked.starts_with(&format!("{method} {POD}/{what} ").to_lowercase()),
            "{asked}"
        );
        for line in asks.to_lowercase().lines().filter(|l| !l.starts_with("content-length")) {
            assert!(asked.contains(line), "{line}: {asked}");
        }
        is_of_alice(&asked);
        // Either side ends it for both.
        client.shutdown().await.unwrap();
        assert_eq!(until(&mut client, "never").await, "");
    }
}

#[tokio::test]
async fn a_refused_tunnel_says_why() {
    let mut world = World::new();
    let status = r#"{"kind":"Status","status":"Failure","message":"pods \"web\" is forbidden","code":403}"#;
    let reply = format!(
        "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{status}",
        status.len()
    );
    let (address, asked) = raw_core(&mut world, reply).await;
    let core = core(&world, address);
    let mut client = TcpStream::connect(front(&mut world, core).await).await.unwrap();
    let request = format!(
        "POST {POD}/exec?command=ls HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\n{}\r\n",
        hostile()
    );
    client.write_all(request.as_bytes()).await.unwrap();
    let mut all = String::new();
    client.read_to_string(&mut all).await.unwrap();
    assert!(all.starts_with("HTTP/1.1 403 ") && all.ends_with(status), "{all}");
    is_of_alice(&asked.lock().unwrap());
}

#[tokio::test]
async fn logs_that_are_followed_and_watches_come_piece_by_piece_and_end_with_the_client() {
    for (path, media_type, first, second) in [
        (
            format!("{POD}/log?follow=true&tailLines=5"),
            "text/plain",
            "one\n",
            "two, which comes later\n",
        ),
        (
            "/api/v1/namespaces/default/pods?allowWatchBookmarks=true&watch=true".to_owned(),
            "application/json",
            "{\"type\":\"ADDED\",\"object\":{}}\n",
            "{\"type\":\"BOOKMARK\",\"object\":{}}\n",
        ),
    ] {
        let mut world = World::new();
        let (address, mut asked, mut answers) = streaming_core(&mut world, media_type).await;
        let core = core(&world, address);
        let mut client = TcpStream::connect(front(&mut world, core).await).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{}\r\n", hostile());
        client.write_all(request.as_bytes()).await.unwrap();
        let asked = asked.recv().await.unwrap();
        assert_eq!(asked.uri().path_and_query().unwrap().as_str(), path);
        let lines = asked
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
        is_of_alice(&lines.collect::<Vec<_>>().join("\n").to_lowercase());
        let pieces = answers.recv().await.unwrap();
        // The second piece is only made when the first has arrived.
        for piece in [first, second] {
            pieces.send(piece).await.unwrap();
            let text = until(&mut client, piece).await;
            assert!(text.contains(piece), "{text}");
            assert_eq!(text.contains(media_type), piece == first, "{text}");
        }
        drop(client);
        pieces.closed().await;
    }
}
