//! One OpenAPI version made of the other, for backends that know only that.
//!
//! Source of the rules: kube-openapi pkg/openapiconv (v2 to v3). The reverse loses what v2 cannot say.

use super::v2::entries;
use super::{DocumentError, Known, Origin, v2, v3};
use fairlead_api::{Map, Node, node};
use openapiv3::{Components, Content, OpenAPI, Operation, Parameter, ParameterSchemaOrContent, ReferenceOr, Schema};
use serde_json::Value;

// === v2 to v3 ===

/// The v3 form of a cut v2 document, for backends that know only that.
pub fn v3_from_v2(v2: &Node) -> Result<Known, DocumentError> {
    v3::derived(&v3_node(v2))
}

fn v3_node(v2: &Node) -> Node {
    let mut paths = Map::new();
    for (path, item) in entries(v2, "paths") {
        let mut converted = Node::map();
        for (method, operation) in item.as_map().into_iter().flat_map(Map::iter) {
            match method.as_str() {
                "parameters" => converted.set("parameters", parameters_v3(operation.as_list().into_iter().flatten())),
                _ if operation.as_map().is_some() => converted.set(method, operation_v3(operation, v2)),
                _ => {}
            }
        }
        paths.insert(path.clone(), converted);
    }
    let schemas: Map = entries(v2, "definitions")
        .map(|(name, schema)| (name.clone(), schema_v3(schema)))
        .collect();
    let mut info = node!({"title": "", "version": ""});
    for key in ["title", "version"] {
        info.set(key, v2.str_at(&["info", key]));
    }
    let mut document = node!({"openapi": "3.0.0"});
    document.set("info", info);
    document.set("paths", paths);
    document.set_at(&["components", "schemas"], Node::Map(schemas));
    let shared = entries(v2, "parameters").filter(|(_, p)| p.str("in") != "body");
    let shared: Map = shared
        .filter_map(|(name, p)| Some((name.clone(), parameter_v3(p)?)))
        .collect();
    if !shared.is_empty() {
        document.set_at(&["components", "parameters"], Node::Map(shared));
    }
    document
}

fn operation_v3(operation: &Node, v2: &Node) -> Node {
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
        let schema = schema_v3(schema);
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
    let resolved = |parameter: &'_ Node| -> Node {
        let name = parameter.str("$ref").strip_prefix("#/parameters/");
        let shared = name.and_then(|name| v2.get("parameters").and_then(|p| p.get(name)));
        shared.filter(|p| p.str("in") == "body").unwrap_or(parameter).clone()
    };
    let given: Vec<Node> = operation.list("parameters").iter().map(resolved).collect();
    let (bodies, others): (Vec<&Node>, Vec<&Node>) = given.iter().partition(|p| p.str("in") == "body");
    if !others.is_empty() {
        made.set("parameters", parameters_v3(others));
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

fn parameters_v3<'a>(given: impl IntoIterator<Item = &'a Node>) -> Vec<Node> {
    given.into_iter().filter_map(parameter_v3).collect()
}

/// A parameter with what v2 writes beside the name moved into a schema.
fn parameter_v3(parameter: &Node) -> Option<Node> {
    if let Some(name) = parameter.str("$ref").strip_prefix("#/parameters/") {
        let mut made = Node::map();
        made.set("$ref", format!("#/components/parameters/{name}"));
        return Some(made);
    }
    let (mut made, mut schema) = (Node::map(), Node::map());
    for (key, value) in parameter.as_map()?.iter() {
        match key.as_str() {
            "name" | "in" | "description" | "required" => made.set(key, value.clone()),
            "collectionFormat" => {}
            _ => schema.set(key, schema_v3(value)),
        }
    }
    made.set("schema", schema);
    Some(made)
}

/// References of v3. What stands beside one is kept by wrapping it.
fn schema_v3(node: &Node) -> Node {
    match node {
        Node::Map(map) => {
            let name = node
                .str("$ref")
                .strip_prefix("#/definitions/")
                .filter(|_| map.get("$ref").is_some());
            let mut made: Map = map
                .iter()
                .filter(|(key, _)| name.is_none() || key.as_str() != "$ref")
                .map(|(key, value)| (key.clone(), schema_v3(value)))
                .collect();
            if let Some(name) = name {
                let mut reference = Node::map();
                reference.set("$ref", format!("#/components/schemas/{name}"));
                if made.is_empty() {
                    return reference;
                }
                made.insert("allOf", Node::List(vec![reference]));
            }
            Node::Map(made)
        }
        Node::List(items) => Node::List(items.iter().map(schema_v3).collect()),
        other => other.clone(),
    }
}

// === v3 to v2 ===

/// The v2 form of a v3 document, for backends that know only that.
pub fn v2_from_v3(model: &OpenAPI) -> Result<Known, DocumentError> {
    let components = model.components.clone().unwrap_or_default();
    let shared = Shared(&components);
    let mut paths = Json::new();
    for (path, item) in &model.paths.paths {
        let ReferenceOr::Item(item) = item else { continue };
        let mut made = Json::new();
        for (method, operation) in item.iter().filter(|(method, _)| *method != "trace") {
            made.insert(method.into(), Value::Object(shared.operation(operation)));
        }
        let parameters = shared.parameters(&item.parameters);
        if !parameters.is_empty() {
            made.insert("parameters".into(), Value::Array(parameters));
        }
        paths.insert(path.clone(), Value::Object(made));
    }
    let mut definitions = Json::new();
    for (name, schema) in &components.schemas {
        definitions.insert(name.clone(), schema_v2(value(schema)));
    }
    let whole = serde_json::json!({
        "swagger": "2.0", "info": {"title": model.info.title, "version": model.info.version},
        "paths": paths, "definitions": definitions,
    });
    Ok(v2::known(&Node::from(whole), Origin::Derived))
}

type Json = serde_json::Map<String, Value>;

/// What operations may refer to.
struct Shared<'a>(&'a Components);

impl Shared<'_> {
    fn operation(&self, operation: &Operation) -> Json {
        let mut made = Json::new();
        let texts = [
            ("operationId", &operation.operation_id),
            ("description", &operation.description),
            ("summary", &operation.summary),
        ];
        for (key, text) in texts {
            if let Some(text) = text {
                made.insert(key.into(), text.clone().into());
            }
        }
        if !operation.tags.is_empty() {
            made.insert("tags".into(), operation.tags.clone().into());
        }
        if operation.deprecated {
            made.insert("deprecated".into(), true.into());
        }
        let mut parameters = self.parameters(&operation.parameters);
        let body = operation.request_body.as_ref().and_then(|body| match body {
            ReferenceOr::Item(body) => Some(body),
            ReferenceOr::Reference { reference } => named(|n| self.0.request_bodies.get(n), reference, "requestBodies"),
        });
        if let Some(body) = body {
            made.insert("consumes".into(), body.content.keys().cloned().collect());
            let mut parameter =
                serde_json::json!({"name": "body", "in": "body", "schema": first_schema(&body.content)});
            if body.required {
                parameter["required"] = true.into();
            }
            parameters.push(parameter);
        }
        if !parameters.is_empty() {
            made.insert("parameters".into(), parameters.into());
        }
        let mut produces: Vec<&str> = Vec::new();
        let mut responses = Json::new();
        let coded = operation.responses.responses.iter();
        let default = operation.responses.default.iter().map(|r| ("default".to_owned(), r));
        for (code, response) in coded.map(|(code, r)| (code.to_string(), r)).chain(default) {
            let response = match response {
                ReferenceOr::Item(response) => response,
                ReferenceOr::Reference { reference } => {
                    match named(|n| self.0.responses.get(n), reference, "responses") {
                        Some(response) => response,
                        None => continue,
                    }
                }
            };
            let mut answer = serde_json::json!({"description": response.description});
            if !response.content.is_empty() {
                answer["schema"] = first_schema(&response.content);
            }
            produces.extend(response.content.keys().map(String::as_str));
            responses.insert(code, answer);
        }
        produces.sort_unstable();
        produces.dedup();
        if !produces.is_empty() {
            made.insert("produces".into(), produces.into());
        }
        made.insert("responses".into(), responses.into());
        let extensions = operation.extensions.iter().filter(|(key, _)| key.starts_with("x-"));
        made.extend(extensions.map(|(key, extension)| (key.clone(), extension.clone())));
        made
    }

    /// Parameters with what v3 writes into a schema beside the name. Cookies are none in v2.
    fn parameters(&self, given: &[ReferenceOr<Parameter>]) -> Vec<Value> {
        let one = |parameter: &ReferenceOr<Parameter>| {
            let parameter = match parameter {
                ReferenceOr::Item(parameter) => parameter,
                ReferenceOr::Reference { reference } => named(|n| self.0.parameters.get(n), reference, "parameters")?,
            };
            let place = match parameter {
                Parameter::Query { .. } => "query",
                Parameter::Header { .. } => "header",
                Parameter::Path { .. } => "path",
                Parameter::Cookie { .. } => return None,
            };
            let data = parameter.parameter_data_ref();
            let schema = match &data.format {
                ParameterSchemaOrContent::Schema(schema) => schema_v2(value(schema)),
                ParameterSchemaOrContent::Content(content) => first_schema(content),
            };
            let mut made = match schema {
                Value::Object(schema) => schema,
                _ => Json::new(),
            };
            if made.remove("$ref").is_some() || !made.contains_key("type") {
                made.insert("type".into(), "string".into());
            }
            made.insert("name".into(), data.name.clone().into());
            made.insert("in".into(), place.into());
            if let Some(description) = &data.description {
                made.insert("description".into(), description.clone().into());
            }
            if data.required {
                made.insert("required".into(), true.into());
            }
            Some(Value::Object(made))
        };
        given.iter().filter_map(one).collect()
    }
}

/// A component by its reference, if it is no reference again.
fn named<'a, T: 'a>(
    component: impl FnOnce(&str) -> Option<&'a ReferenceOr<T>>,
    reference: &str,
    section: &str,
) -> Option<&'a T> {
    let name = reference
        .strip_prefix("#/components/")?
        .strip_prefix(section)?
        .strip_prefix('/')?;
    match component(name)? {
        ReferenceOr::Item(item) => Some(item),
        ReferenceOr::Reference { .. } => None,
    }
}

fn first_schema(content: &Content) -> Value {
    let schema = content.values().find_map(|media_type| media_type.schema.as_ref());
    schema.map_or_else(|| Value::Object(Json::new()), |schema| schema_v2(value(schema)))
}

fn value(schema: &ReferenceOr<Schema>) -> Value {
    serde_json::to_value(schema).unwrap_or_default()
}

/// A schema without what v2 does not know. A reference that was wrapped is unwrapped.
fn schema_v2(schema: Value) -> Value {
    let Value::Object(map) = schema else { return schema };
    let mut made = Json::new();
    for (key, value) in map {
        match key.as_str() {
            "$ref" => {
                let text = value.as_str().unwrap_or_default();
                let reference = text.replacen("#/components/schemas/", "#/definitions/", 1);
                made.insert(key, reference.into());
            }
            "nullable" | "anyOf" | "oneOf" | "not" | "deprecated" | "writeOnly" | "default" => {}
            "allOf" => match value {
                Value::Array(mut all) if all.len() == 1 => {
                    if let Value::Object(only) = schema_v2(all.remove(0)) {
                        made.extend(only);
                    }
                }
                Value::Array(all) => drop(made.insert(key, all.into_iter().map(schema_v2).collect())),
                _ => {}
            },
            "properties" | "patternProperties" => {
                if let Value::Object(properties) = value {
                    let converted = properties.into_iter().map(|(name, schema)| (name, schema_v2(schema)));
                    made.insert(key, Value::Object(converted.collect()));
                }
            }
            "items" | "additionalProperties" => drop(made.insert(key, schema_v2(value))),
            _ => drop(made.insert(key, value)),
        }
    }
    Value::Object(made)
}

#[cfg(test)]
mod tests {
    use super::super::v2::tests::{document, gv};
    use super::*;
    use bytes::Bytes;
    use fairlead_api::json;

    const THINGS: &str = "/apis/g.example.com/v1/things";

    #[test]
    fn v2_becomes_v3() {
        let cut = v2::cut(&document(), &gv()).unwrap();
        let known = v3_from_v2(&cut).unwrap();
        assert_eq!(known.origin, Origin::Derived);
        let made = json::parse(&known.document.bytes).unwrap();
        let post = made.at(&["paths", THINGS, "post"]).unwrap();
        let schema = ["requestBody", "content", "application/json", "schema", "$ref"];
        assert_eq!(post.str_at(&schema), "#/components/schemas/A");
        let schema = ["responses", "200", "content", "application/yaml", "schema", "$ref"];
        assert_eq!(post.str_at(&schema), "#/components/schemas/A");
        let b = made.at(&["components", "schemas", "A", "properties", "b"]).unwrap();
        assert_eq!(b.str("description"), "the b");
        assert_eq!(b.list("allOf")[0].str("$ref"), "#/components/schemas/B");
        let limit = made.at(&["components", "parameters", "limit-x"]).unwrap();
        assert_eq!(limit.str_at(&["schema", "type"]), "integer");
    }

    #[test]
    fn v3_becomes_v2() {
        let cut = v2::cut(&document(), &gv()).unwrap();
        let v3 = v3_from_v2(&cut).unwrap().document.bytes;
        let (_, model) = v3::read(&v3, &gv()).unwrap();
        let known = v2_from_v3(&model).unwrap();
        let made = json::parse(&known.document.bytes).unwrap();
        assert_eq!((known.origin, made.str("swagger")), (Origin::Derived, "2.0"));
        let post = made.at(&["paths", THINGS, "post"]).unwrap();
        assert_eq!(post.list("consumes"), [Node::from("application/json")]);
        assert_eq!(
            post.list("parameters")[0].str_at(&["schema", "$ref"]),
            "#/definitions/A"
        );
        assert_eq!(post.str_at(&["responses", "200", "schema", "$ref"]), "#/definitions/A");
        let b = made.at(&["definitions", "A", "properties", "b"]).unwrap();
        assert_eq!((b.str("$ref"), b.str("description")), ("#/definitions/B", "the b"));
        let parameters = made.at(&["paths", THINGS, "parameters"]).unwrap().as_list().unwrap();
        assert!(
            parameters
                .iter()
                .any(|p| p.str("name") == "limit" && p.str("type") == "integer")
        );
    }

    #[test]
    fn references_in_a_circle_come_to_an_end() {
        let text = br##"{"openapi":"3.0.0","info":{"title":"","version":""},"paths":{"/apis/g.example.com/v1/x":{
            "get":{"parameters":[{"$ref":"#/components/parameters/p"}],"requestBody":{"$ref":"#/components/requestBodies/r"},
                "responses":{"200":{"$ref":"#/components/responses/a"}}}}},
            "components":{"parameters":{"p":{"$ref":"#/components/parameters/p"}},"requestBodies":{"r":{"$ref":"#/components/requestBodies/r"}},
                "responses":{"a":{"$ref":"#/components/responses/a"}},"schemas":{"A":{"$ref":"#/components/schemas/A"}}}}"##;
        let (_, model) = v3::read(&Bytes::from_static(text), &gv()).unwrap();
        let made = json::parse(&v2_from_v3(&model).unwrap().document.bytes).unwrap();
        assert_eq!(made.str_at(&["definitions", "A", "$ref"]), "#/definitions/A");
    }
}
