//! YAML into [`Node`]s as Go's library reads it, bounded against hostile documents (CVE-2019-11253, CVE-2019-11254).
//!
//! A parser gives events; this makes a tree of them, resolves scalars by YAML 1.1, follows aliases and merges, and turns
//! keys into text. Only the first document of a stream is looked at.
//! Source of behaviour: go.yaml.in/yaml/v2 (decode.go, resolve.go) and sigs.k8s.io/yaml.
// PERFORMANCE: per-request path

mod resolve;
mod words;

use compact_str::{CompactString, ToCompactString, format_compact};
use fairlead_api::json::{self, MAX_DEPTH, Parsed};
use fairlead_api::{Key, Map, Node};
use granit_parser::{Event, Options, Parser, ScalarStyle, Span, StrInput, Tag};
use std::collections::{HashMap, HashSet};

/// Why a document was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("error converting YAML to JSON: yaml: {0}")]
pub struct Error(String);

/// Reads one YAML document (JSON is one, too). YAML 1.1 booleans are booleans, as for kube-apiserver.
///
/// Cost is linear in the document; aliases may repeat little.
pub fn parse(bytes: &[u8]) -> Result<Node, Error> {
    parse_strict(bytes).map(|parsed| parsed.node)
}

/// Like [`parse`], and tells which keys were given twice: not as paths, but as `line 7: key "a" already set in map`.
pub fn parse_strict(bytes: &[u8]) -> Result<Parsed, Error> {
    // Most of what is sent as YAML is JSON, which is read faster as such.
    if bytes.first() == Some(&b'{')
        && let Ok(parsed) = json::parse_strict(bytes)
        && parsed.duplicates.is_empty()
    {
        return Ok(parsed);
    }
    let text = words::readable(bytes)?;
    let mut options = Options::default();
    options.emit_anchor_events = true;
    options.emit_unresolved_aliases = true;
    options.set_emit_comments(false);
    options.flow_nesting_limit = MAX_DEPTH;
    options.block_nesting_limit = MAX_DEPTH;
    let mut composer = Composer {
        text,
        events: Parser::new_from_str_with_options(text, options),
        anchors: HashMap::new(),
        names: HashMap::new(),
        decoded: 0,
        repeated: 0,
        read: 0,
        copied: 0,
        duplicates: Vec::new(),
    };
    let node = composer.document()?;
    Ok(Parsed {
        node,
        duplicates: composer.duplicates,
    })
}

/// How many bytes aliases may copy.
const MAX_COPIED: usize = 32 << 20;

struct Composer<'a> {
    text: &'a str,
    events: Parser<'a, StrInput<'a>>,
    /// What anchors stand for; `None` while it is being read.
    anchors: HashMap<usize, Option<Anchored>>,
    names: HashMap<usize, String>,
    /// Nodes so far, those behind aliases included, and only those.
    decoded: u64,
    repeated: u64,
    /// Bytes of text so far, those behind aliases included, and only those.
    read: usize,
    copied: usize,
    duplicates: Vec<String>,
}

/// The value of an anchor and what it costs to repeat it.
#[derive(Clone)]
struct Anchored {
    value: Value,
    nodes: u64,
    bytes: usize,
}

/// A value, and what the document called it where it may be a key.
#[derive(Clone)]
struct Value {
    node: Node,
    /// A plain `<<`.
    merges: bool,
}

impl<'a> Composer<'a> {
    fn document(&mut self) -> Result<Node, Error> {
        loop {
            let (event, _) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentStart(..) => {}
                Event::StreamEnd | Event::DocumentEnd => return Ok(Node::Null),
                event => return Ok(self.value(event, MAX_DEPTH)?.node),
            }
        }
    }

    /// The next event that is part of a tree.
    fn next(&mut self) -> Result<(Event<'a>, Span), Error> {
        loop {
            match self.events.next_event() {
                None => return Ok((Event::StreamEnd, Span::default())),
                Some(Err(error)) => return Err(words::syntax(&error, self.text)),
                Some(Ok((Event::Anchor(id, name), _))) => {
                    self.names.insert(id, name.into_owned());
                }
                Some(Ok(event)) => return Ok(event),
            }
        }
    }

    fn value(&mut self, event: Event<'a>, depth: usize) -> Result<Value, Error> {
        let depth = depth
            .checked_sub(1)
            .ok_or_else(|| Error(format!("exceeded max depth of {MAX_DEPTH}")))?;
        let anchor = event.anchor_id();
        let before = (self.decoded, self.read);
        if let Some(id) = anchor {
            self.anchors.insert(id, None);
        }
        self.decoded += 1;
        let value = match event {
            Event::Scalar(text, style, _, tag) => {
                self.read = self.read.saturating_add(text.len());
                scalar(&text, style, tag.as_deref())?
            }
            Event::SequenceStart(..) => plain(self.sequence(depth)?),
            Event::MappingStart(..) => plain(self.mapping(depth)?),
            Event::Alias(id) => return self.alias(id),
            Event::UnresolvedAlias(name) => return Err(Error(format!("unknown anchor '{name}' referenced"))),
            _ => return Err(Error("did not find expected node content".into())),
        };
        if let Some(id) = anchor {
            let anchored = Anchored {
                value: value.clone(),
                nodes: self.decoded - before.0,
                bytes: self.read - before.1,
            };
            self.anchors.insert(id, Some(anchored));
        }
        Ok(value)
    }

    fn sequence(&mut self, depth: usize) -> Result<Node, Error> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Node::List(items)),
                (event, _) => items.push(self.value(event, depth)?.node),
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Node, Error> {
        let mut entries = Entries::default();
        loop {
            let (event, _) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(Node::Map(Map::from_entries(entries.entries)));
            }
            let key = self.value(event, depth)?;
            let (event, span) = self.next()?;
            let line = span.start.line();
            let value = self.value(event, depth)?.node;
            if key.merges {
                for (key, value) in merged(value)? {
                    self.duplicates
                        .extend(entries.insert(key, Node::string(""), value, line));
                }
            } else {
                self.duplicates
                    .extend(entries.insert(key_text(&key.node)?, key.node, value, line));
            }
        }
    }

    fn alias(&mut self, id: usize) -> Result<Value, Error> {
        let Some(Some(anchored)) = self.anchors.get(&id) else {
            let name = self.names.get(&id).map_or("", String::as_str);
            return Err(Error(format!("anchor '{name}' value contains itself")));
        };
        self.decoded = self.decoded.saturating_add(anchored.nodes);
        self.repeated = self.repeated.saturating_add(anchored.nodes);
        self.read = self.read.saturating_add(anchored.bytes);
        self.copied = self.copied.saturating_add(anchored.bytes);
        let share = self.repeated as f64 / self.decoded as f64;
        let excessive = self.repeated > 100 && self.decoded > 1000 && share > allowed_share(self.decoded);
        if excessive || self.copied > MAX_COPIED {
            return Err(Error("document contains excessive aliasing".into()));
        }
        Ok(anchored.value.clone())
    }
}

/// How much of a document may come from aliases: much of a small one, little of a large one.
fn allowed_share(nodes: u64) -> f64 {
    const SMALL: f64 = 400_000.0;
    const LARGE: f64 = 4_000_000.0;
    let beyond = ((nodes as f64 - SMALL) / (LARGE - SMALL)).clamp(0.0, 1.0);
    0.99 - 0.89 * beyond
}

/// The entries of a mapping. The last of equal keys counts.
#[derive(Default)]
struct Entries {
    entries: Vec<(Key, Node)>,
    /// Filled where scanning the entries would take long.
    keys: HashSet<Key>,
}

impl Entries {
    /// Adds an entry; answers what a strict reader says where the key was there. `given` is the key as it was resolved.
    fn insert(&mut self, key: Key, given: Node, value: Node, line: usize) -> Option<String> {
        const FEW: usize = 16;
        let known = if self.entries.len() < FEW {
            self.entries.iter().any(|(known, _)| *known == key)
        } else {
            if self.keys.is_empty() {
                self.keys.extend(self.entries.iter().map(|(key, _)| key.clone()));
            }
            !self.keys.insert(key.clone())
        };
        let told = known.then(|| {
            let shown = match &given {
                Node::String(_) | Node::Null => fairlead_api::field::go_quote(&key),
                other => json::to_string(other),
            };
            format!("line {line}: key {shown} already set in map")
        });
        self.entries.push((key, value));
        told
    }
}

fn plain(node: Node) -> Value {
    Value { node, merges: false }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, Error> {
    let quoted = style != ScalarStyle::Plain;
    let Some(tag) = tag else {
        if quoted {
            return Ok(plain(Node::string(text)));
        }
        return Ok(Value {
            node: resolve::plain(text),
            merges: text == "<<",
        });
    };
    match tag.core_suffix() {
        Some(core) => Ok(Value {
            node: resolve::tagged(core, text).map_err(Error)?,
            merges: core == "merge",
        }),
        // COMPAT: what is said in a tag of one's own is not resolved.
        None => Ok(plain(Node::string(text))),
    }
}

/// The entries that a `<<` brings along: of several maps the first wins.
fn merged(value: Node) -> Result<Vec<(Key, Node)>, Error> {
    let wanted = || Error("map merge requires map or sequence of maps as the value".into());
    match value {
        Node::Map(map) => Ok(map.into_iter().collect()),
        Node::List(items) => {
            let mut entries: Vec<(Key, Node)> = Vec::new();
            for item in items.into_iter().rev() {
                let Node::Map(map) = item else { return Err(wanted()) };
                entries.extend(map);
            }
            Ok(Map::from_entries(entries).into_iter().collect())
        }
        _ => Err(wanted()),
    }
}

/// A key as JSON has it.
fn key_text(key: &Node) -> Result<Key, Error> {
    match key {
        Node::String(text) => Ok(text.clone()),
        Node::Int(int) => Ok(int.to_compact_string()),
        Node::Float(float) => Ok(resolve::float_key(*float)),
        Node::Bool(value) => Ok(CompactString::const_new(if *value { "true" } else { "false" })),
        Node::Null => Err(Error("unsupported map key of type: %!s(<nil>), key: <nil>".into())),
        Node::List(_) | Node::Map(_) => Err(Error(
            format_compact!("invalid map key: {}", json::to_string(key)).into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    fn error(text: &str) -> String {
        parse(text.as_bytes()).unwrap_err().0
    }

    #[test]
    fn scalars_and_keys_read_as_kubernetes_reads_them() {
        let text = "a: yes\nb: 1\nc: '1'\nd: 1.5\ne: ~\nf: {x: [1, two]}\n2: n\ng: 2026-01-01T00:00:00Z\n";
        let expected = node!({
            "a": true, "b": 1, "c": "1", "d": 1.5, "e": null, "f": {"x": [1, "two"]}, "2": false, "g": "2026-01-01T00:00:00Z",
        });
        assert_eq!(parse(text.as_bytes()).unwrap(), expected);
        assert_eq!(
            parse(b"{y: a, 1.5: b, 0x10: c}").unwrap(),
            node!({"true": "a", "1.5": "b", "16": "c"})
        );
        assert_eq!(
            parse(b"a: !foo 5\nb: !!str 5\nc: !!float 5\n").unwrap(),
            node!({"a": "5", "b": "5", "c": 5})
        );
    }

    #[test]
    fn duplicates_are_told() {
        let duplicates = |text: &str| parse_strict(text.as_bytes()).unwrap().duplicates;
        assert_eq!(
            duplicates("a: 1\nb:\n  c: 1\n  c: 2\n"),
            ["line 4: key \"c\" already set in map"]
        );
        assert_eq!(
            duplicates("m:\n  x: 1\nm:\n  y: 1\n"),
            ["line 4: key \"m\" already set in map"]
        );
        assert_eq!(duplicates("n: 1\nn: 2\n"), ["line 2: key false already set in map"]);
        let many: String = (0..40).map(|i| format!("k{}: 1\n", i % 39)).collect();
        assert_eq!(duplicates(&many), ["line 40: key \"k0\" already set in map"]);
        assert_eq!(parse(b"a: 1\na: 2\n").unwrap(), node!({"a": 2}));
    }

    #[test]
    fn only_the_first_document_is_read() {
        assert_eq!(parse(b"a: 1\n---\na: 2\n").unwrap(), node!({"a": 1}));
        assert_eq!(parse(b"{\"a\": 1}x").unwrap(), node!({"a": 1}));
        assert_eq!(parse(b"---\na: 1\n...\n").unwrap(), node!({"a": 1}));
        assert_eq!(parse(b"# nothing\n").unwrap(), Node::Null);
    }

    #[test]
    fn aliases_and_merges() {
        let text = "a: &a {x: 1, z: 2}\nb: *a\nc: {<<: *a, z: 3}\nd: {<<: [{x: 5}, *a]}\n";
        let expected = node!({
            "a": {"x": 1, "z": 2}, "b": {"x": 1, "z": 2}, "c": {"x": 1, "z": 3}, "d": {"x": 5, "z": 2},
        });
        assert_eq!(parse(text.as_bytes()).unwrap(), expected);
        assert_eq!(error("a: *l\n"), "unknown anchor 'l' referenced");
        assert_eq!(error("x: &a [*a]"), "anchor 'a' value contains itself");
        assert_eq!(
            error("x: {<<: 1}"),
            "map merge requires map or sequence of maps as the value"
        );
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
        assert_eq!(error(&text), "document contains excessive aliasing");
        // Few nodes, much text.
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 200].join(","));
        assert_eq!(error(&long), "document contains excessive aliasing");
    }

    #[test]
    fn empty_and_broken_documents() {
        assert_eq!(parse(b"").unwrap(), Node::Null);
        assert_eq!(error("a: [1"), "line 1: did not find expected ',' or ']'");
        assert_eq!(error("{not yaml"), "line 1: did not find expected ',' or '}'");
        assert_eq!(error("a: b: c"), "mapping values are not allowed in this context");
        assert_eq!(
            error("x: 1\na: b: c"),
            "line 2: mapping values are not allowed in this context"
        );
        assert_eq!(error("k8s\0\n"), "control characters are not allowed");
        assert_eq!(parse(b"a: \xff").unwrap_err().0, "invalid leading UTF-8 octet");
        let deep = "[".repeat(MAX_DEPTH + 1);
        assert!(parse(deep.as_bytes()).is_err());
    }
}
