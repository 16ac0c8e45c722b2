//! The admission chain over this server's caches, authorizer and engine.
// PERFORMANCE: per-request path

use crate::caches::CacheSet;
use crate::config::Config;
use crate::entropy::RandomEntropy;
use crate::objects::key;
use anyhow::{Context, Result};
use dashmap::DashMap;
use fairlead_admission::cluster::{
    Action, Known, NoAnswer, Permissions, Question, QuotaWriter, Ruling, Served, Settings, Target, Versions,
    WebhookClient,
};
use fairlead_admission::metrics::Metrics;
use fairlead_admission::{Chain, Cluster, Lookup};
use fairlead_api::selector::{FieldSelector, LabelSelector};
use fairlead_api::{Clock, GroupVersionKind, GroupVersionResource, Node, Status, StatusResult, UserInfo, json};
use fairlead_auth::{Authorizer, AuthzAttributes, Decision};
use fairlead_discovery::{Route, Router};
use fairlead_gateway::{WebhookClient as _, Webhooks};
use fairlead_resource::hooks::Entropy;
use fairlead_resource::{Client, ResourceDefinition, Subresource, SubresourceBehavior, versions};
use fairlead_storage::{Cached, Revision};
use fairlead_telemetry::Families;
use futures_util::future::BoxFuture;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What plugins use and what is made with the plugins: filled in once there is an engine and a gateway.
pub type Late = Arc<OnceLock<Outside>>;

/// The parts of the server that plugins reach beyond the caches.
pub struct Outside {
    pub client: Client,
    pub router: Router,
    pub webhooks: Webhooks,
}

/// # Errors
/// A flag names a plugin that does not exist.
pub fn chain(
    config: &Config,
    caches: CacheSet,
    authorizer: Arc<dyn Authorizer>,
    clock: Arc<dyn Clock>,
    families: &Families,
    late: Late,
) -> Result<Chain> {
    let (not_ready_seconds, unreachable_seconds) = config.tolerations;
    let cluster = Cluster {
        lookup: Arc::new(CacheLookup {
            caches,
            parsed: DashMap::new(),
        }),
        writer: Arc::new(EngineWriter(late.clone())),
        permissions: Arc::new(AuthorizerPermissions(authorizer)),
        webhooks: Arc::new(GatewayWebhooks(late.clone())),
        versions: Arc::new(RoutedVersions(late)),
        conditions: Default::default(),
        clock,
        random: Arc::new(|| RandomEntropy.bits()),
        settings: Settings {
            not_ready_seconds,
            unreachable_seconds,
        },
        metrics: Metrics::register(families),
    };
    let plugins = &config.admission;
    Chain::new(cluster, &plugins.enable, &plugins.disable)
        .context("--enable-admission-plugins, --disable-admission-plugins")
}

/// Objects out of the watch caches. What has been parsed is kept, up to a bound, for as long as it is current.
struct CacheLookup {
    caches: CacheSet,
    /// By revision, which is one object's; the key tells for certain.
    parsed: DashMap<Revision, (Arc<str>, Arc<Node>)>,
}

/// How many parsed objects are kept.
const KEPT: usize = 8192;

impl CacheLookup {
    fn parse(&self, object: &Cached) -> Option<Arc<Node>> {
        if let Some(kept) = self.parsed.get(&object.revision)
            && kept.0 == object.key
        {
            return Some(kept.1.clone());
        }
        match json::parse(&object.json.text()) {
            Ok(node) => {
                let node = Arc::new(node);
                if self.parsed.len() >= KEPT {
                    self.parsed.clear();
                }
                self.parsed.insert(object.revision, (object.key.clone(), node.clone()));
                Some(node)
            }
            Err(error) => {
                tracing::error!(key = &*object.key, %error, "a cached object is not JSON");
                None
            }
        }
    }
}

impl Lookup for CacheLookup {
    fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Arc<Node>> {
        let snapshot = self.caches.of(group, plural)?.latest();
        self.parse(snapshot.get(&key(namespace, name))?)
    }

    fn list(&self, group: &str, plural: &str, namespace: &str) -> Vec<Arc<Node>> {
        let Some(cache) = self.caches.of(group, plural) else {
            return Vec::new();
        };
        let prefix = if namespace.is_empty() {
            String::new()
        } else {
            format!("{namespace}/")
        };
        cache
            .latest()
            .range(&prefix, "")
            .filter_map(|object| self.parse(object))
            .collect()
    }

    fn stamp(&self, group: &str, plural: &str) -> u64 {
        let Some(cache) = self.caches.of(group, plural) else {
            return 0;
        };
        let snapshot = cache.latest();
        if snapshot.is_empty() {
            return 0;
        }
        // Revisions are never used twice, so that what was there at one is told by all of them.
        snapshot.range("", "").fold(1, |stamp: u64, object| {
            (stamp.rotate_left(5) ^ object.revision.0).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        })
    }

    fn latest<'a>(
        &'a self,
        group: &'a str,
        plural: &'a str,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Option<Arc<Node>>> {
        Box::pin(async move {
            let snapshot = self.caches.of(group, plural)?.fresh().await.ok()?;
            self.parse(snapshot.get(&key(namespace, name))?)
        })
    }
}

struct EngineWriter(Late);

impl QuotaWriter for EngineWriter {
    fn write_status(&self, quota: Node) -> BoxFuture<'_, StatusResult<()>> {
        Box::pin(async move {
            let not_ready = || Status::internal("quotas cannot be written yet");
            let outside = self.0.get().ok_or_else(not_ready)?;
            match outside.router.load().route("", "v1", "resourcequotas") {
                Some(Route::Local(definition)) => outside
                    .client
                    .update_subresource(&definition, "status", &quota)
                    .await
                    .map(drop),
                _ => Err(not_ready()),
            }
        })
    }
}

struct GatewayWebhooks(Late);

impl WebhookClient for GatewayWebhooks {
    fn call<'a>(
        &'a self,
        config: &'a Node,
        body: Vec<u8>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, NoAnswer>> {
        Box::pin(async move {
            let outside = self.0.get().ok_or_else(|| NoAnswer {
                text: "the server is starting".into(),
                code: 503,
            })?;
            let answer = outside.webhooks.call(config, body.into(), timeout).await;
            answer.map(|bytes| bytes.to_vec()).map_err(|error| NoAnswer {
                text: error.to_string(),
                code: if error.code == 0 { 503 } else { error.code },
            })
        })
    }
}

struct RoutedVersions(Late);

impl RoutedVersions {
    fn definition(&self, resource: &GroupVersionResource) -> Option<Arc<ResourceDefinition>> {
        match self
            .0
            .get()?
            .router
            .load()
            .route(&resource.group, &resource.version, &resource.resource)?
        {
            Route::Local(definition) => Some(definition),
            Route::Remote(_) => None,
        }
    }
}

impl Versions for RoutedVersions {
    fn known(&self, kind: &GroupVersionKind) -> Option<Known> {
        let snapshot = self.0.get()?.router.load();
        let mut definitions = snapshot.definitions();
        let definition = definitions.find(|definition| definition.gvk() == *kind)?;
        Some(Known {
            resource: definition.gvr(),
            namespaced: definition.namespaced(),
        })
    }

    fn equivalents(&self, resource: &GroupVersionResource, subresource: &str) -> Vec<Served> {
        let (Some(own), Some(outside)) = (self.definition(resource), self.0.get()) else {
            return Vec::new();
        };
        let snapshot = outside.router.load();
        let others = snapshot.definitions().filter(|other| {
            other.plural == own.plural && other.storage.prefix == own.storage.prefix && other.gvr() != *resource
        });
        let kind = |definition: &ResourceDefinition| match subresource {
            "" => Some(definition.gvk()),
            name => match definition.subresource(name)? {
                Subresource {
                    behavior: SubresourceBehavior::Status,
                    ..
                } => Some(definition.gvk()),
                subresource => Some(subresource.kind.clone()),
            },
        };
        others
            .filter_map(|other| {
                Some(Served {
                    resource: other.gvr(),
                    kind: kind(other)?,
                })
            })
            .collect()
    }

    fn convert<'a>(
        &'a self,
        object: Node,
        from: &'a GroupVersionResource,
        to: &'a GroupVersionResource,
    ) -> BoxFuture<'a, StatusResult<Node>> {
        Box::pin(async move {
            match (self.definition(from), self.definition(to)) {
                (Some(from), Some(to)) => versions::between(&from, object, &to)
                    .await
                    .map_err(|status| Status::internal(status.message())),
                _ => Err(Status::internal(format!(
                    "unable to convert to {}: unknown kind",
                    to.resource
                ))),
            }
        })
    }

    fn settle<'a>(
        &'a self,
        object: Node,
        resource: &'a GroupVersionResource,
        kind: &'a GroupVersionKind,
    ) -> BoxFuture<'a, StatusResult<Node>> {
        Box::pin(async move {
            match self.definition(resource) {
                Some(definition) => versions::settle(object, &definition, kind).await,
                None => Ok(object),
            }
        })
    }

    fn reread(
        &self,
        object: &mut Node,
        resource: &GroupVersionResource,
        kind: &GroupVersionKind,
    ) -> Result<Vec<String>, String> {
        let registered = |kind: &GroupVersionKind| {
            let snapshot = self.0.get()?.router.load();
            let definition = snapshot.kind(&kind.group, &kind.version, &kind.kind)?;
            Some(definition.schema.clone())
        };
        match self.definition(resource) {
            Some(definition) => versions::reread(object, &definition, kind, &registered),
            None => Ok(Vec::new()),
        }
    }

    fn configure(
        &self,
        object: &Node,
        config: &Node,
        resource: &GroupVersionResource,
        kind: &GroupVersionKind,
    ) -> Result<Node, String> {
        match self.definition(resource) {
            Some(definition) => versions::configure(object, config, &definition, kind),
            None => Err(format!("no schema is known of {}", kind.kind)),
        }
    }
}

struct AuthorizerPermissions(Arc<dyn Authorizer>);

impl Permissions for AuthorizerPermissions {
    fn allowed<'a>(&'a self, user: &'a Arc<UserInfo>, action: Action<'a>) -> BoxFuture<'a, bool> {
        let attributes = AuthzAttributes {
            user: user.clone(),
            verb: action.verb.into(),
            namespace: action.namespace.into(),
            group: action.group.into(),
            version: action.version.into(),
            resource: action.resource.into(),
            subresource: action.subresource.into(),
            name: action.name,
            resource_request: true,
            ..AuthzAttributes::default()
        };
        Box::pin(async move { matches!(self.0.authorize(&attributes).await, (Decision::Allow, _)) })
    }

    fn decide(&self, user: Arc<UserInfo>, question: &Question) -> BoxFuture<'static, Ruling> {
        let attributes = asked(user, question);
        let authorizer = self.0.clone();
        Box::pin(async move {
            let (decision, reason) = authorizer.authorize(&attributes).await;
            Ruling {
                allowed: decision == Decision::Allow,
                reason,
                error: None,
            }
        })
    }
}

/// What the authorizer is asked for an expression.
fn asked(user: Arc<UserInfo>, question: &Question) -> AuthzAttributes {
    let verb = question.verb.as_str().into();
    match &question.target {
        Target::Path(path) => AuthzAttributes {
            user,
            verb,
            path: path.as_str().into(),
            ..AuthzAttributes::default()
        },
        Target::Resource {
            group,
            resource,
            subresource,
            namespace,
            name,
            field_selector,
            label_selector,
        } => AuthzAttributes {
            user,
            verb,
            namespace: namespace.as_str().into(),
            group: group.as_str().into(),
            version: "*".into(),
            resource: resource.as_str().into(),
            subresource: subresource.as_str().into(),
            name: name.as_str().into(),
            resource_request: true,
            // What cannot be read is no restriction.
            field_selector: FieldSelector::parse(field_selector)
                .map(|selector| selector.requirements)
                .unwrap_or_default(),
            label_selector: LabelSelector::parse(label_selector)
                .map(|selector| selector.requirements().to_vec())
                .unwrap_or_default(),
            ..AuthzAttributes::default()
        },
    }
}
