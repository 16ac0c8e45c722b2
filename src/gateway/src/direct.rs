//! Requests to one address of the cluster: a kubelet, a pod, an endpoint of a Service. Each has a connection of its own.
//!
//! Unlike backends these are not chosen, watched or retried, and nobody is named to them: a kubelet sees this server's
//! certificate, everybody else sees nothing.
//!
//! Source of texts and rules: kubernetes/apimachinery pkg/util/proxy/upgradeaware.go and transport.go,
//! kubernetes/kubernetes pkg/kubelet/client, kubernetes/apiserver pkg/registry/generic/rest/streamer.go.

mod location;
mod rewrite;
mod translate;
mod trust;
mod tunnel;
mod websocket;

pub use location::{Location, is_proxyable};
pub use translate::{Streams, Told};
pub use trust::KubeletTls;
pub use websocket::{Translation, translation};

use crate::body::{Body, BoxError, Guarded, Replay};
use crate::connect::{ConnectError, Connector};
use crate::endpoint::{Readers, Tuning};
use crate::headers;
use crate::lost::http1_text;
use crate::proxy;
use crate::resolve::AddressPolicy;
use crate::upgrade::{self, Aborting, NotSwitched};
use crate::uri;
use bytes::Bytes;
use fairlead_api::Status;
use fairlead_telemetry::task::spawn;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rewrite::Links;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// Whom a request is for, and so what is shown to it and how its certificate is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Kubelet,
    /// A kubelet whose certificate the client does not want to be verified.
    UnverifiedKubelet,
    /// Pods, Services and other ports of nodes: nothing is shown, and any certificate will do.
    Workload,
}

/// Makes the connections. Cheap to clone.
#[derive(Clone)]
pub struct Direct(Arc<Shared>);

struct Shared {
    trust: trust::Trusts,
    tuning: Tuning,
    kubelets: Arc<AddressPolicy>,
    workloads: Arc<AddressPolicy>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct NoAnswer {
    /// In the words of Go's client.
    pub text: String,
    /// The peer's certificate was not accepted.
    pub untrusted: bool,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Go's dialer and transport as kube-apiserver sets them up.
fn tuning() -> Tuning {
    Tuning {
        dial_timeout: Duration::from_secs(30),
        handshake_timeout: Duration::from_secs(10),
        ping_interval: Duration::from_secs(15),
        ping_timeout: Duration::from_secs(15),
        ..Tuning::default()
    }
}

impl Direct {
    /// `workloads` tells where pods and Services may be. Kubelets may be anywhere but at `own` addresses.
    ///
    /// # Errors
    /// A file for kubelets cannot be used.
    pub fn new(kubelets: KubeletTls, workloads: AddressPolicy) -> Result<Direct, trust::TrustError> {
        Ok(Direct(Arc::new(Shared {
            trust: trust::Trusts::new(kubelets)?,
            tuning: tuning(),
            kubelets: Arc::new(AddressPolicy {
                allow_loopback: true,
                forbidden: workloads.forbidden.clone(),
            }),
            workloads: Arc::new(workloads),
        })))
    }

    /// The policy for pods, Services and nodes that are proxied to.
    pub fn workloads(&self) -> &AddressPolicy {
        &self.0.workloads
    }

    /// Asks for a document in this server's own name, and follows no redirect.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn get(&self, peer: Peer, location: &Location) -> Result<Response<Body>, NoAnswer> {
        let mut outgoing = Request::new(Replay::empty());
        *outgoing.uri_mut() = Uri::from(location.path_and_query());
        let headers = outgoing.headers_mut();
        if let Ok(host) = HeaderValue::from_str(&location.authority()) {
            headers.insert(header::HOST, host);
        }
        headers.insert(header::USER_AGENT, HeaderValue::from_static("Go-http-client/1.1"));
        self.send(peer, location, outgoing).await
    }

    /// Passes a request on, its body and its answer as they come; links in the answer lead through this server.
    ///
    /// # Errors
    /// What the client is told where there is no answer.
    pub async fn proxy<B>(
        &self,
        peer: Peer,
        location: &Location,
        request: Request<B>,
        client: Option<IpAddr>,
    ) -> Result<Response<Body>, Status>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (mut parts, body) = request.into_parts();
        let host = dress(&mut parts, client);
        headers::set_forwarded_uri(&mut parts.headers, &uri::cleaned(parts.uri.path()));
        let links = Links::new(&uri::cleaned(parts.uri.path()), location, &host);
        let asks_gzip = !parts.headers.contains_key(header::ACCEPT_ENCODING)
            && !parts.headers.contains_key(header::RANGE)
            && parts.method != Method::HEAD;
        if asks_gzip {
            parts
                .headers
                .insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let mut outgoing = Request::new(Replay::new(body));
        *outgoing.method_mut() = parts.method;
        *outgoing.uri_mut() = Uri::from(location.path_and_query());
        *outgoing.headers_mut() = parts.headers;
        let response = self
            .send(peer, location, outgoing)
            .await
            .map_err(|error| Status::unavailable(format!("error trying to reach service: {}", error.text)))?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Status::new(500, "", proxy::unasked(response.headers())));
        }
        let mut response = proxy::finish(response, asks_gzip);
        links.rewrite(&mut response);
        Ok(response)
    }

    /// Passes a request on that switches protocols, and tunnels.
    ///
    /// # Errors
    /// What the client is told where there is no tunnel.
    pub async fn upgrade<B>(
        &self,
        peer: Peer,
        location: &Location,
        mut request: Request<B>,
        client: Option<IpAddr>,
    ) -> Result<Response<Body>, Status>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let protocol = wanted(request.headers())?;
        let tunnel: OnUpgrade = hyper::upgrade::on(&mut request);
        let (mut parts, body) = request.into_parts();
        let companion = parts.extensions.remove();
        dress(&mut parts, client);
        upgrade::set_upgrade(&mut parts.headers, &protocol);
        let stream = self.connect(peer, location).await.map_err(|error| dialing(&error))?;
        let mut outgoing = Request::new(Replay::new(body).attempt());
        *outgoing.method_mut() = parts.method;
        *outgoing.uri_mut() = Uri::from(location.path_and_query());
        *outgoing.headers_mut() = parts.headers;
        upgrade::switch(stream, outgoing, tunnel, companion, &protocol)
            .await
            .map_err(|error| not_switched(&error))
    }

    async fn send(
        &self,
        peer: Peer,
        location: &Location,
        outgoing: Request<Replay>,
    ) -> Result<Response<Body>, NoAnswer> {
        let stream = self.connect(peer, location).await.map_err(|error| NoAnswer {
            untrusted: error.problem.is_some(),
            text: error.text,
        })?;
        let broken = |error: hyper::Error| NoAnswer {
            text: http1_text(&error),
            untrusted: false,
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let guard = Aborting(spawn("direct connection", async move { drop(connection.await) }));
        let response = sender
            .send_request(outgoing.map(|body| body.attempt()))
            .await
            .map_err(broken)?;
        Ok(response.map(|body| {
            Body::new(Guarded {
                body,
                guard: Some(guard),
            })
        }))
    }

    async fn connect(&self, peer: Peer, location: &Location) -> Result<Box<dyn Io>, ConnectError> {
        let tls = self.0.trust.of(peer);
        let connector = Connector {
            tls_http1: tls.clone(),
            tls,
            server_name: location.server_name(),
            policy: match peer {
                Peer::Workload => self.0.workloads.clone(),
                Peer::Kubelet | Peer::UnverifiedKubelet => self.0.kubelets.clone(),
            },
            readers: Readers::default(),
        };
        let mut last = None;
        for target in location.targets()? {
            let connected: Result<Box<dyn Io>, ConnectError> = match location.https {
                true => connector
                    .connect_http1(&target, &self.0.tuning)
                    .await
                    .map(|s| Box::new(s) as _),
                false => connector.dial(&target, &self.0.tuning).await.map(|s| Box::new(s) as _),
            };
            match connected {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| ConnectError::plain("dial tcp: no address")))
    }
}

/// Whether a client wants to switch to another protocol.
pub fn wants_upgrade(headers: &HeaderMap) -> bool {
    headers::upgrade(headers).is_some()
}

/// The protocol the client wants to switch to.
///
/// # Errors
/// kubernetes/kubernetes#72112: others would open a way past this server.
fn wanted(headers: &HeaderMap) -> Result<Vec<u8>, Status> {
    let protocol = headers::upgrade(headers).unwrap_or_default();
    if upgrade::is_allowed(protocol) {
        Ok(protocol.to_vec())
    } else {
        Err(Status::bad_request("unsupported upgrade protocol"))
    }
}

fn dialing(error: &ConnectError) -> Status {
    Status::new(500, "", format!("error dialing backend: {}", error.text))
}

fn not_switched(error: &NotSwitched) -> Status {
    Status::new(500, "", error.to_string())
}

/// Takes from a request what is not the peer's business. Answers the host the client asked.
///
/// COMPAT: the peer is told that host and not its own.
fn dress(parts: &mut Parts, client: Option<IpAddr>) -> String {
    let host = match parts.headers.get(header::HOST).and_then(|h| h.to_str().ok()) {
        Some(host) => host.to_owned(),
        None => parts.uri.authority().map_or(String::new(), ToString::to_string),
    };
    headers::strip_request(&mut parts.headers);
    headers::set_forwarded_for(&mut parts.headers, client);
    if let Ok(value) = HeaderValue::from_str(&host) {
        parts.headers.insert(header::HOST, value);
    }
    host
}
