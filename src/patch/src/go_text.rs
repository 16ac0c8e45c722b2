//! Values and types as Go's `fmt` prints them: they stand in messages that clients read.

use fairlead_api::Node;
use std::fmt::Write;

/// `%v` of a decoded JSON value: `map[a:1 b:[x <nil>]]`.
pub fn value(node: &Node) -> String {
    let mut out = String::new();
    write_value(node, None, &mut out);
    out
}

/// `%s` of a decoded JSON value: strings as they are, everything else marked as a mismatch.
pub fn string_verb(node: &Node) -> String {
    let mut out = String::new();
    write_value(node, Some('s'), &mut out);
    out
}

/// `%#v` of a decoded JSON value: Go syntax.
pub fn syntax(node: &Node) -> String {
    match node {
        Node::Null => "interface {}(nil)".into(),
        Node::String(s) => fairlead_api::field::go_quote(s),
        Node::List(items) => {
            let items: Vec<String> = items.iter().map(syntax).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        Node::Map(map) => {
            let members: Vec<String> = map
                .iter()
                .map(|(k, v)| format!("{}:{}", fairlead_api::field::go_quote(k), syntax(v)))
                .collect();
            format!("map[string]interface {{}}{{{}}}", members.join(", "))
        }
        scalar => value(scalar),
    }
}

/// The Go type a decoded JSON value has.
pub fn type_name(node: &Node) -> &'static str {
    match node {
        Node::Null => "%!s(<nil>)",
        Node::Bool(_) => "bool",
        Node::Int(_) => "int64",
        Node::Float(_) => "float64",
        Node::String(_) => "string",
        Node::List(_) => "[]interface {}",
        Node::Map(_) => "map[string]interface {}",
    }
}

/// `%v` of a `float64`.
pub fn float(f: f64) -> String {
    if f.is_nan() {
        return "NaN".into();
    }
    if f.is_infinite() {
        return if f > 0.0 { "+Inf" } else { "-Inf" }.into();
    }
    let scientific = format!("{f:e}");
    let (mantissa, exponent) = scientific.split_once('e').expect("`{:e}` has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is a number");
    if (-4..21).contains(&exponent) {
        return format!("{f}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

fn write_value(node: &Node, verb: Option<char>, out: &mut String) {
    match node {
        Node::String(s) => out.push_str(s),
        Node::List(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(' ');
                }
                write_value(item, verb, out);
            }
            out.push(']');
        }
        Node::Map(map) => {
            out.push_str("map[");
            for (i, (key, item)) in map.iter().enumerate() {
                if i > 0 {
                    out.push(' ');
                }
                out.push_str(key);
                out.push(':');
                write_value(item, verb, out);
            }
            out.push(']');
        }
        scalar => {
            let text = match scalar {
                Node::Bool(b) => b.to_string(),
                Node::Int(i) => i.to_string(),
                Node::Float(f) => float(*f),
                _ => "<nil>".into(),
            };
            match verb {
                None => out.push_str(&text),
                Some(verb) if scalar.is_null() => write_mismatch(out, verb, "<nil>"),
                Some(verb) => write_mismatch(out, verb, &format!("{}={text}", type_name(scalar))),
            }
        }
    }
}

fn write_mismatch(out: &mut String, verb: char, what: &str) {
    write!(out, "%!{verb}({what})").expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn values_print_as_go_prints_them() {
        let v = node!({"b": [1, null, "x y"], "a": {"f": 2.5, "t": true}});
        assert_eq!(value(&v), "map[a:map[f:2.5 t:true] b:[1 <nil> x y]]");
        assert_eq!(string_verb(&node!({"a": 1})), "map[a:%!s(int64=1)]");
        assert_eq!(string_verb(&node!("x")), "x");
        assert_eq!(string_verb(&Node::Null), "%!s(<nil>)");
    }

    #[test]
    fn floats_print_as_go_prints_them() {
        for (f, text) in [
            (1e21, "1e+21"),
            (1e20, "100000000000000000000"),
            (0.00001, "1e-05"),
            (3.0, "3"),
            (0.0001, "0.0001"),
        ] {
            assert_eq!(float(f), text);
        }
    }
}
