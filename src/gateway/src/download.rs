//! One document of an API server, taken in as it comes: what a command line asks for beside the server.

use crate::body::Replay;
use crate::connect::Connector;
use crate::endpoint::{Readers, Tuning};
use crate::metrics::Metrics;
use crate::policy::Policy;
use crate::pool::{Outgoing, Pool};
use crate::resolve::{AddressPolicy, Target};
use crate::tls::{self, ClientIdentity, Trust};
use bytes::Bytes;
use fairlead_api::json;
use fairlead_telemetry::Families;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode, Uri};
use http_body_util::BodyExt;
use rustls_pki_types::ServerName;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Which server, and who asks.
pub struct ApiServer<'a> {
    /// `https://host:port`
    pub url: &'a str,
    pub trust: Trust<'a>,
    pub identity: Option<&'a ClientIdentity>,
    pub token: Option<&'a str>,
}

/// How long the server may be silent.
const SILENCE: Duration = Duration::from_secs(600);
/// How much of a refusal is read.
const MAX_REFUSAL: usize = 64 << 10;

/// Gets `path` and hands its pieces to `take` in order. Answers how many bytes there were.
///
/// # Errors
/// A sentence: what the server said, or what went wrong on the way. Whoever took pieces must forget them.
pub async fn download(
    server: &ApiServer<'_>,
    path: &str,
    take: &mut (dyn FnMut(Bytes) -> std::io::Result<()> + Send),
) -> Result<u64, String> {
    let pool = pool(server)?;
    let mut headers = HeaderMap::new();
    headers.insert(header::USER_AGENT, HeaderValue::from_static("fairlead"));
    if let Some(token) = server.token {
        let value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| "the token is not a token")?;
        headers.insert(header::AUTHORIZATION, value);
    }
    let path = path.parse().map_err(|_| format!("invalid path {path:?}"))?;
    let outgoing = Outgoing {
        long_running: true,
        ..Outgoing::new(Method::GET, path, headers, Replay::empty())
    };
    let sent = tokio::time::timeout(SILENCE, pool.send(outgoing)).await;
    let answer = sent.map_err(|_| silent())?.map_err(|error| error.text)?;
    let status = answer.status();
    let mut body = answer.into_body();
    let (mut bytes, mut refusal) = (0, Vec::new());
    while let Some(frame) = tokio::time::timeout(SILENCE, body.frame())
        .await
        .map_err(|_| silent())?
    {
        let frame = frame.map_err(|error| format!("the answer broke off after {bytes} bytes: {error}"))?;
        let Ok(data) = frame.into_data() else { continue };
        bytes += data.len() as u64;
        if status.is_success() {
            take(data).map_err(|error| error.to_string())?;
        } else if refusal.len() < MAX_REFUSAL {
            refusal.extend_from_slice(&data);
        }
    }
    if status.is_success() {
        Ok(bytes)
    } else {
        Err(said(status, &refusal))
    }
}

fn pool(server: &ApiServer<'_>) -> Result<Pool, String> {
    let url: Uri = server
        .url
        .parse()
        .map_err(|_| format!("{:?} is not a URL", server.url))?;
    if url.scheme_str() != Some("https") {
        return Err(format!("{:?} must begin with https://", server.url));
    }
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let port = url.port_u16().unwrap_or(443);
    let tls = tls::client_config(server.trust, &tls::system_roots(), server.identity, &["http/1.1"])
        .map(Arc::new)
        .map_err(|error| error.to_string())?;
    let live = Policy::standard(Tuning::default(), Vec::new()).live();
    let connector = Connector {
        tls: tls.clone(),
        tls_http1: tls,
        server_name: ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?,
        policy: Arc::new(AddressPolicy::anything()),
        readers: Readers::default(),
    };
    let metrics = Metrics::new(&Families::default()).backend("server");
    let pool = Pool::new(connector, live, metrics, Arc::new(Notify::new()));
    pool.update(&[match host.parse::<IpAddr>() {
        Ok(ip) => Target::Address((ip, port).into()),
        Err(_) => Target::Name(host.into(), port),
    }]);
    Ok(pool)
}

fn silent() -> String {
    format!("the server has said nothing for {} seconds", SILENCE.as_secs())
}

/// The message of a `Status`, or whatever was said.
fn said(status: StatusCode, refusal: &[u8]) -> String {
    let text = String::from_utf8_lossy(refusal);
    let message = json::parse(refusal)
        .ok()
        .map(|node| node.str("message").to_owned())
        .filter(|message| !message.is_empty());
    format!("{status}: {}", message.as_deref().unwrap_or(text.trim()))
}
