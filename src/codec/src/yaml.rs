//! YAML into [`Node`]s, bounded against hostile documents (CVE-2019-11253, CVE-2019-11254).

use fairlead_api::Node;
use fairlead_api::json::{MAX_DEPTH, Parsed};
use serde_saphyr::DuplicateKeyPolicy;

/// Why a document was refused.
#[derive(Debug, thiserror::Error)]
#[error("error converting YAML to JSON: yaml: {0}")]
pub struct Error(String);

/// Reads one YAML document (JSON is one, too). YAML 1.1 booleans are booleans, as for kube-apiserver.
///
/// Cost is linear in the document; aliases may repeat little.
pub fn parse(bytes: &[u8]) -> Result<Node, Error> {
    parse_strict(bytes).map(|parsed| parsed.node)
}

/// Like [`parse`], and tells which keys were given twice.
pub fn parse_strict(bytes: &[u8]) -> Result<Parsed, Error> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_events: 2_000_000,
            max_nodes: 1_000_000,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_recorded_anchor_events: 100_000,
            max_documents: 16,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 16,
            max_alias_expansions_per_anchor: 1_000,
        },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        with_snippet: false,
    };
    serde_saphyr::from_slice_with_options::<Parsed>(bytes, options).map_err(|e| Error(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn scalars_and_keys_read_as_kubernetes_reads_them() {
        let text = "a: yes\nb: 1\nc: '1'\nd: 1.5\ne: ~\nf: {x: [1, two]}\n2: n\ng: 2026-01-01T00:00:00Z\n";
        let expected = node!({
            "a": true, "b": 1, "c": "1", "d": 1.5, "e": null, "f": {"x": [1, "two"]}, "2": false, "g": "2026-01-01T00:00:00Z",
        });
        assert_eq!(parse(text.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn duplicates_are_told() {
        let parsed = parse_strict(b"a: 1\nb:\n  c: 1\n  c: 2\n").unwrap();
        assert_eq!(parsed.duplicates, ["b.c"]);
    }

    #[test]
    fn alias_bombs_are_refused() {
        let mut text = String::from("a: &a [x,x,x,x,x,x,x,x,x]\n");
        for (name, before) in ["b", "c", "d", "e", "f", "g", "h", "i"]
            .iter()
            .zip(["a", "b", "c", "d", "e", "f", "g", "h"])
        {
            text += &format!("{name}: &{name} [{}]\n", vec![format!("*{before}"); 9].join(","));
        }
        assert!(parse(text.as_bytes()).is_err());
    }

    #[test]
    fn empty_and_broken_documents() {
        assert_eq!(parse(b"").unwrap(), Node::Null);
        assert!(parse(b"a: [").is_err());
        assert!(parse(b"a: b: c").is_err());
    }
}
