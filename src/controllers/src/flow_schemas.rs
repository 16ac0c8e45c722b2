//! FlowSchemas: each tells in its status whether the PriorityLevelConfiguration it refers to exists.
//!
//! Source of behaviour: kubernetes/apiserver pkg/util/flowcontrol/apf_controller.go. Part of the API server: it runs
//! whatever other loops do.

use crate::{Context, RETRY};
use fairlead_api::field::go_quote;
use fairlead_api::{Node, StatusResult, node};
use fairlead_resource::ResourceDefinition;
use fairlead_resource::client::parse;
use fairlead_resource::request::{EventKind, WatchEvent};
use futures_util::FutureExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
/// Whom managed fields name.
const MANAGER: &str = "api-priority-and-fairness-config-consumer-v1";
const CONDITION: &str = "Dangling";

/// Runs until the drain.
pub async fn run(mut context: Context) {
    loop {
        if rounds(&mut context).await.is_some() || !context.pause(RETRY).await {
            return;
        }
    }
}

/// What there is.
#[derive(Default)]
struct Known {
    schemas: BTreeMap<Arc<str>, Node>,
    levels: BTreeSet<Arc<str>>,
    /// Whether all schemas, and all levels, have been seen.
    complete: (bool, bool),
}

/// `Some` at the drain, `None` when a watch broke off.
async fn rounds(context: &mut Context) -> Option<()> {
    let schemas = context.built_in(GROUP, "v1", "flowschemas")?;
    let levels = context.built_in(GROUP, "v1", "prioritylevelconfigurations")?;
    let mut of_schemas = context.client.follow(&schemas, "", "").await.ok()?;
    let mut of_levels = context.client.follow(&levels, "", "").await.ok()?;
    let mut known = Known::default();
    let mut stale = false;
    loop {
        tokio::select! {
            event = of_schemas.next() => known.schema(event?)?,
            event = of_levels.next() => known.level(event?),
            () = tokio::time::sleep(RETRY), if stale => {}
            _ = context.drain.changed() => return Some(()),
        }
        // Everything that is there already, so that a burst is answered once.
        while let Some(event) = of_schemas.next().now_or_never() {
            known.schema(event?)?;
        }
        while let Some(event) = of_levels.next().now_or_never() {
            known.level(event?);
        }
        if known.complete == (true, true) {
            stale = !tell(context, &schemas, &mut known).await;
        }
    }
}

impl Known {
    fn schema(&mut self, event: WatchEvent) -> Option<()> {
        match event {
            WatchEvent::Object {
                kind: EventKind::Deleted,
                object,
            } => drop(self.schemas.remove(&object.key)),
            WatchEvent::Object { object, .. } => {
                self.schemas
                    .insert(object.key.clone(), parse(&object.json.text()).ok()?);
            }
            WatchEvent::Node { kind, .. } => self.complete.0 |= kind == EventKind::Bookmark,
        }
        Some(())
    }

    fn level(&mut self, event: WatchEvent) {
        match event {
            WatchEvent::Object {
                kind: EventKind::Deleted,
                object,
            } => drop(self.levels.remove(&object.key)),
            WatchEvent::Object { object, .. } => drop(self.levels.insert(object.key.clone())),
            WatchEvent::Node { kind, .. } => self.complete.1 |= kind == EventKind::Bookmark,
        }
    }
}

/// Writes what is not told or told wrongly. False where that failed.
async fn tell(context: &Context, definition: &Arc<ResourceDefinition>, known: &mut Known) -> bool {
    let mut all = true;
    for schema in known.schemas.values_mut() {
        let level = schema.str_at(&["spec", "priorityLevelConfiguration", "name"]);
        let wanted = condition(level, known.levels.contains(level));
        if is_told(schema, &wanted) {
            continue;
        }
        match apply(context, definition, schema.name(), wanted).await {
            Ok(written) => *schema = written,
            Err(status) => {
                tracing::warn!(schema = schema.name(), %status, "the condition of a flow schema was not written");
                all = status.code() == 404 && all;
            }
        }
    }
    all
}

fn condition(level: &str, exists: bool) -> Node {
    let (status, reason, end) = match exists {
        true => ("False", "Found", "it exists"),
        false => ("True", "NotFound", "there is no such object"),
    };
    let end = if exists {
        format!("and {end}")
    } else {
        format!("but {end}")
    };
    let level = go_quote(level);
    let message = format!("This FlowSchema references the PriorityLevelConfiguration object named {level} {end}");
    node!({"type": CONDITION, "status": status, "reason": reason, "message": message})
}

fn is_told(schema: &Node, wanted: &Node) -> bool {
    let conditions = schema.get("status").map_or(&[][..], |status| status.list("conditions"));
    let told = conditions.iter().find(|condition| condition.str("type") == CONDITION);
    let same = |told: &Node, field| told.str(field) == wanted.str(field);
    told.is_some_and(|told| ["status", "reason", "message"].iter().all(|field| same(told, field)))
}

async fn apply(
    context: &Context,
    definition: &Arc<ResourceDefinition>,
    name: &str,
    mut condition: Node,
) -> StatusResult<Node> {
    condition.set("lastTransitionTime", context.clock.now().rfc3339());
    let mut schema = node!({"apiVersion": format!("{GROUP}/v1"), "kind": "FlowSchema", "metadata": {"name": name}});
    schema.set_at(&["status", "conditions"], vec![condition]);
    context
        .client
        .apply_subresource(definition, "status", MANAGER, &schema)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_tells_whether_the_level_is_there() {
        let missing = condition("a", false);
        assert_eq!(
            missing.str("message"),
            "This FlowSchema references the PriorityLevelConfiguration object named \"a\" but there is no such object"
        );
        let mut schema = node!({"status": {}});
        assert!(!is_told(&schema, &missing));
        schema.set_at(&["status", "conditions"], vec![missing.clone()]);
        assert!(is_told(&schema, &missing));
        assert!(!is_told(&schema, &condition("a", true)), "the level has come");
    }
}
