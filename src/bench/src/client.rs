//! Connections to the server under test.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;

/// Where and how to connect.
pub struct Target {
    host: String,
    port: u16,
    token: Option<String>,
    tls: Option<tokio_rustls::TlsConnector>,
    http1: bool,
}

/// One connection. Clones share it (HTTP/2).
#[derive(Clone)]
pub struct Connection {
    sender: Sender,
    base: Arc<str>,
    authorization: Option<Arc<str>>,
}

#[derive(Clone)]
enum Sender {
    Http1(Arc<tokio::sync::Mutex<http1::SendRequest<Full<Bytes>>>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Target {
    pub fn new(server: &str, token: Option<String>, ca: Option<&str>, http1: bool) -> Result<Target> {
        let uri: Uri = server.parse().with_context(|| format!("{server} is not a URL"))?;
        let host = uri.host().context("the server URL has no host")?.to_owned();
        let secure = uri.scheme_str() != Some("http");
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let tls = secure.then(|| connector(ca, http1)).transpose()?;
        Ok(Target {
            host,
            port,
            token,
            tls,
            http1,
        })
    }

    /// Whether a connection carries one request at a time.
    pub fn is_http1(&self) -> bool {
        self.http1
    }

    pub async fn connect(&self) -> Result<Connection> {
        let tcp = tokio::net::TcpStream::connect((self.host.as_str(), self.port))
            .await
            .with_context(|| format!("cannot connect to {}:{}", self.host, self.port))?;
        tcp.set_nodelay(true)?;
        let sender = match &self.tls {
            None => self.handshake(TokioIo::new(tcp), true).await?,
            Some(tls) => {
                // rustls reads 4 KiB at a time: the load generator must not be what is measured.
                let tcp = tokio::io::BufReader::with_capacity(128 << 10, tcp);
                let stream = tls.connect(ServerName::try_from(self.host.clone())?, tcp).await?;
                let http1 = stream.get_ref().1.alpn_protocol() != Some(b"h2");
                self.handshake(TokioIo::new(stream), http1).await?
            }
        };
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        Ok(Connection {
            sender,
            base: format!("{scheme}://{}:{}", self.host, self.port).into(),
            authorization: self.token.as_ref().map(|t| format!("Bearer {t}").into()),
        })
    }

    async fn handshake<I>(&self, io: I, http1: bool) -> Result<Sender>
    where
        I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        if http1 || self.http1 {
            let (sender, connection) = http1::handshake(io).await?;
            background(connection);
            return Ok(Sender::Http1(Arc::new(tokio::sync::Mutex::new(sender))));
        }
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(8 << 20)
            .initial_connection_window_size(64 << 20)
            .max_concurrent_streams(100_000)
            .handshake(io)
            .await?;
        background(connection);
        Ok(Sender::Http2(sender))
    }
}

/// Drives a connection until it closes; its requests report what goes wrong.
fn background<E: std::fmt::Display>(connection: impl Future<Output = Result<(), E>> + Send + 'static) {
    #[allow(
        clippy::disallowed_methods,
        reason = "a client program: the task ends with its connection"
    )]
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            eprintln!("connection: {error}");
        }
    });
}

impl Connection {
    /// Sends a request and returns the answer with its body still to come.
    pub async fn open(&mut self, call: &Call) -> Result<Response<Incoming>> {
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(format!("{}{}", self.base, call.path));
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization.as_ref());
        }
        if let Some(kind) = call.content_type {
            request = request.header("content-type", kind);
        }
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        request = request
            .header("accept", call.accept)
            .header("user-agent", "fairlead-bench");
        if call.gzip {
            request = request.header("accept-encoding", "gzip");
        }
        if let Sender::Http1(_) = self.sender {
            request = request.header("host", "localhost");
        }
        let request = request.body(Full::new(call.body.clone()))?;
        Ok(match &mut self.sender {
            Sender::Http1(sender) => {
                let mut sender = sender.lock().await;
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        })
    }

    /// Sends a request and reads the whole answer. Answers its status and length.
    pub async fn call(&mut self, call: &Call) -> Result<(u16, usize)> {
        let response = self.open(call).await?;
        let status = response.status().as_u16();
        let mut body = response.into_body();
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            length += frame?.data_ref().map_or(0, Bytes::len);
        }
        Ok((status, length))
    }

    /// Sends a request and returns the answer as JSON; anything but success is an error with its text.
    pub async fn json(&mut self, call: &Call) -> Result<serde_json::Value> {
        let response = self.open(call).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            bail!(
                "{} {} answered {status}: {}",
                call.method,
                call.path,
                String::from_utf8_lossy(&body)
            );
        }
        Ok(serde_json::from_slice(&body)?)
    }
}

/// One request, ready to be sent many times.
#[derive(Clone)]
pub struct Call {
    pub method: Method,
    pub path: String,
    pub body: Bytes,
    pub content_type: Option<&'static str>,
    pub accept: &'static str,
    pub gzip: bool,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
}

impl Call {
    pub fn get(path: impl Into<String>) -> Call {
        Call {
            method: Method::GET,
            path: path.into(),
            body: Bytes::new(),
            content_type: None,
            accept: "application/json",
            gzip: false,
            headers: Vec::new(),
        }
    }

    pub fn send(method: Method, path: impl Into<String>, content_type: &'static str, body: impl Into<Bytes>) -> Call {
        Call {
            method,
            body: body.into(),
            content_type: Some(content_type),
            ..Call::get(path)
        }
    }
}

fn connector(ca: Option<&str>, http1: bool) -> Result<tokio_rustls::TlsConnector> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        rustls::ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let mut config = match ca {
        Some(path) => {
            let mut roots = rustls::RootCertStore::empty();
            for certificate in CertificateDer::pem_file_iter(path).with_context(|| format!("cannot read {path}"))? {
                roots.add(certificate?)?;
            }
            builder.with_root_certificates(roots).with_no_client_auth()
        }
        None => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth(),
    };
    config.alpn_protocols = if http1 {
        vec![b"http/1.1".into()]
    } else {
        vec![b"h2".into(), b"http/1.1".into()]
    };
    Ok(Arc::new(config).into())
}

/// Accepts any certificate: the address was given by hand.
#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
