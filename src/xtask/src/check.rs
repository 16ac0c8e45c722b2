//! `cargo xtask check`: the invariants of the architecture that a compiler does not know.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What each crate of `src/` may depend on among ourselves. `telemetry` may be used by anyone who does IO.
const ALLOWED: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("words", &[]),
    ("ui", &[]),
    ("histories", &[]),
    ("telemetry", &["api"]),
    ("schema", &["api"]),
    ("cel", &["api", "schema"]),
    ("patch", &["api", "schema"]),
    ("codec", &["api", "schema"]),
    ("storage", &["api", "telemetry"]),
    ("auth", &["api", "telemetry"]),
    ("admission", &["api", "cel", "codec", "patch", "schema", "telemetry"]),
    ("flowcontrol", &["api", "telemetry"]),
    ("audit", &["api", "telemetry"]),
    ("resource", &["admission", "api", "codec", "patch", "schema", "storage"]),
    (
        "builtin",
        &[
            "admission",
            "api",
            "auth",
            "cel",
            "codec",
            "resource",
            "schema",
            "words",
        ],
    ),
    ("crd", &["api", "cel", "resource", "schema", "words"]),
    ("discovery", &["api", "resource", "schema"]),
    ("gateway", &["api", "telemetry"]),
    (
        "controllers",
        &["admission", "api", "auth", "discovery", "resource", "telemetry"],
    ),
    (
        "server",
        &[
            "api",
            "audit",
            "auth",
            "codec",
            "discovery",
            "flowcontrol",
            "gateway",
            "resource",
            "schema",
            "storage",
            "telemetry",
            "ui",
        ],
    ),
];

/// Crates that must not know HTTP.
const NO_HTTP: &[&str] = &[
    "api",
    "schema",
    "cel",
    "patch",
    "codec",
    "storage",
    "resource",
    "builtin",
    "crd",
    "auth",
    "admission",
    "discovery",
    "controllers",
];

/// Names of resources that the engine and the chain must treat like any other.
const NAMELESS: &[&str] = &["resource", "server"];
const RESOURCE_WORDS: &[&str] = &[
    "\"pods\"",
    "\"services\"",
    "\"deployments\"",
    "\"configmaps\"",
    "\"secrets\"",
    "\"nodes\"",
];

/// Runs every check over the repository at `root`.
///
/// # Errors
/// How many rules are broken; each is printed.
pub fn run(root: &Path) -> Result<()> {
    let mut broken = Vec::new();
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    for entry in std::fs::read_dir(root.join("src"))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .context("a crate has no name")?
            .to_owned();
        let manifest = std::fs::read_to_string(path.join("Cargo.toml"))?;
        require(&mut broken, manifest.starts_with("# "), || {
            format!("src/{name}/Cargo.toml does not open with its boundary")
        });
        let dependencies = section(&manifest, "[dependencies]");
        if let Some(allowed) = allowed.get(name.as_str()) {
            for line in dependencies.lines().filter_map(|l| l.strip_prefix("fairlead-")) {
                let used: String = line.chars().take_while(|c| c.is_alphanumeric() || *c == '-').collect();
                require(&mut broken, allowed.contains(&used.as_str()), || {
                    format!("src/{name} must not depend on src/{used}")
                });
            }
        }
        if NO_HTTP.contains(&name.as_str()) {
            let http = ["http", "hyper", "hyper-util", "http-body", "tower"];
            for word in http {
                let named = |l: &str| {
                    l.strip_prefix(word)
                        .is_some_and(|rest| rest.starts_with(['.', ' ', '=']))
                };
                require(&mut broken, !dependencies.lines().any(named), || {
                    format!("src/{name} must not know HTTP ({word})")
                });
            }
        }
        for file in sources(&path.join("src"))? {
            let text = std::fs::read_to_string(&file)?;
            let shown = file.strip_prefix(root).unwrap_or(&file).display();
            require(&mut broken, text.starts_with("//!"), || {
                format!("{shown} does not open with a //! sentence")
            });
            if NAMELESS.contains(&name.as_str()) {
                let code = text.split("#[cfg(test)]").next().unwrap_or_default();
                let is_test = file
                    .components()
                    .any(|c| c.as_os_str() == "tests" || c.as_os_str() == "tests.rs");
                for word in RESOURCE_WORDS {
                    let named = code
                        .lines()
                        .any(|l| !l.trim_start().starts_with("//") && l.contains(word));
                    require(&mut broken, is_test || !named, || {
                        format!("{shown} names the resource {word}")
                    });
                }
            }
        }
    }
    let tree = dependencies(root)?;
    // tonic, and with it etcd's client, expands async-trait while it is compiled; none of ours does.
    for unwanted in ["ring", "openssl", "serde_yaml"] {
        let there = tree.lines().any(|l| l.split(' ').next() == Some(unwanted));
        require(&mut broken, !there, || {
            format!("the product must not depend on {unwanted} (see deny.toml and docs/decisions)")
        });
    }
    for unwanted in [
        "serde_json feature \"preserve_order\"",
        "serde_json feature \"arbitrary_precision\"",
    ] {
        require(&mut broken, !tree.contains(unwanted), || {
            format!("somebody switches on {unwanted}")
        });
    }
    broken.iter().for_each(|rule| println!("{rule}"));
    ensure!(
        broken.is_empty(),
        "{} rules of the architecture are broken",
        broken.len()
    );
    println!("the architecture holds");
    Ok(())
}

/// Every package and feature in the binary, one a line.
fn dependencies(root: &Path) -> Result<String> {
    let arguments = [
        "tree",
        "--package=fairlead",
        "--edges=normal,features",
        "--prefix=none",
        "--locked",
    ];
    let output = std::process::Command::new("cargo")
        .args(arguments)
        .current_dir(root)
        .output()?;
    ensure!(
        output.status.success(),
        "cargo tree failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

fn require(broken: &mut Vec<String>, holds: bool, rule: impl Fn() -> String) {
    if !holds {
        broken.push(rule());
    }
}

fn section<'a>(manifest: &'a str, title: &str) -> &'a str {
    let rest = manifest.split_once(title).map_or("", |(_, rest)| rest);
    rest.split("\n[").next().unwrap_or_default()
}

fn sources(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(sources(&path)?);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}
