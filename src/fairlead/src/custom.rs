//! Custom resources, put together: the lifecycle of definitions, and where it is told of writes.

use crate::admission::Late;
use crate::conversion::WebhookConverter;
use crate::routes::Routes;
use anyhow::{Result, anyhow};
use fairlead_api::{Clock, GroupVersionKind, Node};
use fairlead_builtin::Builtins;
use fairlead_crd::lifecycle::Lifecycle;
use fairlead_discovery::{Route, Router};
use fairlead_resource::definition::Converter;
use fairlead_resource::{Engine, ResourceDefinition};
use fairlead_schema::Schema;
use std::sync::{Arc, OnceLock};

/// The resource that custom definitions are objects of.
pub const GROUP: &str = "apiextensions.k8s.io";
pub const PLURAL: &str = "customresourcedefinitions";

/// The lifecycle, publishing to the routes once there are any.
pub fn lifecycle(routes: Arc<OnceLock<Routes>>, clock: Arc<dyn Clock>, late: Late) -> Arc<Lifecycle> {
    let publish = move |definitions: &[Arc<ResourceDefinition>]| {
        if let Some(routes) = routes.get() {
            routes.publish_custom(definitions);
        }
    };
    let converter = move |spec: &Node| -> Arc<dyn Converter> { Arc::new(WebhookConverter::new(spec, late.clone())) };
    let hash = |group: &str, version: &str, kind: &str| {
        fairlead_builtin::storage_version_hash(&GroupVersionKind::new(group, version, kind))
    };
    Lifecycle::new(Box::new(converter), Box::new(publish), hash, clock)
}

/// Serves the definitions that are stored.
///
/// # Errors
/// What the store says.
pub async fn start(lifecycle: &Lifecycle, router: &Router, engine: &Engine, builtins: &Builtins) -> Result<()> {
    let Some(Route::Local(resource)) = router.load().route(GROUP, "v1", PLURAL) else {
        return Ok(());
    };
    let scale = builtins
        .kind(&GroupVersionKind::new("autoscaling", "v1", "Scale"))
        .map(|root| Schema {
            types: builtins.types.clone(),
            root,
        });
    lifecycle
        .start(resource, scale, engine)
        .await
        .map_err(|status| anyhow!("custom resource definitions cannot be served: {status}"))
}
