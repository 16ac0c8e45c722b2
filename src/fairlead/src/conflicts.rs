//! The condition `Conflict` of APIServices: what they hide of what is defined here, what their backends claim that is not
//! theirs, and which of their schemas had to be renamed although they are of no library. Beside upstream's `Available`; there only while there is something to tell.

use crate::routes::Routes;
use compact_str::CompactString;
use fairlead_api::{Clock, GroupVersion, Node, Timestamp, node};
use fairlead_discovery::RoutingSnapshot;
use fairlead_discovery::openapi::Components;
use fairlead_discovery::snapshot::{Serves, VersionEntry};
use fairlead_gateway::ObjectSource;
use fairlead_gateway::objects::{API_SERVICES, ApiServices};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const TYPE: &str = "Conflict";
/// What comes in a burst is waited for; also the pause after a write that failed.
const SETTLE: Duration = Duration::from_millis(250);

/// So many names are told, and so much of each: the condition is for people, and some of the names are strangers'.
const TOLD: usize = 5;
const LONGEST: usize = 120;

/// Keeps the conditions until it is dropped.
pub async fn run(
    routes: Routes,
    objects: Arc<dyn ObjectSource>,
    api_services: Arc<dyn ApiServices>,
    components: Arc<dyn Components>,
    clock: Arc<dyn Clock>,
) {
    let mut changes = routes.changes();
    loop {
        changes.borrow_and_update();
        let (snapshot, components) = (routes.router().load(), components.clone());
        // Documents of backends may have to be read, which keeps no request waiting there.
        let Ok(found) = tokio::task::spawn_blocking(move || found(&snapshot, &*components)).await else {
            return;
        };
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

/// What is in conflict about one APIService.
struct Conflict {
    /// Of the worst.
    reason: &'static str,
    /// Of all.
    message: String,
}

type Conflicts = BTreeMap<CompactString, Conflict>;

/// Worst first.
fn found(snapshot: &RoutingSnapshot, components: &dyn Components) -> Conflicts {
    let mut found = Conflicts::new();
    let remote = |version: &VersionEntry| match &version.serves {
        Serves::Remote(remote) => Some((version.group_version.clone(), remote.clone())),
        Serves::Local(_) => None,
    };
    let versions = snapshot.groups().iter().flat_map(|g| &g.versions);
    let remote: Vec<_> = versions.filter_map(|version| remote(version)).collect();
    if remote.is_empty() {
        return found;
    }
    for (gv, remote) in &remote {
        if let Some(plurals) = snapshot.hidden().get(gv) {
            let plurals = listed(plurals.iter().map(ToString::to_string).collect());
            let message = format!("{plurals} of {gv} are defined here and hidden by this APIService");
            add(&mut found, &remote.api_service, "HidesResources", message);
        }
        let claims: Vec<String> = remote
            .origin
            .claims
            .iter()
            .filter(|c| is_served_here(snapshot, c))
            .cloned()
            .collect();
        if !claims.is_empty() {
            let claims = listed(claims);
            let message = format!("the backend also speaks of {claims}, which is served here; that is ignored");
            add(&mut found, &remote.api_service, "ForeignGroupVersions", message);
        }
    }
    let mut schemas: BTreeMap<CompactString, Vec<String>> = BTreeMap::new();
    for conflict in snapshot.schema_conflicts(components) {
        let told = format!("{} ({})", shortened(&conflict.name), conflict.keeper);
        schemas.entry(conflict.api_service).or_default().push(told);
    }
    for (api_service, names) in schemas {
        let names = listed(names);
        let message = format!("these schemas mean something else elsewhere and are renamed in /openapi/v2: {names}");
        add(&mut found, &api_service, "SchemaNames", message);
    }
    found
}

fn is_served_here(snapshot: &RoutingSnapshot, claim: &str) -> bool {
    let entry = GroupVersion::parse(claim).and_then(|gv| snapshot.version(&gv.group, &gv.version).cloned());
    entry.is_some_and(|e| matches!(&e.serves, Serves::Local(definitions) if !definitions.is_empty()))
}

fn add(found: &mut Conflicts, api_service: &CompactString, reason: &'static str, message: String) {
    match found.get_mut(api_service) {
        Some(conflict) => {
            conflict.message.push_str("; ");
            conflict.message.push_str(&message);
        }
        None => {
            found.insert(api_service.clone(), Conflict { reason, message });
        }
    }
}

fn listed(names: Vec<String>) -> String {
    let told = names.get(..TOLD).unwrap_or(&names).join(", ");
    match names.len().saturating_sub(TOLD) {
        0 => told,
        more => format!("{told} and {more} more"),
    }
}

fn shortened(name: &str) -> String {
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

fn known(object: &Node) -> Option<&Node> {
    let conditions = object.at(&["status", "conditions"]).and_then(Node::as_list)?;
    conditions.iter().find(|c| c.str("type") == TYPE)
}

/// Whether the condition is as it should be, or absent as it should be.
fn is_told(object: &Node, conflict: Option<&Conflict>) -> bool {
    match (known(object), conflict) {
        (None, None) => true,
        (Some(known), Some(conflict)) => {
            known.str("reason") == conflict.reason && known.str("message") == conflict.message
        }
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
    if let Some(Conflict { reason, message }) = conflict {
        all.push(node!({
            "type": TYPE, "status": "True", "lastTransitionTime": since, "reason": (*reason), "message": (message.as_str()),
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
        let conflict = Conflict {
            reason: "HidesResources",
            message: "widgets".into(),
        };
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

    #[test]
    fn a_message_tells_everything_at_bounded_length() {
        let mut found = Conflicts::new();
        let name = "é".repeat(10_000);
        let names = listed((0..1_000).map(|_| shortened(&name)).collect());
        assert!(names.ends_with("… and 995 more"), "{names}");
        add(&mut found, &"v1.g".into(), "HidesResources", names);
        add(&mut found, &"v1.g".into(), "SchemaNames", "another".into());
        let conflict = &found["v1.g"];
        assert_eq!(conflict.reason, "HidesResources");
        assert!(conflict.message.ends_with("more; another"));
        assert!(conflict.message.chars().count() < TOLD * (LONGEST + 3) + 32);
    }
}
