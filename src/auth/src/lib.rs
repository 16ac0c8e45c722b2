//! Who makes a request, and what that user may do.
//!
//! - [`authentication`]: credentials in, user out. [`Authenticator`] is the one trait; each kind of credential is a file.
//! - [`authorization`]: attributes in, decision out. [`Authorizer`] is the one trait; RBAC and Node work on compiled
//!   indexes that follow cluster objects by deltas, so a request costs the same with ten bindings and with ten thousand.
//! - [`objects`]: how both read cluster objects ([`ObjectSource`]); the binary implements it over the watch caches.
//! - [`impersonation`]: which permissions `Impersonate-*` headers need, and whom they lead to.
//!
//! Related: `kubernetes/apiserver pkg/authentication, pkg/authorization`; the server crate's filters call this one.

pub mod authentication;
pub mod authorization;
pub mod bootstrap;
pub mod escalation;
pub mod impersonation;
pub mod objects;

pub use authentication::{AuthError, Authenticated, Authenticator, Credentials};
pub use authorization::{Authorizer, AuthzAttributes, Decision, ResolvedRules};
pub use objects::ObjectSource;
