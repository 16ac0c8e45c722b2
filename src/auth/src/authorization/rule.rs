//! [`Rule`]: one RBAC policy rule, compiled; what it allows and what it covers.
//!
//! Source of behaviour: kubernetes pkg/apis/rbac/v1 (evaluation helpers), component-helpers auth/rbac/validation (Covers).
// PERFORMANCE: per-request path

use super::AuthzAttributes;
use compact_str::CompactString;
use fairlead_api::field::go_quote;
use fairlead_api::{Map, Node};

type Words = Vec<CompactString>;

/// One `PolicyRule`. Empty resource names mean any name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    pub verbs: Words,
    pub groups: Words,
    pub resources: Words,
    pub names: Words,
    pub urls: Words,
}

impl Rule {
    /// Reads a `PolicyRule`; what is not a list of strings counts as absent.
    pub fn from_node(node: &Node) -> Rule {
        let words = |key| {
            node.list(key)
                .iter()
                .filter_map(Node::as_str)
                .map(CompactString::from)
                .collect()
        };
        Rule {
            verbs: words("verbs"),
            groups: words("apiGroups"),
            resources: words("resources"),
            names: words("resourceNames"),
            urls: words("nonResourceURLs"),
        }
    }

    /// The rules of a Role or ClusterRole.
    pub fn all_of(role: &Node) -> Vec<Rule> {
        role.list("rules").iter().map(Rule::from_node).collect()
    }

    /// The `PolicyRule` this was read from: empty lists are left out.
    pub fn to_node(&self) -> Node {
        let lists = [
            ("apiGroups", &self.groups),
            ("nonResourceURLs", &self.urls),
            ("resourceNames", &self.names),
            ("resources", &self.resources),
            ("verbs", &self.verbs),
        ];
        Node::Map(
            lists
                .into_iter()
                .filter(|(_, l)| !l.is_empty())
                .map(|(k, l)| (k, words_node(l)))
                .collect::<Map>(),
        )
    }

    /// Whether this rule permits the request.
    pub fn allows(&self, attributes: &AuthzAttributes) -> bool {
        let a = attributes;
        if !any(&self.verbs, &a.verb) {
            return false;
        }
        if !a.resource_request {
            return self.urls.iter().any(|url| url == "*" || url_covers(url, &a.path));
        }
        any(&self.groups, &a.group)
            && self
                .resources
                .iter()
                .any(|r| resource_matches(r, &a.resource, &a.subresource))
            && (self.names.is_empty() || self.names.contains(&a.name))
    }

    /// Whether this rule grants all that `part` does. `part` is a rule as [`pieces`](Rule::pieces) makes them.
    pub fn covers(&self, part: &Rule) -> bool {
        let star_or_all = |have: &Words, need: &Words| has(have, "*") || need.iter().all(|n| have.contains(n));
        star_or_all(&self.verbs, &part.verbs)
            && star_or_all(&self.groups, &part.groups)
            && part.resources.iter().all(|r| self.covers_resource(r))
            && part
                .urls
                .iter()
                .all(|url| self.urls.iter().any(|have| url_covers(have, url)))
            && (self.names.is_empty() || (!part.names.is_empty() && part.names.iter().all(|n| self.names.contains(n))))
    }

    fn covers_resource(&self, resource: &str) -> bool {
        has(&self.resources, "*")
            || has(&self.resources, resource)
            || resource
                .split_once('/')
                .is_some_and(|(_, sub)| self.resources.iter().any(|have| have.strip_prefix("*/") == Some(sub)))
    }

    /// This rule as rules of one verb and one resource, name or URL each.
    pub fn pieces(&self) -> Vec<Rule> {
        let mut pieces = Vec::new();
        for group in &self.groups {
            for resource in &self.resources {
                for verb in &self.verbs {
                    let piece = Rule {
                        verbs: vec![verb.clone()],
                        groups: vec![group.clone()],
                        resources: vec![resource.clone()],
                        ..Rule::default()
                    };
                    if self.names.is_empty() {
                        pieces.push(piece);
                    } else {
                        pieces.extend(self.names.iter().map(|n| Rule {
                            names: vec![n.clone()],
                            ..piece.clone()
                        }));
                    }
                }
            }
        }
        for url in &self.urls {
            pieces.extend(self.verbs.iter().map(|v| Rule {
                verbs: vec![v.clone()],
                urls: vec![url.clone()],
                ..Rule::default()
            }));
        }
        pieces
    }

    /// As messages about escalation show it: `{APIGroups:["apps"], Resources:["deployments"], Verbs:["get"]}`.
    pub fn describe(&self) -> String {
        let parts: Vec<String> = [
            ("APIGroups", &self.groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.urls),
            ("ResourceNames", &self.names),
            ("Verbs", &self.verbs),
        ]
        .into_iter()
        .filter(|(_, words)| !words.is_empty())
        .map(|(label, words)| format!("{label}:{}", quoted_list(words)))
        .collect();
        format!("{{{}}}", parts.join(", "))
    }
}

/// A list of strings as Go's `%q` prints it: `["a" "b"]`.
pub fn quoted_list<S: AsRef<str>>(words: &[S]) -> String {
    let quoted: Vec<String> = words.iter().map(|w| go_quote(w.as_ref())).collect();
    format!("[{}]", quoted.join(" "))
}

pub(crate) fn words_node(words: &[CompactString]) -> Node {
    Node::List(words.iter().map(|w| Node::String(w.clone())).collect())
}

fn has(words: &[CompactString], word: &str) -> bool {
    words.iter().any(|w| w == word)
}

fn any(words: &[CompactString], word: &str) -> bool {
    words.iter().any(|w| w == "*" || w == word)
}

fn resource_matches(rule: &str, resource: &str, subresource: &str) -> bool {
    if rule == "*" {
        return true;
    }
    match rule.split_once('/') {
        None => subresource.is_empty() && rule == resource,
        Some((left, right)) => !subresource.is_empty() && right == subresource && (left == "*" || left == resource),
    }
}

/// `/healthz/*` covers `/healthz/ping`, also as rules on URLs cover one another.
fn url_covers(rule: &str, url: &str) -> bool {
    rule == url || (rule.ends_with('*') && url.starts_with(rule.trim_end_matches('*')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    fn rule(node: Node) -> Rule {
        Rule::from_node(&node)
    }

    fn request(verb: &str, resource: &str, subresource: &str, name: &str) -> AuthzAttributes {
        AuthzAttributes {
            verb: verb.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            name: name.into(),
            group: "apps".into(),
            resource_request: true,
            ..AuthzAttributes::default()
        }
    }

    #[test]
    fn resources_subresources_and_names() {
        let r = rule(node!({"apiGroups": ["apps"], "resources": ["deployments", "*/scale"], "verbs": ["get"]}));
        assert!(r.allows(&request("get", "deployments", "", "a")));
        assert!(!r.allows(&request("get", "deployments", "status", "a")));
        assert!(r.allows(&request("get", "replicasets", "scale", "a")));
        assert!(!r.allows(&request("get", "scale", "", "a")));
        assert!(!r.allows(&request("list", "deployments", "", "")));
        let named = rule(node!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"], "resourceNames": ["a"]}));
        assert!(named.allows(&request("get", "deployments", "status", "a")));
        assert!(!named.allows(&request("list", "deployments", "", "")));
    }

    #[test]
    fn urls_end_in_stars() {
        let r = rule(node!({"nonResourceURLs": ["/healthz", "/api/*"], "verbs": ["get"]}));
        let get = |path: &str| AuthzAttributes {
            verb: "get".into(),
            path: path.into(),
            ..AuthzAttributes::default()
        };
        assert!(r.allows(&get("/healthz")) && r.allows(&get("/api/v1")) && r.allows(&get("/api/")));
        assert!(!r.allows(&get("/healthz/ping")) && !r.allows(&get("/api")));
    }

    #[test]
    fn covering_goes_by_pieces() {
        let wide = rule(node!({"apiGroups": [""], "resources": ["pods", "*/log"], "verbs": ["get", "list"]}));
        let asked = rule(node!({"apiGroups": [""], "resources": ["pods", "pods/log", "secrets"], "verbs": ["get"]}));
        let missing: Vec<String> = asked
            .pieces()
            .iter()
            .filter(|p| !wide.covers(p))
            .map(Rule::describe)
            .collect();
        assert_eq!(missing, [r#"{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}"#]);
        let named = Rule {
            names: vec!["a".into()],
            ..wide.clone()
        };
        assert!(wide.covers(&Rule {
            resources: vec!["pods".into()],
            ..named.clone()
        }));
        assert!(!named.covers(&Rule {
            resources: vec!["pods".into()],
            ..wide.clone()
        }));
    }
}
