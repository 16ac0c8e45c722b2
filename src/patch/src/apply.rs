//! Server-side apply, and who owns which field after every other write.
//!
//! [`apply`] merges a configuration into an object and refuses to take fields from others; [`update`] records what a
//! create, update or patch changed. Both keep `metadata.managedFields`. Behaviour and wording follow apimachinery
//! pkg/util/managedfields and structured-merge-diff v6 merge/update.go.
// PERFORMANCE: per-request path

mod error;
mod last_applied;
mod owners;
pub mod scale;
mod updater;

pub use error::{ApplyError, Conflict};
pub use owners::check as check_managed_fields;

use crate::fields::{FieldSet, PathPattern};
use crate::typed::Cursor;
use crate::typed::validate::{Duplicates, validate};
use fairlead_api::{Node, Timestamp};
use fairlead_schema::{Schema, TypeRef, zero};
use owners::{Id, Owners};
use std::fmt;
use updater::Updater;

/// The manager that owns what was there before the first apply of an object without managedFields.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Who writes, by what means.
#[derive(Clone, Copy, Debug)]
pub struct Manager<'a> {
    /// `fieldManager`; empty is `unknown`.
    pub name: &'a str,
    pub operation: Operation,
    /// Of the request: `apps/v1`.
    pub api_version: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    pub time: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    Apply,
    Update,
}

/// Converts an object to another apiVersion of its group.
pub type Convert<'a> = &'a dyn Fn(&Node, &str) -> Result<Node, String>;

/// The schema of the same kind in another apiVersion; `None` where that is not served any more.
pub type SchemaOf<'a> = &'a dyn Fn(&str) -> Option<Schema>;

/// What a resource adds to the rules.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// The kind a configuration must have; empty: not checked.
    pub kind: &'a str,
    /// What this request cannot write, and so cannot own: these paths and all below.
    pub reset_fields: &'a FieldSet,
    /// If not empty, all that this request can write.
    pub only_fields: &'a [PathPattern<'a>],
    /// For managers of other apiVersions. Without it, or where [`Options::schema_of`] knows no schema, such managers
    /// lose their entries.
    pub convert: Option<Convert<'a>>,
    pub schema_of: Option<SchemaOf<'a>>,
}

static NO_FIELDS: FieldSet = FieldSet::new();

impl Default for Options<'_> {
    fn default() -> Self {
        Options {
            kind: "",
            reset_fields: &NO_FIELDS,
            only_fields: &[],
            convert: None,
            schema_of: None,
        }
    }
}

/// Applies `config` to `live` (`None` on create) and returns the object to store, before defaulting, with its
/// managedFields. Both objects are in `manager.api_version`, `live` in its wire form.
///
/// Where nothing but the owners changed, the result is `live` with other managedFields and their times as they were.
///
/// # Errors
/// [`ApplyError::Conflicts`] unless `force`; [`ApplyError::BadRequest`] and [`ApplyError::Unclassified`] for
/// configurations that do not fit.
pub fn apply(
    live: Option<&Node>,
    config: &Node,
    schema: TypeRef,
    manager: &Manager,
    force: bool,
    options: &Options,
) -> Result<Node, ApplyError> {
    let decoded = live.map_or(Ok(Owners::default()), |live| Owners::read(managed_fields(live)));
    let mut owners = decoded.map_err(|e| ApplyError::Unclassified(format!("failed to decode managed fields: {e}")))?;
    check_config(config, schema, manager, options)?;

    let zero;
    let live = match live {
        Some(live) => live,
        None => {
            zero = new_object(schema, manager, options, config);
            &zero
        }
    };
    let updater = Updater::new(schema, manager, options);
    if owners.is_empty() {
        let empty = new_object(schema, manager, options, config);
        let id = Id::new(BEFORE_FIRST_APPLY, Operation::Update, manager);
        updater
            .update(&empty, live, &mut owners, &id)
            .map_err(|e| ApplyError::Unclassified(format!("failed to create manager for existing fields: {e}")))?;
        owners.cap();
    }
    let id = Id::new(manager.name, Operation::Apply, manager);
    let before = (manager.name == last_applied::MANAGER && !force).then(|| owners.clone());
    let object = match (updater.apply(live, config, &mut owners, &id, force), before) {
        (Err(ApplyError::Conflicts(conflicts)), Some(before)) => {
            let conflicts = last_applied::unresolved(conflicts, live, config, schema, manager);
            if !conflicts.is_empty() {
                return Err(ApplyError::Conflicts(conflicts));
            }
            owners = before;
            updater.apply(live, config, &mut owners, &id, true)?
        }
        (result, _) => result?,
    };
    let mut object = object.unwrap_or_else(|| live.clone());
    if manager.name == last_applied::MANAGER {
        last_applied::refresh(&mut object, config);
    }
    owners.write(&mut object);
    Ok(object)
}

/// Records in `new`, which is about to be stored in place of `live` (`None` on create), who owns what now. Both are in
/// `manager.api_version` and wire form. A client may hand over managedFields with `new`, or reset them with `[]` or
/// `[{}]`; through subresources it cannot.
///
/// An object that never had managedFields gets none. Whatever cannot be recorded (as upstream: what does not fit the
/// schema) leaves the object without managedFields; so this never fails today.
///
/// # Errors
/// None; the result leaves room for them.
pub fn update(
    live: Option<&Node>,
    new: &mut Node,
    schema: TypeRef,
    manager: &Manager,
    options: &Options,
) -> Result<(), ApplyError> {
    if !matches!(new.get("metadata"), Some(Node::Map(_))) {
        return Ok(());
    }
    let given = new.remove_at(&["metadata", "managedFields"]);
    let mut owners = owners_before(live, given.as_ref(), manager);
    let has_uid = live.is_some_and(|live| !live.uid().is_empty());
    if owners.is_empty() && has_uid {
        return Ok(());
    }
    let zero;
    let live = match live {
        Some(live) => live,
        None => {
            zero = new_object(schema, manager, options, new);
            &zero
        }
    };
    let id = Id::new(manager.name, Operation::Update, manager);
    if Updater::new(schema, manager, options)
        .update(live, new, &mut owners, &id)
        .is_ok()
    {
        owners.cap();
        owners.write(new);
    }
    Ok(())
}

/// Takes back the times of `new`'s managedFields where nothing else differs from `old`, so that nothing is written.
pub fn keep_times(old: &Node, new: &mut Node) {
    let (before, after) = (managed_fields(old), managed_fields(new));
    if before.is_empty() || before.len() != after.len() {
        return;
    }
    let same_but_time = |(a, b): (&Node, &Node)| equal_without(a, b, "time");
    if before == after || !before.iter().zip(after).all(same_but_time) {
        return;
    }
    let metadata = |node: &Node| node.get("metadata").cloned().unwrap_or_default();
    if equal_without(old, new, "metadata") && equal_without(&metadata(old), &metadata(new), "managedFields") {
        let before = before.to_vec();
        new.set_at(&["metadata", "managedFields"], before);
    }
}

fn equal_without(a: &Node, b: &Node, name: &str) -> bool {
    let (Some(a), Some(b)) = (a.as_map(), b.as_map()) else {
        return a == b;
    };
    let others = |m: &'_ fairlead_api::Map| m.len() - usize::from(m.contains_key(name));
    others(a) == others(b) && a.iter().all(|(key, value)| key == name || b.get(key) == Some(value))
}

/// Where the record starts from: what the client sent along, or what the object had.
fn owners_before(live: Option<&Node>, given: Option<&Node>, manager: &Manager) -> Owners {
    let of_live = || {
        live.and_then(|live| Owners::read(managed_fields(live)).ok())
            .unwrap_or_default()
    };
    if !manager.subresource.is_empty() {
        return of_live();
    }
    let given = given.and_then(Node::as_list);
    let is_reset = |entries: &[Node]| match entries {
        [] => true,
        [Node::Map(entry)] => entry.values().all(Node::is_zero),
        _ => false,
    };
    match given {
        Some(entries) if is_reset(entries) => Owners::default(),
        Some(entries) => match Owners::read(entries) {
            Ok(owners) if !owners.is_empty() => owners,
            _ => of_live(),
        },
        None => of_live(),
    }
}

fn check_config(config: &Node, schema: TypeRef, manager: &Manager, options: &Options) -> Result<(), ApplyError> {
    let gvk = config.type_meta();
    if config.str("apiVersion") != manager.api_version || (!options.kind.is_empty() && gvk.kind != options.kind) {
        return Err(ApplyError::BadRequest(format!("invalid object type: {gvk}")));
    }
    if config.at(&["metadata", "managedFields"]).is_some_and(|m| !m.is_null()) {
        return Err(ApplyError::BadRequest("metadata.managedFields must be nil".into()));
    }
    validate(Cursor::root(schema), config, Duplicates::Refused).map_err(|mistakes| {
        ApplyError::Unclassified(format!(
            "failed to create typed patch object ({}): {mistakes}",
            Named(config)
        ))
    })
}

/// What an object is before anything is set.
fn new_object(schema: TypeRef, manager: &Manager, options: &Options, like: &Node) -> Node {
    // Of custom resources nothing is written that is not set.
    let custom = schema.ty().name.is_empty();
    let mut object = if custom { Node::map() } else { zero(schema) };
    object.set("apiVersion", manager.api_version);
    object.set(
        "kind",
        if options.kind.is_empty() {
            like.str("kind")
        } else {
            options.kind
        },
    );
    object
}

fn managed_fields(object: &Node) -> &[Node] {
    object.get("metadata").map_or(&[], |m| m.list("managedFields"))
}

/// As in upstream's messages: `namespace/name; group/version, Kind=kind`.
struct Named<'a>(&'a Node);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}/{}; {}", self.0.namespace(), self.0.name(), self.0.type_meta())
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod properties;
