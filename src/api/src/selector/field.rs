//! [`FieldSelector`]: equalities on fields, all of which must hold.

use super::SelectorError;
use compact_str::CompactString;
use std::fmt;

/// Requirements in the order of their text; the default selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    pub requirements: Vec<FieldRequirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRequirement {
    pub field: CompactString,
    pub value: CompactString,
    /// `!=` instead of `=`.
    pub negated: bool,
}

impl FieldSelector {
    /// Reads `a=b,c!=d`; `\`, `,` and `=` in values are escaped with a backslash.
    pub fn parse(text: &str) -> Result<FieldSelector, SelectorError> {
        let mut terms = split_terms(text);
        terms.sort_unstable();
        let mut requirements = Vec::new();
        for term in terms.into_iter().filter(|t| !t.is_empty()) {
            let Some((field, operator, value)) = split_term(term) else {
                return Err(SelectorError(format!(
                    "invalid selector: '{text}'; can't understand '{term}'"
                )));
            };
            requirements.push(FieldRequirement {
                field: field.into(),
                value: unescape(value)?.into(),
                negated: operator == "!=",
            });
        }
        Ok(FieldSelector { requirements })
    }

    /// `field=value` alone.
    pub fn equal(field: &str, value: &str) -> FieldSelector {
        FieldSelector {
            requirements: vec![FieldRequirement {
                field: field.into(),
                value: value.into(),
                negated: false,
            }],
        }
    }

    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether fields, looked up by name, satisfy all requirements. Absent fields read as empty.
    pub fn matches_with<'a>(&self, lookup: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements
            .iter()
            .all(|r| r.matches(lookup(&r.field).unwrap_or("")))
    }

    /// The one value that `field` must have, if there is one.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.requirements
            .iter()
            .find(|r| r.field == field && !r.negated)
            .map(|r| r.value.as_str())
    }
}

impl FieldRequirement {
    pub fn matches(&self, value: &str) -> bool {
        (self.value == value) != self.negated
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for (i, r) in self.requirements.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let operator = if r.negated { "!=" } else { "=" };
            write!(f, "{comma}{}{operator}{}", r.field, escape(&r.value))?;
        }
        Ok(())
    }
}

/// A value as it must be written in a selector.
pub fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=")
}

fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let mut start = 0;
    let mut escaped = false;
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn split_term(term: &str) -> Option<(&str, &str, &str)> {
    let at = term.find(['=', '!']).and_then(|first| {
        term[first..]
            .char_indices()
            .map(|(i, _)| first + i)
            .find(|i| term[*i..].starts_with("!=") || term[*i..].starts_with('='))
    })?;
    let operator = ["!=", "==", "="].into_iter().find(|o| term[at..].starts_with(o))?;
    Some((&term[..at], operator, &term[at + operator.len()..]))
}

fn unescape(value: &str) -> Result<String, SelectorError> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                other => {
                    let sequence: String = ['\\'].into_iter().chain(other).collect();
                    return Err(SelectorError(format!(
                        "invalid field selector: invalid escape sequence: {sequence}"
                    )));
                }
            },
            ',' | '=' => {
                return Err(SelectorError(format!(
                    "invalid field selector: unescaped character in value: {}",
                    c as u32
                )));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_parse_and_match() {
        let s = FieldSelector::parse(r"status.phase!=Running,metadata.name=a\,b\=c").unwrap();
        assert_eq!(s.exact("metadata.name"), Some("a,b=c"));
        assert_eq!(s.to_string(), r"metadata.name=a\,b\=c,status.phase!=Running");
        assert!(s.matches_with(|f| (f == "metadata.name").then_some("a,b=c")));
        assert!(FieldSelector::parse("").unwrap().is_empty());
        assert!(FieldSelector::parse("a==b,").unwrap().matches_with(|_| Some("b")));
    }

    #[test]
    fn errors_read_as_upstream() {
        for (text, error) in [
            (
                "metadata.name",
                "invalid selector: 'metadata.name'; can't understand 'metadata.name'",
            ),
            ("a=b=c", "invalid field selector: unescaped character in value: 61"),
            (r"a=\q", r"invalid field selector: invalid escape sequence: \q"),
            (r"a=x\", r"invalid field selector: invalid escape sequence: \"),
        ] {
            assert_eq!(FieldSelector::parse(text).unwrap_err().0, error, "{text}");
        }
    }
}
