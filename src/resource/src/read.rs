//! GET of one object.
// PERFORMANCE: per-request path

use crate::call::Call;
use crate::options::parse_resource_version;
use crate::request::Response;
use crate::{store_error, subresource, view};
use fairlead_api::{Status, StatusResult};
use fairlead_storage::{Cached, Revision, Snapshot};
use std::sync::Arc;

/// # Errors
/// NotFound; Timeout where the resourceVersion lies ahead.
pub async fn get(call: &Call<'_>) -> StatusResult<Response> {
    if let Some(export) = call.request.query("export")
        && export != "0"
        && !export.eq_ignore_ascii_case("false")
    {
        return Err(Status::bad_request(
            "the export parameter, deprecated since v1.14, is no longer supported",
        ));
    }
    let snapshot = snapshot(call, call.request.query("resourceVersion").unwrap_or("")).await?;
    let object = find(call, &snapshot)?;
    if call.is_scale() {
        let node = crate::convert::node(call.definition, &object).await?;
        return view::shape(call, 200, subresource::read_scale(call, &node)?);
    }
    view::respond(call, 200, object).await
}

/// The state to read one object from: the latest for "", anything for "0", at least that for a version.
async fn snapshot(call: &Call<'_>, version: &str) -> StatusResult<Snapshot> {
    // COMPAT: without a reason, as upstream.
    let requested = parse_resource_version(version).map_err(|why| Status::new(500, "", why))?;
    let result = match (version, requested) {
        ("", _) => call.cache().fresh().await,
        (_, 0) => {
            let latest = call.cache().latest();
            if latest.revision.0 > 0 {
                Ok(latest)
            } else {
                call.cache().fresh().await
            }
        }
        _ => call.cache().at_least(Revision(requested)).await,
    };
    result.map_err(|error| store_error::read_status(error, &call.group_resource(), "get", requested))
}

/// The object the path names.
///
/// # Errors
/// NotFound.
pub fn find(call: &Call, snapshot: &Snapshot) -> StatusResult<Arc<Cached>> {
    let found = snapshot.get(&call.key()).cloned();
    found.ok_or_else(|| Status::not_found(&call.group_resource(), &call.request.name))
}
