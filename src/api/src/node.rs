//! [`Node`]: a JSON value with Go's number rules and sorted, interned-by-inlining keys.

use compact_str::CompactString;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An object key: inline up to 24 bytes, so that almost no key of an API object allocates.
pub type Key = CompactString;

/// A JSON value. Integers that fit `i64` stay integers; every other number is a float, as in Go.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Node {
    #[default]
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    String(CompactString),
    List(Vec<Node>),
    Map(Map),
}

/// A JSON object: entries sorted by key, each key once. Lookup is a binary search.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map(Vec<(Key, Node)>);

/// Builds a [`Node`] from a JSON literal, in the syntax of `serde_json::json!`.
#[macro_export]
macro_rules! node {
    ($($json:tt)+) => { $crate::Node::from($crate::node::json!($($json)+)) };
}
pub use serde_json::json;

// === impl Node ===

impl Node {
    /// An empty object.
    pub fn map() -> Node {
        Node::Map(Map::new())
    }

    pub fn string(value: impl Into<CompactString>) -> Node {
        Node::String(value.into())
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Node::Null)
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Node::String(s) => Some(s),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Node::Bool(b) => Some(*b),
            _ => None,
        }
    }

    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Node::Int(i) => Some(*i),
            _ => None,
        }
    }

    /// The value of any number.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Node::Int(i) => Some(*i as f64),
            Node::Float(f) => Some(*f),
            _ => None,
        }
    }

    pub fn as_list(&self) -> Option<&Vec<Node>> {
        match self {
            Node::List(l) => Some(l),
            _ => None,
        }
    }

    pub fn as_list_mut(&mut self) -> Option<&mut Vec<Node>> {
        match self {
            Node::List(l) => Some(l),
            _ => None,
        }
    }

    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Node::Map(m) => Some(m),
            _ => None,
        }
    }

    pub fn as_map_mut(&mut self) -> Option<&mut Map> {
        match self {
            Node::Map(m) => Some(m),
            _ => None,
        }
    }

    /// The member `key` of an object; `None` for anything that is not an object.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.as_map()?.get(key)
    }

    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.as_map_mut()?.get_mut(key)
    }

    /// The string member `key`; `""` when it is absent or not a string.
    pub fn str(&self, key: &str) -> &str {
        self.get(key).and_then(Node::as_str).unwrap_or("")
    }

    /// The list member `key`; empty when it is absent or not a list.
    pub fn list(&self, key: &str) -> &[Node] {
        self.get(key).and_then(Node::as_list).map_or(&[], Vec::as_slice)
    }

    /// Follows object keys: `at(&["spec", "replicas"])`.
    pub fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    pub fn at_mut(&mut self, path: &[&str]) -> Option<&mut Node> {
        path.iter().try_fold(self, |node, key| node.get_mut(key))
    }

    /// The string at `path`; `""` when there is none.
    pub fn str_at(&self, path: &[&str]) -> &str {
        self.at(path).and_then(Node::as_str).unwrap_or("")
    }

    /// Sets the member `key`; anything that is not an object becomes one first.
    pub fn set(&mut self, key: &str, value: impl Into<Node>) {
        self.make_map().insert(key, value.into());
    }

    /// Sets the value at `path`, making objects on the way where there are none.
    pub fn set_at(&mut self, path: &[&str], value: impl Into<Node>) {
        *self.make_at(path) = value.into();
    }

    /// The slot at `path`, made (as null, under new objects) where it is absent.
    pub fn make_at(&mut self, path: &[&str]) -> &mut Node {
        path.iter().fold(self, |node, key| node.make_map().slot(key))
    }

    /// This node as an object; anything else is replaced by an empty object.
    pub fn make_map(&mut self) -> &mut Map {
        if !matches!(self, Node::Map(_)) {
            *self = Node::map();
        }
        self.as_map_mut().expect("it was just made a map")
    }

    /// Removes the member `key`.
    pub fn remove(&mut self, key: &str) -> Option<Node> {
        self.as_map_mut()?.remove(key)
    }

    /// Removes the value at `path`.
    pub fn remove_at(&mut self, path: &[&str]) -> Option<Node> {
        let (last, parents) = path.split_last()?;
        self.at_mut(parents)?.remove(last)
    }

    /// Converts anything serde can write. Fails only for maps whose keys are not strings.
    pub fn from_typed<T: Serialize>(value: &T) -> Result<Node, serde_json::Error> {
        serde_json::to_value(value).map(Node::from)
    }

    /// Reads a typed value out of this tree. For configuration and control objects, not for per-request paths.
    pub fn to_typed<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&crate::json::to_vec(self))
    }

    /// Whether this is what Go calls the zero value: null, false, 0, "", or an empty list or object.
    pub fn is_zero(&self) -> bool {
        match self {
            Node::Null => true,
            Node::Bool(b) => !b,
            Node::Int(i) => *i == 0,
            Node::Float(f) => *f == 0.0,
            Node::String(s) => s.is_empty(),
            Node::List(l) => l.is_empty(),
            Node::Map(m) => m.is_empty(),
        }
    }

    /// The JSON name of this value's type: `null`, `boolean`, `integer`, `number`, `string`, `array`, `object`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Node::Null => "null",
            Node::Bool(_) => "boolean",
            Node::Int(_) => "integer",
            Node::Float(_) => "number",
            Node::String(_) => "string",
            Node::List(_) => "array",
            Node::Map(_) => "object",
        }
    }
}

// === impl Map ===

impl Map {
    pub const fn new() -> Map {
        Map(Vec::new())
    }

    /// Makes a map of entries in any order; of several with one key the last wins.
    pub fn from_entries(mut entries: Vec<(Key, Node)>) -> Map {
        if entries.windows(2).all(|w| w[0].0 < w[1].0) {
            return Map(entries);
        }
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        entries.reverse();
        entries.dedup_by(|a, b| a.0 == b.0);
        entries.reverse();
        Map(entries)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn get(&self, key: &str) -> Option<&Node> {
        self.position(key).ok().map(|i| &self.0[i].1)
    }

    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.position(key).ok().map(|i| &mut self.0[i].1)
    }

    pub fn contains_key(&self, key: &str) -> bool {
        self.position(key).is_ok()
    }

    pub fn insert(&mut self, key: impl Into<Key>, value: Node) -> Option<Node> {
        let key = key.into();
        match self.position(&key) {
            Ok(i) => Some(std::mem::replace(&mut self.0[i].1, value)),
            Err(i) => {
                self.0.insert(i, (key, value));
                None
            }
        }
    }

    pub fn remove(&mut self, key: &str) -> Option<Node> {
        self.position(key).ok().map(|i| self.0.remove(i).1)
    }

    /// The value of `key`, inserted as null where it is absent.
    pub fn slot(&mut self, key: &str) -> &mut Node {
        let i = match self.position(key) {
            Ok(i) => i,
            Err(i) => {
                self.0.insert(i, (key.into(), Node::Null));
                i
            }
        };
        &mut self.0[i].1
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&Key, &Node)> + ExactSizeIterator {
        self.0.iter().map(|(k, v)| (k, v))
    }

    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = (&Key, &mut Node)> + ExactSizeIterator {
        self.0.iter_mut().map(|(k, v)| (&*k, v))
    }

    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &Key> + ExactSizeIterator {
        self.0.iter().map(|(k, _)| k)
    }

    pub fn values(&self) -> impl DoubleEndedIterator<Item = &Node> + ExactSizeIterator {
        self.0.iter().map(|(_, v)| v)
    }

    pub fn values_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut Node> + ExactSizeIterator {
        self.0.iter_mut().map(|(_, v)| v)
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&Key, &mut Node) -> bool) {
        self.0.retain_mut(|(k, v)| keep(k, v));
    }

    fn position(&self, key: &str) -> Result<usize, usize> {
        // Objects have few keys: a scan beats a binary search until about eight.
        if self.0.len() <= 8 {
            for (i, (k, _)) in self.0.iter().enumerate() {
                match k.as_str().cmp(key) {
                    std::cmp::Ordering::Less => {}
                    std::cmp::Ordering::Equal => return Ok(i),
                    std::cmp::Ordering::Greater => return Err(i),
                }
            }
            return Err(self.0.len());
        }
        self.0.binary_search_by(|(k, _)| k.as_str().cmp(key))
    }
}

impl IntoIterator for Map {
    type Item = (Key, Node);
    type IntoIter = std::vec::IntoIter<(Key, Node)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<K: Into<Key>> FromIterator<(K, Node)> for Map {
    fn from_iter<I: IntoIterator<Item = (K, Node)>>(entries: I) -> Map {
        Map::from_entries(entries.into_iter().map(|(k, v)| (k.into(), v)).collect())
    }
}

// === conversions ===

impl From<serde_json::Value> for Node {
    fn from(value: serde_json::Value) -> Node {
        match value {
            serde_json::Value::Null => Node::Null,
            serde_json::Value::Bool(b) => Node::Bool(b),
            serde_json::Value::Number(n) => match n.as_i64() {
                Some(i) => Node::Int(i),
                None => Node::Float(n.as_f64().unwrap_or(f64::MAX)),
            },
            serde_json::Value::String(s) => Node::String(s.into()),
            serde_json::Value::Array(items) => Node::List(items.into_iter().map(Node::from).collect()),
            serde_json::Value::Object(members) => {
                Node::Map(members.into_iter().map(|(k, v)| (k, Node::from(v))).collect())
            }
        }
    }
}

macro_rules! from_scalar {
    ($($from:ty => $make:expr),+ $(,)?) => {
        $(impl From<$from> for Node {
            fn from(value: $from) -> Node {
                $make(value)
            }
        })+
    };
}
from_scalar! {
    bool => Node::Bool,
    i64 => Node::Int,
    i32 => |v: i32| Node::Int(v.into()),
    u16 => |v: u16| Node::Int(v.into()),
    u32 => |v: u32| Node::Int(v.into()),
    f64 => Node::Float,
    &str => |v: &str| Node::String(v.into()),
    String => |v: String| Node::String(v.into()),
    CompactString => Node::String,
    Map => Node::Map,
    Vec<Node> => Node::List,
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Node::Null => serializer.serialize_unit(),
            Node::Bool(b) => serializer.serialize_bool(*b),
            Node::Int(i) => serializer.serialize_i64(*i),
            Node::Float(f) => serializer.serialize_f64(*f),
            Node::String(s) => serializer.serialize_str(s),
            Node::List(l) => serializer.collect_seq(l),
            Node::Map(m) => serializer.collect_map(m.iter().map(|(k, v)| (k.as_str(), v))),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        crate::json::deserialize_node(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_sort_and_the_last_duplicate_wins() {
        let map = Map::from_entries(vec![
            ("b".into(), Node::Int(1)),
            ("a".into(), Node::Int(2)),
            ("b".into(), Node::Int(3)),
        ]);
        assert_eq!(
            map.iter().map(|(k, v)| (k.as_str(), v.as_i64())).collect::<Vec<_>>(),
            [("a", Some(2)), ("b", Some(3))]
        );
    }

    #[test]
    fn set_at_makes_the_objects_on_its_way() {
        let mut n = node!({"a": 1});
        n.set_at(&["a", "b", "c"], true);
        assert_eq!(n, node!({"a": {"b": {"c": true}}}));
        assert_eq!(n.remove_at(&["a", "b", "c"]), Some(Node::Bool(true)));
        assert_eq!(n, node!({"a": {"b": {}}}));
    }
}
