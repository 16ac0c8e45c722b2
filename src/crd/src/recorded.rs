//! Recorded answers of kube-apiserver: definitions and objects it refused, and why.

use crate::definition::{Making, definitions};
use crate::hooks::DefinitionHooks;
use crate::objects::{self, Part};
use crate::rules::RuleTable;
use crate::{condition, names, validation};
use fairlead_api::metadata::validate_object_meta;
use fairlead_api::{FieldErrors, FieldPath, Node, StatusResult, json, name};
use fairlead_resource::ResourceDefinition;
use fairlead_resource::definition::Converter;
use fairlead_schema::{RuleEvaluator, Unknown, decode_custom, set_defaults};
use futures_util::future::BoxFuture;
use std::sync::{Arc, Weak};

fn recorded(file: &str) -> Option<Vec<Node>> {
    let root = std::env::var("FAIRLEAD_CONFORMANCE")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/conformance").to_owned());
    let Ok(open) = std::fs::File::open(format!("{root}/transcripts/{file}")) else {
        println!("skipped: no recorded answers at {root}");
        return None;
    };
    let lines = std::io::BufRead::lines(std::io::BufReader::new(flate2::read::GzDecoder::new(open)));
    Some(
        lines
            .map(|l| json::parse(l.unwrap().replace("${ns}", "ns1").as_bytes()).unwrap())
            .collect(),
    )
}

/// A new definition as it is validated.
fn prepared(body: &Node) -> Node {
    let mut crd = body.clone();
    DefinitionHooks::fill_in(&mut crd);
    let status = names::initial_status(&crd);
    crd.set("status", status);
    crd
}

fn served(crd: &Node) -> Vec<Arc<ResourceDefinition>> {
    let mut crd = crd.clone();
    names::accept(&mut crd, &[], "t");
    assert!(condition::is_true(&crd, "Established"));
    let making = Making {
        converter: &|_| Arc::new(NoConverter),
        hash: |_, _, _| "".into(),
        scale: None,
        lifecycle: &Weak::new(),
        terminating: false,
    };
    definitions(&crd, &making).unwrap()
}

/// The object with the name that was made for it when it was recorded.
fn named(body: &Node) -> Node {
    let mut body = body.clone();
    let prefix = body.str_at(&["metadata", "generateName"]).to_owned();
    if body.name().is_empty() && !prefix.is_empty() {
        body.set_at(&["metadata", "name"], format!("{prefix}bndxv"));
    }
    body
}

struct NoConverter;

impl Converter for NoConverter {
    fn convert<'a>(&'a self, objects: Vec<Node>, _: &'a str) -> BoxFuture<'a, StatusResult<Vec<Node>>> {
        Box::pin(std::future::ready(Ok(objects)))
    }
}

fn causes(errors: &FieldErrors) -> Vec<String> {
    let mut seen = Vec::new();
    for error in errors {
        let text = format!("{} | {} | {}", error.path, error.kind.reason(), error.body());
        if !seen.contains(&text) {
            seen.push(text);
        }
    }
    seen
}

fn expected(step: &Node) -> Vec<String> {
    let body = step.at(&["expect", "body"]).unwrap_or(&Node::Null);
    let causes = body.get("details").map_or(&[][..], |d| d.list("causes"));
    causes
        .iter()
        .map(|c| format!("{} | {} | {}", c.str("field"), c.str("reason"), c.str("message")))
        .collect()
}

fn check_object(body: &Node, definition: &ResourceDefinition) -> Vec<String> {
    let mut object = body.clone();
    object.set_at(&["metadata", "namespace"], "ns1");
    decode_custom(&mut object, definition.schema.root(), Unknown::Collect).unwrap();
    set_defaults(&mut object, definition.schema.root());
    let meta = object.get("metadata").unwrap_or(&Node::Null);
    let mut errors = validate_object_meta(meta, true, name::name_is_dns_subdomain, &FieldPath::new("metadata"));
    let table = RuleTable::new(&definition.schema);
    let mut evaluator = table.as_ref().map(RuleTable::evaluator);
    let rules = evaluator.as_mut().map(|e| e as &mut dyn RuleEvaluator);
    objects::check(&object, None, Part::Whole, definition, rules, &mut errors);
    causes(&errors)
}

#[test]
fn definitions_and_objects_are_refused_as_recorded() {
    let Some(scenarios) = recorded("streams-crd.jsonl.gz") else {
        return;
    };
    let only = std::env::var("ONLY").unwrap_or_default();
    let (mut wrong, mut checked) = (Vec::new(), 0);
    for scenario in &scenarios {
        let id = scenario.str("id");
        let group = id.split('/').nth(1).unwrap_or_default();
        if !matches!(group, "def" | "schema" | "cel" | "celfn" | "celbad" | "kw") || !id.contains(&only) {
            continue;
        }
        let mut crd: Option<Vec<Arc<ResourceDefinition>>> = None;
        for (i, step) in scenario.list("flow").iter().enumerate() {
            let status = step.at(&["expect", "status"]).and_then(Node::as_i64).unwrap_or(0);
            if step.str("method") != "POST" || !matches!(status, 201 | 422) {
                continue;
            }
            let Some(body) = step.get("body").map(named) else {
                continue;
            };
            let body = &body;
            // What a recording has no words for cannot be compared.
            if expected(step).iter().any(|text| text.contains("<uid")) {
                continue;
            }
            let found = if step.str("path").ends_with("/customresourcedefinitions") {
                let prepared = prepared(body);
                let found = causes(&validation::create(&prepared));
                if found.is_empty() && status == 201 {
                    crd = Some(served(&prepared));
                }
                found
            } else {
                let version = body.str("apiVersion").split('/').nth(1).unwrap_or_default();
                let Some(definition) = crd.iter().flatten().find(|d| d.version == version) else {
                    continue;
                };
                check_object(body, definition)
            };
            checked += 1;
            let wanted = expected(step);
            let refused = status == 422;
            let same = if step.get("statusOnly").is_some() {
                refused != found.is_empty()
            } else {
                wanted == found
            };
            let plain = |texts: &[String]| {
                texts
                    .iter()
                    .map(|t| t.replace("selfType1'", "selfType<n>'"))
                    .collect::<Vec<_>>()
                    .join("\n    ")
            };
            if !same && plain(&found) != plain(&wanted) {
                wrong.push(format!(
                    "{id} step {i} ({status})\n  wanted\n    {}\n  found\n    {}",
                    plain(&wanted),
                    plain(&found)
                ));
            }
        }
    }
    println!("{checked} recorded answers compared");
    assert!(wrong.is_empty(), "{} of {checked}:\n{}", wrong.len(), wrong.join("\n"));
}
