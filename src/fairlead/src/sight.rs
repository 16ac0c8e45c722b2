//! What operators see of a server: which requests are traced and logged, its own pages, and counters of what is composed here.

use crate::flags::{FLAGS, Flags};
use crate::routes::Routes;
use anyhow::{Context, Result, ensure};
use fairlead_api::{Clock, UserInfo};
use fairlead_auth::authorization::ResolvedRules;
use fairlead_auth::{Authorizer, AuthzAttributes, Decision};
use fairlead_server::filters::observation::Sampling;
use fairlead_server::zpages::Pages;
use fairlead_telemetry::SystemClock;
use fairlead_telemetry::metrics::{Counters, Families};
use futures_util::future::BoxFuture;
use std::path::PathBuf;
use std::sync::Arc;

/// What the flags say about all this.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// The share of requests that are logged.
    pub access_log: f64,
    pub tracing_config: Option<PathBuf>,
    /// `/ui/`
    pub page: bool,
    /// Features that are switched off: `/statusz` and `/flagz` are features upstream.
    statusz: bool,
    flagz: bool,
    /// Every flag and its value.
    flags: Vec<(String, String)>,
}

impl Sight {
    /// # Errors
    /// A value is out of range.
    pub fn new(flags: &Flags) -> Result<Sight> {
        let access_log: f64 = flags.text("access-log-sample").parse().unwrap_or(0.0);
        ensure!(
            (0.0..=1.0).contains(&access_log),
            "--access-log-sample={access_log} must be a share from 0 to 1"
        );
        let gates = flags.list("feature-gates");
        let on = |name: &str| {
            let set = gates.iter().rev().filter_map(|gate| gate.split_once('='));
            let found = set
                .filter(|(key, _)| key.trim() == name)
                .find_map(|(_, v)| crate::flags::parse_bool(v.trim()));
            found.unwrap_or(true)
        };
        Ok(Sight {
            access_log,
            tracing_config: flags.some("tracing-config-file").map(PathBuf::from),
            page: flags.bool("ui"),
            statusz: on("ComponentStatusz"),
            flagz: on("ComponentFlagz"),
            flags: FLAGS
                .iter()
                .map(|flag| (flag.name.to_owned(), flags.text(flag.name).to_owned()))
                .collect(),
        })
    }

    /// # Errors
    /// The tracing configuration cannot be read.
    pub fn sampling(&self) -> Result<Sampling> {
        let traces_per_million = match &self.tracing_config {
            None => 0,
            Some(path) => {
                let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
                traces_per_million(&bytes).with_context(|| format!("--tracing-config-file={}", path.display()))?
            }
        };
        Ok(Sampling {
            traces_per_million,
            access_log: self.access_log,
        })
    }

    pub fn pages(&self) -> Pages {
        Pages {
            started: SystemClock.now(),
            statusz: self.statusz,
            flagz: self.flagz.then(|| self.flags.clone()),
            binary_version: crate::version::GIT_VERSION.trim_start_matches('v').to_owned(),
            emulated_version: format!("{}.{}", crate::version::MAJOR, crate::version::MINOR),
            language_version: crate::version::GO_VERSION.to_owned(),
        }
    }
}

/// The sampling rate of a `TracingConfiguration`. Its endpoint is checked and not used: no spans are exported.
fn traces_per_million(bytes: &[u8]) -> Result<u32> {
    let parsed = fairlead_codec::yaml::parse(bytes).map_err(|e| anyhow::anyhow!("{e}"))?;
    let version = parsed.str("apiVersion");
    let known = ["v1", "v1beta1", "v1alpha1"].map(|v| format!("apiserver.config.k8s.io/{v}"));
    ensure!(
        parsed.str("kind") == "TracingConfiguration" && known.iter().any(|k| k == version),
        "this is no TracingConfiguration of apiserver.config.k8s.io/v1"
    );
    for (field, _) in parsed.as_map().into_iter().flat_map(|map| map.iter()) {
        let field: &str = field;
        ensure!(
            matches!(field, "apiVersion" | "kind" | "endpoint" | "samplingRatePerMillion"),
            "unknown field {field:?}"
        );
    }
    if let Some((scheme, _)) = parsed.str("endpoint").split_once("://") {
        ensure!(
            matches!(scheme, "dns" | "unix" | "unix-abstract"),
            "endpoint: unsupported scheme: {scheme}"
        );
    }
    let rate = match parsed.get("samplingRatePerMillion").filter(|r| !r.is_null()) {
        None => 0,
        Some(rate) => rate
            .as_i64()
            .context("samplingRatePerMillion: must be a whole number")?,
    };
    ensure!(rate >= 0, "samplingRatePerMillion: sampling rate must be positive");
    ensure!(
        rate <= 1_000_000,
        "samplingRatePerMillion: sampling rate per million must be less than or equal to one million"
    );
    Ok(u32::try_from(rate)?)
}

/// Counts the final decisions of one authorizer.
pub struct Counted {
    inner: Arc<dyn Authorizer>,
    decisions: Counters,
    kind: &'static str,
    name: &'static str,
}

impl Counted {
    pub fn new(
        inner: Arc<dyn Authorizer>,
        kind: &'static str,
        name: &'static str,
        families: &Families,
    ) -> Arc<Counted> {
        let decisions = families.counters(
            "apiserver_authorization_decisions_total",
            "Final decisions by authorizer and decision.",
            &["type", "name", "decision"],
        );
        Arc::new(Counted {
            inner,
            decisions,
            kind,
            name,
        })
    }
}

impl Authorizer for Counted {
    fn authorize<'a>(&'a self, attributes: &'a AuthzAttributes) -> BoxFuture<'a, (Decision, String)> {
        Box::pin(async move {
            let decided = self.inner.authorize(attributes).await;
            match decided.0 {
                Decision::Allow => self.decisions.with(&[self.kind, self.name, "allowed"]).inc(),
                Decision::Deny => self.decisions.with(&[self.kind, self.name, "denied"]).inc(),
                Decision::NoOpinion => {}
            }
            decided
        })
    }

    fn rules_for<'a>(&'a self, user: &'a UserInfo, namespace: &'a str) -> BoxFuture<'a, ResolvedRules> {
        self.inner.rules_for(user, namespace)
    }
}

/// Counts how often all that is served was folded together anew.
pub fn count_aggregations(families: &Families, routes: &Routes) {
    let total = families
        .counters(
            "aggregator_discovery_aggregation_count_total",
            "How often discovery was put together.",
            &[],
        )
        .with(&[]);
    let changes = routes.changes();
    families.before_reading(move || total.inc_by(changes.borrow().saturating_sub(total.get())));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(arguments: &[&str]) -> Result<Sight> {
        Sight::new(&Flags::parse(arguments.iter().map(|a| (*a).to_owned())).unwrap())
    }

    #[test]
    fn pages_are_features() {
        let pages = sight(&[]).unwrap().pages();
        assert!(pages.statusz && pages.flagz.is_some());
        let pages = sight(&["--feature-gates=ComponentStatusz=false,ComponentFlagz=false"])
            .unwrap()
            .pages();
        assert!(!pages.statusz && pages.flagz.is_none());
        assert!(sight(&["--access-log-sample=2"]).is_err());
        assert!(sight(&["--access-log-sample=0.25"]).unwrap().access_log > 0.2);
    }

    #[test]
    fn tracing_is_configured_as_upstream() {
        let read = |rest: &str| {
            let text = format!("apiVersion: apiserver.config.k8s.io/v1\nkind: TracingConfiguration\n{rest}");
            traces_per_million(text.as_bytes()).map_err(|e| e.to_string())
        };
        assert_eq!(read(""), Ok(0));
        assert_eq!(read("samplingRatePerMillion: 100\nendpoint: localhost:4317"), Ok(100));
        for (rest, why) in [
            ("samplingRatePerMillion: -1", "must be positive"),
            ("samplingRatePerMillion: 1000001", "less than or equal to one million"),
            ("endpoint: https://x", "unsupported scheme"),
            ("colour: red", "unknown field"),
        ] {
            let error = read(rest).unwrap_err();
            assert!(error.contains(why), "{rest}: {error}");
        }
        assert!(traces_per_million(b"kind: Pod\napiVersion: v1").is_err());
    }

    #[test]
    fn decisions_are_counted_by_their_author() {
        let families = Families::default();
        let counted = Counted::new(
            Arc::new(fairlead_auth::authorization::union::AlwaysAllow),
            "AlwaysAllow",
            "alwaysallow",
            &families,
        );
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(counted.authorize(&AuthzAttributes::default()));
        assert_eq!(
            counted.decisions.with(&["AlwaysAllow", "alwaysallow", "allowed"]).get(),
            1
        );
    }
}
