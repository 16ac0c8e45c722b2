//! Values as error messages show them: kube-apiserver's internal types in Go's JSON, every field in declared order.
//!
//! The types are a table, `shown.txt`. [`json`] writes one line, [`pretty`] the indented form that
//! [differences](super::difference) are made of, and [`equal`] compares as `equality.Semantic.DeepEqual` does.

use fairlead_api::Node;
use fairlead_api::quantity::Quantity;
use std::collections::HashMap;
use std::sync::LazyLock;

/// A value as compact JSON. `kind` is a name of the table, with the table's prefixes: `*core.SecurityContext`.
pub fn json(kind: &str, value: Option<&Node>) -> String {
    let mut out = String::new();
    build(kind, value, None, Empty::Kept).write(&mut out, None);
    out
}

/// A value as JSON, a member or item a line.
pub fn pretty(kind: &str, value: Option<&Node>) -> String {
    let mut out = String::new();
    build(kind, value, None, Empty::Kept).write(&mut out, Some(0));
    out
}

/// Whether two values mean the same: absent and empty lists and maps are equal, and so are quantities of one value.
pub fn equal(kind: &str, a: Option<&Node>, b: Option<&Node>) -> bool {
    let same = |node: Option<&Node>| {
        let mut out = String::new();
        build(kind, node, None, Empty::IsNull).write(&mut out, None);
        out
    };
    a == b || same(a) == same(b)
}

/// A string as Go's JSON encoder writes it.
pub fn quote(text: &str) -> String {
    let mut out = String::new();
    write_string(text, &mut out);
    out
}

/// What becomes of empty lists and maps.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Empty {
    Kept,
    IsNull,
}

enum Shown {
    Text(String),
    List(Vec<Shown>),
    Object(Vec<(String, Shown)>),
}

struct Field {
    shown: &'static str,
    wire: String,
    kind: &'static str,
}

static TABLE: LazyLock<HashMap<&'static str, Vec<Field>>> = LazyLock::new(|| {
    let lines = include_str!("shown.txt").lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(row).collect()
});

fn row(line: &'static str) -> Option<(&'static str, Vec<Field>)> {
    let mut tokens = line.split(' ');
    let name = tokens.next()?;
    let fields = tokens.filter_map(|token| {
        let (names, kind) = token.split_once(':')?;
        let (shown, wire) = match names.split_once('/') {
            Some((shown, wire)) => (shown, wire.to_owned()),
            None => (names, format!("{}{}", names[..1].to_lowercase(), &names[1..])),
        };
        Some(Field { shown, wire, kind })
    });
    Some((name, fields.collect()))
}

// === building ===

fn build(kind: &str, value: Option<&Node>, parent: Option<&Node>, empty: Empty) -> Shown {
    let value = value.filter(|node| !node.is_null());
    if let Some(pointed) = kind.strip_prefix('*') {
        return match value {
            None => null(),
            Some(_) => build(pointed, value, parent, empty),
        };
    }
    if let Some(item) = kind.strip_prefix("[]") {
        // Bytes are a string on the wire and in messages.
        return match value {
            Some(Node::List(items)) if !items.is_empty() || empty == Empty::Kept => {
                Shown::List(items.iter().map(|node| build(item, Some(node), None, empty)).collect())
            }
            Some(text @ Node::String(_)) => raw(text),
            _ => null(),
        };
    }
    if let Some(item) = kind.strip_prefix("{}") {
        return match value.and_then(Node::as_map) {
            Some(map) if !map.is_empty() || empty == Empty::Kept => {
                let entries = map.iter();
                Shown::Object(
                    entries
                        .map(|(key, node)| (key.to_string(), build(item, Some(node), None, empty)))
                        .collect(),
                )
            }
            _ => null(),
        };
    }
    match (kind, value) {
        ("string", None) => Shown::Text("\"\"".into()),
        ("int", None) => Shown::Text("0".into()),
        ("bool", None) => Shown::Text("false".into()),
        ("quantity", value) => quantity(value),
        ("labelSelector", Some(selector)) => label_selector(selector, empty),
        ("string" | "int" | "bool" | "time" | "any", Some(node)) => raw(node),
        ("time" | "any", None) => null(),
        _ => object(kind, value, parent, empty),
    }
}

fn object(kind: &str, value: Option<&Node>, parent: Option<&Node>, empty: Empty) -> Shown {
    let Some(fields) = TABLE.get(kind) else {
        return value.map_or_else(null, raw);
    };
    let mut members = Vec::with_capacity(fields.len());
    for field in fields {
        if field.kind == "inline" {
            metadata(value.and_then(|node| node.get("metadata")), empty, &mut members);
            continue;
        }
        let found = match field.wire.strip_prefix('^') {
            Some(wire) => parent.and_then(|node| node.get(wire)),
            None => value.and_then(|node| node.get(&field.wire)),
        };
        members.push((field.shown.to_owned(), build(field.kind, found, value, empty)));
    }
    Shown::Object(members)
}

/// The fields of `ObjectMeta`, which has names of its own in JSON and leaves out what is empty.
fn metadata(meta: Option<&Node>, empty: Empty, members: &mut Vec<(String, Shown)>) {
    const FIELDS: [&str; 14] = [
        "name",
        "generateName",
        "namespace",
        "selfLink",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "labels",
        "annotations",
        "ownerReferences",
        "finalizers",
    ];
    for name in FIELDS {
        if let Some(node) = meta.and_then(|meta| meta.get(name)).filter(|node| !node.is_zero()) {
            members.push((name.to_owned(), build("any", Some(node), None, empty)));
        }
    }
}

fn label_selector(selector: &Node, empty: Empty) -> Shown {
    let mut members = Vec::new();
    if let Some(labels) = selector.get("matchLabels").filter(|labels| !labels.is_zero()) {
        members.push(("matchLabels".to_owned(), build("{}string", Some(labels), None, empty)));
    }
    let expressions = selector.list("matchExpressions");
    if !expressions.is_empty() {
        members.push((
            "matchExpressions".to_owned(),
            Shown::List(expressions.iter().map(expression).collect()),
        ));
    }
    Shown::Object(members)
}

fn expression(expression: &Node) -> Shown {
    let string = |key: &str| Shown::Text(quote(expression.str(key)));
    let mut members = vec![
        ("key".to_owned(), string("key")),
        ("operator".to_owned(), string("operator")),
    ];
    let values = expression.list("values");
    if !values.is_empty() {
        members.push(("values".to_owned(), Shown::List(values.iter().map(raw).collect())));
    }
    Shown::Object(members)
}

fn quantity(value: Option<&Node>) -> Shown {
    let text = match value {
        None => "0".into(),
        Some(Node::String(text)) => Quantity::parse(text).map_or_else(|_| text.clone(), |q| q.canonical()),
        Some(other) => return raw(other),
    };
    Shown::Text(quote(&text))
}

fn null() -> Shown {
    Shown::Text("null".into())
}

fn raw(node: &Node) -> Shown {
    match node {
        Node::String(text) => Shown::Text(quote(text)),
        Node::List(items) => Shown::List(items.iter().map(raw).collect()),
        Node::Map(map) => Shown::Object(map.iter().map(|(key, node)| (key.to_string(), raw(node))).collect()),
        other => Shown::Text(String::from_utf8_lossy(&fairlead_api::json::to_vec(other)).into_owned()),
    }
}

// === writing ===

impl Shown {
    /// `indent` is the depth, where members stand on lines of their own.
    fn write(&self, out: &mut String, indent: Option<usize>) {
        match self {
            Shown::Text(text) => out.push_str(text),
            Shown::List(items) => bracketed(out, '[', ']', items, indent, |item, out, indent| {
                item.write(out, indent)
            }),
            Shown::Object(members) => bracketed(out, '{', '}', members, indent, |(name, value), out, indent| {
                write_string(name, out);
                out.push_str(if indent.is_some() { ": " } else { ":" });
                value.write(out, indent);
            }),
        }
    }
}

fn bracketed<T>(
    out: &mut String,
    open: char,
    close: char,
    items: &[T],
    indent: Option<usize>,
    write: impl Fn(&T, &mut String, Option<usize>),
) {
    out.push(open);
    let inner = indent.map(|depth| depth + 1);
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        new_line(out, inner);
        write(item, out, inner);
    }
    if !items.is_empty() {
        new_line(out, indent);
    }
    out.push(close);
}

fn new_line(out: &mut String, indent: Option<usize>) {
    if let Some(depth) = indent {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', depth));
    }
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                out.push_str(&format!("\\u{:04x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn every_field_is_shown_in_declared_order() {
        let toleration = node!({"operator": "X"});
        assert_eq!(
            json("core.Toleration", Some(&toleration)),
            r#"{"Key":"","Operator":"X","Value":"","Effect":"","TolerationSeconds":null}"#
        );
        assert_eq!(json("*core.Toleration", None), "null");
    }

    #[test]
    fn host_flags_are_shown_in_the_security_context() {
        let spec = node!({"hostNetwork": true, "securityContext": {}});
        let text = json("core.PodSpec", Some(&spec));
        assert!(
            text.contains(r#""SecurityContext":{"HostNetwork":true,"HostPID":false"#),
            "{text}"
        );
    }

    #[test]
    fn selectors_keep_their_wire_names() {
        let selector = node!({"matchExpressions": [{"operator": "In", "key": "a"}], "matchLabels": {"x": "<y>"}});
        assert_eq!(
            json("labelSelector", Some(&selector)),
            "{\"matchLabels\":{\"x\":\"\\u003cy\\u003e\"},\"matchExpressions\":[{\"key\":\"a\",\"operator\":\"In\"}]}"
        );
    }

    #[test]
    fn quantities_and_empty_lists_are_compared_by_meaning() {
        let (a, b) = (
            node!({"requests": {"cpu": "1000m"}, "claims": []}),
            node!({"requests": {"cpu": "1"}}),
        );
        assert!(equal("core.ResourceRequirements", Some(&a), Some(&b)));
        let c = node!({"requests": {"cpu": "2"}});
        assert!(!equal("core.ResourceRequirements", Some(&c), Some(&b)));
    }

    #[test]
    fn every_type_of_the_table_is_in_it() {
        for (name, fields) in TABLE.iter() {
            for field in fields {
                let base = field.kind.trim_start_matches(['*', '[', ']', '{', '}']);
                assert!(
                    !base.contains('.') || TABLE.contains_key(base),
                    "{name}.{} is a {base}",
                    field.shown
                );
            }
        }
    }
}
