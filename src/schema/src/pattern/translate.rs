//! One pass over a Go expression, writing the equivalent for the `regex` crate.

use super::class;
use std::fmt::Write;

pub(super) const DIGIT: &str = "0-9";
pub(super) const WORD: &str = "0-9A-Za-z_";
pub(super) const SPACE: &str = r"\t\n\x0C\r ";

/// The translation, or Go's message about the first mistake.
pub(super) fn translate(source: &str) -> Result<String, String> {
    let mut reader = Reader {
        source,
        at: 0,
        out: String::with_capacity(source.len() + 8),
    };
    let mut open = 0usize;
    // Where the last repetition operator began, while nothing stands behind it.
    let mut repeated: Option<usize> = None;
    let mut something = false;
    while let Some(c) = reader.peek() {
        let start = reader.at;
        match c {
            '*' | '+' | '?' => {
                reader.at += 1;
                reader.lazy();
                repetition(&mut reader, start, &mut repeated, something)?;
                continue;
            }
            '{' => {
                if let Some(end) = counted(reader.rest()) {
                    let text = &reader.rest()[..end];
                    check_count(text)?;
                    reader.at += end;
                    reader.lazy();
                    repetition(&mut reader, start, &mut repeated, something)?;
                    continue;
                }
                reader.at += 1;
                reader.out.push_str(r"\{");
            }
            '(' => {
                repeated = None;
                if reader.group()? {
                    open += 1;
                    something = false;
                }
                continue;
            }
            ')' => {
                if open == 0 {
                    return Err(format!("unexpected ): `{source}`"));
                }
                open -= 1;
                reader.copy(1);
            }
            '|' => {
                reader.copy(1);
                (something, repeated) = (false, None);
                continue;
            }
            '[' => class::translate(&mut reader)?,
            '\\' => reader.escape()?,
            ']' | '}' => {
                reader.at += 1;
                write!(reader.out, "\\{c}").expect("writing to a String cannot fail");
            }
            c => reader.copy(c.len_utf8()),
        }
        (something, repeated) = (true, None);
    }
    if open > 0 {
        return Err(format!("missing closing ): `{source}`"));
    }
    Ok(reader.out)
}

pub(super) struct Reader<'a> {
    pub source: &'a str,
    pub at: usize,
    pub out: String,
}

impl<'a> Reader<'a> {
    pub fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn copy(&mut self, length: usize) {
        self.out.push_str(&self.source[self.at..self.at + length]);
        self.at += length;
    }

    fn lazy(&mut self) {
        if self.peek() == Some('?') {
            self.at += 1;
        }
    }

    /// Reads what opens a group, and says whether it did: a bare `(?i)` does not.
    fn group(&mut self) -> Result<bool, String> {
        let rest = self.rest();
        let Some(inner) = rest.strip_prefix("(?") else {
            self.copy(1);
            return Ok(true);
        };
        let named = inner
            .strip_prefix("P<")
            .or_else(|| inner.strip_prefix('<').filter(|n| !n.starts_with(['=', '!'])));
        if let Some(named) = named {
            let Some((name, _)) = named.split_once('>') else {
                return Err(format!("invalid named capture: `{rest}`"));
            };
            let end = rest.len() - named.len() + name.len() + 1;
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                return Err(format!("invalid named capture: `{}`", &rest[..end]));
            }
            // Names mean nothing to a match, and Rust takes fewer of them.
            self.out.push('(');
            self.at += end;
            return Ok(true);
        }
        let end = inner.find(|c| !"imsU-".contains(c)).unwrap_or(inner.len());
        let flags = &inner[..end];
        let after = inner[end..].chars().next();
        match after {
            Some(':' | ')') if !flags.ends_with('-') && flags.matches('-').count() < 2 => {
                let opens = after == Some(':');
                if opens || !flags.is_empty() {
                    self.out.push_str(&rest[..2 + end + 1]);
                }
                self.at += 2 + end + 1;
                Ok(opens)
            }
            after => {
                let end = 2 + end + after.map_or(0, char::len_utf8);
                Err(format!("invalid or unsupported Perl syntax: `{}`", &rest[..end]))
            }
        }
    }

    fn escape(&mut self) -> Result<(), String> {
        let rest = self.rest();
        let Some(c) = rest[1..].chars().next() else {
            return Err("trailing backslash at end of expression: ``".into());
        };
        let perl = match c {
            'd' => format!("[{DIGIT}]"),
            'D' => format!("[^{DIGIT}]"),
            'w' => format!("[{WORD}]"),
            'W' => format!("[^{WORD}]"),
            's' => format!("[{SPACE}]"),
            'S' => format!("[^{SPACE}]"),
            'b' => r"(?-u:\b)".to_owned(),
            'B' => r"\B".to_owned(),
            'A' | 'z' => rest[..2].to_owned(),
            'Q' => {
                let (literal, length) = match rest[2..].find(r"\E") {
                    Some(end) => (&rest[2..2 + end], end + 4),
                    None => (&rest[2..], rest.len()),
                };
                self.out.push_str(&format!("(?:{})", regex_syntax::escape(literal)));
                self.at += length;
                return Ok(());
            }
            'p' | 'P' => {
                let name = unicode_class(rest)?;
                self.out.push_str(name);
                self.at += name.len();
                return Ok(());
            }
            _ => {
                let (value, length) = character(rest)?;
                push_literal(value, &mut self.out);
                self.at += length;
                return Ok(());
            }
        };
        self.out.push_str(&perl);
        self.at += 2;
        Ok(())
    }
}

fn repetition(reader: &mut Reader, start: usize, repeated: &mut Option<usize>, something: bool) -> Result<(), String> {
    let operator = &reader.source[start..reader.at];
    if !something {
        return Err(format!("missing argument to repetition operator: `{}`", operator));
    }
    if let Some(first) = repeated {
        return Err(format!(
            "invalid nested repetition operator: `{}`",
            &reader.source[*first..reader.at]
        ));
    }
    reader.out.push_str(operator);
    *repeated = Some(start);
    Ok(())
}

/// The length of `{n}`, `{n,}` or `{n,m}` at the start of a text; anything else is literal.
fn counted(text: &str) -> Option<usize> {
    let end = text.find('}')?;
    let (low, high) = match text[1..end].split_once(',') {
        Some((low, high)) => (low, high),
        None => (&text[1..end], "0"),
    };
    let number = |t: &str| t.bytes().all(|b| b.is_ascii_digit()) && !(t.len() > 1 && t.starts_with('0'));
    (!low.is_empty() && number(low) && number(high)).then_some(end + 1)
}

fn check_count(text: &str) -> Result<(), String> {
    let bad = || format!("invalid repeat count: `{text}`");
    let bounds: Vec<&str> = text[1..text.len() - 1].split(',').filter(|t| !t.is_empty()).collect();
    let numbers: Option<Vec<u32>> = bounds.iter().map(|t| t.parse().ok().filter(|n| *n <= 1000)).collect();
    match numbers.as_deref() {
        Some([low, high]) if low > high => Err(bad()),
        Some(_) => Ok(()),
        None => Err(bad()),
    }
}

/// `\pL` or `\p{Greek}` as it stands, when Rust knows it too.
pub(super) fn unicode_class(rest: &str) -> Result<&str, String> {
    let end = match rest[2..].chars().next() {
        Some('{') => rest.find('}').map(|i| i + 1),
        Some(c) => Some(2 + c.len_utf8()),
        None => None,
    };
    let Some(end) = end else {
        return Err(format!("invalid character class range: `{rest}`"));
    };
    let text = &rest[..end];
    match regex_syntax::Parser::new().parse(text) {
        Ok(_) => Ok(text),
        Err(_) => Err(format!("invalid character class range: `{text}`")),
    }
}

/// One escaped character and the length of its text.
pub(super) fn character(rest: &str) -> Result<(char, usize), String> {
    let mut chars = rest[1..].chars();
    let Some(c) = chars.next() else {
        return Err("trailing backslash at end of expression: ``".into());
    };
    let bad = |length: usize| {
        Err(format!(
            "invalid escape sequence: `{}`",
            &rest[..length.min(rest.len())]
        ))
    };
    match c {
        '0'..='7' => {
            let digits = rest[1..]
                .bytes()
                .take(3)
                .take_while(|b| (b'0'..b'8').contains(b))
                .count();
            // One digit but zero is a back reference, which neither engine has.
            if c != '0' && digits < 2 {
                return bad(2);
            }
            let value = u32::from_str_radix(&rest[1..=digits], 8).expect("octal digits");
            Ok((char::from_u32(value).expect("below 512"), 1 + digits))
        }
        'x' => {
            let (digits, length) = match rest[2..].strip_prefix('{') {
                Some(inner) => match inner.find('}') {
                    Some(end) => (&inner[..end], end + 4),
                    None => return bad(rest.len()),
                },
                None => match rest.get(2..4) {
                    Some(digits) => (digits, 4),
                    None => return bad(rest.len()),
                },
            };
            let value = u32::from_str_radix(digits, 16)
                .ok()
                .filter(|_| digits.bytes().all(|b| b.is_ascii_hexdigit()));
            match value.and_then(char::from_u32) {
                Some(value) => Ok((value, length)),
                None => bad(length),
            }
        }
        'a' => Ok(('\u{7}', 2)),
        'f' => Ok(('\u{c}', 2)),
        'n' => Ok(('\n', 2)),
        'r' => Ok(('\r', 2)),
        't' => Ok(('\t', 2)),
        'v' => Ok(('\u{b}', 2)),
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => Ok((c, 2)),
        c => bad(1 + c.len_utf8()),
    }
}

pub(super) fn push_literal(c: char, out: &mut String) {
    write!(out, "\\x{{{:X}}}", c as u32).expect("writing to a String cannot fail");
}
