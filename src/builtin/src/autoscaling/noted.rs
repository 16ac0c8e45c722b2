//! How the older version notes the newer one's fields in annotations: JSON in the order of Go's fields.

use fairlead_api::{Node, json};

/// The fields of the noted structs; no two of them disagree about the order.
const ORDER: &[&str] = &[
    "type",
    "status",
    "lastTransitionTime",
    "reason",
    "message",
    "object",
    "pods",
    "resource",
    "containerResource",
    "external",
    "kind",
    "target",
    "name",
    "apiVersion",
    "metricName",
    "metricSelector",
    "targetValue",
    "currentValue",
    "targetAverageUtilization",
    "currentAverageUtilization",
    "targetAverageValue",
    "currentAverageValue",
    "selector",
    "averageValue",
    "container",
    "matchLabels",
    "matchExpressions",
];

/// The behavior is noted in a form without field tags: JSON names and the names it is noted under, in order.
const BEHAVIOR: &[(&str, &str)] = &[("scaleUp", "ScaleUp"), ("scaleDown", "ScaleDown")];
const RULES: &[(&str, &str)] = &[
    ("stabilizationWindowSeconds", "StabilizationWindowSeconds"),
    ("selectPolicy", "SelectPolicy"),
    ("policies", "Policies"),
    ("tolerance", "Tolerance"),
];
const POLICY: &[(&str, &str)] = &[("type", "Type"), ("value", "Value"), ("periodSeconds", "PeriodSeconds")];

/// Metrics and conditions as text.
pub fn text(value: &Node) -> String {
    let mut out = Vec::new();
    write(value, &mut out);
    String::from_utf8(out).expect("the writer writes UTF-8")
}

fn write(value: &Node, out: &mut Vec<u8>) {
    match value {
        Node::List(items) => sequence(items.iter(), (b'[', b']'), out, write),
        Node::Map(map) => {
            let mut members: Vec<_> = map.iter().collect();
            members.sort_by_key(|(key, _)| ORDER.iter().position(|known| known == key).unwrap_or(ORDER.len()));
            sequence(members.into_iter(), (b'{', b'}'), out, |(key, value), out| {
                json::write_str(key, out);
                out.push(b':');
                write(value, out);
            });
        }
        scalar => json::write(scalar, out),
    }
}

fn sequence<T>(items: impl Iterator<Item = T>, ends: (u8, u8), out: &mut Vec<u8>, item: impl Fn(T, &mut Vec<u8>)) {
    out.push(ends.0);
    for (i, value) in items.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        item(value, out);
    }
    out.push(ends.1);
}

/// A behavior as text.
pub fn behavior_text(behavior: &Node) -> String {
    let mut out = Vec::new();
    untagged(behavior, BEHAVIOR, &mut out, |rules, out| {
        untagged(rules, RULES, out, |value, out| match value {
            Node::List(policies) => sequence(policies.iter(), (b'[', b']'), out, |policy, out| {
                untagged(policy, POLICY, out, json::write);
            }),
            scalar => json::write(scalar, out),
        });
    });
    String::from_utf8(out).expect("the writer writes UTF-8")
}

fn untagged(value: &Node, names: &[(&str, &str)], out: &mut Vec<u8>, inner: impl Fn(&Node, &mut Vec<u8>)) {
    sequence(names.iter(), (b'{', b'}'), out, |(name, noted), out| {
        json::write_str(noted, out);
        out.push(b':');
        match value.get(name) {
            Some(value) => inner(value, out),
            None => out.extend_from_slice(b"null"),
        }
    });
}

/// The behavior a text notes; names are read in any case, as Go does. `None` for no behavior at all.
pub fn behavior(text: &str) -> Option<Node> {
    let noted = json::parse(text.as_bytes()).ok()?;
    let rules = |noted: &Node| {
        let mut rules = renamed(noted, RULES);
        if let Some(Node::List(policies)) = rules.get_mut("policies") {
            policies.iter_mut().for_each(|policy| *policy = renamed(policy, POLICY));
        }
        rules
    };
    let mut behavior = renamed(&noted, BEHAVIOR);
    for (_, value) in behavior.as_map_mut()?.iter_mut() {
        *value = rules(value);
    }
    (!behavior.is_zero()).then_some(behavior)
}

fn renamed(noted: &Node, names: &[(&str, &str)]) -> Node {
    let mut out = Node::map();
    for (key, value) in noted.as_map().into_iter().flat_map(fairlead_api::Map::iter) {
        if let Some((name, _)) = names.iter().find(|(name, _)| name.eq_ignore_ascii_case(key))
            && !value.is_null()
        {
            out.set(name, value.clone());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn behavior_survives() {
        let value = node!({"scaleUp": {"selectPolicy": "Max", "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]}});
        let text = behavior_text(&value);
        assert!(
            text.starts_with(
                r#"{"ScaleUp":{"StabilizationWindowSeconds":null,"SelectPolicy":"Max","Policies":[{"Type":"Pods""#
            ),
            "{text}"
        );
        assert_eq!(behavior(&text), Some(value));
    }
}
