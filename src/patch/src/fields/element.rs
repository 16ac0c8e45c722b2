//! [`Element`]: one step of a field path, and the order of elements and of the values in them.

use compact_str::CompactString;
use fairlead_api::{Key, Node, json};
use std::cmp::Ordering;
use std::fmt;

/// One step: into an object, or to an item of a list.
#[derive(Clone, Debug)]
pub enum Element {
    /// A member of an object, `f:`.
    Field(CompactString),
    /// The item of a list map that has these values, sorted by name, `k:`.
    Key(Box<[(Key, Node)]>),
    /// The item of a set, `v:`.
    Value(Node),
    /// A position in a list, `i:`.
    Index(i64),
}

impl Element {
    pub fn field(name: &str) -> Element {
        Element::Field(name.into())
    }

    /// As in `fieldsV1`. `Ok(None)` is an element of a kind this version does not know.
    pub fn parse(text: &str) -> Result<Option<Element>, String> {
        let (kind, rest) = match text.as_bytes() {
            [kind, b':', ..] => (*kind, &text[2..]),
            [_, _, ..] => return Err(format!("missing colon: {text}")),
            _ => return Err("key must be 2 characters long:".into()),
        };
        let value = || json::parse(rest.as_bytes()).map_err(|e| e.to_string());
        match kind {
            b'f' => Ok(Some(Element::field(rest))),
            b'v' => Ok(Some(Element::Value(value()?))),
            b'i' => match rest.parse() {
                Ok(index) => Ok(Some(Element::Index(index))),
                Err(_) => Err(format!(
                    "strconv.Atoi: parsing {}: invalid syntax",
                    fairlead_api::field::go_quote(rest)
                )),
            },
            b'k' => match value()? {
                Node::Map(map) => Ok(Some(Element::Key(map.into_iter().collect()))),
                _ => Err("expected an object".into()),
            },
            _ => Ok(None),
        }
    }

    /// Appends the form of `fieldsV1`.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Element::Field(name) => {
                out.extend_from_slice(b"f:");
                out.extend_from_slice(name.as_bytes());
            }
            Element::Key(key) => {
                out.extend_from_slice(b"k:{");
                for (i, (name, value)) in key.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    json::write_str(name, out);
                    out.push(b':');
                    json::write(value, out);
                }
                out.push(b'}');
            }
            Element::Value(value) => {
                out.extend_from_slice(b"v:");
                json::write(value, out);
            }
            Element::Index(index) => out.extend_from_slice(format!("i:{index}").as_bytes()),
        }
    }

    /// Whether a step of a [`super::PathPattern`] leads here.
    pub(crate) fn matches(&self, step: &str) -> bool {
        step == "*" || matches!(self, Element::Field(name) if name == step)
    }

    /// Like comparing with the field `name`.
    pub(crate) fn cmp_field(&self, name: &str) -> Ordering {
        match self {
            Element::Field(this) => this.as_str().cmp(name),
            _ => Ordering::Greater,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Element::Field(_) => 0,
            Element::Key(_) => 1,
            Element::Value(_) => 2,
            Element::Index(_) => 3,
        }
    }
}

impl Ord for Element {
    fn cmp(&self, other: &Element) -> Ordering {
        match (self, other) {
            (Element::Field(a), Element::Field(b)) => a.cmp(b),
            (Element::Key(a), Element::Key(b)) => {
                let pairs = a.iter().zip(b.iter());
                pairs
                    .map(|((name_a, a), (name_b, b))| name_a.cmp(name_b).then_with(|| compare_values(a, b)))
                    .find(|order| order.is_ne())
                    .unwrap_or_else(|| a.len().cmp(&b.len()))
            }
            (Element::Value(a), Element::Value(b)) => compare_values(a, b),
            (Element::Index(a), Element::Index(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Element {
    fn partial_cmp(&self, other: &Element) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Element {
    fn eq(&self, other: &Element) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Element {}

/// As in conflicts: `.spec`, `[name="a"]`, `[="a"]`, `[0]`.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Element::Field(name) => write!(f, ".{name}"),
            Element::Key(key) => {
                f.write_str("[")?;
                for (i, (name, value)) in key.iter().enumerate() {
                    let comma = if i > 0 { "," } else { "" };
                    write!(f, "{comma}{name}={}", shown(value))?;
                }
                f.write_str("]")
            }
            Element::Value(value) => write!(f, "[={}]", shown(value)),
            Element::Index(index) => write!(f, "[{index}]"),
        }
    }
}

fn shown(value: &Node) -> String {
    match value {
        Node::Null => "null".into(),
        Node::Bool(b) => b.to_string(),
        Node::Int(i) => i.to_string(),
        Node::Float(f) => crate::go_text::float(*f),
        Node::String(s) => fairlead_api::field::go_quote(s),
        Node::List(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(",")),
        Node::Map(map) => map.iter().map(|(k, v)| format!("{k}={}", shown(v))).collect(),
    }
}

/// A total order of values: numbers by value, then strings, booleans, lists, objects, null.
pub fn compare_values(a: &Node, b: &Node) -> Ordering {
    fn rank(node: &Node) -> u8 {
        match node {
            Node::Int(_) | Node::Float(_) => 0,
            Node::String(_) => 1,
            Node::Bool(_) => 2,
            Node::List(_) => 3,
            Node::Map(_) => 4,
            Node::Null => 5,
        }
    }
    match (a, b) {
        (Node::Int(a), Node::Int(b)) => a.cmp(b),
        (Node::String(a), Node::String(b)) => a.cmp(b),
        (Node::Bool(a), Node::Bool(b)) => a.cmp(b),
        (Node::List(a), Node::List(b)) => {
            let first = a
                .iter()
                .zip(b)
                .map(|(a, b)| compare_values(a, b))
                .find(|order| order.is_ne());
            first.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        (Node::Map(a), Node::Map(b)) => {
            let pairs = a.iter().zip(b.iter());
            let first = pairs
                .map(|((name_a, a), (name_b, b))| name_a.cmp(name_b).then_with(|| compare_values(a, b)))
                .find(|order| order.is_ne());
            first.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        (Node::Float(a), Node::Float(b)) if a == b => Ordering::Equal,
        (Node::Float(a), Node::Float(b)) => a.total_cmp(b),
        (Node::Int(a), Node::Float(b)) => compare_exactly(*a, *b),
        (Node::Float(a), Node::Int(b)) => compare_exactly(*b, *a).reverse(),
        _ => rank(a).cmp(&rank(b)),
    }
}

/// Compares without rounding, so that the order is total.
fn compare_exactly(int: i64, float: f64) -> Ordering {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if float >= LIMIT {
        return Ordering::Less;
    }
    if float < -LIMIT {
        return Ordering::Greater;
    }
    int.cmp(&(float.trunc() as i64))
        .then_with(|| 0.0_f64.total_cmp(&(float.fract() + 0.0)))
}

/// Equality where an integer equals a float of the same value.
pub fn equal_values(a: &Node, b: &Node) -> bool {
    match (a, b) {
        (Node::Int(a), Node::Float(b)) | (Node::Float(b), Node::Int(a)) => *a as f64 == *b,
        (Node::List(a), Node::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal_values(a, b)),
        (Node::Map(a), Node::Map(b)) => {
            a.len() == b.len()
                && a.iter()
                    .zip(b.iter())
                    .all(|((name_a, a), (name_b, b))| name_a == name_b && equal_values(a, b))
        }
        (a, b) => a == b,
    }
}
