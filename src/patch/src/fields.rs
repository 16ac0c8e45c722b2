//! [`FieldSet`]: a set of field paths, as `fieldsV1` of a managedFields entry holds it.
//!
//! A tree of sorted vectors: set operations are merges, and no path is ever built as text. [`Element`] is one step of
//! a path, [`Path`] a whole one (for messages).
// PERFORMANCE: per-request path

mod element;
mod path;
mod wire;

pub use element::{Element, compare_values, equal_values};
pub use path::{Path, PathPattern};

use std::cmp::Ordering;

/// A set of paths. A path in it says nothing about the paths above or below.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldSet {
    /// Sorted by element; each is a member, or has children, or both.
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub element: Element,
    /// Whether the path that ends here is in the set.
    pub member: bool,
    pub children: FieldSet,
}

impl FieldSet {
    pub const fn new() -> FieldSet {
        FieldSet { entries: Vec::new() }
    }

    /// A set of paths of field names: `FieldSet::of(&[&["status"], &["spec", "replicas"]])`.
    pub fn of(paths: &[&[&str]]) -> FieldSet {
        let mut set = FieldSet::new();
        for path in paths {
            let path: Path = path.iter().map(|name| Element::field(name)).collect();
            set.insert(&path);
        }
        set
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many paths are in it.
    pub fn len(&self) -> usize {
        self.entries
            .iter()
            .map(|e| usize::from(e.member) + e.children.len())
            .sum()
    }

    /// Adds `path`, and nothing above it.
    pub fn insert(&mut self, path: &[Element]) {
        let Some((last, above)) = path.split_last() else { return };
        let set = above.iter().fold(self, |set, element| &mut set.slot(element).children);
        set.slot(last).member = true;
    }

    pub fn contains(&self, path: &[Element]) -> bool {
        let Some((last, above)) = path.split_last() else {
            return false;
        };
        let mut set = self;
        for element in above {
            match set.get(element) {
                Some(entry) => set = &entry.children,
                None => return false,
            }
        }
        set.get(last).is_some_and(|e| e.member)
    }

    /// What is in either set.
    #[must_use]
    pub fn union(self, other: FieldSet) -> FieldSet {
        if self.is_empty() {
            return other;
        }
        if other.is_empty() {
            return self;
        }
        let mut entries = Vec::with_capacity(self.entries.len().max(other.entries.len()));
        let (mut left, mut right) = (
            self.entries.into_iter().peekable(),
            other.entries.into_iter().peekable(),
        );
        loop {
            let order = match (left.peek(), right.peek()) {
                (Some(l), Some(r)) => l.element.cmp(&r.element),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return FieldSet { entries },
            };
            match order {
                Ordering::Less => entries.extend(left.next()),
                Ordering::Greater => entries.extend(right.next()),
                Ordering::Equal => {
                    let (Some(l), Some(r)) = (left.next(), right.next()) else {
                        continue;
                    };
                    let children = l.children.union(r.children);
                    entries.push(Entry {
                        element: l.element,
                        member: l.member || r.member,
                        children,
                    });
                }
            }
        }
    }

    /// What is in both sets.
    #[must_use]
    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        let mut entries = Vec::new();
        let mut rest = other.entries.as_slice();
        for entry in &self.entries {
            let Some(twin) = advance(&mut rest, &entry.element) else {
                continue;
            };
            let children = entry.children.intersection(&twin.children);
            push(&mut entries, &entry.element, entry.member && twin.member, children);
        }
        FieldSet { entries }
    }

    /// What is in this set and not in `other`; what lies below a path of `other` stays.
    #[must_use]
    pub fn difference(&self, other: &FieldSet) -> FieldSet {
        self.minus(other, false)
    }

    /// What is in this set and neither in `other` nor below a path of `other`.
    #[must_use]
    pub fn recursive_difference(&self, other: &FieldSet) -> FieldSet {
        self.minus(other, true)
    }

    fn minus(&self, other: &FieldSet, recursive: bool) -> FieldSet {
        if other.is_empty() {
            return self.clone();
        }
        let mut entries = Vec::with_capacity(self.entries.len());
        let mut rest = other.entries.as_slice();
        for entry in &self.entries {
            match advance(&mut rest, &entry.element) {
                None => entries.push(entry.clone()),
                Some(twin) if recursive && twin.member => {}
                Some(twin) => {
                    let children = entry.children.minus(&twin.children, recursive);
                    push(&mut entries, &entry.element, entry.member && !twin.member, children);
                }
            }
        }
        FieldSet { entries }
    }

    /// Whether every path of this set is in `other`.
    pub fn is_subset(&self, other: &FieldSet) -> bool {
        let mut rest = other.entries.as_slice();
        self.entries
            .iter()
            .all(|entry| match advance(&mut rest, &entry.element) {
                Some(twin) => (twin.member || !entry.member) && entry.children.is_subset(&twin.children),
                None => false,
            })
    }

    /// Only what one of `patterns` leads to: the paths on its way, and everything below its end.
    #[must_use]
    pub fn only(&self, patterns: &[PathPattern]) -> FieldSet {
        if patterns.iter().any(|p| p.is_empty()) {
            return self.clone();
        }
        let mut entries = Vec::new();
        for entry in &self.entries {
            let below: Vec<PathPattern> = patterns
                .iter()
                .filter(|p| entry.element.matches(p[0]))
                .map(|p| &p[1..])
                .collect();
            if !below.is_empty() {
                push(&mut entries, &entry.element, entry.member, entry.children.only(&below));
            }
        }
        FieldSet { entries }
    }

    /// Calls `f` with each path: those that end on a level before those that go deeper.
    pub fn for_each(&self, f: &mut impl FnMut(&[Element])) {
        self.walk(&mut Vec::new(), f);
    }

    fn walk(&self, above: &mut Vec<Element>, f: &mut impl FnMut(&[Element])) {
        for entry in self.entries.iter().filter(|e| e.member) {
            above.push(entry.element.clone());
            f(above);
            above.pop();
        }
        for entry in self.entries.iter().filter(|e| !e.children.is_empty()) {
            above.push(entry.element.clone());
            entry.children.walk(above, f);
            above.pop();
        }
    }

    // === for the walks over typed values ===

    pub(crate) fn entries_mut(&mut self) -> &mut Vec<Entry> {
        &mut self.entries
    }

    pub(crate) fn get(&self, element: &Element) -> Option<&Entry> {
        self.entries
            .binary_search_by(|e| e.element.cmp(element))
            .ok()
            .map(|i| &self.entries[i])
    }

    /// The entry of a field name, looked up without making an element.
    pub(crate) fn get_field(&self, name: &str) -> Option<&Entry> {
        self.entries
            .binary_search_by(|e| e.element.cmp_field(name))
            .ok()
            .map(|i| &self.entries[i])
    }

    /// Adds what a walk found at one element; elements mostly come in order.
    pub(crate) fn attach(&mut self, element: &Element, member: bool, children: FieldSet) {
        if !member && children.is_empty() {
            return;
        }
        if self.entries.last().is_none_or(|last| last.element < *element) {
            self.entries.push(Entry {
                element: element.clone(),
                member,
                children,
            });
            return;
        }
        let entry = self.slot(element);
        entry.member |= member;
        entry.children = std::mem::take(&mut entry.children).union(children);
    }

    /// A set of entries in any order; those of one element merge.
    pub(crate) fn from_entries(mut entries: Vec<Entry>) -> FieldSet {
        if entries.windows(2).all(|w| w[0].element < w[1].element) {
            return FieldSet { entries };
        }
        entries.sort_by(|a, b| a.element.cmp(&b.element));
        let mut set = FieldSet {
            entries: Vec::with_capacity(entries.len()),
        };
        for entry in entries {
            set.attach(&entry.element, entry.member, entry.children);
        }
        set
    }

    fn slot(&mut self, element: &Element) -> &mut Entry {
        let i = match self.entries.binary_search_by(|e| e.element.cmp(element)) {
            Ok(i) => i,
            Err(i) => {
                let entry = Entry {
                    element: element.clone(),
                    member: false,
                    children: FieldSet::new(),
                };
                self.entries.insert(i, entry);
                i
            }
        };
        &mut self.entries[i]
    }
}

fn push(entries: &mut Vec<Entry>, element: &Element, member: bool, children: FieldSet) {
    if member || !children.is_empty() {
        entries.push(Entry {
            element: element.clone(),
            member,
            children,
        });
    }
}

/// The entry of `element` in the sorted `rest`, which loses everything before it.
fn advance<'a>(rest: &mut &'a [Entry], element: &Element) -> Option<&'a Entry> {
    while let Some((first, others)) = rest.split_first() {
        match first.element.cmp(element) {
            Ordering::Less => *rest = others,
            Ordering::Equal => {
                *rest = others;
                return Some(first);
            }
            Ordering::Greater => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests;
