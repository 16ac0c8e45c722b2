//! A backend's OpenAPI documents, cut down to its own group-version and checked before anybody merges them.

use crate::fetch::Fetch;
use crate::pool::Pool;
use bytes::Bytes;
use fairlead_api::{GroupVersion, Map, Node, json, node};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

/// What is known of a backend's documents.
#[derive(Clone, Debug, Default)]
pub struct OpenApi {
    /// Of the group-version alone. Made of v2 where the backend has no v3.
    pub v3: Option<DocumentV3>,
    /// Paths of the group-version and the definitions they need.
    pub v2: Option<Arc<Node>>,
    v2_etag: String,
    v3_etag: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentV3 {
    pub bytes: Bytes,
    /// Of `bytes`, in upper-case hexadecimal.
    pub hash: String,
}

const OPENAPI_USER: &str = "system:aggregator";
const LIMIT_V3: usize = 16 << 20;
const LIMIT_V2: usize = 32 << 20;
const TIMEOUT: Duration = Duration::from_secs(30);

impl OpenApi {
    pub fn same(&self, other: &OpenApi) -> bool {
        let v2 = match (&self.v2, &other.v2) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a == b,
            (None, None) => true,
            _ => false,
        };
        v2 && self.v3.as_ref().map(|d| &d.hash) == other.v3.as_ref().map(|d| &d.hash)
    }
}

/// The documents as they are now. What the backend fails to answer stays as it was; what it does not have goes.
pub(crate) async fn learn(pool: &Pool, gv: &GroupVersion, known: &OpenApi) -> OpenApi {
    let mut learnt = known.clone();
    learn_v2(pool, gv, &mut learnt).await;
    learn_v3(pool, gv, &mut learnt).await;
    if learnt.v3.is_none()
        && let Some(v2) = &learnt.v2
    {
        learnt.v3 = checked_v3(v3_from_v2(v2), gv);
    }
    learnt
}

async fn learn_v2(pool: &Pool, gv: &GroupVersion, learnt: &mut OpenApi) {
    let etag = if learnt.v2.is_some() {
        learnt.v2_etag.as_str()
    } else {
        ""
    };
    let fetch = Fetch {
        path: "/openapi/v2",
        accept: "application/json",
        etag,
        user: OPENAPI_USER,
        limit: LIMIT_V2,
        timeout: TIMEOUT,
    };
    let Ok(fetched) = fetch.get(pool).await else { return };
    match fetched.status.as_u16() {
        200 => {
            let document = json::parse(&fetched.bytes).ok();
            learnt.v2 = document.and_then(|d| cut_v2(d, gv)).map(Arc::new);
            learnt.v2_etag = fetched.etag;
        }
        304 => {}
        404 | 403 | 406 => learnt.v2 = None,
        _ => {}
    }
}

async fn learn_v3(pool: &Pool, gv: &GroupVersion, learnt: &mut OpenApi) {
    let fetch = Fetch {
        path: "/openapi/v3",
        accept: "application/json",
        etag: "",
        user: OPENAPI_USER,
        limit: LIMIT_V3,
        timeout: TIMEOUT,
    };
    let Ok(index) = fetch.get(pool).await else { return };
    if !index.status.is_success() {
        if index.status.as_u16() == 404 {
            learnt.v3 = None;
        }
        return;
    }
    let Some(path) = json::parse(&index.bytes).ok().and_then(|i| path_in_index(&i, gv)) else {
        learnt.v3 = None;
        return;
    };
    let etag = if learnt.v3.is_some() {
        learnt.v3_etag.clone()
    } else {
        String::new()
    };
    let Ok(fetched) = (Fetch {
        path: &path,
        etag: &etag,
        ..fetch
    })
    .get(pool)
    .await
    else {
        return;
    };
    match fetched.status.as_u16() {
        200 => {
            learnt.v3 = cut_v3(&fetched.bytes, gv);
            learnt.v3_etag = fetched.etag;
        }
        404 => learnt.v3 = None,
        _ => {}
    }
}

/// Where a `/openapi/v3` index says the document is. Only a path on the same server counts.
fn path_in_index(index: &Node, gv: &GroupVersion) -> Option<String> {
    let url = index
        .get("paths")?
        .get(prefix(gv).trim_start_matches('/'))?
        .str("serverRelativeURL");
    url.starts_with("/openapi/v3/").then(|| url.to_owned())
}

/// `/apis/G/V`, or `/api/V`.
fn prefix(gv: &GroupVersion) -> String {
    if gv.group.is_empty() {
        format!("/api/{}", gv.version)
    } else {
        format!("/apis/{gv}")
    }
}

fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn cut_v3(bytes: &Bytes, gv: &GroupVersion) -> Option<DocumentV3> {
    let mut document = json::parse(bytes).ok()?;
    if !document.str("openapi").starts_with("3.") {
        return None;
    }
    let prefix = prefix(gv);
    let paths = document.make_at(&["paths"]).make_map();
    let before = paths.len();
    paths.retain(|path, _| is_below(path, &prefix));
    if paths.len() == before && serde_json::from_slice::<openapiv3::OpenAPI>(bytes).is_ok() {
        return Some(DocumentV3 {
            hash: hash(bytes),
            bytes: bytes.clone(),
        });
    }
    checked_v3(document, gv)
}

fn checked_v3(document: Node, gv: &GroupVersion) -> Option<DocumentV3> {
    let bytes = json::to_vec(&document);
    if let Err(error) = serde_json::from_slice::<openapiv3::OpenAPI>(&bytes) {
        tracing::warn!(%gv, %error, "the backend's OpenAPI v3 document is not valid");
        return None;
    }
    Some(DocumentV3 {
        hash: hash(&bytes),
        bytes: bytes.into(),
    })
}

/// Keeps the group-version's paths and the definitions they lead to.
fn cut_v2(mut document: Node, gv: &GroupVersion) -> Option<Node> {
    if document.str("swagger") != "2.0" {
        return None;
    }
    let prefix = prefix(gv);
    let paths = document.make_at(&["paths"]).make_map();
    paths.retain(|path, item| is_below(path, &prefix) && matches!(item, Node::Map(_)));
    let mut needed = BTreeSet::new();
    references(document.get("paths").unwrap_or(&Node::Null), &mut needed);
    let mut open: Vec<String> = needed.iter().cloned().collect();
    while let Some(name) = open.pop() {
        let mut found = BTreeSet::new();
        if let Some(definition) = document.get("definitions").and_then(|d| d.get(&name)) {
            references(definition, &mut found);
        }
        open.extend(found.into_iter().filter(|name| needed.insert(name.clone())));
    }
    document
        .make_at(&["definitions"])
        .make_map()
        .retain(|name, _| needed.contains(name.as_str()));
    // Everything else (info, security, parameters …) is for the merged document to say.
    document
        .make_map()
        .retain(|key, _| matches!(key.as_str(), "swagger" | "info" | "paths" | "definitions"));
    Some(document)
}

fn references(node: &Node, found: &mut BTreeSet<String>) {
    match node {
        Node::Map(map) => {
            for (key, value) in map.iter() {
                match value.as_str().and_then(|v| v.strip_prefix("#/definitions/")) {
                    Some(name) if key == "$ref" => {
                        found.insert(name.to_owned());
                    }
                    _ => references(value, found),
                }
            }
        }
        Node::List(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

/// The v3 form of a cut v2 document, for backends that know only that.
fn v3_from_v2(v2: &Node) -> Node {
    let mut paths = Map::new();
    for (path, item) in v2.get("paths").and_then(Node::as_map).into_iter().flat_map(Map::iter) {
        let mut converted = Node::map();
        for (method, operation) in item.as_map().into_iter().flat_map(Map::iter) {
            match method.as_str() {
                "parameters" => converted.set("parameters", parameters(operation.as_list().map_or(&[], Vec::as_slice))),
                _ if operation.as_map().is_some() => converted.set(method, operation_v3(operation)),
                _ => {}
            }
        }
        paths.insert(path.clone(), converted);
    }
    let schemas = v2.get("definitions").map(with_v3_references).unwrap_or_else(Node::map);
    let mut info = node!({"title": "", "version": ""});
    for key in ["title", "version"] {
        info.set(key, v2.str_at(&["info", key]));
    }
    let mut document = node!({"openapi": "3.0.0"});
    document.set("info", info);
    document.set("paths", paths);
    document.set_at(&["components", "schemas"], schemas);
    document
}

fn operation_v3(operation: &Node) -> Node {
    const MEDIA_TYPE: &str = "application/json";
    let media_types = |key: &str| -> Vec<&str> {
        let given: Vec<&str> = operation
            .list(key)
            .iter()
            .filter_map(Node::as_str)
            .filter(|m| *m != "*/*")
            .collect();
        if given.is_empty() { vec![MEDIA_TYPE] } else { given }
    };
    let content = |schema: &Node, types: Vec<&str>| -> Node {
        let schema = with_v3_references(schema);
        let mut content = Node::map();
        for media_type in types {
            content.set_at(&[media_type, "schema"], schema.clone());
        }
        content
    };
    let mut made = Node::map();
    for (key, value) in operation.as_map().into_iter().flat_map(Map::iter) {
        let kept = matches!(
            key.as_str(),
            "operationId" | "description" | "summary" | "tags" | "deprecated"
        );
        if kept || key.starts_with("x-") {
            made.set(key, value.clone());
        }
    }
    let given = operation.list("parameters");
    let (bodies, others): (Vec<&Node>, Vec<&Node>) = given.iter().partition(|p| p.str("in") == "body");
    if !others.is_empty() {
        made.set(
            "parameters",
            parameters(&others.into_iter().cloned().collect::<Vec<_>>()),
        );
    }
    if let Some(body) = bodies.first() {
        let mut request = Node::map();
        request.set(
            "content",
            content(body.get("schema").unwrap_or(&Node::Null), media_types("consumes")),
        );
        if let Some(required) = body.get("required") {
            request.set("required", required.clone());
        }
        made.set("requestBody", request);
    }
    let mut responses = Map::new();
    for (code, response) in operation
        .get("responses")
        .and_then(Node::as_map)
        .into_iter()
        .flat_map(Map::iter)
    {
        let mut converted = Node::map();
        converted.set("description", response.str("description"));
        if let Some(schema) = response.get("schema") {
            converted.set("content", content(schema, media_types("produces")));
        }
        responses.insert(code.clone(), converted);
    }
    made.set("responses", responses);
    made
}

/// Parameters with what v2 writes beside the name moved into a schema.
fn parameters(given: &[Node]) -> Vec<Node> {
    let convert = |parameter: &Node| {
        let (mut made, mut schema) = (Node::map(), Node::map());
        for (key, value) in parameter.as_map()?.iter() {
            match key.as_str() {
                "name" | "in" | "description" | "required" => made.set(key, value.clone()),
                "collectionFormat" => {}
                _ => schema.set(key, with_v3_references(value)),
            }
        }
        made.set("schema", schema);
        Some(made)
    };
    given.iter().filter_map(convert).collect()
}

fn with_v3_references(node: &Node) -> Node {
    match node {
        Node::Map(map) => {
            let entries = map.iter().map(|(key, value)| {
                let reference = value
                    .as_str()
                    .filter(|_| key == "$ref")
                    .and_then(|v| v.strip_prefix("#/definitions/"));
                let value = match reference {
                    Some(name) => Node::from(format!("#/components/schemas/{name}")),
                    None => with_v3_references(value),
                };
                (key.clone(), value)
            });
            Node::Map(entries.collect())
        }
        Node::List(items) => Node::List(items.iter().map(with_v3_references).collect()),
        other => other.clone(),
    }
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            write!(text, "{byte:02X}").expect("strings can be written to");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gv() -> GroupVersion {
        GroupVersion::new("g.example.com", "v1")
    }

    fn v2() -> Node {
        let response = json::parse(br##"{"description": "OK", "schema": {"$ref": "#/definitions/A"}}"##).unwrap();
        let mut document = json::parse(
            br##"{"swagger": "2.0", "info": {"title": "t", "version": "1"},
                "paths": {
                    "/apis/g.example.com/v1/things": {
                        "parameters": [{"name": "pretty", "in": "query", "type": "boolean"}],
                        "post": {"operationId": "p", "consumes": ["*/*"], "produces": ["application/yaml"], "responses": {},
                            "parameters": [{"name": "body", "in": "body", "required": true, "schema": {"$ref": "#/definitions/A"}}]}},
                    "/apis/g.example.com/v10/things": {"get": {"responses": {}}},
                    "/apis/apps/v1/deployments": {"get": {"responses": {"200": {"schema": {"$ref": "#/definitions/Evil"}}}}}},
                "definitions": {
                    "A": {"type": "object", "properties": {"b": {"$ref": "#/definitions/B"}}},
                    "B": {"type": "object", "properties": {"a": {"$ref": "#/definitions/A"}}},
                    "Evil": {"type": "object"}}}"##,
        )
        .unwrap();
        document.set_at(
            &["paths", "/apis/g.example.com/v1/things", "post", "responses", "200"],
            response,
        );
        document
    }

    #[test]
    fn other_groups_are_cut_away() {
        let cut = cut_v2(v2(), &gv()).unwrap();
        let keys = |path: &str| {
            cut.get(path)
                .unwrap()
                .as_map()
                .unwrap()
                .keys()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(keys("paths"), ["/apis/g.example.com/v1/things"]);
        assert_eq!(keys("definitions"), ["A", "B"]);
        assert_eq!(cut_v2(node!({"openapi": "3.0.0"}), &gv()), None);

        let v3 = br#"{"openapi":"3.0.0","info":{"title":"","version":""},"paths":{"/apis/apps/v1":{},"/apis/g.example.com/v1/":{}}}"#;
        let cut = cut_v3(&Bytes::from_static(v3), &gv()).unwrap();
        assert!(!String::from_utf8_lossy(&cut.bytes).contains("apps"));
        assert_eq!(cut.hash.len(), 64);
        assert_eq!(cut_v3(&Bytes::from_static(b"<html>"), &gv()), None);
        assert_eq!(
            cut_v3(&Bytes::from_static(br#"{"openapi":"3.0.0","paths":{}}"#), &gv()),
            None
        );
    }

    #[test]
    fn v2_becomes_v3() {
        let made = v3_from_v2(&cut_v2(v2(), &gv()).unwrap());
        let post = made.at(&["paths", "/apis/g.example.com/v1/things", "post"]).unwrap();
        let schema = ["requestBody", "content", "application/json", "schema", "$ref"];
        assert_eq!(post.str_at(&schema), "#/components/schemas/A");
        let schema = ["responses", "200", "content", "application/yaml", "schema", "$ref"];
        assert_eq!(post.str_at(&schema), "#/components/schemas/A");
        assert!(checked_v3(made, &gv()).is_some());
    }

    #[test]
    fn the_index_cannot_lead_elsewhere() {
        let index = |url: &str| {
            let mut index = Node::map();
            index.set_at(&["paths", "apis/g.example.com/v1", "serverRelativeURL"], url);
            index
        };
        let url = "/openapi/v3/apis/g.example.com/v1?hash=A";
        assert_eq!(path_in_index(&index(url), &gv()).as_deref(), Some(url));
        assert_eq!(path_in_index(&index("https://evil/openapi/v3/x"), &gv()), None);
        assert_eq!(path_in_index(&index("/api/v1/secrets"), &gv()), None);
    }
}
