//! What `/version` says: the Kubernetes version whose API this is, in its own words, and our build.

use fairlead_api::{Node, node};

/// The Kubernetes version clients see.
pub const GIT_VERSION: &str = "v1.36.2";
pub const MAJOR: &str = "1";
pub const MINOR: &str = "36";
const GIT_COMMIT: &str = "0000000000000000000000000000000000000000";
const BUILD_DATE: &str = "2026-06-01T00:00:00Z";
const PLATFORM: &str = if cfg!(target_arch = "aarch64") {
    "linux/arm64"
} else {
    "linux/amd64"
};
/// COMPAT: clients parse it; there is no Go here.
pub const GO_VERSION: &str = "go1.26.6";

/// Names and values in the order upstream prints them.
pub const FIELDS: [(&str, &str); 13] = [
    ("major", MAJOR),
    ("minor", MINOR),
    ("emulationMajor", MAJOR),
    ("emulationMinor", MINOR),
    ("minCompatibilityMajor", MAJOR),
    ("minCompatibilityMinor", "35"),
    ("gitVersion", GIT_VERSION),
    ("gitCommit", GIT_COMMIT),
    ("gitTreeState", "clean"),
    ("buildDate", BUILD_DATE),
    ("goVersion", GO_VERSION),
    ("compiler", "gc"),
    ("platform", PLATFORM),
];

/// Compact, in upstream's order.
pub fn document() -> String {
    let members: Vec<String> = FIELDS.iter().map(|(k, v)| format!("\"{k}\":\"{v}\"")).collect();
    format!("{{{}}}", members.join(","))
}

/// The labels of `kubernetes_build_info`, which alerts on version skew read.
pub fn build_info() -> Vec<(&'static str, &'static str)> {
    vec![
        ("major", MAJOR),
        ("minor", MINOR),
        ("git_version", GIT_VERSION),
        ("git_commit", GIT_COMMIT),
        ("git_tree_state", "clean"),
        ("build_date", BUILD_DATE),
        ("go_version", GO_VERSION),
        ("compiler", "gc"),
        ("platform", PLATFORM),
    ]
}

/// What `--version` prints.
pub fn line(raw: bool) -> String {
    let ours = env!("CARGO_PKG_VERSION");
    if raw {
        format!("{} (fairlead {ours})", fairlead_api::json::to_string(&raw_node()))
    } else {
        format!("Kubernetes {GIT_VERSION} (fairlead {ours})")
    }
}

fn raw_node() -> Node {
    let mut raw = node!({});
    for (key, value) in FIELDS {
        raw.set(key, value);
    }
    raw
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_document_is_json() {
        let parsed = fairlead_api::json::parse(super::document().as_bytes()).unwrap();
        assert_eq!(parsed.str("gitVersion"), "v1.36.2");
    }
}
