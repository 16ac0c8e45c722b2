//! [`Part`]: a group-version's share of the OpenAPI v2 document, as bytes; [`merge`] joins the shares.
//!
//! A definition whose name is taken by one that says something else gets a name of its own, as upstream's merge does
//! (kube-openapi pkg/aggregator): `Name_v2`, `Name_v3` …

use super::Version;
use bytes::Bytes;
use compact_str::CompactString;
use fairlead_api::{Node, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What one group-version adds to the document.
#[derive(Debug, Default)]
pub struct Part {
    /// `"path":{…}` entries, separated by commas.
    pub(crate) paths: Bytes,
    pub(crate) definitions: Section,
    pub(crate) parameters: Section,
}

/// Definitions or parameters, by name.
pub(crate) type Section = BTreeMap<CompactString, Arc<Entry>>;

/// One definition or parameter.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Without its kinds.
    json: Bytes,
    /// Of what it says, without words and kinds.
    meaning: [u8; 32],
    /// `x-kubernetes-group-version-kind`.
    kinds: Vec<Node>,
    /// The definitions it refers to.
    pub(crate) references: Vec<CompactString>,
}

/// A definition or parameter that has another name in the merged document than in its server's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renamed {
    /// Whose it is.
    pub owner: CompactString,
    pub name: CompactString,
    pub shown_as: CompactString,
}

const KINDS: &str = "x-kubernetes-group-version-kind";
const DEFINITION: &str = "#/definitions/";
const PARAMETER: &str = "#/parameters/";

// === impl Entry ===

impl Entry {
    pub(crate) fn new(mut node: Node) -> Entry {
        let kinds = match node.as_map_mut().and_then(|map| map.remove(KINDS)) {
            Some(Node::List(kinds)) => kinds,
            _ => Vec::new(),
        };
        let mut names = Vec::new();
        super::references(&node, Version::V2.prefix(), &mut names);
        names.sort();
        names.dedup();
        Entry {
            json: json::to_vec(&node).into(),
            meaning: Sha256::digest(json::to_vec(&without_words(&node))).into(),
            kinds,
            references: names.into_iter().map(Into::into).collect(),
        }
    }

    pub(crate) fn same(&self, other: &Entry) -> bool {
        self.meaning == other.meaning
    }
}

/// COMPAT: servers are built with different words for the same types: only what can be told apart by a machine counts.
fn without_words(node: &Node) -> Node {
    match node {
        Node::Map(map) => {
            let said = map
                .iter()
                .filter(|(key, value)| !(key.as_str() == "description" && value.as_str().is_some()));
            Node::Map(said.map(|(key, value)| (key.clone(), without_words(value))).collect())
        }
        Node::List(items) => Node::List(items.iter().map(without_words).collect()),
        other => other.clone(),
    }
}

// === merge ===

/// A definition or parameter of the merged document.
struct Taken {
    entry: Arc<Entry>,
    /// Its JSON where references in it were renamed.
    renamed: Option<Bytes>,
    /// All kinds, where another server adds some.
    kinds: Option<Vec<Node>>,
}

#[derive(Default)]
struct Merged {
    taken: BTreeMap<CompactString, Taken>,
}

/// Joins parts, each with whose it is; what comes first keeps its names. Writes the `paths`, `definitions` and
/// `parameters` of a document, and answers what had to be renamed.
pub(crate) fn merge<'a>(parts: impl IntoIterator<Item = (&'a str, &'a Part)>, out: &mut Vec<u8>) -> Vec<Renamed> {
    let (mut definitions, mut parameters) = (Merged::default(), Merged::default());
    let mut renamed = Vec::new();
    out.extend_from_slice(br#""paths":{"#);
    let mut first = true;
    for (owner, part) in parts {
        let names = Names {
            definitions: definitions.renames(&part.definitions),
            parameters: parameters.renames(&part.parameters),
        };
        definitions.add(&part.definitions, &names.definitions, &names);
        parameters.add(&part.parameters, &names.parameters, &names);
        if !part.paths.is_empty() {
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            names.write(&part.paths, out);
        }
        let all = names.definitions.into_iter().chain(names.parameters);
        renamed.extend(all.map(|(name, shown_as)| Renamed {
            owner: owner.into(),
            name,
            shown_as,
        }));
    }
    out.extend_from_slice(br#"},"definitions":{"#);
    definitions.write(out);
    out.extend_from_slice(br#"},"parameters":{"#);
    parameters.write(out);
    out.push(b'}');
    renamed
}

type Renames = BTreeMap<CompactString, CompactString>;

impl Merged {
    /// New names for what is here already and says something else.
    fn renames(&self, section: &Section) -> Renames {
        let mut renames = Renames::new();
        let mut used: BTreeSet<CompactString> = BTreeSet::new();
        for (name, entry) in section {
            let differs = |name: &CompactString| self.taken.get(name).is_some_and(|t| !t.entry.same(entry));
            if !differs(name) {
                continue;
            }
            let mut numbered = (2u32..).map(|n| CompactString::from(format!("{name}_v{n}")));
            let usable = |candidate: &CompactString| {
                let free = !section.contains_key(candidate) && !used.contains(candidate);
                // One that was renamed before and says the same is as good as a free name.
                free && !differs(candidate)
            };
            if let Some(new) = numbered.find(usable) {
                if !self.taken.contains_key(&new) {
                    used.insert(new.clone());
                }
                renames.insert(name.clone(), new);
            }
        }
        renames
    }

    fn add(&mut self, section: &Section, renames: &Renames, names: &Names) {
        for (name, entry) in section {
            let name = renames.get(name).unwrap_or(name);
            if let Some(known) = self.taken.get_mut(name) {
                known.join(&entry.kinds);
                continue;
            }
            let renamed = names.concerns(entry).then(|| {
                let mut json = Vec::with_capacity(entry.json.len() + 64);
                names.write(&entry.json, &mut json);
                json.into()
            });
            let taken = Taken {
                entry: entry.clone(),
                renamed,
                kinds: None,
            };
            self.taken.insert(name.clone(), taken);
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        for (i, (name, taken)) in self.taken.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            json::write_str(name, out);
            out.push(b':');
            taken.write(out);
        }
    }
}

impl Taken {
    /// Adds kinds that are not there yet, in the order of their names.
    fn join(&mut self, kinds: &[Node]) {
        let known = self.kinds.as_ref().unwrap_or(&self.entry.kinds);
        if kinds.iter().all(|kind| known.contains(kind)) {
            return;
        }
        let mut all = known.clone();
        all.extend(kinds.iter().filter(|kind| !known.contains(kind)).cloned());
        all.sort_by_cached_key(|kind| format!("{}/{}.{}", kind.str("group"), kind.str("version"), kind.str("kind")));
        self.kinds = Some(all);
    }

    fn write(&self, out: &mut Vec<u8>) {
        let json = self.renamed.as_ref().unwrap_or(&self.entry.json);
        let kinds = self.kinds.as_ref().unwrap_or(&self.entry.kinds);
        let Some(open) = json.strip_suffix(b"}").filter(|_| !kinds.is_empty()) else {
            return out.extend_from_slice(json);
        };
        out.extend_from_slice(open);
        if open.len() > 1 {
            out.push(b',');
        }
        json::write_str(KINDS, out);
        out.push(b':');
        json::write(&Node::List(kinds.clone()), out);
        out.push(b'}');
    }
}

/// The names that references of one part have to be changed to.
struct Names {
    definitions: Renames,
    parameters: Renames,
}

impl Names {
    fn concerns(&self, entry: &Entry) -> bool {
        entry.references.iter().any(|name| self.definitions.contains_key(name))
    }

    /// Writes compact JSON with references renamed. What looks like one within a string has its quotes escaped.
    fn write(&self, json: &[u8], out: &mut Vec<u8>) {
        if self.definitions.is_empty() && self.parameters.is_empty() {
            return out.extend_from_slice(json);
        }
        const REFERENCE: &[u8] = br##""$ref":"#/"##;
        let mut rest = json;
        while let Some(at) = memchr::memmem::find(rest, REFERENCE) {
            // Up to the value, without its quote and `#/`.
            let (before, value) = rest.split_at(at + REFERENCE.len() - 2);
            out.extend_from_slice(before);
            let end = memchr::memchr(b'"', value).unwrap_or(value.len());
            let text = std::str::from_utf8(&value[..end]).unwrap_or_default();
            match self.renamed(text) {
                Some(new) => out.extend_from_slice(new.as_bytes()),
                None => out.extend_from_slice(&value[..end]),
            }
            rest = &value[end..];
        }
        out.extend_from_slice(rest);
    }

    fn renamed(&self, reference: &str) -> Option<String> {
        let of = |prefix: &str, renames: &Renames| {
            let new = renames.get(reference.strip_prefix(prefix)?)?;
            Some(format!("{prefix}{new}"))
        };
        of(DEFINITION, &self.definitions).or_else(|| of(PARAMETER, &self.parameters))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    fn part(path: &str, definitions: &[(&str, Node)]) -> Part {
        let paths = format!("\"{path}\":{{\"schema\":{{\"$ref\":\"#/definitions/A\"}}}}");
        Part {
            paths: paths.into(),
            definitions: definitions
                .iter()
                .map(|(name, node)| ((*name).into(), Arc::new(Entry::new(node.clone()))))
                .collect(),
            parameters: Section::new(),
        }
    }

    fn merged(parts: &[(&str, &Part)]) -> (Node, Vec<String>) {
        let mut out = vec![b'{'];
        let renamed = merge(parts.iter().copied(), &mut out);
        out.push(b'}');
        let renamed = renamed
            .iter()
            .map(|r| format!("{}: {} -> {}", r.owner, r.name, r.shown_as));
        (json::parse(&out).unwrap(), renamed.collect())
    }

    #[test]
    fn what_says_something_else_is_renamed_with_all_references_to_it() {
        let first = part("/a", &[("A", node!({"type": "string", "description": "one"}))]);
        let same = part("/b", &[("A", node!({"type": "string", "description": "two"}))]);
        let looks = "not \"$ref\":\"#/definitions/A\" at all";
        let b = node!({"properties": {"a": {"$ref": "#/definitions/A"}}, "description": looks});
        let other = part(
            "/c",
            &[
                ("A", node!({"type": "integer"})),
                ("A_v2", node!({"type": "null"})),
                ("B", b),
            ],
        );
        let again = part("/d", &[("A", node!({"type": "integer"}))]);
        let (document, renamed) = merged(&[("one", &first), ("two", &same), ("three", &other), ("four", &again)]);
        assert_eq!(renamed, ["three: A -> A_v3", "four: A -> A_v3"]);
        let reference = |path: &str| document.str_at(&["paths", path, "schema", "$ref"]).to_owned();
        assert_eq!(reference("/b"), "#/definitions/A");
        assert_eq!(reference("/c"), "#/definitions/A_v3");
        assert_eq!(reference("/d"), "#/definitions/A_v3");
        let b = document.at(&["definitions", "B"]).unwrap();
        assert_eq!(b.str_at(&["properties", "a", "$ref"]), "#/definitions/A_v3");
        assert_eq!(b.str("description"), looks);
        assert_eq!(document.str_at(&["definitions", "A", "description"]), "one");
        assert_eq!(document.str_at(&["definitions", "A_v2", "type"]), "null");
    }

    #[test]
    fn kinds_of_the_same_type_are_joined() {
        let of = |group: &str| {
            let mut node = node!({"type": "object"});
            node.set(
                KINDS,
                vec![node!({"group": group, "version": "v1", "kind": "DeleteOptions"})],
            );
            part(&format!("/{group}"), &[("A", node)])
        };
        let (document, renamed) = merged(&[("b", &of("b")), ("a", &of("a")), ("b", &of("b"))]);
        assert!(renamed.is_empty());
        let kinds = document.at(&["definitions", "A", KINDS]).unwrap().as_list().unwrap();
        let groups: Vec<&str> = kinds.iter().map(|k| k.str("group")).collect();
        assert_eq!(groups, ["a", "b"]);
    }
}
