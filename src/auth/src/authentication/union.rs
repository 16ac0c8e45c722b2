//! [`Union`]: all ways to authenticate as one, with the rule for bad credentials and the group everybody gets.
//!
//! Source of behaviour: kubernetes pkg/kubeapiserver/authenticator, kubernetes/apiserver pkg/authentication/{request/union,group}.
// PERFORMANCE: per-request path

use super::{ALL_AUTHENTICATED, ALL_UNAUTHENTICATED, ANONYMOUS, AuthError, Authenticated, Authenticator, Credentials};
use crate::authorization::rbac::aggregate;
use fairlead_api::UserInfo;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// Asks each authenticator in turn. A user somebody knows wins over errors of others; if nobody knows the user, bad
/// credentials are an error, and only a request without any may be anonymous.
pub struct Union {
    pub authenticators: Vec<Arc<dyn Authenticator>>,
    /// `--api-audiences`: who this server is.
    pub audiences: Vec<String>,
    pub anonymous: Option<Arc<dyn Authenticator>>,
}

impl Union {
    async fn known(&self, credentials: &Credentials<'_>) -> Result<Option<Authenticated>, AuthError> {
        let mut errors = Vec::new();
        for authenticator in &self.authenticators {
            let common = match authenticator.knows_audiences() {
                true => None,
                false => Some(self.common(credentials.audiences)),
            };
            if common.as_ref().is_some_and(Vec::is_empty) && !credentials.audiences.is_empty() {
                continue;
            }
            match authenticator.authenticate(credentials).await {
                Ok(Some(mut user)) => {
                    user.audiences = common.unwrap_or(user.audiences);
                    return Ok(Some(with_group(user)));
                }
                Ok(None) => {}
                Err(error) => errors.push(error.0),
            }
        }
        if credentials.bearer.is_some() {
            // COMPAT: upstream's loopback authenticator complains first about any token it does not know.
            errors.insert(0, "invalid bearer token".into());
        }
        if errors.is_empty() {
            Ok(None)
        } else {
            Err(AuthError(aggregate(errors)))
        }
    }

    /// Our audiences among those asked for.
    fn common(&self, asked: &[String]) -> Vec<String> {
        let ours = self.audiences.iter().filter(|a| asked.contains(a));
        ours.cloned().collect()
    }
}

impl Authenticator for Union {
    fn authenticate<'a>(&'a self, c: &'a Credentials<'a>) -> BoxFuture<'a, Result<Option<Authenticated>, AuthError>> {
        Box::pin(async move {
            match (self.known(c).await?, &self.anonymous) {
                (None, Some(anonymous)) => anonymous.authenticate(c).await,
                (known, _) => Ok(known),
            }
        })
    }
}

/// Adds `system:authenticated`, unless the user is anonymous or says which of the two it is.
fn with_group(mut authenticated: Authenticated) -> Authenticated {
    if lacks_group(&authenticated.user) {
        join(Arc::make_mut(&mut authenticated.user));
    }
    authenticated
}

/// Adds the group where [`Union`] would: authenticators that keep their users do it once.
pub(super) fn join(user: &mut UserInfo) {
    if lacks_group(user) {
        user.groups.push(ALL_AUTHENTICATED.into());
    }
}

fn lacks_group(user: &UserInfo) -> bool {
    user.name != ANONYMOUS && !user.in_group(ALL_AUTHENTICATED) && !user.in_group(ALL_UNAUTHENTICATED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authentication::anonymous::Anonymous;
    use crate::authentication::peer::PeerCertificates;
    use crate::authentication::token_file::TokenFile;
    use futures_util::FutureExt;

    fn ask(bearer: Option<&str>) -> Result<Option<Authenticated>, AuthError> {
        let union = Union {
            authenticators: vec![Arc::new(TokenFile::parse("t1,ann,1,\"a,b\"\n").unwrap())],
            audiences: vec!["us".into()],
            anonymous: Some(Arc::new(Anonymous::new(Vec::new()))),
        };
        let peer = PeerCertificates::default();
        let credentials = Credentials {
            bearer,
            ..Credentials::none(&peer)
        };
        union.authenticate(&credentials).now_or_never().expect("nothing waits")
    }

    #[test]
    fn bad_credentials_are_not_anonymous() {
        assert_eq!(ask(None).unwrap().unwrap().user.name, ANONYMOUS);
        assert_eq!(ask(Some("wrong")).unwrap_err(), AuthError::new("invalid bearer token"));
        let ann = ask(Some("t1")).unwrap().unwrap();
        assert_eq!((ann.user.name.as_str(), ann.authenticator), ("ann", "token-file"));
        assert_eq!(ann.user.groups, ["a", "b", ALL_AUTHENTICATED]);
    }
}
