//! Indentation of JSON, as Go's `json.Indent` does it.

/// With two spaces a level.
pub fn indent(json: &[u8]) -> Vec<u8> {
    indent_by(json, "  ")
}

/// Works on any valid compact JSON without parsing it.
pub fn indent_by(json: &[u8], by: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() * 2);
    Indent::by(by).write(json, &mut out);
    out
}

/// Indents a document that comes in pieces.
pub struct Indent<'a> {
    by: &'a str,
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// Behind an opening bracket.
    fresh: bool,
}

impl Indent<'_> {
    pub fn by(by: &str) -> Indent<'_> {
        Indent {
            by,
            depth: 0,
            in_string: false,
            escaped: false,
            fresh: false,
        }
    }

    pub fn write(&mut self, json: &[u8], out: &mut Vec<u8>) {
        for &b in json {
            if self.in_string {
                out.push(b);
                match b {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            if matches!(b, b' ' | b'\n' | b'\t' | b'\r') {
                continue;
            }
            if self.fresh && b != b']' && b != b'}' {
                line(out, self.depth, self.by);
                self.fresh = false;
            }
            match b {
                b'{' | b'[' => {
                    out.push(b);
                    self.depth += 1;
                    self.fresh = true;
                }
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if !self.fresh {
                        line(out, self.depth, self.by);
                    }
                    self.fresh = false;
                    out.push(b);
                }
                b',' => {
                    out.push(b);
                    line(out, self.depth, self.by);
                }
                b':' => out.extend_from_slice(b": "),
                _ => {
                    self.in_string = b == b'"';
                    out.push(b);
                }
            }
        }
    }
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
