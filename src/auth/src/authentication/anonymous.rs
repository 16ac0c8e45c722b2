//! Anonymous users: requests without credentials.
//!
//! Source of behaviour: kubernetes/apiserver pkg/authentication/request/anonymous.

use super::{ALL_UNAUTHENTICATED, ANONYMOUS, AuthError, Authenticated, Authenticator, Credentials};
use fairlead_api::UserInfo;
use futures_util::future::BoxFuture;

/// Lets anyone in as `system:anonymous`; on some paths only, where paths are given (structured configuration).
pub struct Anonymous {
    user: Authenticated,
    paths: Vec<String>,
}

impl Anonymous {
    pub fn new(paths: Vec<String>) -> Anonymous {
        let user = UserInfo::new(ANONYMOUS, &[ALL_UNAUTHENTICATED]);
        Anonymous {
            user: Authenticated::new(user, "anonymous"),
            paths,
        }
    }
}

impl Authenticator for Anonymous {
    fn authenticate<'a>(&'a self, c: &'a Credentials<'a>) -> BoxFuture<'a, Result<Option<Authenticated>, AuthError>> {
        let allowed = self.paths.is_empty() || self.paths.iter().any(|path| path == c.path);
        Box::pin(std::future::ready(Ok(allowed.then(|| self.user.clone()))))
    }
}
