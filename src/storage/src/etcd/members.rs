//! [`Members`]: the servers of one etcd cluster, and which of them is asked.
//!
//! Each member has a connection of its own. The first that works is asked (operators list the nearest first); one that
//! fails is left alone until a probe has been answered. tonic's balanced channel knows no health: it goes on asking the
//! dead (hyperium/tonic 2839).
// PERFORMANCE: per-request path

use crate::etcd::failure::Failed;
use crate::etcd::tls::Tls;
use crate::feed::lock;
use crate::store::{Error, Result};
use etcd_client::{Channel, Client, ConnectOptions, KvClient, LeaseClient, MaintenanceClient, WatchClient};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::transport::Endpoint;

/// How long a call may take where nobody else can be asked, and any write: etcd itself gives up after seven seconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a read may take where another member can be asked.
const READ_PATIENCE: Duration = Duration::from_secs(2);
/// For how long members are asked again and again when all fail: an election takes a second or two.
const GRACE: Duration = Duration::from_secs(3);
/// Between two rounds of asking everybody.
const ROUND: Duration = Duration::from_millis(100);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const CONNECT: Duration = Duration::from_secs(2);
/// etcd takes pings more often than every five seconds for an attack.
const PING: Duration = Duration::from_secs(10);
const PING_PATIENCE: Duration = Duration::from_secs(5);
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// etcd sends a revision in one piece, however large; tonic would take four megabytes.
const LONGEST_MESSAGE: usize = 512 << 20;

#[derive(Debug)]
pub(super) struct Members {
    all: Vec<Member>,
    tls: Option<Tls>,
}

pub(super) struct Member {
    url: String,
    clients: RwLock<Arc<Clients>>,
    down: Mutex<Option<Down>>,
}

/// The services of one member. To be cloned for a call.
pub(super) struct Clients {
    pub kv: KvClient,
    pub watch: WatchClient,
    pub lease: LeaseClient,
    pub maintenance: MaintenanceClient,
}

/// A member that has failed.
#[derive(Clone, Copy, Debug)]
struct Down {
    since: Instant,
    /// When it is probed, or asked where all are down.
    next: Instant,
    pause: Duration,
}

/// Whether a call may change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Read,
    Write,
}

/// Why a call has no answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// [`Failed::Compacted`], [`Failed::Future`], [`Failed::NoLease`], [`Failed::TooLong`]: the caller knows what to do.
    Told(Failed),
    Error(Error),
}

impl Members {
    /// Connections are made when they are needed. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: an address or a certificate makes no sense.
    pub async fn new(urls: &[String], tls: Option<Tls>) -> Result<Members> {
        let mut all = Vec::with_capacity(urls.len());
        for url in urls {
            all.push(Member {
                url: url.clone(),
                clients: RwLock::new(clients(url, tls.as_ref()).await?),
                down: Mutex::new(None),
            });
        }
        Ok(Members { all, tls })
    }

    /// Asks the members one after the other until one answers.
    pub async fn ask<T, F>(&self, call: Call, attempt: impl Fn(Arc<Clients>) -> F) -> Result<T, Unanswered>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let started = Instant::now();
        // Where nobody has answered for a while, one round tells as much as many.
        let hopeless = self.down_for().is_some_and(|time| time > GRACE);
        let mut tries = 0;
        loop {
            let member = self.pick();
            tries += 1;
            let patience = match call {
                Call::Read if self.all.len() > 1 => READ_PATIENCE,
                _ => PATIENCE,
            };
            let failed = match timeout(patience, attempt(member.clients())).await {
                Ok(Ok(answer)) => {
                    member.works();
                    return Ok(answer);
                }
                Ok(Err(error)) => Failed::of(&error),
                Err(_) => Failed::Unknown(format!("no answer within {patience:?}")),
            };
            let why = match failed {
                Failed::Refused(why) => return Err(Unanswered::Error(Error::Unavailable(why))),
                Failed::Unsent(why) => why,
                Failed::Unknown(why) if call == Call::Write => {
                    member.fails(&why);
                    return Err(Unanswered::Error(Error::Indeterminate(format!(
                        "etcd at {}: {why}",
                        member.url
                    ))));
                }
                Failed::Unknown(why) => why,
                told => return Err(Unanswered::Told(told)),
            };
            member.fails(&why);
            let round_is_over = tries % self.all.len() == 0;
            if round_is_over && (hopeless || started.elapsed() >= GRACE) {
                let error = format!("etcd at {} does not answer: {why}", self.names());
                return Err(Unanswered::Error(Error::Unavailable(error)));
            }
            if round_is_over {
                tokio::time::sleep(ROUND).await;
            }
        }
    }

    /// The member to ask next.
    pub fn pick(&self) -> &Member {
        let working = self.all.iter().find(|member| lock(&member.down).is_none());
        let next = || {
            let next = |member: &&Member| lock(&member.down).map(|down| down.next);
            self.all.iter().min_by_key(next)
        };
        working.or_else(next).expect("there is a member")
    }

    pub fn names(&self) -> String {
        let urls: Vec<&str> = self.all.iter().map(|member| &*member.url).collect();
        urls.join(", ")
    }

    /// For how long nobody has answered.
    fn down_for(&self) -> Option<Duration> {
        let mut least = Duration::MAX;
        for member in &self.all {
            least = least.min((*lock(&member.down))?.since.elapsed());
        }
        Some(least)
    }

    /// Asks members that have failed whether they work again, with `probe`. Runs until it is dropped.
    pub async fn probe<F>(&self, probe: impl Fn(Arc<Clients>) -> F)
    where
        F: Future<Output = Result<(), etcd_client::Error>>,
    {
        loop {
            let now = Instant::now();
            let due = |member: &&Member| lock(&member.down).is_some_and(|down| down.next <= now);
            let probes = self.all.iter().filter(due).map(async |member| {
                match timeout_at(now + READ_PATIENCE, probe(member.clients())).await {
                    Ok(Ok(())) => member.works(),
                    Ok(Err(error)) => member.fails(&error.to_string()),
                    Err(_) => member.fails("no answer to a probe"),
                }
            });
            futures_util::future::join_all(probes).await;
            tokio::time::sleep(FIRST_PAUSE).await;
        }
    }

    /// Connects anew with the certificates that the files hold now.
    ///
    /// # Errors
    /// Nothing has changed then.
    pub async fn reload(&self) -> Result<()> {
        let mut all = Vec::with_capacity(self.all.len());
        for member in &self.all {
            all.push(clients(&member.url, self.tls.as_ref()).await?);
        }
        for (member, clients) in self.all.iter().zip(all) {
            *member.clients.write().unwrap_or_else(PoisonError::into_inner) = clients;
        }
        Ok(())
    }

    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }
}

impl Member {
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn clients(&self) -> Arc<Clients> {
        self.clients.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn works(&self) {
        let mut down = lock(&self.down);
        if down.take().is_some() {
            tracing::info!(etcd = self.url, "etcd answers again");
        }
    }

    pub fn fails(&self, why: &str) {
        let mut down = lock(&self.down);
        let now = Instant::now();
        let (since, pause) = match &*down {
            Some(before) => (before.since, (before.pause * 2).min(LONGEST_PAUSE)),
            None => {
                tracing::warn!(etcd = self.url, why, "etcd does not answer");
                (now, FIRST_PAUSE)
            }
        };
        *down = Some(Down {
            since,
            next: now + pause,
            pause,
        });
    }
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let down = lock(&self.down).is_some();
        f.debug_struct("Member")
            .field("url", &self.url)
            .field("down", &down)
            .finish_non_exhaustive()
    }
}

/// Clients of one member alone.
pub(super) async fn clients(url: &str, tls: Option<&Tls>) -> Result<Arc<Clients>> {
    let bad = |error: &dyn std::fmt::Display| Error::Unavailable(format!("etcd at {url}: {error}"));
    // As etcd's own client: without a scheme, having certificates means to use them.
    let address = match url.contains("://") {
        true => url.to_owned(),
        false => format!("{}://{url}", if tls.is_some() { "https" } else { "http" }),
    };
    let mut endpoint = Endpoint::from_shared(address.clone())
        .map_err(|error| bad(&error))?
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PING_PATIENCE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    if address.starts_with("https://") {
        let settings = tls.cloned().unwrap_or_default().read().map_err(|error| bad(&error))?;
        endpoint = endpoint.tls_config(settings).map_err(|error| bad(&error))?;
    }
    let options = ConnectOptions::new().with_require_leader(true);
    let channel = Channel::Tonic(endpoint.connect_lazy());
    let client = Client::from_channel(channel, Some(options))
        .await
        .map_err(|error| bad(&error))?;
    Ok(Arc::new(Clients {
        kv: client.kv_client().max_decoding_message_size(LONGEST_MESSAGE),
        watch: client.watch_client().max_decoding_message_size(LONGEST_MESSAGE),
        lease: client.lease_client(),
        maintenance: client.maintenance_client(),
    }))
}
