//! Paths into a schema: `fieldPath` of rules and `jsonPath` of selectable fields.
//!
//! Source: apiextensions-apiserver pkg/apiserver/schema/cel/validation.go (ValidFieldPath).

use super::props::{members, present};
use fairlead_api::{FieldPath, Node};
use fairlead_schema::{Shape, TypeRef};

/// Whether a path may look into maps and quote names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Brackets {
    Allowed,
    Refused,
}

/// A schema that paths can be followed in.
pub trait Place: Copy {
    fn has_properties(self) -> bool;
    fn property(self, name: &str) -> Option<Self>;
    /// The schema of other values; `None` inside where there is none but values are taken.
    fn values(self) -> Option<Option<Self>>;
}

impl<'a> Place for &'a Node {
    fn has_properties(self) -> bool {
        members(self, "properties").next().is_some()
    }

    fn property(self, name: &str) -> Option<&'a Node> {
        self.at(&["properties", name])
    }

    fn values(self) -> Option<Option<&'a Node>> {
        present(self, "additionalProperties").map(|values| Some(values).filter(|v| matches!(v, Node::Map(_))))
    }
}

impl Place for TypeRef<'_> {
    fn has_properties(self) -> bool {
        matches!(self.shape(), Shape::Struct(fields) if !fields.fields.is_empty())
    }

    fn property(self, name: &str) -> Option<Self> {
        self.field(name).map(|f| self.with(f.ty))
    }

    fn values(self) -> Option<Option<Self>> {
        match self.shape() {
            Shape::Map(values) => Some(Some(self.with(*values))),
            _ => None,
        }
    }
}

/// What a path leads to.
#[derive(Debug)]
pub struct Found<P> {
    /// As errors show it: without the first dot, map keys in brackets.
    pub path: FieldPath,
    /// The first name.
    pub root: String,
    pub schema: Option<P>,
}

/// Follows `.a.b['c']` through a schema.
///
/// # Errors
/// Upstream's words for why it leads nowhere.
pub fn find<P: Place>(path: &str, schema: P, brackets: Brackets) -> Result<Found<P>, String> {
    let mut tokens = Tokens { rest: path };
    let mut found = Found {
        path: FieldPath::root(),
        root: String::new(),
        schema: Some(schema),
    };
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

impl<P: Place> Found<P> {
    fn step(&mut self, name: &str) -> Result<(), String> {
        const NOWHERE: &str = "does not refer to a valid field";
        if self.root.is_empty() {
            self.root = name.into();
        }
        let schema = self.schema.ok_or(NOWHERE)?;
        if schema.has_properties() {
            self.path = self.path.child(name);
            self.schema = Some(schema.property(name).ok_or(NOWHERE)?);
        } else if let Some(values) = schema.values() {
            self.path = self.path.key(name);
            self.schema = values;
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
        assert_eq!(
            find(".m['x']", &schema, Brackets::Refused).unwrap_err(),
            "array notation is not allowed"
        );
    }
}
