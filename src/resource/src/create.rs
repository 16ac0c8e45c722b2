//! POST: a new object.
// PERFORMANCE: per-request path

use crate::call::Call;
use crate::hooks::Claim;
use crate::options::{WriteKind, WriteOptions};
use crate::request::Response;
use crate::{at_rest, body, convert, fields, meta, store_error, typed, view};
use fairlead_admission::Operation;
use fairlead_api::metadata::validate_object_meta;
use fairlead_api::{FieldErrors, FieldPath, Node, Status, StatusResult, name};
use fairlead_storage::Error;
use std::sync::Arc;
use std::time::Duration;

/// How often a generated name is tried when it is taken.
const GENERATED_NAME_ATTEMPTS: usize = 8;

/// # Errors
/// BadRequest, Invalid, AlreadyExists, or what admission and hooks answer.
pub async fn create(call: &mut Call<'_>) -> StatusResult<Response> {
    let options = WriteOptions::parse(call.request, WriteKind::Create)?;
    let definition = call.definition;
    let mut object = body::decode(call, &definition.gvk(), &definition.schema, options.field_validation)?;
    typed::default(&mut object, definition);
    call.record(&object);
    meta::wipe(&mut object);
    meta::ensure_namespace(&mut object, call.object_namespace())?;
    meta::dedup_owner_references(call, &mut object, false);
    let manager = fields::manager(call, &options);
    fields::record(call, None, &mut object, &manager).await;
    let object = admit(call, object, &options).await?;
    let generates = object.name().is_empty() && !object.str_at(&["metadata", "generateName"]).is_empty();
    if !generates {
        return attempt(call, object, &options).await;
    }
    for _ in 1..GENERATED_NAME_ATTEMPTS {
        match attempt(call, object.clone(), &options).await {
            Err(status) if status.reason() == "AlreadyExists" => {}
            other => return other,
        }
    }
    attempt(call, object, &options).await
}

/// Mutating admission of a new object.
pub async fn admit(call: &mut Call<'_>, object: Node, options: &WriteOptions) -> StatusResult<Node> {
    if call.request.internal {
        return Ok(object);
    }
    let options_node = options.to_node("CreateOptions");
    let mut attributes = call.attributes(
        Operation::Create,
        object,
        Arc::new(Node::Null),
        options_node,
        options.dry_run,
    );
    let result = call.engine.config.admission.mutate(&mut attributes).await;
    call.absorb(&mut attributes);
    result?;
    fields::settle(call, &mut attributes);
    let mut object = attributes.object;
    meta::dedup_owner_references(call, &mut object, true);
    Ok(object)
}

async fn attempt(call: &mut Call<'_>, object: Node, options: &WriteOptions) -> StatusResult<Response> {
    let (object, mut claim) = prepare(call, object, options).await?;
    let object = validate_admission(call, object, options).await?;
    let key = call.key_of(object.name());
    if options.dry_run {
        let fresh = call.cache().fresh().await;
        let snapshot = fresh.map_err(|error| store_error::status(error, &call.group_resource(), "create"))?;
        if let Some(existing) = snapshot.get(&key) {
            return Err(already_exists(call, &object, is_terminating(&existing.json.text())));
        }
        let object = convert::there_and_back(call.definition, object).await?;
        return view::shape(call, 201, object);
    }
    if !matches!(object.resource_version(), "" | "0") && object.resource_version().parse::<u64>().is_ok() {
        // COMPAT: the store refuses these, so it is a failure without a reason.
        return Err(Status::new(
            500,
            "",
            "resourceVersion should not be set on objects to be created",
        ));
    }
    let name = object.name().to_owned();
    let generated = !object.str_at(&["metadata", "generateName"]).is_empty();
    let stored = convert::to_stored(call.definition, object).await?;
    let lifetime = lifetime(call);
    claim.write_begins();
    let result = call
        .cache()
        .create(&key, at_rest::write(call.definition, stored).into(), lifetime)
        .await;
    claim.write_ended(&result);
    match result {
        Ok(cached) => {
            claim.commit();
            view::respond(call, 201, cached).await
        }
        Err(Error::Conflict { current }) => {
            let terminating = current.is_some_and(|entry| {
                at_rest::read(call.definition, &entry.value).is_ok_and(|json| is_terminating(&json))
            });
            Err(exists(call, &name, generated, terminating))
        }
        Err(error) => Err(store_error::status(error, &call.group_resource(), "create")),
    }
}

/// Everything between mutating and validating admission: the server's own fields, preparation, claims, validation.
/// Shared with updates that create.
pub async fn prepare(
    call: &mut Call<'_>,
    mut object: Node,
    options: &WriteOptions,
) -> StatusResult<(Node, ClaimGuard)> {
    let definition = call.definition;
    let config = &call.engine.config;
    if !call.request.internal {
        let context = call.hook_context(options.dry_run);
        definition.hooks.permit(&object, None, &context).await?;
    }
    meta::fill(&mut object, config.clock.now(), &*config.entropy);
    meta::ensure_namespace(&mut object, call.object_namespace())?;
    if call.has_status() && !definition.hooks.keeps_status_on_create() {
        typed::reset(&mut object, definition, "status");
    }
    if definition.generation {
        meta::set_generation(&mut object, 1);
    }
    let context = call.hook_context(options.dry_run);
    let warnings = definition.hooks.early_warnings(&object, &context);
    definition.hooks.prepare_create(&mut object, &context);
    call.warn_all(warnings);
    // What is claimed is checked with the rest: addresses and ports that the server chose.
    let context = call.hook_context(options.dry_run);
    let claim = ClaimGuard::new(definition.hooks.begin_create(&mut object, &context).await?);

    let metadata = FieldPath::new("metadata");
    let mut errors = FieldErrors::new();
    if definition.is_custom() {
        let node = object.meta().unwrap_or(&Node::Null);
        errors.extend(validate_object_meta(
            node,
            definition.namespaced(),
            name::name_is_dns_subdomain,
            &metadata,
        ));
    }
    definition
        .hooks
        .validate_create(&object, &call.hook_context(options.dry_run), &mut errors);
    if errors.is_empty() {
        let node = object.meta().unwrap_or(&Node::Null);
        errors = validate_object_meta(node, definition.namespaced(), name::name_is_path_segment, &metadata);
    }
    if !errors.is_empty() {
        return Err(Status::invalid(
            &definition.invalid_kind(&object),
            object.name(),
            &errors,
        ));
    }
    let warnings = definition
        .hooks
        .warnings(&object, None, &call.hook_context(options.dry_run));
    call.warn_all(warnings);
    definition.hooks.canonicalize(&mut object);
    typed::settle(&mut object, definition);
    Ok((object, claim))
}

/// Validating admission of what will be stored.
pub async fn validate_admission(call: &mut Call<'_>, object: Node, options: &WriteOptions) -> StatusResult<Node> {
    if call.request.internal {
        return Ok(object);
    }
    let options_node = options.to_node("CreateOptions");
    let mut attributes = call.attributes(
        Operation::Create,
        object,
        Arc::new(Node::Null),
        options_node,
        options.dry_run,
    );
    let result = call.engine.config.admission.validate(&mut attributes).await;
    call.absorb(&mut attributes);
    result.map(|()| attributes.object)
}

/// How long an object of this resource lives.
pub fn lifetime(call: &Call) -> Option<Duration> {
    match call.definition.storage.lifetime_seconds {
        0 => None,
        seconds => Some(Duration::from_secs(seconds)),
    }
}

/// A claim that is released unless it is committed, and kept while nobody knows whether the write happened: a future
/// that is dropped may have written.
pub struct ClaimGuard {
    claim: Option<Box<dyn Claim>>,
    writing: bool,
}

impl ClaimGuard {
    pub fn new(claim: Option<Box<dyn Claim>>) -> ClaimGuard {
        ClaimGuard { claim, writing: false }
    }

    /// From here until [`ClaimGuard::write_ended`] the write may have happened.
    pub fn write_begins(&mut self) {
        self.writing = true;
    }

    pub fn write_ended<T>(&mut self, result: &Result<T, Error>) {
        self.writing = matches!(result, Err(Error::Indeterminate(_)));
    }

    pub fn commit(mut self) {
        if let Some(claim) = self.claim.take() {
            claim.commit();
        }
    }
}

impl Drop for ClaimGuard {
    fn drop(&mut self) {
        match self.claim.take() {
            Some(claim) if self.writing => claim.keep(),
            Some(claim) => claim.release(),
            None => {}
        }
    }
}

fn already_exists(call: &Call, object: &Node, terminating: bool) -> Status {
    exists(
        call,
        object.name(),
        !object.str_at(&["metadata", "generateName"]).is_empty(),
        terminating,
    )
}

fn exists(call: &Call, name: &str, generated: bool, terminating: bool) -> Status {
    let mut status = Status::already_exists(&call.group_resource(), name);
    let content = status.content_mut();
    if generated {
        content
            .message
            .push_str(", the server was not able to generate a unique name for the object");
        content.details.get_or_insert_default().retry_after_seconds = Some(1);
    }
    if terminating {
        content.message.insert_str(0, "object is being deleted: ");
    }
    status
}

fn is_terminating(json: &[u8]) -> bool {
    fairlead_api::json::parse(json).is_ok_and(|object| object.deletion_timestamp().is_some())
}
