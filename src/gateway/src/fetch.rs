//! Requests of the gateway's own: probes, discovery and OpenAPI. Never redirected, always bounded.

use crate::body::{Replay, read};
use crate::endpoint::Endpoint;
use crate::headers::set_identity;
use crate::health::patient::timeout;
use crate::pool::{Outgoing, Pool, SendError};
use bytes::Bytes;
use fairlead_api::UserInfo;
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, StatusCode};
use sha2::{Digest, Sha256};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

/// A GET of the gateway's own.
#[derive(Clone, Copy)]
pub struct Fetch<'a> {
    pub path: &'a str,
    pub accept: &'a str,
    /// The ETag of what is already known; empty for none.
    pub etag: &'a str,
    /// Who asks; a member of `system:masters`, so that a backend's own rules never hide its documents.
    pub user: &'a str,
    pub limit: usize,
    pub timeout: Duration,
}

pub struct Fetched {
    pub status: StatusCode,
    pub etag: String,
    pub bytes: Bytes,
}

/// What is remembered of a document to know whether it has changed.
#[derive(Debug, Default)]
pub struct Seen {
    pub etag: String,
    digest: Option<[u8; 32]>,
}

impl Seen {
    /// Whether an answer, 200 or 304, differs from the one before; it is remembered. Backends without ETags are told
    /// by what they send.
    pub fn is_new(&mut self, fetched: &Fetched) -> bool {
        if fetched.status == StatusCode::NOT_MODIFIED {
            return false;
        }
        let digest: [u8; 32] = Sha256::digest(&fetched.bytes).into();
        let new = self.digest != Some(digest);
        self.digest = Some(digest);
        self.etag.clone_from(&fetched.etag);
        new
    }

    pub fn is_something(&self) -> bool {
        self.digest.is_some()
    }
}

/// What Go's client says when its time is over.
const TIMED_OUT: &str = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";

impl Fetch<'_> {
    /// Asks whichever endpoint is best.
    pub async fn get(self, pool: &Pool) -> Result<Fetched, SendError> {
        let outgoing = self.outgoing()?;
        self.read(pin!(pool.send(outgoing))).await
    }

    /// Asks this endpoint.
    pub async fn get_from(self, pool: &Pool, endpoint: &Arc<Endpoint>) -> Result<Fetched, SendError> {
        let outgoing = self.outgoing()?;
        self.read(pin!(pool.send_to(endpoint, &outgoing))).await
    }

    async fn read(
        self,
        sent: Pin<&mut impl Future<Output = Result<http::Response<crate::Body>, SendError>>>,
    ) -> Result<Fetched, SendError> {
        let reading = pin!(async {
            let (parts, body) = sent.await?.into_parts();
            let etag = parts
                .headers
                .get(header::ETAG)
                .and_then(|v| v.to_str().ok())
                .unwrap_or_default()
                .to_owned();
            let bytes = match read(body, self.limit).await {
                Ok(bytes) => bytes,
                // Of a failure only the status matters.
                Err(_) if !parts.status.is_success() => Bytes::new(),
                Err(error) => return Err(SendError::from(error.to_string())),
            };
            Ok(Fetched {
                status: parts.status,
                etag,
                bytes,
            })
        });
        timeout(self.timeout, reading)
            .await
            .unwrap_or_else(|| Err(SendError::from(TIMED_OUT.to_owned())))
    }

    fn outgoing(&self) -> Result<Outgoing, SendError> {
        let path_and_query: PathAndQuery = self
            .path
            .parse()
            .map_err(|_| SendError::from(format!("invalid path {:?}", self.path)))?;
        let mut headers = HeaderMap::new();
        set_identity(&mut headers, &UserInfo::new(self.user, &["system:masters"]));
        headers.insert(header::USER_AGENT, HeaderValue::from_static("fairlead"));
        for (name, value) in [(header::ACCEPT, self.accept), (header::IF_NONE_MATCH, self.etag)] {
            if let Ok(value) = HeaderValue::from_str(value)
                && !value.is_empty()
            {
                headers.insert(name, value);
            }
        }
        Ok(Outgoing::new(Method::GET, path_and_query, headers, Replay::empty()))
    }
}
