//! [`Hooks`]: what a schema cannot say about a resource.

use crate::definition::{ResourceDefinition, Verb};
use crate::request::{Request, Response};
use compact_str::CompactString;
use fairlead_api::{Clock, FieldErrors, Node, StatusResult, UserInfo};
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// Randomness, by a handle: names, uids, ports.
pub trait Entropy: Send + Sync {
    fn bits(&self) -> u64;
}

/// What every hook may look at.
#[derive(Clone)]
pub struct HookContext<'a> {
    pub definition: &'a ResourceDefinition,
    pub clock: &'a dyn Clock,
    pub entropy: &'a dyn Entropy,
    pub user: &'a Arc<UserInfo>,
    /// Of the request; empty for cluster-scoped resources.
    pub namespace: &'a str,
    /// Empty for the resource itself.
    pub subresource: &'a str,
    pub dry_run: bool,
}

/// Everything has a default that does nothing; a resource overrides what differs (KEP-5975 in spirit).
///
/// Order on create: decode, schema defaults, [`default`](Hooks::default), mutating admission, [`permit`](Hooks::permit),
/// [`prepare_create`](Hooks::prepare_create), [`begin_create`](Hooks::begin_create),
/// [`validate_create`](Hooks::validate_create), [`canonicalize`](Hooks::canonicalize), validating admission, store.
/// Update likewise, with the stored object beside the new one.
///
/// The engine checks metadata itself, as upstream does for all kinds: on create when nothing else was wrong (names as
/// path segments only, so a kind's own name rule is `validate_create`'s), on update before `validate_update`.
pub trait Hooks: Send + Sync {
    /// Defaults that depend on other fields. Runs on everything decoded: create, update, the result of a patch.
    fn default(&self, _object: &mut Node) {}

    /// May refuse a write because of who makes it (granting permissions one does not hold). `old` is the stored object,
    /// on update and patch. Runs after mutating admission and before preparation and validation, so that a 403 comes
    /// before a 422; not for writes of the server's own loops.
    fn permit<'a>(
        &'a self,
        _object: &'a Node,
        _old: Option<&'a Node>,
        _context: &'a HookContext<'a>,
    ) -> BoxFuture<'a, StatusResult<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Clears what clients may not set (status), sets what the server decides.
    fn prepare_create(&self, _object: &mut Node, _context: &HookContext) {}

    fn validate_create(&self, _object: &Node, _context: &HookContext, _errors: &mut FieldErrors) {}

    /// Puts back what clients may not change. Generation and the status split are the engine's work.
    fn prepare_update(&self, _object: &mut Node, _old: &Node, _context: &HookContext) {}

    fn validate_update(&self, _object: &Node, _old: &Node, _context: &HookContext, _errors: &mut FieldErrors) {}

    /// `old` is the stored object; called for the status subresource instead of the two above.
    fn prepare_status(&self, _object: &mut Node, _old: &Node, _context: &HookContext) {}

    fn validate_status(&self, _object: &Node, _old: &Node, _context: &HookContext, _errors: &mut FieldErrors) {}

    /// Normalises a valid object just before it is stored.
    fn canonicalize(&self, _object: &mut Node) {}

    /// Warnings about a valid object; `old` on update.
    fn warnings(&self, _object: &Node, _old: Option<&Node>, _context: &HookContext) -> Vec<String> {
        Vec::new()
    }

    /// Warnings about a new object as the client sent it, before [`prepare_create`](Hooks::prepare_create).
    fn early_warnings(&self, _object: &Node, _context: &HookContext) -> Vec<String> {
        Vec::new()
    }

    /// Whether clients may set `status` on create although it is a subresource.
    fn keeps_status_on_create(&self) -> bool {
        false
    }

    /// Whether a delete answers with the object instead of a Status.
    fn returns_deleted_object(&self) -> bool {
        false
    }

    /// Whether discovery tells of a verb that the resource has.
    fn advertised(&self, _verb: Verb) -> bool {
        true
    }

    /// Whether deletes take propagation policies: the garbage collector knows this kind.
    fn garbage_collected(&self) -> bool {
        true
    }

    /// Whether a delete without a policy orphans dependents.
    fn orphans_dependents(&self) -> bool {
        false
    }

    /// Said to clients whose delete names no propagation policy.
    fn default_policy_warning(&self) -> Option<&'static str> {
        None
    }

    /// Whether upstream's own update checks of this kind repeat those of metadata, so that clients see them twice among
    /// the causes. Most do.
    fn repeats_metadata_checks(&self) -> bool {
        true
    }

    /// COMPAT: whether `/status` can be shown as a Table, as it can of most kinds.
    fn prints_status(&self) -> bool {
        true
    }

    /// COMPAT: annotations that are fields inside upstream: whoever asks only for metadata does not see them.
    fn hidden_annotations(&self) -> &'static [&'static str] {
        &[]
    }

    /// The group that invalid objects are said to be of, where it is not the one they are served under.
    fn group_in_errors(&self) -> Option<&'static str> {
        None
    }

    /// Runs on an object that stays because of finalizers, when its deletion begins (a namespace's phase).
    fn begin_deletion(&self, _object: &mut Node) {}

    /// Whether objects are namespaces: admission then sees an object's name as its namespace.
    fn is_namespace(&self) -> bool {
        false
    }

    /// The words for a field that cannot be selected by, where this kind has its own.
    fn unsupported_field(&self, _field: &str) -> Option<String> {
        None
    }

    /// May refuse a delete, after preconditions and before anything changes.
    fn check_delete(&self, _object: &Node, _context: &HookContext) -> StatusResult<()> {
        Ok(())
    }

    /// The grace period a delete gets: `None` where this kind is deleted at once.
    fn grace_period_seconds(&self, _object: &Node, _requested: Option<i64>) -> Option<i64> {
        None
    }

    /// Finalizers other than `metadata.finalizers` that keep an object (a namespace's `spec.finalizers`).
    fn keeps_after_delete(&self, _object: &Node) -> bool {
        false
    }

    /// Takes what must be reserved outside the object (addresses, ports) and writes it into it.
    /// The claim is committed after the write and released if there is none.
    fn begin_create<'a>(
        &'a self,
        _object: &'a mut Node,
        _context: &'a HookContext<'a>,
    ) -> BoxFuture<'a, StatusResult<Option<Box<dyn Claim>>>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn begin_update<'a>(
        &'a self,
        _object: &'a mut Node,
        _old: &'a Node,
        _context: &'a HookContext<'a>,
    ) -> BoxFuture<'a, StatusResult<Option<Box<dyn Claim>>>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Runs after a write was stored and before it is answered: what other requests must find once a client has the
    /// answer. Not for dry runs.
    fn after_write<'a>(&'a self, _request: &'a Request, _engine: &'a crate::Engine) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Runs after an object is gone.
    fn after_delete<'a>(&'a self, _object: &'a Node) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Table cells, one a column; `None` where the columns' JSON paths say all. `now_seconds` is for ages.
    fn row(&self, _object: &Node, _now_seconds: i64) -> Option<Vec<Node>> {
        None
    }

    /// Values of selectable fields that a JSON path cannot say; replaces those of the same name.
    fn selectable(&self, _object: &Node) -> Vec<(CompactString, CompactString)> {
        Vec::new()
    }

    /// What a selectable field of this version is called in the stored one; `None` where it has the same name.
    fn stored_field(&self, _field: &str) -> Option<CompactString> {
        None
    }

    /// What a Table says of an object beside its cells: the `conditions` of its row.
    fn row_conditions(&self, _object: &Node) -> Option<Node> {
        None
    }

    /// The members of an object that [`selectable`](Hooks::selectable) looks at, besides the paths of the fields it
    /// replaces: nothing else is read of stored objects.
    fn selectable_from(&self) -> &'static [&'static [&'static str]] {
        &[]
    }

    /// Managed-field sets leave these paths out (`status` of the resource itself, `spec` of `/status` …).
    /// The engine already leaves out `status` where there is a status subresource.
    fn reset_fields(&self, _subresource: &str) -> &'static [&'static [&'static str]] {
        &[]
    }

    /// Serves a subresource whose behavior is `Custom`, and resources that are not stored (reviews): `subresource` is "".
    /// `None` where there is no such thing.
    fn serve(&self, _subresource: &str) -> Option<&dyn Serve> {
        None
    }

    /// Answers creates of what is not stored: reviews (`subresource` is "") and subresources such as `token`.
    /// `None` where creates are stored, or served by [`serve`](Hooks::serve).
    fn answers(&self, _subresource: &str) -> Option<&dyn AnswersCreate> {
        None
    }
}

/// A resource or subresource that answers by itself.
pub trait Serve: Send + Sync {
    fn serve<'a>(&'a self, request: &'a Request, engine: &'a crate::Engine) -> BoxFuture<'a, StatusResult<Response>>;
}

/// A create whose answer is made and not stored.
///
/// The engine does with it what it does with every create: decodes the body, applies defaults, records managed fields,
/// runs mutating admission, has the result checked, runs validating admission on it, asks this for the answer, and sends
/// that with 201.
pub trait AnswersCreate: Send + Sync {
    /// Defaults that a schema cannot say, or does not publish. Runs before managed fields are recorded.
    fn default(&self, _object: &mut Node) {}

    /// Refuses what cannot be answered whatever admission says, and fills in what the request leaves to the server.
    /// Whether name and uid are those of the path is this one's to check.
    fn check<'a>(
        &'a self,
        _object: &'a mut Node,
        _request: &'a Request,
        _context: &'a HookContext<'a>,
    ) -> BoxFuture<'a, StatusResult<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// `request` tells path and user; `object` is the body, checked, in the request's version.
    fn answer<'a>(
        &'a self,
        object: Node,
        request: &'a Request,
        engine: &'a crate::Engine,
        context: &'a HookContext<'a>,
    ) -> BoxFuture<'a, StatusResult<Answered>>;
}

/// An answer, and what goes beside it.
pub struct Answered {
    pub object: Node,
    pub warnings: Vec<String>,
    /// Annotations for the audit event: key and value.
    pub audit: Vec<(String, String)>,
}

/// Something reserved for a write that is still under way.
pub trait Claim: Send {
    /// The write happened.
    fn commit(self: Box<Self>);
    /// The write did not happen.
    fn release(self: Box<Self>);
    /// Nobody knows whether the write happened: what is reserved must not go to anybody else.
    fn keep(self: Box<Self>);
}

/// A resource without anything of its own.
pub struct NoHooks;

impl Hooks for NoHooks {}
