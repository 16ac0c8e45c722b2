//! [`Kubelet`]: what a node's agent serves, without a node: logs, commands, ports, and an echo of everything else.

mod spdy;
mod streams;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::stream;
use http::header::LOCATION;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::PrivateKeyDer;
use serde_json::json;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

/// A running one, on all addresses of this machine. Dropping it ends it.
pub struct Kubelet {
    pub port: u16,
    /// Where what it serves is served to everybody, without TLS: a container's port.
    pub plain: u16,
    directory: TempDir,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

struct Shared {
    /// How many more lines followed logs may grow by.
    lines: Semaphore,
    /// One piece for each log that is followed.
    followed: Arc<()>,
    /// Method, path and query of every request.
    seen: Mutex<Vec<String>>,
    /// Whether commands are given by WebSocket, too (KEP-4006).
    websockets: bool,
}

type Body = BoxBody<Bytes, Infallible>;

impl Kubelet {
    /// `addresses` are those its certificate is for.
    pub fn start(addresses: &[&str], websockets: bool) -> Result<Kubelet> {
        let directory = tempfile::Builder::new().prefix("fairlead-kubelet-").tempdir()?;
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text);
        write("ca.crt", &issuer.pem())?;
        let names: Vec<String> = addresses.iter().map(|a| (*a).to_owned()).collect();
        let key = KeyPair::generate()?;
        let serving = CertificateParams::new(names)?.signed_by(&key, &issuer)?;
        let client_key = KeyPair::generate()?;
        let client = CertificateParams::new(vec!["apiserver".to_owned()])?.signed_by(&client_key, &issuer)?;
        write("client.crt", &client.pem())?;
        write("client.key", &client_key.serialize_pem())?;

        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(issuer.der().clone())?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![serving.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?,
            )?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime = Runtime::new()?;
        let listener = runtime.block_on(TcpListener::bind("0.0.0.0:0"))?;
        let open = runtime.block_on(TcpListener::bind("0.0.0.0:0"))?;
        let (port, plain) = (listener.local_addr()?.port(), open.local_addr()?.port());
        let shared = Arc::new(Shared {
            lines: Semaphore::new(0),
            followed: Arc::default(),
            seen: Mutex::default(),
            websockets,
        });
        #[allow(clippy::disallowed_methods, reason = "it ends with its runtime")]
        runtime.spawn(accept(listener, Some(acceptor), shared.clone()));
        #[allow(clippy::disallowed_methods, reason = "it ends with its runtime")]
        runtime.spawn(accept(open, None, shared.clone()));
        Ok(Kubelet {
            port,
            plain,
            directory,
            shared,
            runtime: Some(runtime),
        })
    }

    /// The flags of a server that knows it.
    pub fn flags(&self) -> Vec<String> {
        let path = |name: &str| self.path(name).display().to_string();
        vec![
            format!("--kubelet-certificate-authority={}", path("ca.crt")),
            format!("--kubelet-client-certificate={}", path("client.crt")),
            format!("--kubelet-client-key={}", path("client.key")),
            "--kubelet-preferred-address-types=InternalIP,Hostname".to_owned(),
        ]
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Lets one more line come of a followed log.
    pub fn more(&self) {
        self.shared.lines.add_permits(1);
    }

    /// How many logs are followed.
    pub fn followed(&self) -> usize {
        Arc::strong_count(&self.shared.followed) - 1
    }

    /// What it was asked, in order.
    pub fn seen(&self) -> Vec<String> {
        self.shared.seen().clone()
    }

    /// Ends it: nobody listens at its port any more.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn seen(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[allow(clippy::disallowed_methods, reason = "connections end with the runtime")]
async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, shared) = (acceptor.clone(), shared.clone());
        tokio::spawn(async move {
            let served = match acceptor {
                Some(acceptor) => match acceptor.accept(stream).await.context("TLS") {
                    Ok(stream) => serve(stream, shared).await,
                    Err(error) => Err(error),
                },
                None => serve(stream, shared).await,
            };
            if let Err(error) = served {
                eprintln!("kubelet: {error:#}");
            }
        });
    }
}

async fn serve<S>(stream: S, shared: Arc<Shared>) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(answer(request, shared).await) }
    });
    hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await?;
    Ok(())
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Response<Body> {
    let asked = request.uri().path_and_query().map_or("/", |p| p.as_str()).to_owned();
    shared.seen().push(format!("{} {asked}", request.method()));
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match *parts.as_slice() {
        ["containerLogs", _, _, container] => log(container, &asked, shared),
        ["exec" | "attach", _, _, _] => streams::command(request, shared.websockets),
        ["portForward", _, _] => streams::forward(request),
        _ => echo(request).await,
    }
}

fn log(container: &str, asked: &str, shared: Arc<Shared>) -> Response<Body> {
    match container {
        "broken" => return text(500, "the log is broken"),
        "missing" => return text(404, "no such container"),
        "moved" => {
            let mut response = text(302, "");
            response
                .headers_mut()
                .insert(LOCATION, "https://192.0.2.1/".parse().expect("a header"));
            return response;
        }
        _ => {}
    }
    let first = Bytes::from(format!("asked {asked}\n"));
    if !asked.contains("follow=true") {
        return Response::new(Full::new(first).boxed());
    }
    let following = shared.followed.clone();
    let growing = stream::unfold(0, move |line| {
        let (shared, first) = (shared.clone(), first.clone());
        let _ = &following;
        async move {
            if line == 0 {
                return Some((Ok(Frame::data(first)), 1));
            }
            shared.lines.acquire().await.ok()?.forget();
            Some((Ok(Frame::data(format!("line {line}\n").into())), line + 1))
        }
    });
    // Two lines, and the container ends.
    let body = StreamBody::new(futures_util::StreamExt::take(growing, 3));
    Response::new(BodyExt::boxed(body))
}

/// What it was sent, for proxies.
async fn echo(request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    let headers: serde_json::Map<String, serde_json::Value> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().into()))
        .collect();
    let told = json!({
        "method": parts.method.as_str(), "path": parts.uri.path(), "query": parts.uri.query(),
        "headers": headers, "body": String::from_utf8_lossy(&body),
    });
    let mut response = text(200, &told.to_string());
    if parts.uri.path() == "/elsewhere" {
        *response.status_mut() = StatusCode::FOUND;
        response
            .headers_mut()
            .insert(LOCATION, "/login?x=1".parse().expect("a header"));
    }
    response
}

fn text(code: u16, text: &str) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())).boxed());
    *response.status_mut() = StatusCode::from_u16(code).expect("a status code");
    response
}
