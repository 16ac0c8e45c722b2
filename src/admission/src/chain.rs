//! [`Chain`]: the enabled plugins, in order.
// PERFORMANCE: per-request path

use crate::plugins::{self, Plugin};
use crate::{Admission, Attributes, Cluster};
use fairlead_api::StatusResult;
use futures_util::future::BoxFuture;

/// All plugins that are enabled. Immutable once made.
pub struct Chain {
    plugins: Vec<Box<dyn Plugin>>,
    cluster: Cluster,
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
            plugins: chosen.filter_map(|entry| Some((entry.make?)())).collect(),
            cluster,
        })
    }

    /// A chain of given plugins, for tests.
    pub fn of(cluster: Cluster, plugins: Vec<Box<dyn Plugin>>) -> Chain {
        Chain { plugins, cluster }
    }

    async fn mutate_once(&self, attributes: &mut Attributes) -> StatusResult<()> {
        for plugin in &self.plugins {
            if plugin.mutates() && plugin.concerns(attributes) {
                plugin.mutate(attributes, &self.cluster).await?;
            }
        }
        Ok(())
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
            self.mutate_once(attributes).await?;
            if attributes.reinvocation.wanted {
                attributes.reinvocation.second = true;
                self.mutate_once(attributes).await?;
            }
            Ok(())
        })
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes) -> BoxFuture<'a, StatusResult<()>> {
        Box::pin(async move {
            for plugin in &self.plugins {
                if plugin.validates() && plugin.concerns(attributes) {
                    plugin.validate(attributes, &self.cluster).await?;
                }
            }
            Ok(())
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
