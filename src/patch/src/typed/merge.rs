//! Merges an applied configuration into an object: the configuration's leaves win, nothing is removed.

use super::{Cursor, Form, List, elements};
use crate::fields::Element;
use fairlead_api::{Map, Node};

/// `live` with everything that `config` says. Both are of the type at `cursor`.
pub fn merge(cursor: Cursor, live: &Node, config: &Node) -> Node {
    let atom = cursor.atom();
    let form = atom.resolved(atom.form(Some(config)));
    match form {
        Form::Map if !atom.map_is_atomic() => {
            let (old, new) = (live.as_map(), config.as_map());
            match (old.filter(|m| !m.is_empty()), new.filter(|m| !m.is_empty())) {
                (None, _) => config.clone(),
                // Of another kind, or empty: an empty object or a null adds nothing to what there is.
                (Some(_), None) => live.clone(),
                (Some(old), Some(new)) => Node::Map(members(cursor, old, new)),
            }
        }
        Form::List if !matches!(atom.list_semantics(), List::Atomic) => {
            let (old, new) = (live.as_list(), config.as_list());
            match (old.filter(|l| !l.is_empty()), new.filter(|l| !l.is_empty())) {
                (None, _) => config.clone(),
                (Some(_), None) => live.clone(),
                (Some(old), Some(new)) => Node::List(items(atom.list_semantics(), cursor.item(), old, new)),
            }
        }
        _ => config.clone(),
    }
}

fn members(cursor: Cursor, old: &Map, new: &Map) -> Map {
    let mut merged = Vec::with_capacity(old.len().max(new.len()));
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let name = match (old.peek(), new.peek()) {
            (Some((a, _)), Some((b, _))) => (*a).min(*b),
            (Some((name, _)), None) | (None, Some((name, _))) => *name,
            (None, None) => return Map::from_entries(merged),
        };
        let value = match (old.next_if(|(n, _)| *n == name), new.next_if(|(n, _)| *n == name)) {
            (Some((_, old)), Some((_, new))) => merge(cursor.member_or_deduced(name).0, old, new),
            (Some((_, value)), None) | (None, Some((_, value))) => value.clone(),
            (None, None) => continue,
        };
        merged.push((name.clone(), value));
    }
}

/// The items of both lists. What is in both stands in the configuration's order, with the server's own items between
/// them where they were.
fn items(list: List, item: Cursor, old: &[Node], new: &[Node]) -> Vec<Node> {
    let old_elements = elements(list, old, item);
    let new_elements = elements(list, new, item);
    let in_old = Index::of(&old_elements);
    let in_new = Index::of(&new_elements);
    // The partner of each item in the other list.
    let partner_of_old: Vec<Option<usize>> = old_elements.iter().map(|e| in_new.find(e.as_ref())).collect();
    let partner_of_new: Vec<Option<usize>> = new_elements.iter().map(|e| in_old.find(e.as_ref())).collect();

    let next_shared = next_shared(&partner_of_new);

    let mut merged = Vec::with_capacity(old.len().max(new.len()));
    let mut taken = vec![false; new.len()];
    let (mut l, mut r) = (0, 0);
    while l < old.len() || r < new.len() {
        let partner = partner_of_old.get(l).copied().flatten();
        if l < old.len() && r < new.len() {
            if partner == Some(r) {
                merged.push(merged_item(item, &in_old, partner_of_new[r], old, &new[r]));
                taken[r] = true;
                (l, r) = (l + 1, r + 1);
                continue;
            }
            // An item of both, but not the next of those: it comes when its turn is in the configuration.
            if partner.is_some() && next_shared[r].is_some() && partner != next_shared[r] {
                l += 1;
                continue;
            }
        }
        if l < old.len() {
            match partner {
                None => {
                    merged.push(old[l].clone());
                    l += 1;
                    continue;
                }
                Some(partner) if taken[partner] => l += 1,
                Some(_) => {}
            }
        }
        if r < new.len() {
            merged.push(merged_item(item, &in_old, partner_of_new[r], old, &new[r]));
            taken[r] = true;
            r += 1;
        }
    }
    merged
}

/// For each position the first item from there on that the other list has too.
fn next_shared(partners: &[Option<usize>]) -> Vec<Option<usize>> {
    let mut next = vec![None; partners.len()];
    for i in (0..partners.len()).rev() {
        next[i] = partners[i].map(|_| i).or(next.get(i + 1).copied().flatten());
    }
    next
}

fn merged_item(item: Cursor, in_old: &Index, partner: Option<usize>, old: &[Node], new: &Node) -> Node {
    match partner {
        // Several items of one element are replaced, not merged.
        Some(i) if !in_old.is_repeated(i) => merge(item, &old[i], new),
        _ => new.clone(),
    }
}

/// The items of a list by element.
struct Index<'a> {
    elements: &'a [Option<Element>],
    sorted: Vec<usize>,
}

impl<'a> Index<'a> {
    fn of(elements: &'a [Option<Element>]) -> Index<'a> {
        let mut sorted: Vec<usize> = (0..elements.len()).filter(|i| elements[*i].is_some()).collect();
        sorted.sort_by(|a, b| elements[*a].cmp(&elements[*b]));
        Index { elements, sorted }
    }

    /// The first item of `element`.
    fn find(&self, element: Option<&Element>) -> Option<usize> {
        let element = element?;
        let at = self
            .sorted
            .partition_point(|i| self.elements[*i].as_ref().is_some_and(|e| e < element));
        let found = *self.sorted.get(at)?;
        (self.elements[found].as_ref() == Some(element)).then_some(found)
    }

    /// Whether the first item of an element has others of the same element behind it.
    fn is_repeated(&self, first: usize) -> bool {
        let element = self.elements[first].as_ref();
        let at = self.sorted.partition_point(|i| self.elements[*i].as_ref() < element);
        self.sorted
            .get(at + 1)
            .is_some_and(|i| self.elements[*i].as_ref() == element)
    }
}
