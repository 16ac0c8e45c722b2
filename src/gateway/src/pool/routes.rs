//! The Services behind one backend: one, or several with shares of its requests.
// PERFORMANCE: per-request path

use crate::apiservice::ServiceReference;
use crate::backend::{LiveTargets, PoolError};
use crate::policy::{Live, Policy, Share};
use crate::pool::{Pool, mixed};
use crate::resolve::ResolveError;
use crate::tls::TlsSetupError;
use arc_swap::{ArcSwap, Guard};
use http::HeaderMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One Service and the pool of its endpoints.
pub struct Route {
    pub service: ServiceReference,
    targets: LiveTargets,
    /// Why no connection can even be tried, else the endpoints.
    pool: Result<Arc<Pool>, TlsSetupError>,
}

/// All Services of a backend, in the order of the policy. There is at least one.
pub struct Routes {
    live: Live,
    current: ArcSwap<Vec<Arc<Route>>>,
    picks: AtomicU64,
}

impl Route {
    pub fn new(service: ServiceReference, targets: LiveTargets, pool: Result<Arc<Pool>, TlsSetupError>) -> Route {
        Route { service, targets, pool }
    }

    /// The endpoints as they are now; resolves again only after a Service or EndpointSlice has changed.
    pub fn pool(&self, policy: &Policy) -> Result<&Arc<Pool>, PoolError> {
        let pool = self.pool.as_ref().map_err(|e| PoolError::Setup(e.clone()))?;
        if policy.addresses.is_empty() {
            self.targets.refresh(pool).map_err(PoolError::Resolve)?;
        } else {
            self.targets.replace(pool, &policy.addresses);
        }
        Ok(pool)
    }

    /// The pool with the endpoints it has, if any.
    pub fn known_pool(&self) -> Option<&Arc<Pool>> {
        self.pool.as_ref().ok()
    }
}

impl Routes {
    pub fn new(live: Live, routes: Vec<Arc<Route>>) -> Routes {
        Routes {
            live,
            current: ArcSwap::from_pointee(routes),
            picks: AtomicU64::new(0),
        }
    }

    pub fn all(&self) -> Guard<Arc<Vec<Arc<Route>>>> {
        self.current.load()
    }

    /// Those that stay keep their connections.
    pub fn replace(&self, routes: Vec<Arc<Route>>) {
        self.current.store(Arc::new(routes));
    }

    /// The pool for one request; another Service's where the chosen one leads nowhere.
    pub fn choose(&self, headers: &HeaderMap) -> Result<Arc<Pool>, PoolError> {
        let (routes, policy) = (self.current.load(), self.live.load());
        let spread = || mixed(self.picks.fetch_add(1, Ordering::Relaxed));
        first_that_leads(&routes, &policy, preferred(&policy.traffic, headers, spread))
    }

    /// A pool for what every Service can tell: that of the heaviest.
    pub fn any(&self) -> Result<Arc<Pool>, PoolError> {
        let (routes, policy) = (self.current.load(), self.live.load());
        let shares = policy.traffic.iter().enumerate();
        let heaviest = shares.max_by_key(|(i, s)| (s.weight, usize::MAX - i));
        first_that_leads(&routes, &policy, heaviest.map(|(_, share)| share))
    }
}

/// `preferred` is `None` where there are no shares. Routes are found by their Service: while a policy changes there may be
/// more of them than shares.
fn first_that_leads(routes: &[Arc<Route>], policy: &Policy, preferred: Option<&Share>) -> Result<Arc<Pool>, PoolError> {
    let of = |share: &Share| routes.iter().find(|r| r.service == share.service);
    let route = match preferred {
        Some(share) => of(share),
        None => routes.first(),
    };
    let first = match route.map(|r| r.pool(policy)) {
        Some(Ok(pool)) => return Ok(pool.clone()),
        Some(Err(error)) => error,
        None => PoolError::Resolve(ResolveError::NoEndpoints(String::new())),
    };
    let mut others = policy.traffic.iter().filter(|s| s.weight > 0).filter_map(of);
    let other = others.find_map(|route| route.pool(policy).ok().cloned());
    other.ok_or(first)
}

/// The first share that claims the request by its headers, else one by weight.
fn preferred<'a>(shares: &'a [Share], headers: &HeaderMap, spread: impl FnOnce() -> u64) -> Option<&'a Share> {
    if shares.is_empty() {
        return None;
    }
    if let Some(claiming) = shares.iter().find(|s| s.claims(headers)) {
        return Some(claiming);
    }
    let total: u64 = shares.iter().map(|s| u64::from(s.weight)).sum();
    let mut at = spread() % total.max(1);
    let by_weight = shares.iter().find(|share| {
        let weight = u64::from(share.weight);
        let chosen = at < weight;
        at = at.saturating_sub(weight);
        chosen
    });
    by_weight.or(shares.first())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::{HeaderName, HeaderValue};

    fn share(weight: u32, header: Option<&'static str>) -> Share {
        let value = HeaderValue::from_static("1");
        Share {
            service: ServiceReference {
                namespace: "n".into(),
                name: "s".into(),
                port: 443,
            },
            weight,
            headers: header
                .map(|h| (HeaderName::from_static(h), value))
                .into_iter()
                .collect(),
        }
    }

    fn request(header: Option<&'static str>) -> HeaderMap {
        let value = HeaderValue::from_static("1");
        header
            .map(|h| (HeaderName::from_static(h), value))
            .into_iter()
            .collect()
    }

    #[test]
    fn shares_follow_headers_and_weights() {
        let shares = [share(3, None), share(0, Some("x-canary")), share(1, None)];
        let index = |headers: &HeaderMap, spread: u64| {
            let chosen = preferred(&shares, headers, || spread).expect("there are shares");
            shares
                .iter()
                .position(|s| std::ptr::eq(s, chosen))
                .expect("it is one of them")
        };
        assert_eq!(index(&request(Some("x-canary")), 0), 1);
        let mut counts = [0; 3];
        for i in 0..4_000 {
            counts[index(&request(None), mixed(i))] += 1;
        }
        assert_eq!(counts[1], 0);
        assert!((900..1_100).contains(&counts[2]), "{counts:?}");
        assert!(preferred(&[], &request(None), || 0).is_none());
    }
}
