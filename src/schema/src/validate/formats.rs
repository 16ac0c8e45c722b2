//! String formats of custom resources: which are known, and what they accept.
//!
//! Source: kube-openapi pkg/validation/strfmt and apiextensions-apiserver pkg/apiserver/validation/formats.go.

mod uri;

use crate::pattern::go_regex;
use fairlead_api::name::{ip, is_dns1123_label, is_dns1123_subdomain};
use fairlead_api::time::{GoDuration, rfc3339};
use regex::Regex;
use std::sync::LazyLock;

/// Whether a format is checked for values of these types; others are ignored, as unknown formats are.
pub(super) fn is_supported(format: &str, types: &[&str]) -> bool {
    match types {
        [] | ["string"] | [_, _] => check(format).is_some(),
        ["integer"] => matches!(format, "int32" | "int64"),
        ["number"] => matches!(format, "float" | "double"),
        _ => false,
    }
}

/// Whether a CRD may name this format for this type without a warning.
pub fn is_known_format(format: &str, type_name: &str) -> bool {
    if type_name.is_empty() {
        is_supported(format, &[])
    } else {
        is_supported(format, &[type_name])
    }
}

/// Whether a text has a format; every text has an unknown one.
pub fn matches_format(format: &str, text: &str) -> bool {
    check(format).is_none_or(|check| check(text))
}

/// The check of a string format; dashes in its name do not count.
pub(super) fn check(format: &str) -> Option<fn(&str) -> bool> {
    let dashless;
    let name = if format.contains('-') {
        dashless = format.replace('-', "");
        &dashless
    } else {
        format
    };
    Some(match name {
        "bsonobjectid" => |t| t.len() == 24 && t.bytes().all(|b| b.is_ascii_hexdigit()),
        "uri" => uri::is_request_uri,
        "email" => is_email,
        "hostname" => is_hostname,
        "ipv4" => |t| t.contains('.') && ip::parse_sloppy(t).is_some(),
        "ipv6" => |t| t.contains(':') && t.parse::<std::net::Ipv6Addr>().is_ok(),
        "cidr" => |t| ip::parse_cidr_sloppy(t).is_some(),
        "mac" => is_mac,
        "uuid" => |t| is_uuid(t, None),
        "uuid3" => |t| is_uuid(t, Some(b'3')),
        "uuid4" => |t| is_uuid(t, Some(b'4')),
        "uuid5" => |t| is_uuid(t, Some(b'5')),
        "isbn" => |t| is_isbn10(t) || is_isbn13(t),
        "isbn10" => is_isbn10,
        "isbn13" => is_isbn13,
        "creditcard" => is_credit_card,
        "ssn" => |t| t.len() == 11 && SSN.is_match(t),
        "hexcolor" => |t| {
            let digits = t.strip_prefix('#').unwrap_or(t);
            matches!(digits.len(), 3 | 6) && digits.bytes().all(|b| b.is_ascii_hexdigit())
        },
        "rgbcolor" => |t| RGB.is_match(t),
        "byte" => is_base64,
        "password" => |_| true,
        "date" => is_date,
        "datetime" => is_date_time,
        "duration" => is_duration,
        "k8sshortname" => |t| is_dns1123_label(t).is_empty(),
        "k8slongname" => |t| is_dns1123_subdomain(t).is_empty(),
        _ => return None,
    })
}

fn regex(pattern: &str) -> Regex {
    go_regex(pattern).expect("the pattern is a constant")
}

static SSN: LazyLock<Regex> = LazyLock::new(|| regex(r"^\d{3}[- ]?\d{2}[- ]?\d{4}$"));
static RGB: LazyLock<Regex> = LazyLock::new(|| {
    const PART: &str = r"\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*";
    regex(&format!(r"^rgb\({PART},{PART},{PART}\)$"))
});
static CREDIT_CARD: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"^(?:4\d{12}(?:\d{3})?|5[1-5]\d{14}|6(?:011|5\d\d)\d{12}|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}|(?:2131|1800|35\d{3})\d{11})$",
    )
});
static LETTER: LazyLock<Regex> = LazyLock::new(|| regex(r"^\p{L}$"));
static LETTER_OR_SYMBOL: LazyLock<Regex> = LazyLock::new(|| regex(r"^[\p{L}\p{S}]$"));
static SCALA_DURATION: LazyLock<Regex> = LazyLock::new(|| regex(r"(\d+)\s*([A-Za-zµ]+)"));
static TIME_OF_DAY: LazyLock<Regex> =
    LazyLock::new(|| regex(r"^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$"));

/// Labels of letters, digits, symbols and inner dashes.
fn is_hostname(text: &str) -> bool {
    let single = |c: char, class: &Regex| class.is_match(c.encode_utf8(&mut [0; 4]));
    let inner = |c: char| c.is_ascii_alphanumeric() || single(c, &LETTER_OR_SYMBOL);
    if text.len() > 255 || text.split('.').any(|label| label.len() > 63) {
        return false;
    }
    let Some((labels, last)) = text.rsplit_once('.') else {
        // COMPAT: alone, a label may have one dash, behind its first character.
        let mut chars = text.chars();
        return chars.next().is_some_and(inner) && {
            let rest = chars.as_str();
            rest.strip_prefix('-').unwrap_or(rest).chars().all(inner)
        };
    };
    // COMPAT: of several labels the last is of letters, at least two.
    let label = |l: &str| {
        l.chars().next().is_some_and(inner)
            && l.chars().next_back().is_some_and(inner)
            && l.chars().all(|c| c == '-' || inner(c))
    };
    labels.split('.').all(label)
        && last.chars().count() >= 2
        && last.chars().all(|c| c.is_ascii_alphabetic() || single(c, &LETTER))
}

/// What Go's `mail.ParseAddress` takes: an address, or a name and an address in angle brackets.
fn is_email(text: &str) -> bool {
    let text = text.trim();
    let address = match text.strip_suffix('>') {
        Some(inner) => match inner.rsplit_once('<') {
            Some((_, address)) => address,
            None => return false,
        },
        None => text,
    };
    let Some((local, domain)) = address.rsplit_once('@') else {
        return false;
    };
    let dot_atom = |t: &str| {
        t.split('.').all(|atom| {
            !atom.is_empty()
                && atom
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || !c.is_ascii() || "!#$%&'*+-/=?^_`{|}~".contains(c))
        })
    };
    let quoted =
        local.len() > 2 && local.starts_with('"') && local.ends_with('"') && !local[1..local.len() - 1].contains('"');
    let literal = domain
        .strip_prefix('[')
        .and_then(|d| d.strip_suffix(']'))
        .is_some_and(|d| ip::parse_sloppy(d).is_some());
    (dot_atom(local) || quoted) && (dot_atom(domain) || literal)
}

/// `01:23:45:67:89:ab` with `:` or `-`, or `0123.4567.89ab`; 6, 8 or 20 bytes.
fn is_mac(text: &str) -> bool {
    let parts = |separator: char, width: usize| {
        let parts: Vec<&str> = text.split(separator).collect();
        let hex = parts
            .iter()
            .all(|p| p.len() == width && p.bytes().all(|b| b.is_ascii_hexdigit()));
        hex && matches!(parts.len() * width / 2, 6 | 8 | 20)
    };
    parts(':', 2) || parts('-', 2) || parts('.', 4)
}

/// Dashes may be missing, each by itself.
fn is_uuid(text: &str, version: Option<u8>) -> bool {
    let mut rest = text.as_bytes();
    let mut groups: Vec<&[u8]> = Vec::with_capacity(5);
    for (i, width) in [8usize, 4, 4, 4, 12].into_iter().enumerate() {
        if i > 0 {
            rest = rest.strip_prefix(b"-").unwrap_or(rest);
        }
        let Some((group, tail)) = rest.split_at_checked(width) else {
            return false;
        };
        if !group.iter().all(u8::is_ascii_hexdigit) {
            return false;
        }
        groups.push(group);
        rest = tail;
    }
    let variant = || matches!(groups[3][0].to_ascii_lowercase(), b'8' | b'9' | b'a' | b'b');
    rest.is_empty()
        && match version {
            None => true,
            Some(b'3') => groups[2][0] == b'3',
            Some(version) => groups[2][0] == version && variant(),
        }
}

fn without_spaces_and_dashes(text: &str) -> Vec<u8> {
    text.bytes()
        .filter(|b| !matches!(b, b' ' | b'\t' | b'\n' | b'\r' | 0xc | b'-'))
        .collect()
}

fn is_isbn10(text: &str) -> bool {
    let digits = without_spaces_and_dashes(text);
    if digits.len() != 10 || !digits[..9].iter().all(u8::is_ascii_digit) {
        return false;
    }
    let last = match digits[9] {
        b'X' => 10,
        b if b.is_ascii_digit() => u32::from(b - b'0'),
        _ => return false,
    };
    let sum: u32 = (1u32..).zip(&digits[..9]).map(|(i, d)| i * u32::from(d - b'0')).sum();
    (sum + 10 * last).is_multiple_of(11)
}

fn is_isbn13(text: &str) -> bool {
    let digits = without_spaces_and_dashes(text);
    if digits.len() != 13 || !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let sum: u32 = digits[..12]
        .iter()
        .zip([1u32, 3].into_iter().cycle())
        .map(|(d, f)| f * u32::from(d - b'0'))
        .sum();
    u32::from(digits[12] - b'0') == (10 - sum % 10) % 10
}

fn is_credit_card(text: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    if !CREDIT_CARD.is_match(&digits) {
        return false;
    }
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(i, d)| {
            let digit = u32::from(d - b'0');
            let doubled = if i % 2 == 1 { digit * 2 } else { digit };
            if doubled > 9 { doubled - 9 } else { doubled }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Padded, in the standard alphabet, on one line, and not empty.
fn is_base64(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    !text.is_empty()
        && text.len().is_multiple_of(4)
        && padding <= 2
        && !digits.is_empty()
        && digits
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && text.is_ascii() && rfc3339::parse_seconds(&format!("{text}T00:00:00Z")).is_ok()
}

fn is_date_time(text: &str) -> bool {
    let lower = text.to_lowercase();
    let mut parts = lower.split('t');
    let (Some(date), Some(time)) = (parts.next(), parts.next()) else {
        return false;
    };
    let Some(found) = TIME_OF_DAY.captures(time) else {
        return false;
    };
    is_date(date) && &found[1] <= "23" && &found[2] <= "59" && &found[3] <= "59"
}

/// A Go duration, or something with a number and a unit in it, `10 days`.
fn is_duration(text: &str) -> bool {
    const EXACT: [&str; 15] = [
        "ns", "us", "µs", "ms", "s", "m", "h", "hr", "d", "w", "wk", "nano", "micro", "milli", "sec",
    ];
    const PREFIXES: [&str; 8] = ["nano", "micro", "milli", "sec", "min", "hour", "day", "week"];
    if GoDuration::parse(text).is_ok() {
        return true;
    }
    let mut found = false;
    for captures in SCALA_DURATION.captures_iter(text) {
        if captures[1].parse::<i64>().is_err() {
            return false;
        }
        let unit = captures[2].to_lowercase();
        found |= EXACT.contains(&unit.as_str()) || PREFIXES.iter().any(|p| unit.starts_with(p));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_accept_what_upstream_accepts() {
        for (format, good, bad) in [
            ("date", vec!["2020-01-02"], vec!["2020-1-2", "x", "2020-02-30", ""]),
            (
                "date-time",
                vec!["2020-01-02T03:04:05Z", "2020-01-02t03:04:05.5+01:00"],
                vec!["2020-01-02", "2020-01-02 03:04:05Z", "2020-13-02T03:04:05Z"],
            ),
            ("duration", vec!["1h", "10 days", "5 ns", "0"], vec!["x", "", "10"]),
            (
                "uuid",
                vec![
                    "123e4567-e89b-12d3-a456-426614174000",
                    "123E4567e89b12d3a456426614174000",
                ],
                vec!["x"],
            ),
            (
                "uuid3",
                vec!["123e4567-e89b-32d3-a456-426614174000"],
                vec!["123e4567-e89b-12d3-a456-426614174000"],
            ),
            (
                "hostname",
                vec!["a", "a.example", "é.com"],
                vec!["a.b.c", "a_b", "-a", ""],
            ),
            ("email", vec!["a@b.c", "N <a@b>"], vec!["a", "a@", "@b", "a b@c"]),
            (
                "mac",
                vec!["01:23:45:67:89:ab", "0123.4567.89ab", "01-23-45-67-89-ab-cd-ef"],
                vec!["x", "01:23", "01:23-45:67:89:ab"],
            ),
            ("ipv4", vec!["1.2.3.4", "010.2.3.4"], vec!["1.2.3", "::1"]),
            (
                "ipv6",
                vec!["::1", "::ffff:1.2.3.4"],
                vec!["1.2.3.4", "g::", "fe80::1%eth0"],
            ),
            ("byte", vec!["YQ==", "YWI="], vec!["%%", "YWI", "", "===="]),
            ("isbn10", vec!["0321751043"], vec!["1"]),
            ("isbn13", vec!["978-0321751041"], vec!["978-0321751042"]),
            ("creditcard", vec!["4111 1111 1111 1111"], vec!["1", "4111111111111112"]),
            ("hexcolor", vec!["#fff", "ABCDEF"], vec!["#ffff"]),
            ("rgbcolor", vec!["rgb(1, 2,3)"], vec!["rgb(300,2,3)"]),
            ("k8s-short-name", vec!["a-b"], vec!["A_b", "a.b"]),
            ("k8s-long-name", vec!["a.b"], vec!["a."]),
            (
                "uri",
                vec!["http://a/b?c", "/a", "mailto:a@b", "http://[::1]:80/"],
                vec!["a", "", "://", "http://a:x/", "/%zz"],
            ),
        ] {
            let check = check(format).unwrap();
            assert!(good.iter().all(|t| check(t)), "{format}: {good:?}");
            assert!(!bad.iter().any(|t| check(t)), "{format}: {bad:?}");
        }
        assert!(
            is_known_format("int32", "integer")
                && !is_known_format("banana", "string")
                && !is_known_format("int32", "string")
        );
    }
}
