//! [`Cluster`]: what plugins may look at and ask. The binary implements these traits over its caches.

use compact_str::CompactString;
use fairlead_api::{Clock, Node, StatusResult, UserInfo};
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// Everything a plugin is given besides the request.
pub struct Cluster {
    pub lookup: Arc<dyn Lookup>,
    pub writer: Arc<dyn QuotaWriter>,
    pub permissions: Arc<dyn Permissions>,
    pub clock: Arc<dyn Clock>,
    /// A random number, for generated names.
    pub random: Arc<dyn Fn() -> u64 + Send + Sync>,
    pub settings: Settings,
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

/// Asks the authorizer.
pub trait Permissions: Send + Sync {
    fn allowed<'a>(&'a self, user: &'a Arc<UserInfo>, action: Action<'a>) -> BoxFuture<'a, bool>;
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
