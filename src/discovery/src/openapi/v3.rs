//! OpenAPI v3 documents: one a group-version (KEP-2896).

use super::operations::{self, Answer, Body, CUSTOM, META, Operation, PathItem};
use super::parameters::{Parameter, Place};
use super::{Components, Version, custom, kind_node, reachable, reference};
use fairlead_api::{GroupVersion, Node, node};
use fairlead_resource::ResourceDefinition;
use std::sync::Arc;

/// The document of a group-version served here.
pub fn document(gv: &GroupVersion, definitions: &[Arc<ResourceDefinition>], components: &dyn Components) -> Node {
    let custom = definitions.iter().any(|d| d.is_custom());
    let mut items: Vec<PathItem> = definitions.iter().flat_map(|d| operations::paths(d)).collect();
    if !custom {
        let title = format!(
            "get{}{}APIResources",
            operations::group_title(&gv.group),
            operations::title(&gv.version)
        );
        let root = format!("{}/", operations::root(&gv.group, &gv.version));
        items.push(operations::document(
            &root,
            title,
            operations::tag(&gv.group, &gv.version),
            "APIResourceList",
        ));
    }
    let own = custom::schemas(definitions, Version::V3, components);
    finish(items, custom, &|name| {
        let schema = own
            .get(name)
            .cloned()
            .or_else(|| components.schema(name, Version::V3))?;
        Some(with_own_kind(name, schema, gv))
    })
}

/// COMPAT: these two types are kinds of every group-version; each document names its own beside the core one.
fn with_own_kind(name: &str, mut schema: Node, gv: &GroupVersion) -> Node {
    let kind = name.strip_prefix(META).and_then(|n| n.strip_prefix('.'));
    if let Some(kind @ ("DeleteOptions" | "WatchEvent")) = kind
        && !gv.group.is_empty()
        && let Some(kinds) = schema
            .get_mut("x-kubernetes-group-version-kind")
            .and_then(Node::as_list_mut)
    {
        let own = kind_node(&gv.kind(kind));
        if !kinds.contains(&own) {
            kinds.push(own);
        }
    }
    schema
}

/// The documents of `/api`, `/apis`, `/apis/GROUP` and `/version`, by their path without the leading slash.
pub fn root_document(path: &str, components: &dyn Components) -> Option<Node> {
    let item = match path {
        "api" => operations::document("/api/", "getCoreAPIVersions".into(), "core".into(), "APIVersions"),
        "apis" => operations::document("/apis/", "getAPIVersions".into(), "apis".into(), "APIGroupList"),
        "version" => plain(
            "/version/",
            "getCodeVersion",
            "version",
            "application/json",
            Some("io.k8s.apimachinery.pkg.version.Info"),
        ),
        ".well-known/openid-configuration" => plain(
            "/.well-known/openid-configuration/",
            "getServiceAccountIssuerOpenIDConfiguration",
            "WellKnown",
            "application/json",
            None,
        ),
        "openid/v1/jwks" => plain(
            "/openid/v1/jwks/",
            "getServiceAccountIssuerOpenIDKeyset",
            "openid",
            "application/jwk-set+json",
            None,
        ),
        _ => {
            let group = path.strip_prefix("apis/").filter(|g| !g.contains('/'))?;
            let id = format!("get{}APIGroup", operations::group_title(group));
            operations::document(&format!("/apis/{group}/"), id, operations::tag(group, ""), "APIGroup")
        }
    };
    Some(finish(vec![item], false, &|name| components.schema(name, Version::V3)))
}

/// The root documents every server has besides those of groups.
pub const ROOTS: [&str; 5] = [
    ".well-known/openid-configuration",
    "api",
    "apis",
    "openid/v1/jwks",
    "version",
];

/// A document of one type that is no API object.
pub(super) fn plain(path: &str, id: &str, tag: &str, produces: &'static str, schema: Option<&str>) -> PathItem {
    let mut item = operations::document(path, id.into(), tag.into(), "");
    let operation = &mut item.operations[0];
    operation.produces = match produces {
        "application/json" => &["application/json"],
        _ => &["application/jwk-set+json"],
    };
    operation.answer = schema.map_or(Answer::Text, |name| Answer::Schema(name.into()));
    item
}

fn finish(items: Vec<PathItem>, custom: bool, schema: &dyn Fn(&str) -> Option<Node>) -> Node {
    let mut paths = Node::map();
    for item in &items {
        paths.set(&item.path, path_item(item));
    }
    let mut names = Vec::new();
    super::references(&paths, Version::V3.prefix(), &mut names);
    let mut schemas = Node::map();
    for (name, node) in reachable(names, Version::V3, schema) {
        schemas.set(&name, node);
    }
    // COMPAT: apiextensions titles its documents differently and declares no login.
    let info = match custom {
        true => node!({"title": "Kubernetes CRD Swagger", "version": "v0.1.0"}),
        false => node!({"title": "Kubernetes", "version": "1.36"}),
    };
    let mut document = node!({"openapi": "3.0.0", "components": {}});
    document.set("info", info);
    document.set("paths", paths);
    if !schemas.is_zero() {
        document.set_at(&["components", "schemas"], schemas);
    }
    if !custom {
        let bearer = node!({"BearerToken": {
            "type": "apiKey", "name": "authorization", "in": "header", "description": "Bearer Token authentication",
        }});
        document.set_at(&["components", "securitySchemes"], bearer);
    }
    document
}

/// Parameters that all operations share move to the path.
fn path_item(item: &PathItem) -> Node {
    let mut node = Node::map();
    let shared = super::v2::shared(&item.operations);
    for operation in &item.operations {
        node.set(operation.method, operation_node(operation, &shared));
    }
    let mut parameters = [item.parameters.clone(), shared].concat();
    parameters.sort();
    if !parameters.is_empty() {
        parameters.sort_by_key(|p| p.name);
        node.set("parameters", parameters.iter().map(parameter).collect::<Vec<_>>());
    }
    node
}

fn operation_node(operation: &Operation, shared: &[Parameter]) -> Node {
    let mut node = node!({});
    node.set("tags", vec![Node::from(operation.tag.as_str())]);
    node.set("description", operation.description.as_str());
    node.set("operationId", operation.id.as_str());
    let own: Vec<Node> = operation
        .parameters
        .iter()
        .filter(|p| !shared.contains(p))
        .map(parameter)
        .collect();
    if !own.is_empty() {
        node.set("parameters", own);
    }
    if let Some(body) = body(operation) {
        node.set("requestBody", body);
    }
    let mut responses = Node::map();
    for code in operation.codes {
        let mut content = Node::map();
        for media_type in operation.produces {
            let schema = match &operation.answer {
                Answer::Schema(name) => reference(name, Version::V3),
                Answer::Text => node!({"type": "string"}),
            };
            content.set_at(&[media_type, "schema"], schema);
        }
        let mut response = node!({"description": code_text(*code)});
        response.set("content", content);
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

fn body(operation: &Operation) -> Option<Node> {
    let custom = operation.produces == CUSTOM;
    let objects: &[&str] = if custom { CUSTOM } else { &["*/*"] };
    let (types, name, required) = match &operation.body {
        Body::None => return None,
        Body::Object(name) => (objects, name.clone(), true),
        Body::Patch(types) => (*types, format!("{META}.Patch"), true),
        Body::DeleteOptions => (objects, format!("{META}.DeleteOptions"), false),
    };
    let mut node = Node::map();
    for media_type in types {
        node.set_at(&["content", media_type, "schema"], reference(&name, Version::V3));
    }
    if required {
        node.set("required", true);
    }
    Some(node)
}

fn parameter(p: &Parameter) -> Node {
    let mut node = node!({"schema": {"type": p.type_name, "uniqueItems": true}});
    node.set("name", p.name);
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

pub(super) fn code_text(code: u16) -> &'static str {
    match code {
        200 => "OK",
        201 => "Created",
        _ => "Accepted",
    }
}
