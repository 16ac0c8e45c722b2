//! OpenAPI v3 documents: one a group-version (KEP-2896).

use super::library::Library;
use super::operations::{self, Answer, Body, CUSTOM, META, Operation, PathItem};
use super::parameters::Parameter;
use super::{Components, Version, custom, kind_node, print, reachable, reference};
use fairlead_api::{GroupVersion, Node, node};
use fairlead_resource::ResourceDefinition;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The document of a group-version served here.
pub(crate) fn document(
    gv: &GroupVersion,
    definitions: &[Arc<ResourceDefinition>],
    library: &Library,
    components: &dyn Components,
) -> Node {
    let custom = definitions.iter().any(|d| d.is_custom());
    let mut items: Vec<PathItem> = definitions.iter().flat_map(|d| operations::paths(d)).collect();
    if !custom {
        items.push(operations::resources_document(gv));
    }
    let own = match custom {
        true => custom::schemas(definitions, Version::V3, library.words(components)),
        false => BTreeMap::new(),
    };
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
            operations::group_document(group)
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
        paths.set(&item.path, print::path_item(item, operation_node, parameter));
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

fn operation_node(operation: &Operation, own: &[&Parameter]) -> Node {
    let mut node = print::operation(operation, |response| {
        let mut content = Node::map();
        for media_type in operation.produces {
            content.set_at(&[media_type, "schema"], print::answer_schema(operation, Version::V3));
        }
        response.set("content", content);
    });
    if !own.is_empty() {
        node.set("parameters", own.iter().map(|p| parameter(p)).collect::<Vec<_>>());
    }
    if let Some(body) = body(operation) {
        node.set("requestBody", body);
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
    let mut node = print::parameter(p);
    node.set("schema", node!({"type": p.type_name, "uniqueItems": true}));
    node
}
