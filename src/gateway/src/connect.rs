//! A new connection: name lookup, address check, TCP, TLS, and what went wrong in kube-apiserver's words.

use crate::endpoint::{Readers, Tuning};
use crate::health::patient::timeout;
use crate::resolve::{AddressPolicy, Target};
use crate::tls::{CertificateProblem, ProblemKind};
use rustls::{AlertDescription, CertificateError, ClientConfig, Error as TlsError};
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How connections to one backend are made.
pub struct Connector {
    /// Offers HTTP/2 and HTTP/1.1.
    pub tls: Arc<ClientConfig>,
    /// Offers HTTP/1.1 only, for upgrades.
    pub tls_http1: Arc<ClientConfig>,
    pub server_name: ServerName<'static>,
    pub policy: Arc<AddressPolicy>,
    /// Who share a budget of pings.
    pub readers: Readers,
}

/// Why there is no connection.
#[derive(Clone, Debug)]
pub struct ConnectError {
    /// In full, addresses included: for logs, conditions and webhook errors.
    pub text: String,
    /// For clients, who have no business with a backend's address.
    pub public: String,
    pub problem: Option<ProblemKind>,
    /// Nobody said no: there was just no answer.
    pub timed_out: bool,
}

impl std::fmt::Display for ConnectError {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for ConnectError {}

impl Connector {
    pub async fn connect(&self, target: &Target, tuning: &Tuning) -> Result<TlsStream<TcpStream>, ConnectError> {
        self.handshake(target, tuning, &self.tls).await
    }

    pub async fn connect_http1(&self, target: &Target, tuning: &Tuning) -> Result<TlsStream<TcpStream>, ConnectError> {
        self.handshake(target, tuning, &self.tls_http1).await
    }

    async fn handshake(
        &self,
        target: &Target,
        tuning: &Tuning,
        tls: &Arc<ClientConfig>,
    ) -> Result<TlsStream<TcpStream>, ConnectError> {
        let stream = self.dial(target, tuning).await?;
        let connecting = TlsConnector::from(tls.clone()).connect(self.server_name.clone(), stream);
        match timeout(tuning.handshake_timeout, connecting).await {
            Some(Ok(stream)) => Ok(stream),
            Some(Err(error)) => Err(tls_error(&error)),
            None => Err(ConnectError {
                timed_out: true,
                ..ConnectError::plain("net/http: TLS handshake timeout")
            }),
        }
    }

    /// A connection without TLS.
    pub async fn dial(&self, target: &Target, tuning: &Tuning) -> Result<TcpStream, ConnectError> {
        self.dial_by(target, tuning, |name, port| async move {
            Ok(tokio::net::lookup_host((name, port)).await?.collect())
        })
        .await
    }

    /// Dials what was checked: a name is looked up once, and never again between the check and the connection.
    async fn dial_by<L, F>(&self, target: &Target, tuning: &Tuning, lookup: L) -> Result<TcpStream, ConnectError>
    where
        L: FnOnce(String, u16) -> F,
        F: Future<Output = io::Result<Vec<SocketAddr>>>,
    {
        let mut last = None;
        for address in self.addresses(target, tuning, lookup).await? {
            match timeout(tuning.dial_timeout, TcpStream::connect(address)).await {
                Some(Ok(stream)) => {
                    // A request is written in one go: waiting for more would only delay it.
                    stream.set_nodelay(true).ok();
                    watch_over(&stream, tuning);
                    return Ok(stream);
                }
                Some(Err(error)) => last = Some(ConnectError::dial(&address, &format!("connect: {}", io_text(&error)))),
                None => {
                    last = Some(ConnectError {
                        timed_out: true,
                        ..ConnectError::dial(&address, "i/o timeout")
                    });
                }
            }
        }
        Err(last.unwrap_or_else(|| ConnectError::plain("dial tcp: no address")))
    }

    /// The addresses of a target, each of them checked.
    async fn addresses<L, F>(
        &self,
        target: &Target,
        tuning: &Tuning,
        lookup: L,
    ) -> Result<Vec<SocketAddr>, ConnectError>
    where
        L: FnOnce(String, u16) -> F,
        F: Future<Output = io::Result<Vec<SocketAddr>>>,
    {
        let (name, port) = match target {
            Target::Address(address) => return Ok(vec![self.allowed(*address)?]),
            Target::Name(name, port) => (name.as_str(), *port),
        };
        let no_such_host = || ConnectError {
            text: format!("dial tcp: lookup {name}: no such host"),
            public: "dial tcp: no such host".into(),
            problem: None,
            timed_out: false,
        };
        let found = timeout(tuning.dial_timeout, lookup(name.to_owned(), port)).await;
        let found = found.and_then(Result::ok).ok_or_else(no_such_host)?;
        let mut allowed = Vec::new();
        let mut refused = None;
        for address in found {
            match self.allowed(address) {
                Ok(address) => allowed.push(address),
                Err(error) => refused = Some(error),
            }
        }
        match (allowed.is_empty(), refused) {
            (false, _) => Ok(allowed),
            (true, refused) => Err(refused.unwrap_or_else(no_such_host)),
        }
    }

    fn allowed(&self, address: SocketAddr) -> Result<SocketAddr, ConnectError> {
        self.policy.check(address).map_err(|error| ConnectError {
            text: format!("dial tcp: {error}"),
            public: "dial tcp: address is not allowed".into(),
            problem: None,
            timed_out: false,
        })
    }
}

/// Lets the kernel notice a machine that has gone, where nothing else would: a watch over HTTP/1.1 and a tunnel have no ping.
///
/// There is no `TCP_USER_TIMEOUT`: the kernel also counts the time in which a peer is there and does not read, as whoever
/// is behind a tunnel may do for hours; and keep-alive would wait for it instead of for its own retries.
fn watch_over(stream: &TcpStream, tuning: &Tuning) {
    // The kernel counts in seconds.
    let pause = (tuning.ping_interval + tuning.ping_timeout).max(Duration::from_secs(1));
    let keepalive = TcpKeepalive::new()
        .with_time(pause)
        .with_interval(pause)
        .with_retries(2);
    SockRef::from(stream).set_tcp_keepalive(&keepalive).ok();
}

impl ConnectError {
    pub fn plain(text: impl Into<String>) -> ConnectError {
        let text = text.into();
        ConnectError {
            public: text.clone(),
            text,
            problem: None,
            timed_out: false,
        }
    }

    fn dial(address: &SocketAddr, what: &str) -> ConnectError {
        ConnectError {
            text: format!("dial tcp {address}: {what}"),
            public: format!("dial tcp: {what}"),
            problem: None,
            timed_out: false,
        }
    }
}

/// An IO error in the words of Go's syscall package.
pub fn io_text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        io::ErrorKind::ConnectionReset => "connection reset by peer".into(),
        io::ErrorKind::BrokenPipe => "broken pipe".into(),
        io::ErrorKind::HostUnreachable => "no route to host".into(),
        io::ErrorKind::NetworkUnreachable => "network is unreachable".into(),
        io::ErrorKind::TimedOut => "connection timed out".into(),
        io::ErrorKind::UnexpectedEof => "EOF".into(),
        _ => error.to_string(),
    }
}

/// What the other side did not like about the TLS connection, as Go's crypto/tls says it; `None` for other errors.
pub fn remote_text(error: &io::Error) -> Option<String> {
    match error.get_ref()?.downcast_ref::<TlsError>()? {
        TlsError::AlertReceived(alert) => Some(alert_text(*alert)),
        _ => None,
    }
}

fn alert_text(alert: AlertDescription) -> String {
    let text = match alert {
        AlertDescription::HandshakeFailure => "handshake failure",
        AlertDescription::BadCertificate => "bad certificate",
        AlertDescription::UnsupportedCertificate => "unsupported certificate",
        AlertDescription::CertificateRevoked => "revoked certificate",
        AlertDescription::CertificateExpired => "expired certificate",
        AlertDescription::CertificateUnknown => "unknown certificate",
        AlertDescription::UnknownCA => "unknown certificate authority",
        AlertDescription::AccessDenied => "access denied",
        AlertDescription::DecryptError => "error decrypting message",
        AlertDescription::ProtocolVersion => "protocol version not supported",
        AlertDescription::InternalError => "internal error",
        AlertDescription::UnrecognisedName => "unrecognized name",
        AlertDescription::CertificateRequired => "certificate required",
        AlertDescription::NoApplicationProtocol => "no application protocol",
        other => return format!("remote error: tls: {other:?}"),
    };
    format!("remote error: tls: {text}")
}

fn tls_error(error: &io::Error) -> ConnectError {
    let Some(tls) = error.get_ref().and_then(|e| e.downcast_ref::<TlsError>()) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => ConnectError::plain("EOF"),
            _ => ConnectError::plain(format!("read: {}", io_text(error))),
        };
    };
    match tls {
        TlsError::InvalidCertificate(CertificateError::Other(other)) => {
            let Some(problem) = other.0.downcast_ref::<CertificateProblem>() else {
                return ConnectError::plain("tls: failed to verify certificate");
            };
            let public = match problem.kind {
                ProblemKind::Name | ProblemKind::MissingSan => {
                    "x509: certificate is not valid for the name of the service".into()
                }
                ProblemKind::Sha1 => "x509: certificate signed by unknown authority".into(),
                ProblemKind::Expired | ProblemKind::Authority => problem.to_string(),
            };
            ConnectError {
                text: format!("tls: failed to verify certificate: {problem}"),
                public: format!("tls: failed to verify certificate: {public}"),
                problem: Some(problem.kind),
                timed_out: false,
            }
        }
        TlsError::InvalidMessage(_) => ConnectError::plain("tls: first record does not look like a TLS handshake"),
        TlsError::AlertReceived(alert) => ConnectError::plain(alert_text(*alert)),
        _ => ConnectError::plain("tls: handshake failure"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::{Trust, client_config};
    use tokio::net::TcpListener;

    fn connector(policy: AddressPolicy) -> Connector {
        let config = client_config(Trust::Insecure, &Arc::new(rustls::RootCertStore::empty()), None, &[]).unwrap();
        let tls = Arc::new(config);
        Connector {
            tls: tls.clone(),
            tls_http1: tls,
            server_name: ServerName::try_from("shipping.default.svc").unwrap(),
            policy: Arc::new(policy),
            readers: Readers::default(),
        }
    }

    fn tuning() -> Tuning {
        Tuning {
            dial_timeout: Duration::from_millis(50),
            ..Tuning::default()
        }
    }

    /// CVE-2022-3294 and CVE-2020-8562: whatever a name means a moment later, only checked addresses are dialed.
    #[tokio::test]
    async fn cve_2022_3294_a_name_cannot_change_between_check_and_dial() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap();
        let target = Target::Name("flips.example.com".into(), here.port());
        let connector = connector(AddressPolicy::default());
        for answers in [
            vec![here],
            vec!["169.254.169.254:80".parse().unwrap(), here],
            vec![
                "[::ffff:127.0.0.1]:80".parse().unwrap(),
                "[fe80::1]:80".parse().unwrap(),
            ],
        ] {
            let dialed = connector
                .dial_by(&target, &tuning(), |_, _| async { Ok(answers) })
                .await;
            assert_eq!(dialed.unwrap_err().public, "dial tcp: address is not allowed");
        }
        // Of several addresses those that are allowed are dialed, and no other.
        let both = vec![here, "192.0.2.1:9".parse().unwrap()];
        let error = connector
            .dial_by(&target, &tuning(), |_, _| async { Ok(both) })
            .await
            .unwrap_err();
        assert!(error.text.starts_with("dial tcp 192.0.2.1:9: "), "{}", error.text);
        // An address that was resolved earlier is checked like a name.
        let error = connector.dial(&Target::Address(here), &tuning()).await.unwrap_err();
        assert_eq!(error.public, "dial tcp: address is not allowed");
        assert!(
            tokio::time::timeout(Duration::from_millis(20), listener.accept())
                .await
                .is_err()
        );
    }

    /// A machine that has gone is noticed after three seconds, one that does not read never.
    #[tokio::test]
    async fn the_kernel_looks_after_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = Target::Address(listener.local_addr().unwrap());
        let policy = AddressPolicy {
            allow_loopback: true,
            ..AddressPolicy::default()
        };
        let stream = connector(policy).dial(&here, &Tuning::default()).await.unwrap();
        let socket = SockRef::from(&stream);
        let keepalive = (
            socket.keepalive().unwrap(),
            socket.tcp_keepalive_time().unwrap(),
            socket.tcp_keepalive_interval().unwrap(),
            socket.tcp_keepalive_retries().unwrap(),
        );
        let second = Duration::from_secs(1);
        assert_eq!(keepalive, (true, second, second, 2));
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_user_timeout().unwrap(), None);
    }

    #[tokio::test]
    async fn cve_2022_3294_own_listeners_are_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap();
        let policy = AddressPolicy {
            allow_loopback: true,
            forbidden: vec![here],
        };
        let error = connector(policy)
            .dial(&Target::Address(here), &tuning())
            .await
            .unwrap_err();
        assert_eq!(error.public, "dial tcp: address is not allowed");
    }
}
