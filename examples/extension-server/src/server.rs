//! The listener: TLS, HTTP/1.1 and HTTP/2, and what every request passes before it reaches the API.

use crate::api::{self, Answer, Api};
use crate::faults::{Broken, Faults};
use crate::identity::{self, Peer, User};
use crate::rename::Rename;
use crate::tls;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use std::pin::pin;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub struct Options {
    pub tls: Arc<rustls::ServerConfig>,
    /// Whether users come only through the front proxy. Without it everybody is served, as `system:anonymous`.
    pub front_proxy: bool,
    /// Common names the front proxy may have; empty for any that its CA signed.
    pub allowed_names: Vec<String>,
    /// For tests of gateways; the default has none.
    pub faults: Faults,
    /// For tests with many groups; `None` serves the one there is.
    pub rename: Option<Rename>,
}

struct Shared {
    api: Api,
    options: Options,
}

/// Serves until dropped. Connections end with it.
pub async fn serve(listener: TcpListener, options: Options) {
    let shared = Arc::new(Shared {
        api: Api::default(),
        options,
    });
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    // An answer is written in one go: waiting for more, as Nagle's algorithm does, would only delay it.
                    let _ = stream.set_nodelay(true);
                    connections.spawn(connection(stream, shared.clone()));
                }
                Err(error) => eprintln!("accept: {error}"),
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let faults = shared.options.faults.clone();
    let Some(stream) = faults.accept(stream).await else {
        return;
    };
    // An answer's head and body are two writes: the second shall not wait until the first was acknowledged.
    drop(stream.set_nodelay(true));
    let Ok(stream) = TlsAcceptor::from(faults.tls(&shared.options.tls)).accept(stream).await else {
        return;
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let peer = Arc::new(Peer {
        common_name: certificate.and_then(tls::common_name),
    });
    let service = service_fn(move |request| {
        let (shared, peer) = (shared.clone(), peer.clone());
        async move {
            match &shared.options.rename {
                None => answer(&shared, &peer, request).await,
                Some(rename) => {
                    let mut request = request;
                    rename.request(&mut request);
                    answer(&shared, &peer, request).await.map(|r| rename.response(r))
                }
            }
        }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let mut serving = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    loop {
        tokio::select! {
            // The client may go away at any time: that is its right, and no error.
            _ = serving.as_mut() => return,
            in_order = faults.ended() => match in_order {
                true => serving.as_mut().graceful_shutdown(),
                false => return,
            },
        }
    }
}

async fn answer(shared: &Shared, peer: &Peer, mut request: Request<Incoming>) -> Result<Response<Answer>, Broken> {
    if let Some(wrong) = shared.options.faults.answer(&mut request).await? {
        return Ok(wrong);
    }
    if matches!(request.uri().path(), "/healthz" | "/livez" | "/readyz") {
        return Ok(api::text(200, "ok"));
    }
    let user = if shared.options.front_proxy {
        match identity::user(peer, &shared.options.allowed_names, request.headers()) {
            Some(user) => user,
            None => return Ok(api::failure(401, "Unauthorized", "Unauthorized")),
        }
    } else {
        User {
            name: "system:anonymous".into(),
            ..User::default()
        }
    };
    // A server with rules of its own would ask here, by SubjectAccessReview, whether the user may do this.
    // The aggregator has already asked that once, for the same user and path.
    Ok(shared.api.answer(request, &user).await)
}
