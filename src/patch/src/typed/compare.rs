//! What changed between two objects, as sets of paths.

use super::{Atom, Cursor, Form, List, element};
use crate::fields::{Element, FieldSet, PathPattern, equal_values};
use fairlead_api::{Map, Node};

/// A path is in at most one of the three.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    pub removed: FieldSet,
    pub modified: FieldSet,
    pub added: FieldSet,
}

/// What happened at a place itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Here {
    removed: bool,
    modified: bool,
    added: bool,
}

/// Compares `old` with `new`, both of the type at `cursor`.
pub fn compare(cursor: Cursor, old: &Node, new: &Node) -> Comparison {
    walk(cursor, Some(old), Some(new)).1
}

impl Comparison {
    /// Leaves out what is in `reset` or below it.
    pub fn without(&mut self, reset: &FieldSet) {
        if !reset.is_empty() {
            self.each(|set| set.recursive_difference(reset));
        }
    }

    /// Leaves only what `patterns` lead to.
    pub fn only(&mut self, patterns: &[PathPattern]) {
        self.each(|set| set.only(patterns));
    }

    fn each(&mut self, f: impl Fn(&FieldSet) -> FieldSet) {
        for set in [&mut self.removed, &mut self.modified, &mut self.added] {
            *set = f(set);
        }
    }

    /// Adds what was found at one element.
    fn attach(&mut self, element: &Element, here: Here, below: Comparison) {
        self.removed.attach(element, here.removed, below.removed);
        self.modified.attach(element, here.modified, below.modified);
        self.added.attach(element, here.added, below.added);
    }

    fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.modified.is_empty() && self.added.is_empty()
    }

    fn union(self, other: Comparison) -> Comparison {
        Comparison {
            removed: self.removed.union(other.removed),
            modified: self.modified.union(other.modified),
            added: self.added.union(other.added),
        }
    }
}

fn walk(cursor: Cursor, old: Option<&Node>, new: Option<&Node>) -> (Here, Comparison) {
    let atom = cursor.atom();
    let (old_form, new_form) = (atom.form(old), atom.form(new));
    match (old, new) {
        (_, None) => as_form(cursor, &atom, old_form, old, new),
        (None, _) => as_form(cursor, &atom, new_form, old, new),
        _ if old_form == new_form => as_form(cursor, &atom, new_form, old, new),
        // It changed its kind: everything of the old kind goes, everything of the new one comes.
        _ => {
            let (here, below) = as_form(cursor, &atom, old_form, old, new);
            let (also_here, also_below) = as_form(cursor, &atom, new_form, old, new);
            let here = Here {
                removed: here.removed || also_here.removed,
                modified: here.modified || also_here.modified,
                added: here.added || also_here.added,
            };
            (here, below.union(also_below))
        }
    }
}

fn as_form(cursor: Cursor, atom: &Atom, form: Form, old: Option<&Node>, new: Option<&Node>) -> (Here, Comparison) {
    let below = match atom.resolved(form) {
        Form::Scalar | Form::Open => None,
        Form::Map => {
            let (old, new) = (old.and_then(Node::as_map), new.and_then(Node::as_map));
            let empty = old.is_none_or(Map::is_empty) && new.is_none_or(Map::is_empty);
            (!empty && !atom.map_is_atomic()).then(|| members(cursor, old, new))
        }
        Form::List => {
            let granular = !matches!(atom.list_semantics(), List::Atomic);
            let (old, new) = (old.and_then(Node::as_list), new.and_then(Node::as_list));
            let (old, new) = (old.map_or(&[][..], Vec::as_slice), new.map_or(&[][..], Vec::as_slice));
            let empty = old.is_empty() && new.is_empty();
            (!empty && granular).then(|| items_compared(atom.list_semantics(), cursor.item(), old, new))
        }
    };
    match (below, old, new) {
        (Some(below), None, _) => (
            Here {
                added: true,
                ..Here::default()
            },
            below,
        ),
        (Some(below), _, None) => (
            Here {
                removed: true,
                ..Here::default()
            },
            below,
        ),
        (Some(below), ..) => (Here::default(), below),
        (None, old, new) => (leaf(old, new), Comparison::default()),
    }
}

fn leaf(old: Option<&Node>, new: Option<&Node>) -> Here {
    match (old, new) {
        (None, _) => Here {
            added: true,
            ..Here::default()
        },
        (_, None) => Here {
            removed: true,
            ..Here::default()
        },
        (Some(old), Some(new)) => Here {
            modified: !equal_values(old, new),
            ..Here::default()
        },
    }
}

fn members(cursor: Cursor, old: Option<&Map>, new: Option<&Map>) -> Comparison {
    let mut found = Comparison::default();
    let mut old = old.into_iter().flat_map(Map::iter).peekable();
    let mut new = new.into_iter().flat_map(Map::iter).peekable();
    loop {
        let name = match (old.peek(), new.peek()) {
            (Some((a, _)), Some((b, _))) => (*a).min(*b),
            (Some((name, _)), None) | (None, Some((name, _))) => *name,
            (None, None) => return found,
        };
        let old = old.next_if(|(n, _)| *n == name).map(|(_, v)| v);
        let new = new.next_if(|(n, _)| *n == name).map(|(_, v)| v);
        let (here, below) = walk(cursor.member_or_deduced(name).0, old, new);
        if here != Here::default() || !below.is_empty() {
            found.attach(&Element::Field(name.clone()), here, below);
        }
    }
}

fn items_compared(list: List, item: Cursor, old: &[Node], new: &[Node]) -> Comparison {
    let mut found = Comparison::default();
    if old == new {
        return found;
    }
    let (old, new) = (sorted(list, item, old), sorted(list, item, new));
    let (mut old, mut new) = (old.as_slice(), new.as_slice());
    while let Some(element) = first(old, new) {
        let element = element.clone();
        let (was, is) = (take(&mut old, &element), take(&mut new, &element));
        match (was, is) {
            ([] | [_], [] | [_]) => {
                let (here, below) = walk(item, was.first().map(|(_, n)| *n), is.first().map(|(_, n)| *n));
                found.attach(&element, here, below);
            }
            ([_, _, ..], [_, _, ..]) => {
                let same = was.len() == is.len() && was.iter().zip(is).all(|(a, b)| equal_values(a.1, b.1));
                found.attach(
                    &element,
                    Here {
                        modified: !same,
                        ..Here::default()
                    },
                    Comparison::default(),
                );
            }
            // Items that shared an element are owned as one; alone, item by item.
            ([_, _, ..], _) => {
                if let Some((_, node)) = is.first() {
                    let (here, below) = walk(item, None, Some(node));
                    found.attach(&element, here, below);
                }
                found.attach(
                    &element,
                    Here {
                        removed: true,
                        ..Here::default()
                    },
                    Comparison::default(),
                );
            }
            (_, [_, _, ..]) => {
                if let Some((_, node)) = was.first() {
                    let (here, below) = walk(item, Some(node), None);
                    found.attach(&element, here, below);
                }
                found.attach(
                    &element,
                    Here {
                        added: true,
                        ..Here::default()
                    },
                    Comparison::default(),
                );
            }
        }
    }
    found
}

/// The items by element; items of one element stay in their order.
fn sorted<'n>(list: List, item: Cursor, items: &'n [Node]) -> Vec<(Element, &'n Node)> {
    let mut keyed: Vec<(Element, &Node)> = items
        .iter()
        .filter_map(|node| element::of(list, node, item).ok().map(|e| (e, node)))
        .collect();
    keyed.sort_by(|a, b| a.0.cmp(&b.0));
    keyed
}

fn first<'a>(old: &'a [(Element, &Node)], new: &'a [(Element, &Node)]) -> Option<&'a Element> {
    match (old.first(), new.first()) {
        (Some((a, _)), Some((b, _))) => Some(a.min(b)),
        (Some((element, _)), None) | (None, Some((element, _))) => Some(element),
        (None, None) => None,
    }
}

/// Cuts the items of `element` off the front.
fn take<'a, 'n>(items: &mut &'a [(Element, &'n Node)], element: &Element) -> &'a [(Element, &'n Node)] {
    let count = items.iter().take_while(|(e, _)| e == element).count();
    let (taken, rest) = items.split_at(count);
    *items = rest;
    taken
}
