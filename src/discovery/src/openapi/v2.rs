//! The OpenAPI v2 document: all groups in one.

use super::operations::{self, Answer, Body, META, Operation, PathItem};
use super::parameters::{self, Parameter, Place};
use super::{Components, Version, custom, kind_node, reachable, reference, strings};
use crate::snapshot::{Group, Serves};
use fairlead_api::{Node, node};
use std::sync::Arc;

/// The document of everything served here.
pub fn document(groups: &[Arc<Group>], components: &dyn Components) -> Node {
    let mut items: Vec<PathItem> = Vec::new();
    let mut own = std::collections::BTreeMap::new();
    for group in groups {
        let built_in = group.is_built_in();
        for version in &group.versions {
            let Serves::Local(definitions) = &version.serves else {
                continue;
            };
            let gv = &version.group_version;
            items.extend(definitions.iter().flat_map(|d| operations::paths(d)));
            own.extend(custom::schemas(definitions, Version::V2, components));
            if built_in {
                let id = format!(
                    "get{}{}APIResources",
                    operations::group_title(&gv.group),
                    operations::title(&gv.version)
                );
                let root = format!("{}/", operations::root(&gv.group, &gv.version));
                items.push(operations::document(
                    &root,
                    id,
                    operations::tag(&gv.group, &gv.version),
                    "APIResourceList",
                ));
            }
        }
        if built_in && !group.name.is_empty() {
            let id = format!("get{}APIGroup", operations::group_title(&group.name));
            let path = format!("/apis/{}/", group.name);
            items.push(operations::document(
                &path,
                id,
                operations::tag(&group.name, ""),
                "APIGroup",
            ));
        }
    }
    items.extend(roots());
    let mut used = Vec::new();
    let mut paths = Node::map();
    for item in &items {
        paths.set(&item.path, path_item(item, &mut used));
    }
    let mut names = Vec::new();
    super::references(&paths, Version::V2.prefix(), &mut names);
    names.extend([format!("{META}.Patch"), format!("{META}.DeleteOptions")]);
    let schema = |name: &str| own.get(name).cloned().or_else(|| components.schema(name, Version::V2));
    let mut definitions = Node::map();
    for (name, node) in reachable(names, Version::V2, &schema) {
        definitions.set(&name, node);
    }
    let mut document = node!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": "1.36"},
        "securityDefinitions": {"BearerToken": {
            "type": "apiKey", "name": "authorization", "in": "header", "description": "Bearer Token authentication",
        }},
        "security": [{"BearerToken": []}],
    });
    for remote in remotes(groups) {
        merge(&remote, &mut paths, &mut definitions);
    }
    document.set("paths", paths);
    document.set("definitions", definitions);
    document.set("parameters", shared_definitions(used));
    document
}

/// The parts of other servers' documents that belong to the group-versions they serve.
fn remotes(groups: &[Arc<Group>]) -> Vec<Node> {
    let mut parts = Vec::new();
    for version in groups.iter().flat_map(|g| &g.versions) {
        let Serves::Remote(remote) = &version.serves else {
            continue;
        };
        let Some(document) = &remote.openapi_v2 else { continue };
        let own = format!("/apis/{}/{}/", remote.group, remote.version);
        let mut paths = Node::map();
        for (path, item) in document
            .get("paths")
            .and_then(Node::as_map)
            .into_iter()
            .flat_map(|m| m.iter())
        {
            if path.starts_with(&own) {
                paths.set(path, item.clone());
            }
        }
        let mut names = Vec::new();
        super::references(&paths, Version::V2.prefix(), &mut names);
        let schema = |name: &str| document.get("definitions").and_then(|d| d.get(name)).cloned();
        let mut part = Node::map();
        part.set("paths", paths);
        part.set(
            "definitions",
            Node::Map(reachable(names, Version::V2, &schema).into_iter().collect()),
        );
        parts.push(part);
    }
    parts
}

/// Adds a part. A definition that differs from one of the same name gets a name of its own, as upstream's merge does
/// (kube-openapi pkg/aggregator): `Name_v2`, `Name_v3` …
fn merge(part: &Node, paths: &mut Node, definitions: &mut Node) {
    let mut renames: Vec<(String, String)> = Vec::new();
    for (name, schema) in part
        .get("definitions")
        .and_then(Node::as_map)
        .into_iter()
        .flat_map(|m| m.iter())
    {
        match definitions.get(name) {
            Some(known) if !same(known, schema) => {
                let free = (2..)
                    .map(|n| format!("{name}_v{n}"))
                    .find(|n| definitions.get(n).is_none());
                renames.extend(free.map(|free| (name.to_string(), free)));
            }
            _ => {}
        }
    }
    for (name, schema) in part
        .get("definitions")
        .and_then(Node::as_map)
        .into_iter()
        .flat_map(|m| m.iter())
    {
        let mut schema = schema.clone();
        rename(&mut schema, &renames);
        let target = renames
            .iter()
            .find(|(old, _)| *old == name.as_str())
            .map_or(name.as_str(), |(_, new)| new);
        if definitions.get(target).is_none() {
            definitions.set(target, schema);
        }
    }
    for (path, item) in part
        .get("paths")
        .and_then(Node::as_map)
        .into_iter()
        .flat_map(|m| m.iter())
    {
        let mut item = item.clone();
        rename(&mut item, &renames);
        paths.set(path, item);
    }
}

/// Whether two schemas say the same, whatever their words.
fn same(a: &Node, b: &Node) -> bool {
    match (a, b) {
        (Node::Map(x), Node::Map(y)) => {
            let said = |(key, value): &(&fairlead_api::Key, &Node)| {
                !(key.as_str() == "description" && value.as_str().is_some())
                    && key.as_str() != "x-kubernetes-group-version-kind"
            };
            let (x, y): (Vec<_>, Vec<_>) = (x.iter().filter(said).collect(), y.iter().filter(said).collect());
            x.len() == y.len() && x.iter().zip(&y).all(|((k, v), (l, w))| k == l && same(v, w))
        }
        (Node::List(x), Node::List(y)) => x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y)),
        _ => a == b,
    }
}

fn rename(node: &mut Node, renames: &[(String, String)]) {
    match node {
        Node::Map(map) => {
            for (key, value) in map.iter_mut() {
                match value {
                    Node::String(text) if key == "$ref" => {
                        let known = text.strip_prefix(Version::V2.prefix());
                        if let Some((_, new)) = renames.iter().find(|(old, _)| Some(old.as_str()) == known) {
                            *text = format!("{}{new}", Version::V2.prefix()).into();
                        }
                    }
                    _ => rename(value, renames),
                }
            }
        }
        Node::List(items) => items.iter_mut().for_each(|item| rename(item, renames)),
        _ => {}
    }
}

fn roots() -> Vec<PathItem> {
    let mut version = super::v3::plain(
        "/version/",
        "getCodeVersion",
        "version",
        "application/json",
        Some("io.k8s.apimachinery.pkg.version.Info"),
    );
    version.operations[0].consumes = &["application/json"];
    let mut issuer = super::v3::plain(
        "/.well-known/openid-configuration/",
        "getServiceAccountIssuerOpenIDConfiguration",
        "WellKnown",
        "application/json",
        None,
    );
    let mut keys = super::v3::plain(
        "/openid/v1/jwks/",
        "getServiceAccountIssuerOpenIDKeyset",
        "openid",
        "application/jwk-set+json",
        None,
    );
    for item in [&mut issuer, &mut keys] {
        item.operations[0].consumes = &[];
    }
    vec![
        operations::document("/api/", "getCoreAPIVersions".into(), "core".into(), "APIVersions"),
        operations::document("/apis/", "getAPIVersions".into(), "apis".into(), "APIGroupList"),
        version,
        issuer,
        keys,
    ]
}

/// Parameters that every operation of a path has.
pub(super) fn shared(operations: &[Operation]) -> Vec<Parameter> {
    let Some((first, rest)) = operations.split_first() else {
        return Vec::new();
    };
    let everywhere = |p: &&Parameter| rest.iter().all(|o| o.parameters.contains(p));
    first.parameters.iter().filter(everywhere).copied().collect()
}

fn path_item(item: &PathItem, used: &mut Vec<Parameter>) -> Node {
    let mut node = Node::map();
    let shared = shared(&item.operations);
    for operation in &item.operations {
        node.set(operation.method, operation_node(operation, &shared, used));
    }
    let mut parameters = [item.parameters.clone(), shared].concat();
    if !parameters.is_empty() {
        parameters.sort_by_key(|p| p.name);
        node.set(
            "parameters",
            parameters.iter().map(|p| parameter(p, used)).collect::<Vec<_>>(),
        );
    }
    node
}

fn operation_node(operation: &Operation, shared: &[Parameter], used: &mut Vec<Parameter>) -> Node {
    let mut node = Node::map();
    node.set("description", operation.description.as_str());
    if !operation.consumes.is_empty() {
        node.set("consumes", strings(operation.consumes.iter().copied()));
    }
    node.set("produces", strings(operation.produces.iter().copied()));
    node.set("schemes", strings(["https"]));
    node.set("tags", strings([operation.tag.as_str()]));
    node.set("operationId", operation.id.as_str());
    let mut own = Vec::new();
    match &operation.body {
        Body::None => {}
        Body::Object(name) => {
            let mut body = node!({"name": "body", "in": "body", "required": true});
            body.set("schema", reference(name, Version::V2));
            own.push(body);
        }
        Body::Patch(_) => own.push(shared_reference(parameters::PATCH_BODY)),
        Body::DeleteOptions => own.push(shared_reference(parameters::DELETE_BODY)),
    }
    own.extend(
        operation
            .parameters
            .iter()
            .filter(|p| !shared.contains(p))
            .map(|p| parameter(p, used)),
    );
    if !own.is_empty() {
        node.set("parameters", own);
    }
    let mut responses = Node::map();
    for code in operation.codes {
        let mut response = node!({"description": super::v3::code_text(*code)});
        response.set(
            "schema",
            match &operation.answer {
                Answer::Schema(name) => reference(name, Version::V2),
                Answer::Text => node!({"type": "string"}),
            },
        );
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

fn shared_reference(name: &str) -> Node {
    let mut node = Node::map();
    node.set("$ref", format!("#/parameters/{name}"));
    node
}

fn parameter(p: &Parameter, used: &mut Vec<Parameter>) -> Node {
    if p.shared.is_empty() {
        return parameter_node(p);
    }
    if !used.contains(p) {
        used.push(*p);
    }
    shared_reference(&format!("{}-{}", p.name, p.shared))
}

fn parameter_node(p: &Parameter) -> Node {
    let mut node = node!({"uniqueItems": true});
    node.set("name", p.name);
    node.set("type", p.type_name);
    node.set("description", p.description);
    match p.place {
        Place::Path => {
            node.set("in", "path");
            node.set("required", true);
        }
        Place::Query => node.set("in", "query"),
    }
    node
}

fn shared_definitions(used: Vec<Parameter>) -> Node {
    let mut node = Node::map();
    for p in used {
        node.set(&format!("{}-{}", p.name, p.shared), parameter_node(&p));
    }
    let mut patch = node!({"name": "body", "in": "body", "required": true});
    patch.set("schema", reference(&format!("{META}.Patch"), Version::V2));
    node.set(parameters::PATCH_BODY, patch);
    let mut delete = node!({"name": "body", "in": "body"});
    delete.set("schema", reference(&format!("{META}.DeleteOptions"), Version::V2));
    node.set(parameters::DELETE_BODY, delete);
    node
}
