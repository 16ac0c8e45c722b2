//! Which of the built-in loops run, and what they are given.

use crate::config::Config;
use crate::routes::Routes;
use fairlead_api::Clock;
use fairlead_controllers::namespace::NoRemoteContent;
use fairlead_controllers::{Context, garbage, namespace};
use fairlead_resource::Client;
use fairlead_server::drain::Drain;
use fairlead_telemetry::task;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// Starts the loops that `--controllers` names.
pub fn start(config: &Config, client: &Client, routes: &Routes, drain: &Drain, clock: Arc<dyn Clock>) -> Vec<JoinHandle<()>> {
    let context = || Context {
        client: client.clone(),
        router: routes.router(),
        routes: routes.changes(),
        drain: drain.subscribe(),
    };
    let mut running = Vec::new();
    if config.runs("namespace") {
        running.push(task::spawn("namespace", namespace::run(context(), Arc::new(NoRemoteContent), clock)));
    }
    if config.runs("garbage-collector") {
        running.push(task::spawn("garbage-collector", garbage::run(context())));
    }
    running
}
