//! Names of fields that are no CEL identifiers, written as ones: `a-b` is `a__dash__b`.
//!
//! Source of the rules: kubernetes/apiserver pkg/cel/escaping.go.

/// Words CEL keeps for itself.
const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];
const MARKS: [(char, &str); 3] = [('.', "__dot__"), ('-', "__dash__"), ('/', "__slash__")];

/// Whether a word is CEL's own.
pub fn is_reserved(word: &str) -> bool {
    RESERVED.contains(&word)
}

/// The identifier a field is written as; `None` where it cannot be written.
pub fn escape(name: &str) -> Option<String> {
    let first = name.chars().next()?;
    if first.is_ascii_digit() {
        return None;
    }
    if is_reserved(name) {
        return Some(format!("__{name}__"));
    }
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("__") {
            out.push_str("__underscores__");
            rest = after;
            continue;
        }
        if let Some((_, mark)) = MARKS.iter().find(|(m, _)| *m == c) {
            out.push_str(mark);
        } else if c.is_ascii_alphanumeric() || c == '_' {
            out.push(c);
        } else {
            return None;
        }
        rest = &rest[c.len_utf8()..];
    }
    Some(out)
}

/// The field an identifier stands for; `None` where it stands for itself.
pub fn unescape(ident: &str) -> Option<String> {
    if !ident.contains("__") {
        return None;
    }
    if let Some(word) = ident.strip_prefix("__").and_then(|i| i.strip_suffix("__"))
        && is_reserved(word)
    {
        return Some(word.into());
    }
    let mut out = String::with_capacity(ident.len());
    let mut rest = ident;
    'next: while let Some(c) = rest.chars().next() {
        for (mark, escaped) in MARKS {
            if let Some(after) = rest.strip_prefix(escaped) {
                out.push(mark);
                rest = after;
                continue 'next;
            }
        }
        if let Some(after) = rest.strip_prefix("__underscores__") {
            out.push_str("__");
            rest = after;
            continue;
        }
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        for (name, ident) in [
            ("a", "a"),
            ("a-b", "a__dash__b"),
            ("a.b", "a__dot__b"),
            ("a/b", "a__slash__b"),
            ("a__b", "a__underscores__b"),
            ("namespace", "__namespace__"),
            ("int", "int"),
        ] {
            assert_eq!(escape(name).as_deref(), Some(ident));
            assert_eq!(unescape(ident).unwrap_or_else(|| ident.into()), name);
        }
        for name in ["", "1a", "a b", "é"] {
            assert_eq!(escape(name), None, "{name}");
        }
    }
}
