//! Aggregated ClusterRoles: their rules are those of all roles that their selectors match.
//!
//! Source of behaviour: kubernetes/kubernetes pkg/controller/clusterroleaggregation.

use crate::{Context, RETRY};
use fairlead_api::{Node, StatusResult, node};
use fairlead_auth::bootstrap::aggregated_rules;
use fairlead_resource::ResourceDefinition;
use fairlead_resource::client::parse;
use fairlead_resource::request::{EventKind, WatchEvent};
use futures_util::FutureExt;
use std::collections::BTreeMap;
use std::sync::Arc;

const GROUP: &str = "rbac.authorization.k8s.io";
/// Whom managed fields name.
const MANAGER: &str = "clusterrole-aggregation-controller";

/// Runs until the drain.
pub async fn run(mut context: Context) {
    loop {
        if rounds(&mut context).await.is_some() || !context.pause(RETRY).await {
            return;
        }
    }
}

/// `Some` at the drain, `None` when the watch broke off.
async fn rounds(context: &mut Context) -> Option<()> {
    let definition = context.built_in(GROUP, "v1", "clusterroles")?;
    let mut stream = context.client.follow(&definition, "", "").await.ok()?;
    let mut roles: BTreeMap<Arc<str>, Node> = BTreeMap::new();
    let (mut complete, mut stale) = (false, false);
    loop {
        let event = tokio::select! {
            event = stream.next() => Some(event?),
            () = tokio::time::sleep(RETRY), if stale => None,
            _ = context.drain.changed() => return Some(()),
        };
        let mut next = event;
        // Everything that is there already, so that a burst is answered once.
        while let Some(event) = next {
            match event {
                WatchEvent::Object {
                    kind: EventKind::Deleted,
                    object,
                } => drop(roles.remove(&object.key)),
                WatchEvent::Object { object, .. } => {
                    drop(roles.insert(object.key.clone(), parse(&object.json.text()).ok()?))
                }
                WatchEvent::Node {
                    kind: EventKind::Bookmark,
                    ..
                } => complete = true,
                WatchEvent::Node { .. } => {}
            }
            next = match stream.next().now_or_never() {
                Some(event) => Some(event?),
                None => None,
            };
        }
        if complete {
            stale = !gather(context, &definition, &roles).await;
        }
    }
}

/// Writes the rules of roles that lack some or have too many. False where that failed.
async fn gather(context: &Context, definition: &Arc<ResourceDefinition>, roles: &BTreeMap<Arc<str>, Node>) -> bool {
    let mut all = true;
    for role in roles.values() {
        let Some(rules) = aggregated_rules(role, roles.values()) else {
            continue;
        };
        if rules == role.list("rules") {
            continue;
        }
        if let Err(status) = apply(context, definition, role.name(), rules).await {
            tracing::warn!(role = role.name(), %status, "the rules of a role were not gathered");
            all = status.code() == 404 && all;
        }
    }
    all
}

async fn apply(
    context: &Context,
    definition: &Arc<ResourceDefinition>,
    name: &str,
    rules: Vec<Node>,
) -> StatusResult<()> {
    let mut role = node!({"apiVersion": format!("{GROUP}/v1"), "kind": "ClusterRole", "metadata": {"name": name}});
    // COMPAT: no rules are no field, which leaves alone what another manager set.
    if !rules.is_empty() {
        role.set("rules", rules);
    }
    context.client.apply(definition, MANAGER, &role).await.map(drop)
}
