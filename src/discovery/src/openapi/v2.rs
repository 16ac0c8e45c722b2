//! The OpenAPI v2 document: all groups in one.

use super::library::Library;
use super::merge::{self, Entry, Part, Renamed, Section};
use super::operations::{self, Body, META, Operation, PathItem};
use super::parameters::{self, Parameter};
use super::{Components, Version, custom, print, reference, strings};
use crate::document::{Document, hash};
use crate::snapshot::{Group, RemoteGroupVersion, Serves, VersionEntry};
use bytes::Bytes;
use compact_str::CompactString;
use fairlead_api::{GroupVersion, Map, Node, json, node};
use fairlead_resource::ResourceDefinition;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The whole document, and what had to be renamed in it.
pub(crate) struct Whole {
    pub document: Document,
    pub renamed: Vec<Renamed>,
}

/// Joins the parts of all group-versions, which `part` gives. Those of built-in and custom groups come first and keep
/// their names.
pub(crate) fn document(
    groups: &[Arc<Group>],
    library: &Library,
    components: &dyn Components,
    part: &dyn Fn(&VersionEntry) -> Arc<Part>,
) -> Whole {
    let versions = || groups.iter().flat_map(|g| &g.versions);
    let local = versions().filter(|v| matches!(v.serves, Serves::Local(_)));
    let remote = versions().filter(|v| matches!(v.serves, Serves::Remote(_)));
    let mut parts = vec![(CompactString::default(), Arc::new(roots(groups, library, components)))];
    parts.extend(local.chain(remote).map(|version| {
        let owner = match &version.serves {
            Serves::Local(_) => CompactString::default(),
            Serves::Remote(remote) => remote.api_service.clone(),
        };
        (owner, part(version))
    }));
    let size: usize = parts.iter().map(|(_, part)| part.paths.len() * 5 / 4).sum();
    let mut out = Vec::with_capacity(size);
    out.extend_from_slice(br#"{"swagger":"2.0","info":{"title":"Kubernetes","version":"1.36"},"#);
    let renamed = merge::merge(parts.iter().map(|(owner, part)| (owner.as_str(), &**part)), &mut out);
    out.extend_from_slice(
        br#","security":[{"BearerToken":[]}],"securityDefinitions":{"BearerToken":{"description":"Bearer Token authentication","in":"header","name":"authorization","type":"apiKey"}}}"#,
    );
    let etag = Some(format!("\"{}\"", hash(&out)));
    Whole {
        document: Document::new(out.into(), etag),
        renamed,
    }
}

/// The share of a group-version served here.
pub(crate) fn local(
    gv: &GroupVersion,
    definitions: &[Arc<ResourceDefinition>],
    library: &Library,
    components: &dyn Components,
) -> Part {
    let mut items: Vec<PathItem> = definitions.iter().flat_map(|d| operations::paths(d)).collect();
    if definitions.iter().any(|d| !d.is_custom()) {
        items.push(operations::resources_document(gv));
    }
    let own = match definitions.iter().any(|d| d.is_custom()) {
        true => custom::schemas(definitions, Version::V2, library.words(components)),
        false => BTreeMap::new(),
    };
    finish(&items, own, library, components)
}

/// The share of a group-version that another server serves: what it says of its own paths, and what these lead to.
pub(crate) fn remote(remote: &RemoteGroupVersion) -> Part {
    let document = remote.openapi_v2.as_ref().and_then(|bytes| json::parse(bytes).ok());
    let Some(document) = document else {
        return Part::default();
    };
    let own = match remote.group.as_str() {
        "" => format!("/api/{}/", remote.version),
        group => format!("/apis/{group}/{}/", remote.version),
    };
    let entries = |section: &str| {
        document
            .get(section)
            .and_then(Node::as_map)
            .into_iter()
            .flat_map(Map::iter)
    };
    let paths: Vec<(&str, &Node)> = entries("paths")
        .map(|(path, item)| (path.as_str(), item))
        .filter(|(path, _)| path.starts_with(&own))
        .collect();
    let mut part = Part {
        paths: joined(paths.iter().copied()),
        ..Part::default()
    };
    let mut names = Vec::new();
    for (_, item) in &paths {
        super::references(item, Version::V2.prefix(), &mut names);
    }
    for (name, parameter) in entries("parameters") {
        super::references(parameter, Version::V2.prefix(), &mut names);
        part.parameters
            .insert(name.clone(), Arc::new(Entry::new(parameter.clone())));
    }
    let definitions = document.get("definitions");
    let mut waiting: Vec<CompactString> = names.into_iter().map(CompactString::from).collect();
    while let Some(name) = waiting.pop() {
        if part.definitions.contains_key(&name) {
            continue;
        }
        if let Some(definition) = definitions.and_then(|d| d.get(&name)) {
            let entry = Entry::new(definition.clone());
            waiting.extend(entry.references.iter().cloned());
            part.definitions.insert(name, Arc::new(entry));
        }
    }
    part
}

/// Prints paths, and gathers what they refer to.
fn finish(items: &[PathItem], own: BTreeMap<String, Node>, library: &Library, components: &dyn Components) -> Part {
    let mut used = Vec::new();
    let printed: Vec<(&str, Node)> = items
        .iter()
        .map(|i| (i.path.as_str(), path_item(i, &mut used)))
        .collect();
    let mut names = Vec::new();
    for (_, node) in &printed {
        super::references(node, Version::V2.prefix(), &mut names);
    }
    let mut waiting: Vec<CompactString> = names.into_iter().map(CompactString::from).collect();
    let mut definitions = Section::new();
    for (name, node) in own {
        let entry = Arc::new(Entry::new(node));
        waiting.extend(entry.references.iter().cloned());
        definitions.insert(name.into(), entry);
    }
    library.add_reachable(waiting, &mut definitions, components);
    Part {
        paths: joined(printed.iter().map(|(path, node)| (*path, node))),
        definitions,
        parameters: used.iter().map(|p| library.parameter(p, parameter_node)).collect(),
    }
}

fn joined<'a>(items: impl Iterator<Item = (&'a str, &'a Node)>) -> Bytes {
    let mut out = Vec::new();
    for (i, (path, item)) in items.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        json::write_str(path, &mut out);
        out.push(b':');
        json::write(item, &mut out);
    }
    out.into()
}

/// The paths that belong to no group-version, and the parameters that everybody refers to.
fn roots(groups: &[Arc<Group>], library: &Library, components: &dyn Components) -> Part {
    let mut items = root_items();
    let built_in = groups.iter().filter(|g| !g.name.is_empty() && g.is_built_in());
    items.extend(built_in.map(|group| operations::group_document(&group.name)));
    let mut part = finish(&items, BTreeMap::new(), library, components);
    let mut names = Vec::new();
    for (name, node) in bodies() {
        super::references(&node, Version::V2.prefix(), &mut names);
        part.parameters.insert(name.into(), Arc::new(Entry::new(node)));
    }
    let names = names.into_iter().map(CompactString::from).collect();
    library.add_reachable(names, &mut part.definitions, components);
    part
}

fn root_items() -> Vec<PathItem> {
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

fn path_item(item: &PathItem, used: &mut Vec<Parameter>) -> Node {
    // The two printers take turns with what they note.
    let used = std::cell::RefCell::new(used);
    print::path_item(
        item,
        |operation, own| operation_node(operation, own, &mut used.borrow_mut()),
        |p| parameter(p, &mut used.borrow_mut()),
    )
}

fn operation_node(operation: &Operation, own: &[&Parameter], used: &mut Vec<Parameter>) -> Node {
    let mut node = print::operation(operation, |response| {
        response.set("schema", print::answer_schema(operation, Version::V2));
    });
    if !operation.consumes.is_empty() {
        node.set("consumes", strings(operation.consumes.iter().copied()));
    }
    node.set("produces", strings(operation.produces.iter().copied()));
    node.set("schemes", strings(["https"]));
    let mut parameters = Vec::new();
    match &operation.body {
        Body::None => {}
        Body::Object(name) => {
            let mut body = node!({"name": "body", "in": "body", "required": true});
            body.set("schema", reference(name, Version::V2));
            parameters.push(body);
        }
        Body::Patch(_) => parameters.push(shared_reference(parameters::PATCH_BODY)),
        Body::DeleteOptions => parameters.push(shared_reference(parameters::DELETE_BODY)),
    }
    parameters.extend(own.iter().map(|p| parameter(p, used)));
    if !parameters.is_empty() {
        node.set("parameters", parameters);
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
    let mut node = print::parameter(p);
    node.set("type", p.type_name);
    node.set("uniqueItems", true);
    node
}

/// The bodies of patches and deletes, which operations refer to as parameters.
fn bodies() -> [(&'static str, Node); 2] {
    let mut patch = node!({"name": "body", "in": "body", "required": true});
    patch.set("schema", reference(&format!("{META}.Patch"), Version::V2));
    let mut delete = node!({"name": "body", "in": "body"});
    delete.set("schema", reference(&format!("{META}.DeleteOptions"), Version::V2));
    [(parameters::PATCH_BODY, patch), (parameters::DELETE_BODY, delete)]
}
