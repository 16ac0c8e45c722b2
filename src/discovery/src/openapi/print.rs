//! What both versions print the same way: path items, operations up to their bodies, parameters up to their types.

use super::operations::{Answer, Operation, PathItem};
use super::parameters::{Parameter, Place};
use super::{Version, kind_node, reference, strings};
use fairlead_api::{Node, node};

/// A path and its operations. Parameters that all operations share move to the path.
pub(super) fn path_item(
    item: &PathItem,
    mut operation: impl FnMut(&Operation, &[&Parameter]) -> Node,
    parameter: impl FnMut(&Parameter) -> Node,
) -> Node {
    let mut node = Node::map();
    let shared = shared(&item.operations);
    for one in &item.operations {
        let own: Vec<&Parameter> = one.parameters.iter().filter(|p| !shared.contains(p)).collect();
        node.set(one.method, operation(one, &own));
    }
    let mut parameters = [item.parameters.clone(), shared].concat();
    if !parameters.is_empty() {
        parameters.sort_by_key(|p| p.name);
        node.set("parameters", parameters.iter().map(parameter).collect::<Vec<_>>());
    }
    node
}

/// Parameters that every operation of a path has.
fn shared(operations: &[Operation]) -> Vec<Parameter> {
    let Some((first, rest)) = operations.split_first() else {
        return Vec::new();
    };
    let everywhere = |p: &&Parameter| rest.iter().all(|o| o.parameters.contains(p));
    first.parameters.iter().filter(everywhere).copied().collect()
}

/// An operation without its parameters and its body. `answer` adds a schema to a success.
pub(super) fn operation(operation: &Operation, answer: impl Fn(&mut Node)) -> Node {
    let mut node = Node::map();
    node.set("tags", strings([operation.tag.as_str()]));
    node.set("description", operation.description.as_str());
    node.set("operationId", operation.id.as_str());
    let mut responses = Node::map();
    for code in operation.codes {
        let mut response = node!({"description": code_text(*code)});
        answer(&mut response);
        responses.set(&code.to_string(), response);
    }
    responses.set("401", node!({"description": "Unauthorized"}));
    node.set("responses", responses);
    if !operation.action.is_empty() {
        node.set("x-kubernetes-action", operation.action);
    }
    if let Some(kind) = &operation.kind {
        node.set("x-kubernetes-group-version-kind", kind_node(kind));
    }
    node
}

pub(super) fn answer_schema(operation: &Operation, version: Version) -> Node {
    match &operation.answer {
        Answer::Schema(name) => reference(name, version),
        Answer::Text => node!({"type": "string"}),
    }
}

/// A parameter without its type.
pub(super) fn parameter(p: &Parameter) -> Node {
    let mut node = node!({"name": p.name, "description": p.description});
    match p.place {
        Place::Path => {
            node.set("in", "path");
            node.set("required", true);
        }
        Place::Query => node.set("in", "query"),
    }
    node
}

fn code_text(code: u16) -> &'static str {
    match code {
        200 => "OK",
        201 => "Created",
        _ => "Accepted",
    }
}
