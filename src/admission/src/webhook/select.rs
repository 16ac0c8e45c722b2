//! Which webhooks a request goes to: rules, match policy, selectors and match conditions.
// PERFORMANCE: per-request path

use super::conditions;
use crate::cluster::Served;
use crate::{Attributes, Cluster};
use fairlead_api::selector::LabelSelector;
use fairlead_api::{GroupResource, GroupVersionResource, Node, Status, StatusResult};
use std::borrow::Cow;

/// A webhook that is to be asked, and as what.
#[derive(Debug)]
pub struct Invocation<'a> {
    pub hook: &'a Node,
    /// The name of its configuration.
    pub configuration: &'a str,
    /// Its place among all webhooks.
    pub place: usize,
    /// How the webhook knows the resource and its objects; `None` where that is as in the request.
    pub equivalent: Option<Served>,
}

/// The object and the old object as a webhook wants to see them.
pub struct Objects<'a> {
    pub object: Cow<'a, Node>,
    pub old_object: Cow<'a, Node>,
}

/// # Errors
/// A namespace that cannot be found, a selector that cannot be read, what match conditions cannot be decided on.
pub async fn select<'a>(
    hook: &'a Node,
    attributes: &Attributes,
    cluster: &Cluster,
) -> StatusResult<Option<Invocation<'a>>> {
    let policy = hook.str("matchPolicy");
    let Some(equivalent) = by_rules(hook.list("rules"), policy, attributes, cluster) else {
        return Ok(None);
    };
    if !by_object(hook, attributes)? || !by_namespace(hook, attributes, cluster).await? {
        return Ok(None);
    }
    let invocation = Invocation {
        hook,
        configuration: "",
        place: 0,
        equivalent,
    };
    match conditions::matches(&invocation, attributes, cluster).await? {
        true => Ok(Some(invocation)),
        false => Ok(None),
    }
}

impl Invocation<'_> {
    /// The objects in the version the webhook asked for.
    ///
    /// # Errors
    /// What a conversion webhook answers.
    pub async fn objects<'a>(&self, attributes: &'a Attributes, cluster: &Cluster) -> StatusResult<Objects<'a>> {
        Objects::of(attributes, self.equivalent.as_ref(), cluster).await
    }
}

impl<'a> Objects<'a> {
    /// The objects of a request as those of an equivalent resource.
    ///
    /// # Errors
    /// What a conversion webhook answers.
    pub async fn of(
        attributes: &'a Attributes,
        equivalent: Option<&Served>,
        cluster: &Cluster,
    ) -> StatusResult<Objects<'a>> {
        let (object, old_object) = (&attributes.object, &*attributes.old_object);
        let Some(wanted) = equivalent.filter(|wanted| wanted.kind != attributes.kind) else {
            return Ok(Objects {
                object: Cow::Borrowed(object),
                old_object: Cow::Borrowed(old_object),
            });
        };
        let convert = async |node: &Node| match node {
            Node::Null => Ok(Node::Null),
            node => {
                cluster
                    .versions
                    .convert(node.clone(), &attributes.resource, &wanted.resource)
                    .await
            }
        };
        Ok(Objects {
            object: Cow::Owned(convert(object).await?),
            old_object: Cow::Owned(convert(old_object).await?),
        })
    }
}

// === rules ===

/// `None` where no rule matches; inside, the equivalent resource that did where the request's own did not.
pub(crate) fn by_rules(
    rules: &[Node],
    match_policy: &str,
    attributes: &Attributes,
    cluster: &Cluster,
) -> Option<Option<Served>> {
    let rules = || rules.iter().filter(|rule| matches_besides_version(rule, attributes));
    rules().next()?;
    if rules().any(|rule| matches_version(rule, &attributes.resource)) {
        return Some(None);
    }
    if match_policy == "Exact" {
        return None;
    }
    let equivalents = cluster
        .versions
        .equivalents(&attributes.resource, &attributes.subresource);
    let served = |rule: &Node| {
        equivalents
            .iter()
            .find(|served| matches_version(rule, &served.resource))
            .cloned()
    };
    rules().find_map(served).map(Some)
}

fn matches_besides_version(rule: &Node, attributes: &Attributes) -> bool {
    let is_namespace = attributes.is("", "namespaces");
    let namespaced = !is_namespace && !attributes.namespace.is_empty();
    let scope = match rule.str("scope") {
        "" | "*" => true,
        "Namespaced" => namespaced,
        "Cluster" => !namespaced,
        _ => false,
    };
    let operations = rule.list("operations").iter().filter_map(Node::as_str);
    let operation = attributes.operation.as_str();
    scope
        && operations
            .into_iter()
            .any(|wanted| wanted == "*" || wanted == operation)
        && rule.list("resources").iter().filter_map(Node::as_str).any(|wanted| {
            let (resource, subresource) = wanted.split_once('/').unwrap_or((wanted, ""));
            (resource == "*" || resource == attributes.resource.resource)
                && (subresource == "*" || subresource == attributes.subresource)
        })
        && matches_name(rule, &attributes.name)
}

/// Rules of policies may name objects.
fn matches_name(rule: &Node, name: &str) -> bool {
    let names = rule.list("resourceNames");
    names.is_empty() || names.iter().any(|wanted| wanted.as_str() == Some(name))
}

fn matches_version(rule: &Node, resource: &GroupVersionResource) -> bool {
    let has = |field: &str, value: &str| {
        let mut values = rule.list(field).iter().filter_map(Node::as_str);
        values.any(|wanted| wanted == "*" || wanted == value)
    };
    has("apiGroups", &resource.group) && has("apiVersions", &resource.version)
}

// === selectors ===

fn selector(hook: &Node, field: &str) -> StatusResult<Option<LabelSelector>> {
    match hook.get(field).filter(|selector| !selector.is_zero()) {
        None => Ok(None),
        Some(node) => match LabelSelector::from_node(node) {
            Ok(selector) => Ok(Some(selector).filter(|selector| !selector.is_empty())),
            Err(why) => Err(Status::internal(why)),
        },
    }
}

pub(crate) fn by_object(hook: &Node, attributes: &Attributes) -> StatusResult<bool> {
    let Some(selector) = selector(hook, "objectSelector")? else {
        return Ok(true);
    };
    // What has no metadata, as the options of a connection, is selected by nothing.
    let matches = |object: &Node| object.get("metadata").is_some() && selector.matches(object.labels());
    Ok(matches(&attributes.object) || matches(&attributes.old_object))
}

pub(crate) async fn by_namespace(hook: &Node, attributes: &Attributes, cluster: &Cluster) -> StatusResult<bool> {
    let is_namespace = attributes.resource.resource == "namespaces";
    if attributes.namespace.is_empty() && !is_namespace {
        return Ok(true);
    }
    let Some(selector) = selector(hook, "namespaceSelector")? else {
        return Ok(true);
    };
    let writes_namespace = is_namespace && attributes.subresource.is_empty();
    if writes_namespace && (attributes.creates() || attributes.updates()) {
        return Ok(selector.matches(attributes.object.labels()));
    }
    let namespace = cluster.find("", "namespaces", "", &attributes.namespace).await;
    match namespace {
        Some(namespace) => Ok(selector.matches(namespace.labels())),
        None => Err(Status::not_found(
            &GroupResource::new("", "namespaces"),
            &attributes.namespace,
        )),
    }
}
