//! Nobody grants more than they hold: the check on writes of roles and bindings.
//!
//! Source of behaviour: kubernetes pkg/registry/rbac (escalation_check.go, */policybased), validation/rule.go.

use crate::authentication::MASTERS;
use crate::authorization::rbac::{GROUP, Rbac, aggregate};
use crate::authorization::rule::{Rule, quoted_list};
use crate::authorization::{Authorizer, AuthzAttributes, Decision};
use compact_str::CompactString;
use fairlead_api::field::go_quote;
use fairlead_api::gvk::GroupResource;
use fairlead_api::{Node, Status, StatusResult, UserInfo};
use std::sync::Arc;

/// A write of a Role, ClusterRole or one of their bindings, after mutating admission and before validation.
pub struct Write<'a> {
    pub user: &'a Arc<UserInfo>,
    /// `roles`, `clusterroles`, `rolebindings` or `clusterrolebindings`.
    pub plural: &'a str,
    /// Empty for cluster-scoped resources.
    pub namespace: &'a str,
    pub object: &'a Node,
    /// The stored object, on update.
    pub old: Option<&'a Node>,
}

/// Refuses a write that grants what its user does not hold, unless the user may `escalate` or `bind`.
pub async fn check(rbac: &Rbac, authorizer: &dyn Authorizer, write: &Write<'_>) -> StatusResult<()> {
    if write.user.in_group(MASTERS) {
        return Ok(());
    }
    match write.plural {
        "roles" | "clusterroles" => check_role(rbac, authorizer, write).await,
        "rolebindings" | "clusterrolebindings" => check_binding(rbac, authorizer, write).await,
        _ => Ok(()),
    }
}

/// The permissions in `granted` that are not in `held`, as the message lists them; `None` where all are held.
pub fn missing(held: &[Rule], granted: &[Rule]) -> Option<String> {
    let pieces = granted.iter().flat_map(Rule::pieces);
    let uncovered: Vec<Rule> = pieces
        .filter(|piece| !held.iter().any(|rule| rule.covers(piece)))
        .collect();
    if uncovered.is_empty() {
        return None;
    }
    let mut lines: Vec<String> = compact(uncovered).iter().map(Rule::describe).collect();
    lines.sort();
    lines.dedup();
    Some(lines.join("\n"))
}

async fn check_role(rbac: &Rbac, authorizer: &dyn Authorizer, write: &Write<'_>) -> StatusResult<()> {
    let name = if write.old.is_some() { write.object.name() } else { "" };
    if allowed(authorizer, write, "escalate", write.plural, name).await || only_collector_fields(write) {
        return Ok(());
    }
    confirm(rbac, write, &Rule::all_of(write.object))?;
    let aggregates = |role: &Node| {
        let selectors = role
            .at(&["aggregationRule", "clusterRoleSelectors"])
            .and_then(Node::as_list);
        selectors.is_some_and(|s| !s.is_empty())
    };
    if write.plural == "clusterroles" && (aggregates(write.object) || write.old.is_some_and(aggregates)) {
        // An aggregating role can gather anything.
        let all = || vec![CompactString::from("*")];
        let everything = [
            Rule {
                verbs: all(),
                groups: all(),
                resources: all(),
                ..Rule::default()
            },
            Rule {
                verbs: all(),
                urls: all(),
                ..Rule::default()
            },
        ];
        confirm(rbac, write, &everything)
            .map_err(|_| write.forbidden("must have cluster-admin privileges to use the aggregationRule"))?;
    }
    Ok(())
}

async fn check_binding(rbac: &Rbac, authorizer: &dyn Authorizer, write: &Write<'_>) -> StatusResult<()> {
    if only_collector_fields(write) {
        return Ok(());
    }
    let reference = write.object.get("roleRef").unwrap_or(&Node::Null);
    let (kind, name) = (reference.str("kind"), reference.str("name"));
    let plural = match kind {
        "ClusterRole" => "clusterroles",
        "Role" => "roles",
        _ => {
            return Err(Status::new(
                500,
                "",
                format!("unsupported role reference kind: {}", go_quote(kind)),
            ));
        }
    };
    if allowed(authorizer, write, "bind", plural, name).await {
        return Ok(());
    }
    // COMPAT: upstream says that the binding's resource lacks the role.
    let rules = rbac
        .role(kind, name, write.namespace)
        .ok_or_else(|| Status::not_found(&write.resource(), name))?;
    confirm(rbac, write, &rules)
}

fn confirm(rbac: &Rbac, write: &Write, granted: &[Rule]) -> StatusResult<()> {
    let (held, errors) = rbac.rules(write.user, write.namespace);
    let Some(missing) = missing(&held, granted) else {
        return Ok(());
    };
    let mut message = format!(
        "user {} (groups={}) is attempting to grant RBAC permissions not currently held:\n{missing}",
        go_quote(&write.user.name),
        quoted_list(&write.user.groups)
    );
    if !errors.is_empty() {
        message.push_str(&format!("; resolution errors: [{}]", aggregate(errors)));
    }
    Err(write.forbidden(&message))
}

/// Whether the user was given the verb explicitly.
async fn allowed(authorizer: &dyn Authorizer, write: &Write<'_>, verb: &str, plural: &str, name: &str) -> bool {
    let attributes = AuthzAttributes {
        user: Arc::clone(write.user),
        verb: verb.into(),
        group: GROUP.into(),
        version: "*".into(),
        resource: plural.into(),
        name: name.into(),
        namespace: write.namespace.into(),
        resource_request: true,
        ..AuthzAttributes::default()
    };
    authorizer.authorize(&attributes).await.0 == Decision::Allow
}

/// Whether an update changes nothing but what the garbage collector has to change.
fn only_collector_fields(write: &Write) -> bool {
    let Some(old) = write.old else { return false };
    let rest = |object: &Node| {
        let mut rest = object.clone();
        for field in ["ownerReferences", "finalizers", "selfLink", "managedFields"] {
            rest.remove_at(&["metadata", field]);
        }
        rest
    };
    rest(write.object) == rest(old)
}

/// Rules of one group, one resource and at most one name each are joined where they differ by verb only.
fn compact(rules: Vec<Rule>) -> Vec<Rule> {
    let mut compacted: Vec<Rule> = Vec::new();
    for rule in rules {
        let same = |r: &&mut Rule| {
            rule.urls.is_empty() && r.groups == rule.groups && r.resources == rule.resources && r.names == rule.names
        };
        match compacted.iter_mut().find(same) {
            Some(known) => known.verbs.extend(rule.verbs),
            None => compacted.push(rule),
        }
    }
    compacted
}

impl Write<'_> {
    fn resource(&self) -> GroupResource {
        GroupResource::new(GROUP, self.plural)
    }

    fn forbidden(&self, why: &str) -> Status {
        Status::forbidden(&self.resource(), self.object.name(), why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::{MemoryObjects, ObjectSource};
    use fairlead_api::node;
    use futures_util::FutureExt;

    fn world(verbs: Node) -> Rbac {
        let objects = MemoryObjects::new();
        let mut rules = node!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]);
        rules.as_list_mut().unwrap().push(verbs);
        let mut role = node!({"metadata": {"name": "r", "namespace": "ns"}});
        role.set("rules", rules);
        objects.put(GROUP, "roles", role);
        objects.put(
            GROUP,
            "roles",
            node!({"metadata": {"name": "strong", "namespace": "ns"},
            "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]}),
        );
        objects.put(
            GROUP,
            "rolebindings",
            node!({"metadata": {"name": "b", "namespace": "ns"},
            "roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}]}),
        );
        Rbac::new(Arc::new(objects) as Arc<dyn ObjectSource>)
    }

    fn attempt(rbac: &Rbac, plural: &str, object: &Node, old: Option<&Node>) -> StatusResult<()> {
        let user = Arc::new(UserInfo::new("u", &["system:authenticated"]));
        let write = Write {
            user: &user,
            plural,
            namespace: "ns",
            object,
            old,
        };
        check(rbac, rbac, &write).now_or_never().expect("nothing waits")
    }

    #[test]
    fn roles_grant_only_what_is_held() {
        let rbac = world(Node::Null);
        let role = |rule: Node| {
            let mut role = node!({"metadata": {"name": "n", "namespace": "ns"}, "rules": []});
            role.set("rules", vec![rule]);
            role
        };
        let held =
            role(node!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"], "resourceNames": ["a"]}));
        assert_eq!(attempt(&rbac, "roles", &held, None), Ok(()));
        let more =
            role(node!({"apiGroups": ["", "apps"], "resources": ["configmaps", "pods"], "verbs": ["get", "delete"]}));
        assert_eq!(
            attempt(&rbac, "roles", &more, None).unwrap_err().message(),
            "roles.rbac.authorization.k8s.io \"n\" is forbidden: user \"u\" (groups=[\"system:authenticated\"]) is attempting \
             to grant RBAC permissions not currently held:\n\
             {APIGroups:[\"\"], Resources:[\"configmaps\"], Verbs:[\"delete\"]}\n\
             {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"get\" \"delete\"]}\n\
             {APIGroups:[\"apps\"], Resources:[\"configmaps\"], Verbs:[\"get\" \"delete\"]}\n\
             {APIGroups:[\"apps\"], Resources:[\"pods\"], Verbs:[\"get\" \"delete\"]}"
        );
        let mut collected = more.clone();
        collected.set_at(&["metadata", "finalizers"], node!(["x"]));
        assert_eq!(attempt(&rbac, "roles", &collected, Some(&more)), Ok(()));
        let escalate = world(node!({"apiGroups": [GROUP], "resources": ["roles"], "verbs": ["escalate"]}));
        assert_eq!(attempt(&escalate, "roles", &more, None), Ok(()));
    }

    #[test]
    fn bindings_need_the_rules_or_the_verb() {
        let binding = |name: &str| node!({"metadata": {"name": "x", "namespace": "ns"}, "roleRef": {"kind": "Role", "name": name}});
        let rbac = world(Node::Null);
        assert_eq!(attempt(&rbac, "rolebindings", &binding("r"), None), Ok(()));
        assert_eq!(
            attempt(&rbac, "rolebindings", &binding("strong"), None)
                .unwrap_err()
                .code(),
            403
        );
        assert_eq!(
            attempt(&rbac, "rolebindings", &binding("none"), None)
                .unwrap_err()
                .message(),
            r#"rolebindings.rbac.authorization.k8s.io "none" not found"#
        );
        let may_bind =
            node!({"apiGroups": [GROUP], "resources": ["roles"], "verbs": ["bind"], "resourceNames": ["strong"]});
        assert_eq!(
            attempt(&world(may_bind), "rolebindings", &binding("strong"), None),
            Ok(())
        );
    }
}
