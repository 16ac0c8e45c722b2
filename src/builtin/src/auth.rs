//! Hooks of what [`fairlead_auth`] decides about: reviews, tokens of service accounts, grants of permissions.

use fairlead_api::{GroupResource, Node, Status, StatusResult};
use fairlead_auth::authentication::service_account::issuer::Issuer;
use fairlead_auth::authorization::rbac::Rbac;
use fairlead_auth::escalation::{self, Write};
use fairlead_auth::reviews::{self, TokenRequest};
use fairlead_auth::{Authenticator, Authorizer, ObjectSource};
use fairlead_resource::hooks::{Answered, AnswersCreate, Entropy, HookContext, Hooks};
use fairlead_resource::{Engine, Request};
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// What these hooks ask.
#[derive(Clone)]
pub struct Auth {
    pub authenticator: Arc<dyn Authenticator>,
    /// `--api-audiences`
    pub audiences: Vec<String>,
    pub authorizer: Arc<dyn Authorizer>,
    /// Escalation is checked by RBAC's rules, whatever else authorizes.
    pub rbac: Arc<Rbac>,
    pub objects: Arc<dyn ObjectSource>,
    /// `None` where no service account key signs.
    pub issuer: Option<Arc<Issuer>>,
}

/// A review resource: its hooks are its answer.
pub struct Review {
    kind: Kind,
    auth: Arc<Auth>,
}

#[derive(Clone, Copy)]
enum Kind {
    SubjectAccess,
    SelfSubjectAccess,
    LocalSubjectAccess,
    SelfSubjectRules,
    Token,
    SelfSubject,
}

/// `serviceaccounts/<name>/token`
pub struct Token(pub Arc<Auth>);

/// The hooks of a review resource; `None` for any other.
pub fn review(group: &str, plural: &str, auth: &Arc<Auth>) -> Option<Review> {
    let kind = match (group, plural) {
        (reviews::AUTHORIZATION, "subjectaccessreviews") => Kind::SubjectAccess,
        (reviews::AUTHORIZATION, "selfsubjectaccessreviews") => Kind::SelfSubjectAccess,
        (reviews::AUTHORIZATION, "localsubjectaccessreviews") => Kind::LocalSubjectAccess,
        (reviews::AUTHORIZATION, "selfsubjectrulesreviews") => Kind::SelfSubjectRules,
        (reviews::AUTHENTICATION, "tokenreviews") => Kind::Token,
        (reviews::AUTHENTICATION, "selfsubjectreviews") => Kind::SelfSubject,
        _ => return None,
    };
    Some(Review {
        kind,
        auth: Arc::clone(auth),
    })
}

/// What [`Hooks::permit`] of roles, cluster roles and their bindings answers.
pub fn permit<'a>(
    auth: &'a Auth,
    object: &'a Node,
    old: Option<&'a Node>,
    context: &'a HookContext<'a>,
) -> BoxFuture<'a, StatusResult<()>> {
    Box::pin(async move {
        let plural = &context.definition.plural;
        let write = Write {
            user: context.user,
            plural,
            namespace: object.namespace(),
            object,
            old,
        };
        escalation::check(&auth.rbac, auth.authorizer.as_ref(), &write).await
    })
}

impl Hooks for Review {
    fn answers(&self, subresource: &str) -> Option<&dyn AnswersCreate> {
        subresource.is_empty().then_some(self)
    }
}

impl AnswersCreate for Review {
    fn check<'a>(
        &'a self,
        object: &'a mut Node,
        request: &'a Request,
        _: &'a HookContext<'a>,
    ) -> BoxFuture<'a, StatusResult<()>> {
        let checked = match self.kind {
            Kind::SubjectAccess => reviews::check_subject_access_review(object),
            Kind::SelfSubjectAccess => reviews::check_self_subject_access_review(object),
            Kind::LocalSubjectAccess => reviews::check_local_subject_access_review(object, &request.namespace),
            Kind::SelfSubjectRules => reviews::check_self_subject_rules_review(object),
            Kind::Token => reviews::check_token_review(object),
            Kind::SelfSubject => Ok(()),
        };
        Box::pin(std::future::ready(checked))
    }

    fn answer<'a>(
        &'a self,
        object: Node,
        _: &'a Request,
        _: &'a Engine,
        context: &'a HookContext<'a>,
    ) -> BoxFuture<'a, StatusResult<Answered>> {
        Box::pin(async move {
            let authorizer = self.auth.authorizer.as_ref();
            let object = match self.kind {
                Kind::SubjectAccess | Kind::LocalSubjectAccess => {
                    reviews::subject_access_review(object, authorizer).await
                }
                Kind::SelfSubjectAccess => reviews::self_subject_access_review(object, context.user, authorizer).await,
                Kind::SelfSubjectRules => reviews::self_subject_rules_review(&object, context.user, authorizer).await,
                Kind::Token => {
                    reviews::token_review(object, self.auth.authenticator.as_ref(), &self.auth.audiences).await?
                }
                Kind::SelfSubject => reviews::self_subject_review(context.user, context.clock.now()),
            };
            Ok(Answered {
                object,
                warnings: Vec::new(),
                audit: Vec::new(),
            })
        })
    }
}

impl AnswersCreate for Token {
    fn default(&self, object: &mut Node) {
        let seconds = object.make_at(&["spec", "expirationSeconds"]);
        if seconds.is_null() {
            *seconds = Node::Int(reviews::DEFAULT_TOKEN_SECONDS);
        }
    }

    fn check<'a>(
        &'a self,
        object: &'a mut Node,
        request: &'a Request,
        context: &'a HookContext<'a>,
    ) -> BoxFuture<'a, StatusResult<()>> {
        Box::pin(async move {
            // COMPAT: without a key upstream does not serve the subresource.
            let issuer = self.0.issuer.as_ref().ok_or_else(Status::no_such_resource)?;
            if request.name.is_empty() {
                return Err(Status::not_found(&GroupResource::new("", "serviceaccounts"), ""));
            }
            let mut asked = TokenRequest {
                namespace: &request.namespace,
                name: &request.name,
                object: std::mem::take(object),
                now: context.clock.now(),
                id: "",
            };
            reviews::check_token_request(&mut asked, self.0.objects.as_ref(), issuer).await?;
            *object = asked.object;
            Ok(())
        })
    }

    fn answer<'a>(
        &'a self,
        object: Node,
        request: &'a Request,
        _: &'a Engine,
        context: &'a HookContext<'a>,
    ) -> BoxFuture<'a, StatusResult<Answered>> {
        Box::pin(async move {
            let issuer = self.0.issuer.as_ref().ok_or_else(Status::no_such_resource)?;
            let id = uuid(context.entropy);
            let asked = TokenRequest {
                namespace: &request.namespace,
                name: &request.name,
                object,
                now: context.clock.now(),
                id: &id,
            };
            let answer = reviews::token_request(asked, self.0.objects.as_ref(), issuer).await?;
            Ok(Answered {
                object: answer.object,
                warnings: answer.warnings,
                audit: answer.audit,
            })
        })
    }
}

/// A random UUID (version 4).
fn uuid(entropy: &dyn Entropy) -> String {
    let bits = (u128::from(entropy.bits()) << 64) | u128::from(entropy.bits());
    let bits = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Ones;

    impl Entropy for Ones {
        fn bits(&self) -> u64 {
            u64::MAX
        }
    }

    #[test]
    fn uuids_say_that_they_are_random() {
        assert_eq!(uuid(&Ones), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
