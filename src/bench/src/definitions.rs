//! CustomResourceDefinitions by the hundred, and the documents that tell of them.

use crate::Settings;
use crate::client::Call;
use crate::load::{Shape, closed_loop};
use crate::report::Row;
use anyhow::Result;
use http::Method;
use serde_json::{Value, json};

/// The scenarios of this file.
pub const NAMES: [&str; 4] = ["create-crd", "openapi-v2", "openapi-v3", "discovery"];

/// `run` keeps the names of two runs apart.
pub async fn run(settings: &Settings, name: &str, run: &str) -> Result<Row> {
    let one = Shape {
        connections: 1,
        streams: 1,
    };
    let path = match name {
        "openapi-v2" => "/openapi/v2",
        "openapi-v3" => "/openapi/v3",
        "discovery" => "/apis",
        _ => {
            let run = run.to_owned();
            return closed_loop(settings, name, one, &[201], move |n| {
                let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
                let body = definition(&format!("r{run}x{n}")).to_string();
                Call::send(Method::POST, path, "application/json", body)
            })
            .await;
        }
    };
    let accept = match name {
        "discovery" => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        _ => "application/json",
    };
    let call = Call {
        accept,
        ..Call::get(path)
    };
    closed_loop(settings, name, one, &[200], move |_| call.clone()).await
}

/// A definition with a schema of a hundred fields. All are of one group, whose documents grow with them.
fn definition(plural: &str) -> Value {
    let group = "bench.example.com";
    let leaf = |i: usize| {
        (
            format!("field{i}"),
            json!({"type": "string", "description": "What it is, said in a sentence.", "maxLength": 63}),
        )
    };
    let part = |i: usize| {
        let fields: serde_json::Map<String, Value> = (0..10).map(leaf).collect();
        (format!("part{i}"), json!({"type": "object", "properties": fields}))
    };
    let parts: serde_json::Map<String, Value> = (0..10).map(part).collect();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"plural": plural, "singular": plural, "kind": plural.to_uppercase(), "listKind": format!("{}List", plural.to_uppercase())},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": {"type": "object", "properties": parts}},
            }}}],
        },
    })
}
