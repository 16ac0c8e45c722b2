//! [`Chain`]: the enabled plugins, in order.
// PERFORMANCE: per-request path

use crate::metrics::{Found, Step};
use crate::plugins::{self, Plugin};
use crate::{Admission, Attributes, Cluster, Operation};
use fairlead_api::StatusResult;
use futures_util::future::BoxFuture;
use std::time::Instant;

/// All plugins that are enabled. Immutable once made.
pub struct Chain {
    plugins: Vec<Link>,
    cluster: Cluster,
    steps: Found,
}

/// A plugin in its place.
struct Link {
    name: &'static str,
    plugin: Box<dyn Plugin>,
    measured: Found,
}

impl Chain {
    /// The default plugins, those in `enable`, and not those in `disable`.
    ///
    /// # Errors
    /// The first name there is no plugin of, or the first plugin that was asked for and that this server does not have.
    pub fn new(cluster: Cluster, enable: &[String], disable: &[String]) -> Result<Chain, PluginError> {
        let entry = |name: &str| plugins::ORDER.iter().find(|entry| entry.name == name);
        for name in enable.iter().chain(disable) {
            if entry(name).is_none() {
                return Err(PluginError::Unknown(name.clone()));
            }
        }
        for name in enable.iter().filter(|name| !disable.contains(name)) {
            let missing = entry(name).is_some_and(|entry| entry.make.is_none() && !entry.default_on);
            if missing && name != "AlwaysAdmit" {
                return Err(PluginError::Unsupported(name.clone()));
            }
        }
        let chosen = plugins::ORDER.iter().filter(|entry| {
            let enabled = entry.default_on || enable.iter().any(|name| name == entry.name);
            enabled && !disable.iter().any(|name| name == entry.name)
        });
        Ok(Chain {
            plugins: chosen
                .filter_map(|entry| Some(Link::new(entry.name, (entry.make?)())))
                .collect(),
            cluster,
            steps: Found::default(),
        })
    }

    /// A chain of given plugins, for tests.
    pub fn of(cluster: Cluster, plugins: Vec<Box<dyn Plugin>>) -> Chain {
        Chain {
            plugins: plugins.into_iter().map(|plugin| Link::new("test", plugin)).collect(),
            cluster,
            steps: Found::default(),
        }
    }

    async fn mutate_all(&self, attributes: &mut Attributes) -> StatusResult<()> {
        self.mutate_once(attributes).await?;
        if attributes.reinvocation.wanted {
            attributes.reinvocation.second = true;
            self.mutate_once(attributes).await?;
        }
        Ok(())
    }

    async fn mutate_once(&self, attributes: &mut Attributes) -> StatusResult<()> {
        for link in &self.plugins {
            if link.plugin.mutates() && link.plugin.concerns(attributes) {
                let (started, operation) = (Instant::now(), attributes.operation);
                let result = link.plugin.mutate(attributes, &self.cluster).await;
                self.measure(link, Step::Admit, operation, started, &result);
                result?;
            }
        }
        Ok(())
    }

    async fn validate_all(&self, attributes: &mut Attributes) -> StatusResult<()> {
        for link in &self.plugins {
            if link.plugin.validates() && link.plugin.concerns(attributes) {
                let (started, operation) = (Instant::now(), attributes.operation);
                let result = link.plugin.validate(attributes, &self.cluster).await;
                self.measure(link, Step::Validate, operation, started, &result);
                result?;
            }
        }
        Ok(())
    }

    fn measure(&self, link: &Link, step: Step, operation: Operation, started: Instant, result: &StatusResult<()>) {
        let plugin = (link.name, &link.measured);
        let metrics = &self.cluster.metrics;
        metrics.plugin(plugin, step, operation, result.is_err(), started.elapsed());
    }

    fn measure_all(&self, step: Step, operation: Operation, started: Instant, result: &StatusResult<()>) {
        let metrics = &self.cluster.metrics;
        metrics.step(&self.steps, step, operation, result.is_err(), started.elapsed());
    }
}

impl Link {
    fn new(name: &'static str, plugin: Box<dyn Plugin>) -> Link {
        Link {
            name,
            plugin,
            measured: Found::default(),
        }
    }
}

/// A flag names a plugin that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    #[error("admission-control plugin {0:?} is unknown")]
    Unknown(String),
    #[error("admission-control plugin {0:?} is not supported by this version")]
    Unsupported(String),
}

impl Admission for Chain {
    fn mutate<'a>(&'a self, attributes: &'a mut Attributes) -> BoxFuture<'a, StatusResult<()>> {
        Box::pin(async move {
            let (started, operation) = (Instant::now(), attributes.operation);
            let result = self.mutate_all(attributes).await;
            self.measure_all(Step::Admit, operation, started, &result);
            result
        })
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes) -> BoxFuture<'a, StatusResult<()>> {
        Box::pin(async move {
            let (started, operation) = (Instant::now(), attributes.operation);
            let result = self.validate_all(attributes).await;
            self.measure_all(Step::Validate, operation, started, &result);
            result
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fake;

    #[test]
    fn plugins_that_cannot_be_used_are_told() {
        let chain = |enable: &[&str]| {
            let enable: Vec<String> = enable.iter().map(|name| (*name).to_owned()).collect();
            Chain::new(Fake::default().cluster(), &enable, &[]).map(|chain| chain.plugins.len())
        };
        let default = chain(&[]).unwrap();
        assert_eq!(chain(&["NodeRestriction"]).unwrap(), default + 1);
        assert_eq!(chain(&["AlwaysAdmit"]).unwrap(), default);
        let why = |enable: &str| chain(&[enable]).unwrap_err().to_string();
        assert_eq!(why("Nope"), "admission-control plugin \"Nope\" is unknown");
        assert_eq!(
            why("AlwaysDeny"),
            "admission-control plugin \"AlwaysDeny\" is not supported by this version"
        );
    }
}
