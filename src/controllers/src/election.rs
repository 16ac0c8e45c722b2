//! [`run`]: of several servers over one store, one runs the loops. A Lease says which, as kube-controller-manager's does.
//!
//! Whoever leads renews the Lease; whoever does not leads once nobody has renewed it for its duration, measured by the
//! own monotonic clock from the moment the last renewal was seen, so that clocks that disagree do no harm. A leader
//! that cannot renew in time stops its loops before others may start theirs.
//!
//! kube-controller-manager runs the same loops and more. While one holds its own Lease, nobody leads here.
//!
//! Source of the protocol: kubernetes/client-go tools/leaderelection/leaderelection.go.

use crate::Context;
use fairlead_api::{Node, StatusResult, node};
use fairlead_resource::ResourceDefinition;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Which Lease, and how it is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Election {
    pub namespace: String,
    pub name: String,
    /// How long after its last renewal a Lease is anybody's.
    pub lease: Duration,
    /// How long a leader goes on trying to renew; shorter than `lease`.
    pub renew_deadline: Duration,
    /// Between two tries.
    pub retry: Duration,
}

/// The Lease of kube-controller-manager, unless its flags say otherwise.
const MANAGER: (&str, &str) = ("kube-system", "kube-controller-manager");
/// How long loops may take to end before they are ended.
const END: Duration = Duration::from_millis(500);

/// A Lease as it was last seen, and since when it has looked like that.
struct Seen {
    spec: Node,
    since: Instant,
}

struct Candidate {
    context: Context,
    election: Election,
    /// Different for every process.
    identity: String,
    own: Option<Seen>,
    manager: Option<Seen>,
}

/// Starts the loops whenever this server leads, and tells them to end when it does not. They end when their receiver
/// turns true.
pub async fn run<F>(context: Context, election: Election, identity: String, start: F)
where
    F: Fn(watch::Receiver<bool>) -> Vec<JoinHandle<()>> + Send + 'static,
{
    let mut candidate = Candidate {
        context,
        election,
        identity,
        own: None,
        manager: None,
    };
    loop {
        while !candidate.may_lead().await {
            if !candidate.pause().await {
                return;
            }
        }
        tracing::info!(
            lease = candidate.election.name,
            identity = candidate.identity,
            "leads: the loops start here"
        );
        let (end, ended) = watch::channel(false);
        let loops = start(ended);
        let goes_on = candidate.lead().await;
        end.send_replace(true);
        finish(loops).await;
        // Who let kube-controller-manager have its way still holds it.
        _ = tokio::time::timeout(END, candidate.release()).await;
        if !goes_on {
            return;
        }
        tracing::warn!(
            lease = candidate.election.name,
            "leads no more: the loops have ended here"
        );
    }
}

async fn finish(loops: Vec<JoinHandle<()>>) {
    let until = Instant::now() + END;
    for mut running in loops {
        if tokio::time::timeout_at(until, &mut running).await.is_err() {
            running.abort();
        }
    }
}

impl Candidate {
    /// Renews until that fails for too long or somebody else is to lead (true), or until the server stops (false).
    async fn lead(&mut self) -> bool {
        let mut renewed = Instant::now();
        loop {
            if !self.pause().await {
                return false;
            }
            let left = (renewed + self.election.renew_deadline).saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, self.may_lead()).await {
                Ok(true) => renewed = Instant::now(),
                // Another one has it: whoever that is does not wait.
                Ok(false) if self.is_anothers() => return true,
                Ok(false) if renewed.elapsed() < self.election.renew_deadline => {}
                _ => return true,
            }
        }
    }

    /// Takes the Lease, or renews it.
    async fn may_lead(&mut self) -> bool {
        let Some(leases) = self.context.built_in("coordination.k8s.io", "v1", "leases") else {
            return false;
        };
        match self.attempt(&leases).await {
            Ok(leads) => leads,
            Err(error) => {
                tracing::debug!(%error, "the Lease of the loops cannot be written");
                false
            }
        }
    }

    async fn attempt(&mut self, leases: &Arc<ResourceDefinition>) -> StatusResult<bool> {
        if (self.election.namespace.as_str(), self.election.name.as_str()) != MANAGER {
            let manager = self.read(leases, MANAGER.0, MANAGER.1).await?;
            let manager = manager.as_ref().and_then(|lease| lease.get("spec"));
            self.manager = seen(self.manager.take(), manager);
            if self.manager.as_ref().is_some_and(Seen::is_held) {
                return Ok(false);
            }
        }
        let (namespace, name) = (self.election.namespace.clone(), self.election.name.clone());
        let stored = self.read(leases, &namespace, &name).await?;
        let spec = stored.as_ref().and_then(|lease| lease.get("spec"));
        self.own = seen(self.own.take(), spec);
        let mine = spec.is_some_and(|spec| spec.str("holderIdentity") == self.identity);
        if !mine && self.own.as_ref().is_some_and(Seen::is_held) {
            return Ok(false);
        }
        let spec = self.spec(spec, mine);
        let client = &self.context.client;
        let written = match stored {
            None => {
                let lease = node!({
                    "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                    "metadata": {"name": name, "namespace": namespace.as_str()}, "spec": spec,
                });
                client.create(leases, &namespace, &lease).await?
            }
            Some(mut lease) => {
                lease.set("spec", spec);
                // Its resourceVersion is the one that was read: of several writers one succeeds.
                client.update(leases, &lease).await?
            }
        };
        self.own = seen(self.own.take(), written.get("spec"));
        Ok(true)
    }

    fn spec(&self, before: Option<&Node>, mine: bool) -> Node {
        let now = self.context.clock.now().rfc3339_micro();
        let transitions = before
            .and_then(|spec| spec.get("leaseTransitions"))
            .and_then(Node::as_i64);
        let acquired = before
            .map(|spec| spec.str("acquireTime"))
            .filter(|time| mine && !time.is_empty());
        let acquired = acquired.unwrap_or(&now).to_owned();
        node!({
            "holderIdentity": self.identity.as_str(),
            "leaseDurationSeconds": self.election.lease.as_secs(),
            "acquireTime": acquired,
            "renewTime": now,
            "leaseTransitions": transitions.map_or(0, |n| if mine { n } else { n + 1 }),
        })
    }

    /// Lets go of the Lease, so that the next one need not wait.
    async fn release(&mut self) {
        let Some(leases) = self.context.built_in("coordination.k8s.io", "v1", "leases") else {
            return;
        };
        let (namespace, name) = (&self.election.namespace, &self.election.name);
        let Ok(Some(mut lease)) = self.read(&leases, namespace, name).await else {
            return;
        };
        let Some(before) = lease
            .get("spec")
            .filter(|spec| spec.str("holderIdentity") == self.identity)
        else {
            return;
        };
        let now = self.context.clock.now().rfc3339_micro();
        let spec = node!({
            "holderIdentity": "", "leaseDurationSeconds": 1, "acquireTime": now, "renewTime": now,
            "leaseTransitions": before.get("leaseTransitions").cloned().unwrap_or_default(),
        });
        lease.set("spec", spec);
        if let Err(error) = self.context.client.update(&leases, &lease).await {
            tracing::debug!(%error, "the Lease of the loops was not let go of");
        }
    }

    fn is_anothers(&self) -> bool {
        let another = |seen: &Seen| seen.is_held() && seen.spec.str("holderIdentity") != self.identity;
        self.own.as_ref().is_some_and(another) || self.manager.as_ref().is_some_and(another)
    }

    async fn read(&self, leases: &Arc<ResourceDefinition>, namespace: &str, name: &str) -> StatusResult<Option<Node>> {
        match self.context.client.get(leases, namespace, name).await {
            Ok(lease) => Ok(Some(lease)),
            Err(status) if status.reason() == "NotFound" => Ok(None),
            Err(status) => Err(status),
        }
    }

    async fn pause(&mut self) -> bool {
        self.context.pause(self.election.retry).await
    }
}

impl Seen {
    /// Whether somebody holds it and has renewed it lately, as far as can be seen from here.
    fn is_held(&self) -> bool {
        let seconds = self
            .spec
            .get("leaseDurationSeconds")
            .and_then(Node::as_i64)
            .unwrap_or(0);
        let duration = Duration::from_secs(seconds.max(0).unsigned_abs());
        !self.spec.str("holderIdentity").is_empty() && self.since.elapsed() < duration
    }
}

fn seen(before: Option<Seen>, spec: Option<&Node>) -> Option<Seen> {
    let spec = spec?;
    match before {
        Some(before) if before.spec == *spec => Some(before),
        _ => Some(Seen {
            spec: spec.clone(),
            since: Instant::now(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str, renewed: &str) -> Node {
        node!({"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": renewed})
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_counts_from_when_it_was_last_seen_to_change() {
        let first = seen(None, Some(&lease("a", "1")));
        tokio::time::advance(Duration::from_secs(14)).await;
        let first = seen(first, Some(&lease("a", "1"))).unwrap();
        assert!(first.is_held());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!first.is_held(), "nobody has renewed it");
        let renewed = seen(Some(first), Some(&lease("a", "2"))).unwrap();
        assert!(renewed.is_held());
        assert!(
            !seen(None, Some(&lease("", "2"))).unwrap().is_held(),
            "it was let go of"
        );
        assert!(seen(Some(renewed), None).is_none());
    }
}
