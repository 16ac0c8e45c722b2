//! What a scalar without quotes is, by YAML 1.1 as Go's library knows it.

use compact_str::{CompactString, ToCompactString};
use fairlead_api::Node;

/// A plain scalar.
pub fn plain(text: &str) -> Node {
    let Some(first) = text.as_bytes().first() else {
        return Node::Null;
    };
    match first {
        b'y' | b'Y' | b'n' | b'N' | b't' | b'T' | b'f' | b'F' | b'o' | b'O' | b'~' => word(text),
        b'.' => special(text).or_else(|| float(text)),
        b'+' | b'-' | b'0'..=b'9' => special(text).or_else(|| number(text)),
        _ => None,
    }
    .unwrap_or_else(|| Node::string(text))
}

/// A scalar with one of YAML's own tags.
///
/// # Errors
/// Go's words where it is something else.
pub fn tagged(tag: &str, text: &str) -> Result<Node, String> {
    if !matches!(tag, "bool" | "int" | "float" | "null") {
        return Ok(Node::string(text));
    }
    let node = plain(text);
    let found = match &node {
        Node::Null => "null",
        Node::Bool(_) => "bool",
        Node::Int(_) => "int",
        Node::Float(_) => "float",
        _ => "str",
    };
    match (tag, found) {
        (tag, found) if tag == found => Ok(node),
        ("float", "int") => Ok(node),
        _ => Err(format!("cannot decode !!{found} `{text}` as a !!{tag}")),
    }
}

/// A float as a key: in the shortest form that 32 bits need.
pub fn float_key(value: f64) -> CompactString {
    let value = value as f32;
    match value {
        value if value.is_nan() => CompactString::const_new(".nan"),
        f32::INFINITY => CompactString::const_new(".inf"),
        f32::NEG_INFINITY => CompactString::const_new("-.inf"),
        value if value != 0.0 && (value.abs() < 1e-4 || value.abs() >= 1e21) => {
            // Go has two digits of exponent at least, and its sign.
            let text = format!("{value:e}");
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let (sign, digits) = exponent
                .strip_prefix('-')
                .map_or(('+', exponent), |digits| ('-', digits));
            compact_str::format_compact!("{mantissa}e{sign}{digits:0>2}")
        }
        value => value.to_compact_string(),
    }
}

fn word(text: &str) -> Option<Node> {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Some(Node::Bool(true)),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Some(Node::Bool(false)),
        "~" | "null" | "Null" | "NULL" => Some(Node::Null),
        _ => None,
    }
}

/// What is no number in JSON is text: there is no infinity.
fn special(text: &str) -> Option<Node> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let special = matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN");
    special.then(|| Node::string(text))
}

fn number(text: &str) -> Option<Node> {
    let owned;
    let plain = if text.contains('_') {
        owned = text.replace('_', "");
        &owned
    } else {
        text
    };
    integer(plain).or_else(|| float(plain))
}

/// Decimal, or by its prefix hexadecimal, octal or binary.
fn integer(text: &str) -> Option<Node> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    let value = if negative {
        -i128::from(magnitude)
    } else {
        i128::from(magnitude)
    };
    match i64::try_from(value) {
        Ok(int) => Some(Node::Int(int)),
        // Only without a sign may it be that large; JSON then has a float.
        Err(_) if text.starts_with(|c: char| c.is_ascii_digit()) => Some(Node::Float(magnitude as f64)),
        Err(_) => None,
    }
}

fn float(text: &str) -> Option<Node> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let numeric = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-');
    if !digits.bytes().all(numeric) || !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let value: f64 = text.parse().ok()?;
    if !value.is_finite() {
        return None;
    }
    // What JSON writes without a fraction is an integer when it is read again.
    if value.fract() == 0.0 && value.abs() < 9.2e18 {
        return Some(Node::Int(value as i64));
    }
    Some(Node::Float(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_kinds() {
        for (text, expected) in [
            ("0", 0),
            ("-12", -12),
            ("+7", 7),
            ("0x1F", 31),
            ("0o17", 15),
            ("017", 15),
            ("0b101", 5),
            ("-0b11", -3),
            ("1_000", 1000),
            ("1e3", 1000),
            ("08", 8),
            ("2.", 2),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(plain(text), Node::Int(expected), "{text}");
        }
        assert_eq!(plain("1.5"), Node::Float(1.5));
        assert_eq!(plain(".5"), Node::Float(0.5));
        assert_eq!(plain("18446744073709551615"), Node::Float(18446744073709551615.0));
        for text in [
            "1.2.3",
            "0x",
            "1a",
            "-",
            "+",
            ".",
            "2001-01-01",
            "1:30",
            "0xg",
            "infinity",
            "e5",
            "--1",
        ] {
            assert_eq!(plain(text), Node::string(text), "{text}");
        }
    }

    #[test]
    fn words_of_yaml_1_1() {
        assert_eq!(plain("On"), Node::Bool(true));
        assert_eq!(plain("n"), Node::Bool(false));
        assert_eq!(plain("Null"), Node::Null);
        assert_eq!(plain(""), Node::Null);
        assert_eq!(plain("yEs"), Node::string("yEs"));
        assert_eq!(tagged("int", "x").unwrap_err(), "cannot decode !!str `x` as a !!int");
    }

    #[test]
    fn float_keys_have_the_form_go_gives_them() {
        assert_eq!(float_key(1.5), "1.5");
        assert_eq!(float_key(1.0e30), "1e+30");
        assert_eq!(float_key(0.00001), "1e-05");
    }
}
