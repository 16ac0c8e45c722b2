//! `metadata.managedFields`: who owns which field, kept on every write.
// PERFORMANCE: per-request path

mod owned;

use crate::call::Call;
use crate::definition::Conversion;
use crate::options::{WriteOptions, default_manager};
use crate::patch;
use fairlead_admission::Attributes;
use fairlead_api::{GroupVersion, Node, Status, StatusResult};
use fairlead_patch::apply::{self, Manager, Operation, Options};
use fairlead_patch::fields::{Element, FieldSet, Path};
use fairlead_schema::Schema;
use owned::Converted;

/// The manager of a write: as given, or the start of the user agent.
pub fn manager(call: &Call, options: &WriteOptions) -> String {
    if options.field_manager.is_empty() {
        default_manager(&call.request.user_agent)
    } else {
        options.field_manager.clone()
    }
}

/// Records a create, update or patch: what `object` changes against `live` belongs to `manager` now.
pub async fn record(call: &Call<'_>, live: Option<&Node>, object: &mut Node, manager: &str) {
    let Ok(schema) = patch::schema(call) else {
        return;
    };
    let mut converted = Converted::default();
    let before = asks_webhook(call, live, object).then(|| object.clone());
    loop {
        let result = with_options(call, &converted, |options| {
            let manager = who(call, manager, Operation::Update);
            apply::update(live, object, schema.root(), &manager.borrowed(), options)
        });
        if let Some(before) = &before
            && converted.learn(call.definition).await
        {
            object.clone_from(before);
            continue;
        }
        if let Err(error) = result {
            tracing::warn!(%error, kind = %call.definition.kind, "field owners could not be recorded");
        }
        return;
    }
}

/// Merges an applied configuration into `live`, or makes an object of it.
///
/// # Errors
/// Conflict with other managers, BadRequest and Invalid for what cannot be applied.
pub async fn apply(
    call: &Call<'_>,
    live: Option<&Node>,
    config: &Node,
    manager: &str,
    force: bool,
) -> StatusResult<Node> {
    let schema = patch::schema(call)?;
    let mut converted = Converted::default();
    loop {
        let result = with_options(call, &converted, |options| {
            let manager = who(call, manager, Operation::Apply);
            apply::apply(live, config, schema.root(), &manager.borrowed(), force, options)
        });
        if !converted.learn(call.definition).await {
            return result.map_err(|error| error.to_status());
        }
    }
}

/// What admission made of an object, whose managedFields are as before where they cannot be read any more.
pub fn settle(call: &mut Call, attributes: &mut Attributes) {
    let Some(before) = attributes.given_owners.take() else {
        return;
    };
    let Err(why) = apply::check_managed_fields(managed(&attributes.object)) else {
        return;
    };
    call.warn(format!(
        ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating \
         admission controller; please fix your requests: {why}"
    ));
    match before {
        Node::Null => attributes.object.meta_mut().remove("managedFields"),
        before => attributes.object.meta_mut().insert("managedFields", before),
    };
}

/// Whether owners of other versions may have to be asked what changed for them.
fn asks_webhook(call: &Call, live: Option<&Node>, object: &Node) -> bool {
    let own = call.definition.group_version().to_string();
    let is_other = |owner: &Node| owner.str("apiVersion") != own;
    matches!(call.definition.conversion, Conversion::Webhook(_))
        && (live.is_some_and(|live| managed(live).iter().any(is_other)) || managed(object).iter().any(is_other))
}

/// The managedFields of the Scale of an object.
///
/// # Errors
/// What upstream says of entries that cannot be read.
pub fn to_scale(call: &Call, object: &Node) -> StatusResult<Vec<Node>> {
    let path = replicas_path(call);
    apply::scale::to_scale(managed(object), &|_| Some(path.clone())).map_err(|why| Status::new(500, "", why))
}

/// The managedFields of an object whose Scale has these.
///
/// # Errors
/// What upstream says of entries that cannot be read.
pub fn from_scale(call: &Call, object: &Node, scale: &Node) -> StatusResult<Vec<Node>> {
    let path = replicas_path(call);
    let version = call.definition.group_version().to_string();
    apply::scale::to_parent(managed(object), managed(scale), &version, &|_| Some(path.clone()))
        .map_err(|why| Status::new(500, "", why))
}

fn managed(object: &Node) -> &[Node] {
    object.meta().map_or(&[], |meta| meta.list("managedFields"))
}

fn replicas_path(call: &Call) -> Option<Path> {
    match call.subresource.map(|s| &s.behavior) {
        Some(crate::SubresourceBehavior::Scale { spec_replicas, .. }) => Some(
            spec_replicas
                .trim_start_matches('.')
                .split('.')
                .map(Element::field)
                .collect(),
        ),
        _ => None,
    }
}

/// [`Manager`] with what it borrows.
struct Who<'a> {
    name: &'a str,
    operation: Operation,
    api_version: String,
    subresource: &'a str,
    time: fairlead_api::Timestamp,
}

impl Who<'_> {
    fn borrowed(&self) -> Manager<'_> {
        Manager {
            name: self.name,
            operation: self.operation,
            api_version: &self.api_version,
            subresource: self.subresource,
            time: self.time,
        }
    }
}

fn who<'a>(call: &'a Call, name: &'a str, operation: Operation) -> Who<'a> {
    Who {
        name,
        operation,
        api_version: call.kind().group_version().to_string(),
        subresource: &call.request.subresource,
        time: call.engine.config.clock.now(),
    }
}

fn with_options<T>(call: &Call, converted: &Converted, run: impl FnOnce(&Options) -> T) -> T {
    let definition = call.definition;
    let reset = reset_fields(call);
    let kind = call.kind();
    let convert = |object: &Node, version: &str| converted.get(definition, object, version);
    let schema_of = |version: &str| -> Option<Schema> {
        let gv = GroupVersion::parse(version)?;
        if gv.group != definition.group {
            return None;
        }
        if definition.is_custom() {
            return definition.schema_of(&gv.version).cloned();
        }
        call.engine.config.scheme.schema(&gv.kind(&definition.kind))
    };
    let options = Options {
        kind: &kind.kind,
        reset_fields: &reset,
        only_fields: &[],
        convert: Some(&convert),
        schema_of: Some(&schema_of),
    };
    run(&options)
}

/// What this request cannot write.
fn reset_fields(call: &Call) -> FieldSet {
    if call.is_scale() {
        return FieldSet::new();
    }
    let declared = call.definition.hooks.reset_fields(&call.request.subresource);
    if !declared.is_empty() {
        return FieldSet::of(declared);
    }
    match (call.is_status(), call.definition.is_custom()) {
        (true, true) => FieldSet::of(&[&["metadata"], &["spec"]]),
        (true, false) => FieldSet::of(&[&["spec"]]),
        (false, _) if call.has_status() => FieldSet::of(&[&["status"]]),
        (false, _) => FieldSet::new(),
    }
}
