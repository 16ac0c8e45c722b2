//! [`Policy`]: which requests are recorded, and how much of them. The first rule that matches decides.
// PERFORMANCE: per-request path

use crate::level::{Level, Stages};
use fairlead_api::UserInfo;

mod read;

pub use read::PolicyError;

/// What `audit.k8s.io/v1 Policy` says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    rules: Vec<Rule>,
}

/// What is recorded of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub level: Level,
    /// Stages that make no event.
    pub omit: Stages,
    pub omit_managed_fields: bool,
}

/// A request as rules look at it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// `None` where nobody could be authenticated.
    pub user: Option<&'a UserInfo>,
    pub verb: &'a str,
    pub resource_request: bool,
    pub namespace: &'a str,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub name: &'a str,
    pub path: &'a str,
}

/// Every list that is not empty must have the request's value.
#[derive(Clone, Debug, Default, PartialEq)]
struct Rule {
    verdict: Verdict,
    users: Vec<String>,
    user_groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<GroupResources>,
    namespaces: Vec<String>,
    non_resource_urls: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct GroupResources {
    group: String,
    resources: Vec<String>,
    names: Vec<String>,
}

impl Policy {
    /// What is recorded of a request: nothing, where no rule matches.
    pub fn judge(&self, asked: &Asked) -> Verdict {
        let rule = self.rules.iter().find(|rule| rule.matches(asked));
        rule.map(|rule| rule.verdict).unwrap_or_default()
    }
}

impl Rule {
    fn matches(&self, asked: &Asked) -> bool {
        if !self.users.is_empty() && !asked.user.is_some_and(|user| has(&self.users, &user.name)) {
            return false;
        }
        let in_groups = |user: &UserInfo| user.groups.iter().any(|group| has(&self.user_groups, group));
        if !self.user_groups.is_empty() && !asked.user.is_some_and(in_groups) {
            return false;
        }
        if !self.verbs.is_empty() && !has(&self.verbs, asked.verb) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return asked.resource_request && self.matches_resource(asked);
        }
        if !self.non_resource_urls.is_empty() {
            return !asked.resource_request && self.non_resource_urls.iter().any(|url| covers(url, asked.path));
        }
        true
    }

    fn matches_resource(&self, asked: &Asked) -> bool {
        // What lies in no namespace is in the one without a name.
        if !self.namespaces.is_empty() && !has(&self.namespaces, asked.namespace) {
            return false;
        }
        self.resources.is_empty() || self.resources.iter().any(|resources| resources.have(asked))
    }
}

impl GroupResources {
    fn have(&self, asked: &Asked) -> bool {
        if self.group != asked.group && self.group != "*" {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        (self.names.is_empty() || has(&self.names, asked.name))
            && self.resources.iter().any(|pattern| names(pattern, asked))
    }
}

/// `pods`, `pods/log`, `pods/*`, `*/scale`, `*`. COMPAT: `pods/*` is for pods themselves too.
fn names(pattern: &str, asked: &Asked) -> bool {
    if pattern == "*" {
        return true;
    }
    match pattern.split_once('/') {
        None => asked.subresource.is_empty() && pattern == asked.resource,
        Some(("*", subresource)) if !asked.subresource.is_empty() && subresource == asked.subresource => true,
        Some((resource, "*")) if resource == asked.resource => true,
        Some((resource, subresource)) => {
            !asked.subresource.is_empty() && resource == asked.resource && subresource == asked.subresource
        }
    }
}

/// `/healthz`, `/healthz*`, `*`.
fn covers(pattern: &str, path: &str) -> bool {
    pattern == path
        || pattern
            .strip_suffix('*')
            .is_some_and(|_| path.starts_with(pattern.trim_end_matches('*')))
}

fn has(values: &[String], value: &str) -> bool {
    values.iter().any(|v| v == value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::Stage;
    use fairlead_api::{Node, node};

    fn policy(rules: Node) -> Policy {
        Policy::read(&node!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy"}), rules)
    }

    impl Policy {
        fn read(head: &Node, rules: Node) -> Policy {
            let mut policy = head.clone();
            policy.set("rules", rules);
            Policy::from_node(&policy).unwrap()
        }
    }

    fn pods<'a>() -> Asked<'a> {
        Asked {
            user: None,
            verb: "get",
            resource_request: true,
            namespace: "default",
            group: "",
            version: "v1",
            resource: "pods",
            subresource: "",
            name: "p",
            path: "/api/v1/namespaces/default/pods/p",
        }
    }

    fn level(rule: Node, asked: &Asked) -> Level {
        let mut rule = rule;
        rule.set("level", "Metadata");
        policy(node!([rule])).judge(asked).level
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let policy = policy(node!([
            {"level": "None", "verbs": ["watch"]},
            {"level": "Request", "users": ["alice"]},
            {"level": "RequestResponse", "userGroups": ["admins", "devs"]},
            {"level": "Metadata", "verbs": ["get"]},
        ]));
        let (alice, bob) = (UserInfo::new("alice", &[]), UserInfo::new("bob", &["devs"]));
        let by = |user, verb| Asked { user, verb, ..pods() };
        assert_eq!(policy.judge(&by(Some(&alice), "watch")).level, Level::None);
        assert_eq!(policy.judge(&by(Some(&alice), "get")).level, Level::Request);
        assert_eq!(policy.judge(&by(Some(&bob), "get")).level, Level::RequestResponse);
        assert_eq!(policy.judge(&by(None, "get")).level, Level::Metadata);
        assert_eq!(policy.judge(&by(None, "list")).level, Level::None);
    }

    #[test]
    fn resources_have_wildcards() {
        let log = Asked {
            subresource: "log",
            ..pods()
        };
        for (resources, whole, sub) in [
            (node!([{"group": ""}]), true, true),
            (node!([{"group": "apps"}]), false, false),
            (node!([{"group": "*"}]), true, true),
            (node!([{"group": "", "resources": ["pods"]}]), true, false),
            (node!([{"group": "", "resources": ["pods/log"]}]), false, true),
            (node!([{"group": "", "resources": ["pods/exec"]}]), false, false),
            (node!([{"group": "", "resources": ["*/log"]}]), false, true),
            (node!([{"group": "", "resources": ["pods/*"]}]), true, true),
            (node!([{"group": "", "resources": ["*"]}]), true, true),
            (
                node!([{"group": "", "resources": ["pods"], "resourceNames": ["p"]}]),
                true,
                false,
            ),
            (
                node!([{"group": "", "resources": ["pods", "*"], "resourceNames": ["q"]}]),
                false,
                false,
            ),
        ] {
            let rule = node!({"resources": resources});
            assert_eq!(level(rule.clone(), &pods()) == Level::Metadata, whole, "{rule:?}");
            assert_eq!(level(rule.clone(), &log) == Level::Metadata, sub, "{rule:?}");
        }
    }

    #[test]
    fn paths_and_resources_do_not_mix() {
        let health = Asked {
            resource_request: false,
            path: "/healthz/ping",
            namespace: "",
            resource: "",
            name: "",
            ..pods()
        };
        let matches = |rule: Node, asked: &Asked| level(rule, asked) == Level::Metadata;
        assert!(matches(node!({"nonResourceURLs": ["/healthz*"]}), &health));
        assert!(matches(node!({"nonResourceURLs": ["*"]}), &health));
        assert!(!matches(node!({"nonResourceURLs": ["/healthz"]}), &health));
        assert!(!matches(node!({"nonResourceURLs": ["*"]}), &pods()));
        assert!(!matches(node!({"namespaces": [""]}), &health));
        assert!(!matches(node!({"namespaces": [""]}), &pods()));
        assert!(matches(node!({"namespaces": ["default"]}), &pods()));
    }

    #[test]
    fn a_rule_adds_stages_and_overrides_managed_fields() {
        let policy = Policy::read(
            &node!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
                "omitManagedFields": true}),
            node!([
                {"level": "Metadata", "verbs": ["get"], "omitStages": ["Panic"], "omitManagedFields": false},
                {"level": "Metadata"},
            ]),
        );
        let first = policy.judge(&pods());
        assert!(first.omit.contains(Stage::Panic) && first.omit.contains(Stage::RequestReceived));
        assert!(!first.omit_managed_fields);
        let second = policy.judge(&Asked { verb: "list", ..pods() });
        assert!(!second.omit.contains(Stage::Panic) && second.omit_managed_fields);
    }
}
