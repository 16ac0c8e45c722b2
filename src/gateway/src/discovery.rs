//! [`RemoteGroup`]: what is known of a group-version that a backend serves, and how it is asked for it: aggregated
//! discovery where it speaks that (KEP-3352), else legacy.

use crate::backend::Backend;
use crate::fetch::{Fetch, Fetched, Seen};
use crate::openapi::OpenApi;
use crate::policy::DiscoveryMode;
use crate::pool::Pool;
use compact_str::CompactString;
use fairlead_api::{GroupVersion, Node, Timestamp, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

pub mod documents;

/// What is known of a group-version that a backend serves. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RemoteGroup {
    pub api_service: CompactString,
    pub group_version: GroupVersion,
    /// `NAMESPACE/SERVICE:PORT`.
    pub service: CompactString,
    /// `APIResourceDiscovery` objects, in the backend's order.
    pub resources: Arc<Vec<Node>>,
    pub freshness: Freshness,
    /// When the backend last confirmed `resources`.
    pub learnt: Learnt,
    pub dialect: Dialect,
    pub openapi: OpenApi,
    /// What clients are shown while the backend does not answer.
    pub shown: DiscoveryMode,
    /// Why it is stale.
    pub problem: Option<Arc<str>>,
    /// Group-versions of others that the backend speaks of.
    pub claims: Arc<Vec<GroupVersion>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    Current,
    /// The backend does not answer: this is what it said before.
    Stale,
}

/// How a backend tells what it serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    #[default]
    Unknown,
    Aggregated,
    Legacy,
}

/// The time of the last answer, moved on without telling anybody.
#[derive(Clone, Debug, Default)]
pub struct Learnt(Arc<AtomicI64>);

/// Why discovery is not known.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    #[error("{0}")]
    Send(String),
    #[error("status {0}")]
    Status(u16),
    #[error("not a discovery document of {0}")]
    Document(GroupVersion),
}

pub(crate) const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                          application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
const DISCOVERY_USER: &str = "system:kube-aggregator";
const LIMIT: usize = 4 << 20;
const TIMEOUT: Duration = Duration::from_secs(5);

/// All that is known of remote groups, by APIService.
pub type RemoteGroups = std::collections::HashMap<CompactString, Arc<RemoteGroup>>;

// === impl RemoteGroup ===

impl RemoteGroup {
    /// Of a backend that has not been asked yet.
    pub fn unknown(backend: &Backend) -> RemoteGroup {
        let service = &backend.remote().service;
        RemoteGroup {
            api_service: backend.api_service.name.clone(),
            group_version: backend.api_service.group_version.clone(),
            service: format!("{}/{}:{}", service.namespace, service.name, service.port).into(),
            resources: Arc::default(),
            freshness: Freshness::Stale,
            learnt: Learnt::default(),
            dialect: Dialect::Unknown,
            openapi: OpenApi::default(),
            shown: DiscoveryMode::Upstream,
            problem: None,
            claims: Arc::default(),
        }
    }

    /// The same, of a backend that no longer answers.
    pub fn stale(&self, why: &str) -> RemoteGroup {
        RemoteGroup {
            freshness: Freshness::Stale,
            problem: Some(why.into()),
            ..self.clone()
        }
    }

    /// Whether nobody, client or operator, would see a difference.
    pub fn shows_same(&self, other: &RemoteGroup) -> bool {
        (Arc::ptr_eq(&self.resources, &other.resources) || self.resources == other.resources)
            && self.freshness == other.freshness
            && self.shown == other.shown
            && self.service == other.service
            && self.problem == other.problem
            && self.claims == other.claims
            && self.dialect == other.dialect
            && self.learnt.at().is_some() == other.learnt.at().is_some()
            && self.openapi.same(&other.openapi)
    }
}

// === impl Learnt ===

impl Learnt {
    pub fn at(&self) -> Option<Timestamp> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            seconds => Some(Timestamp::from_unix_seconds(seconds)),
        }
    }

    /// Unix seconds, 0 before the first answer, for reports.
    pub fn shared(&self) -> Arc<AtomicI64> {
        self.0.clone()
    }

    pub(crate) fn now(&self, now: Timestamp) {
        self.0.store(now.unix_seconds().max(1), Ordering::Relaxed);
    }
}

// === asking ===

/// What a backend answers when it is asked for everything at once.
pub(crate) enum Everything {
    /// The same as when it was asked before.
    Unchanged,
    /// An `APIGroupDiscoveryList`.
    Document(Node),
    /// It does not speak aggregated discovery: HTML, an error, another kind …
    Unspoken,
}

/// Asks for all groups.
pub(crate) async fn everything(pool: &Pool, seen: &mut Seen) -> Result<Everything, DiscoveryError> {
    let fetched = get(pool, "/apis", AGGREGATED, &seen.etag).await?;
    if fetched.status.as_u16() != 200 && !(fetched.status.as_u16() == 304 && seen.is_something()) {
        *seen = Seen::default();
        return Ok(Everything::Unspoken);
    }
    if !seen.is_new(&fetched) {
        return Ok(Everything::Unchanged);
    }
    match json::parse(&fetched.bytes) {
        Ok(document) if documents::is_aggregated(&document) => Ok(Everything::Document(document)),
        _ => {
            *seen = Seen::default();
            Ok(Everything::Unspoken)
        }
    }
}

/// Asks for the group-version alone, which every backend must answer.
pub(crate) async fn legacy(pool: &Pool, backend: &Backend) -> Result<Vec<Node>, DiscoveryError> {
    let gv = &backend.api_service.group_version;
    let fetched = get(pool, &backend.api_service.discovery_path(), "application/json", "").await?;
    if !fetched.status.is_success() {
        return Err(DiscoveryError::Status(fetched.status.as_u16()));
    }
    let document = json::parse(&fetched.bytes).ok();
    document
        .and_then(|d| documents::from_legacy(&d, gv))
        .ok_or_else(|| DiscoveryError::Document(gv.clone()))
}

async fn get(pool: &Pool, path: &str, accept: &str, etag: &str) -> Result<Fetched, DiscoveryError> {
    let fetch = Fetch {
        path,
        accept,
        etag,
        user: DISCOVERY_USER,
        limit: LIMIT,
        timeout: TIMEOUT,
    };
    fetch.get(pool).await.map_err(|e| DiscoveryError::Send(e.text))
}
