//! The authentication contract: [`Credentials`] in, [`Authenticated`] out.
// PERFORMANCE: per-request path

use crate::authentication::peer::PeerCertificates;
use fairlead_api::UserInfo;
use futures_util::future::BoxFuture;
use std::sync::Arc;

pub mod anonymous;
pub mod bootstrap_token;
pub mod keys;
pub mod peer;
pub mod request_header;
pub mod service_account;
pub mod token_file;
pub mod trust;
pub mod union;
pub mod version1;
pub mod websocket;
pub mod x509;

/// What a request offers as proof of who sent it.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    /// The token of `Authorization: Bearer …`.
    pub bearer: Option<&'a str>,
    /// The certificates the client presented, with what was already found out about them. One per connection.
    pub peer: &'a PeerCertificates,
    /// Looks request headers up, for the front-proxy protocol.
    pub headers: &'a dyn Headers,
    /// Audiences a token must be for (TokenReview asks for others); empty for this server's own.
    pub audiences: &'a [String],
    /// The request path; anonymous access may be limited to some.
    pub path: &'a str,
}

/// Request headers. Names are compared without case.
pub trait Headers: Sync {
    /// All values of one header, in order.
    fn values(&self, name: &str) -> Vec<&str>;
    /// All headers whose names begin with `prefix` (lower case): the rest of the name, in lower case, and one value.
    fn with_prefix(&self, prefix: &str) -> Vec<(&str, &str)>;
}

/// A request without headers.
pub struct NoHeaders;

/// A user, and how we know.
#[derive(Clone, Debug)]
pub struct Authenticated {
    pub user: Arc<UserInfo>,
    /// Which audiences of those asked for the token is good for; empty where tokens have none, or none was asked for.
    pub audiences: Vec<String>,
    /// For the audit log and metrics: `x509`, `request-header`, `token-file`, `service-account`, `bootstrap-token`, `anonymous`.
    pub authenticator: &'static str,
    /// Annotations for the audit event: key and value.
    pub audit: Vec<(&'static str, String)>,
    /// Sent to the client as `Warning` headers.
    pub warnings: Vec<String>,
}

/// Why credentials were refused. For logs only: clients are told `Unauthorized`. Never holds a token.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct AuthError(pub String);

/// One way to tell who made a request.
///
/// **Operations**: look at credentials. **Guarantees**: `Ok(None)` means "not my kind of credential, ask the next";
/// `Err` means "mine, and wrong". **Failure**: an error does not stop a union; another authenticator may still know the user.
pub trait Authenticator: Send + Sync {
    fn authenticate<'a>(
        &'a self,
        credentials: &'a Credentials<'a>,
    ) -> BoxFuture<'a, Result<Option<Authenticated>, AuthError>>;

    /// Whether it looks at [`Credentials::audiences`] itself. All others are good for the server's own audiences.
    fn knows_audiences(&self) -> bool {
        false
    }
}

/// Group of every authenticated user.
pub const ALL_AUTHENTICATED: &str = "system:authenticated";
/// Group of anonymous users.
pub const ALL_UNAUTHENTICATED: &str = "system:unauthenticated";
/// Name of the anonymous user.
pub const ANONYMOUS: &str = "system:anonymous";
/// The group that may do everything.
pub const MASTERS: &str = "system:masters";
/// Group of all service accounts.
pub const ALL_SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
/// The `extra` key that names the credential a user came with (KEP-4193).
pub const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

impl Authenticated {
    pub fn new(user: UserInfo, authenticator: &'static str) -> Authenticated {
        Authenticated {
            user: Arc::new(user),
            audiences: Vec::new(),
            authenticator,
            audit: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

impl<'a> Credentials<'a> {
    /// No bearer token, no headers.
    pub fn none(peer: &'a PeerCertificates) -> Credentials<'a> {
        Credentials {
            bearer: None,
            peer,
            headers: &NoHeaders,
            audiences: &[],
            path: "",
        }
    }
}

impl AuthError {
    pub fn new(text: impl Into<String>) -> AuthError {
        AuthError(text.into())
    }
}

impl Headers for NoHeaders {
    fn values(&self, _: &str) -> Vec<&str> {
        Vec::new()
    }

    fn with_prefix(&self, _: &str) -> Vec<(&str, &str)> {
        Vec::new()
    }
}
