//! Misbehaviour on demand: what a gateway in front of this server has to survive. No part of a real server.
//!
//! [`Faults`] holds what is wrong right now. The binary takes orders where `--faults ADDRESS` listens:
//!
//! ```sh
//! curl -X PUT --data 'delay=300' http://127.0.0.1:9000/
//! curl -X PUT --data 'objects:hang' http://127.0.0.1:9000/     # discovery and health stay well
//! curl -X PUT --data 'none' http://127.0.0.1:9000/
//! ```

use crate::api::{self, Answer};
use crate::tls::Identity;
use crate::{common_type, renamed_kind};
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// Everything that can be wrong, as it is ordered by name.
const NAMES: &str = "none, hang, delay=MS, status=CODE, reset-stream, refuse-stream, redirect=URL, slow-body=MS, \
    big-body=BYTES, sink, html, not-acceptable, empty, other-groups, goaway, reset, blackhole, other-ca, other-name, \
    expired, crash, new-kind, common-type=KIND, upgrade-echo, upgrade-half-close, upgrade-status=CODE";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    // --- of requests
    Hang,
    Delay(Duration),
    Status(u16),
    /// RST_STREAM in the middle of a request; with HTTP/1.1 the connection ends.
    ResetStream,
    /// REFUSED_STREAM: "I have not acted on this".
    RefuseStream,
    Redirect(String),
    /// A body that comes a byte at a time.
    SlowBody(Duration),
    BigBody(u64),
    /// Reads whatever is sent and says how much it was.
    Sink,
    Lie(Lie),
    /// No fault: what is served changes, and documents with it.
    NewKind,
    /// No fault: documents have a type more, of this kind.
    CommonType(String),
    Upgrade(Upgrade),
    // --- of connections
    /// Connections end in order, after the requests under way.
    GoAway,
    /// Every connection, old and new, is reset.
    Reset,
    /// Connections are taken, and nothing ever comes.
    Blackhole,
    Certificate(Wrong),
}

/// What is answered where discovery and OpenAPI should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    Html,
    NotAcceptable,
    Empty,
    /// Groups and kinds that belong to somebody else.
    OtherGroups,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    Echo,
    /// Says that there is nothing more to come, and goes on reading.
    HalfClose,
    /// No 101.
    Status(u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    Authority,
    Name,
    Expired,
}

/// What is wrong right now. Clones share it.
#[derive(Clone)]
pub struct Faults(Arc<Shared>);

struct Shared {
    current: watch::Sender<Order>,
    tunnels: Mutex<JoinSet<()>>,
    /// How many requests and connections each fault has hit, by the order's text.
    struck: Mutex<BTreeMap<String, u64>>,
}

#[derive(Clone, Default)]
struct Order {
    fault: Fault,
    /// Only requests for objects are hit.
    only_objects: bool,
    /// As it was given.
    text: String,
}

/// Why a request has no answer: its stream is reset.
#[derive(Debug)]
pub struct Broken(h2::Reason);

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("out of order")
    }
}

impl std::error::Error for Broken {
    /// What hyper tells the client.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self.0 {
            h2::Reason::REFUSED_STREAM => Some(&*REFUSED),
            _ => None,
        }
    }
}

static REFUSED: LazyLock<h2::Error> = LazyLock::new(|| h2::Reason::REFUSED_STREAM.into());

impl Default for Faults {
    fn default() -> Faults {
        Faults(Arc::new(Shared {
            current: watch::Sender::default(),
            tunnels: Mutex::default(),
            struck: Mutex::default(),
        }))
    }
}

impl Faults {
    pub fn set(&self, fault: Fault) {
        self.order(Order {
            fault,
            ..Order::default()
        });
    }

    fn order(&self, order: Order) {
        self.0.current.send_replace(order);
    }

    fn fault(&self) -> Fault {
        self.0.current.borrow().fault.clone()
    }

    /// Notes that what is wrong has hit somebody.
    fn struck(&self) {
        let text = self.0.current.borrow().text.clone();
        let mut struck = self.0.struck.lock().unwrap_or_else(PoisonError::into_inner);
        *struck.entry(text).or_default() += 1;
    }

    /// What becomes of a new connection: itself, or nothing.
    pub async fn accept(&self, stream: TcpStream) -> Option<TcpStream> {
        match self.fault() {
            Fault::Reset => {
                self.struck();
                drop(stream.set_zero_linger());
                None
            }
            Fault::Blackhole => {
                self.struck();
                self.0
                    .current
                    .subscribe()
                    .wait_for(|o| o.fault != Fault::Blackhole)
                    .await
                    .ok()?;
                None
            }
            _ => Some(stream),
        }
    }

    /// The TLS that is shown now.
    pub fn tls(&self, good: &Arc<ServerConfig>) -> Arc<ServerConfig> {
        let Fault::Certificate(wrong) = self.fault() else {
            return good.clone();
        };
        self.struck();
        let bad = || -> anyhow::Result<ServerConfig> {
            let identity = match wrong {
                Wrong::Authority => Identity::self_signed(&["shipping.default.svc".into()])?,
                Wrong::Name => Identity::self_signed(&["another.default.svc".into()])?,
                Wrong::Expired => Identity::expired(&["shipping.default.svc".into()])?,
            };
            let key = CertifiedKey::from_der(identity.chain, identity.key, &default_provider())?;
            let mut config = ServerConfig::clone(good);
            config.cert_resolver = Arc::new(SingleCertAndKey::from(key));
            // A resumed session shows no certificate.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            Ok(config)
        };
        bad().map_or_else(|_| good.clone(), Arc::new)
    }

    /// Resolves when a connection should end: at once, or (`true`) in order.
    pub async fn ended(&self) -> bool {
        let mut orders = self.0.current.subscribe();
        loop {
            if orders.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            match orders.borrow_and_update().fault {
                Fault::GoAway => {
                    self.struck();
                    return true;
                }
                Fault::Reset => {
                    self.struck();
                    return false;
                }
                Fault::Blackhole | Fault::Certificate(_) => return false,
                _ => {}
            }
        }
    }

    /// The answer that is given instead of the right one; `None` where the right one may be given.
    pub async fn answer(&self, request: &mut Request<Incoming>) -> Result<Option<Response<Answer>>, Broken> {
        let Order {
            fault, only_objects, ..
        } = self.0.current.borrow().clone();
        let path = request.uri().path();
        let is_document = path.split('/').count() <= 4 || path.starts_with("/openapi/");
        if only_objects && is_document {
            return Ok(None);
        }
        let strikes = match &fault {
            Fault::Lie(_) | Fault::CommonType(_) => is_document,
            Fault::Upgrade(_) => request.headers().contains_key(header::UPGRADE),
            Fault::None | Fault::GoAway | Fault::Reset | Fault::Blackhole | Fault::Certificate(_) => false,
            _ => true,
        };
        if strikes {
            self.struck();
        }
        Ok(Some(match fault {
            Fault::Hang => std::future::pending().await,
            Fault::Delay(time) => {
                sleep(time).await;
                return Ok(None);
            }
            Fault::Status(code) => api::failure(code, "InternalError", "out of order"),
            Fault::ResetStream => return Err(Broken(h2::Reason::INTERNAL_ERROR)),
            Fault::RefuseStream => return Err(Broken(h2::Reason::REFUSED_STREAM)),
            Fault::Redirect(target) => {
                let mut response = api::text(307, "elsewhere");
                if let Ok(target) = target.parse() {
                    response.headers_mut().insert(header::LOCATION, target);
                }
                response
            }
            Fault::SlowBody(pause) => pieces(1000, 1, pause),
            Fault::BigBody(size) => pieces(size, 64 << 10, Duration::ZERO),
            Fault::Sink => {
                let mut sum = 0;
                while let Some(Ok(frame)) = request.body_mut().frame().await {
                    sum += frame.data_ref().map_or(0, Bytes::len);
                }
                api::json(&serde_json::json!({ "read": sum }))
            }
            Fault::Lie(lie) if is_document => lie.told(),
            Fault::NewKind => return Ok(renamed_kind::answer(path, request.headers())),
            Fault::CommonType(kind) => return Ok(common_type::answer(path, &kind)),
            Fault::Upgrade(upgrade) if request.headers().contains_key(header::UPGRADE) => self.switch(upgrade, request),
            _ => return Ok(None),
        }))
    }

    fn switch(&self, upgrade: Upgrade, request: &mut Request<Incoming>) -> Response<Answer> {
        if let Upgrade::Status(code) = upgrade {
            return api::text(code, "no switch");
        }
        let switched = hyper::upgrade::on(&mut *request);
        let mut tunnels = self.0.tunnels.lock().unwrap_or_else(PoisonError::into_inner);
        while tunnels.try_join_next().is_some() {}
        tunnels.spawn(async move {
            let Ok(switched) = switched.await else { return };
            let mut tunnel = TokioIo::new(switched);
            if upgrade == Upgrade::HalfClose {
                drop(tunnel.shutdown().await);
            }
            let mut buffer = vec![0; 16 << 10];
            while let Ok(n @ 1..) = tunnel.read(&mut buffer).await {
                if upgrade == Upgrade::Echo && tunnel.write_all(&buffer[..n]).await.is_err() {
                    return;
                }
            }
        });
        let mut response = api::text(101, "");
        response.headers_mut().remove(header::CONTENT_TYPE);
        response
            .headers_mut()
            .insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
        if let Some(protocol) = request.headers().get(header::UPGRADE) {
            response.headers_mut().insert(header::UPGRADE, protocol.clone());
        }
        response
    }

    /// Takes orders by HTTP until dropped: `PUT /N` with the name of a fault for the Nth of these, `PUT /` for all.
    /// `GET` tells how often each has hit.
    pub async fn take_orders(all: Vec<Faults>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let all = all.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let all = all.clone();
                async move { Ok::<_, Infallible>(Faults::take_order(&all, request).await) }
            });
            connections.spawn(async move {
                drop(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await,
                );
            });
        }
    }

    async fn take_order(all: &[Faults], request: Request<Incoming>) -> Response<Answer> {
        let meant = match request.uri().path().trim_start_matches('/') {
            "" => all,
            number => match number.parse().ok().and_then(|n: usize| all.get(n..=n)) {
                Some(one) => one,
                None => return api::text(404, "nobody\n"),
            },
        };
        if request.method() == http::Method::GET {
            return api::json(&serde_json::json!(told(meant)));
        }
        let Ok(body) = request.into_body().collect().await else {
            return api::text(400, "no order\n");
        };
        let body = body.to_bytes();
        let text = String::from_utf8_lossy(&body);
        if text.trim() == "crash" {
            std::process::exit(3);
        }
        match Order::parse(text.trim()) {
            Some(order) => {
                meant.iter().for_each(|faults| faults.order(order.clone()));
                api::text(200, "so be it\n")
            }
            None => api::text(400, NAMES),
        }
    }
}

/// How many requests and connections each fault has hit.
fn told(all: &[Faults]) -> BTreeMap<String, u64> {
    let mut sum = BTreeMap::new();
    for faults in all {
        let struck = faults.0.struck.lock().unwrap_or_else(PoisonError::into_inner);
        for (text, hits) in struck.iter() {
            *sum.entry(text.clone()).or_default() += hits;
        }
    }
    sum
}

impl Order {
    fn parse(all: &str) -> Option<Order> {
        let (only_objects, text) = match all.strip_prefix("objects:") {
            Some(rest) => (true, rest),
            None => (false, all),
        };
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let millis = || value.parse().ok().map(Duration::from_millis);
        let code = || value.parse().ok().filter(|code| (200..600).contains(code));
        let fault = match name {
            "none" => Fault::None,
            "hang" => Fault::Hang,
            "delay" => Fault::Delay(millis()?),
            "status" => Fault::Status(code()?),
            "reset-stream" => Fault::ResetStream,
            "refuse-stream" => Fault::RefuseStream,
            "redirect" => Fault::Redirect(value.into()),
            "slow-body" => Fault::SlowBody(millis()?),
            "big-body" => Fault::BigBody(value.parse().ok()?),
            "sink" => Fault::Sink,
            "html" => Fault::Lie(Lie::Html),
            "not-acceptable" => Fault::Lie(Lie::NotAcceptable),
            "empty" => Fault::Lie(Lie::Empty),
            "new-kind" => Fault::NewKind,
            "common-type" if !value.is_empty() => Fault::CommonType(value.into()),
            "other-groups" => Fault::Lie(Lie::OtherGroups),
            "goaway" => Fault::GoAway,
            "reset" => Fault::Reset,
            "blackhole" => Fault::Blackhole,
            "other-ca" => Fault::Certificate(Wrong::Authority),
            "other-name" => Fault::Certificate(Wrong::Name),
            "expired" => Fault::Certificate(Wrong::Expired),
            "upgrade-echo" => Fault::Upgrade(Upgrade::Echo),
            "upgrade-half-close" => Fault::Upgrade(Upgrade::HalfClose),
            "upgrade-status" => Fault::Upgrade(Upgrade::Status(code()?)),
            _ => return None,
        };
        let text = all.to_owned();
        Some(Order {
            fault,
            only_objects,
            text,
        })
    }
}

impl Lie {
    fn told(self) -> Response<Answer> {
        let apps = serde_json::json!({"resource": "deployments", "responseKind": {"group": "apps", "version": "v1", "kind": "Deployment"},
            "scope": "Namespaced", "verbs": ["get", "list"]});
        match self {
            Lie::Html => api::text(200, "<!doctype html><title>log in</title>"),
            Lie::NotAcceptable => api::failure(406, "NotAcceptable", "only application/vnd.example is served"),
            Lie::Empty => api::text(200, ""),
            Lie::OtherGroups => api::json(&serde_json::json!({
                "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
                "items": [{"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [apps]}]}],
            })),
        }
    }
}

/// A body that is made while it is sent.
struct Pieces {
    left: u64,
    piece: Bytes,
    pause: Duration,
    next: Pin<Box<Sleep>>,
}

fn pieces(size: u64, piece: usize, pause: Duration) -> Response<Answer> {
    let body = Pieces {
        left: size,
        piece: vec![b'x'; piece].into(),
        pause,
        next: Box::pin(sleep_until(Instant::now())),
    };
    api::streamed(UnsyncBoxBody::new(body))
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        if !self.pause.is_zero() {
            ready!(self.next.as_mut().poll(context));
            let next = Instant::now() + self.pause;
            self.next.as_mut().reset(next);
        }
        let size = usize::try_from(self.left).map_or(self.piece.len(), |left| left.min(self.piece.len()));
        self.left -= size as u64;
        Poll::Ready(Some(Ok(Frame::data(self.piece.slice(..size)))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_an_order() {
        for name in NAMES.split(", ").map(str::trim).filter(|n| *n != "crash") {
            let text = name
                .replace("MS", "10")
                .replace("CODE", "403")
                .replace("BYTES", "9")
                .replace("URL", "https://x/");
            let order = Order::parse(&text).unwrap_or_else(|| panic!("{text}"));
            assert!(!order.only_objects);
            assert!(Order::parse(&format!("objects:{text}")).unwrap().only_objects);
        }
        for wrong in ["", "hangs", "delay=", "delay=soon", "status=99", "upgrade-status=1000"] {
            assert!(Order::parse(wrong).is_none(), "{wrong}");
        }
    }
}
