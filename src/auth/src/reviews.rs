//! Resources that answer a question instead of being stored: an object in, the answered object out.
//!
//! Nothing here is async for IO of its own: only the authorizers and authenticators asked may be.
//! Admission of these creates, and `managedFields`, are the engine's work.

mod access;
mod attributes;
mod rules;
mod token;
mod token_request;

pub use access::{
    check_local_subject_access_review, check_self_subject_access_review, check_subject_access_review,
    self_subject_access_review, subject_access_review,
};
pub use rules::{check_self_subject_rules_review, self_subject_rules_review};
pub use token::{check_token_review, self_subject_review, token_review};
pub use token_request::{DEFAULT_TOKEN_SECONDS, TokenRequest, TokenRequestAnswer, check_token_request, token_request};

/// Group of SubjectAccessReview and its kin.
pub const AUTHORIZATION: &str = "authorization.k8s.io";
/// Group of TokenReview, TokenRequest and SelfSubjectReview.
pub const AUTHENTICATION: &str = "authentication.k8s.io";
