//! The declarations against what kube-apiserver 1.36.2 was recorded to show: discovery, printer columns, OpenAPI v3.
//!
//! The recordings are found by `FAIRLEAD_CONFORMANCE` or beside the repository; without them the tests pass, saying so.

#![allow(clippy::unwrap_used)] // A test program.

use fairlead_builtin::{Builtins, Deps, load};
use fairlead_resource::{ResourceDefinition, Scope};
use fairlead_schema::types::{Field, ListSemantics, Shape, Type, TypeId};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

#[test]
fn discovery_is_as_recorded() {
    let Some(golden) = golden() else { return };
    let builtins = load(&Deps::default());
    let mut recorded = BTreeMap::new();
    for entry in std::fs::read_dir(golden.join("groups")).unwrap() {
        let document: Value = serde_json::from_slice(&std::fs::read(entry.unwrap().path()).unwrap()).unwrap();
        let group_version = document["groupVersion"].as_str().unwrap().to_owned();
        for resource in document["resources"].as_array().unwrap() {
            recorded.insert(
                format!("{group_version} {}", resource["name"].as_str().unwrap()),
                resource.clone(),
            );
        }
    }
    let mut ours = BTreeMap::new();
    for definition in &builtins.definitions {
        for (name, resource) in discovery(definition) {
            ours.insert(format!("{} {name}", definition.group_version()), resource);
        }
    }
    assert_same(&recorded, &ours);
}

#[test]
fn columns_are_as_recorded() {
    let Some(golden) = golden() else { return };
    let builtins = load(&Deps::default());
    let (mut recorded, mut ours) = (BTreeMap::new(), BTreeMap::new());
    for definition in builtins.definitions.iter().filter(|d| !d.columns.is_empty()) {
        let group = if definition.group.is_empty() {
            "core"
        } else {
            &definition.group
        };
        let name = format!("{group}_{}_{}", definition.version, definition.plural);
        let columns = definition.columns.iter().map(
            |c| json!({"name": c.name.as_str(), "type": c.type_name.as_str(), "format": c.format.as_str(), "priority": c.priority}),
        );
        ours.insert(name.clone(), columns.collect::<Value>());
        if let Ok(text) = std::fs::read(golden.join("tables").join(name.clone() + ".json")) {
            recorded.insert(name, serde_json::from_slice(&text).unwrap());
        }
    }
    assert_same(&recorded, &ours);
}

#[test]
fn types_are_as_recorded() {
    let Some(golden) = golden() else { return };
    let builtins = load(&Deps::default());
    let (mut recorded, mut ours) = (BTreeMap::new(), BTreeMap::new());
    for (name, mut schema) in recorded_schemas(&golden) {
        let Some(id) = builtins.type_id(&name) else { continue };
        without_words(&mut schema, true);
        recorded.insert(name.clone(), schema);
        ours.insert(name, rendered(&builtins, builtins.types.get(id)));
    }
    assert!(recorded.len() > 500, "only {} types", recorded.len());
    assert_same(&recorded, &ours);
}

#[test]
fn words_are_those_recorded() {
    let Some(golden) = golden() else { return };
    let (mut same, mut missing, mut other) = (0, Vec::new(), Vec::new());
    for (name, schema) in recorded_schemas(&golden) {
        for (field, property) in schema["properties"].as_object().into_iter().flatten() {
            let Some(text) = property["description"].as_str() else {
                continue;
            };
            match fairlead_words::word(&name, field) {
                Some(word) if word == text => same += 1,
                Some(_) => other.push(format!("{name}.{field}")),
                None => missing.push(format!("{name}.{field}")),
            }
        }
    }
    println!(
        "{same} same, {} different, {} missing: {:?}",
        other.len(),
        missing.len(),
        &missing
    );
    println!("different: {:?}", &other[..other.len().min(20)]);
    assert!(
        other.len() + missing.len() < 400 && same > 2000,
        "{same} same, {} different, {} missing",
        other.len(),
        missing.len()
    );
}

fn golden() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/conformance");
    let root = std::env::var_os("FAIRLEAD_CONFORMANCE").map_or_else(|| beside.into(), PathBuf::from);
    let golden = root.join("golden");
    if !golden.is_dir() {
        println!("skipped: no recordings at {}", golden.display());
        return None;
    }
    Some(golden)
}

fn recorded_schemas(golden: &std::path::Path) -> BTreeMap<String, Value> {
    let mut schemas = BTreeMap::new();
    for entry in std::fs::read_dir(golden.join("openapi")).unwrap() {
        let path = entry.unwrap().path();
        if !path.file_name().unwrap().to_str().unwrap().starts_with("v3__api") {
            continue;
        }
        let mut text = String::new();
        flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap())
            .read_to_string(&mut text)
            .unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        let Some(found) = document.pointer("/components/schemas").and_then(Value::as_object) else {
            continue;
        };
        schemas.extend(found.iter().map(|(k, v)| (k.clone(), v.clone())));
    }
    schemas
}

/// All differences at once, by entry.
fn assert_same(recorded: &BTreeMap<String, Value>, ours: &BTreeMap<String, Value>) {
    let mut differences = Vec::new();
    for (name, value) in recorded {
        match ours.get(name) {
            None => differences.push(format!("{name}: missing")),
            Some(other) if other != value => {
                differences.push(format!("{name}\n  recorded {value}\n  ours     {other}"))
            }
            Some(_) => {}
        }
    }
    differences.extend(
        ours.keys()
            .filter(|name| !recorded.contains_key(*name))
            .map(|name| format!("{name}: extra")),
    );
    assert!(
        differences.is_empty(),
        "{} differences\n{}",
        differences.len(),
        differences.join("\n")
    );
}

fn discovery(definition: &ResourceDefinition) -> Vec<(String, Value)> {
    let namespaced = definition.scope == Scope::Namespaced;
    let verbs = |verbs: &[fairlead_resource::Verb]| verbs.iter().map(|v| v.as_str()).collect::<Value>();
    let mut own = json!({
        "name": definition.plural.as_str(), "singularName": definition.singular.as_str(), "namespaced": namespaced,
        "kind": definition.kind.as_str(), "verbs": verbs(&definition.verbs),
    });
    let strings = |list: &[compact_str::CompactString]| list.iter().map(|s| s.as_str()).collect::<Value>();
    if !definition.short_names.is_empty() {
        own["shortNames"] = strings(&definition.short_names);
    }
    if !definition.categories.is_empty() {
        own["categories"] = strings(&definition.categories);
    }
    if !definition.storage.version_hash.is_empty() {
        own["storageVersionHash"] = definition.storage.version_hash.as_str().into();
    }
    let mut all = vec![(definition.plural.to_string(), own)];
    for sub in &definition.subresources {
        let name = format!("{}/{}", definition.plural, sub.name);
        let mut value = json!({
            "name": name, "singularName": "", "namespaced": namespaced,
            "kind": sub.kind.kind.as_str(), "verbs": verbs(&sub.verbs),
        });
        if sub.kind.group != definition.group {
            value["group"] = sub.kind.group.as_str().into();
            value["version"] = sub.kind.version.as_str().into();
        }
        all.push((name, value));
    }
    all
}

/// Drops descriptions, and of the group-version-kinds keeps only the first.
fn without_words(value: &mut Value, schema: bool) {
    match value {
        Value::Object(members) => {
            if schema && members.get("description").is_some_and(Value::is_string) {
                members.remove("description");
            }
            members.remove("x-kubernetes-group-version-kind");
            for (key, member) in members.iter_mut() {
                without_words(member, !(schema && key == "properties"));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| without_words(item, schema)),
        _ => {}
    }
}

fn rendered(builtins: &Builtins, ty: &Type) -> Value {
    let mut out = scalar(ty);
    if let Shape::Struct(fields) = &ty.shape {
        let mut properties = Map::new();
        let mut declared: Vec<&Field> = fields.fields.iter().collect();
        declared.sort_by_key(|f| f.order);
        for field in &declared {
            properties.insert(field.name.to_string(), property(builtins, &ty.name, field));
        }
        let required: Vec<Value> = declared
            .iter()
            .filter(|f| f.required)
            .map(|f| Value::from(f.name.as_str()))
            .collect();
        out.insert("type".into(), "object".into());
        if !properties.is_empty() {
            out.insert("properties".into(), properties.into());
        }
        if !required.is_empty() {
            out.insert("required".into(), required.into());
        }
    }
    if ty.atomic {
        out.insert("x-kubernetes-map-type".into(), "atomic".into());
    }
    if let Some(union) = builtins.union(&ty.name) {
        let members: Map<String, Value> = union
            .members
            .iter()
            .map(|(f, v)| (f.to_string(), v.as_str().into()))
            .collect();
        let mut value = json!({"fields-to-discriminateBy": members});
        if !union.discriminator.is_empty() {
            value["discriminator"] = union.discriminator.as_str().into();
        }
        out.insert("x-kubernetes-unions".into(), json!([value]));
    }
    out.into()
}

fn property(builtins: &Builtins, owner: &str, field: &Field) -> Value {
    let ty = builtins.types.get(field.ty);
    let mut out = reference(builtins, field.ty);
    let value_struct = matches!(ty.shape, Shape::Struct(_)) && !field.pointer;
    if out.contains_key("$ref") && (value_struct || described(owner, &field.name)) {
        out = Map::from_iter([("allOf".to_owned(), json!([out]))]);
    }
    let default = match (&field.default, &ty.shape) {
        (Some(node), _) => Some(serde_json::from_slice(&fairlead_api::json::to_vec(node)).unwrap()),
        (None, _) if field.pointer => None,
        (None, Shape::Struct(_)) => Some(json!({})),
        (None, _) if field.omit_empty => None,
        (None, Shape::String) => Some(json!("")),
        (None, Shape::Int { .. } | Shape::Float) => Some(json!(0)),
        (None, Shape::Bool) => Some(json!(false)),
        (None, _) => None,
    };
    if let Some(default) = default {
        out.insert("default".into(), default);
    }
    if let Shape::List(_) | Shape::Bytes = ty.shape
        && ty.list_declared
    {
        let name = match &ty.list {
            ListSemantics::Atomic => "atomic",
            ListSemantics::Set => "set",
            ListSemantics::Map { keys } => {
                out.insert(
                    "x-kubernetes-list-map-keys".into(),
                    keys.iter().map(|k| k.as_str()).collect(),
                );
                "map"
            }
        };
        out.insert("x-kubernetes-list-type".into(), name.into());
    }
    if builtins.granular(owner, &field.name) {
        out.insert("x-kubernetes-map-type".into(), "granular".into());
    }
    if matches!(ty.shape, Shape::Map(_)) && ty.atomic {
        out.insert("x-kubernetes-map-type".into(), "atomic".into());
    }
    if !field.patch_merge_key.is_empty() {
        out.insert(
            "x-kubernetes-patch-merge-key".into(),
            field.patch_merge_key.as_str().into(),
        );
    }
    let strategy: Vec<&str> = [
        (field.patch.merge, "merge"),
        (field.patch.replace, "replace"),
        (field.patch.retain_keys, "retainKeys"),
    ]
    .into_iter()
    .filter_map(|(set, name)| set.then_some(name))
    .collect();
    if !strategy.is_empty() {
        out.insert("x-kubernetes-patch-strategy".into(), strategy.join(",").into());
    }
    out.into()
}

/// Fields with a description refer through `allOf`.
fn described(owner: &str, field: &str) -> bool {
    fairlead_words::word(owner, field).is_some() || owner.ends_with("WatchEvent")
}

fn reference(builtins: &Builtins, id: TypeId) -> Map<String, Value> {
    let ty = builtins.types.get(id);
    match &ty.shape {
        Shape::List(items) => Map::from_iter([
            ("type".into(), "array".into()),
            ("items".into(), reference(builtins, *items).into()),
        ]),
        Shape::Map(values) => Map::from_iter([
            ("type".into(), "object".into()),
            ("additionalProperties".into(), reference(builtins, *values).into()),
        ]),
        _ if !ty.name.is_empty() => {
            Map::from_iter([("$ref".into(), format!("#/components/schemas/{}", ty.name).into())])
        }
        _ => scalar(ty),
    }
}

fn scalar(ty: &Type) -> Map<String, Value> {
    let value = match &ty.shape {
        Shape::Bool => json!({"type": "boolean"}),
        Shape::Int { bits } => json!({"type": "integer", "format": format!("int{bits}")}),
        Shape::Float => json!({"type": "number", "format": "double"}),
        Shape::String => json!({"type": "string"}),
        Shape::Bytes => json!({"type": "string", "format": "byte"}),
        Shape::Quantity => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        Shape::IntOrString => json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}),
        Shape::Time | Shape::MicroTime => json!({"type": "string", "format": "date-time"}),
        Shape::Any if ty.name.contains("JSON") => json!({}),
        Shape::Any => json!({"type": "object"}),
        _ => json!({}),
    };
    let Value::Object(mut out) = value else {
        return Map::new();
    };
    if let Some(validation) = &ty.validation {
        out.insert(
            "enum".into(),
            serde_json::from_slice(&fairlead_api::json::to_vec(&fairlead_api::Node::List(
                validation.enumeration.clone(),
            )))
            .unwrap(),
        );
    }
    out
}
