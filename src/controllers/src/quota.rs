//! Resource quotas: what is used is counted, so that admission knows and users see it.
//!
//! Admission books what is created; this loop books what goes, what pods give back when they end, and puts right what
//! was booked in vain. Nothing is followed but what some quota limits.
//!
//! Source of behaviour: kubernetes/kubernetes pkg/controller/resourcequota.

use crate::events::{Event, Feed, SourceId, followed, stored};
use crate::{Context, RETRY};
use fairlead_admission::pod::{Amounts, add, amounts};
use fairlead_admission::quota::{Counting, scopes};
use fairlead_api::quantity::Quantity;
use fairlead_api::{Node, StatusResult};
use fairlead_resource::ResourceDefinition;
use fairlead_resource::client::{Cached, parse};
use fairlead_resource::request::{EventKind, WatchEvent};
use memchr::memmem;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Everything is counted again this often, whatever happens.
const RESYNC: Duration = Duration::from_secs(300);
/// After a create: admission has booked it already.
const CREATED: Duration = Duration::from_secs(1);

/// Runs until the drain.
pub async fn run(mut context: Context) {
    loop {
        if rounds(&mut context).await.is_some() || !context.pause(RETRY).await {
            return;
        }
    }
}

struct State {
    feed: Feed,
    sources: HashMap<SourceId, Counted>,
    /// By namespace, then name.
    quotas: BTreeMap<String, BTreeMap<String, Node>>,
    /// Namespaces to be counted, and when.
    due: BTreeMap<String, Instant>,
}

/// A resource that is counted.
struct Counted {
    counting: Counting,
    complete: bool,
}

/// `Some` at the drain, `None` when the watch of quotas broke off.
async fn rounds(context: &mut Context) -> Option<()> {
    let definition = context.built_in("", "v1", "resourcequotas")?;
    let mut stream = context.client.follow(&definition, "", "").await.ok()?;
    let (feed, mut events) = Feed::new(context.clone());
    let mut state = State {
        feed,
        sources: HashMap::new(),
        quotas: BTreeMap::new(),
        due: BTreeMap::new(),
    };
    let mut resync = Instant::now() + RESYNC;
    loop {
        let next = state.due.values().min().copied();
        let next = if state.quotas.is_empty() {
            next
        } else {
            Some(next.map_or(resync, |n| n.min(resync)))
        };
        tokio::select! {
            event = stream.next() => if let WatchEvent::Object { kind, object } = event? {
                state.quota(context, kind, &object);
            },
            event = events.recv() => state.change(event?),
            changed = context.routes.changed() => {
                changed.ok()?;
                state.follow(context);
            }
            () = sleep_until(next.unwrap_or(resync)), if next.is_some() => {
                if resync <= Instant::now() {
                    resync = Instant::now() + RESYNC;
                    state.all_due();
                }
                state.count(context, &definition).await;
            }
            _ = context.drain.changed() => return Some(()),
        }
    }
}

impl State {
    fn quota(&mut self, context: &Context, kind: EventKind, cached: &Cached) {
        let (namespace, name) = (cached.namespace().to_owned(), cached.name().to_owned());
        let quotas = self.quotas.entry(namespace.clone()).or_default();
        let before = quotas.remove(&name);
        let quota = if kind == EventKind::Deleted {
            None
        } else {
            parse(&cached.json.text()).ok()
        };
        let spec = |quota: &Option<Node>| quota.as_ref().and_then(|q| q.get("spec").cloned());
        let changed = spec(&before) != spec(&quota);
        if let Some(quota) = quota {
            let lacks = amounts(quota.at(&["spec", "hard"])) != amounts(quota.at(&["status", "hard"]));
            if before.is_none() || changed || lacks {
                self.due.insert(namespace.clone(), Instant::now());
            }
            quotas.insert(name, quota);
        }
        if quotas.is_empty() {
            self.quotas.remove(&namespace);
            self.due.remove(&namespace);
        }
        if changed {
            self.follow(context);
        }
    }

    /// Follows what some quota limits, and nothing else.
    fn follow(&mut self, context: &Context) {
        let limits: BTreeSet<String> = self
            .quotas
            .values()
            .flat_map(BTreeMap::values)
            .flat_map(|q| hard(q).into_keys())
            .collect();
        let mut wanted = HashMap::new();
        if !limits.is_empty() {
            wanted = countable(context);
            wanted.retain(|_, d| counting(d).is_some_and(|c| limits.iter().any(|name| c.matches(name))));
        }
        for (id, definition) in self.feed.follow(wanted) {
            if let Some(counting) = counting(&definition) {
                self.sources.insert(
                    id,
                    Counted {
                        counting,
                        complete: false,
                    },
                );
            }
        }
    }

    fn change(&mut self, event: Event) {
        match event {
            Event::Change {
                source,
                deleted,
                object,
            } => {
                let Some(source) = self.sources.get(&source).filter(|s| s.complete) else {
                    return;
                };
                if !self.quotas.contains_key(object.namespace()) {
                    return;
                }
                let when = match source.counting {
                    _ if deleted => Instant::now(),
                    Counting::Pods if gives_back(&object.json.text()) => Instant::now(),
                    _ => Instant::now() + CREATED,
                };
                let due = self.due.entry(object.namespace().to_owned()).or_insert(when);
                *due = when.min(*due);
            }
            Event::Complete(id) => {
                if let Some(source) = self.sources.get_mut(&id) {
                    source.complete = true;
                    self.all_due();
                }
            }
            Event::Broken(id) => {
                if let Some(source) = self.sources.get_mut(&id) {
                    source.complete = false;
                }
            }
            Event::Ended(id) => drop(self.sources.remove(&id)),
            Event::Flushed(..) | Event::RemoteChange { .. } => {}
        }
    }

    fn all_due(&mut self) {
        let now = Instant::now();
        for namespace in self.quotas.keys() {
            self.due.insert(namespace.clone(), now);
        }
    }

    /// Counts in the namespaces whose time has come.
    async fn count(&mut self, context: &Context, definition: &Arc<ResourceDefinition>) {
        let now = Instant::now();
        let due: Vec<String> = self
            .due
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(name, _)| name.clone())
            .collect();
        for namespace in due {
            self.due.remove(&namespace);
            let Some(quotas) = self.quotas.get(&namespace) else {
                continue;
            };
            let names: Vec<String> = quotas.keys().cloned().collect();
            if let Err(status) = count_namespace(context, definition, &namespace, &names).await {
                if status.code() != 409 {
                    tracing::warn!(namespace, %status, "quotas could not be counted");
                }
                let pause = if status.code() == 409 { Duration::ZERO } else { RETRY };
                self.due.insert(namespace, Instant::now() + pause);
            }
        }
    }
}

/// Writes what is used of the quotas of one namespace, where it differs from what they say.
async fn count_namespace(
    context: &Context,
    definition: &Arc<ResourceDefinition>,
    namespace: &str,
    names: &[String],
) -> StatusResult<()> {
    let client = &context.client;
    // Before the objects: what is booked meanwhile makes the write a conflict.
    let mut quotas = Vec::new();
    for name in names {
        match client.get(definition, namespace, name).await {
            Ok(quota) => quotas.push(quota),
            Err(status) if status.code() == 404 => {}
            Err(status) => return Err(status),
        }
    }
    let limits: HashSet<String> = quotas.iter().flat_map(|q| hard(q).into_keys()).collect();
    let mut objects = Vec::new();
    for definition in countable(context).into_values() {
        let Some(counting) = counting(&definition) else {
            continue;
        };
        if limits.iter().any(|name| counting.matches(name)) {
            objects.push((counting, client.list(&definition, namespace).await?));
        }
    }
    let mut result = Ok(());
    for quota in quotas {
        let Some(counted) = counted(&quota, &objects, context.clock.now()) else {
            continue;
        };
        match client.update_subresource(definition, "status", &counted).await {
            Err(status) if status.code() != 404 => result = Err(status),
            _ => {}
        }
    }
    result
}

/// The quota with what is used of it; `None` where it says so already.
fn counted(quota: &Node, objects: &[(Counting, Vec<Node>)], now: fairlead_api::Timestamp) -> Option<Node> {
    let hard = hard(quota);
    let mut used = amounts(quota.at(&["status", "used"]));
    used.retain(|name, _| hard.contains_key(name));
    let scopes = scopes(quota);
    for (counting, objects) in objects {
        let limited: Vec<&String> = hard.keys().filter(|name| counting.matches(name)).collect();
        if limited.is_empty() {
            continue;
        }
        let mut sum = Amounts::new();
        for object in objects
            .iter()
            .filter(|o| scopes.iter().all(|scope| counting.in_scope(scope, o)))
        {
            add(&mut sum, &counting.usage(object, now));
        }
        for name in limited {
            used.insert(name.clone(), sum.remove(name).unwrap_or(Quantity::ZERO));
        }
    }
    let status = quota.get("status");
    let of = |field: &str| status.and_then(|s| s.get(field));
    let said = of("hard").is_some() && of("used").is_some();
    if said && amounts(of("hard")) == hard && amounts(of("used")) == used {
        return None;
    }
    let mut counted = quota.clone();
    let mut status = Node::map();
    status.set("hard", quota.at(&["spec", "hard"]).cloned().unwrap_or_else(Node::map));
    status.set("used", Node::map());
    for (name, amount) in used {
        status.set_at(&["used", &name], amount.canonical());
    }
    counted.set("status", status);
    Some(counted)
}

fn hard(quota: &Node) -> Amounts {
    amounts(quota.at(&["spec", "hard"]))
}

fn counting(definition: &ResourceDefinition) -> Option<Counting> {
    Counting::of(&definition.group, &definition.plural)
}

fn countable(context: &Context) -> HashMap<String, Arc<ResourceDefinition>> {
    stored(context, |definition| definition.namespaced() && followed(definition))
}

/// Whether a pod has ended or is about to: it then no longer counts.
fn gives_back(json: &[u8]) -> bool {
    let signs: [&[u8]; 3] = [
        b"\"phase\":\"Succeeded\"",
        b"\"phase\":\"Failed\"",
        b"\"deletionTimestamp\"",
    ];
    signs.iter().any(|sign| memmem::find(json, sign).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::{Timestamp, node};

    fn pod(name: &str, cpu: &str, phase: &str) -> Node {
        node!({"metadata": {"name": name}, "status": {"phase": phase}, "spec": {"containers": [
            {"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
    }

    #[test]
    fn what_is_used_is_counted_and_told_once() {
        let quota = node!({"metadata": {"name": "q"}, "spec": {"hard": {
            "pods": "3", "requests.cpu": "2", "count/configmaps": "5", "services": "1", "count/widgets.example.com": "2"}}});
        let configmaps = Counting::of("", "configmaps").unwrap();
        let objects = [
            (
                Counting::Pods,
                vec![
                    pod("a", "500m", "Running"),
                    pod("b", "1", "Pending"),
                    pod("c", "1", "Succeeded"),
                ],
            ),
            (configmaps, vec![node!({}), node!({})]),
            (Counting::Services, vec![]),
        ];
        let now = Timestamp::from_unix_seconds(0);
        let told = counted(&quota, &objects, now).unwrap();
        let used = |name: &str| told.at(&["status", "used", name]).and_then(Node::as_str);
        assert_eq!(used("pods"), Some("2"));
        assert_eq!(used("requests.cpu"), Some("1500m"));
        assert_eq!(used("count/configmaps"), Some("2"));
        assert_eq!(used("services"), Some("0"));
        // Of a kind that is not known nothing is said.
        assert_eq!(used("count/widgets.example.com"), None);
        assert_eq!(told.at(&["status", "hard"]), quota.at(&["spec", "hard"]));
        assert_eq!(counted(&told, &objects, now), None);
    }

    #[test]
    fn scopes_leave_out_what_is_outside_them() {
        let quota = node!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "3"}, "scopes": ["BestEffort"]}});
        let best_effort = node!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c"}]}});
        let objects = [(Counting::Pods, vec![best_effort, pod("b", "1", "Running")])];
        let told = counted(&quota, &objects, Timestamp::from_unix_seconds(0)).unwrap();
        assert_eq!(told.str_at(&["status", "used", "pods"]), "1");
    }
}
