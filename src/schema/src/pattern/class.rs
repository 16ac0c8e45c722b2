//! Bracketed classes, which Rust reads with set operations and nesting that Go does not know.

use super::translate::{DIGIT, Reader, SPACE, WORD, character, push_literal, unicode_class};

const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

/// Translates the class that starts at the reader's position.
pub(super) fn translate(reader: &mut Reader) -> Result<(), String> {
    let whole = reader.rest();
    let missing = || format!("missing closing ]: `{whole}`");
    reader.at += 1;
    reader.out.push('[');
    if reader.peek() == Some('^') {
        reader.at += 1;
        reader.out.push('^');
    }
    let mut first = true;
    loop {
        let rest = reader.rest();
        let Some(c) = rest.chars().next() else {
            return Err(missing());
        };
        if c == ']' && !first {
            reader.at += 1;
            reader.out.push(']');
            return Ok(());
        }
        first = false;
        if rest.starts_with("[:")
            && let Some(end) = rest[2..].find(":]")
        {
            let text = &rest[..end + 4];
            let name = rest[2..2 + end].trim_start_matches('^');
            if !POSIX.contains(&name) {
                return Err(format!("invalid character class range: `{text}`"));
            }
            reader.out.push_str(text);
            reader.at += text.len();
            continue;
        }
        if let Some(set) = perl(rest) {
            reader.out.push_str(&set);
            reader.at += 2;
            continue;
        }
        if rest.starts_with("\\p") || rest.starts_with("\\P") {
            let text = unicode_class(rest)?;
            reader.out.push_str(text);
            reader.at += text.len();
            continue;
        }
        let start = reader.at;
        let low = one(reader)?;
        // `a-]` ends the class with a literal dash.
        let range = reader
            .rest()
            .strip_prefix('-')
            .filter(|r| !r.starts_with(']') && !r.is_empty())
            .is_some();
        if !range {
            push_literal(low, &mut reader.out);
            continue;
        }
        reader.at += 1;
        let high = one(reader)?;
        if high < low {
            return Err(format!(
                "invalid character class range: `{}`",
                &reader.source[start..reader.at]
            ));
        }
        push_literal(low, &mut reader.out);
        reader.out.push('-');
        push_literal(high, &mut reader.out);
    }
}

fn one(reader: &mut Reader) -> Result<char, String> {
    let rest = reader.rest();
    let (c, length) = match rest.chars().next() {
        Some('\\') => character(rest)?,
        Some(c) => (c, c.len_utf8()),
        None => return Err(format!("missing closing ]: `{}`", reader.source)),
    };
    reader.at += length;
    Ok(c)
}

fn perl(rest: &str) -> Option<String> {
    Some(match rest.get(..2)? {
        "\\d" => DIGIT.to_owned(),
        "\\w" => WORD.to_owned(),
        "\\s" => SPACE.to_owned(),
        "\\D" => format!("[^{DIGIT}]"),
        "\\W" => format!("[^{WORD}]"),
        "\\S" => format!("[^{SPACE}]"),
        _ => return None,
    })
}
