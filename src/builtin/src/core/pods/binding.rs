//! `pods/binding`: a scheduler gives a pod its node.

use crate::peers::Peers;
use crate::value::{copy, list};
use fairlead_api::{FieldError, FieldErrors, FieldPath, Map, Node, Status, StatusResult, node};
use fairlead_resource::hooks::{Answered, AnswersCreate, HookContext, Hooks};
use fairlead_resource::{Engine, Request, ResourceDefinition};
use futures_util::future::BoxFuture;

pub struct Binding;

impl AnswersCreate for Binding {
    fn check<'a>(
        &'a self,
        binding: &'a mut Node,
        request: &'a Request,
        _: &'a HookContext<'a>,
    ) -> BoxFuture<'a, StatusResult<()>> {
        Box::pin(async move {
            if binding.name() != request.name {
                return Err(Status::bad_request("name in URL does not match name in Binding object"));
            }
            refuse(validate(binding))
        })
    }

    fn answer<'a>(
        &'a self,
        binding: Node,
        _: &'a Request,
        engine: &'a Engine,
        context: &'a HookContext<'a>,
    ) -> BoxFuture<'a, StatusResult<Answered>> {
        Box::pin(async move { bind(&binding, context.definition, engine, context).await })
    }
}

/// `bindings`: the same by a path that does not name the pod.
pub struct Bindings {
    peers: Peers,
}

impl Bindings {
    pub fn new(peers: &Peers) -> Bindings {
        Bindings { peers: peers.clone() }
    }
}

impl Hooks for Bindings {
    fn answers(&self, subresource: &str) -> Option<&dyn AnswersCreate> {
        subresource.is_empty().then_some(self)
    }
}

impl AnswersCreate for Bindings {
    fn check<'a>(
        &'a self,
        binding: &'a mut Node,
        _: &'a Request,
        _: &'a HookContext<'a>,
    ) -> BoxFuture<'a, StatusResult<()>> {
        Box::pin(std::future::ready(refuse(validate(binding))))
    }

    fn answer<'a>(
        &'a self,
        binding: Node,
        _: &'a Request,
        engine: &'a Engine,
        context: &'a HookContext<'a>,
    ) -> BoxFuture<'a, StatusResult<Answered>> {
        Box::pin(async move {
            let pods = self.peers.get("", "pods")?;
            bind(&binding, &pods, engine, context).await
        })
    }
}

async fn bind(
    binding: &Node,
    pods: &ResourceDefinition,
    engine: &Engine,
    context: &HookContext<'_>,
) -> StatusResult<Answered> {
    let now = context.clock.now().rfc3339();
    let change = |pod: &mut Node| assign(pod, binding, &now, pods, context.namespace);
    engine
        .modify(pods, context.namespace, binding.name(), context.dry_run, &change)
        .await?;
    let mut object = node!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"});
    object.set("code", 201);
    Ok(Answered {
        object,
        warnings: Vec::new(),
        audit: Vec::new(),
    })
}

fn validate(binding: &Node) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let target = FieldPath::new("target");
    let kind = binding.str_at(&["target", "kind"]);
    if !matches!(kind, "" | "Node") {
        errors.push(FieldError::not_supported(
            &target.child("kind"),
            kind,
            &["Node", "<empty>"],
        ));
    }
    if binding.str_at(&["target", "name"]).is_empty() {
        errors.push(FieldError::required(&target.child("name"), ""));
    }
    errors
}

/// COMPAT: these are not told as an invalid object but as a failure.
fn refuse(errors: FieldErrors) -> StatusResult<()> {
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    match texts.len() {
        0 => Ok(()),
        1 => Err(Status::new(500, "", texts[0].clone())),
        _ => Err(Status::new(500, "", format!("[{}]", texts.join(", ")))),
    }
}

fn assign(pod: &mut Node, binding: &Node, now: &str, pods: &ResourceDefinition, namespace: &str) -> StatusResult<()> {
    let name = pod.name().to_owned();
    let resource = pods.group_resource();
    for (what, wanted, has) in [
        ("UID", binding.uid(), pod.uid()),
        ("ResourceVersion", binding.resource_version(), pod.resource_version()),
    ] {
        if !wanted.is_empty() && wanted != has {
            return Err(Status::conflict(
                &resource,
                &name,
                format!(
                    "StorageError: invalid object, Code: 4, Key: /registry{}{}/{name}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {has}",
                    pods.storage.prefix, namespace,
                ),
            ));
        }
    }
    let refusal = if pod.deletion_timestamp().is_some() {
        Some(format!("pod {name} is being deleted, cannot be assigned to a host"))
    } else if !pod.str_at(&["spec", "nodeName"]).is_empty() {
        Some(format!(
            "pod {name} is already assigned to node \"{}\"",
            pod.str_at(&["spec", "nodeName"])
        ))
    } else if !list(pod, &["spec", "schedulingGates"]).is_empty() {
        Some(format!("pod {name} has non-empty .spec.schedulingGates"))
    } else {
        None
    };
    if let Some(why) = refusal {
        let resource = fairlead_api::GroupResource::new("", "pods/binding");
        return Err(Status::conflict(&resource, &name, why));
    }
    pod.set_at(&["spec", "nodeName"], binding.str_at(&["target", "name"]));
    pod.remove_at(&["status", "nominatedNodeName"]);
    for (field, given) in [("annotations", binding.annotations()), ("labels", binding.labels())] {
        for (key, value) in given.into_iter().flat_map(Map::iter) {
            pod.meta_mut().slot(field).set(key, value.clone());
        }
    }
    set_condition(pod, node!({"type": "PodScheduled", "status": "True"}), now);
    Ok(())
}

/// Sets a condition of a pod: the time of its last transition changes with its status.
pub fn set_condition(pod: &mut Node, mut condition: Node, now: &str) {
    for field in ["lastProbeTime", "lastTransitionTime"] {
        condition.set(field, Node::Null);
    }
    let status = pod.make_at(&["status"]);
    let mut conditions = status.list("conditions").to_vec();
    match conditions.iter_mut().find(|c| c.str("type") == condition.str("type")) {
        Some(old) => {
            match old.str("status") == condition.str("status") {
                true => copy(&mut condition, old, &["lastTransitionTime"]),
                false => condition.set("lastTransitionTime", now),
            }
            *old = condition;
        }
        None => {
            condition.set("lastTransitionTime", now);
            conditions.push(condition);
        }
    }
    status.set("conditions", conditions);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_keep_their_time_with_their_status() {
        let mut pod =
            node!({"status": {"conditions": [{"type": "PodScheduled", "status": "False", "lastTransitionTime": "a"}]}});
        set_condition(&mut pod, node!({"type": "PodScheduled", "status": "True"}), "b");
        set_condition(&mut pod, node!({"type": "PodScheduled", "status": "True"}), "c");
        let conditions = pod.at(&["status", "conditions"]).unwrap().as_list().unwrap();
        assert_eq!(conditions.len(), 1);
        assert_eq!(conditions[0].str("lastTransitionTime"), "b");
    }

    #[test]
    fn a_target_is_needed() {
        assert_eq!(refuse(validate(&node!({"target": {"name": "n"}}))), Ok(()));
        let message = refuse(validate(&node!({"target": {"kind": "Pod"}})))
            .unwrap_err()
            .message()
            .to_owned();
        assert!(
            message.starts_with("[target.kind: Unsupported value: \"Pod\""),
            "{message}"
        );
    }
}
