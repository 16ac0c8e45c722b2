//! `format`: values put into text.
//!
//! Source: cel-go ext/formatting.go, in the en_US locale.
// PERFORMANCE: per-request path

use super::Row;
use crate::ast::{Expr, Kind};
use crate::types::Type;
use crate::value::{EvalError, Key, Result, Value, duration_text, timestamp_text};
use fairlead_api::field::{go_float, go_quote};
use std::fmt::Write;

pub const FUNCTIONS: &[Row] = &[("format", &[("string_format", "string.(list(dyn)) -> string")], format)];

/// A piece of a format.
enum Piece<'f> {
    Text(&'f str),
    Clause(Clause),
}

#[derive(Clone, Copy)]
struct Clause {
    verb: char,
    precision: Option<usize>,
}

/// Precisions beyond this are as good as an attack.
const MAX_PRECISION: usize = 1_000;

fn format<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    let text = args[0].as_str().ok_or_else(EvalError::no_such_overload)?;
    let items = args[1].items().ok_or_else(EvalError::no_such_overload)?;
    let mut out = String::new();
    let mut used = 0;
    each_piece(text, &mut |piece| {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Clause(clause) => {
                let item = items.get(used).ok_or_else(|| format!("index {used} out of range"))?;
                used += 1;
                let formatted = clause
                    .apply(item)
                    .map_err(|e| format!("error during formatting: {e}"))?;
                out.push_str(&formatted);
            }
        }
        Ok(())
    })
    .map_err(EvalError::new)?;
    Ok(Value::string(out))
}

/// Walks over a format; stops at the first mistake, in upstream's words.
fn each_piece<'f>(
    text: &'f str,
    each: &mut dyn FnMut(Piece<'f>) -> std::result::Result<(), String>,
) -> std::result::Result<(), String> {
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        each(Piece::Text(&rest[..at]))?;
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            each(Piece::Text("%"))?;
            rest = after;
            continue;
        }
        if rest.is_empty() {
            return Err("unexpected end of string".into());
        }
        let (clause, after) = clause(rest).map_err(|e| format!("could not parse formatting clause: {e}"))?;
        each(Piece::Clause(clause))?;
        rest = after;
    }
    each(Piece::Text(rest))
}

fn clause(text: &str) -> std::result::Result<(Clause, &str), String> {
    let mut rest = text;
    let mut precision = None;
    if let Some(after) = rest.strip_prefix('.') {
        let end = after.find(|c: char| !c.is_ascii_digit());
        let end = end.ok_or("error while parsing precision: could not find end of precision specifier")?;
        let digits = &after[..end];
        let number: usize = digits.parse().map_err(|_| {
            format!("error while parsing precision: error while converting precision to integer: strconv.Atoi: parsing {}: invalid syntax", go_quote(digits))
        })?;
        precision = Some(number.min(MAX_PRECISION));
        rest = &after[end..];
    }
    let verb = rest.chars().next().ok_or("unexpected end of string")?;
    if !"sdfebxXo".contains(verb) {
        return Err(format!("unrecognized formatting clause \"{verb}\""));
    }
    Ok((Clause { verb, precision }, &rest[verb.len_utf8()..]))
}

impl Clause {
    fn apply(self, value: &Value) -> std::result::Result<String, String> {
        match (self.verb, value) {
            ('s', value) => text_of(value),
            ('d', Value::Int(i)) => Ok(i.to_string()),
            ('d', Value::Uint(u)) => Ok(u.to_string()),
            ('f' | 'e', Value::Double(d)) => Ok(self.float(*d)),
            ('f' | 'e', Value::String(s)) if matches!(&**s, "NaN" | "Infinity" | "-Infinity") => {
                Ok(self.float(s.parse().map_err(|_| "could not convert to float64")?))
            }
            ('b', Value::Int(i)) => Ok(signed(*i, |u| format!("{u:b}"))),
            ('b', Value::Uint(u)) => Ok(format!("{u:b}")),
            ('b', Value::Bool(b)) => Ok(u8::from(*b).to_string()),
            ('o', Value::Int(i)) => Ok(signed(*i, |u| format!("{u:o}"))),
            ('o', Value::Uint(u)) => Ok(format!("{u:o}")),
            ('x' | 'X', value) => {
                let hex = match value {
                    Value::Int(i) => signed(*i, |u| format!("{u:x}")),
                    Value::Uint(u) => format!("{u:x}"),
                    Value::String(s) => hex(s.as_bytes()),
                    Value::Bytes(b) => hex(b),
                    other => return Err(self.complaint(other.type_of().name())),
                };
                Ok(if self.verb == 'X' { hex.to_uppercase() } else { hex })
            }
            (_, other) => Err(self.complaint(other.type_of().name())),
        }
    }

    fn complaint(self, ty: &str) -> String {
        let what = match self.verb {
            'd' => "decimal clause can only be used on integers",
            'f' => "fixed-point clause can only be used on doubles",
            'e' => "scientific clause can only be used on doubles",
            'b' => "only integers and bools can be formatted as binary",
            'o' => "octal clause can only be used on integers",
            'x' | 'X' => "only integers, byte buffers, and strings can be formatted as hex",
            _ => STRING_CLAUSE,
        };
        format!("{what}, was given {ty}")
    }

    fn takes(self, ty: &Type) -> bool {
        match (self.verb, ty) {
            (_, Type::Dyn) => true,
            ('d' | 'o', Type::Int | Type::Uint) => true,
            ('f' | 'e', Type::Double | Type::String) => true,
            ('b', Type::Int | Type::Uint | Type::Bool) => true,
            ('x' | 'X', Type::Int | Type::Uint | Type::String | Type::Bytes) => true,
            ('s', ty) => has_text(ty),
            _ => false,
        }
    }

    fn float(self, d: f64) -> String {
        let precision = self.precision.unwrap_or(6);
        if d.is_nan() {
            return "NaN".into();
        }
        if d.is_infinite() {
            return if d > 0.0 { "∞".into() } else { "-∞".into() };
        }
        if self.verb == 'f' {
            return grouped(&format!("{d:.precision$}"));
        }
        let text = format!("{d:.precision$e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = exponent.strip_prefix('-').map_or(("", exponent), |e| ("⁻", e));
        let digits: String = format!("{digits:0>2}").chars().map(superscript).collect();
        format!("{mantissa}\u{202f}×\u{202f}10{sign}{digits}")
    }
}

const STRING_CLAUSE: &str = "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps";

fn signed(i: i64, digits: impl Fn(u64) -> String) -> String {
    format!("{}{}", if i < 0 { "-" } else { "" }, digits(i.unsigned_abs()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, b| {
        write!(out, "{b:02x}").expect("writing to a String cannot fail");
        out
    })
}

fn superscript(digit: char) -> char {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    digit.to_digit(10).map_or(digit, |d| DIGITS[d as usize])
}

/// Thousands apart, as the locale writes them.
fn grouped(number: &str) -> String {
    let (sign, rest) = number.strip_prefix('-').map_or(("", number), |n| ("-", n));
    let (whole, fraction) = rest.split_once('.').map_or((rest, None), |(w, f)| (w, Some(f)));
    let mut out = String::from(sign);
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(fraction) = fraction {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

fn text_of(value: &Value) -> std::result::Result<String, String> {
    Ok(match value {
        Value::Null => "null".into(),
        Value::Bool(b) => b.to_string(),
        Value::Int(i) => i.to_string(),
        Value::Uint(u) => u.to_string(),
        Value::Double(d) => go_float(*d),
        Value::String(s) => s.to_string(),
        Value::Bytes(b) => String::from_utf8_lossy(b).into_owned(),
        Value::Duration(d) => duration_text(*d),
        Value::Timestamp(t) => timestamp_text(*t),
        Value::Type(ty) => ty.name().to_owned(),
        Value::List(_) => list_text(value)?,
        Value::Json(json) if json.is_list() => list_text(value)?,
        Value::Map(map) => {
            let entries = map
                .iter()
                .map(|(k, v)| Ok((k.clone(), v.clone())))
                .collect::<Result<Vec<_>>>();
            map_text(entries.map_err(|e| e.to_string())?)?
        }
        Value::Json(json) => {
            let entries = json
                .entries()
                .map(|(key, node, ty)| Ok((key, Value::from_node(node, ty)?)))
                .collect::<Result<Vec<_>>>();
            map_text(entries.map_err(|e| e.to_string())?)?
        }
        other => return Err(format!("{STRING_CLAUSE}, was given {}", other.type_of().name())),
    })
}

fn list_text(value: &Value) -> std::result::Result<String, String> {
    let items: Vec<String> = value
        .items()
        .unwrap_or_default()
        .iter()
        .map(literal)
        .collect::<std::result::Result<_, _>>()?;
    Ok(format!("[{}]", items.join(", ")))
}

fn map_text(entries: Vec<(Key, Value)>) -> std::result::Result<String, String> {
    let mut texts = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        texts.push((literal(&key.to_value())?, literal(&value)?));
    }
    texts.sort();
    let texts: Vec<String> = texts.into_iter().map(|(k, v)| format!("{k}:{v}")).collect();
    Ok(format!("{{{}}}", texts.join(", ")))
}

/// A value as an expression would write it.
fn literal(value: &Value) -> std::result::Result<String, String> {
    Ok(match value {
        Value::String(s) => go_quote(s),
        Value::Bytes(b) => format!("b{}", go_quote(&String::from_utf8_lossy(b))),
        Value::Timestamp(t) => format!("timestamp({})", go_quote(&timestamp_text(*t))),
        Value::Duration(d) => format!("duration({})", go_quote(&duration_text(*d))),
        Value::Double(d) if d.is_finite() => format!("{d:.6}"),
        Value::Double(d) => go_quote(&go_float(*d)),
        Value::Type(_) | Value::Extension(_) | Value::Optional(_) | Value::Struct(_) => match value {
            Value::Type(_) => text_of(value)?,
            other => return Err(format!("no formatting function for {}", other.type_of().name())),
        },
        other => text_of(other)?,
    })
}

/// A value as a message shows it.
pub fn shown(value: &Value) -> String {
    text_of(value).unwrap_or_else(|_| value.type_of().name().to_owned())
}

fn has_text(ty: &Type) -> bool {
    !matches!(ty, Type::Opaque(..) | Type::Object(_) | Type::Error)
}

/// What is wrong with a call whose format and arguments are written out: the id of the expression, and why.
pub fn check_call(call: &Expr, format: &str, args: &[Expr], type_of: &dyn Fn(&Expr) -> Type) -> Option<(u32, String)> {
    let mut used = 0;
    let mut place = call.at;
    let checked = each_piece(format, &mut |piece| {
        let Piece::Clause(clause) = piece else { return Ok(()) };
        let arg = args.get(used).ok_or_else(|| format!("index {used} out of range"))?;
        used += 1;
        let wrong = if clause.verb == 's' {
            without_text(arg, type_of)
        } else {
            Some(arg).filter(|a| !clause.takes(&type_of(a)))
        };
        match wrong {
            None => Ok(()),
            Some(expr) => {
                place = expr.at;
                Err(format!(
                    "error during formatting: {}",
                    clause.complaint(type_of(expr).name())
                ))
            }
        }
    });
    match checked {
        Err(why) => Some((place, why)),
        Ok(()) if args.len() > used => {
            let why = format!(
                "too many arguments supplied to string.format (expected {used}, got {})",
                args.len()
            );
            Some((call.at, why))
        }
        Ok(()) => None,
    }
}

/// The first of a value's parts, as written, that has no text.
fn without_text<'e>(expr: &'e Expr, type_of: &dyn Fn(&Expr) -> Type) -> Option<&'e Expr> {
    let ty = type_of(expr);
    if !ty.is_dyn() && !has_text(&ty) {
        return Some(expr);
    }
    match &expr.kind {
        Kind::List { elements, .. } => elements.iter().find_map(|e| without_text(e, type_of)),
        Kind::Map(entries) => entries
            .iter()
            .flat_map(|e| [&e.key, &e.value])
            .find_map(|e| without_text(e, type_of)),
        _ => None,
    }
}
