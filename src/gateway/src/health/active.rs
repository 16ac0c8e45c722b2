//! Active health checks: every endpoint is asked from time to time, whether or not there are requests.

use crate::backend::Backend;
use crate::endpoint::Endpoint;
use crate::fetch::Fetch;
use crate::policy::ActiveHealth;
use crate::pool::Pool;
use futures_util::future::join_all;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::time::sleep;

/// Whom backends see when they are asked.
const USER: &str = "system:kube-aggregator";

/// How an endpoint did of late.
#[derive(Clone, Copy, Default)]
struct Streak {
    good: u32,
    bad: u32,
}

/// Checks the endpoints of a backend for as long as its policy says so; until its task is aborted.
pub async fn run(backend: Arc<Backend>) {
    let mut configured = backend.configurations();
    let mut streaks: HashMap<String, Streak> = HashMap::new();
    loop {
        configured.borrow_and_update();
        let policy = backend.policy();
        let Some(active) = &policy.active else {
            restore_all(&backend);
            streaks.clear();
            if configured.changed().await.is_err() {
                return;
            }
            continue;
        };
        let endpoints = endpoints(&backend);
        let checks = endpoints.iter().map(|(pool, endpoint)| check(pool, endpoint, active));
        let outcomes = join_all(checks).await;
        streaks.retain(|name, _| endpoints.iter().any(|(_, e)| e.authority == *name));
        for ((_, endpoint), good) in endpoints.iter().zip(outcomes) {
            let streak = streaks.entry(endpoint.authority.clone()).or_default();
            *streak = streak.after(good);
            if streak.bad >= active.unhealthy_threshold && endpoint.health.set_down(true) {
                tracing::warn!(
                    backend = backend.name(),
                    endpoint = endpoint.authority,
                    "health checks fail"
                );
                endpoint.metrics.ejected();
            } else if streak.good >= active.healthy_threshold && endpoint.health.set_down(false) {
                tracing::info!(
                    backend = backend.name(),
                    endpoint = endpoint.authority,
                    "health checks succeed again"
                );
            }
        }
        tokio::select! {
            () = sleep(active.interval) => {}
            changed = configured.changed() => if changed.is_err() { return },
        }
    }
}

impl Streak {
    fn after(self, good: bool) -> Streak {
        match good {
            true => Streak {
                good: self.good.saturating_add(1),
                bad: 0,
            },
            false => Streak {
                good: 0,
                bad: self.bad.saturating_add(1),
            },
        }
    }
}

async fn check(pool: &Pool, endpoint: &Arc<Endpoint>, active: &ActiveHealth) -> bool {
    let fetch = Fetch {
        path: &active.path,
        accept: "*/*",
        etag: "",
        user: USER,
        limit: 1 << 20,
        timeout: active.timeout,
    };
    let fetched = fetch.get_from(pool, endpoint).await;
    fetched.is_ok_and(|f| f.status.is_success())
}

fn restore_all(backend: &Backend) {
    for (_, endpoint) in endpoints(backend) {
        endpoint.health.set_down(false);
    }
}

/// All endpoints there are now, each with its pool.
pub fn endpoints(backend: &Backend) -> Vec<(Arc<Pool>, Arc<Endpoint>)> {
    let policy = backend.policy();
    let mut endpoints = Vec::new();
    for route in backend.routes() {
        if let Ok(pool) = route.pool(&policy) {
            endpoints.extend(pool.endpoints().iter().map(|e| (pool.clone(), e.clone())));
        }
    }
    endpoints
}
