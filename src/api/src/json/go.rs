//! Finds the first syntax error in a text and says it as Go's `encoding/json` scanner does.
//!
//! Runs only on bodies that were already refused. Source: the error texts of Go's encoding/json scanner.

/// The message of the first error, or `None` when the text ends too early or is correct.
pub(super) fn message(bytes: &[u8]) -> Option<String> {
    let mut scanner = Scanner { bytes, at: 0 };
    match scanner.value("looking for beginning of value") {
        Err(Stop::Bad(what)) => Some(scanner.invalid(&what)),
        Err(Stop::End) => Some("unexpected end of JSON input".into()),
        Ok(()) => {
            scanner.space();
            scanner.peek().map(|_| scanner.invalid("after top-level value"))
        }
    }
}

enum Stop {
    End,
    Bad(String),
}

type Step = Result<(), Stop>;

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn need(&self) -> Result<u8, Stop> {
        self.peek().ok_or(Stop::End)
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn invalid(&self, what: &str) -> String {
        let c = self.bytes[self.at];
        let quoted = match c {
            b'\'' => "'\\''".to_owned(),
            b'"' => "'\"'".to_owned(),
            b'\n' => "'\\n'".to_owned(),
            b'\r' => "'\\r'".to_owned(),
            b'\t' => "'\\t'".to_owned(),
            b'\\' => "'\\\\'".to_owned(),
            0x20..=0x7e => format!("'{}'", c as char),
            0xa1.. if c != 0xad => format!("'{}'", c as char),
            0x80.. => format!("'\\u{c:04x}'"),
            _ => format!("'\\x{c:02x}'"),
        };
        format!("invalid character {quoted} {what}")
    }

    fn value(&mut self, what: &str) -> Step {
        // Explicit stack: hostile depth must not recurse.
        let mut open: Vec<u8> = Vec::new();
        let mut what = what.to_owned();
        loop {
            self.space();
            match self.need()? {
                b'{' => {
                    self.at += 1;
                    self.space();
                    if self.need()? == b'}' {
                        self.at += 1;
                    } else {
                        self.key()?;
                        open.push(b'{');
                        what = "looking for beginning of value".into();
                        continue;
                    }
                }
                b'[' => {
                    self.at += 1;
                    self.space();
                    if self.need()? == b']' {
                        self.at += 1;
                    } else {
                        open.push(b'[');
                        what = "looking for beginning of value".into();
                        continue;
                    }
                }
                b'"' => self.string()?,
                b't' => self.literal("true")?,
                b'f' => self.literal("false")?,
                b'n' => self.literal("null")?,
                b'-' | b'0'..=b'9' => self.number()?,
                _ => return Err(Stop::Bad(what)),
            }
            // A value has ended: close what it closes, or go on to the next one.
            loop {
                let Some(&container) = open.last() else { return Ok(()) };
                self.space();
                match (container, self.need()?) {
                    (b'{', b',') => {
                        self.at += 1;
                        self.space();
                        self.key()?;
                        break;
                    }
                    (b'[', b',') => {
                        self.at += 1;
                        break;
                    }
                    (b'{', b'}') | (b'[', b']') => {
                        self.at += 1;
                        open.pop();
                    }
                    (b'{', _) => return Err(Stop::Bad("after object key:value pair".into())),
                    _ => return Err(Stop::Bad("after array element".into())),
                }
            }
        }
    }

    fn key(&mut self) -> Step {
        if self.need()? != b'"' {
            return Err(Stop::Bad("looking for beginning of object key string".into()));
        }
        self.string()?;
        self.space();
        if self.need()? != b':' {
            return Err(Stop::Bad("after object key".into()));
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Step {
        self.at += 1;
        loop {
            match self.need()? {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => {
                    self.at += 1;
                    match self.need()? {
                        b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => self.at += 1,
                        b'u' => {
                            self.at += 1;
                            for _ in 0..4 {
                                if !self.need()?.is_ascii_hexdigit() {
                                    return Err(Stop::Bad("in \\u hexadecimal character escape".into()));
                                }
                                self.at += 1;
                            }
                        }
                        _ => return Err(Stop::Bad("in string escape code".into())),
                    }
                }
                0..0x20 => return Err(Stop::Bad("in string literal".into())),
                _ => self.at += 1,
            }
        }
    }

    fn literal(&mut self, word: &str) -> Step {
        for expected in word.bytes() {
            if self.need()? != expected {
                return Err(Stop::Bad(format!(
                    "in literal {word} (expecting '{}')",
                    expected as char
                )));
            }
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Step {
        if self.need()? == b'-' {
            self.at += 1;
            if !self.need()?.is_ascii_digit() {
                return Err(Stop::Bad("in numeric literal".into()));
            }
        }
        if self.need()? == b'0' {
            self.at += 1;
        } else {
            self.digits();
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if !self.need()?.is_ascii_digit() {
                return Err(Stop::Bad("after decimal point in numeric literal".into()));
            }
            self.digits();
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.need()?, b'+' | b'-') {
                self.at += 1;
            }
            if !self.need()?.is_ascii_digit() {
                return Err(Stop::Bad("in exponent of numeric literal".into()));
            }
            self.digits();
        }
        Ok(())
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
    }
}
