//! [`Etcd`]: a store in an etcd cluster, for several servers at once, kube-apiserver among them.
//!
//! - `members`: the servers of the cluster and which is asked. `failure`: what a failed call means.
//! - `log`: the one watch that feeds all watches. `keys`: keys under their prefix. `tls`: certificates.
//! - `leases`: for values that expire. [`compactor`]: which of all servers compacts, and when.
// PERFORMANCE: per-request path

pub mod compactor;
mod failure;
mod keys;
mod leases;
mod log;
mod members;
#[cfg(any(test, feature = "etcd-server"))]
pub mod server;
#[cfg(test)]
mod tests;
mod tls;

pub use tls::Tls;

use crate::store::{Entry, Error, Expect, Range, Result, Revision, Store, StoreObserver, Watch};
use bytes::Bytes;
use etcd_client::{Compare, CompareOp, GetOptions, GetResponse, PutOptions, Txn, TxnOp, TxnOpResponse};
use failure::Failed;
use futures_util::future::BoxFuture;
use keys::{Keys, number, revision};
use leases::Leases;
use log::Log;
use members::{Call, Clients, Members, Unanswered};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// A store in etcd. Cheap to clone; clones share. The last clone ends its tasks.
#[derive(Clone)]
pub struct Etcd(Arc<Shared>);

/// Where the cluster is and how it is used.
pub struct EtcdConfig {
    /// `https://host:port`, the nearest first. Not empty.
    pub servers: Vec<String>,
    /// In front of all keys: `/registry`.
    pub prefix: String,
    pub tls: Option<Tls>,
    /// How long values may share a lease, at most.
    pub lease_reuse: Duration,
    pub observer: Option<Arc<dyn StoreObserver>>,
}

struct Shared {
    members: Arc<Members>,
    keys: Keys,
    log: Arc<Log>,
    leases: Leases,
    observer: Option<Arc<dyn StoreObserver>>,
    /// The highest compaction this store has heard of.
    compacted: AtomicU64,
    fresh: Fresh,
    tasks: Vec<AbortHandle>,
}

/// One question for the revision serves everybody who has come before it was asked.
#[derive(Debug)]
struct Fresh {
    arrivals: AtomicU64,
    /// Arrivals that the last answer serves, and the answer.
    last: tokio::sync::Mutex<(u64, Result<Revision>)>,
}

impl Default for EtcdConfig {
    fn default() -> EtcdConfig {
        EtcdConfig {
            servers: vec!["http://127.0.0.1:2379".into()],
            prefix: "/registry".into(),
            tls: None,
            lease_reuse: Duration::from_secs(60),
            observer: None,
        }
    }
}

/// How long a read that must be fresh waits for changes it has to contain.
const CATCHING_UP: Duration = Duration::from_secs(3);
/// How often the cluster is asked how far it is when nobody else asks: a watch may be silent because its member is.
const PULSE: Duration = Duration::from_secs(1);
/// How often files of certificates are read.
const CERTIFICATES: Duration = Duration::from_secs(10);
/// Between two attempts to find a cluster that is not there yet.
const ATTEMPT: Duration = Duration::from_millis(500);
/// Entries asked for at once.
const PAGE: usize = 1000;

impl Etcd {
    /// Finds the cluster. Waits for it as long as `patience`, since both may be starting.
    ///
    /// # Errors
    /// [`Error::Unavailable`] says which addresses did not answer, and why.
    pub async fn connect(config: EtcdConfig, patience: Duration) -> Result<Etcd> {
        let members = Arc::new(Members::new(&config.servers, config.tls).await?);
        let keys = Keys::new(&config.prefix);
        let mut first_failure = true;
        let attempts = async {
            loop {
                match current_revision(&members, &keys).await {
                    Ok(revision) => return revision,
                    Err(error) if first_failure => {
                        tracing::warn!(%error, "waiting for etcd");
                        first_failure = false;
                    }
                    Err(error) => tracing::debug!(%error, "still waiting for etcd"),
                }
                tokio::time::sleep(ATTEMPT).await;
            }
        };
        let revision = match timeout(patience, attempts).await {
            Ok(revision) => revision,
            // Once more, for its error.
            Err(_) => current_revision(&members, &keys).await?,
        };
        let log = Arc::new(Log::new(members.clone(), keys.clone(), revision.0));
        let tasks = [
            fairlead_telemetry::task::spawn("etcd-log", log.clone().run()),
            fairlead_telemetry::task::spawn("etcd-members", upkeep(members.clone(), keys.clone(), log.clone())),
        ];
        Ok(Etcd(Arc::new(Shared {
            members,
            keys,
            log,
            leases: Leases::new(config.lease_reuse),
            observer: config.observer,
            compacted: AtomicU64::new(0),
            fresh: Fresh::default(),
            tasks: tasks.iter().map(|task| task.abort_handle()).collect(),
        })))
    }

    /// The bytes that the cluster's data take on the disk of the member that answers.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn size(&self) -> Result<u64> {
        let status = |clients: Arc<Clients>| async move { clients.maintenance.clone().status().await };
        let status = self.0.members.ask(Call::Read, status).await.map_err(plain)?;
        Ok(u64::try_from(status.db_size()).unwrap_or(0))
    }

    /// The addresses, as they were given.
    pub fn names(&self) -> String {
        self.0.members.names()
    }
}

impl Shared {
    async fn read(&self, key: &str) -> Result<(Option<Entry>, Revision)> {
        let outer = self.keys.outer(key);
        let mut answer = get(&self.members, outer, None).await.map_err(plain)?;
        let at = self.heard(answer.header().map(|header| header.revision()));
        let entry = answer.take_kvs().pop().and_then(|kv| self.keys.entry(kv));
        Ok((entry, at))
    }

    async fn range(&self, prefix: &str, start: &str, limit: usize, at: Option<Revision>) -> Result<Range> {
        let (mut first, end) = self.keys.range(prefix, start);
        let mut range = Range {
            revision: at.unwrap_or_default(),
            ..Range::default()
        };
        let mut at = at;
        let mut page = PAGE;
        loop {
            let wanted = page.min(limit - range.entries.len());
            let mut options = GetOptions::new()
                .with_range(end.clone())
                .with_limit(i64::try_from(wanted).unwrap_or(i64::MAX));
            if let Some(at) = at {
                options = options.with_revision(number(at));
            }
            let mut answer = match get(&self.members, first.clone(), Some(options)).await {
                Ok(answer) => answer,
                Err(Unanswered::Told(Failed::TooLong)) if wanted > 1 => {
                    page = wanted / 2;
                    continue;
                }
                Err(error) => return Err(self.explain(error, at.unwrap_or_default()).await),
            };
            let latest = self.heard(answer.header().map(|header| header.revision()));
            range.revision = *at.get_or_insert(latest);
            range.more = answer.more();
            let kvs = answer.take_kvs();
            if let Some(last) = kvs.last() {
                first = [last.key(), b"\0"].concat();
            }
            range
                .entries
                .extend(kvs.into_iter().filter_map(|kv| self.keys.entry(kv)));
            if !range.more || range.entries.len() >= limit {
                return Ok(range);
            }
        }
    }

    /// Changes `key` where it is as expected. `operation` is the change.
    async fn change(
        &self,
        key: &str,
        expect: Expect,
        operation: impl Fn(&[u8]) -> TxnOp,
    ) -> Result<Revision, Unanswered> {
        let outer = self.keys.outer(key);
        let modified = match expect {
            Expect::Absent => 0,
            Expect::Unchanged(Revision(0)) => i64::MAX,
            Expect::Unchanged(at) => number(at),
        };
        let attempt = |clients: Arc<Clients>| {
            let txn = Txn::new()
                .when([Compare::mod_revision(&*outer, CompareOp::Equal, modified)])
                .and_then([operation(&outer)])
                .or_else([TxnOp::get(&*outer, None)]);
            async move { clients.kv.clone().txn(txn).await }
        };
        let answer = self.members.ask(Call::Write, attempt).await?;
        let at = self.heard(answer.header().map(|header| header.revision()));
        if answer.succeeded() {
            return Ok(at);
        }
        let current = answer.op_responses().into_iter().find_map(|response| match response {
            TxnOpResponse::Get(mut found) => found.take_kvs().pop(),
            _ => None,
        });
        Err(Unanswered::Error(Error::Conflict {
            current: current.and_then(|kv| self.keys.entry(kv)),
        }))
    }

    async fn put(&self, key: &str, value: Bytes, expect: Expect, lifetime: Option<Duration>) -> Result<Revision> {
        let mut again = true;
        loop {
            let lease = match lifetime {
                Some(lifetime) => self.leases.lease(&self.members, lifetime).await.map_err(plain)?,
                None => 0,
            };
            let put = |key: &[u8]| TxnOp::put(key, &*value, Some(PutOptions::new().with_lease(lease)));
            match self.change(key, expect, put).await {
                Ok(at) => return Ok(at),
                Err(Unanswered::Told(Failed::NoLease)) if again => {
                    self.leases.forget(lease).await;
                    again = false;
                }
                Err(error) => return Err(plain(error)),
            }
        }
    }

    async fn delete(&self, key: &str, expect: Expect) -> Result<Revision> {
        if expect == Expect::Absent {
            let (current, _) = self.read(key).await?;
            return Err(Error::Conflict { current });
        }
        self.change(key, expect, |key| TxnOp::delete(key, None))
            .await
            .map_err(plain)
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>> {
        if after.0 < self.log.reached() {
            // Whether the past is still there; the log would tell only when it is read.
            let at = GetOptions::new().with_revision(number(after).max(1)).with_count_only();
            if let Err(error) = get(&self.members, self.keys.outer("/health"), Some(at)).await {
                return Err(self.explain(error, after).await);
            }
        }
        Ok(Box::new(self.log.watch(prefix, after.0)))
    }

    /// The cluster's revision, with all changes up to it in the log.
    async fn revision(&self) -> Result<Revision> {
        let at = self.fresh.ask(|| current_revision(&self.members, &self.keys)).await?;
        self.log.expect(at.0);
        match timeout(CATCHING_UP, self.log.reach(at.0)).await {
            Ok(()) => Ok(at),
            Err(_) => Err(Error::Unavailable(format!(
                "changes up to revision {} have not arrived from etcd at {}",
                at.0,
                self.members.names()
            ))),
        }
    }

    async fn compact(&self, at: Revision) -> Result<()> {
        if at.0 <= self.compacted.load(Ordering::Acquire) {
            return Ok(());
        }
        let attempt = |clients: Arc<Clients>| async move { clients.kv.clone().compact(number(at), None).await };
        // Asked for again where the answer was lost: twice does no harm.
        match self.members.ask(Call::Read, attempt).await {
            Ok(_) => {
                self.compacted.fetch_max(at.0, Ordering::AcqRel);
                Ok(())
            }
            Err(Unanswered::Told(Failed::Compacted)) => Ok(()),
            Err(error) => Err(self.explain(error, at).await),
        }
    }

    /// Notes a revision that an answer tells.
    fn heard(&self, told: Option<i64>) -> Revision {
        let at = told.map(revision).unwrap_or_default();
        self.log.expect(at.0);
        at
    }

    /// The error of a question about `at`, with the revision that etcd does not tell.
    async fn explain(&self, error: Unanswered, at: Revision) -> Error {
        let known = self.compacted.load(Ordering::Acquire);
        match error {
            Unanswered::Told(Failed::Compacted) if at.0 < known => Error::Compacted {
                oldest: Revision(known),
            },
            Unanswered::Told(Failed::Compacted) => match log::compaction(&self.members).await {
                Ok(oldest) => {
                    self.compacted.fetch_max(oldest, Ordering::AcqRel);
                    Error::Compacted {
                        oldest: Revision(oldest),
                    }
                }
                Err(error) => error,
            },
            Unanswered::Told(Failed::Future) => match current_revision(&self.members, &self.keys).await {
                Ok(current) => Error::Future { current },
                Err(error) => error,
            },
            error => plain(error),
        }
    }
}

impl Default for Fresh {
    fn default() -> Fresh {
        let nobody = (0, Ok(Revision::default()));
        Fresh {
            arrivals: AtomicU64::new(0),
            last: tokio::sync::Mutex::new(nobody),
        }
    }
}

impl Fresh {
    /// What `question` answers when it is asked after now.
    async fn ask<F: Future<Output = Result<Revision>>>(&self, question: impl FnOnce() -> F) -> Result<Revision> {
        let me = self.arrivals.fetch_add(1, Ordering::AcqRel);
        let mut last = self.last.lock().await;
        if last.0 <= me {
            let serves = self.arrivals.load(Ordering::Acquire);
            let answer = question().await;
            *last = (serves, answer);
        }
        last.1.clone()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Store for Etcd {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(Option<Entry>, Revision)>> {
        Box::pin(self.0.read(key))
    }

    fn range<'a>(
        &'a self,
        prefix: &'a str,
        start: &'a str,
        limit: usize,
        at: Option<Revision>,
    ) -> BoxFuture<'a, Result<Range>> {
        Box::pin(self.0.range(prefix, start, limit, at))
    }

    fn put<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expect: Expect,
        lifetime: Option<Duration>,
    ) -> BoxFuture<'a, Result<Revision>> {
        Box::pin(self.0.put(key, value, expect, lifetime))
    }

    fn delete<'a>(&'a self, key: &'a str, expect: Expect) -> BoxFuture<'a, Result<Revision>> {
        Box::pin(self.0.delete(key, expect))
    }

    fn watch<'a>(&'a self, prefix: &'a str, after: Revision) -> BoxFuture<'a, Result<Box<dyn Watch>>> {
        Box::pin(self.0.watch(prefix, after))
    }

    fn revision(&self) -> BoxFuture<'_, Result<Revision>> {
        Box::pin(self.0.revision())
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.0.compact(revision))
    }

    fn health(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { self.0.revision().await.map(drop) })
    }

    fn observer(&self) -> Option<&dyn StoreObserver> {
        self.0.observer.as_deref()
    }
}

impl std::fmt::Debug for Etcd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Etcd")
            .field("members", &self.0.members)
            .field("log", &self.0.log)
            .finish_non_exhaustive()
    }
}

/// Notices what nobody asks for: members that work again, a watch that has fallen silent, new certificates.
async fn upkeep(members: Arc<Members>, keys: Keys, log: Arc<Log>) {
    let question = keys.outer("/health");
    let probing = members.probe(|clients| {
        let question = question.clone();
        async move {
            clients
                .kv
                .clone()
                .get(question, Some(GetOptions::new().with_count_only()))
                .await
                .map(drop)
        }
    });
    let pulse = async {
        loop {
            tokio::time::sleep(PULSE).await;
            if let Ok(at) = current_revision(&members, &keys).await {
                log.expect(at.0);
            }
        }
    };
    let certificates = async {
        let Some(tls) = members.tls() else {
            return std::future::pending().await;
        };
        let mut stamp = tls.stamp();
        loop {
            tokio::time::sleep(CERTIFICATES).await;
            let now = tls.stamp();
            if now.is_none() || now == stamp {
                continue;
            }
            match members.reload().await {
                Ok(()) => {
                    tracing::info!("the certificates for etcd were read again");
                    stamp = now;
                }
                Err(error) => tracing::warn!(%error, "changed certificates for etcd cannot be used, the old ones stay"),
            }
        }
    };
    futures_util::future::join3(probing, pulse, certificates).await;
}

async fn get(members: &Members, key: Vec<u8>, options: Option<GetOptions>) -> Result<GetResponse, Unanswered> {
    let attempt = |clients: Arc<Clients>| {
        let (key, options) = (key.clone(), options.clone());
        async move { clients.kv.clone().get(key, options).await }
    };
    members.ask(Call::Read, attempt).await
}

/// The revision that a linearizable read finds, of the key that kube-apiserver asks for its health checks, too.
async fn current_revision(members: &Members, keys: &Keys) -> Result<Revision> {
    let options = GetOptions::new().with_count_only();
    let answer = get(members, keys.outer("/health"), Some(options))
        .await
        .map_err(plain)?;
    Ok(answer
        .header()
        .map(|header| revision(header.revision()))
        .unwrap_or_default())
}

/// The error of a call for which etcd's words mean nothing special.
fn plain(error: Unanswered) -> Error {
    match error {
        Unanswered::Error(error) => error,
        Unanswered::Told(failed) => Error::Unavailable(format!("etcd says {failed:?}")),
    }
}
