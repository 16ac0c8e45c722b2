//! What a service account token says.

use crate::authentication::AuthError;
use fairlead_api::Node;

pub(super) struct Claims {
    pub(super) subject: String,
    pub(super) audiences: Vec<String>,
    /// Empty in tokens without one.
    pub(super) id: String,
    expires: Option<i64>,
    not_before: Option<i64>,
    issued: Option<i64>,
    pub(super) private: Private,
}

pub(super) enum Private {
    Bound(Bound),
    Legacy(Legacy),
}

/// The claims of a token of the TokenRequest API.
pub(super) struct Bound {
    pub(super) namespace: String,
    pub(super) account: Reference,
    pub(super) pod: Option<Reference>,
    pub(super) secret: Option<Reference>,
    pub(super) node: Option<Reference>,
    /// Unix seconds; 0 where there is none.
    pub(super) warn_after: i64,
}

/// The claims of a token that is kept in a Secret.
pub(super) struct Legacy {
    pub(super) namespace: String,
    pub(super) account_name: String,
    pub(super) account_uid: String,
    pub(super) secret: String,
}

#[derive(Default)]
pub(super) struct Reference {
    pub(super) name: String,
    pub(super) uid: String,
}

impl Claims {
    pub(super) fn from_node(node: &Node, legacy: bool) -> Result<Claims, AuthError> {
        let private = if legacy {
            let claim = |name: &str| node.str(&format!("kubernetes.io/serviceaccount/{name}")).to_owned();
            Private::Legacy(Legacy {
                namespace: claim("namespace"),
                account_name: claim("service-account.name"),
                account_uid: claim("service-account.uid"),
                secret: claim("secret.name"),
            })
        } else {
            let claims = node.get("kubernetes.io").unwrap_or(&Node::Null);
            Private::Bound(Bound {
                namespace: claims.str("namespace").to_owned(),
                account: claims
                    .get("serviceaccount")
                    .map(Reference::from_node)
                    .unwrap_or_default(),
                pod: reference(claims, "pod"),
                secret: reference(claims, "secret"),
                node: reference(claims, "node"),
                warn_after: date(claims, "warnafter")?.unwrap_or(0),
            })
        };
        Ok(Claims {
            subject: node.str("sub").to_owned(),
            audiences: audiences(node.get("aud")),
            id: node.str("jti").to_owned(),
            expires: date(node, "exp")?,
            not_before: date(node, "nbf")?,
            issued: date(node, "iat")?,
            private,
        })
    }

    pub(super) fn check_times(&self, now: i64, leeway: i64) -> Result<(), AuthError> {
        if self.not_before.is_some_and(|at| now + leeway < at) {
            return Err(AuthError::new("service account token is not valid yet"));
        }
        if self.expires.is_some_and(|at| now - leeway > at) {
            return Err(AuthError::new("service account token has expired"));
        }
        if self.issued.is_some_and(|at| now + leeway < at) {
            return Err(AuthError::new("service account token is issued in the future"));
        }
        Ok(())
    }
}

impl Reference {
    fn from_node(node: &Node) -> Reference {
        Reference {
            name: node.str("name").to_owned(),
            uid: node.str("uid").to_owned(),
        }
    }
}

fn reference(claims: &Node, key: &str) -> Option<Reference> {
    claims.get(key).filter(|r| !r.is_null()).map(Reference::from_node)
}

/// One audience or a list.
fn audiences(claim: Option<&Node>) -> Vec<String> {
    match claim {
        Some(Node::String(one)) => vec![one.to_string()],
        Some(Node::List(many)) => many.iter().filter_map(Node::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// Seconds since the epoch, without the fraction; an absent claim is `None`, one that is no number an error.
#[allow(clippy::cast_possible_truncation)] // A float cast saturates.
fn date(node: &Node, key: &str) -> Result<Option<i64>, AuthError> {
    match node.get(key) {
        None | Some(Node::Null) => Ok(None),
        Some(value) => match value.as_f64() {
            Some(seconds) => Ok(Some(
                value.as_i64().unwrap_or(seconds as i64).clamp(-(1 << 60), 1 << 60),
            )),
            None => Err(AuthError(format!("claim {key} is not a number"))),
        },
    }
}
