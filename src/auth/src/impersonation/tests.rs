//! Which impersonations are asked for and which are refused.

use super::*;
use crate::authorization::ResolvedRules;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

/// Allows what is on its list, as `verb resource/subresource name`.
struct Allow(&'static [&'static str]);

impl Authorizer for Allow {
    fn authorize<'a>(&'a self, a: &'a AuthzAttributes) -> BoxFuture<'a, (Decision, String)> {
        let slash = if a.subresource.is_empty() { "" } else { "/" };
        let asked = format!("{} {}{slash}{} {}", a.verb, a.resource, a.subresource, a.name);
        let decision = if self.0.contains(&asked.trim()) {
            Decision::Allow
        } else {
            Decision::NoOpinion
        };
        Box::pin(std::future::ready((decision, String::new())))
    }

    fn rules_for<'a>(&'a self, _: &'a UserInfo, _: &'a str) -> BoxFuture<'a, ResolvedRules> {
        Box::pin(std::future::ready(ResolvedRules::default()))
    }
}

struct Given(&'static [(&'static str, &'static str)]);

impl Headers for Given {
    fn values(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(n, _)| *n == name).map(|(_, v)| *v).collect()
    }

    fn with_prefix(&self, prefix: &str) -> Vec<(&str, &str)> {
        self.0
            .iter()
            .filter_map(|(n, v)| Some((n.strip_prefix(prefix)?, *v)))
            .collect()
    }
}

fn list_pods(user: UserInfo) -> AuthzAttributes {
    AuthzAttributes {
        user: Arc::new(user),
        verb: "list".into(),
        resource: "pods".into(),
        namespace: "ns".into(),
        resource_request: true,
        ..AuthzAttributes::default()
    }
}

fn check(state: &Impersonation, allow: &'static [&'static str], wanted: &UserInfo) -> StatusResult<Impersonated> {
    state
        .check(&Allow(allow), &list_pods(UserInfo::new("bob", &[])), wanted)
        .now_or_never()
        .expect("nothing waits")
}

#[test]
fn the_legacy_verb_still_counts() {
    let state = Impersonation::default();
    let allow: &[&str] = &["impersonate users alice", "impersonate groups dev"];
    let alice = check(&state, allow, &UserInfo::new("alice", &["dev"])).unwrap();
    assert_eq!(alice.user.groups, ["dev", ALL_AUTHENTICATED]);
    assert_eq!((alice.mode, alice.constraint.as_str()), ("legacy", ""));
    // The mode that worked last is tried first, and its error is the one told.
    assert_eq!(
        check(&state, allow, &UserInfo::new("eve", &[])).unwrap_err().message(),
        r#"users "eve" is forbidden: User "bob" cannot impersonate resource "users" in API group "" at the cluster scope"#
    );
    assert_eq!(
        check(&Impersonation::default(), allow, &UserInfo::new("eve", &[]))
            .unwrap_err()
            .message(),
        r#"pods is forbidden: User "bob" cannot impersonate-on:user-info:list resource "pods" in API group "" in the namespace "ns""#
    );
}

#[test]
fn constrained_modes_need_both_verbs() {
    let node = UserInfo::new("system:node:n1", &[]);
    let allow: &[&str] = &[
        "impersonate-on:arbitrary-node:list pods",
        "impersonate:arbitrary-node nodes n1",
    ];
    let found = check(&Impersonation::default(), allow, &node).unwrap();
    assert_eq!(
        (found.constraint.as_str(), &found.user.groups[..]),
        (
            "impersonate:arbitrary-node",
            &[NODES.into(), ALL_AUTHENTICATED.into()][..]
        )
    );
    assert!(check(&Impersonation::default(), &allow[1..], &node).is_err());
    let account = UserInfo::new("system:serviceaccount:ns:sa", &[]);
    let allow: &[&str] = &[
        "impersonate-on:serviceaccount:list pods",
        "impersonate:serviceaccount serviceaccounts sa",
    ];
    let found = check(&Impersonation::default(), allow, &account).unwrap();
    assert_eq!(
        found.user.groups,
        ["system:serviceaccounts", "system:serviceaccounts:ns", ALL_AUTHENTICATED]
    );
}

#[test]
fn masters_only_by_the_legacy_verb() {
    let allow: &[&str] = &[
        "impersonate-on:user-info:list pods",
        "impersonate:user-info users a",
        "impersonate:user-info groups system:masters",
    ];
    let error = check(&Impersonation::default(), allow, &UserInfo::new("a", &[MASTERS])).unwrap_err();
    assert!(
        error
            .message()
            .ends_with("impersonating the system:masters group is not allowed"),
        "{error}"
    );
}

#[test]
fn extras_are_asked_one_by_one_or_as_a_star() {
    let mut wanted = UserInfo::new("a", &[]);
    wanted.extra.insert("acme.io/x".into(), vec!["1".into(), "2".into()]);
    let some: &[&str] = &[
        "impersonate-on:user-info:list pods",
        "impersonate:user-info users a",
        "impersonate:user-info userextras/acme.io/x 1",
        "impersonate:user-info userextras/acme.io/x 2",
    ];
    assert!(check(&Impersonation::default(), some, &wanted).is_ok());
    assert!(check(&Impersonation::default(), &some[..3], &wanted).is_err());
    wanted.extra.insert("acme.io/y".into(), vec!["1".into(), "2".into()]);
    let star: &[&str] = &[
        "impersonate-on:user-info:list pods",
        "impersonate:user-info users a",
        "impersonate:user-info userextras/* *",
    ];
    assert!(check(&Impersonation::default(), star, &wanted).is_ok());
    wanted.extra.insert("scopes".into(), vec!["1".into()]);
    assert!(
        check(&Impersonation::default(), star, &wanted)
            .unwrap_err()
            .message()
            .contains("domain-prefixed path")
    );
}

#[test]
fn headers_are_read_and_recognised() {
    let wanted = requested(&Given(&[
        ("impersonate-user", "a"),
        ("impersonate-group", "g1"),
        ("impersonate-group", "g2"),
        ("impersonate-extra-acme.io%2fx", "v"),
    ]));
    let wanted = wanted.unwrap().unwrap();
    assert_eq!(
        (wanted.groups.len(), &wanted.extra["acme.io/x"]),
        (2, &vec!["v".to_owned()])
    );
    assert_eq!(requested(&Given(&[])), Ok(None));
    assert_eq!(
        requested(&Given(&[("impersonate-group", "g")])).unwrap_err().message(),
        r#"requested &user.DefaultInfo{Name:"", UID:"", Groups:[]string{"g"}, Extra:map[string][]string(nil)} without impersonating a user name"#
    );
    for name in [
        "Impersonate-User",
        "impersonate_group",
        "Impersonate-Extra-Scopes",
        "IMPERSONATE-UID",
    ] {
        assert!(is_impersonation_header(name), "{name}");
    }
    assert!(!is_impersonation_header("Impersonate"));
}
