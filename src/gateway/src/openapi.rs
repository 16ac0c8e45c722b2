//! A backend's OpenAPI documents: asked for by index, hash and ETag, and cut down to its own group-versions.
//!
//! - [`v3`], [`v2`]: documents checked and cut. - [`convert`]: one version from the other.
//!
//! Documents are strangers' work. Their size and the number of their values are bounded before they are parsed, one is
//! read at a time, and nothing follows a reference twice.

use crate::fetch::{Fetch, Fetched};
use crate::pool::{Pool, SendError};
use bytes::Bytes;
use fairlead_api::{GroupVersion, json};
use sha2::{Digest, Sha512};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

pub mod convert;
pub mod v2;
pub mod v3;

/// What is known of the documents of one group-version. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenApi {
    pub v3: Option<Known>,
    pub v2: Option<Known>,
    /// Where the index said that the v3 document is, with its hash.
    pub(crate) v3_url: String,
    /// What was wrong with them.
    pub problems: Arc<Vec<String>>,
}

/// A document and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub document: Document,
    pub origin: Origin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// As the backend wrote it.
    Backend,
    /// The backend's, without what is not its own.
    Cut,
    /// Made of the other version.
    Derived,
}

/// Compact JSON of one group-version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    pub bytes: Bytes,
    /// Of `bytes`: SHA-512 in upper-case hexadecimal, as API servers hash their own documents.
    pub hash: String,
}

/// Why a document cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    #[error("OpenAPI {0}: more values than a document may have")]
    Values(&'static str),
    #[error("OpenAPI {0}: {1}")]
    Invalid(&'static str, String),
    #[error("OpenAPI {0}: no document of this version")]
    Version(&'static str),
}

const OPENAPI_USER: &str = "system:aggregator";
const LIMIT_INDEX: usize = 1 << 20;
const LIMIT_V3: usize = 16 << 20;
const LIMIT_V2: usize = 32 << 20;
const TIMEOUT: Duration = Duration::from_secs(30);
/// Several times what all of a cluster's own documents have together; a parsed value takes up to a hundred bytes.
const MAX_VALUES: usize = 1_000_000;

/// One document is parsed at a time, and not where requests are answered.
static READING: Semaphore = Semaphore::const_new(1);

impl OpenApi {
    pub fn same(&self, other: &OpenApi) -> bool {
        let same = |a: &Option<Known>, b: &Option<Known>| match (a, b) {
            (Some(a), Some(b)) => a.origin == b.origin && a.document.hash == b.document.hash,
            (a, b) => a.is_none() && b.is_none(),
        };
        same(&self.v2, &other.v2)
            && same(&self.v3, &other.v3)
            && self.problems == other.problems
            && self.v3_url == other.v3_url
    }
}

impl Document {
    pub fn new(bytes: Bytes) -> Document {
        let hash = Sha512::digest(&bytes)
            .iter()
            .fold(String::with_capacity(128), |mut text, byte| {
                write!(text, "{byte:02X}").expect("strings can be written to");
                text
            });
        Document { bytes, hash }
    }
}

impl Origin {
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::Backend => "backend",
            Origin::Cut => "cut",
            Origin::Derived => "derived",
        }
    }
}

/// `/openapi/v3`, the index; `etag` is that of what is known.
pub(crate) async fn index(pool: &Pool, etag: &str) -> Result<Fetched, SendError> {
    get(pool, "/openapi/v3", etag, LIMIT_INDEX).await
}

/// A document the index led to.
pub(crate) async fn document_v3(pool: &Pool, url: &str) -> Result<Fetched, SendError> {
    get(pool, url, "", LIMIT_V3).await
}

/// `/openapi/v2`; `etag` is that of what is known.
pub(crate) async fn document_v2(pool: &Pool, etag: &str) -> Result<Fetched, SendError> {
    get(pool, "/openapi/v2", etag, LIMIT_V2).await
}

async fn get(pool: &Pool, path: &str, etag: &str, limit: usize) -> Result<Fetched, SendError> {
    let fetch = Fetch {
        path,
        accept: "application/json",
        etag,
        user: OPENAPI_USER,
        limit,
        timeout: TIMEOUT,
    };
    fetch.get(pool).await
}

/// Where a `/openapi/v3` index says the document of a group-version is. Only a path on the same server counts.
pub(crate) fn path_in_index(index: &fairlead_api::Node, gv: &GroupVersion) -> Option<String> {
    let url = index
        .get("paths")?
        .get(prefix(gv).trim_start_matches('/'))?
        .str("serverRelativeURL");
    (url.starts_with("/openapi/v3/") && url.len() < 2048).then(|| url.to_owned())
}

/// Reads an index.
pub(crate) fn read_index(bytes: &[u8]) -> Option<fairlead_api::Node> {
    json::parse(bytes).ok().filter(|index| index.get("paths").is_some())
}

/// Does CPU work on a document where it keeps no request waiting. `None` when the process ends.
pub(crate) async fn reading<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let _turn = READING.acquire().await.ok()?;
    tokio::task::spawn_blocking(work).await.ok()
}

/// Refuses documents of more values than fit into memory, at the cost of a scan.
fn bounded(bytes: &[u8], version: &'static str) -> Result<(), DocumentError> {
    let values = memchr::memchr3_iter(b',', b'[', b'{', bytes).count();
    if values > MAX_VALUES {
        return Err(DocumentError::Values(version));
    }
    Ok(())
}

/// `/apis/G/V`, or `/api/V`.
fn prefix(gv: &GroupVersion) -> String {
    if gv.group.is_empty() {
        format!("/api/{}", gv.version)
    } else {
        format!("/apis/{gv}")
    }
}

fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::Node;

    #[test]
    fn the_index_cannot_lead_elsewhere() {
        let gv = GroupVersion::new("g.example.com", "v1");
        let index = |url: &str| {
            let mut index = Node::map();
            index.set_at(&["paths", "apis/g.example.com/v1", "serverRelativeURL"], url);
            index
        };
        let url = "/openapi/v3/apis/g.example.com/v1?hash=A";
        assert_eq!(path_in_index(&index(url), &gv).as_deref(), Some(url));
        assert_eq!(path_in_index(&index("https://evil/openapi/v3/x"), &gv), None);
        assert_eq!(path_in_index(&index("/api/v1/secrets"), &gv), None);
    }

    #[test]
    fn documents_are_hashed_as_api_servers_hash_them() {
        let hash = Document::new(Bytes::from_static(b"{}")).hash;
        assert_eq!(hash.len(), 128);
        assert!(hash.starts_with("27C74670ADB75075FAD058D5CEAF7B20"));
    }

    #[test]
    fn too_many_values_are_not_parsed() {
        assert_eq!(bounded(b"[1,2]", "v2"), Ok(()));
        let hostile = vec![b'['; MAX_VALUES + 1];
        assert_eq!(bounded(&hostile, "v2"), Err(DocumentError::Values("v2")));
    }
}
