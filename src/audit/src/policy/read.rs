//! A policy from its document. What stands in it and is not known is warned of, as upstream does; what is wrong ends the
//! start.
//!
//! Source of the texts: kubernetes/apiserver pkg/audit/policy/reader.go, pkg/apis/audit/validation/validation.go.

use super::{GroupResources, Policy, Rule, Verdict};
use crate::level::{Level, Stage, Stages};
use fairlead_api::field::go_quote;
use fairlead_api::name::name_is_dns_subdomain;
use fairlead_api::{FieldError, FieldErrors, FieldPath, Node};

/// Why a document is no policy.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("failed decoding: {0}")]
    Undecodable(String),
    #[error("unknown group version field audit.k8s.io/__internal, Kind=Policy in policy")]
    Versionless,
    #[error("{}", together(.0))]
    Invalid(FieldErrors),
    #[error("loaded illegal policy with 0 rules")]
    Empty,
}

const GROUP_VERSION: &str = "audit.k8s.io/v1";
/// What the scheme that knows it is called in errors.
const SCHEME: &str = "pkg/runtime/scheme.go:111";

const POLICY: &[&str] = &[
    "apiVersion",
    "kind",
    "metadata",
    "rules",
    "omitStages",
    "omitManagedFields",
];
const RULE: &[&str] = &[
    "level",
    "users",
    "userGroups",
    "verbs",
    "resources",
    "namespaces",
    "nonResourceURLs",
    "omitStages",
    "omitManagedFields",
];
const RESOURCES: &[&str] = &["group", "resources", "resourceNames"];

impl Policy {
    /// Reads and checks a document.
    ///
    /// # Errors
    /// It is of another kind, a value is of another type, or what it says makes no sense.
    pub fn from_node(document: &Node) -> Result<Policy, PolicyError> {
        check_kind(document)?;
        let mut reader = Reader::default();
        reader.warn_of_unknown(document, POLICY, "");
        let root = FieldPath::root();
        let everywhere = Verdict {
            level: Level::None,
            omit: reader.stages(document, &root)?,
            omit_managed_fields: flag(document, "omitManagedFields", "Policy")?.unwrap_or(false),
        };
        let mut rules = Vec::new();
        for (i, rule) in list(document, "rules", "Policy", "v1.PolicyRule")?.iter().enumerate() {
            rules.push(reader.rule(rule, &root.child("rules").index(i), everywhere)?);
        }
        if !reader.errors.is_empty() {
            return Err(PolicyError::Invalid(reader.errors));
        }
        if rules.is_empty() {
            return Err(PolicyError::Empty);
        }
        Ok(Policy { rules })
    }
}

fn check_kind(document: &Node) -> Result<(), PolicyError> {
    let wrong = |why: String| Err(PolicyError::Undecodable(why));
    if document.as_map().is_none() {
        return wrong(format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {} into Go value of type struct",
            document.type_name()
        ));
    }
    let (version, kind) = (document.str("apiVersion"), document.str("kind"));
    if version.is_empty() {
        return Err(PolicyError::Versionless);
    }
    // COMPAT: no kind is as good as the right one.
    if version != GROUP_VERSION || !matches!(kind, "" | "Policy") {
        return wrong(format!(
            "no kind {} is registered for version {} in scheme {}",
            go_quote(kind),
            go_quote(version),
            go_quote(SCHEME)
        ));
    }
    Ok(())
}

#[derive(Default)]
struct Reader {
    errors: FieldErrors,
}

impl Reader {
    fn rule(&mut self, node: &Node, path: &FieldPath, everywhere: Verdict) -> Result<Rule, PolicyError> {
        const KIND: &str = "PolicyRule.rules";
        self.warn_of_unknown(node, RULE, path.as_str());
        let level = self.level(node.str("level"), &path.child("level"));
        let non_resource_urls = strings(node, "nonResourceURLs", KIND)?;
        self.check_urls(&non_resource_urls, &path.child("nonResourceURLs"));
        let mut resources = Vec::new();
        for group in list(node, "resources", KIND, "v1.GroupResources")? {
            resources.push(self.resources(group, &path.child("resources"))?);
        }
        let omit = self.stages(node, path)?.union(everywhere.omit);
        let omit_managed_fields = flag(node, "omitManagedFields", KIND)?;
        let namespaces = strings(node, "namespaces", KIND)?;
        let for_resources = !resources.is_empty() || !namespaces.is_empty();
        if for_resources && !non_resource_urls.is_empty() {
            self.errors.push(FieldError::invalid(
                &path.child("nonResourceURLs"),
                node.get("nonResourceURLs").cloned().unwrap_or_default(),
                "rules cannot apply to both regular resources and non-resource URLs",
            ));
        }
        Ok(Rule {
            verdict: Verdict {
                level,
                omit,
                omit_managed_fields: omit_managed_fields.unwrap_or(everywhere.omit_managed_fields),
            },
            users: strings(node, "users", KIND)?,
            user_groups: strings(node, "userGroups", KIND)?,
            verbs: strings(node, "verbs", KIND)?,
            resources,
            namespaces,
            non_resource_urls,
        })
    }

    fn level(&mut self, text: &str, path: &FieldPath) -> Level {
        match Level::parse(text) {
            Some(level) => level,
            None => {
                self.errors.push(match text {
                    "" => FieldError::required(path, ""),
                    other => FieldError::not_supported(path, other, &Level::ALL.map(Level::as_str)),
                });
                Level::None
            }
        }
    }

    fn check_urls(&mut self, urls: &[String], path: &FieldPath) {
        for (i, url) in urls.iter().enumerate().filter(|(_, url)| *url != "*") {
            let mut wrong = |why: &str| {
                self.errors.push(FieldError::invalid(&path.index(i), url.as_str(), why));
            };
            if !url.starts_with('/') {
                wrong("non-resource URL rules must begin with a '/' character");
            }
            if url.find('*').is_some_and(|at| at + 1 < url.len()) {
                wrong("non-resource URL wildcards '*' must be the final character of the rule");
            }
        }
    }

    fn resources(&mut self, node: &Node, path: &FieldPath) -> Result<GroupResources, PolicyError> {
        const KIND: &str = "GroupResources.rules.resources";
        self.warn_of_unknown(node, RESOURCES, path.as_str());
        let found = GroupResources {
            group: node.str("group").to_owned(),
            resources: strings(node, "resources", KIND)?,
            names: strings(node, "resourceNames", KIND)?,
        };
        if !matches!(found.group.as_str(), "" | "*") {
            let complaints = name_is_dns_subdomain(&found.group, false);
            if !complaints.is_empty() {
                let group = FieldError::invalid(&path.child("group"), found.group.as_str(), complaints.join(","));
                self.errors.push(group);
            }
        }
        if !found.names.is_empty() && found.resources.is_empty() {
            self.errors.push(FieldError::invalid(
                &path.child("resourceNames"),
                node.get("resourceNames").cloned().unwrap_or_default(),
                "using resourceNames requires at least one resource",
            ));
        }
        Ok(found)
    }

    fn stages(&mut self, node: &Node, path: &FieldPath) -> Result<Stages, PolicyError> {
        let mut stages = Stages::default();
        for (i, text) in strings(node, "omitStages", "Policy")?.iter().enumerate() {
            match Stage::parse(text) {
                Some(stage) => stages.insert(stage),
                None => {
                    let allowed = Stage::ALL.map(Stage::as_str).join(",");
                    self.errors.push(FieldError::invalid(
                        &path.child("omitStages").index(i),
                        text.as_str(),
                        format!("allowed stages are {allowed}"),
                    ));
                }
            }
        }
        Ok(stages)
    }

    fn warn_of_unknown(&self, node: &Node, known: &[&str], path: &str) {
        for key in node.as_map().into_iter().flat_map(|map| map.keys()) {
            if !known.contains(&key.as_str()) {
                let dot = if path.is_empty() { "" } else { "." };
                tracing::warn!(
                    field = format!("{path}{dot}{key}"),
                    "the audit policy has an unknown field"
                );
            }
        }
    }
}

fn flag(node: &Node, key: &str, kind: &str) -> Result<Option<bool>, PolicyError> {
    match node.get(key) {
        None | Some(Node::Null) => Ok(None),
        Some(Node::Bool(value)) => Ok(Some(*value)),
        Some(other) => Err(wrong_type(other, kind, key, "bool")),
    }
}

fn list<'a>(node: &'a Node, key: &str, kind: &str, item: &str) -> Result<&'a [Node], PolicyError> {
    match node.get(key) {
        None | Some(Node::Null) => Ok(&[]),
        Some(Node::List(items)) => Ok(items),
        Some(other) => Err(wrong_type(other, kind, key, &format!("[]{item}"))),
    }
}

fn strings(node: &Node, key: &str, kind: &str) -> Result<Vec<String>, PolicyError> {
    list(node, key, kind, "string")?
        .iter()
        .map(|item| match item {
            Node::String(text) => Ok(text.to_string()),
            Node::Null => Ok(String::new()),
            other => Err(wrong_type(other, kind, key, "string")),
        })
        .collect()
}

fn wrong_type(value: &Node, kind: &str, key: &str, wanted: &str) -> PolicyError {
    PolicyError::Undecodable(format!(
        "json: cannot unmarshal {} into Go struct field {kind}.{key} of type {wanted}",
        value.type_name()
    ))
}

/// One error, or several in brackets, each once.
fn together(errors: &FieldErrors) -> String {
    let mut texts: Vec<String> = Vec::new();
    for error in errors {
        let text = error.to_string();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    match texts.as_slice() {
        [one] => one.clone(),
        _ => format!("[{}]", texts.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    fn error(rules: Node) -> String {
        let mut document = node!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy"});
        document.set("rules", rules);
        Policy::from_node(&document).unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_is_said_in_upstreams_words() {
        for (rules, expected) in [
            (node!([]), "loaded illegal policy with 0 rules"),
            (node!([{}]), "rules[0].level: Required value"),
            (
                node!([{"level": "All"}]),
                "rules[0].level: Unsupported value: \"All\": supported values: \"None\", \"Metadata\", \"Request\", \"RequestResponse\"",
            ),
            (
                node!([{"level": "None", "nonResourceURLs": ["x"]}]),
                "rules[0].nonResourceURLs[0]: Invalid value: \"x\": non-resource URL rules must begin with a '/' character",
            ),
            (
                node!([{"level": "None", "nonResourceURLs": ["/a*b"]}]),
                "rules[0].nonResourceURLs[0]: Invalid value: \"/a*b\": non-resource URL wildcards '*' must be the final character of the rule",
            ),
            (
                node!([{"level": "None", "omitStages": ["Late"]}]),
                "rules[0].omitStages[0]: Invalid value: \"Late\": allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic",
            ),
            (
                node!([{"level": "None"}, {"level": "None", "resources": [{"group": "", "resourceNames": ["a"]}]}]),
                "rules[1].resources.resourceNames: Invalid value: [\"a\"]: using resourceNames requires at least one resource",
            ),
        ] {
            assert_eq!(error(rules), expected);
        }
        assert!(error(node!([{}, {}])).starts_with("[rules[0].level: Required value, rules[1].level"));
        assert!(
            error(node!([{"level": "None", "resources": [{"group": "a/v1"}]}]))
                .starts_with("rules[0].resources.group: ")
        );
        assert!(
            error(node!([{"level": "None", "verbs": "get"}]))
                .starts_with("failed decoding: json: cannot unmarshal string")
        );
    }

    #[test]
    fn other_kinds_are_refused() {
        let of = |document: Node| Policy::from_node(&document).unwrap_err().to_string();
        assert!(of(node!({"kind": "Policy", "apiVersion": "audit.k8s.io/v1beta1"})).contains("no kind \"Policy\""));
        assert!(of(node!({"kind": "Policy"})).starts_with("unknown group version field"));
        assert_eq!(
            of(node!({"apiVersion": "audit.k8s.io/v1"})),
            "loaded illegal policy with 0 rules"
        );
        assert!(of(node!("text")).starts_with("failed decoding: "));
    }
}
