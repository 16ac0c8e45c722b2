//! [`LabelSelector`]: requirements on labels, all of which must hold.

use super::SelectorError;
use super::lexer::{Item, Token, scan};
use crate::field::{FieldError, FieldErrors, FieldPath};
use crate::name;
use crate::node::{Map, Node};
use compact_str::CompactString;
use std::fmt;

/// Requirements that all must hold, sorted by key. The default selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub key: CompactString,
    pub operator: Operator,
    /// Sorted, without repeats.
    pub values: Vec<CompactString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    In,
    NotIn,
    Equals,
    DoubleEquals,
    NotEquals,
    GreaterThan,
    LessThan,
    Exists,
    DoesNotExist,
}

const BINARY_WORDS: &str = "in, notin, =, ==, !=, gt, lt";

impl LabelSelector {
    pub fn everything() -> LabelSelector {
        LabelSelector::default()
    }

    /// What an absent selector of an object means.
    pub fn nothing() -> LabelSelector {
        LabelSelector {
            requirements: Vec::new(),
            nothing: true,
        }
    }

    pub fn new(mut requirements: Vec<Requirement>) -> LabelSelector {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        LabelSelector {
            requirements,
            nothing: false,
        }
    }

    /// Reads `a=b,c in (d,e),!f,g!=h,x>5`.
    pub fn parse(text: &str) -> Result<LabelSelector, SelectorError> {
        Parser {
            items: scan(text),
            at: 0,
        }
        .selector()
        .map(LabelSelector::new)
        .map_err(SelectorError)
    }

    /// Reads a `metav1.LabelSelector` object; null selects nothing, an empty one everything.
    pub fn from_node(selector: &Node) -> Result<LabelSelector, SelectorError> {
        if selector.is_null() {
            return Ok(LabelSelector::nothing());
        }
        let mut requirements = Vec::new();
        if let Some(labels) = selector.get("matchLabels").and_then(Node::as_map) {
            for (key, value) in labels.iter() {
                let value = value.as_str().unwrap_or_default();
                requirements.push(Requirement::new(key, Operator::Equals, vec![value.into()])?);
            }
        }
        for expression in selector.list("matchExpressions") {
            let operator = match expression.str("operator") {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(SelectorError(format!(
                        "{} is not a valid label selector operator",
                        crate::field::go_quote(other)
                    )));
                }
            };
            let values = expression
                .list("values")
                .iter()
                .filter_map(Node::as_str)
                .map(CompactString::from)
                .collect();
            requirements.push(Requirement::new(expression.str("key"), operator, values)?);
        }
        Ok(LabelSelector::new(requirements))
    }

    /// Equality requirements on a plain map, as `spec.selector` of a Service has it. Not checked.
    pub fn from_map(labels: &Map) -> LabelSelector {
        let requirement = |(key, value): (&crate::Key, &Node)| Requirement {
            key: key.clone(),
            operator: Operator::Equals,
            values: vec![value.as_str().unwrap_or_default().into()],
        };
        LabelSelector::new(labels.iter().map(requirement).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    pub fn selects_nothing(&self) -> bool {
        self.nothing
    }

    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether labels, looked up by key, satisfy all requirements.
    pub fn matches_with<'a>(&self, lookup: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(lookup(&r.key)))
    }

    /// Whether an object's labels (`None`: it has none) satisfy all requirements.
    pub fn matches(&self, labels: Option<&Map>) -> bool {
        self.matches_with(|key| labels.and_then(|l| l.get(key)).and_then(Node::as_str))
    }

    /// Whether pairs sorted in any order satisfy all requirements.
    pub fn matches_pairs<K: AsRef<str>, V: AsRef<str>>(&self, labels: &[(K, V)]) -> bool {
        self.matches_with(|key| labels.iter().find(|(k, _)| k.as_ref() == key).map(|(_, v)| v.as_ref()))
    }

    /// The one value that `key` must have, if there is one.
    pub fn exact(&self, key: &str) -> Option<&str> {
        let requirement = self.requirements.iter().find(|r| r.key == key)?;
        match (requirement.operator, requirement.values.as_slice()) {
            (Operator::Equals | Operator::DoubleEquals | Operator::In, [value]) => Some(value),
            _ => None,
        }
    }
}

impl Requirement {
    /// A requirement of a valid key and values.
    pub fn new(key: &str, operator: Operator, mut values: Vec<CompactString>) -> Result<Requirement, SelectorError> {
        let mut errors: FieldErrors = Vec::new();
        let complaints = name::is_qualified_name(key);
        if !complaints.is_empty() {
            errors.push(FieldError::invalid(&FieldPath::new("key"), key, complaints.join("; ")));
        }
        let path = FieldPath::new("values");
        let shown = || Node::List(values.iter().map(|v| Node::String(v.clone())).collect());
        let wrong_count = match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                Some("for 'in', 'notin' operators, values set can't be empty")
            }
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals if values.len() != 1 => {
                Some("exact-match compatibility requires one single value")
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                Some("values set must be empty for exists and does not exist")
            }
            Operator::GreaterThan | Operator::LessThan if values.len() != 1 => {
                Some("for 'Gt', 'Lt' operators, exactly one value is required")
            }
            _ => None,
        };
        errors.extend(wrong_count.map(|why| FieldError::invalid(&path, shown(), why)));
        if matches!(operator, Operator::GreaterThan | Operator::LessThan) {
            for (i, value) in values.iter().enumerate().filter(|(_, v)| v.parse::<i64>().is_err()) {
                errors.push(FieldError::invalid(
                    &path.index(i),
                    value.as_str(),
                    "for 'Gt', 'Lt' operators, the value must be an integer",
                ));
            }
        }
        for (i, value) in values.iter().enumerate() {
            let complaints = name::is_valid_label_value(value);
            if !complaints.is_empty() {
                errors.push(FieldError::invalid(
                    &path.index(i).key(key),
                    value.as_str(),
                    complaints.join("; "),
                ));
            }
        }
        match errors.as_slice() {
            [] => {
                values.sort();
                values.dedup();
                Ok(Requirement {
                    key: key.into(),
                    operator,
                    values,
                })
            }
            [one] => Err(SelectorError(one.to_string())),
            many => {
                let mut texts: Vec<String> = Vec::new();
                for error in many {
                    let text = error.to_string();
                    if !texts.contains(&text) {
                        texts.push(text);
                    }
                }
                Err(SelectorError(if texts.len() == 1 {
                    texts.remove(0)
                } else {
                    format!("[{}]", texts.join(", "))
                }))
            }
        }
    }

    /// Whether a label with this value (`None`: no such label) satisfies the requirement.
    pub fn matches(&self, value: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|v| v == value);
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => value.is_some_and(listed),
            Operator::NotIn | Operator::NotEquals => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan | Operator::LessThan => {
                let parse = |v: &str| v.parse::<i64>().ok();
                match (value.and_then(parse), self.values.first().and_then(|v| parse(v))) {
                    (Some(label), Some(limit)) if self.operator == Operator::GreaterThan => label > limit,
                    (Some(label), Some(limit)) => label < limit,
                    _ => false,
                }
            }
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let key = &self.key;
        let values = self.values.join(",");
        match self.operator {
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
        }
    }
}

/// As `status.selector` of scale shows it: requirements sorted by key, commas between.
impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

// === parsing ===

struct Parser {
    items: Vec<Item>,
    at: usize,
}

/// Words that are operators only directly behind a key.
fn as_value(token: Token) -> Token {
    match token {
        Token::In | Token::NotIn => Token::Word,
        other => other,
    }
}

impl Parser {
    fn peek(&self) -> (Token, &str) {
        let item = &self.items[self.at.min(self.items.len() - 1)];
        (as_value(item.token), &item.text)
    }

    fn next_raw(&mut self) -> (Token, String) {
        let item = self.items[self.at.min(self.items.len() - 1)].clone();
        self.at += 1;
        (item.token, item.text)
    }

    fn next(&mut self) -> (Token, String) {
        let (token, text) = self.next_raw();
        (as_value(token), text)
    }

    fn selector(mut self) -> Result<Vec<Requirement>, String> {
        let mut requirements = Vec::new();
        loop {
            match self.peek() {
                (Token::Word | Token::Not, _) => {}
                (Token::End, _) => return Ok(requirements),
                (_, text) => return Err(format!("found '{text}', expected: !, identifier, or 'end of string'")),
            }
            requirements.push(
                self.requirement()
                    .map_err(|e| format!("unable to parse requirement: {e}"))?,
            );
            match self.next() {
                (Token::End, _) => return Ok(requirements),
                (Token::Comma, _) => {
                    let (token, text) = self.peek();
                    if !matches!(token, Token::Word | Token::Not) {
                        return Err(format!("found '{text}', expected: identifier after ','"));
                    }
                }
                (_, text) => return Err(format!("found '{text}', expected: ',' or 'end of string'")),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let (mut token, mut key) = self.next();
        let mut operator = None;
        if token == Token::Not {
            operator = Some(Operator::DoesNotExist);
            (token, key) = self.next();
        }
        if token != Token::Word {
            return Err(format!("found '{key}', expected: identifier"));
        }
        let complaints = name::is_qualified_name(&key);
        if !complaints.is_empty() {
            return Err(FieldError::invalid(&FieldPath::root(), key, complaints.join("; ")).to_string());
        }
        if matches!(self.peek().0, Token::End | Token::Comma) && operator.is_none() {
            operator = Some(Operator::Exists);
        }
        let made = match operator {
            Some(operator) => Requirement::new(&key, operator, Vec::new()),
            None => {
                let operator = self.operator()?;
                let values = match operator {
                    Operator::In | Operator::NotIn => self.values()?,
                    _ => vec![self.exact_value()?],
                };
                let mut values: Vec<CompactString> = values.into_iter().map(CompactString::from).collect();
                values.sort();
                values.dedup();
                Requirement::new(&key, operator, values)
            }
        };
        made.map_err(|e| e.0)
    }

    fn operator(&mut self) -> Result<Operator, String> {
        match self.next_raw() {
            (Token::In, _) => Ok(Operator::In),
            (Token::NotIn, _) => Ok(Operator::NotIn),
            (Token::Equals, _) => Ok(Operator::Equals),
            (Token::DoubleEquals, _) => Ok(Operator::DoubleEquals),
            (Token::NotEquals, _) => Ok(Operator::NotEquals),
            (Token::Greater, _) => Ok(Operator::GreaterThan),
            (Token::Less, _) => Ok(Operator::LessThan),
            (_, text) => Err(format!("found '{text}', expected: {BINARY_WORDS}")),
        }
    }

    fn values(&mut self) -> Result<Vec<String>, String> {
        let (token, text) = self.next();
        if token != Token::Open {
            return Err(format!("found '{text}' expected: '('"));
        }
        match self.peek() {
            (Token::Word | Token::Comma, _) => {
                let first = self.peek().1.to_owned();
                let values = self.identifiers()?;
                match self.next().0 {
                    Token::Close => Ok(values),
                    _ => Err(format!("found '{first}', expected: ')'")),
                }
            }
            (Token::Close, _) => {
                self.at += 1;
                Ok(vec![String::new()])
            }
            (_, text) => Err(format!("found '{text}', expected: ',', ')' or identifier")),
        }
    }

    fn identifiers(&mut self) -> Result<Vec<String>, String> {
        let mut values = Vec::new();
        loop {
            match self.next() {
                (Token::Word, text) => {
                    values.push(text);
                    match self.peek() {
                        (Token::Comma, _) => {}
                        (Token::Close, _) => return Ok(values),
                        (_, text) => return Err(format!("found '{text}', expected: ',' or ')'")),
                    }
                }
                (Token::Comma, _) => {
                    if values.is_empty() {
                        values.push(String::new());
                    }
                    match self.peek().0 {
                        Token::Close => {
                            values.push(String::new());
                            return Ok(values);
                        }
                        Token::Comma => values.push(String::new()),
                        _ => {}
                    }
                }
                (_, text) => return Err(format!("found '{text}', expected: ',', or identifier")),
            }
        }
    }

    fn exact_value(&mut self) -> Result<String, String> {
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return Ok(String::new());
        }
        match self.next() {
            (Token::Word, text) => Ok(text),
            (_, text) => Err(format!("found '{text}', expected: identifier")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node;

    #[test]
    fn selectors_match() {
        let labels = [("a", "b"), ("c", "d"), ("x", "6"), ("e", "")];
        for (text, expected) in [
            ("", true),
            ("a=b", true),
            ("a==b,c in (d,e),!f,g!=h,x>5,x<7", true),
            ("a!=b", false),
            ("a notin (x,y)", true),
            ("f", false),
            ("e=", true),
            ("e in ()", true),
            ("e in (,z)", true),
            ("a>1", false),
            (" a = b , c ", true),
            ("in=x", false),
            ("x in (in,notin,6)", true),
        ] {
            assert_eq!(
                LabelSelector::parse(text).unwrap().matches_pairs(&labels),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn errors_read_as_upstream() {
        for (text, error) in [
            (
                "a b",
                "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
            ),
            ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("a,,b", "found ',', expected: identifier after ','"),
            ("!a!=b", "found '!=', expected: ',' or 'end of string'"),
            (
                "x>y",
                "unable to parse requirement: values[0]: Invalid value: \"y\": for 'Gt', 'Lt' operators, the value must be an integer",
            ),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            ("=a", "found '=', expected: !, identifier, or 'end of string'"),
            ("a=)", "unable to parse requirement: found ')', expected: identifier"),
        ] {
            assert_eq!(LabelSelector::parse(text).unwrap_err().0, error, "{text}");
        }
        let long = LabelSelector::parse(&format!("a={}", "x".repeat(64))).unwrap_err().0;
        assert!(
            long.starts_with("unable to parse requirement: values[0][a]: Invalid value: \"xxx"),
            "{long}"
        );
    }

    #[test]
    fn objects_become_selectors() {
        let selector = LabelSelector::from_node(&node!({
            "matchLabels": {"b": "1"}, "matchExpressions": [{"key": "a", "operator": "In", "values": ["y", "x"]}],
        }))
        .unwrap();
        assert_eq!(selector.to_string(), "a in (x,y),b=1");
        assert_eq!(selector.exact("b"), Some("1"));
        assert!(LabelSelector::from_node(&node!({})).unwrap().matches(None));
        assert!(!LabelSelector::from_node(&Node::Null).unwrap().matches(None));
        let bad = LabelSelector::from_node(&node!({"matchExpressions": [{"key": "a", "operator": "Bogus"}]}));
        assert_eq!(bad.unwrap_err().0, "\"Bogus\" is not a valid label selector operator");
    }
}
