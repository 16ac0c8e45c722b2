//! Recorded creates, without a server: decoding, defaults and preparation must make of a body what was stored.
//!
//! What the engine, admission and allocation add is left out of the comparison; so are requests that were refused.

#![allow(clippy::unwrap_used)] // A test program.

use fairlead_api::time::FixedClock;
use fairlead_api::{Node, Timestamp, UserInfo, json};
use fairlead_builtin::{Builtins, Deps, load};
use fairlead_resource::hooks::{Entropy, HookContext};
use fairlead_resource::{ResourceDefinition, Scope};
use fairlead_schema::{Unknown, complete, decode, forget_empty, set_defaults};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::sync::Arc;

/// What admission and allocation set.
const ELSEWHERE: &[&str] = &[
    "apiVersion",
    "kind",
    "spec.taints",
    "metadata.deletionTimestamp",
    "metadata.deletionGracePeriodSeconds",
    "metadata.selfLink",
    "spec.clusterIP",
    "spec.clusterIPs",
    "spec.ipFamilies",
    "spec.ipFamilyPolicy",
    "spec.ports.nodePort",
    "spec.healthCheckNodePort",
    "spec.tolerations",
    "spec.priority",
    "spec.preemptionPolicy",
    "spec.volumes",
    "spec.containers.volumeMounts",
    "spec.initContainers.volumeMounts",
    "spec.serviceAccount",
    "spec.serviceAccountName",
    "spec.storageClassName",
    "metadata.uid",
    "metadata.resourceVersion",
    "metadata.creationTimestamp",
    "metadata.managedFields",
    "metadata.namespace",
    "metadata.name",
    "metadata.generateName",
    "metadata.finalizers",
    "metadata.annotations.kubernetes.io/created-by",
];

#[test]
fn creates_store_what_was_recorded() {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/conformance");
    let root = std::env::var_os("FAIRLEAD_CONFORMANCE").map_or_else(|| beside.into(), PathBuf::from);
    let builtins = load(&Deps::default());
    let (mut same, mut different) = (0, Vec::new());
    for name in ["builtin-crud", "validation", "protocol", "admission", "patch", "apply"] {
        let Ok(file) = std::fs::File::open(root.join("transcripts").join(format!("{name}.jsonl.gz"))) else {
            println!("skipped: no recordings at {}", root.display());
            return;
        };
        for line in BufReader::new(flate2::read::GzDecoder::new(file)).lines() {
            let scenario = json::parse(line.unwrap().as_bytes()).unwrap();
            for step in scenario.list("steps") {
                match check(&builtins, step) {
                    None => {}
                    Some(differences) if differences.is_empty() => same += 1,
                    Some(differences) => different.push(format!("{}: {}", scenario.str("id"), differences.join("; "))),
                }
            }
        }
    }
    println!("{same} as recorded, {} not\n{}", different.len(), different.join("\n"));
    assert!(
        same > 500 && different.len() <= KNOWN,
        "{same} as recorded, {} not",
        different.len()
    );
}

/// Creates whose mutation is not made here (webhooks, policies and plugins of admission scenarios).
const KNOWN: usize = 5;

fn check(builtins: &Builtins, step: &Node) -> Option<Vec<String>> {
    let body = step.get("body").filter(|b| b.as_map().is_some())?;
    let expected = step.at(&["expect", "body"])?;
    let path = step.str("path").split('?').next()?;
    let created = step.at(&["expect", "status"]).and_then(Node::as_i64) == Some(201);
    if step.str("method") != "POST" || !created || expected.str("kind") != body.str("kind") {
        return None;
    }
    let definition = find(builtins, path)?;
    let mut object = body.clone();
    decode(&mut object, definition.schema.root(), Unknown::Drop).ok()?;
    set_defaults(&mut object, definition.schema.root());
    definition.hooks.default(&mut object);
    complete(&mut object, definition.schema.root());
    if definition.subresource("status").is_some() && !definition.hooks.keeps_status_on_create() {
        object.remove("status");
    }
    if definition.generation {
        object.meta_mut().insert("generation", Node::Int(1));
    }
    object.meta_mut().insert("uid", Node::string("<uid>"));
    let mut user = UserInfo::new("admin", &["system:masters", "system:authenticated"]);
    user.uid = "admin-uid".into();
    let user = Arc::new(user);
    let context = HookContext {
        definition: &definition,
        clock: &FixedClock(Timestamp::from_unix_seconds(1_800_000_000)),
        entropy: &Zero,
        user: &user,
        namespace: "",
        subresource: "",
        dry_run: false,
    };
    definition.hooks.prepare_create(&mut object, &context);
    definition.hooks.canonicalize(&mut object);
    forget_empty(&mut object, definition.schema.root());
    complete(&mut object, definition.schema.root());
    let mut differences = Vec::new();
    compare(expected, &object, "", &mut differences);
    Some(differences)
}

fn find(builtins: &Builtins, path: &str) -> Option<Arc<ResourceDefinition>> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, version, rest) = match parts[..] {
        ["api", version, ref rest @ ..] => ("", version, rest),
        ["apis", group, version, ref rest @ ..] => (group, version, rest),
        _ => return None,
    };
    let (namespaced, plural) = match *rest {
        ["namespaces", _, plural] => (true, plural),
        [plural] => (false, plural),
        _ => return None,
    };
    builtins
        .definitions
        .iter()
        .find(|d| d.group == group && d.version == version && d.plural == plural)
        .filter(|d| (d.scope == Scope::Namespaced) == namespaced && !d.storage.prefix.is_empty())
        .cloned()
}

fn compare(expected: &Node, ours: &Node, path: &str, differences: &mut Vec<String>) {
    if ELSEWHERE.contains(&path) {
        return;
    }
    match (expected, ours) {
        (Node::Map(expected), Node::Map(ours)) => {
            let keys = expected
                .keys()
                .chain(ours.keys().filter(|key| !expected.contains_key(key)));
            for key in keys {
                let path = if path.is_empty() {
                    key.to_string()
                } else {
                    format!("{path}.{key}")
                };
                let missing = Node::string("(absent)");
                compare(
                    expected.get(key).unwrap_or(&missing),
                    ours.get(key).unwrap_or(&missing),
                    &path,
                    differences,
                );
            }
        }
        (Node::List(expected), Node::List(ours)) if expected.len() == ours.len() => {
            expected
                .iter()
                .zip(ours)
                .for_each(|(e, o)| compare(e, o, path, differences));
        }
        // Placeholders stand for what differs from run to run.
        (Node::String(expected), _) if expected.contains('<') || expected.contains("${") => {}
        (expected, ours) if expected == ours => {}
        (expected, ours) => {
            differences.push(format!(
                "{path} {} / {}",
                json::to_string(expected),
                json::to_string(ours)
            ));
        }
    }
}

struct Zero;

impl Entropy for Zero {
    fn bits(&self) -> u64 {
        0
    }
}
