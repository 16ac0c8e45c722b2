//! [`PatchError`]: why a patch was refused, by what the client gets to see.

use fairlead_api::Status;
use fairlead_api::status::Details;

/// A refused patch. The text is what an in-process caller (a webhook's patch) reports; see [`PatchError::to_status`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself is not of its format.
    #[error("{0}")]
    Malformed(String),
    /// More operations than one patch may have.
    #[error("The allowed maximum operations in a JSON patch is {limit}, got {got}")]
    TooManyOperations { limit: usize, got: usize },
    /// The patch is well formed, but not for this document.
    #[error("{0}")]
    DoesNotApply(String),
    /// A mistake that upstream answers without a reason, as its own failure.
    #[error("{0}")]
    Unclassified(String),
}

impl PatchError {
    /// Whether what the patch tests for is not so.
    pub fn is_failed_test(&self) -> bool {
        matches!(self, PatchError::DoesNotApply(text) if text.ends_with(": test failed"))
    }

    /// The answer to a PATCH request.
    pub fn to_status(&self) -> Status {
        match self {
            PatchError::Malformed(text) => Status::bad_request(text.clone()),
            PatchError::TooManyOperations { .. } => Status::too_large(format!("Request entity too large: {self}")),
            // COMPAT: the reason why a patch does not apply never reaches the client.
            PatchError::DoesNotApply(_) => Status::new(
                422,
                "Invalid",
                "the server rejected our request due to an error in our request",
            )
            .with_details(Details::default()),
            PatchError::Unclassified(text) => Status::new(500, "", text.clone()),
        }
    }
}
