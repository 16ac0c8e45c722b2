//! Base64 as Go reads it: line breaks are skipped, and errors say at which byte.

use std::borrow::Cow;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The same bytes in canonical base64; `Err` holds the offset of the first illegal byte.
pub(super) fn canonical(text: &str) -> Result<Cow<'_, str>, usize> {
    let bytes = text.as_bytes();
    let mut count = 0;
    let mut breaks = false;
    let mut at = 0;
    while at < bytes.len() {
        match value(bytes[at]) {
            Some(_) => count += 1,
            None if matches!(bytes[at], b'\r' | b'\n') => breaks = true,
            None => break,
        }
        at += 1;
    }
    let partial = count % 4;
    if at == bytes.len() {
        // Padding is missing; Go points at the start of what it could read of the last group.
        return if partial == 0 {
            Ok(rewritten(text, breaks))
        } else {
            Err(at - partial)
        };
    }
    if bytes[at] != b'=' || partial < 2 {
        return Err(at);
    }
    let skip = |mut i: usize| {
        while matches!(bytes.get(i), Some(b'\r' | b'\n')) {
            i += 1;
        }
        i
    };
    let mut end = skip(at + 1);
    breaks |= end > at + 1;
    if partial == 2 {
        match bytes.get(end) {
            None => return Err(end),
            Some(b'=') => {}
            Some(_) => return Err(end - 1),
        }
        let after = skip(end + 1);
        breaks |= after > end + 1;
        end = after;
    }
    if end < bytes.len() {
        return Err(end);
    }
    Ok(rewritten(text, breaks))
}

/// Canonical base64 of bytes.
pub(super) fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |group, b| group << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = (group >> (18 - 6 * i)) & 63;
            out.push(if i <= chunk.len() {
                ALPHABET[digit as usize] as char
            } else {
                '='
            });
        }
    }
    out
}

/// The text itself, unless it has line breaks or bits that its bytes do not use.
fn rewritten(text: &str, breaks: bool) -> Cow<'_, str> {
    let digits = || text.bytes().filter_map(value);
    let padding = text
        .bytes()
        .rev()
        .filter(|b| *b != b'\r' && *b != b'\n')
        .take_while(|b| *b == b'=')
        .count();
    let unused = match padding {
        2 => 0b1111,
        1 => 0b11,
        _ => 0,
    };
    if !breaks && (unused == 0 || digits().next_back().is_none_or(|last| last & unused == 0)) {
        return Cow::Borrowed(text);
    }
    let mut out: String = digits().map(|d| ALPHABET[usize::from(d)] as char).collect();
    if let Some(last) = out.pop().and_then(|c| value(c as u8)) {
        out.push(ALPHABET[usize::from(last & !unused)] as char);
    }
    out.push_str(&"=="[..padding]);
    Cow::Owned(out)
}

fn value(b: u8) -> Option<u8> {
    Some(match b {
        b'A'..=b'Z' => b - b'A',
        b'a'..=b'z' => b - b'a' + 26,
        b'0'..=b'9' => b - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_padded() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"a", "YQ=="),
            (b"ab", "YWI="),
            (b"abc", "YWJj"),
            (b"abcd", "YWJjZA=="),
        ] {
            assert_eq!(encode(bytes), text);
        }
    }

    #[test]
    fn go_rules_hold() {
        for (text, canonical_text) in [
            ("", ""),
            ("YQ==", "YQ=="),
            ("YW\nI=\n", "YWI="),
            ("YR==", "YQ=="),
            ("YWJj", "YWJj"),
        ] {
            assert_eq!(canonical(text).unwrap(), canonical_text, "{text:?}");
        }
        for (text, offset) in [
            ("!", 0),
            ("YQ", 0),
            ("YWJjYQ", 4),
            ("YQ=", 3),
            ("YQ=x", 2),
            ("YQ==x", 4),
            ("Y===", 1),
            ("plain text", 5),
        ] {
            assert_eq!(canonical(text).unwrap_err(), offset, "{text:?}");
        }
    }
}
