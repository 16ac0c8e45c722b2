//! Controllers that run inside the server, each a loop with one owner.
//!
//! - [`namespace`]: empties a namespace that is being deleted, then lets it go.
//! - [`garbage`]: deletes what has lost its owners, orphans what shall stay.
//! - [`events`]: follows every resource there is, as definitions come and go.

pub mod events;
pub mod garbage;
pub mod namespace;

use fairlead_discovery::Router;
use fairlead_resource::Client;
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
}
