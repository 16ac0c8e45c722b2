//! What clients are told when the store fails.

use fairlead_api::status::{Cause, Details};
use fairlead_api::{GroupResource, Status};
use fairlead_storage::Error;

/// Seconds after which a client should try again.
const RETRY_SECONDS: i64 = 2;

/// A failed read or write; `operation` is the verb as messages name it. Conflicts are the caller's to interpret.
pub fn status(error: Error, resource: &GroupResource, operation: &str) -> Status {
    match error {
        Error::Compacted { .. } => Status::expired("The resourceVersion for the provided list is too old."),
        Error::Future { current } => too_large(0, current.0),
        Error::Conflict { .. } | Error::Unavailable(_) | Error::Indeterminate(_) => {
            tracing::warn!(%error, resource = %resource, operation, "the store failed");
            Status::server_timeout(resource, operation, RETRY_SECONDS)
        }
        Error::Full(why) => Status::unavailable(format!("the store is full, only deletes are possible: {why}"))
            .with_retry_after(RETRY_SECONDS),
        Error::Corrupt(message) | Error::Transform { message, .. } => Status::internal(message),
    }
}

/// A read at a resourceVersion that lies ahead of the store.
pub fn read_status(error: Error, resource: &GroupResource, operation: &str, requested: u64) -> Status {
    match error {
        Error::Future { current } => too_large(requested, current.0),
        other => status(other, resource, operation),
    }
}

fn too_large(requested: u64, current: u64) -> Status {
    let cause = Cause {
        reason: "ResourceVersionTooLarge".into(),
        message: "Too large resource version".into(),
        ..Cause::default()
    };
    Status::timeout(
        format!("Too large resource version: {requested}, current: {current}"),
        0,
    )
    .with_details(Details {
        causes: vec![cause],
        retry_after_seconds: Some(1),
        ..Details::default()
    })
}
