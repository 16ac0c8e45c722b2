//! [`Health`]: the named checks behind `/livez`, `/readyz` and `/healthz`.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};

/// The error says what is wrong; clients of the whole endpoint never see it, clients of the one check do.
pub type Outcome = Result<(), String>;
pub type Checking = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// Which endpoints a check belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// `/livez`, `/healthz` and `/readyz`.
    All,
    /// `/livez` and `/healthz`.
    Live,
    /// `/readyz`.
    Ready,
    /// `/readyz` and `/healthz`.
    Serving,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Livez,
    Readyz,
    Healthz,
}

/// The checks, in the order they were added. Cheap to clone.
#[derive(Clone, Default)]
pub struct Health(Arc<RwLock<Vec<Check>>>);

#[derive(Clone)]
struct Check {
    name: String,
    scope: Scope,
    run: Arc<dyn Fn() -> Checking + Send + Sync>,
}

/// A start-up step that fails its check until it is finished.
#[derive(Clone, Debug, Default)]
pub struct Hook(Arc<AtomicBool>);

/// What an endpoint answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub healthy: bool,
    /// One line a check, and the verdict. A healthy answer shows it only when asked to be verbose.
    pub text: String,
}

impl Health {
    /// Adds a check that asks somebody.
    pub fn check<F>(&self, name: impl Into<String>, scope: Scope, run: F)
    where
        F: Fn() -> Checking + Send + Sync + 'static,
    {
        let check = Check {
            name: name.into(),
            scope,
            run: Arc::new(run),
        };
        self.0.write().expect("no holder of this lock panics").push(check);
    }

    /// Adds a check that always passes.
    pub fn always(&self, name: &str, scope: Scope) {
        self.check(name, scope, || Box::pin(std::future::ready(Ok(()))));
    }

    /// Adds a check that passes once the hook is finished.
    pub fn hook(&self, name: &str, scope: Scope) -> Hook {
        let hook = Hook::default();
        let seen = hook.clone();
        self.check(name, scope, move || {
            let outcome = if seen.finished() {
                Ok(())
            } else {
                Err("not finished".to_owned())
            };
            Box::pin(std::future::ready(outcome))
        });
        hook
    }

    /// The checks of an endpoint, in order.
    pub fn names(&self, endpoint: Endpoint) -> Vec<String> {
        self.of(endpoint).into_iter().map(|check| check.name).collect()
    }

    /// Runs one check; `None` where the endpoint has no such check.
    pub async fn one(&self, endpoint: Endpoint, name: &str) -> Option<Outcome> {
        let check = self.of(endpoint).into_iter().find(|c| c.name == name)?;
        Some((check.run)().await)
    }

    /// Runs all checks of an endpoint but the excluded ones.
    pub async fn all(&self, endpoint: Endpoint, exclude: &[String]) -> Report {
        let mut text = String::new();
        let mut unknown: Vec<&str> = exclude.iter().map(String::as_str).collect();
        unknown.sort_unstable();
        unknown.dedup();
        let mut healthy = true;
        for check in self.of(endpoint) {
            if exclude.contains(&check.name) {
                unknown.retain(|name| *name != check.name);
                text.push_str(&format!("[+]{} excluded: ok\n", check.name));
                continue;
            }
            match (check.run)().await {
                Ok(()) => text.push_str(&format!("[+]{} ok\n", check.name)),
                Err(why) => {
                    tracing::debug!(check = check.name, why, "health check failed");
                    text.push_str(&format!("[-]{} failed: reason withheld\n", check.name));
                    healthy = false;
                }
            }
        }
        if !unknown.is_empty() {
            let quoted: Vec<String> = unknown.iter().map(|name| format!("\"{name}\"")).collect();
            text.push_str(&format!(
                "warn: some health checks cannot be excluded: no matches for {}\n",
                quoted.join(",")
            ));
        }
        let verdict = if healthy { "passed" } else { "failed" };
        text.push_str(&format!("{} check {verdict}\n", endpoint.name()));
        Report { healthy, text }
    }

    fn of(&self, endpoint: Endpoint) -> Vec<Check> {
        let checks = self.0.read().expect("no holder of this lock panics");
        checks.iter().filter(|c| c.scope.covers(endpoint)).cloned().collect()
    }
}

impl Hook {
    pub fn finish(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Makes the check fail again (a server that drains is not ready).
    pub fn reopen(&self) {
        self.0.store(false, Ordering::Release);
    }

    pub fn finished(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Scope {
    fn covers(self, endpoint: Endpoint) -> bool {
        match self {
            Scope::All => true,
            Scope::Live => endpoint != Endpoint::Readyz,
            Scope::Ready => endpoint == Endpoint::Readyz,
            Scope::Serving => endpoint != Endpoint::Livez,
        }
    }
}

impl Endpoint {
    pub const ALL: [Endpoint; 3] = [Endpoint::Livez, Endpoint::Readyz, Endpoint::Healthz];

    pub fn name(self) -> &'static str {
        match self {
            Endpoint::Livez => "livez",
            Endpoint::Readyz => "readyz",
            Endpoint::Healthz => "healthz",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_unfinished_hook_fails_and_an_excluded_one_does_not() {
        let health = Health::default();
        health.always("ping", Scope::All);
        health.always("loopback", Scope::Live);
        let hook = health.hook("poststarthook/rbac", Scope::All);
        let report = health.all(Endpoint::Readyz, &[]).await;
        assert_eq!(
            report.text,
            "[+]ping ok\n[-]poststarthook/rbac failed: reason withheld\nreadyz check failed\n"
        );
        assert!(!report.healthy);
        let excluded = ["poststarthook/rbac".to_owned(), "nope".to_owned()];
        let report = health.all(Endpoint::Livez, &excluded).await;
        assert_eq!(
            report.text,
            "[+]ping ok\n[+]loopback ok\n[+]poststarthook/rbac excluded: ok\n\
             warn: some health checks cannot be excluded: no matches for \"nope\"\nlivez check passed\n"
        );
        hook.finish();
        assert!(health.all(Endpoint::Readyz, &[]).await.healthy);
        assert_eq!(health.one(Endpoint::Readyz, "loopback").await, None);
    }
}
