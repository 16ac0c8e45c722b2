//! Table cells of the built-in kinds.
// PERFORMANCE: per-request path

use crate::value;
use fairlead_api::selector::LabelSelector;
use fairlead_api::time::age;
use fairlead_api::{Map, Node, Timestamp};

pub const NONE: &str = "<none>";
pub const UNSET: &str = "<unset>";

/// A row under construction: cells are appended left to right.
pub struct Row<'a> {
    object: &'a Node,
    now: Timestamp,
    cells: Vec<Node>,
}

impl<'a> Row<'a> {
    /// A row that begins with the object's name.
    pub fn named(object: &'a Node, now_seconds: i64) -> Row<'a> {
        let mut row = Row::new(object, now_seconds);
        row.cells.push(Node::string(object.name()));
        row
    }

    pub fn new(object: &'a Node, now_seconds: i64) -> Row<'a> {
        Row {
            object,
            now: Timestamp::from_unix_seconds(now_seconds),
            cells: Vec::with_capacity(10),
        }
    }

    pub fn cell(mut self, value: impl Into<Node>) -> Self {
        self.cells.push(value.into());
        self
    }

    /// The string at `path`; empty where there is none.
    pub fn text(self, path: &[&str]) -> Self {
        let text = self.object.str_at(path);
        self.cell(text)
    }

    /// The string at `path`, or `absent`.
    pub fn text_or(self, path: &[&str], absent: &str) -> Self {
        let text = or(self.object.str_at(path), absent);
        self.cell(text)
    }

    pub fn int(self, path: &[&str]) -> Self {
        let number = value::int(self.object, path);
        self.cell(number)
    }

    pub fn flag(self, path: &[&str]) -> Self {
        let flag = value::flag(self.object, path);
        self.cell(flag)
    }

    /// The number of items at `path`.
    pub fn count(self, path: &[&str]) -> Self {
        let count = value::list(self.object, path).len() as i64;
        self.cell(count)
    }

    /// The time that has passed since creation.
    pub fn age(self) -> Self {
        self.since(&["metadata", "creationTimestamp"])
    }

    pub fn since(self, path: &[&str]) -> Self {
        let age = self.passed(path);
        self.cell(age)
    }

    /// The time that has passed since the timestamp at `path`.
    pub fn passed(&self, path: &[&str]) -> String {
        age(self.object.str_at(path), self.now)
    }

    /// The names and images of the containers at `path`, two cells.
    pub fn containers(self, path: &[&str]) -> Self {
        let containers = value::list(self.object, path);
        let names = join(containers.iter().map(|c| c.str("name")), ",");
        let images = join(containers.iter().map(|c| c.str("image")), ",");
        self.cell(names).cell(images)
    }

    /// The LabelSelector at `path`.
    pub fn selector(self, path: &[&str]) -> Self {
        let text = label_selector(self.object.at(path));
        self.cell(text)
    }

    /// The labels at `path`.
    pub fn labels(self, path: &[&str]) -> Self {
        let text = labels(value::map(self.object, path));
        self.cell(text)
    }

    pub fn done(self) -> Option<Vec<Node>> {
        Some(self.cells)
    }
}

pub fn or<'a>(text: &'a str, absent: &'a str) -> &'a str {
    if text.is_empty() { absent } else { text }
}

pub fn join<'a>(parts: impl IntoIterator<Item = &'a str>, separator: &str) -> String {
    let mut out = String::new();
    for (i, part) in parts.into_iter().enumerate() {
        if i > 0 {
            out.push_str(separator);
        }
        out.push_str(part);
    }
    out
}

/// `a=b,c=d`, or `<none>`.
pub fn labels(labels: Option<&Map>) -> String {
    let mut out = String::new();
    for (key, value) in labels.into_iter().flat_map(Map::iter) {
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(key);
        out.push('=');
        out.push_str(value.as_str().unwrap_or(""));
    }
    if out.is_empty() { NONE.into() } else { out }
}

/// A LabelSelector in the syntax of queries; `<none>` for one that selects everything, or that is absent.
pub fn label_selector(selector: Option<&Node>) -> String {
    match selector.map(LabelSelector::from_node) {
        None => NONE.into(),
        Some(Err(_)) => "<error>".into(),
        Some(Ok(selector)) if selector.is_empty() => NONE.into(),
        Some(Ok(selector)) => selector.to_string(),
    }
}

/// The first three, and how many more there are; `absent` where there are none.
pub fn three<T: AsRef<str>>(items: impl IntoIterator<Item = T>, absent: &str) -> String {
    const MAX: usize = 3;
    let (mut out, mut count) = (String::new(), 0);
    for item in items {
        count += 1;
        if count <= MAX {
            if count > 1 {
                out.push(',');
            }
            out.push_str(item.as_ref());
        }
    }
    match count {
        0 => absent.into(),
        _ if count > MAX => format!("{out} + {} more...", count - MAX),
        _ => out,
    }
}

/// An IntOrString as text.
pub fn int_or_string(value: Option<&Node>, absent: &str) -> String {
    match value {
        Some(Node::String(s)) => s.to_string(),
        Some(Node::Int(i)) => i.to_string(),
        _ => absent.into(),
    }
}

/// The addresses of a load balancer's ingress points.
pub fn load_balancer(ingress: &[Node]) -> String {
    let mut addresses: Vec<&str> = ingress
        .iter()
        .map(|i| or(i.str("ip"), i.str("hostname")))
        .filter(|a| !a.is_empty())
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn lists_are_cut_after_three() {
        assert_eq!(three(["a", "b", "c"], UNSET), "a,b,c");
        assert_eq!(three(["a", "b", "c", "d", "e"], UNSET), "a,b,c + 2 more...");
        assert_eq!(three([""; 0], UNSET), "<unset>");
    }

    #[test]
    fn selectors_read_as_queries() {
        assert_eq!(
            label_selector(Some(&node!({"matchLabels": {"b": "2", "a": "1"}}))),
            "a=1,b=2"
        );
        assert_eq!(label_selector(Some(&node!({}))), NONE);
        assert_eq!(labels(node!({"k": "v", "e": ""}).as_map()), "e=,k=v");
    }
}
