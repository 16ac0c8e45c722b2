//! The JSONPath of printer columns and selectable fields: fields, indexes, slices, wildcards, unions, filters, `..`.
//!
//! Source of the grammar: kubernetes/client-go util/jsonpath.

use compact_str::CompactString;
use fairlead_api::{Node, json};
use std::cmp::Ordering;

/// A compiled path. Missing fields select nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(CompactString),
    /// Everything below, at any depth.
    Descend,
    Wildcard,
    Index(i64),
    Slice {
        from: Option<i64>,
        to: Option<i64>,
        step: i64,
    },
    Union(Vec<Step>),
    /// `@.a == "b"`; without an operator: the path selects something.
    Filter {
        left: Operand,
        operator: Option<Operator>,
        right: Operand,
    },
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(JsonPath),
    Value(Node),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

/// The first value that `path` selects. Compiles the path; use [`JsonPath`] for many objects.
pub fn first<'a>(object: &'a Node, path: &str) -> Option<&'a Node> {
    if let Some(found) = simple(object, path) {
        return found;
    }
    JsonPath::parse(path).ok()?.find(object).into_iter().next()
}

/// Plain field paths, without compiling: `None` where the path is more than that.
fn simple<'a>(object: &'a Node, path: &str) -> Option<Option<&'a Node>> {
    if path.contains(['[', '\\', '*', '{', '\'', '"']) || path.contains("..") {
        return None;
    }
    let mut fields = path.strip_prefix('.').unwrap_or(path).split('.');
    Some(fields.try_fold(object, |node, field| node.get(field)))
}

impl JsonPath {
    /// Reads `.spec.replicas`, `.status.conditions[?(@.type=="Ready")].status`; braces around it are allowed.
    ///
    /// # Errors
    /// What is wrong with the path.
    pub fn parse(text: &str) -> Result<JsonPath, String> {
        let text = text.trim();
        let text = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text);
        let text = text.strip_prefix('$').unwrap_or(text);
        let mut parser = Parser { rest: text };
        let steps = parser.steps()?;
        if parser.rest.is_empty() {
            Ok(JsonPath(steps))
        } else {
            Err(format!("unrecognized {:?}", parser.rest))
        }
    }

    /// All values it selects, in order.
    pub fn find<'a>(&self, object: &'a Node) -> Vec<&'a Node> {
        let mut current = vec![object];
        for step in &self.0 {
            let mut next = Vec::new();
            for node in current {
                step.select(node, &mut next);
            }
            current = next;
        }
        current
    }
}

impl Step {
    fn select<'a>(&self, node: &'a Node, out: &mut Vec<&'a Node>) {
        match self {
            Step::Field(name) => out.extend(node.get(name)),
            Step::Descend => descend(node, out),
            Step::Wildcard => match node {
                Node::List(items) => out.extend(items),
                Node::Map(members) => out.extend(members.values()),
                _ => {}
            },
            Step::Index(index) => {
                if let Node::List(items) = node {
                    out.extend(position(*index, items.len()).and_then(|i| items.get(i)));
                }
            }
            Step::Slice { from, to, step } => {
                if let Node::List(items) = node {
                    let bound =
                        |i: i64| (if i < 0 { i + items.len() as i64 } else { i }).clamp(0, items.len() as i64) as usize;
                    let (from, to) = (bound(from.unwrap_or(0)), to.map_or(items.len(), bound));
                    let step = usize::try_from(*step).unwrap_or(1).max(1);
                    out.extend(items.iter().take(to).skip(from).step_by(step));
                }
            }
            Step::Union(steps) => steps.iter().for_each(|step| step.select(node, out)),
            Step::Filter { left, operator, right } => {
                if let Node::List(items) = node {
                    out.extend(items.iter().filter(|item| holds(item, left, *operator, right)));
                }
            }
        }
    }
}

fn descend<'a>(node: &'a Node, out: &mut Vec<&'a Node>) {
    out.push(node);
    match node {
        Node::List(items) => items.iter().for_each(|item| descend(item, out)),
        Node::Map(members) => members.values().for_each(|value| descend(value, out)),
        _ => {}
    }
}

fn position(index: i64, len: usize) -> Option<usize> {
    usize::try_from(if index < 0 { index + len as i64 } else { index }).ok()
}

fn holds(item: &Node, left: &Operand, operator: Option<Operator>, right: &Operand) -> bool {
    let value = |operand: &Operand| match operand {
        Operand::Value(value) => Some(value.clone()),
        Operand::Path(path) => path.find(item).into_iter().next().cloned(),
    };
    let (Some(operator), Some(left)) = (operator, value(left)) else {
        return operator.is_none() && value(left).is_some();
    };
    let Some(right) = value(right) else {
        return false;
    };
    let ordering = match (&left, &right) {
        (Node::String(a), Node::String(b)) => Some(a.cmp(b)),
        (Node::Bool(a), Node::Bool(b)) => Some(a.cmp(b)),
        (a, b) => a.as_f64().zip(b.as_f64()).and_then(|(a, b)| a.partial_cmp(&b)),
    };
    match (operator, ordering) {
        (Operator::Equal, Some(o)) => o == Ordering::Equal,
        (Operator::NotEqual, Some(o)) => o != Ordering::Equal,
        (Operator::NotEqual, None) => left != right,
        (Operator::Less, Some(o)) => o == Ordering::Less,
        (Operator::LessEqual, Some(o)) => o != Ordering::Greater,
        (Operator::Greater, Some(o)) => o == Ordering::Greater,
        (Operator::GreaterEqual, Some(o)) => o != Ordering::Less,
        _ => false,
    }
}

/// A selected value as text: strings bare, objects and lists as JSON.
pub fn text(value: &Node) -> String {
    match value {
        Node::String(s) => s.to_string(),
        other => json::to_string(other),
    }
}

// === parsing ===

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn steps(&mut self) -> Result<Vec<Step>, String> {
        let mut steps = Vec::new();
        loop {
            if self.eat("..") {
                steps.push(Step::Descend);
                if !self.rest.starts_with('[') {
                    steps.push(self.field()?);
                }
            } else if self.eat(".") {
                if !self.rest.is_empty() && !self.rest.starts_with('[') {
                    steps.push(self.field()?);
                }
            } else if self.eat("[") {
                steps.push(self.bracket()?);
            } else if steps.is_empty() && self.rest.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
                steps.push(self.field()?);
            } else {
                return Ok(steps);
            }
        }
    }

    fn eat(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn field(&mut self) -> Result<Step, String> {
        let mut name = CompactString::default();
        let mut chars = self.rest.char_indices();
        let mut end = self.rest.len();
        while let Some((i, c)) = chars.next() {
            match c {
                '\\' => name.extend(chars.next().map(|(_, c)| c)),
                '.' | '[' | ']' | ' ' | ')' | '=' | '!' | '<' | '>' | ',' => {
                    end = i;
                    break;
                }
                c => name.push(c),
            }
        }
        self.rest = &self.rest[end..];
        match name.as_str() {
            "" => Err("a field name is missing".into()),
            "*" => Ok(Step::Wildcard),
            _ => Ok(Step::Field(name)),
        }
    }

    fn bracket(&mut self) -> Result<Step, String> {
        if self.eat("?(") {
            return self.filter();
        }
        let end = closing(self.rest).ok_or("unterminated array")?;
        let (inside, rest) = (&self.rest[..end], &self.rest[end + 1..]);
        self.rest = rest;
        let mut steps = Vec::new();
        for part in inside.split(',') {
            steps.push(bracket_part(part.trim())?);
        }
        match steps.len() {
            1 => Ok(steps.remove(0)),
            _ => Ok(Step::Union(steps)),
        }
    }

    fn filter(&mut self) -> Result<Step, String> {
        let left = self.operand()?;
        self.rest = self.rest.trim_start();
        let operators = [
            ("==", Operator::Equal),
            ("!=", Operator::NotEqual),
            ("<=", Operator::LessEqual),
            (">=", Operator::GreaterEqual),
            ("<", Operator::Less),
            (">", Operator::Greater),
        ];
        let operator = operators
            .into_iter()
            .find(|(token, _)| self.eat(token))
            .map(|(_, operator)| operator);
        let right = if operator.is_some() {
            self.operand()?
        } else {
            Operand::Value(Node::Null)
        };
        self.rest = self.rest.trim_start();
        if self.eat(")]") {
            Ok(Step::Filter { left, operator, right })
        } else {
            Err("unterminated filter".into())
        }
    }

    fn operand(&mut self) -> Result<Operand, String> {
        self.rest = self.rest.trim_start();
        if self.eat("@") {
            return Ok(Operand::Path(JsonPath(self.steps()?)));
        }
        for quote in ['"', '\''] {
            if let Some(rest) = self.rest.strip_prefix(quote) {
                let end = rest.find(quote).ok_or("unterminated quoted string")?;
                self.rest = &rest[end + 1..];
                return Ok(Operand::Value(Node::string(&rest[..end])));
            }
        }
        let end = self
            .rest
            .find([')', '=', '!', '<', '>', ' '])
            .unwrap_or(self.rest.len());
        let word = &self.rest[..end];
        self.rest = &self.rest[end..];
        json::parse(word.as_bytes())
            .map(Operand::Value)
            .map_err(|_| format!("unrecognized value {word:?}"))
    }
}

fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    for (i, c) in text.char_indices() {
        match (c, quote) {
            (']', None) => return Some(i),
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(q)) if c == q => quote = None,
            _ => {}
        }
    }
    None
}

fn bracket_part(part: &str) -> Result<Step, String> {
    for quote in ['\'', '"'] {
        if let Some(name) = part.strip_prefix(quote).and_then(|p| p.strip_suffix(quote)) {
            return Ok(Step::Field(name.replace('\\', "").into()));
        }
    }
    if part == "*" {
        return Ok(Step::Wildcard);
    }
    let number = |text: &str| {
        text.trim()
            .parse::<i64>()
            .map_err(|_| format!("invalid array index {part}"))
    };
    if let Some((from, rest)) = part.split_once(':') {
        let (to, step) = rest.split_once(':').unwrap_or((rest, ""));
        let optional = |text: &str| {
            if text.trim().is_empty() {
                Ok(None)
            } else {
                number(text).map(Some)
            }
        };
        return Ok(Step::Slice {
            from: optional(from)?,
            to: optional(to)?,
            step: optional(step)?.unwrap_or(1),
        });
    }
    Ok(Step::Index(number(part)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    fn find(path: &str) -> String {
        let object = node!({
            "spec": {"replicas": 3, "a.b": "dotted"},
            "status": {"conditions": [{"type": "A", "status": "False"}, {"type": "Ready", "status": "True", "n": 2}]},
        });
        let found = JsonPath::parse(path).unwrap();
        found.find(&object).into_iter().map(text).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn paths_select() {
        for (path, expected) in [
            (".spec.replicas", "3"),
            ("{.spec.replicas}", "3"),
            ("spec.replicas", "3"),
            (".spec.missing", ""),
            (".spec['a.b']", "dotted"),
            (".spec.a\\.b", "dotted"),
            (".status.conditions[0].type", "A"),
            (".status.conditions[-1].type", "Ready"),
            (".status.conditions[9].type", ""),
            (".status.conditions[*].type", "A,Ready"),
            (".status.conditions[0:1].type", "A"),
            (".status.conditions[?(@.type==\"Ready\")].status", "True"),
            (".status.conditions[?(@.type == 'Nope')].status", ""),
            (".status.conditions[?(@.n>1)].type", "Ready"),
            (".status.conditions[?(@.n)].type", "Ready"),
            (
                "..status",
                "{\"conditions\":[{\"status\":\"False\",\"type\":\"A\"},{\"n\":2,\"status\":\"True\",\"type\":\"Ready\"}]},False,True",
            ),
        ] {
            assert_eq!(find(path), expected, "{path}");
        }
        assert!(JsonPath::parse(".a[").is_err());
        assert!(JsonPath::parse(".a[?(@.b==").is_err());
    }
}
