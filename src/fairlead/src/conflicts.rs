//! The condition `Conflict` of APIServices: what they hide of what is defined here, and what their backends claim that is
//! not theirs. Beside upstream's `Available`; there only while there is something to tell.

use crate::routes::Routes;
use compact_str::CompactString;
use fairlead_api::{Clock, GroupVersion, Node, Timestamp, node};
use fairlead_discovery::RoutingSnapshot;
use fairlead_discovery::snapshot::Serves;
use fairlead_gateway::ObjectSource;
use fairlead_gateway::objects::{API_SERVICES, ApiServices};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const TYPE: &str = "Conflict";
/// What comes in a burst is waited for; also the pause after a write that failed.
const SETTLE: Duration = Duration::from_millis(250);

/// Keeps the conditions until it is dropped.
pub async fn run(
    routes: Routes,
    objects: Arc<dyn ObjectSource>,
    api_services: Arc<dyn ApiServices>,
    clock: Arc<dyn Clock>,
) {
    let mut changes = routes.changes();
    loop {
        changes.borrow_and_update();
        let found = found(&routes.router().load());
        let mut all = true;
        for object in objects.list(API_SERVICES) {
            let conflict = found.get(object.name());
            if is_told(&object, conflict) {
                continue;
            }
            let mut changed = Node::clone(&object);
            set(&mut changed, conflict, clock.now());
            if let Err(error) = api_services.update_status(changed).await {
                tracing::debug!(apiservice = object.name(), %error, "the conflict is not written");
                all = false;
            }
        }
        if all && changes.changed().await.is_err() {
            return;
        }
        tokio::time::sleep(SETTLE).await;
    }
}

/// Reason and message of what is in conflict.
type Conflict = (&'static str, String);

fn found(snapshot: &RoutingSnapshot) -> BTreeMap<CompactString, Conflict> {
    let mut found = BTreeMap::new();
    for version in snapshot.groups().iter().flat_map(|g| &g.versions) {
        let Serves::Remote(remote) = &version.serves else {
            continue;
        };
        let served_here = |claim: &&String| {
            let entry = GroupVersion::parse(claim).and_then(|gv| snapshot.version(&gv.group, &gv.version).cloned());
            entry.is_some_and(|e| matches!(&e.serves, Serves::Local(definitions) if !definitions.is_empty()))
        };
        let claims: Vec<&str> = remote
            .origin
            .claims
            .iter()
            .filter(served_here)
            .map(String::as_str)
            .collect();
        if !claims.is_empty() {
            let message = format!(
                "the backend also speaks of {}, which is served here; that is ignored",
                claims.join(", ")
            );
            found.insert(remote.api_service.clone(), ("ForeignGroupVersions", message));
        }
        if let Some(plurals) = snapshot.hidden().get(&version.group_version) {
            let gv = &version.group_version;
            let message = format!(
                "{} of {gv} are defined here and hidden by this APIService",
                plurals.join(", ")
            );
            found.insert(remote.api_service.clone(), ("HidesResources", message));
        }
    }
    found
}

fn known(object: &Node) -> Option<&Node> {
    let conditions = object.at(&["status", "conditions"]).and_then(Node::as_list)?;
    conditions.iter().find(|c| c.str("type") == TYPE)
}

/// Whether the condition is as it should be, or absent as it should be.
fn is_told(object: &Node, conflict: Option<&Conflict>) -> bool {
    match (known(object), conflict) {
        (None, None) => true,
        (Some(known), Some((reason, message))) => known.str("reason") == *reason && known.str("message") == message,
        _ => false,
    }
}

/// Sets or removes the condition. Answers whether that changed the object.
fn set(object: &mut Node, conflict: Option<&Conflict>, now: Timestamp) -> bool {
    if is_told(object, conflict) {
        return false;
    }
    let known = known(object);
    let conditions = object.at(&["status", "conditions"]).and_then(Node::as_list);
    let since = known.map_or_else(|| now.rfc3339(), |c| c.str("lastTransitionTime").to_owned());
    let mut all = conditions.cloned().unwrap_or_default();
    all.retain(|c| c.str("type") != TYPE);
    if let Some((reason, message)) = conflict {
        all.push(node!({
            "type": TYPE, "status": "True", "lastTransitionTime": since, "reason": reason, "message": message,
        }));
    }
    object.set_at(&["status", "conditions"], all);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_condition_comes_and_goes() {
        let mut object = node!({"status": {"conditions": [{"type": "Available", "status": "True"}]}});
        let at = Timestamp::from_unix_seconds;
        let conflict = ("HidesResources", "widgets".to_owned());
        assert!(!set(&mut object, None, at(0)));
        assert!(set(&mut object, Some(&conflict), at(0)));
        assert!(!set(&mut object, Some(&conflict), at(60)));
        let conditions = object.at(&["status", "conditions"]).unwrap().as_list().unwrap();
        assert_eq!(
            (conditions.len(), conditions[1].str("lastTransitionTime")),
            (2, "1970-01-01T00:00:00Z")
        );
        assert!(set(&mut object, None, at(90)));
        assert_eq!(
            object.at(&["status", "conditions"]).unwrap().as_list().unwrap().len(),
            1
        );
    }
}
