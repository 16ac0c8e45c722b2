//! [`Rbac`]: roles and bindings compiled into an index by subject, kept up to date by deltas.
//!
//! Source of behaviour: kubernetes plugin/pkg/auth/authorizer/rbac, pkg/registry/rbac/validation/rule.go.
// PERFORMANCE: per-request path

use super::rule::{Rule, words_node};
use super::{Authorizer, AuthzAttributes, Decision, ResolvedRules};
use crate::objects::{Changes, ObjectSource};
use compact_str::{CompactString, format_compact};
use fairlead_api::field::go_quote;
use fairlead_api::{Map, Node, UserInfo};
use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

pub const GROUP: &str = "rbac.authorization.k8s.io";
const PLURALS: [&str; 4] = ["clusterroles", "roles", "clusterrolebindings", "rolebindings"];

/// The RBAC authorizer.
pub struct Rbac {
    source: Arc<dyn ObjectSource>,
    index: RwLock<Index>,
}

#[derive(Default)]
struct Index {
    /// The source's versions this index stands for, in the order of `PLURALS`.
    seen: [Option<u64>; 4],
    /// Rules by namespace (empty for cluster roles) and name.
    roles: HashMap<CompactString, HashMap<CompactString, Arc<[Rule]>>>,
    /// Bindings by namespace (empty for cluster role bindings).
    bindings: HashMap<CompactString, Bindings>,
}

#[derive(Default)]
struct Bindings {
    by_name: HashMap<CompactString, Arc<Binding>>,
    /// Service accounts are here under their user names.
    by_user: HashMap<CompactString, Vec<Arc<Binding>>>,
    by_group: HashMap<CompactString, Vec<Arc<Binding>>>,
}

struct Binding {
    namespace: CompactString,
    name: CompactString,
    role_kind: CompactString,
    role_name: CompactString,
    subjects: Vec<Subject>,
}

enum Subject {
    User(CompactString),
    Group(CompactString),
    ServiceAccount {
        namespace: CompactString,
        name: CompactString,
        user: CompactString,
    },
}

impl Rbac {
    pub fn new(source: Arc<dyn ObjectSource>) -> Rbac {
        Rbac {
            source,
            index: RwLock::default(),
        }
    }

    /// All rules that apply to a user in a namespace (empty: cluster-wide only), and which references led nowhere.
    pub fn rules(&self, user: &UserInfo, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        let index = self.current();
        let (mut rules, mut errors) = (Vec::new(), Vec::new());
        for binding in index.applying(user, namespace) {
            match index.rules_of(binding) {
                Ok(found) => rules.extend_from_slice(found),
                Err(error) => errors.push(error),
            }
        }
        (rules, errors)
    }

    /// The rules of the role a binding in `namespace` refers to.
    pub fn role(&self, kind: &str, name: &str, namespace: &str) -> Option<Arc<[Rule]>> {
        let index = self.current();
        let namespace = if kind == "Role" { namespace } else { "" };
        index.roles.get(namespace)?.get(name).cloned()
    }

    /// Decides at once; what [`Authorizer::authorize`] does.
    pub fn decide(&self, attributes: &AuthzAttributes) -> (Decision, String) {
        let index = self.current();
        let mut errors = Vec::new();
        for namespace in scopes(&attributes.namespace) {
            let Some(bindings) = index.bindings.get(namespace) else {
                continue;
            };
            for binding in bindings.of(&attributes.user) {
                match index.rules_of(binding) {
                    Ok(rules) if rules.iter().any(|r| r.allows(attributes)) => {
                        return (Decision::Allow, binding.reason(&attributes.user));
                    }
                    Ok(_) => {}
                    Err(error) => errors.push(error),
                }
            }
        }
        (
            Decision::NoOpinion,
            if errors.is_empty() {
                String::new()
            } else {
                format!("RBAC: {}", aggregate(errors))
            },
        )
    }

    /// The index, after it has caught up with the source.
    fn current(&self) -> RwLockReadGuard<'_, Index> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let stale = |(i, plural): (usize, &&str)| index.seen[i] != Some(self.source.version(GROUP, plural));
        if !PLURALS.iter().enumerate().any(stale) {
            return index;
        }
        drop(index);
        self.index
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .follow(self.source.as_ref());
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Authorizer for Rbac {
    fn authorize<'a>(&'a self, attributes: &'a AuthzAttributes) -> BoxFuture<'a, (Decision, String)> {
        Box::pin(std::future::ready(self.decide(attributes)))
    }

    fn rules_for<'a>(&'a self, user: &'a UserInfo, namespace: &'a str) -> BoxFuture<'a, ResolvedRules> {
        let (rules, errors) = self.rules(user, namespace);
        let mut resolved = ResolvedRules {
            errors,
            ..ResolvedRules::default()
        };
        for rule in &rules {
            if !rule.resources.is_empty() {
                let lists = [
                    ("apiGroups", &rule.groups),
                    ("resourceNames", &rule.names),
                    ("resources", &rule.resources),
                    ("verbs", &rule.verbs),
                ];
                resolved.resource_rules.push(lists_node(&lists));
            }
            if !rule.urls.is_empty() {
                resolved
                    .non_resource_rules
                    .push(lists_node(&[("nonResourceURLs", &rule.urls), ("verbs", &rule.verbs)]));
            }
        }
        Box::pin(std::future::ready(resolved))
    }
}

// === impl Index ===

impl Index {
    fn follow(&mut self, source: &dyn ObjectSource) {
        for (i, plural) in PLURALS.iter().enumerate() {
            if self.seen[i] == Some(source.version(GROUP, plural)) {
                continue;
            }
            let (version, changes) = source.changes(GROUP, plural, self.seen[i].unwrap_or(0));
            let roles = i < 2;
            match changes {
                Changes::All(objects) => {
                    let of_this_kind = |namespace: &CompactString| namespace.is_empty() == (i % 2 == 0);
                    if roles {
                        self.roles.retain(|namespace, _| !of_this_kind(namespace));
                    } else {
                        self.bindings.retain(|namespace, _| !of_this_kind(namespace));
                    }
                    for object in objects {
                        self.put(roles, object.namespace(), object.name(), Some(&object));
                    }
                }
                Changes::Some(changes) => {
                    for change in changes {
                        self.put(roles, &change.namespace, &change.name, change.object.as_deref());
                    }
                }
            }
            self.seen[i] = Some(version);
        }
    }

    fn put(&mut self, role: bool, namespace: &str, name: &str, object: Option<&Node>) {
        if role {
            let roles = self.roles.entry(namespace.into()).or_default();
            match object {
                Some(object) => drop(roles.insert(name.into(), Rule::all_of(object).into())),
                None => drop(roles.remove(name)),
            }
        } else {
            self.bindings.entry(namespace.into()).or_default().put(name, object);
        }
    }

    fn rules_of(&self, binding: &Binding) -> Result<&[Rule], String> {
        let (namespace, singular) = match binding.role_kind.as_str() {
            "ClusterRole" => ("", "clusterrole"),
            "Role" => (binding.namespace.as_str(), "role"),
            other => return Err(format!("unsupported role reference kind: {}", go_quote(other))),
        };
        match self
            .roles
            .get(namespace)
            .and_then(|roles| roles.get(&binding.role_name))
        {
            Some(rules) => Ok(rules),
            None => Err(format!("{singular}.{GROUP} {} not found", go_quote(&binding.role_name))),
        }
    }

    /// The bindings that apply, each once, cluster-wide ones first, by name.
    fn applying<'a>(&'a self, user: &'a UserInfo, namespace: &'a str) -> impl Iterator<Item = &'a Binding> {
        scopes(namespace)
            .filter_map(|namespace| self.bindings.get(namespace))
            .flat_map(|bindings| {
                let sorted: BTreeMap<&str, &Binding> = bindings.of(user).map(|b| (b.name.as_str(), b)).collect();
                sorted.into_values()
            })
    }
}

/// Cluster-wide, and the namespace if there is one.
fn scopes(namespace: &str) -> impl Iterator<Item = &str> {
    std::iter::once("").chain((!namespace.is_empty()).then_some(namespace))
}

// === impl Bindings ===

impl Bindings {
    /// The bindings of a user; one may come several times.
    fn of<'a>(&'a self, user: &'a UserInfo) -> impl Iterator<Item = &'a Binding> {
        let by_group = user.groups.iter().filter_map(|group| self.by_group.get(group));
        self.by_user
            .get(&user.name)
            .into_iter()
            .chain(by_group)
            .flatten()
            .map(Arc::as_ref)
    }

    fn put(&mut self, name: &str, object: Option<&Node>) {
        if let Some(old) = self.by_name.remove(name) {
            for subject in &old.subjects {
                let (map, key) = self.slot(subject);
                if let Some(bindings) = map.get_mut(key) {
                    bindings.retain(|b| !Arc::ptr_eq(b, &old));
                    if bindings.is_empty() {
                        map.remove(key);
                    }
                }
            }
        }
        let Some(object) = object else { return };
        let binding = Arc::new(Binding::from_node(object));
        for subject in &binding.subjects {
            let (map, key) = self.slot(subject);
            let bindings = map.entry(key.clone()).or_default();
            if !bindings.last().is_some_and(|b| Arc::ptr_eq(b, &binding)) {
                bindings.push(Arc::clone(&binding));
            }
        }
        self.by_name.insert(name.into(), binding);
    }

    fn slot<'s>(
        &mut self,
        subject: &'s Subject,
    ) -> (&mut HashMap<CompactString, Vec<Arc<Binding>>>, &'s CompactString) {
        match subject {
            Subject::User(name) => (&mut self.by_user, name),
            Subject::ServiceAccount { user, .. } => (&mut self.by_user, user),
            Subject::Group(name) => (&mut self.by_group, name),
        }
    }
}

// === impl Binding ===

impl Binding {
    fn from_node(object: &Node) -> Binding {
        let namespace = CompactString::from(object.namespace());
        let subjects = object
            .list("subjects")
            .iter()
            .filter_map(|s| Subject::from_node(s, &namespace))
            .collect();
        Binding {
            name: object.name().into(),
            role_kind: object.str_at(&["roleRef", "kind"]).into(),
            role_name: object.str_at(&["roleRef", "name"]).into(),
            subjects,
            namespace,
        }
    }

    /// What allowed the user, as the audit log and SubjectAccessReview tell it.
    fn reason(&self, user: &UserInfo) -> String {
        let subject = self
            .subjects
            .iter()
            .find(|s| s.is(user))
            .map_or_else(String::new, Subject::describe);
        let role = format_args!("{} {}", self.role_kind, go_quote(&self.role_name)).to_string();
        if self.namespace.is_empty() {
            format!(
                "RBAC: allowed by ClusterRoleBinding {} of {role} to {subject}",
                go_quote(&self.name)
            )
        } else {
            let name = go_quote(&format!("{}/{}", self.name, self.namespace));
            format!("RBAC: allowed by RoleBinding {name} of {role} to {subject}")
        }
    }
}

impl Subject {
    /// `None` for kinds RBAC does not know, and for service accounts without a namespace in cluster role bindings.
    fn from_node(node: &Node, binding_namespace: &CompactString) -> Option<Subject> {
        let name = CompactString::from(node.str("name"));
        match node.str("kind") {
            "User" => Some(Subject::User(name)),
            "Group" => Some(Subject::Group(name)),
            "ServiceAccount" => {
                let own = CompactString::from(node.str("namespace"));
                let namespace = if own.is_empty() { binding_namespace.clone() } else { own };
                let user = format_compact!("system:serviceaccount:{namespace}:{name}");
                (!namespace.is_empty()).then_some(Subject::ServiceAccount { namespace, name, user })
            }
            _ => None,
        }
    }

    fn is(&self, user: &UserInfo) -> bool {
        match self {
            Subject::User(name) => user.name == *name,
            Subject::Group(name) => user.in_group(name),
            Subject::ServiceAccount { user: name, .. } => user.name == *name,
        }
    }

    fn describe(&self) -> String {
        match self {
            Subject::User(name) => format!("User {}", go_quote(name)),
            Subject::Group(name) => format!("Group {}", go_quote(name)),
            Subject::ServiceAccount { namespace, name, .. } => {
                format!("ServiceAccount {}", go_quote(&format!("{name}/{namespace}")))
            }
        }
    }
}

/// Several errors as Go's aggregate prints them: each text once, in brackets when there are several.
pub(crate) fn aggregate(errors: Vec<String>) -> String {
    let mut texts: Vec<String> = Vec::new();
    for error in errors {
        if !texts.contains(&error) {
            texts.push(error);
        }
    }
    match texts.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

fn lists_node(lists: &[(&str, &Vec<CompactString>)]) -> Node {
    Node::Map(
        lists
            .iter()
            .filter(|(_, l)| !l.is_empty())
            .map(|(k, l)| (*k, words_node(l)))
            .collect::<Map>(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::MemoryObjects;
    use fairlead_api::node;

    fn cluster() -> (Arc<MemoryObjects>, Rbac) {
        let objects = Arc::new(MemoryObjects::new());
        objects.put(
            GROUP,
            "clusterroles",
            node!({"metadata": {"name": "reader"},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}),
        );
        let rbac = Rbac::new(Arc::clone(&objects) as Arc<dyn ObjectSource>);
        (objects, rbac)
    }

    fn get_pod(user: &UserInfo, namespace: &str) -> AuthzAttributes {
        AuthzAttributes {
            user: Arc::new(user.clone()),
            verb: "get".into(),
            resource: "pods".into(),
            namespace: namespace.into(),
            name: "p".into(),
            resource_request: true,
            ..AuthzAttributes::default()
        }
    }

    fn bind(name: &str, namespace: &str, role: &str, subject: Node) -> Node {
        node!({"metadata": {"name": name, "namespace": namespace}, "subjects": [fairlead_api::node::json!(subject)],
            "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role}})
    }

    #[test]
    fn bindings_are_followed_as_they_change() {
        let (objects, rbac) = cluster();
        let ann = UserInfo::new("ann", &["dev"]);
        assert_eq!(rbac.decide(&get_pod(&ann, "a")), (Decision::NoOpinion, String::new()));
        objects.put(
            GROUP,
            "rolebindings",
            bind("b", "a", "reader", node!({"kind": "Group", "name": "dev"})),
        );
        assert_eq!(
            rbac.decide(&get_pod(&ann, "a")),
            (
                Decision::Allow,
                r#"RBAC: allowed by RoleBinding "b/a" of ClusterRole "reader" to Group "dev""#.into()
            )
        );
        assert_eq!(rbac.decide(&get_pod(&ann, "other")).0, Decision::NoOpinion);
        objects.delete(GROUP, "rolebindings", "a", "b");
        assert_eq!(rbac.decide(&get_pod(&ann, "a")).0, Decision::NoOpinion);
    }

    #[test]
    fn missing_roles_are_named() {
        let (objects, rbac) = cluster();
        let ann = UserInfo::new("ann", &[]);
        for role in ["x", "y"] {
            objects.put(
                GROUP,
                "rolebindings",
                bind(role, "a", role, node!({"kind": "User", "name": "ann"})),
            );
        }
        assert_eq!(
            rbac.decide(&get_pod(&ann, "a")).1,
            r#"RBAC: [clusterrole.rbac.authorization.k8s.io "x" not found, clusterrole.rbac.authorization.k8s.io "y" not found]"#
        );
    }

    #[test]
    fn service_accounts_take_the_namespace_of_the_binding() {
        let (objects, rbac) = cluster();
        objects.put(
            GROUP,
            "rolebindings",
            bind("b", "a", "reader", node!({"kind": "ServiceAccount", "name": "sa"})),
        );
        objects.put(
            GROUP,
            "clusterrolebindings",
            bind("c", "", "reader", node!({"kind": "ServiceAccount", "name": "sb"})),
        );
        let sa = UserInfo::new("system:serviceaccount:a:sa", &[]);
        assert_eq!(
            rbac.decide(&get_pod(&sa, "a")).1,
            r#"RBAC: allowed by RoleBinding "b/a" of ClusterRole "reader" to ServiceAccount "sa/a""#
        );
        assert_eq!(
            rbac.decide(&get_pod(&UserInfo::new("system:serviceaccount::sb", &[]), "a"))
                .0,
            Decision::NoOpinion
        );
    }
}
