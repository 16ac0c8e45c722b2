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
    /// The first name there is no plugin of.
    pub fn new(cluster: Cluster, enable: &[String], disable: &[String]) -> Result<Chain, UnknownPlugin> {
        let known = |name: &&String| !plugins::is_known(name);
        if let Some(unknown) = enable.iter().chain(disable).find(known) {
            return Err(UnknownPlugin(unknown.clone()));
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

/// A flag names a plugin that does not exist.
#[derive(Debug, thiserror::Error)]
#[error("admission-control plugin {0:?} is unknown")]
pub struct UnknownPlugin(String);

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
