//! Label and field selectors.

use serde_json::Value;

/// One `a=b`, `a!=b`, `a in (b,c)`, `a notin (b,c)`, `a` or `!a`. All of a selector's must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    /// `None` asks only whether there is such a label.
    values: Option<Vec<String>>,
    negated: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
}

/// Fields that can be selected by, besides name and namespace.
const FIELDS: &[&str] = &["metadata.name", "metadata.namespace", "spec.carrier", "status.phase"];

impl Selector {
    pub fn parse(labels: &str, fields: &str) -> Result<Selector, String> {
        let labels = split(labels)
            .into_iter()
            .map(requirement)
            .collect::<Result<Vec<_>, _>>()?;
        let fields = split(fields)
            .into_iter()
            .map(requirement)
            .collect::<Result<Vec<_>, _>>()?;
        match fields
            .iter()
            .find(|r| r.values.is_none() || !FIELDS.contains(&r.key.as_str()))
        {
            Some(r) => Err(format!("field label not supported: {}", r.key)),
            None => Ok(Selector { labels, fields }),
        }
    }

    pub fn matches(&self, object: &Value) -> bool {
        let label = |key: &str| object["metadata"]["labels"].get(key).and_then(Value::as_str);
        let field = |key: &str| {
            key.split('.')
                .fold(object, |node, part| &node[part])
                .as_str()
                .or(Some(""))
        };
        self.labels.iter().all(|r| r.holds(label(&r.key))) && self.fields.iter().all(|r| r.holds(field(&r.key)))
    }
}

impl Requirement {
    fn holds(&self, actual: Option<&str>) -> bool {
        let found = match (&self.values, actual) {
            (None, actual) => actual.is_some(),
            (Some(_), None) => false,
            (Some(values), Some(actual)) => values.iter().any(|v| v == actual),
        };
        found != self.negated
    }
}

/// Splits at commas outside parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_i32, 0);
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.into_iter().map(str::trim).filter(|p| !p.is_empty()).collect()
}

fn requirement(text: &str) -> Result<Requirement, String> {
    let make = |key: &str, values: Option<Vec<String>>, negated| match key.trim() {
        "" => Err(format!("unable to parse requirement: {text:?} has no key")),
        key if key.contains(['(', ')', ' ']) => Err(format!("unable to parse requirement: {text:?}")),
        key => Ok(Requirement {
            key: key.into(),
            values,
            negated,
        }),
    };
    for (word, negated) in [(" notin ", true), (" in ", false)] {
        if let Some((key, set)) = text.split_once(word) {
            let set = set.trim().strip_prefix('(').and_then(|s| s.strip_suffix(')'));
            let set = set.ok_or_else(|| format!("unable to parse requirement: {text:?} has no list"))?;
            return make(
                key,
                Some(set.split(',').map(|v| v.trim().to_owned()).collect()),
                negated,
            );
        }
    }
    for (sign, negated) in [("!=", true), ("==", false), ("=", false)] {
        if let Some((key, value)) = text.split_once(sign) {
            return make(key, Some(vec![value.trim().to_owned()]), negated);
        }
    }
    match text.strip_prefix('!') {
        Some(key) => make(key, None, true),
        None => make(text, None, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_select() {
        let object = json!({"metadata": {"name": "x", "labels": {"a": "b"}}, "spec": {"carrier": "post"}});
        for (labels, fields, expected) in [
            ("", "", true),
            ("a=b", "", true),
            ("a==c", "", false),
            ("a!=c,z!=c", "", true),
            ("a in (b, c),!z", "", true),
            ("a notin (b)", "", false),
            ("z notin (b)", "", true),
            ("a", "metadata.name=x", true),
            ("", "metadata.name!=x", false),
            ("", "spec.carrier=post,status.phase=", true),
        ] {
            assert_eq!(
                Selector::parse(labels, fields).unwrap().matches(&object),
                expected,
                "{labels} {fields}"
            );
        }
        assert!(Selector::parse("", "spec.secret=x").is_err());
        assert!(Selector::parse("a in b", "").is_err());
        assert!(Selector::parse("=b", "").is_err());
    }
}
