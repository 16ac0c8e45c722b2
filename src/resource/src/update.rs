//! PUT and PATCH: a new state of an object, made from the stored one and tried until nobody else was faster.
//!
//! Source of behaviour: kubernetes/apiserver pkg/registry/generic/registry/store.go (Update).
// PERFORMANCE: per-request path

use crate::call::Call;
use crate::create::{self, ClaimGuard};
use crate::options::{WriteKind, WriteOptions};
use crate::patch::Patch;
use crate::request::Response;
use crate::{at_rest, body, convert, delete, fields, meta, store_error, subresource, typed, view};
use fairlead_admission::Operation;
use fairlead_api::metadata::{validate_object_meta, validate_object_meta_update};
use fairlead_api::{FieldError, FieldErrors, FieldPath, GroupKind, Node, Status, StatusResult, alike, name};
use fairlead_storage::{Cached, Error};
use std::sync::Arc;

/// How a new state comes about.
pub struct Write {
    pub options: WriteOptions,
    pub manager: String,
    pub source: Source,
}

pub enum Source {
    /// The body, decoded.
    Replace(Node),
    Patch(Patch),
}

/// What one attempt leads to.
enum Attempt {
    /// Nothing would change.
    Same(Arc<Cached>),
    Write {
        object: Node,
        claim: ClaimGuard,
        created: bool,
    },
    /// The last finalizer is gone.
    Remove { object: Node, claim: ClaimGuard },
}

/// PUT.
///
/// # Errors
/// BadRequest, Invalid, NotFound, Conflict, or what admission and hooks answer.
pub async fn put(call: &mut Call<'_>) -> StatusResult<Response> {
    let options = WriteOptions::parse(call.request, WriteKind::Update)?;
    let definition = call.definition;
    let mut object = if call.is_scale() {
        subresource::decode_scale(call, options.field_validation)?
    } else {
        let mut object = body::decode(call, &definition.gvk(), &definition.schema, options.field_validation)?;
        typed::default(&mut object, definition);
        object
    };
    call.record(&object);
    meta::ensure_namespace(&mut object, call.object_namespace())?;
    meta::check_name(&object, &call.request.name, &call.request.namespace)?;
    meta::dedup_owner_references(call, &mut object, false);
    let manager = fields::manager(call, &options);
    run(
        call,
        Write {
            options,
            manager,
            source: Source::Replace(object),
        },
    )
    .await
}

/// Tries until the write goes through. Begins with what the cache has; a failure counts only against the latest state.
/// Who was refused because somebody else was faster queues up.
pub async fn run(call: &mut Call<'_>, mut write: Write) -> StatusResult<Response> {
    let key = call.key();
    let mut turn = call.cache().turn(&key).await;
    let mut existing = call.cache().latest().get(&key).cloned();
    let mut current = false;
    loop {
        let attempt = match attempt(call, &mut write, existing.as_ref()).await {
            Ok(attempt) => attempt,
            Err(status) if current => return Err(status),
            Err(status) => {
                let fresh = refresh(call, &key).await?;
                current = true;
                if same(existing.as_ref(), fresh.as_ref()) {
                    return Err(status);
                }
                existing = fresh;
                continue;
            }
        };
        let (object, mut claim, created) = match attempt {
            Attempt::Same(cached) if write.options.dry_run => {
                return view::respond_view(call, 200, cached).await;
            }
            Attempt::Same(cached) => {
                if !current {
                    let fresh = refresh(call, &key).await?;
                    current = true;
                    if !same(Some(&cached), fresh.as_ref()) {
                        existing = fresh;
                        continue;
                    }
                }
                let cached = freshen(call, &cached).await?;
                return view::respond_view(call, 200, cached).await;
            }
            Attempt::Remove { object, claim } => match remove(call, &key, existing.as_ref(), &object, &write).await? {
                true => {
                    claim.commit();
                    return view::shape_view(call, 200, object);
                }
                false => {
                    existing = refresh(call, &key).await?;
                    current = true;
                    continue;
                }
            },
            Attempt::Write { object, claim, created } => (object, claim, created),
        };
        let code = if created { 201 } else { 200 };
        if write.options.dry_run {
            let object = if call.is_scale() {
                object
            } else {
                convert::there_and_back(call.definition, object).await?
            };
            return view::shape_view(call, code, object);
        }
        let stored = convert::to_stored(call.definition, object).await?;
        let value = at_rest::write(call.definition, stored).into();
        let lifetime = create::lifetime(call);
        claim.write_begins();
        let result = match existing.as_ref().filter(|_| !created) {
            None => call.cache().create(&key, value, lifetime).await,
            Some(existing) => call.cache().update(&key, value, existing.revision, lifetime).await,
        };
        claim.write_ended(&result);
        match result {
            Ok(cached) => {
                // The next one need not wait for the answer to be made.
                drop(turn);
                claim.commit();
                return view::respond_view(call, code, cached).await;
            }
            Err(Error::Conflict { .. }) => {
                if turn.is_none() {
                    turn = Some(call.cache().queue_up(&key).await);
                }
                existing = refresh(call, &key).await?;
                current = true;
            }
            Err(error) => return Err(store_error::status(error, &call.group_resource(), "update")),
        }
    }
}

async fn refresh(call: &Call<'_>, key: &str) -> StatusResult<Option<Arc<Cached>>> {
    match call.cache().fresh().await {
        Ok(snapshot) => Ok(snapshot.get(key).cloned()),
        Err(error) => Err(store_error::status(error, &call.group_resource(), "update")),
    }
}

/// What an update that changes nothing may still change: how the object is encrypted.
async fn freshen(call: &Call<'_>, cached: &Arc<Cached>) -> StatusResult<Arc<Cached>> {
    let freshened = call.cache().freshen(cached, create::lifetime(call)).await;
    freshened.map_err(|error| store_error::status(error, &call.group_resource(), "update"))
}

fn same(one: Option<&Arc<Cached>>, other: Option<&Arc<Cached>>) -> bool {
    one.map(|object| object.revision) == other.map(|object| object.revision)
}

async fn attempt(call: &mut Call<'_>, write: &mut Write, existing: Option<&Arc<Cached>>) -> StatusResult<Attempt> {
    let definition = call.definition;
    let Some(existing) = existing else {
        return attempt_create(call, write).await;
    };
    let old = Arc::new(convert::node(definition, existing).await?);
    check_uid(call, write, &old)?;
    let scale = call.is_scale();
    let old_view = if scale {
        Arc::new(subresource::old_scale(call, &old)?)
    } else {
        old.clone()
    };

    let mut new_view = match &mut write.source {
        Source::Replace(object) => {
            let mut object = object.clone();
            fields::record(call, Some(&old_view), &mut object, &write.manager).await;
            object
        }
        Source::Patch(patch) => {
            let mut object = patch.apply(call, &old_view, &write.options, &write.manager).await?;
            meta::ensure_namespace(&mut object, call.object_namespace())?;
            meta::check_name(&object, &call.request.name, &call.request.namespace)?;
            object
        }
    };
    if !call.request.internal {
        let options = write.options.to_node("UpdateOptions");
        let mut attributes = call.attributes(
            Operation::Update,
            new_view,
            old_view.clone(),
            options,
            write.options.dry_run,
        );
        let result = call.engine.config.admission.mutate(&mut attributes).await;
        call.absorb(&mut attributes);
        result?;
        fields::settle(call, &mut attributes);
        new_view = attributes.object;
        meta::dedup_owner_references(call, &mut new_view, true);
    }
    let mut object = if scale {
        subresource::write_scale(call, &old, new_view)?
    } else {
        new_view
    };
    check_version(call, &mut object, &old)?;
    let claim = before_update(call, &mut object, &old, write.options.dry_run).await?;
    fairlead_patch::apply::keep_times(&old, &mut object);
    if !call.request.internal {
        object = validate_admission(call, object, &old, write).await?;
    }
    if deletes(call, &object, &old) {
        return Ok(Attempt::Remove { object, claim });
    }
    if object == *old {
        return Ok(Attempt::Same(existing.clone()));
    }
    Ok(Attempt::Write {
        object,
        claim,
        created: false,
    })
}

/// There is nothing to update: a new object, where that is allowed.
async fn attempt_create(call: &mut Call<'_>, write: &mut Write) -> StatusResult<Attempt> {
    let definition = call.definition;
    let not_found = || Status::not_found(&definition.group_resource(), &call.request.name);
    if call.subresource.is_some() {
        return Err(not_found());
    }
    let object = match &mut write.source {
        Source::Replace(_) if !definition.create_on_update => return Err(not_found()),
        Source::Replace(object) => {
            let mut object = object.clone();
            fields::record(call, None, &mut object, &write.manager).await;
            object
        }
        Source::Patch(patch) if !patch.creates() => return Err(not_found()),
        Source::Patch(patch) => {
            let mut object = patch.create(call, &write.options, &write.manager).await?;
            if !object.uid().is_empty() {
                let why = format!(
                    "uid mismatch: the provided object specified uid {}, and no existing object was found",
                    object.uid()
                );
                return Err(Status::conflict(&call.group_resource(), &call.request.name, why));
            }
            meta::ensure_namespace(&mut object, call.object_namespace())?;
            meta::check_name(&object, &call.request.name, &call.request.namespace)?;
            object
        }
    };
    let object = create::admit(call, object, &write.options).await?;
    if let Err(why) = parse_version(&object) {
        return Err(Status::new(500, "", why));
    }
    let (mut object, claim) = create::prepare(call, object, &write.options).await?;
    if !call.request.internal {
        call.engine
            .config
            .authorize_create
            .authorize_create(call.request)
            .await?;
        object = create::validate_admission(call, object, &write.options).await?;
    }
    object.meta_mut().remove("resourceVersion");
    Ok(Attempt::Write {
        object,
        claim,
        created: true,
    })
}

/// A uid in a PUT body must be the object's.
fn check_uid(call: &Call, write: &Write, old: &Node) -> StatusResult<()> {
    let Source::Replace(object) = &write.source else {
        return Ok(());
    };
    let uid = object.uid();
    if uid.is_empty() || uid == old.uid() {
        return Ok(());
    }
    let why = store_precondition(call, "UID", uid, old.uid());
    Err(Status::conflict(&call.group_resource(), &call.request.name, why))
}

/// COMPAT: the words of upstream's store for a precondition that does not hold, its key included.
pub fn store_precondition(call: &Call, what: &str, given: &str, actual: &str) -> String {
    format!(
        "StorageError: invalid object, Code: 4, Key: /registry{}{}, ResourceVersion: 0, AdditionalErrorMsg: Precondition \
         failed: {what} in precondition: {given}, {what} in object meta: {actual}",
        call.definition.storage.prefix,
        call.key()
    )
}

/// Settles the resourceVersion: unconditional, or the stored one.
fn check_version(call: &Call, object: &mut Node, old: &Node) -> StatusResult<()> {
    // COMPAT: without a reason, as upstream.
    let version = parse_version(object).map_err(|why| Status::new(500, "", why))?;
    if version == 0 {
        if call.definition.unconditional_update {
            let stored = old.resource_version().to_owned();
            object.meta_mut().insert("resourceVersion", Node::from(stored));
            return Ok(());
        }
        let path = FieldPath::new("metadata.resourceVersion");
        let error = FieldError::invalid(&path, 0i64, "must be specified for an update");
        // COMPAT: the resource stands where a kind should.
        let resource = call.group_resource();
        let kind = GroupKind {
            group: resource.group,
            kind: resource.resource,
        };
        return Err(Status::invalid(&kind, &call.request.name, &vec![error]));
    }
    if version.to_string() != old.resource_version() {
        return Err(Status::modified(&call.group_resource(), &call.request.name));
    }
    Ok(())
}

fn parse_version(object: &Node) -> Result<u64, String> {
    match object.resource_version() {
        "" => Ok(0),
        text => crate::options::parse_uint(text),
    }
}

/// Everything between mutating and validating admission of an update.
async fn before_update(call: &mut Call<'_>, object: &mut Node, old: &Node, dry_run: bool) -> StatusResult<ClaimGuard> {
    let definition = call.definition;
    let status = call.is_status();
    if !call.request.internal {
        let context = call.hook_context(dry_run);
        definition.hooks.permit(object, Some(old), &context).await?;
    }
    meta::ensure_namespace(object, call.object_namespace())?;
    meta::set_generation(object, old.generation());
    if status {
        subresource::keep_all_but_status(object, old, definition.is_custom());
        definition
            .hooks
            .prepare_status(object, old, &call.hook_context(dry_run));
    } else {
        // What a custom subresource writes is its hook's to say.
        if call.has_status() && call.request.subresource.is_empty() {
            subresource::keep_status(object, old);
        }
        definition
            .hooks
            .prepare_update(object, old, &call.hook_context(dry_run));
        let same = |one: Option<&Node>, other: Option<&Node>| match definition.is_custom() {
            true => one == other,
            false => alike(one, other),
        };
        if definition.generation && !meta::same_outside_metadata(object, old, call.has_status(), same) {
            meta::set_generation(object, old.generation() + 1);
        }
    }
    meta::restore(object, old);
    let context = call.hook_context(dry_run);
    let claim = ClaimGuard::new(definition.hooks.begin_update(object, old, &context).await?);

    let metadata = FieldPath::new("metadata");
    let (new_meta, old_meta) = (object.meta().unwrap_or(&Node::Null), old.meta().unwrap_or(&Node::Null));
    let mut errors = validate_object_meta(new_meta, definition.namespaced(), name::name_is_path_segment, &metadata);
    errors.extend(validate_object_meta_update(new_meta, old_meta, &metadata));
    if definition.is_custom() || definition.hooks.repeats_metadata_checks() {
        errors.extend(validate_object_meta_update(new_meta, old_meta, &metadata));
    }
    validate(call, object, old, dry_run, &mut errors);
    if !errors.is_empty() {
        return Err(Status::invalid(
            &definition.invalid_kind(object),
            object.name(),
            &errors,
        ));
    }
    if !(status && definition.is_custom()) {
        let warnings = definition
            .hooks
            .warnings(object, Some(old), &call.hook_context(dry_run));
        call.warn_all(warnings);
    }
    definition.hooks.canonicalize(object);
    typed::settle(object, definition);
    Ok(claim)
}

fn validate(call: &Call, object: &Node, old: &Node, dry_run: bool, errors: &mut FieldErrors) {
    let definition = call.definition;
    let context = call.hook_context(dry_run);
    if call.is_status() {
        definition.hooks.validate_status(object, old, &context, errors);
    } else {
        definition.hooks.validate_update(object, old, &context, errors);
    }
}

async fn validate_admission(call: &mut Call<'_>, object: Node, old: &Arc<Node>, write: &Write) -> StatusResult<Node> {
    let options = write.options.to_node("UpdateOptions");
    let dry_run = write.options.dry_run;
    if !call.is_scale() {
        let mut attributes = call.attributes(Operation::Update, object, old.clone(), options, dry_run);
        let result = call.engine.config.admission.validate(&mut attributes).await;
        call.absorb(&mut attributes);
        return result.map(|()| attributes.object);
    }
    let (shown, mut old_shown) = (
        subresource::read_scale(call, &object)?,
        subresource::old_scale(call, old)?,
    );
    // COMPAT: at this point neither has owners.
    old_shown.meta_mut().remove("managedFields");
    let mut attributes = call.attributes(Operation::Update, shown, Arc::new(old_shown), options, dry_run);
    let result = call.engine.config.admission.validate(&mut attributes).await;
    call.absorb(&mut attributes);
    result.map(|()| object)
}

/// Whether an update is the last thing that happens to an object: it is being deleted and has no finalizers any more.
fn deletes(call: &Call, object: &Node, old: &Node) -> bool {
    let grace = old
        .at(&["metadata", "deletionGracePeriodSeconds"])
        .and_then(Node::as_i64)
        .unwrap_or(0);
    object.finalizers().next().is_none()
        && old.deletion_timestamp().is_some()
        && grace == 0
        && !call.definition.hooks.keeps_after_delete(object)
}

/// Deletes an object whose last finalizer goes. Answers whether that worked; if not, somebody else was faster.
async fn remove(
    call: &mut Call<'_>,
    key: &str,
    existing: Option<&Arc<Cached>>,
    object: &Node,
    write: &Write,
) -> StatusResult<bool> {
    let Some(existing) = existing else {
        return Ok(true);
    };
    if write.options.dry_run {
        return Ok(true);
    }
    match call.cache().delete(key, existing.revision).await {
        Ok(_) => {
            delete::after(call, object).await;
            Ok(true)
        }
        Err(Error::Conflict { current: None }) => Ok(true),
        Err(Error::Conflict { .. }) => Ok(false),
        Err(error) => Err(store_error::status(error, &call.group_resource(), "delete")),
    }
}
