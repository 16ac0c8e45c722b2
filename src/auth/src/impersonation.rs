//! Acting as somebody else: which permissions the `Impersonate-*` headers need, and whom they lead to (KEP-5284).
//!
//! Each mode asks first whether the user may do this very request as somebody else (`impersonate-on:<mode>:<verb>`), then
//! whether as that user (`impersonate:<mode>`); the legacy mode asks for `impersonate` only.
//! Source of behaviour: kubernetes/apiserver pkg/endpoints/filters/impersonation.
// PERFORMANCE: per-request path

use crate::authentication::service_account::{split_user_name, user_info};
use crate::authentication::{
    ALL_AUTHENTICATED, ALL_UNAUTHENTICATED, ANONYMOUS, Headers, MASTERS, request_header::unescape,
};
use crate::authorization::forbidden::forbidden;
use crate::authorization::node::{NODE_PREFIX, NODES};
use crate::authorization::rbac::aggregate;
use crate::authorization::{Authorizer, AuthzAttributes, Decision};
use compact_str::{CompactString, format_compact};
use fairlead_api::field::{FieldError, FieldPath, go_quote};
use fairlead_api::{Status, StatusResult, UserInfo, name};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

const USER: &str = "impersonate-user";
const UID: &str = "impersonate-uid";
const GROUP: &str = "impersonate-group";
const EXTRA_PREFIX: &str = "impersonate-extra-";
/// So many groups or extra values are first asked for as one, `*`.
const MANY: usize = 4;
/// How many users' last successful modes are remembered.
const REMEMBERED: usize = 10_000;
const AUTHENTICATION: &str = "authentication.k8s.io";

/// The impersonation filter's decision. Remembers which mode last worked for whom, and tries that one first.
#[derive(Default)]
pub struct Impersonation {
    last: Mutex<HashMap<CompactString, usize>>,
}

/// Whom a request is made as.
#[derive(Clone, Debug)]
pub struct Impersonated {
    pub user: Arc<UserInfo>,
    /// The verb that allowed it, for the audit event: `impersonate:<mode>`; empty for the legacy mode.
    pub constraint: String,
    /// For metrics: `associated-node`, `arbitrary-node`, `serviceaccount`, `user-info`, `legacy`.
    pub mode: &'static str,
}

/// Whether a header is one of those this module reads. They are removed from every request.
pub fn is_impersonation_header(name: &str) -> bool {
    let same = |(a, b): (u8, u8)| a.eq_ignore_ascii_case(&b) || (a == b'_' && b == b'-');
    let begins = |with: &str| name.len() >= with.len() && name.bytes().zip(with.bytes()).all(same);
    let is = |whole: &&str| name.len() == whole.len() && begins(whole);
    [USER, UID, GROUP].iter().any(is) || begins(EXTRA_PREFIX)
}

/// The user the headers ask for, as they say it; `None` where they ask for none.
pub fn requested(headers: &dyn Headers) -> StatusResult<Option<UserInfo>> {
    let first = |name: &str| CompactString::from(headers.values(name).first().copied().unwrap_or_default());
    let mut wanted = UserInfo {
        name: first(USER),
        uid: first(UID),
        ..UserInfo::default()
    };
    wanted.groups = headers.values(GROUP).into_iter().map(CompactString::from).collect();
    for (key, value) in headers.with_prefix(EXTRA_PREFIX) {
        wanted
            .extra
            .entry(unescape(&key.to_ascii_lowercase()))
            .or_default()
            .push(value.to_owned());
    }
    if !wanted.name.is_empty() {
        return Ok(Some(wanted));
    }
    if wanted == UserInfo::default() {
        return Ok(None);
    }
    Err(Status::bad_request(format!(
        "requested {} without impersonating a user name",
        in_go(&wanted)
    )))
}

impl Impersonation {
    /// Decides whether the user of `attributes`, which describe the request itself, may make it as `wanted`.
    pub async fn check(
        &self,
        authorizer: &dyn Authorizer,
        attributes: &AuthzAttributes,
        wanted: &UserInfo,
    ) -> StatusResult<Impersonated> {
        let requestor = &attributes.user.name;
        let last = self
            .last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(requestor)
            .copied();
        let order = last.into_iter().chain((0..MODES.len()).filter(|i| Some(*i) != last));
        let mut first_error = None;
        for i in order {
            let mode = &MODES[i];
            if !(mode.applies)(wanted, &attributes.user) {
                continue;
            }
            match mode.check(authorizer, attributes, wanted).await {
                Ok(user) => {
                    self.remember(requestor, i);
                    return Ok(Impersonated {
                        user: Arc::new(user),
                        constraint: mode.constraint(),
                        mode: mode.name,
                    });
                }
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or_else(|| Status::internal("all impersonation modes failed")))
    }

    fn remember(&self, requestor: &CompactString, mode: usize) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.get(requestor) != Some(&mode) {
            if last.len() >= REMEMBERED {
                last.clear();
            }
            last.insert(requestor.clone(), mode);
        }
    }
}

/// One way to be allowed to act as somebody else.
struct Mode {
    name: &'static str,
    applies: fn(wanted: &UserInfo, requestor: &UserInfo) -> bool,
}

const LEGACY: &str = "legacy";
const ASSOCIATED_NODE: &str = "associated-node";

static MODES: [Mode; 5] = [
    Mode {
        name: ASSOCIATED_NODE,
        applies: |wanted, requestor| name_only(wanted) && on_node(requestor, &wanted.name),
    },
    Mode {
        name: "arbitrary-node",
        applies: |wanted, _| name_only(wanted) && node_name(&wanted.name).is_some(),
    },
    Mode {
        name: "serviceaccount",
        applies: |wanted, _| name_only(wanted) && split_user_name(&wanted.name).is_some(),
    },
    Mode {
        name: "user-info",
        applies: |wanted, _| node_name(&wanted.name).is_none() && split_user_name(&wanted.name).is_none(),
    },
    Mode {
        name: LEGACY,
        applies: |_, _| true,
    },
];

impl Mode {
    fn is_legacy(&self) -> bool {
        self.name == LEGACY
    }

    fn constraint(&self) -> String {
        if self.is_legacy() {
            String::new()
        } else {
            format!("impersonate:{}", self.name)
        }
    }

    async fn check(
        &self,
        authorizer: &dyn Authorizer,
        request: &AuthzAttributes,
        wanted: &UserInfo,
    ) -> StatusResult<UserInfo> {
        let asked = Asked {
            mode: self,
            authorizer,
            requestor: self.requestor(&request.user),
        };
        if !self.is_legacy() {
            let mut on = request.clone();
            on.user = Arc::clone(&asked.requestor);
            on.verb = format_compact!("impersonate-on:{}:{}", self.name, request.verb);
            asked.must_allow(&on).await?;
        }
        let mut user = wanted.clone();
        asked.name(wanted, &mut user).await?;
        if !wanted.uid.is_empty() {
            asked
                .must_allow(&asked.attributes(AUTHENTICATION, "uids", &wanted.uid))
                .await?;
        }
        asked.groups(&wanted.groups).await?;
        asked.extra(&wanted.extra).await?;
        if user.name == ANONYMOUS {
            add_group(&mut user, ALL_UNAUTHENTICATED);
        } else if !user.in_group(ALL_UNAUTHENTICATED) {
            add_group(&mut user, ALL_AUTHENTICATED);
        }
        Ok(user)
    }

    /// A service account that acts as its node is asked about without the extras that differ from node to node.
    fn requestor(&self, user: &Arc<UserInfo>) -> Arc<UserInfo> {
        if self.name != ASSOCIATED_NODE {
            return Arc::clone(user);
        }
        let mut user = UserInfo::clone(user);
        let keys = std::mem::take(&mut user.extra).into_keys().collect();
        user.extra
            .insert("authentication.kubernetes.io/associated-node-keys".into(), keys);
        Arc::new(user)
    }
}

/// A mode at work on one request.
struct Asked<'a> {
    mode: &'a Mode,
    authorizer: &'a dyn Authorizer,
    requestor: Arc<UserInfo>,
}

impl Asked<'_> {
    fn attributes(&self, group: &str, resource: &str, name: &str) -> AuthzAttributes {
        let verb = if self.mode.is_legacy() {
            "impersonate".into()
        } else {
            format_compact!("impersonate:{}", self.mode.name)
        };
        AuthzAttributes {
            user: Arc::clone(&self.requestor),
            verb,
            group: group.into(),
            version: "v1".into(),
            resource: resource.into(),
            name: name.into(),
            resource_request: true,
            ..AuthzAttributes::default()
        }
    }

    /// The group of `users` and `groups`.
    fn api_group(&self) -> &'static str {
        if self.mode.is_legacy() { "" } else { AUTHENTICATION }
    }

    async fn must_allow(&self, attributes: &AuthzAttributes) -> StatusResult<()> {
        match self.authorizer.authorize(attributes).await {
            (Decision::Allow, _) => Ok(()),
            (_, reason) => Err(forbidden(attributes, &reason)),
        }
    }

    async fn name(&self, wanted: &UserInfo, user: &mut UserInfo) -> StatusResult<()> {
        let mut attributes = self.attributes(self.api_group(), "users", &wanted.name);
        let constrained = !self.mode.is_legacy();
        if let Some(node) = node_name(&wanted.name).filter(|_| constrained) {
            attributes.resource = "nodes".into();
            // Whoever may act as the node it runs on may act as any node it might run on.
            attributes.name = if self.mode.name == ASSOCIATED_NODE {
                "*".into()
            } else {
                node.into()
            };
            user.groups = vec![NODES.into()];
        }
        if let Some((namespace, account)) = split_user_name(&wanted.name) {
            attributes.resource = "serviceaccounts".into();
            attributes.namespace = namespace.into();
            attributes.name = account.into();
            if wanted.groups.is_empty() {
                user.groups = user_info(namespace, account, "").groups;
            }
        }
        self.must_allow(&attributes).await
    }

    async fn groups(&self, groups: &[CompactString]) -> StatusResult<()> {
        if groups.is_empty() {
            return Ok(());
        }
        let mut attributes = self.attributes(self.api_group(), "groups", "");
        if !self.mode.is_legacy() {
            if groups.iter().any(|g| g.is_empty()) {
                return Err(forbidden(
                    &attributes,
                    "impersonating the empty string group is not allowed",
                ));
            }
            if groups.iter().any(|g| g == MASTERS) {
                attributes.name = MASTERS.into();
                return Err(forbidden(
                    &attributes,
                    "impersonating the system:masters group is not allowed",
                ));
            }
            attributes.name = "*".into();
            if groups.len() >= MANY && self.must_allow(&attributes).await.is_ok() {
                return Ok(());
            }
        }
        for group in groups {
            attributes.name = group.clone();
            self.must_allow(&attributes).await?;
        }
        Ok(())
    }

    async fn extra(&self, extra: &BTreeMap<String, Vec<String>>) -> StatusResult<()> {
        if extra.is_empty() {
            return Ok(());
        }
        let mut attributes = self.attributes(AUTHENTICATION, "userextras", "");
        if !self.mode.is_legacy() {
            check_extra(extra).map_err(|why| forbidden(&attributes, &why))?;
            let many = extra.len() >= MANY || extra.values().map(Vec::len).sum::<usize>() >= MANY;
            if many {
                (attributes.subresource, attributes.name) = ("*".into(), "*".into());
                if self.must_allow(&attributes).await.is_ok() {
                    return Ok(());
                }
            }
        }
        for (key, values) in extra {
            attributes.subresource = key.as_str().into();
            for value in values {
                attributes.name = value.as_str().into();
                self.must_allow(&attributes).await?;
            }
        }
        Ok(())
    }
}

/// What constrained modes refuse in extras whoever asks.
fn check_extra(extra: &BTreeMap<String, Vec<String>>) -> Result<(), String> {
    for (key, values) in extra {
        if key.is_empty() {
            return Err("impersonating the empty string key in extra is not allowed".into());
        }
        let complaints = domain_prefixed_path(key);
        if !complaints.is_empty() {
            return Err(format!(
                "impersonating an invalid key in extra is not allowed: {}",
                aggregate(complaints)
            ));
        }
        if *key != key.to_lowercase() {
            return Err(format!(
                "impersonating a non-lowercase key in extra is not allowed: {}",
                go_quote(key)
            ));
        }
        if values.is_empty() {
            return Err("impersonating empty values in extra is not allowed".into());
        }
        if values.iter().any(String::is_empty) {
            return Err("impersonating the empty string value in extra is not allowed".into());
        }
    }
    Ok(())
}

/// What keeps a key from being like `acme.io/foo`.
fn domain_prefixed_path(key: &str) -> Vec<String> {
    const PATH_PATTERN: &str = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+";
    let path = FieldPath::new("extra.key");
    let invalid = |value: &str, why: &str| FieldError::invalid(&path, value, why).to_string();
    let Some((host, rest)) = key
        .split_once('/')
        .filter(|(host, rest)| !host.is_empty() && !rest.is_empty())
    else {
        return vec![invalid(
            key,
            r#"must be a domain-prefixed path (such as "acme.io/foo")"#,
        )];
    };
    let mut complaints: Vec<String> = name::is_dns1123_subdomain(host)
        .iter()
        .map(|why| invalid(host, why))
        .collect();
    if !rest
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b))
    {
        complaints.push(invalid(rest, &name::regex_error("Invalid path", PATH_PATTERN, &[])));
    }
    complaints
}

fn node_name(user: &str) -> Option<&str> {
    user.strip_prefix(NODE_PREFIX)
        .filter(|node| name::name_is_dns_subdomain(node, false).is_empty())
}

/// Whether the requestor is a service account whose token says it runs on the node of that user name.
fn on_node(requestor: &UserInfo, user: &str) -> bool {
    let runs_on = requestor
        .extra
        .get("authentication.kubernetes.io/node-name")
        .map(Vec::as_slice);
    split_user_name(&requestor.name).is_some()
        && node_name(user).is_some_and(|node| matches!(runs_on, Some([one]) if one == node))
}

fn name_only(user: &UserInfo) -> bool {
    user.uid.is_empty() && user.groups.is_empty() && user.extra.is_empty()
}

fn add_group(user: &mut UserInfo, group: &str) {
    if !user.in_group(group) {
        user.groups.push(group.into());
    }
}

/// A user as Go's `%#v` prints it.
fn in_go(user: &UserInfo) -> String {
    let list = |items: &[String]| match items {
        [] => "[]string(nil)".to_owned(),
        items => format!(
            "[]string{{{}}}",
            items.iter().map(|i| go_quote(i)).collect::<Vec<_>>().join(", ")
        ),
    };
    let groups: Vec<String> = user.groups.iter().map(ToString::to_string).collect();
    let extra = if user.extra.is_empty() {
        "map[string][]string(nil)".to_owned()
    } else {
        let pairs: Vec<String> = user
            .extra
            .iter()
            .map(|(k, v)| format!("{}:{}", go_quote(k), list(v)))
            .collect();
        format!("map[string][]string{{{}}}", pairs.join(", "))
    };
    let (name, uid) = (go_quote(&user.name), go_quote(&user.uid));
    format!(
        "&user.DefaultInfo{{Name:{name}, UID:{uid}, Groups:{}, Extra:{extra}}}",
        list(&groups)
    )
}

#[cfg(test)]
mod tests;
