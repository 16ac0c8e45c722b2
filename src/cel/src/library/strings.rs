//! The strings library, version 2. Indices count characters.
//!
//! Source: cel-go ext/strings.go.
// PERFORMANCE: per-request path

use super::Row;
use super::standard::strings as two;
use crate::value::{EvalError, Result, Value};

pub const FUNCTIONS: &[Row] = &[
    ("charAt", &[("string_char_at_int", "string.(int) -> string")], char_at),
    ("lowerAscii", &[("string_lower_ascii", "string.() -> string")], |args| {
        Ok(Value::string(text(args)?.to_ascii_lowercase()))
    }),
    ("upperAscii", &[("string_upper_ascii", "string.() -> string")], |args| {
        Ok(Value::string(text(args)?.to_ascii_uppercase()))
    }),
    ("trim", &[("string_trim", "string.() -> string")], |args| {
        Ok(Value::string(trim(text(args)?).to_owned()))
    }),
    (
        "replace",
        &[
            ("string_replace_string_string", "string.(string, string) -> string"),
            (
                "string_replace_string_string_int",
                "string.(string, string, int) -> string",
            ),
        ],
        replace,
    ),
    (
        "split",
        &[
            ("string_split_string", "string.(string) -> list(string)"),
            ("string_split_string_int", "string.(string, int) -> list(string)"),
        ],
        split,
    ),
    (
        "substring",
        &[
            ("string_substring_int", "string.(int) -> string"),
            ("string_substring_int_int", "string.(int, int) -> string"),
        ],
        substring,
    ),
    (
        "join",
        &[
            ("list_join", "list(string).() -> string"),
            ("list_join_string", "list(string).(string) -> string"),
        ],
        join,
    ),
    ("strings.quote", &[("strings_quote", "(string) -> string")], |args| {
        Ok(Value::string(quote(text(args)?)))
    }),
];

fn text<'v>(args: &'v [Value]) -> Result<&'v str> {
    args[0].as_str().ok_or_else(EvalError::no_such_overload)
}

fn int(args: &[Value], index: usize) -> Result<i64> {
    match args[index] {
        Value::Int(i) => Ok(i),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn out_of_range(index: i64) -> EvalError {
    EvalError::new(format!("index out of range: {index}"))
}

fn char_at<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    let (text, index) = (text(args)?, int(args, 1)?);
    let at = usize::try_from(index).map_err(|_| out_of_range(index))?;
    match text.chars().nth(at) {
        Some(c) => Ok(Value::string(c.to_string())),
        None if at == text.chars().count() => Ok(Value::string("")),
        None => Err(out_of_range(index)),
    }
}

/// Go's idea of white space at both ends.
fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() && !matches!(c, '\u{1c}'..='\u{1f}'))
}

fn replace<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    let (text, old) = two(args)?;
    let new = args[2].as_str().ok_or_else(EvalError::no_such_overload)?;
    let limit = if args.len() > 3 { int(args, 3)? } else { -1 };
    Ok(Value::string(match usize::try_from(limit) {
        Ok(limit) => text.replacen(old, new, limit),
        Err(_) => text.replace(old, new),
    }))
}

fn split<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    let (text, separator) = two(args)?;
    let limit = if args.len() > 2 { int(args, 2)? } else { -1 };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let parts: Vec<String> = if limit == 0 {
        Vec::new()
    } else if separator.is_empty() {
        characters(text, limit)
    } else {
        text.splitn(limit, separator).map(str::to_owned).collect()
    };
    Ok(Value::list(parts.into_iter().map(Value::string).collect()))
}

/// Single characters, the last part being all the rest where there are more than `limit`.
fn characters(text: &str, limit: usize) -> Vec<String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if parts.len() + 1 == limit {
            parts.push(rest.to_owned());
            break;
        }
        parts.push(c.to_string());
        rest = &rest[c.len_utf8()..];
    }
    parts
}

fn substring<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    let (text, start) = (text(args)?, int(args, 1)?);
    let length = text.chars().count() as i64;
    let end = if args.len() > 2 { int(args, 2)? } else { length };
    if args.len() > 2 && start > end {
        return Err(EvalError::new(format!(
            "invalid substring range. start: {start}, end: {end}"
        )));
    }
    for index in [start, end] {
        if !(0..=length).contains(&index) {
            return Err(out_of_range(index));
        }
    }
    Ok(Value::string(
        text.chars()
            .skip(start as usize)
            .take((end - start) as usize)
            .collect::<String>(),
    ))
}

fn join<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    let items = args[0].items().ok_or_else(EvalError::no_such_overload)?;
    let separator = match args.get(1) {
        None => "",
        Some(separator) => separator.as_str().ok_or_else(EvalError::no_such_overload)?,
    };
    let mut out = String::new();
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push_str(separator);
        }
        match item.as_str() {
            Some(text) => out.push_str(text),
            None => {
                return Err(EvalError::new(format!(
                    "join: invalid input: {}",
                    super::string_format::shown(item)
                )));
            }
        }
    }
    Ok(Value::string(out))
}

fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Where a string is in another, counted in characters.
pub fn index_of(args: &[Value]) -> Result<i64> {
    let (text, wanted) = two(args)?;
    let offset = if args.len() > 2 { int(args, 2)? } else { 0 };
    if wanted.is_empty() {
        return Ok(offset);
    }
    let start = usize::try_from(offset).map_err(|_| out_of_range(offset))?;
    let Some((byte, _)) = text.char_indices().nth(start) else {
        return Ok(-1);
    };
    Ok(text[byte..]
        .find(wanted)
        .map_or(-1, |i| (start + text[byte..byte + i].chars().count()) as i64))
}

/// Where a string is last in another, beginning no later than an offset.
pub fn last_index_of(args: &[Value]) -> Result<i64> {
    let (text, wanted) = two(args)?;
    let length = text.chars().count();
    if args.len() < 3 {
        if wanted.is_empty() {
            return Ok(length as i64);
        }
        return Ok(text.rfind(wanted).map_or(-1, |i| text[..i].chars().count() as i64));
    }
    let offset = int(args, 2)?;
    if wanted.is_empty() {
        return Ok(offset);
    }
    let offset = usize::try_from(offset).map_err(|_| out_of_range(offset))?;
    if offset >= length {
        return Ok(-1);
    }
    let found = text
        .char_indices()
        .enumerate()
        .take(offset + 1)
        .filter(|(_, (byte, _))| text[*byte..].starts_with(wanted))
        .last();
    Ok(found.map_or(-1, |(i, _)| i as i64))
}
