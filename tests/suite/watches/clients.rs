//! Writers, readers and watchers over HTTP that write down what they did and saw. They write service accounts, since the
//! answer to their deletion tells its version.

use anyhow::{Context, Result, bail, ensure};
use fairlead_bench::client::{Call, Connection, Target};
use fairlead_histories::{
    Change, Expect, FOREVER, Held, History, Moments, Operation, Outcome, Scope, Seen, Snapshot, Watched,
};
use fairlead_tests::server::TOKEN;
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

/// The object that is written last, and that every watcher sees.
const LAST: (&str, &str) = ("default", "w0-0");
/// How long a client waits for a server that does not answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// How somebody watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    Steady,
    /// Rests now and then.
    Slow,
    /// Ends its watches soon and resumes where it was.
    Hopping,
    /// Asks for initial events each time.
    Initial,
    Namespace,
    Object,
}

/// What all clients share.
pub struct World {
    addresses: Vec<RwLock<String>>,
    moments: Moments,
    values: AtomicU64,
    acknowledged: AtomicU64,
    /// The version of the last write, once it is known.
    goal: AtomicU64,
    history: Mutex<History>,
}

impl Habit {
    pub const ALL: [Habit; 6] = [
        Habit::Steady,
        Habit::Slow,
        Habit::Hopping,
        Habit::Initial,
        Habit::Namespace,
        Habit::Object,
    ];

    fn scope(self) -> Scope {
        match self {
            Habit::Namespace => Scope::Prefix(format!("/{}/", LAST.0).into()),
            Habit::Object => Scope::Key(format!("/{}/{}", LAST.0, LAST.1).into()),
            _ => Scope::Prefix("/".into()),
        }
    }

    fn path(self, after: u64) -> String {
        let (collection, more) = match self {
            Habit::Namespace => (format!("/api/v1/namespaces/{}/serviceaccounts", LAST.0), String::new()),
            Habit::Object => (
                format!("/api/v1/namespaces/{}/serviceaccounts", LAST.0),
                format!("&fieldSelector=metadata.name%3D{}", LAST.1),
            ),
            Habit::Initial => (
                "/api/v1/serviceaccounts".to_owned(),
                "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan".to_owned(),
            ),
            _ => ("/api/v1/serviceaccounts".to_owned(), String::new()),
        };
        let version = if self == Habit::Initial {
            String::new()
        } else {
            format!("&resourceVersion={after}")
        };
        format!("{collection}?watch=1&allowWatchBookmarks=true{version}{more}")
    }
}

impl World {
    pub fn new(addresses: &[&str]) -> Arc<World> {
        Arc::new(World {
            addresses: addresses
                .iter()
                .map(|address| RwLock::new((*address).to_owned()))
                .collect(),
            moments: Moments::default(),
            values: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            goal: AtomicU64::new(u64::MAX),
            history: Mutex::default(),
        })
    }

    /// Learns where the history begins.
    pub async fn begin(&self) -> Result<()> {
        let list = self.call(0, &Call::get("/api/v1/serviceaccounts")).await?;
        self.record(|history| history.base = version(&list.1).unwrap_or(0));
        ensure!(self.record(|history| history.base) > 0, "a list has no version");
        Ok(())
    }

    /// The server was started again elsewhere.
    pub fn moved(&self, server: usize, address: &str) {
        let mut current = self.addresses[server].write().unwrap_or_else(PoisonError::into_inner);
        address.clone_into(&mut current);
    }

    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Writes the last object; watchers end once they have seen it.
    pub async fn finish(&self) -> Result<()> {
        let mut known = HashMap::new();
        loop {
            self.look(0, LAST, &mut known).await?;
            if let Some(goal) = self.write_one(0, LAST, &mut known, false).await? {
                self.list(0, "").await?;
                self.goal.store(goal, Ordering::SeqCst);
                return Ok(());
            }
        }
    }

    /// Everything that was recorded. The log is what was acknowledged, and the writes nobody confirmed but somebody saw.
    pub fn history(&self) -> History {
        let mut history = self.record(std::mem::take);
        let mut log: BTreeMap<u64, Change> = BTreeMap::new();
        for operation in &history.operations {
            if let Outcome::Written { revision } = operation.outcome {
                let value = match &operation.call {
                    fairlead_histories::Call::Put { value, .. } => Some(value.clone()),
                    _ => None,
                };
                let key = operation.key.clone();
                log.insert(revision, Change { revision, key, value });
            }
        }
        let seen = history.watches.iter().flat_map(|watched| &watched.seen);
        for (_, seen) in seen {
            if let Seen::Change(change) = seen {
                log.entry(change.revision).or_insert_with(|| change.clone());
            }
        }
        for held in history.snapshots.iter().flat_map(|snapshot| &snapshot.held) {
            log.entry(held.modified).or_insert_with(|| Change {
                revision: held.modified,
                key: held.key.clone(),
                value: Some(held.value.clone()),
            });
        }
        history.log = log.into_values().collect();
        history
    }

    fn record<T>(&self, with: impl FnOnce(&mut History) -> T) -> T {
        with(&mut self.history.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn connect(&self, server: usize) -> Result<Connection> {
        let address = self.addresses[server]
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Target::new(&address, Some(TOKEN.into()), None, false)?.connect().await
    }

    /// One call over a connection of its own. An error means that nobody knows what came of it.
    async fn call(&self, server: usize, call: &Call) -> Result<(u16, Value)> {
        let response = self.connect(server).await?.open(call).await?;
        let code = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((code, serde_json::from_slice(&body)?))
    }

    /// The same until it is answered: for reads.
    async fn ask(&self, server: usize, call: &Call) -> Result<(u16, Value)> {
        let asking = async {
            loop {
                match self.call(server, call).await {
                    Ok((code, value)) if code < 500 && code != 429 => return (code, value),
                    _ => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, asking)
            .await
            .with_context(|| format!("{} is not answered", call.path))
    }
}

// === writers ===

/// The versions a writer knows of its objects; `None`: the object is not there.
type Known = HashMap<(&'static str, String), Option<u64>>;

impl World {
    /// Writes objects that nobody else writes.
    pub async fn write(self: Arc<World>, server: usize, writer: u64, count: u64) -> Result<()> {
        let mut known = HashMap::new();
        for n in 0..count {
            let namespace = ["default", "kube-system"][(n % 2) as usize];
            let name = format!("w{writer}-{}", n % 3);
            let object = (namespace, name.as_str());
            if !known.contains_key(&(namespace, name.clone())) {
                self.look(server, object, &mut known).await?;
            }
            self.write_one(server, object, &mut known, n % 7 == 6).await?;
        }
        Ok(())
    }

    async fn look(&self, server: usize, object: (&'static str, &str), known: &mut Known) -> Result<()> {
        let path = format!("/api/v1/namespaces/{}/serviceaccounts/{}", object.0, object.1);
        let there = match self.ask(server, &Call::get(&path)).await? {
            (200, found) => Some(version(&found).context("an object has no version")?),
            (404, _) => None,
            (code, answer) => bail!("{path} is answered {code}: {answer}"),
        };
        known.insert((object.0, object.1.to_owned()), there);
        Ok(())
    }

    /// Creates, updates or deletes an object, as what is known of it allows. Answers the version where it is told.
    async fn write_one(
        &self,
        server: usize,
        object: (&'static str, &str),
        known: &mut Known,
        delete: bool,
    ) -> Result<Option<u64>> {
        let (namespace, name) = object;
        let at = known.remove(&(namespace, name.to_owned())).flatten();
        let value = format!("v{}", self.values.fetch_add(1, Ordering::SeqCst));
        let collection = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        let mut body = json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": namespace, "annotations": {"value": value}},
        });
        let expect = at.map_or(Expect::Absent, Expect::Unchanged);
        let put = fairlead_histories::Call::Put {
            value: value.as_str().into(),
            expect,
        };
        let (method, path, call) = match at {
            None => (Method::POST, collection, put),
            Some(at) if delete => {
                body = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"resourceVersion": at.to_string()}});
                (
                    Method::DELETE,
                    format!("{collection}/{name}"),
                    fairlead_histories::Call::Delete { expect },
                )
            }
            Some(at) => {
                body["metadata"]["resourceVersion"] = at.to_string().into();
                (Method::PUT, format!("{collection}/{name}"), put)
            }
        };
        let deleted = method == Method::DELETE;
        let request = Call::send(method, path, "application/json", body.to_string());
        let invoked = self.moments.now();
        let answer = tokio::time::timeout(PATIENCE, self.call(server, &request))
            .await
            .context("no answer")?;
        let outcome = match answer {
            Ok((200 | 201, made)) => match version(&made) {
                Some(revision) => Outcome::Written { revision },
                None => Outcome::Unknown,
            },
            Ok((404 | 409 | 429, _)) => Outcome::Refused,
            Ok((500.., _)) | Err(_) => Outcome::Unknown,
            Ok((code, answer)) => bail!("a write is answered {code}: {answer}"),
        };
        let written = match outcome {
            Outcome::Written { revision } => Some(revision),
            _ => None,
        };
        if let Some(revision) = written {
            known.insert((namespace, name.to_owned()), Some(revision).filter(|_| !deleted));
            self.acknowledged.fetch_add(1, Ordering::SeqCst);
        } else {
            // The server may be away.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let returned = if outcome == Outcome::Unknown {
            FOREVER
        } else {
            self.moments.now()
        };
        let operation = Operation {
            key: format!("/{namespace}/{name}").into(),
            call,
            outcome,
            invoked,
            returned,
        };
        self.record(|history| history.operations.push(operation));
        Ok(written)
    }
}

// === readers ===

impl World {
    /// Lists again and again, in one piece, in pages, and from a cache.
    pub async fn read(self: Arc<World>, server: usize) -> Result<()> {
        loop {
            for query in ["", "limit=4", "resourceVersion=0"] {
                self.list(server, query).await?;
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
        }
    }

    /// A list of everything. Answers its version; 0 where its pages could not be had to the end.
    async fn list(&self, server: usize, query: &str) -> Result<u64> {
        let invoked = self.moments.now();
        let mut held = Vec::new();
        let mut next = String::new();
        let revision = loop {
            let path = format!("/api/v1/serviceaccounts?{query}{next}");
            let (code, list) = self.ask(server, &Call::get(&path)).await?;
            if code == 410 && !next.is_empty() {
                return Ok(0);
            }
            ensure!(code == 200, "{path} is answered {code}: {list}");
            held.extend(list["items"].as_array().into_iter().flatten().filter_map(object));
            match list["metadata"]["continue"].as_str() {
                Some(token) if !token.is_empty() => next = format!("&continue={token}"),
                _ => break version(&list).context("a list has no version")?,
            }
        };
        self.listed(held, revision, !query.contains("resourceVersion"), invoked);
        Ok(revision)
    }

    fn listed(&self, held: Vec<Held>, revision: u64, fresh: bool, invoked: u64) {
        let snapshot = Snapshot {
            prefix: "/".into(),
            start: "".into(),
            held,
            more: false,
            revision,
            fresh,
            invoked,
            returned: self.moments.now(),
        };
        self.record(|history| history.snapshots.push(snapshot));
    }
}

// === watchers ===

/// Why a watch has ended.
enum End {
    /// It can be resumed.
    Broken,
    /// It cannot.
    Gone,
    Over,
}

impl World {
    pub async fn watch(self: Arc<World>, server: usize, habit: Habit) -> Result<()> {
        let mut after = self.record(|history| history.base);
        loop {
            let mut watched = Watched {
                scope: habit.scope(),
                after,
                seen: Vec::new(),
            };
            let end = self.watch_once(server, habit, &mut watched).await?;
            after = watched.seen.last().map_or(watched.after, |(_, seen)| match seen {
                Seen::Change(change) => change.revision,
                Seen::Progress(revision) => *revision,
            });
            self.record(|history| history.watches.push(watched));
            match end {
                End::Over => return Ok(()),
                End::Broken => tokio::time::sleep(Duration::from_millis(5)).await,
                End::Gone => {
                    let listed = self.list(server, "").await?;
                    after = after.max(listed);
                    if listed >= self.goal.load(Ordering::SeqCst) {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn watch_once(&self, server: usize, habit: Habit, watched: &mut Watched) -> Result<End> {
        let invoked = self.moments.now();
        let call = Call::get(habit.path(watched.after));
        let Ok(mut connection) = self.connect(server).await else {
            return Ok(End::Broken);
        };
        let Ok(response) = connection.open(&call).await else {
            return Ok(End::Broken);
        };
        match response.status().as_u16() {
            200 => {}
            410 => return Ok(End::Gone),
            500.. | 429 => return Ok(End::Broken),
            code => bail!("{} is answered {code}", call.path),
        }
        let mut body = response.into_body();
        let mut pending: Vec<u8> = Vec::new();
        // Of who asked for them, until they have ended.
        let mut initial = (habit == Habit::Initial).then(Vec::new);
        loop {
            let Some(Ok(frame)) = body.frame().await else {
                return Ok(End::Broken);
            };
            let Ok(data) = frame.into_data() else { continue };
            pending.extend_from_slice(&data);
            let whole = pending.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let lines: Vec<u8> = pending.drain(..whole).collect();
            for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let event: Value = serde_json::from_slice(line).context("a watch delivers no JSON")?;
                let (kind, there) = (event["type"].as_str().unwrap_or_default(), &event["object"]);
                if kind == "ERROR" {
                    return Ok(if there["code"] == 410 { End::Gone } else { End::Broken });
                }
                let revision = version(there).context("an event has no version")?;
                if let Some(held) = &mut initial {
                    if kind == "ADDED" {
                        held.extend(object(there));
                        continue;
                    }
                    let ends = &there["metadata"]["annotations"]["k8s.io/initial-events-end"];
                    ensure!(kind == "BOOKMARK" && ends == "true", "{event} among initial events");
                    let mut held = initial.take().unwrap_or_default();
                    held.sort_by(|a: &Held, b| a.key.cmp(&b.key));
                    self.listed(held, revision, true, invoked);
                    watched.after = revision;
                } else if let Some(seen) = seen(kind, there, revision)? {
                    watched.seen.push((self.moments.now(), seen));
                }
                if revision >= self.goal.load(Ordering::SeqCst) {
                    return Ok(End::Over);
                }
                if habit == Habit::Slow && watched.seen.len() % 30 == 29 {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                let seen = watched.seen.len();
                if (habit == Habit::Hopping && seen >= 12) || (habit == Habit::Initial && seen >= 40) {
                    return Ok(End::Broken);
                }
            }
        }
    }
}

// === what is written down ===

fn version(object: &Value) -> Option<u64> {
    object["metadata"]["resourceVersion"].as_str()?.parse().ok()
}

/// One of ours.
fn object(object: &Value) -> Option<Held> {
    let metadata = &object["metadata"];
    let (namespace, name) = (metadata["namespace"].as_str()?, metadata["name"].as_str()?);
    Some(Held {
        key: format!("/{namespace}/{name}").into(),
        value: metadata["annotations"]["value"].as_str()?.into(),
        modified: version(object)?,
        created: None,
    })
}

fn seen(kind: &str, there: &Value, revision: u64) -> Result<Option<Seen>> {
    if kind == "BOOKMARK" {
        return Ok(Some(Seen::Progress(revision)));
    }
    let Some(held) = object(there) else { return Ok(None) };
    let value = match kind {
        "ADDED" | "MODIFIED" => Some(held.value),
        "DELETED" => None,
        kind => bail!("an event of type {kind}"),
    };
    Ok(Some(Seen::Change(Change {
        revision,
        key: held.key,
        value,
    })))
}
