//! Decoding errors and warnings of built-in kinds against what kube-apiserver 1.36.2 was recorded to answer.
//!
//! The recordings are found by `FAIRLEAD_CONFORMANCE` or beside the repository; without them the test passes, saying so.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use fairlead_api::{Node, json};
use fairlead_builtin::{Deps, load};
use fairlead_schema::{TypeRef, Unknown, decode, known_duplicates};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::io::Read;
use std::path::PathBuf;

const SPLIT: &str = " cannot be handled as a ";

#[test]
fn refusals_have_the_recorded_words() {
    let builtins = load(&Deps::default());
    let (mut same, mut warnings, mut wrong) = (0, 0, Vec::new());
    for file in [
        "validation.jsonl.gz",
        "protocol.jsonl.gz",
        "builtin-crud.jsonl.gz",
        "admission.jsonl.gz",
    ] {
        let Some(scenarios) = recorded(file) else { return };
        for (scenario, step, document) in scenarios.iter().flat_map(steps) {
            let Some(body) = step
                .get("body")
                .filter(|b| step.str("method") == "POST" && b.as_map().is_some())
            else {
                continue;
            };
            if step.at(&["query", "fieldValidation"]).and_then(Node::as_str) == Some("Bogus") {
                continue;
            }
            let Some(id) = builtins.kind(&body.type_meta()) else {
                continue;
            };
            let answer = step.at(&["expect", "body"]).map_or("", |b| b.str("message"));
            let expected = answer
                .split_once(SPLIT)
                .and_then(|(_, rest)| rest.split_once(": "))
                .map(|(_, m)| m);
            if expected.is_some_and(|m| m.starts_with("no kind ") || m.starts_with("converting ")) {
                continue;
            }
            let parsed = json::parse_strict(&document).unwrap();
            let mut node = parsed.node;
            let schema = TypeRef {
                types: &builtins.types,
                id,
            };
            let strict = step.get("query").is_some_and(|q| json::to_string(q).contains("Strict"));
            let found = match decode(&mut node, schema, Unknown::Collect) {
                Err(error) => Some(error.in_document(&document)),
                Ok(mut unknown) => {
                    json::in_document_order(&document, &mut unknown, |p| p);
                    let texts: Vec<String> = unknown.iter().map(|p| format!("unknown field {p:?}")).collect();
                    if step.at(&["query", "fieldValidation"]).and_then(Node::as_str) == Some("Warn") {
                        let warned = step
                            .at(&["expect", "warnings"])
                            .and_then(Node::as_list)
                            .cloned()
                            .unwrap_or_default();
                        let warned: Vec<&str> = warned
                            .iter()
                            .filter_map(Node::as_str)
                            .filter_map(|w| w.strip_prefix("299 - "))
                            .collect();
                        assert_eq!(
                            warned
                                .into_iter()
                                .filter(|w| w.starts_with("unknown"))
                                .collect::<Vec<_>>(),
                            texts,
                            "{scenario}"
                        );
                        warnings += texts.len();
                    }
                    (strict && !texts.is_empty()).then(|| format!("strict decoding error: {}", texts.join(", ")))
                }
            };
            assert!(known_duplicates(parsed.duplicates, schema).is_empty());
            match (found.as_deref(), expected) {
                (a, b) if a == b => same += usize::from(a.is_some()),
                (found, expected) => wrong.push(format!(
                    "{scenario}: {}\n  got  {found:?}\n  want {expected:?}",
                    json::to_string(body)
                )),
            }
        }
    }
    println!("{same} refusals and {warnings} warnings are as recorded");
    assert!(
        wrong.is_empty(),
        "{} wrong, {same} right:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[derive(Deserialize)]
struct Scenario<'a> {
    #[serde(borrow)]
    steps: Vec<RawStep<'a>>,
}

#[derive(Deserialize)]
struct RawStep<'a> {
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

/// The steps of a scenario with their bodies as they were sent.
fn steps(scenario: &(Node, String)) -> Vec<(&str, &Node, Vec<u8>)> {
    let (node, text) = scenario;
    let raw: Scenario = serde_json::from_str(text).unwrap();
    let bodies = raw
        .steps
        .into_iter()
        .map(|s| s.body.map_or_else(Vec::new, |b| b.get().as_bytes().to_vec()));
    node.list("steps")
        .iter()
        .zip(bodies)
        .map(|(step, body)| (node.str("id"), step, body))
        .collect()
}

fn recorded(file: &str) -> Option<Vec<(Node, String)>> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/conformance");
    let root = std::env::var_os("FAIRLEAD_CONFORMANCE").map_or_else(|| beside.into(), PathBuf::from);
    let Ok(compressed) = std::fs::File::open(root.join("transcripts").join(file)) else {
        println!("skipped: no recordings at {}", root.display());
        return None;
    };
    let mut text = String::new();
    flate2::read::GzDecoder::new(compressed)
        .read_to_string(&mut text)
        .unwrap();
    Some(
        text.lines()
            .map(|line| (json::parse(line.as_bytes()).unwrap(), line.to_owned()))
            .collect(),
    )
}
