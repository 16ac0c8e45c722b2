//! Query strings and percent-encoding, with Go's rules.
// PERFORMANCE: per-request path

/// Decoded parameters in order. Pairs that do not decode, or hold a `;`, are left out, as Go's `URL.Query` does.
pub fn parse(raw: Option<&str>) -> Vec<(String, String)> {
    let Some(raw) = raw.filter(|r| !r.is_empty()) else {
        return Vec::new();
    };
    raw.split('&')
        .filter(|pair| !pair.is_empty() && !pair.contains(';'))
        .filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(key, Plus::Space)?, decode(value, Plus::Space)?))
        })
        .collect()
}

/// The first value of a parameter.
pub fn first<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
}

/// Whether `+` stands for itself or for a space.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Plus {
    Literal,
    Space,
}

/// Undoes percent-encoding; `None` where it is malformed or not UTF-8.
pub fn decode(text: &str, plus: Plus) -> Option<String> {
    if !text.contains('%') && (plus == Plus::Literal || !text.contains('+')) {
        return Some(text.to_owned());
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b'%' => {
                let hex = text.get(i + 1..i + 3)?;
                if !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return None;
                }
                out.push(u8::from_str_radix(hex, 16).ok()?);
                i += 3;
            }
            b'+' if plus == Plus::Space => {
                out.push(b' ');
                i += 1;
            }
            b => {
                out.push(b);
                i += 1;
            }
        }
    }
    String::from_utf8(out).ok()
}

/// What Go's `strconv.ParseBool` says.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_decode_is_left_out() {
        let query = parse(Some("a=1&b=%zz&c;d=2&e=x+y%2B&f&&a=3"));
        let expected = [("a", "1"), ("e", "x y+"), ("f", ""), ("a", "3")];
        assert_eq!(query, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(first(&query, "a"), Some("1"));
    }

    #[test]
    fn paths_keep_their_plus() {
        assert_eq!(decode("a+b%20c", Plus::Literal).as_deref(), Some("a+b c"));
        assert_eq!(decode("%", Plus::Literal), None);
        assert_eq!(decode("%é1", Plus::Literal), None);
    }
}
