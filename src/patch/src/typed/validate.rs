//! Whether an object fits its schema as far as apply cares, in structured-merge-diff's words.

use super::{Cursor, Form, List, Scalar, element};
use crate::fields::Element;
use crate::go_text;
use fairlead_api::Node;
use std::collections::BTreeSet;

/// Whether two items of one key are an error.
#[derive(Clone, Copy, PartialEq)]
pub enum Duplicates {
    Allowed,
    Refused,
}

/// The mistakes in an object; each a path and a message.
#[derive(Debug, Default)]
pub struct Mistakes(Vec<(String, String)>);

/// Checks `node` against the type at `cursor`.
pub fn validate(cursor: Cursor, node: &Node, duplicates: Duplicates) -> Result<(), Mistakes> {
    let mut walk = Walk {
        duplicates,
        path: Vec::new(),
        mistakes: Mistakes::default(),
    };
    walk.node(cursor, node);
    if walk.mistakes.0.is_empty() {
        Ok(())
    } else {
        Err(walk.mistakes)
    }
}

impl std::fmt::Display for Mistakes {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let line = |(path, message): &(String, String)| match path.as_str() {
            "" => message.clone(),
            path => format!("{path}: {message}"),
        };
        match self.0.as_slice() {
            [one] => f.write_str(&line(one)),
            many => {
                f.write_str("errors:")?;
                many.iter().try_for_each(|mistake| write!(f, "\n  {}", line(mistake)))
            }
        }
    }
}

enum Step<'n> {
    Field(&'n str),
    Item(Element),
}

struct Walk<'n> {
    duplicates: Duplicates,
    path: Vec<Step<'n>>,
    mistakes: Mistakes,
}

impl<'n> Walk<'n> {
    fn node(&mut self, cursor: Cursor, node: &'n Node) {
        let atom = cursor.atom();
        match (atom.resolved(atom.form(Some(node))), node) {
            (_, Node::Null) => {}
            (Form::Map, Node::Map(map)) => {
                for (name, value) in map.iter() {
                    self.path.push(Step::Field(name));
                    let declared = cursor.member(name);
                    match declared {
                        Some((member, _)) => self.node(member, value),
                        None => self.mistake("field not declared in schema".into()),
                    }
                    self.path.pop();
                    if declared.is_none() {
                        return;
                    }
                }
            }
            (Form::List, Node::List(items)) => self.items(atom.list_semantics(), cursor, items),
            (Form::Map, other) => self.mistake(format!("expected map, got &{{{}}}", go_text::value(other))),
            (Form::List, other) => self.mistake(format!("expected list, got &{{{}}}", go_text::value(other))),
            (_, other) => self.scalar(atom.scalar.unwrap_or(Scalar::Any), other),
        }
    }

    fn items(&mut self, list: List, cursor: Cursor, items: &'n [Node]) {
        let mut seen: BTreeSet<Element> = BTreeSet::new();
        for (i, item) in items.iter().enumerate() {
            let element = if matches!(list, List::Atomic) {
                Element::Index(i64::try_from(i).unwrap_or(i64::MAX))
            } else {
                let element = match element::of(list, item, cursor.item()) {
                    Ok(element) => element,
                    Err(why) => return self.mistake(format!("element {i}: {why}")),
                };
                if !seen.insert(element.clone()) && self.duplicates == Duplicates::Refused {
                    self.mistake(format!("duplicate entries for key {element}"));
                }
                element
            };
            self.path.push(Step::Item(element));
            self.node(cursor.item(), item);
            self.path.pop();
        }
    }

    fn scalar(&mut self, scalar: Scalar, node: &Node) {
        let is_scalar = !matches!(node, Node::Map(_) | Node::List(_));
        match scalar {
            Scalar::Numeric if node.as_f64().is_none() => {
                self.mistake(format!(
                    "expected numeric (int or float), got {}",
                    go_text::type_name(node)
                ));
            }
            Scalar::String if node.as_str().is_none() => self.mistake(format!(
                "expected string, got &value.valueUnstructured{{Value:{}}}",
                go_text::syntax(node)
            )),
            Scalar::Boolean if node.as_bool().is_none() => {
                self.mistake(format!("expected boolean, got &{{{}}}", go_text::value(node)));
            }
            Scalar::Any if !is_scalar => {
                self.mistake(format!("expected any scalar, got &{{{}}}", go_text::value(node)))
            }
            _ => {}
        }
    }

    fn mistake(&mut self, message: String) {
        let path = self.path.iter().map(|step| match step {
            Step::Field(name) => format!(".{name}"),
            Step::Item(element) => element.to_string(),
        });
        self.mistakes.0.push((path.collect(), message));
    }
}
