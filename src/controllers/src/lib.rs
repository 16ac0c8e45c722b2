//! Controllers that run inside the server, each a loop with one owner.
//!
//! - [`namespace`]: empties a namespace that is being deleted, then lets it go.
//! - [`garbage`]: deletes what has lost its owners, orphans what shall stay.
//! - [`every_namespace`]: keeps the default service account and the root CA in every namespace.
//! - [`cluster_roles`]: gathers the rules of aggregating roles. [`quota`]: counts what quotas limit.
//! - [`flow_schemas`]: tells which of them lead nowhere.
//! - [`events`]: follows many resources as definitions come and go. [`remote`]: those of other API servers.
//! - [`election`]: which of several servers runs them.

pub mod cluster_roles;
pub mod election;
pub mod events;
pub mod every_namespace;
pub mod flow_schemas;
pub mod garbage;
pub mod namespace;
pub mod quota;
pub mod remote;

use fairlead_api::Clock;
use fairlead_discovery::{Route, Router};
use fairlead_resource::{Client, ResourceDefinition};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// What every loop is given.
#[derive(Clone)]
pub struct Context {
    pub client: Client,
    pub router: Router,
    /// Changes whenever the router's snapshot does.
    pub routes: watch::Receiver<u64>,
    /// Turns true when the server stops.
    pub drain: watch::Receiver<bool>,
    pub clock: Arc<dyn Clock>,
}

/// Between a write that failed, or a watch that broke off, and the next try.
const RETRY: Duration = Duration::from_secs(1);

impl Context {
    /// The definition of a resource that is built in.
    fn built_in(&self, group: &str, version: &str, plural: &str) -> Option<Arc<ResourceDefinition>> {
        match self.router.load().route(group, version, plural) {
            Some(Route::Local(definition)) => Some(definition),
            _ => None,
        }
    }

    /// Waits. False when the server stops.
    async fn pause(&mut self, pause: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(pause) => true,
            _ = self.drain.changed() => false,
        }
    }
}
