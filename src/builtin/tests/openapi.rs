//! OpenAPI schemas of the built-in types, v2 and v3, against what kube-apiserver 1.36.2 was recorded to publish.
//!
//! The recordings are found by `FAIRLEAD_CONFORMANCE` or beside the repository; without them the test passes, saying so.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use fairlead_api::{Node, json};
use fairlead_builtin::{Deps, load};
use fairlead_schema::{OpenApi, TypeRef, open_api};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

#[test]
fn v3_schemas_are_as_recorded() {
    let Some(documents) = recorded("v3__api") else { return };
    compare(
        documents.iter().filter_map(|d| d.at(&["components", "schemas"])),
        OpenApi::V3,
    );
}

#[test]
fn v2_definitions_are_as_recorded() {
    let Some(documents) = recorded("v2.json") else { return };
    compare(documents.iter().filter_map(|d| d.get("definitions")), OpenApi::V2);
}

fn compare<'a>(recorded: impl Iterator<Item = &'a Node>, version: OpenApi) {
    let builtins = load(&Deps::default());
    let mut all: BTreeMap<String, Node> = BTreeMap::new();
    for schemas in recorded {
        for (name, schema) in schemas.as_map().unwrap().iter() {
            all.insert(name.to_string(), schema.clone());
        }
    }
    let (mut same, mut wrong) = (0, Vec::new());
    for (name, mut schema) in all {
        let Some(id) = builtins.type_id(&name) else { continue };
        let mut ours = open_api(
            TypeRef {
                types: &builtins.types,
                id,
            },
            version,
            &builtins,
        );
        comparable(&mut schema, true);
        comparable(&mut ours, true);
        if schema == ours {
            same += 1;
        } else {
            wrong.push(format!(
                "{name}\n  recorded {}\n  ours     {}",
                json::to_string(&schema),
                json::to_string(&ours)
            ));
        }
    }
    println!("{same} schemas are as recorded");
    assert!(
        wrong.is_empty(),
        "{} of {} differ:\n{}",
        wrong.len(),
        same + wrong.len(),
        wrong.join("\n")
    );
    assert!(same > 500, "only {same}");
}

/// Without words.
fn comparable(node: &mut Node, schema: bool) {
    match node {
        Node::Map(map) => {
            if schema {
                map.retain(|key, value| !(key == "description" && value.as_str().is_some()));
                // Whichever group's document of v3 came last has added its own.
                if let Some(kinds) = map
                    .get_mut("x-kubernetes-group-version-kind")
                    .and_then(Node::as_list_mut)
                    && kinds.len() == 2
                {
                    kinds.truncate(1);
                }
            }
            for (key, value) in map.iter_mut() {
                comparable(value, !(schema && key == "properties"));
            }
        }
        Node::List(items) => items.iter_mut().for_each(|i| comparable(i, schema)),
        _ => {}
    }
}

fn recorded(prefix: &str) -> Option<Vec<Node>> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/conformance");
    let root = std::env::var_os("FAIRLEAD_CONFORMANCE").map_or_else(|| beside.into(), PathBuf::from);
    let Ok(entries) = std::fs::read_dir(root.join("golden/openapi")) else {
        println!("skipped: no recordings at {}", root.display());
        return None;
    };
    let mut documents = Vec::new();
    for path in entries.map(|e| e.unwrap().path()) {
        if path.file_name().unwrap().to_str().unwrap().starts_with(prefix) {
            let mut bytes = Vec::new();
            flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap())
                .read_to_end(&mut bytes)
                .unwrap();
            documents.push(json::parse(&bytes).unwrap());
        }
    }
    Some(documents)
}
