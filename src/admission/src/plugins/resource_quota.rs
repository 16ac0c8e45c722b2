//! ResourceQuota: a namespace uses no more than its quotas allow. What a write will use is booked before it is stored.
// PERFORMANCE: per-request path

use super::{Plugin, now};
use crate::pod::{Amounts, add, amounts};
use crate::quota::{Counting, scopes};
use crate::{Attributes, Cluster};
use fairlead_api::quantity::Quantity;
use fairlead_api::{Node, StatusResult};
use futures_util::future::BoxFuture;
use futures_util::lock::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

/// Writes to one namespace's quotas wait for each other here, instead of failing each other's bookings.
#[derive(Default)]
pub struct ResourceQuota {
    queues: std::sync::Mutex<HashMap<String, Arc<Mutex<()>>>>,
}

/// How often a booking is tried again when somebody else (a controller) wrote the quota in between.
const ATTEMPTS: usize = 10;

impl Plugin for ResourceQuota {
    fn validates(&self) -> bool {
        true
    }

    fn concerns(&self, attributes: &Attributes) -> bool {
        (attributes.creates() || attributes.updates())
            && !attributes.namespace.is_empty()
            && !(attributes.creates() && attributes.is("", "namespaces"))
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes, cluster: &'a Cluster) -> BoxFuture<'a, StatusResult<()>> {
        let quotas = cluster.lookup.list("", "resourcequotas", &attributes.namespace);
        if quotas.is_empty() {
            return now(Ok(()));
        }
        let counting = Counting::of(&attributes.resource.group, &attributes.resource.resource);
        let Some(counting) = counting.filter(|counting| counting.handles(attributes)) else {
            return now(Ok(()));
        };
        // Most writes change no quota: they need not wait for those that do.
        match bookings(attributes, cluster, &counting, &quotas) {
            Err(status) => now(Err(status)),
            Ok(bookings) if bookings.is_empty() || attributes.dry_run => now(Ok(())),
            Ok(_) => Box::pin(self.book(attributes, cluster, counting)),
        }
    }
}

impl ResourceQuota {
    async fn book(&self, attributes: &Attributes, cluster: &Cluster, counting: Counting) -> StatusResult<()> {
        let queue = self.queue(&attributes.namespace);
        let turn = queue.lock().await;
        let result = book(attributes, cluster, &counting).await;
        drop(turn);
        drop(queue);
        self.leave(&attributes.namespace);
        result
    }

    fn queue(&self, namespace: &str) -> Arc<Mutex<()>> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.entry(namespace.to_owned()).or_default().clone()
    }

    /// Forgets the queue of a namespace where nobody waits.
    fn leave(&self, namespace: &str) {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if queues.get(namespace).is_some_and(|queue| Arc::strong_count(queue) == 1) {
            queues.remove(namespace);
        }
    }
}

async fn book(attributes: &Attributes, cluster: &Cluster, counting: &Counting) -> StatusResult<()> {
    // Quotas that were booked stay booked when another's turn has to be repeated.
    let mut booked: Vec<String> = Vec::new();
    for attempt in 1..=ATTEMPTS {
        let quotas = cluster.lookup.list("", "resourcequotas", &attributes.namespace);
        let open: Vec<Arc<Node>> = quotas.into_iter().filter(|quota| !booked.iter().any(|n| n == quota.name())).collect();
        let mut conflict = None;
        for booking in bookings(attributes, cluster, counting, &open)? {
            let name = booking.name().to_owned();
            match cluster.writer.write_status(booking).await {
                Ok(()) => booked.push(name),
                Err(status) if status.reason() == "NotFound" => {}
                Err(status) if status.reason() == "Conflict" && attempt < ATTEMPTS => conflict = Some(status),
                Err(status) => return Err(status),
            }
        }
        if conflict.is_none() {
            return Ok(());
        }
    }
    Ok(())
}

/// The quotas a write changes, with what will be used then.
///
/// # Errors
/// Forbidden, where one of them does not allow it.
fn bookings(
    attributes: &Attributes,
    cluster: &Cluster,
    counting: &Counting,
    quotas: &[Arc<Node>],
) -> StatusResult<Vec<Node>> {
    let mut relevant = Vec::new();
    for quota in quotas {
        let hard = amounts(quota.at(&["status", "hard"]));
        let limited: Vec<&str> = hard.keys().map(String::as_str).filter(|name| counting.matches(name)).collect();
        if limited.is_empty() || !within_scopes(counting, quota, &attributes.object) {
            continue;
        }
        let name = quota.name();
        if let Err(why) = counting.require(&limited, &attributes.object) {
            return Err(attributes.forbidden(format_args!("failed quota: {name}: {why}")));
        }
        let used = amounts(quota.at(&["status", "used"]));
        if limited.iter().any(|name| !used.contains_key(*name)) {
            let limited = limited.join(",");
            return Err(attributes.forbidden(format_args!("status unknown for quota: {name}, resources: {limited}")));
        }
        relevant.push((quota, hard, used));
    }
    if relevant.is_empty() {
        return Ok(Vec::new());
    }
    let instant = cluster.clock.now();
    let usage = counting.usage(&attributes.object, instant);
    let negative: Vec<&str> = usage.iter().filter(|(_, amount)| amount.sign() < 0).map(|(name, _)| name.as_str()).collect();
    if !negative.is_empty() {
        let negative = negative.join(",");
        return Err(attributes.forbidden(format_args!("quota usage is negative for resource(s): {negative}")));
    }
    let old = Some(&*attributes.old_object).filter(|old| attributes.updates() && !old.resource_version().is_empty());
    let before = old.map(|old| counting.usage(old, instant));
    let mut bookings = Vec::new();
    for (quota, hard, used) in relevant {
        let was_counted = old.is_some_and(|old| within_scopes(counting, quota, old));
        let more = match &before {
            Some(before) if was_counted => increase(&usage, before),
            _ => usage.clone(),
        };
        let more: Amounts =
            more.into_iter().filter(|(name, amount)| !amount.is_zero() && hard.contains_key(name)).collect();
        if more.is_empty() {
            continue;
        }
        let sum = booked(attributes, quota, &hard, &used, &more)?;
        let mut quota = Node::clone(quota);
        for (name, amount) in &sum {
            quota.set_at(&["status", "used", name], amount.canonical());
        }
        bookings.push(quota);
    }
    Ok(bookings)
}

fn within_scopes(counting: &Counting, quota: &Node, object: &Node) -> bool {
    scopes(quota).iter().all(|scope| counting.in_scope(scope, object))
}

/// What is used more than before; never less than nothing.
fn increase(usage: &Amounts, before: &Amounts) -> Amounts {
    let more = |(name, amount): (&String, &Quantity)| {
        let more = before.get(name).map_or_else(|| amount.clone(), |before| amount.sub(before));
        (more.sign() > 0).then(|| (name.clone(), more))
    };
    usage.iter().filter_map(more).collect()
}

/// What is used of the changed resources with `more`.
fn booked(attributes: &Attributes, quota: &Node, hard: &Amounts, used: &Amounts, more: &Amounts) -> StatusResult<Amounts> {
    let mut sum: Amounts = used.iter().filter(|(name, _)| more.contains_key(*name)).map(|(n, a)| (n.clone(), a.clone())).collect();
    add(&mut sum, more);
    let exceeded: Vec<&str> =
        sum.iter().filter(|(name, amount)| hard.get(*name).is_some_and(|hard| *amount > hard)).map(|(n, _)| n.as_str()).collect();
    if exceeded.is_empty() || attributes.subresource == "status" {
        return Ok(sum);
    }
    let show = |from: &Amounts| {
        let one = |name: &&str| Some(format!("{name}={}", from.get(*name)?));
        exceeded.iter().filter_map(one).collect::<Vec<_>>().join(",")
    };
    let (name, requested, used, limited) = (quota.name(), show(more), show(used), show(hard));
    Err(attributes.forbidden(format_args!(
        "exceeded quota: {name}, requested: {requested}, used: {used}, limited: {limited}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fake, create, run};
    use fairlead_api::node;

    fn quota(status: Node) -> Fake {
        let mut quota = node!({"metadata": {"name": "q", "namespace": "ns"}});
        quota.set("status", status);
        Fake::default().with("resourcequotas", quota)
    }

    fn config_map() -> Attributes {
        create("configmaps", node!({"kind": "ConfigMap", "metadata": {"name": "c", "namespace": "ns"}}))
    }

    #[test]
    fn a_write_is_booked_until_nothing_is_left() {
        let objects = quota(node!({"hard": {"configmaps": "1"}, "used": {"configmaps": "0"}}));
        let plugin = ResourceQuota::default();
        let mut dry = config_map();
        dry.dry_run = true;
        assert_eq!(run(&plugin, &mut dry, &objects.cluster()), Ok(()));
        assert_eq!(run(&plugin, &mut config_map(), &objects.cluster()), Ok(()));
        let used = objects.object("resourcequotas", "ns", "q").unwrap();
        assert_eq!(used.str_at(&["status", "used", "configmaps"]), "1");
        assert_eq!(
            run(&plugin, &mut config_map(), &objects.cluster()).unwrap_err(),
            "configmaps \"c\" is forbidden: exceeded quota: q, requested: configmaps=1, used: configmaps=1, limited: configmaps=1"
        );
        assert!(plugin.queues.lock().unwrap().is_empty());
    }

    #[test]
    fn a_quota_that_was_never_counted_refuses() {
        let objects = quota(node!({"hard": {"count/configmaps": "1"}}));
        let why = run(&ResourceQuota::default(), &mut config_map(), &objects.cluster()).unwrap_err();
        assert!(why.ends_with("status unknown for quota: q, resources: count/configmaps"), "{why}");
    }
}
