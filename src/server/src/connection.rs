//! [`Connection`]: what all requests of one connection share.

use fairlead_auth::authentication::peer::PeerCertificates;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use tokio::sync::Notify;

/// One client connection.
pub struct Connection {
    pub peer: SocketAddr,
    /// What the client presented in the handshake; whether it is trusted is the authenticator's business.
    pub certificates: PeerCertificates,
    pub http2: bool,
    /// Asks the connection's owner to finish the running requests and close (GOAWAY).
    pub(crate) goaway: Notify,
}

impl Connection {
    pub fn new(peer: SocketAddr, certificates: PeerCertificates, http2: bool) -> Connection {
        Connection {
            peer,
            certificates,
            http2,
            goaway: Notify::new(),
        }
    }

    /// A connection that never left the process.
    pub fn local() -> Connection {
        Connection::new(
            SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            PeerCertificates::default(),
            false,
        )
    }

    /// Lets the running requests finish, then closes.
    pub fn close_soon(&self) {
        self.goaway.notify_one();
    }
}
