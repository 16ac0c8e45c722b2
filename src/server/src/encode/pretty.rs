//! Indentation of JSON, as Go's `json.Indent` does it.

/// With two spaces a level.
pub fn indent(json: &[u8]) -> Vec<u8> {
    indent_by(json, "  ")
}

/// Works on any valid compact JSON without parsing it.
pub fn indent_by(json: &[u8], by: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() * 2);
    let (mut depth, mut in_string, mut escaped, mut fresh) = (0usize, false, false, false);
    for &b in json {
        if in_string {
            out.push(b);
            match b {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        if fresh && b != b']' && b != b'}' {
            line(&mut out, depth, by);
            fresh = false;
        }
        match b {
            b'{' | b'[' => {
                out.push(b);
                depth += 1;
                fresh = true;
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if !fresh {
                    line(&mut out, depth, by);
                }
                fresh = false;
                out.push(b);
            }
            b',' => {
                out.push(b);
                line(&mut out, depth, by);
            }
            b':' => out.extend_from_slice(b": "),
            b' ' | b'\n' | b'\t' | b'\r' => {}
            _ => {
                in_string = b == b'"';
                out.push(b);
            }
        }
    }
    out
}

fn line(out: &mut Vec<u8>, depth: usize, by: &str) {
    out.push(b'\n');
    for _ in 0..depth {
        out.extend_from_slice(by.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn nesting_is_indented_and_empty_things_are_not() {
        let text = super::indent(br#"{"a":{},"b":[1,"x,{\"y"],"c":[]}"#);
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "{\n  \"a\": {},\n  \"b\": [\n    1,\n    \"x,{\\\"y\"\n  ],\n  \"c\": []\n}"
        );
    }
}
