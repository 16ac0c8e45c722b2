//! Paths into a schema: `fieldPath` of rules and `jsonPath` of selectable fields.
//!
//! Source: apiextensions-apiserver pkg/apiserver/schema/cel/validation.go (ValidFieldPath).

use super::props::{members, present};
use fairlead_api::{FieldPath, Node};

/// Whether a path may look into maps and quote names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Brackets {
    Allowed,
    Refused,
}

/// What a path leads to.
#[derive(Debug)]
pub struct Found<'a> {
    /// As errors show it: without the first dot, map keys in brackets.
    pub path: FieldPath,
    /// The first name.
    pub root: String,
    pub schema: Option<&'a Node>,
}

/// Follows `.a.b['c']` through a schema.
///
/// # Errors
/// Upstream's words for why it leads nowhere.
pub fn find<'a>(path: &str, schema: &'a Node, brackets: Brackets) -> Result<Found<'a>, String> {
    let mut tokens = Tokens { rest: path };
    let mut found = Found { path: FieldPath::root(), root: String::new(), schema: Some(schema) };
    while let Some(token) = tokens.next() {
        match token {
            "[" => {
                if brackets == Brackets::Refused {
                    return Err("array notation is not allowed".into());
                }
                let quoted = tokens.next().ok_or("unexpected end of JSON path")?;
                let inner = quoted
                    .strip_prefix('\'')
                    .and_then(|q| q.strip_suffix('\''))
                    .ok_or_else(|| format!("expected single quoted string but got {quoted}"))?;
                let name = unescape(inner).map_err(|e| format!("invalid string literal: {e}"))?;
                found.step(&name)?;
                match tokens.next() {
                    None => return Err("unexpected end of JSON path".into()),
                    Some("]") => {}
                    Some(other) => return Err(format!("expected ] but got {other}")),
                }
            }
            "." => {
                let name = tokens.next().ok_or("unexpected end of JSON path")?;
                found.step(name)?;
            }
            other => return Err(format!("expected [ or . but got: {other}")),
        }
    }
    Ok(found)
}

impl<'a> Found<'a> {
    fn step(&mut self, name: &str) -> Result<(), String> {
        const NOWHERE: &str = "does not refer to a valid field";
        if self.root.is_empty() {
            self.root = name.into();
        }
        let schema = self.schema.ok_or(NOWHERE)?;
        if members(schema, "properties").next().is_some() {
            self.path = self.path.child(name);
            self.schema = Some(schema.at(&["properties", name]).ok_or(NOWHERE)?);
        } else if let Some(values) = present(schema, "additionalProperties") {
            self.path = self.path.key(name);
            self.schema = Some(values).filter(|v| matches!(v, Node::Map(_)));
        } else {
            return Err(NOWHERE.into());
        }
        Ok(())
    }
}

/// Delimiters, quoted strings and names. A string that does not end swallows the rest.
struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest;
        let bytes = rest.as_bytes();
        let end = match bytes.first()? {
            b'.' | b'[' | b']' => 1,
            b'\'' => {
                let end = (1..bytes.len()).find(|&i| bytes[i] == b'\'' && bytes[i - 1] != b'\\');
                end.map_or(bytes.len(), |i| i + 1)
            }
            _ => rest.find(['.', '[', ']']).unwrap_or(rest.len()),
        };
        self.rest = &rest[end..];
        Some(&rest[..end])
    }
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            None => out.push('\\'),
            Some('a') => out.push('\u{7}'),
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('v') => out.push('\u{b}'),
            Some(c @ ('\'' | '\\')) => out.push(c),
            Some(other) => return Err(format!("invalid escape char \\{other}")),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn paths_lead_to_fields_and_map_values() {
        let schema = node!({"properties": {
            "a": {"properties": {"b.c": {"type": "string"}}},
            "m": {"additionalProperties": {"type": "integer"}},
            "l": {"type": "array", "items": {"type": "string"}},
        }});
        let found = |path: &str| {
            find(path, &schema, Brackets::Allowed).map(|f| (f.path.to_string(), f.schema.map_or("", |s| s.str("type"))))
        };
        assert_eq!(found(".a['b.c']"), Ok(("a.b.c".into(), "string")));
        assert_eq!(found(".m.x"), Ok(("m[x]".into(), "integer")));
        for (path, error) in [
            ("a", "expected [ or . but got: a"),
            (".z", "does not refer to a valid field"),
            (".l[0]", "expected single quoted string but got 0"),
            (".", "unexpected end of JSON path"),
            (".m['x", "expected single quoted string but got 'x"),
            (".m['\\q']", "invalid string literal: invalid escape char \\q"),
        ] {
            assert_eq!(found(path), Err(error.into()), "{path}");
        }
        assert_eq!(find(".m['x']", &schema, Brackets::Refused).unwrap_err(), "array notation is not allowed");
    }
}
