//! DELETE of an object: preconditions, grace, finalizers, and then the delete itself.
//!
//! Source of behaviour: kubernetes/apiserver pkg/registry/generic/registry/store.go (Delete), pkg/registry/rest/delete.go.
// PERFORMANCE: per-request path

use crate::call::Call;
use crate::options::{DeleteOptions, Propagation};
use crate::request::{Recording, Response};
use crate::{at_rest, convert, list, meta, selection, store_error, view};
use fairlead_admission::Operation;
use fairlead_api::{GroupResource, Node, Status, StatusResult, Timestamp, status};
use fairlead_storage::{Cached, Error};
use std::sync::Arc;

mod finalizers;

/// What became of a delete.
enum Outcome {
    /// Stored, waiting for finalizers or the end of its grace period.
    Pending(Arc<Cached>),
    /// Nothing changed: it was being deleted already; or nothing was to be changed (a dry run).
    Shown {
        object: Node,
        deleted: bool,
    },
    Gone(Arc<Cached>),
}

/// # Errors
/// NotFound, Conflict for preconditions, or what admission and hooks answer.
pub async fn delete(call: &mut Call<'_>) -> StatusResult<Response> {
    let mut options = DeleteOptions::parse(call.request, call.protobuf())?;
    record(call, &options);
    warn_about_default(call, &options);
    let name = call.request.name.clone();
    let outcome = one(call, &name, &mut options).await?;
    let returns_object = call.definition.hooks.returns_deleted_object();
    let (object, deleted) = match outcome {
        Outcome::Pending(cached) => return view::respond(call, pending_code(&options), cached).await,
        Outcome::Gone(cached) if returns_object => return view::respond(call, 200, cached).await,
        Outcome::Gone(cached) => {
            let node = success(call, cached.name(), &cached.header.uid.to_string());
            return Ok(Response::Node { code: 200, node });
        }
        Outcome::Shown { object, deleted } => (object, deleted),
    };
    let code = if deleted { 200 } else { pending_code(&options) };
    if returns_object || (!deleted && object.deletion_timestamp().is_some() && options.dry_run) {
        return view::shape(call, code, object);
    }
    Ok(Response::Node {
        code,
        node: success(call, object.name(), object.uid()),
    })
}

/// DELETE of a collection: what a list selects, page by page.
///
/// # Errors
/// As list and delete.
pub async fn delete_collection(call: &mut Call<'_>) -> StatusResult<Response> {
    let mut listing = crate::options::ListOptions::parse(call.request, false)?;
    let selection = selection::Selection::parse(call.request)?;
    let options = DeleteOptions::parse(call.request, call.protobuf())?;
    record(call, &options);
    warn_about_default(call, &options);
    let limited = listing.limit > 0;
    if !limited {
        listing.limit = PAGE;
    }
    let mut answer: Option<list::Page> = None;
    loop {
        let page = list::page(call, &listing, &selection).await?;
        for object in &page.items {
            let name = object.name().to_owned();
            match one(call, &name, &mut options.clone()).await {
                Err(status) if status.reason() != "NotFound" => return Err(status),
                _ => {}
            }
        }
        let next = page.continue_token.clone();
        match &mut answer {
            None => answer = Some(page),
            Some(answer) => answer.items.extend(page.items),
        }
        if limited || next.is_empty() {
            break;
        }
        listing.continue_token = next;
        listing.resource_version = String::new();
        listing.version_match = crate::options::Match::Unset;
    }
    let mut answer = answer.ok_or_else(|| Status::internal("the collection has no page"))?;
    if !limited {
        answer.continue_token = String::new();
        answer.remaining = None;
    }
    list::respond(call, answer).await
}

/// Kinds with a surprising default policy say so where a request does not name one.
fn warn_about_default(call: &mut Call<'_>, options: &DeleteOptions) {
    if options.orphan_dependents.is_none() && options.propagation.is_none() {
        call.warn_all(
            call.definition
                .hooks
                .default_policy_warning()
                .map(String::from)
                .into_iter()
                .collect(),
        );
    }
}

/// How many objects a collection delete reads at a time.
const PAGE: i64 = 10_000;

fn pending_code(options: &DeleteOptions) -> u16 {
    if options.orphan_dependents == Some(false) {
        202
    } else {
        200
    }
}

fn success(call: &Call, name: &str, uid: &str) -> Node {
    status::success(&call.group_resource(), name, uid)
}

/// Deletes one object, trying again while others change it.
async fn one(call: &mut Call<'_>, name: &str, options: &mut DeleteOptions) -> StatusResult<Outcome> {
    let key = call.key_of(name);
    let not_found = || Status::not_found(&call.definition.group_resource(), name);
    let mut admitted = false;
    // A delete that turns out to be immediate after an update checks only what that update left.
    let mut updated = false;
    loop {
        let existing = {
            let snapshot = call.cache().fresh().await;
            let snapshot = snapshot.map_err(|error| store_error::status(error, &call.group_resource(), "delete"))?;
            snapshot.get(&key).cloned().ok_or_else(not_found)?
        };
        let node = convert::node(call.definition, &existing).await?;
        if !updated {
            check_preconditions(call, &node, options)?;
            let context = call.hook_context(options.dry_run);
            call.definition.hooks.check_delete(&node, &context)?;
        }
        let mut object = node.clone();
        let now = call.engine.config.clock.now();
        let graceful = match if updated {
            Grace::None
        } else {
            grace(call, &mut object, options, now)
        } {
            Grace::Pending => {
                return Ok(Outcome::Shown {
                    object: node,
                    deleted: false,
                });
            }
            Grace::Update => true,
            Grace::None => false,
        };
        if !admitted {
            admit(call, &node, options).await?;
            admitted = true;
        }
        let changed = call.definition.hooks.garbage_collected()
            && finalizers::settle(&mut object, options, call.definition.hooks.orphans_dependents());
        let kept = object.finalizers().next().is_some() || call.definition.hooks.keeps_after_delete(&object);
        if kept && !graceful {
            let own = call.definition.hooks.keeps_after_delete(&object);
            mark(&mut object, now, own);
            call.definition.hooks.begin_deletion(&mut object);
        }
        let _ = changed;
        if !kept && !graceful {
            if options.dry_run {
                return Ok(Outcome::Shown {
                    object: node,
                    deleted: true,
                });
            }
            match call.cache().delete(&key, existing.revision).await {
                Ok(cached) => {
                    after(call, &node).await;
                    return Ok(Outcome::Gone(cached));
                }
                Err(Error::Conflict { current: None }) if updated => return Ok(Outcome::Gone(existing)),
                Err(Error::Conflict { .. }) => continue,
                Err(error) => return Err(store_error::status(error, &call.group_resource(), "delete")),
            }
        }
        let waits = kept || options.grace_period_seconds.unwrap_or(0) > 0;
        if options.dry_run {
            return Ok(Outcome::Shown {
                object,
                deleted: !waits,
            });
        }
        let cached = if object == node {
            existing
        } else {
            let stored = convert::to_stored(call.definition, object).await?;
            let value = at_rest::write(call.definition, stored).into();
            let lifetime = crate::create::lifetime(call);
            match call.cache().update(&key, value, existing.revision, lifetime).await {
                Ok(cached) => cached,
                Err(Error::Conflict { .. }) => continue,
                Err(error) => return Err(store_error::status(error, &call.group_resource(), "update")),
            }
        };
        if waits {
            return Ok(Outcome::Pending(cached));
        }
        updated = true;
    }
}

/// What runs when an object is gone.
pub async fn after(call: &Call<'_>, object: &Node) {
    call.definition.hooks.after_delete(object).await;
}

/// What the body asks for, as audit events show it.
fn record(call: &mut Call<'_>, options: &DeleteOptions) {
    if call.request.recording == Recording::Object && !call.request.body.bytes.is_empty() {
        let mut options = options.to_node();
        // COMPAT: upstream writes options in their internal version.
        options.set("apiVersion", "meta.k8s.io/__internal");
        call.record(&options);
    }
}

async fn admit(call: &mut Call<'_>, old: &Node, options: &DeleteOptions) -> StatusResult<()> {
    if call.request.internal {
        return Ok(());
    }
    let old = Arc::new(old.clone());
    let mut attributes = call.attributes(Operation::Delete, Node::Null, old, options.to_node(), options.dry_run);
    if call.definition.hooks.is_namespace() && options.precondition_uid.is_none() {
        // COMPAT: what is a namespace is deleted as the one it is by now, and admission sees that.
        let uid = attributes.old_object.uid().to_owned();
        attributes.options.set_at(&["preconditions", "uid"], uid);
    }
    let admission = call.engine.config.admission.clone();
    let mut result = admission.mutate(&mut attributes).await;
    if result.is_ok() {
        result = admission.validate(&mut attributes).await;
    }
    call.absorb(&mut attributes);
    result
}

fn check_preconditions(call: &Call, object: &Node, options: &DeleteOptions) -> StatusResult<()> {
    let definition = call.definition;
    let refuse = |what: &str, given: &str, actual: &str, maybe: &str| {
        if definition.hooks.is_namespace() {
            let why = format!("Precondition failed: {what} in precondition: {given}, {what} in object meta: {actual}");
            return Err(Status::conflict(&call.group_resource(), object.name(), why));
        }
        // COMPAT: the stored kind stands where the resource should.
        let kind = GroupResource {
            group: definition.storage.kind.group.clone(),
            resource: definition.kind.clone(),
        };
        let why = format!(
            "the {what} in the precondition ({given}) does not match the {what} in record ({actual}). The object might \
             have been {maybe}"
        );
        Err(Status::conflict(&kind, object.name(), why))
    };
    if let Some(uid) = &options.precondition_uid
        && uid != object.uid()
    {
        return refuse("UID", uid, object.uid(), "deleted and then recreated");
    }
    if let Some(version) = &options.precondition_version
        && version != object.resource_version()
    {
        return refuse("ResourceVersion", version, object.resource_version(), "modified");
    }
    Ok(())
}

/// What the grace period asks for.
enum Grace {
    /// It has none, or it is over.
    None,
    /// It is running and not shortened.
    Pending,
    /// It begins or is shortened: the object has been changed accordingly.
    Update,
}

fn grace(call: &Call, object: &mut Node, options: &mut DeleteOptions, now: Timestamp) -> Grace {
    if options.grace_period_seconds.is_some_and(|seconds| seconds < 0) {
        options.grace_period_seconds = Some(1);
    }
    let Some(period) = call
        .definition
        .hooks
        .grace_period_seconds(object, options.grace_period_seconds)
    else {
        return Grace::None;
    };
    let running = object
        .at(&["metadata", "deletionGracePeriodSeconds"])
        .and_then(Node::as_i64);
    let Some(ends) = object.deletion_timestamp().and_then(Timestamp::parse) else {
        options.grace_period_seconds = Some(period);
        set_deletion(object, add_seconds(now, period), period);
        if object.generation() > 0 {
            meta::set_generation(object, object.generation() + 1);
        }
        return Grace::Update;
    };
    let running = match running {
        None | Some(0) => return Grace::None,
        Some(seconds) if seconds < 0 => 1,
        Some(seconds) => seconds,
    };
    let Some(mut period) = options.grace_period_seconds else {
        options.grace_period_seconds = Some(running);
        return Grace::Pending;
    };
    if period >= running {
        return Grace::Pending;
    }
    let mut until = add_seconds(ends, period - running);
    if until < now {
        until = now;
        if period != 0 {
            period = 1;
        }
    }
    set_deletion(object, until, period);
    Grace::Update
}

fn set_deletion(object: &mut Node, at: Timestamp, seconds: i64) {
    let meta = object.meta_mut();
    meta.insert("deletionTimestamp", Node::from(at.rfc3339()));
    meta.insert("deletionGracePeriodSeconds", Node::Int(seconds));
}

fn add_seconds(time: Timestamp, seconds: i64) -> Timestamp {
    Timestamp(time.0 + i128::from(seconds) * 1_000_000_000)
}

/// Marks an object that stays because of its finalizers. One that keeps itself (`own`) has no grace period to end.
fn mark(object: &mut Node, now: Timestamp, own: bool) {
    let since = object.deletion_timestamp().and_then(Timestamp::parse);
    if since.is_none() && object.generation() > 0 && !own {
        meta::set_generation(object, object.generation() + 1);
    }
    let meta = object.meta_mut();
    if since.is_none_or(|since| since > now) {
        meta.insert("deletionTimestamp", Node::from(now.rfc3339()));
    }
    if !own {
        meta.insert("deletionGracePeriodSeconds", Node::Int(0));
    }
}
