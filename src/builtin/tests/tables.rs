//! Recorded tables, without a server: the cells of objects known from the same scenario.

#![allow(clippy::unwrap_used)] // A test program.

use fairlead_api::{Node, json};
use fairlead_builtin::{Deps, load};
use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

#[test]
fn cells_are_as_recorded() {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/conformance");
    let root = std::env::var_os("FAIRLEAD_CONFORMANCE").map_or_else(|| beside.into(), PathBuf::from);
    let builtins = load(&Deps::default());
    let (mut same, mut different, mut kinds) = (0, Vec::new(), std::collections::BTreeSet::new());
    for name in ["builtin-crud", "protocol", "admission", "patch", "apply"] {
        let Ok(file) = std::fs::File::open(root.join("transcripts").join(format!("{name}.jsonl.gz"))) else {
            println!("skipped: no recordings at {}", root.display());
            return;
        };
        for line in BufReader::new(flate2::read::GzDecoder::new(file)).lines() {
            let scenario = json::parse(line.unwrap().as_bytes()).unwrap();
            let mut known: HashMap<(String, String), Node> = HashMap::new();
            for step in scenario.list("steps") {
                let Some(body) = step.at(&["expect", "body"]) else {
                    continue;
                };
                let plural = plural(step.str("path"));
                if body.str("kind") != "Table" {
                    if step.str("method") != "DELETE" && !step.str("query").contains("dryRun") {
                        for object in body.list("items").iter().chain([body]).filter(is_whole) {
                            known.insert((plural.clone(), object.name().to_owned()), object.clone());
                        }
                    }
                    continue;
                }
                let Some((group, version, word)) = parse(step.str("path")) else {
                    continue;
                };
                let Some(definition) = builtins
                    .definitions
                    .iter()
                    .find(|d| d.group == group && d.version == version && d.plural == word)
                else {
                    continue;
                };
                for row in body.list("rows") {
                    let name = row.str_at(&["object", "metadata", "name"]);
                    let Some(object) = known.get(&(plural.clone(), name.to_owned())) else {
                        continue;
                    };
                    let Some(cells) = definition.hooks.row(object, 1_800_000_000) else {
                        continue;
                    };
                    let differs = |(expected, ours): &(&Node, &Node)| match expected {
                        Node::String(text)
                            if text.contains('<') && !text.starts_with("<none") && !text.starts_with("<un") =>
                        {
                            false
                        }
                        Node::String(text) if text == "<unknown>" => false,
                        expected => expected != ours,
                    };
                    let wrong: Vec<_> = row.list("cells").iter().zip(&cells).filter(differs).collect();
                    if wrong.is_empty() && row.list("cells").len() == cells.len() {
                        same += 1;
                        kinds.insert(definition.kind.clone());
                    } else {
                        different.push(format!(
                            "{}: {wrong:?} {} / {}",
                            scenario.str("id"),
                            json::to_string(row.get("cells").unwrap_or(&Node::Null)),
                            json::to_string(&Node::List(cells.clone()))
                        ));
                    }
                }
            }
        }
    }
    println!(
        "{same} rows as recorded, of {} kinds; {} not\n{}",
        kinds.len(),
        different.len(),
        different.join("\n")
    );
    assert!(
        same > 50 && different.is_empty(),
        "{same} rows as recorded, {} not",
        different.len()
    );
}

/// Lists of built-in kinds leave kinds out; metadata alone says so.
fn is_whole(object: &&Node) -> bool {
    !object.name().is_empty() && object.str("kind") != "PartialObjectMetadata"
}

fn plural(path: &str) -> String {
    parse(path)
        .map(|(group, _, plural)| format!("{plural}.{group}"))
        .unwrap_or_default()
}

fn parse(path: &str) -> Option<(String, String, String)> {
    let parts: Vec<&str> = path.split('?').next()?.trim_matches('/').split('/').collect();
    let (group, version, rest) = match parts[..] {
        ["api", version, ref rest @ ..] => ("", version, rest),
        ["apis", group, version, ref rest @ ..] => (group, version, rest),
        _ => return None,
    };
    let plural = match *rest {
        [_, _, "scale", ..] | ["namespaces", _, _, _, "scale", ..] => return None,
        ["namespaces", _, plural, ..] if !matches!(plural, "status" | "finalize") => plural,
        [plural, ..] => plural,
        [] => return None,
    };
    Some((group.to_owned(), version.to_owned(), plural.to_owned()))
}
