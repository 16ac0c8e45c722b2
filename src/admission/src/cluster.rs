//! [`Cluster`]: what plugins may look at and ask. The binary implements these traits over its caches.

use crate::metrics::Metrics;
use crate::webhook::conditions::Conditions;
use compact_str::CompactString;
use fairlead_api::{Clock, GroupVersionKind, GroupVersionResource, Node, StatusResult, UserInfo};
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;

/// What expressions ask the authorizer, and what it says.
pub use fairlead_cel::{Question, Ruling, Target};

/// Everything a plugin is given besides the request.
pub struct Cluster {
    pub lookup: Arc<dyn Lookup>,
    pub writer: Arc<dyn QuotaWriter>,
    pub permissions: Arc<dyn Permissions>,
    pub webhooks: Arc<dyn WebhookClient>,
    pub versions: Arc<dyn Versions>,
    /// The match conditions of webhooks.
    pub conditions: Conditions,
    pub clock: Arc<dyn Clock>,
    /// A random number, for generated names.
    pub random: Arc<dyn Fn() -> u64 + Send + Sync>,
    pub settings: Settings,
    /// What is told of plugins and webhooks.
    pub metrics: Metrics,
}

/// What flags say about plugins.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long pods stay on nodes that are not ready, if they do not say.
    pub not_ready_seconds: i64,
    /// How long pods stay on nodes that cannot be reached, if they do not say.
    pub unreachable_seconds: i64,
}

/// Reads stored objects, in the version they are stored in.
///
/// **Guarantees**: shows every write this server has acknowledged. **Non-guarantees**: writes through other servers may
/// show late, except in [`latest`](Lookup::latest). **Cost**: called on every write; parsed objects should be kept.
pub trait Lookup: Send + Sync {
    /// `namespace` is empty for cluster-scoped resources.
    fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Arc<Node>>;

    /// The objects of one namespace, or of all where it is empty, by name.
    fn list(&self, group: &str, plural: &str, namespace: &str) -> Vec<Arc<Node>>;

    /// A number that is another one when any object of a resource is; 0 where there are none. **Cost**: less than that of
    /// a list, and next to nothing where there are none.
    fn stamp(&self, group: &str, plural: &str) -> u64;

    /// Like [`get`](Lookup::get), but not older than any acknowledged write of any server.
    fn latest<'a>(
        &'a self,
        group: &'a str,
        plural: &'a str,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Option<Arc<Node>>> {
        Box::pin(std::future::ready(self.get(group, plural, namespace, name)))
    }
}

/// Writes the one thing that a plugin writes.
pub trait QuotaWriter: Send + Sync {
    /// Replaces the status of a ResourceQuota; its resourceVersion must be the current one.
    ///
    /// # Errors
    /// Conflict where it is not, and what the store says.
    fn write_status(&self, quota: Node) -> BoxFuture<'_, StatusResult<()>>;
}

/// Posts to webhooks.
pub trait WebhookClient: Send + Sync {
    /// Posts `body` to a `clientConfig`, and returns the body of a successful answer.
    ///
    /// # Errors
    /// Why there is no answer, or no good one.
    fn call<'a>(
        &'a self,
        config: &'a Node,
        body: Vec<u8>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, NoAnswer>>;
}

/// Why a webhook did not answer.
#[derive(Clone, Debug)]
pub struct NoAnswer {
    /// As clients are told behind "failed to call webhook: ".
    pub text: String,
    /// Of an answer that was no success, else 503.
    pub code: u16,
}

/// One of the versions that objects are served in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    pub resource: GroupVersionResource,
    /// Of the resource, or of its subresource where that was asked for.
    pub kind: GroupVersionKind,
}

/// A resource that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub resource: GroupVersionResource,
    pub namespaced: bool,
}

/// The versions of resources.
pub trait Versions: Send + Sync {
    /// The resource of a kind.
    fn known(&self, kind: &GroupVersionKind) -> Option<Known>;

    /// The other versions and groups that serve the same objects.
    fn equivalents(&self, resource: &GroupVersionResource, subresource: &str) -> Vec<Served>;

    /// An object of one version in another.
    ///
    /// # Errors
    /// What a conversion webhook answers.
    fn convert<'a>(
        &'a self,
        object: Node,
        from: &'a GroupVersionResource,
        to: &'a GroupVersionResource,
    ) -> BoxFuture<'a, StatusResult<Node>>;

    /// Reads an object that somebody changed as if it came from a client: types are checked, defaults filled in.
    /// Answers the paths of fields that are not known, and are gone. What is of another kind by now stays so:
    /// see [`settle`](Versions::settle).
    ///
    /// # Errors
    /// Go's words for what cannot be read.
    fn reread(
        &self,
        object: &mut Node,
        resource: &GroupVersionResource,
        kind: &GroupVersionKind,
    ) -> Result<Vec<String>, String>;

    /// An object that somebody changed, in the version and of the kind of the request, whatever it says it is.
    ///
    /// # Errors
    /// Where it cannot be that, and what a conversion webhook answers.
    fn settle<'a>(
        &'a self,
        object: Node,
        resource: &'a GroupVersionResource,
        kind: &'a GroupVersionKind,
    ) -> BoxFuture<'a, StatusResult<Node>>;

    /// An object with an apply configuration merged into it.
    ///
    /// # Errors
    /// What structured-merge-diff says.
    fn configure(
        &self,
        object: &Node,
        config: &Node,
        resource: &GroupVersionResource,
        kind: &GroupVersionKind,
    ) -> Result<Node, String>;
}

/// Asks the authorizer.
pub trait Permissions: Send + Sync {
    fn allowed<'a>(&'a self, user: &'a Arc<UserInfo>, action: Action<'a>) -> BoxFuture<'a, bool>;

    /// Decides what an expression asks. `user` is whom the question is about.
    fn decide(&self, user: Arc<UserInfo>, question: &Question) -> BoxFuture<'static, Ruling>;
}

/// What somebody wants to do. Empty parts are as in authorization attributes.
#[derive(Clone, Debug, Default)]
pub struct Action<'a> {
    pub verb: &'a str,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: CompactString,
}

impl Cluster {
    /// Finds an object, asking again for the latest state before it says there is none.
    pub async fn find(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Arc<Node>> {
        match self.lookup.get(group, plural, namespace, name) {
            Some(object) => Some(object),
            None => self.lookup.latest(group, plural, namespace, name).await,
        }
    }

    /// A random (version 4) UUID.
    pub fn generate_uid(&self) -> String {
        let (high, low) = ((self.random)(), (self.random)());
        let high = high & !0xf000 | 0x4000;
        let low = low & !(3 << 62) | 2 << 62;
        let text = format!("{high:016x}{low:016x}");
        format!(
            "{}-{}-{}-{}-{}",
            &text[..8],
            &text[8..12],
            &text[12..16],
            &text[16..20],
            &text[20..]
        )
    }

    /// `prefix` with five random letters, as for `generateName`.
    pub fn generate_name(&self, prefix: &str) -> String {
        const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let mut bits = (self.random)();
        let mut name = prefix.to_owned();
        for _ in 0..5 {
            name.push(char::from(LETTERS[(bits % LETTERS.len() as u64) as usize]));
            bits /= LETTERS.len() as u64;
        }
        name
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            not_ready_seconds: 300,
            unreachable_seconds: 300,
        }
    }
}
