//! Who makes a request, and what that user may do.
//!
//! # Layers
//!
//! - [`authentication`]: credentials in, user out. [`Authenticator`] is the one trait, each kind of credential a file;
//!   [`authentication::union::Union`] is what the server asks. Chains of certificates are verified once per connection
//!   and minute ([`authentication::peer`]), token signatures once; that what they stand for still exists is looked up
//!   on every request.
//! - [`impersonation`]: which permissions `Impersonate-*` headers need, and whom they lead to.
//! - [`authorization`]: attributes in, decision and reason out. [`Authorizer`] is the one trait. RBAC and Node work on
//!   compiled indexes that follow cluster objects by deltas: a request costs the same with ten bindings and with ten
//!   thousand, and a decision is never older than an acknowledged write.
//! - [`escalation`]: writers of roles and bindings grant only what they hold.
//! - [`reviews`]: SubjectAccessReview, TokenReview, TokenRequest and their kin as functions from object to object.
//! - [`bootstrap`]: the roles and bindings every server has, and how a start brings stored ones up to date.
//! - [`objects`]: how all of these read cluster objects ([`ObjectSource`]); the binary implements it over watch caches.
//!
//! # What is deliberately absent
//!
//! A loopback identity: the server's own loops call the engine and need no token. Clear text of tokens in memory, errors
//! or logs. Migrations of roles from before Kubernetes 1.9. Caches of decisions: they would outlive a revocation.
//!
//! Related: `kubernetes/apiserver pkg/authentication, pkg/authorization`; the server crate's filters call this one.

pub mod authentication;
pub mod authorization;
pub mod bootstrap;
pub mod escalation;
pub mod impersonation;
pub mod objects;
pub mod reviews;

pub use authentication::{AuthError, Authenticated, Authenticator, Credentials};
pub use authorization::{Authorizer, AuthzAttributes, Decision, ResolvedRules};
pub use objects::ObjectSource;
