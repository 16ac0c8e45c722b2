//! Creates that are answered and not stored: reviews, tokens.
// PERFORMANCE: per-request path

use crate::call::Call;
use crate::hooks::AnswersCreate;
use crate::options::{WriteKind, WriteOptions};
use crate::request::Response;
use crate::{body, create, fields, meta, patch, typed, view};
use fairlead_api::StatusResult;

/// # Errors
/// BadRequest, Invalid, or what admission and the service answer.
pub async fn answer(call: &mut Call<'_>, service: &dyn AnswersCreate) -> StatusResult<Response> {
    let options = WriteOptions::parse(call.request, WriteKind::Create)?;
    let schema = patch::schema(call)?;
    let mut object = body::decode(call, &call.kind(), &schema, options.field_validation)?;
    if call.subresource.is_none() {
        typed::default(&mut object, call.definition);
    } else {
        typed::default_as(&mut object, &schema);
    }
    service.default(&mut object);
    call.record(&object);
    if call.subresource.is_none() {
        // COMPAT: the body of a subresource may name the uid it is meant for.
        meta::wipe(&mut object);
    }
    meta::ensure_namespace(&mut object, call.object_namespace())?;
    fields::record(call, None, &mut object, &fields::manager(call, &options)).await;
    let mut object = create::admit(call, object, &options).await?;
    {
        let context = call.hook_context(options.dry_run);
        service.check(&mut object, call.request, &context).await?;
    }
    let asked = create::validate_admission(call, object, &options).await?;
    let answered = {
        let context = call.hook_context(options.dry_run);
        service.answer(asked, call.request, call.engine, &context).await?
    };
    call.warn_all(answered.warnings);
    call.audit.extend(answered.audit);
    view::shape(call, 201, answered.object)
}
