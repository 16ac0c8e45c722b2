//! Writes a [`Node`] as YAML, byte for byte as upstream's library does: block style, keys in natural order, lists not
//! indented inside maps, long lines folded at 80 columns.
//!
//! Source of the form: go.yaml.in/yaml/v2 (emitter, resolver, key order).

use fairlead_api::Node;
use regex::Regex;
use std::cmp::Ordering;
use std::sync::LazyLock;

/// One document, with a line break at its end.
pub fn write(node: &Node) -> Vec<u8> {
    let mut writer = Writer {
        out: String::with_capacity(1024),
        column: 0,
    };
    match node {
        Node::Map(map) if !map.is_empty() => writer.map(node, 0, true),
        Node::List(list) if !list.is_empty() => writer.list(node, 0, true),
        scalar => writer.scalar(scalar, 0),
    }
    if !writer.out.ends_with('\n') {
        writer.out.push('\n');
    }
    writer.out.into_bytes()
}

/// Beyond this column a line is folded at the next single space.
const WIDTH: usize = 80;
/// Longer keys need the explicit form.
const SIMPLE_KEY: usize = 128;

struct Writer {
    out: String,
    /// Characters in the current line.
    column: usize,
}

impl Writer {
    fn put(&mut self, text: &str) {
        for c in text.chars() {
            self.put_char(c);
        }
    }

    fn put_char(&mut self, c: char) {
        self.out.push(c);
        self.column = if c == '\n' { 0 } else { self.column + 1 };
    }

    fn line(&mut self, indent: usize) {
        self.put_char('\n');
        for _ in 0..indent {
            self.put_char(' ');
        }
    }

    /// `here`: the first entry stands where the writer is (behind `- `, or at the start).
    fn map(&mut self, node: &Node, indent: usize, here: bool) {
        let mut entries: Vec<(&str, &Node)> = node
            .as_map()
            .into_iter()
            .flat_map(|m| m.iter())
            .map(|(k, v)| (k.as_str(), v))
            .collect();
        entries.sort_by(|(a, _), (b, _)| natural(a, b));
        for (i, (key, value)) in entries.into_iter().enumerate() {
            if i > 0 || !here {
                self.fresh(indent);
            }
            if key.len() > SIMPLE_KEY || key.contains('\n') {
                self.put("? ");
                self.string(key, indent + 2, false);
                self.fresh(indent);
            } else {
                self.string(key, indent, true);
            }
            self.put(":");
            self.value(value, indent, indent);
        }
    }

    fn list(&mut self, node: &Node, indent: usize, here: bool) {
        for (i, item) in node.as_list().into_iter().flatten().enumerate() {
            if i > 0 || !here {
                self.fresh(indent);
            }
            self.put("-");
            match item {
                Node::Map(map) if !map.is_empty() => {
                    self.put(" ");
                    self.map(item, indent + 2, true);
                }
                Node::List(list) if !list.is_empty() => {
                    self.put(" ");
                    self.list(item, indent + 2, true);
                }
                scalar => {
                    self.put(" ");
                    self.scalar(scalar, indent + 2);
                }
            }
        }
    }

    /// What stands behind `key:`; maps go deeper, lists do not.
    fn value(&mut self, value: &Node, indent: usize, list_indent: usize) {
        match value {
            Node::Map(map) if !map.is_empty() => self.map(value, indent + 2, false),
            Node::List(list) if !list.is_empty() => self.list(value, list_indent, false),
            scalar => {
                self.put(" ");
                self.scalar(scalar, indent + 2);
            }
        }
    }

    fn scalar(&mut self, node: &Node, indent: usize) {
        match node {
            Node::Null => self.put("null"),
            Node::Bool(b) => self.put(if *b { "true" } else { "false" }),
            Node::Int(i) => self.put(&i.to_string()),
            Node::Float(f) => self.put(&float(*f)),
            Node::String(s) => self.string(s, indent, false),
            Node::List(_) => self.put("[]"),
            Node::Map(_) => self.put("{}"),
        }
    }

    fn string(&mut self, text: &str, indent: usize, key: bool) {
        let analysis = Analysis::of(text);
        if text.contains('\n') && !key && analysis.block {
            return self.literal(text, indent);
        }
        let plain = !text.contains('\n') && is_string(text);
        if plain && analysis.plain {
            self.folded(text, indent, !key);
        } else if plain && analysis.single {
            self.single(text, indent, !key);
        } else {
            self.double(text, indent, !key);
        }
    }

    fn folded(&mut self, text: &str, indent: usize, fold: bool) {
        let chars: Vec<char> = text.chars().collect();
        let mut spaces = false;
        for (i, c) in chars.iter().enumerate() {
            if *c == ' ' && fold && !spaces && self.column > WIDTH && chars.get(i + 1) != Some(&' ') {
                self.line(indent);
            } else {
                self.put_char(*c);
            }
            spaces = *c == ' ';
        }
    }

    fn single(&mut self, text: &str, indent: usize, fold: bool) {
        self.put_char('\'');
        let chars: Vec<char> = text.chars().collect();
        let mut spaces = false;
        for (i, c) in chars.iter().enumerate() {
            let inside = i > 0 && i + 1 < chars.len();
            if *c == ' ' && fold && !spaces && self.column > WIDTH && inside && chars.get(i + 1) != Some(&' ') {
                self.line(indent);
            } else {
                if *c == '\'' {
                    self.put_char('\'');
                }
                self.put_char(*c);
            }
            spaces = *c == ' ';
        }
        self.put_char('\'');
    }

    fn double(&mut self, text: &str, indent: usize, fold: bool) {
        self.put_char('"');
        let chars: Vec<char> = text.chars().collect();
        let mut spaces = false;
        for (i, c) in chars.iter().enumerate() {
            let inside = i > 0 && i + 1 < chars.len();
            match c {
                ' ' if fold && !spaces && self.column > WIDTH && inside => {
                    self.line(indent);
                    if chars.get(i + 1) == Some(&' ') {
                        self.put_char('\\');
                    }
                }
                '"' | '\\' => {
                    self.put_char('\\');
                    self.put_char(*c);
                }
                c if !printable(*c) || is_break(*c) || *c == '\u{feff}' => self.escape(*c),
                c => self.put_char(*c),
            }
            spaces = *c == ' ';
        }
        self.put_char('"');
    }

    fn escape(&mut self, c: char) {
        let short = match c {
            '\0' => "\\0",
            '\u{7}' => "\\a",
            '\u{8}' => "\\b",
            '\t' => "\\t",
            '\n' => "\\n",
            '\u{b}' => "\\v",
            '\u{c}' => "\\f",
            '\r' => "\\r",
            '\u{1b}' => "\\e",
            '\u{85}' => "\\N",
            '\u{a0}' => "\\_",
            '\u{2028}' => "\\L",
            '\u{2029}' => "\\P",
            _ => "",
        };
        match (short, c as u32) {
            ("", v @ 0..=0xff) => self.put(&format!("\\x{v:02X}")),
            ("", v @ 0x100..=0xffff) => self.put(&format!("\\u{v:04X}")),
            ("", v) => self.put(&format!("\\U{v:08X}")),
            (short, _) => self.put(short),
        }
    }

    /// `|`, with what it takes to get leading space and trailing line breaks back.
    fn literal(&mut self, text: &str, indent: usize) {
        self.put_char('|');
        if text.starts_with([' ', '\n']) {
            self.put_char('2');
        }
        if !text.ends_with('\n') {
            self.put_char('-');
        } else if text.len() == 1 || text.ends_with("\n\n") {
            self.put_char('+');
        }
        self.put_char('\n');
        let mut at_start = true;
        for c in text.chars() {
            if c == '\n' {
                self.put_char('\n');
                at_start = true;
            } else {
                if at_start {
                    for _ in 0..indent {
                        self.put_char(' ');
                    }
                }
                self.put_char(c);
                at_start = false;
            }
        }
    }

    /// A new line unless a literal has just ended with one.
    fn fresh(&mut self, indent: usize) {
        if self.out.ends_with('\n') {
            for _ in 0..indent {
                self.put_char(' ');
            }
        } else if !self.out.is_empty() {
            self.line(indent);
        }
    }
}

/// Which styles a text allows in block context.
struct Analysis {
    plain: bool,
    single: bool,
    block: bool,
}

impl Analysis {
    fn of(text: &str) -> Analysis {
        let chars: Vec<char> = text.chars().collect();
        let mut indicators = text.starts_with("---") || text.starts_with("...");
        let (mut special, mut breaks) = (false, false);
        let (mut leading, mut trailing_space, mut trailing) = (false, false, false);
        let (mut space_break, mut break_space, mut tabs) = (false, false, false);
        let (mut was_space, mut was_break, mut blank_before) = (false, false, true);
        for (i, &c) in chars.iter().enumerate() {
            let next_blank = chars.get(i + 1).is_none_or(|n| matches!(n, ' ' | '\t') || is_break(*n));
            let (first, last) = (i == 0, i + 1 == chars.len());
            indicators |= match c {
                '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`'
                    if first =>
                {
                    true
                }
                '?' | '-' if first => next_blank,
                ':' => next_blank,
                '#' => blank_before,
                _ => false,
            };
            if c == '\t' {
                tabs = true;
            } else {
                special |= !printable(c) || c == '\u{feff}';
            }
            breaks |= is_break(c);
            if c == ' ' {
                leading |= first;
                trailing_space |= last;
                break_space |= was_break;
                (was_space, was_break) = (true, false);
            } else if is_break(c) {
                leading |= first;
                trailing |= last;
                space_break |= was_space;
                (was_space, was_break) = (false, true);
            } else {
                (was_space, was_break) = (false, false);
            }
            blank_before = matches!(c, ' ' | '\t') || is_break(c);
        }
        let hard = space_break || special || tabs;
        Analysis {
            plain: !text.is_empty()
                && !(leading || trailing_space || trailing || break_space || hard || breaks || indicators),
            single: !(break_space || hard),
            block: !(trailing_space || space_break || special),
        }
    }
}

fn is_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn printable(c: char) -> bool {
    matches!(c, '\n' | '\u{20}'..='\u{7e}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' if c != '\u{feff}')
}

/// Whether a reader would take the bare text for a string.
fn is_string(text: &str) -> bool {
    const WORDS: [&str; 37] = [
        "y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON", "n", "N", "no", "No", "NO", "false",
        "False", "FALSE", "off", "Off", "OFF", "", "~", "null", "Null", "NULL", ".nan", ".NaN", ".NAN", ".inf", ".Inf",
        ".INF", "+.inf", "-.inf", "+.Inf", "-.Inf",
    ];
    static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
        let pattern = concat!(
            r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?",
            r"|[-+]?0[xX][0-9a-fA-F]+|[-+]?0[bB][01]+|[-+]?0[oO]?[0-7]+",
            r"|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?)$"
        );
        Regex::new(pattern).expect("the pattern is valid")
    });
    static DATE: LazyLock<Regex> = LazyLock::new(|| {
        let pattern = concat!(
            r"^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}",
            r"(?:[Tt][0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}(?:\.[0-9]+)?(?:Z|[-+][0-9]{2}:[0-9]{2})",
            r"| [0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}(?:\.[0-9]+)?)?$"
        );
        Regex::new(pattern).expect("the pattern is valid")
    });
    if WORDS.contains(&text) || matches!(text, "+.INF" | "-.INF" | "<<") {
        return false;
    }
    match text.as_bytes().first() {
        Some(b'0'..=b'9' | b'+' | b'-' | b'.') => {
            let bare = text.replace('_', "");
            !(NUMBER.is_match(text) || NUMBER.is_match(&bare) || DATE.is_match(text))
        }
        _ => true,
    }
}

/// Go's shortest form with `g`.
fn float(value: f64) -> String {
    let scientific = format!("{value:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    match exponent.parse::<i32>() {
        Ok(-4..6) => value.to_string(),
        Ok(e) => format!("{mantissa}e{}{:02}", if e < 0 { '-' } else { '+' }, e.abs()),
        Err(_) => scientific,
    }
}

/// Letters after everything else, runs of digits by their number.
fn natural(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    for i in 0..a.len().min(b.len()) {
        if a[i] == b[i] {
            continue;
        }
        let (a_letter, b_letter) = (a[i].is_alphabetic(), b[i].is_alphabetic());
        if a_letter && b_letter {
            return a[i].cmp(&b[i]);
        }
        if a_letter || b_letter {
            return if b_letter { Ordering::Less } else { Ordering::Greater };
        }
        // Zeros in front of a number count only where no other digit stands before them.
        let after_digit = a[..i]
            .iter()
            .rev()
            .take_while(|c| c.is_ascii_digit())
            .any(|c| *c != '0');
        let start = i64::from((a[i] == '0' || b[i] == '0') && after_digit);
        let run = |text: &[char]| {
            let digits = text[i..].iter().take_while(|c| c.is_ascii_digit());
            let fold = |n: i64, c: &char| n.saturating_mul(10).saturating_add(i64::from(*c as u32 - '0' as u32));
            (digits.clone().fold(start, fold), digits.count())
        };
        let ((a_number, a_length), (b_number, b_length)) = (run(&a), run(&b));
        return a_number
            .cmp(&b_number)
            .then(a_length.cmp(&b_length))
            .then(a[i].cmp(&b[i]));
    }
    a.len().cmp(&b.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    fn yaml(node: Node) -> String {
        String::from_utf8(write(&node)).unwrap()
    }

    #[test]
    fn maps_indent_and_lists_in_them_do_not() {
        let object = node!({
            "kind": "APIGroup", "versions": [{"groupVersion": "apps/v1", "version": "v1"}, {"a": {"b": []}}],
            "metadata": {}, "nested": [["x", 1], [true, null]], "spec": {"list": ["a"]},
        });
        assert_eq!(
            yaml(object),
            "kind: APIGroup\nmetadata: {}\nnested:\n- - x\n  - 1\n- - true\n  - null\nspec:\n  list:\n  - a\n\
             versions:\n- groupVersion: apps/v1\n  version: v1\n- a:\n    b: []\n"
        );
    }

    #[test]
    fn strings_are_quoted_where_they_would_read_as_something_else() {
        for (text, written) in [
            ("plain", "plain"),
            ("", "\"\""),
            ("1", "\"1\""),
            ("1.5e3", "\"1.5e3\""),
            ("yes", "\"yes\""),
            ("2026-11-24T06:00:00Z", "\"2026-11-24T06:00:00Z\""),
            ("12:30", "\"12:30\""),
            ("10.0.0.1", "10.0.0.1"),
            ("a: b", "'a: b'"),
            ("*", "'*'"),
            ("it's # x", "'it''s # x'"),
            ("-a", "-a"),
            ("- a", "'- a'"),
            ("tab\there", "\"tab\\there\""),
            ("{x}", "'{x}'"),
            ("a:b", "a:b"),
            ("v1", "v1"),
            (" lead", "' lead'"),
        ] {
            assert_eq!(yaml(node!({"k": text})), format!("k: {written}\n"), "{text:?}");
        }
    }

    #[test]
    fn lines_break_in_literals_and_fold_when_long() {
        assert_eq!(
            yaml(node!({"a": "x\ny\n", "b": "x\n y", "c": "x\n\n"})),
            "a: |\n  x\n  y\nb: |-\n  x\n   y\nc: |+\n  x\n\n"
        );
        let long = "word ".repeat(20).trim_end().to_owned();
        let text = yaml(node!({"key": long}));
        assert_eq!(
            text,
            format!("key: {}\n  word word word word\n", "word ".repeat(16).trim_end())
        );
    }

    #[test]
    fn keys_are_in_natural_order() {
        let object = node!({"a10": 1, "a9": 1, "a": 1, "B": 1, "a/b": 1, "_x": 1});
        let keys: Vec<String> = yaml(object)
            .lines()
            .map(|l| l.split(':').next().unwrap().to_owned())
            .collect();
        assert_eq!(keys, ["_x", "B", "a", "a/b", "a9", "a10"]);
    }
}
