//! Whole paths: for conflicts, and as patterns.

use super::Element;
use std::fmt;

/// The steps from an object's root to a field. Displays as in conflicts: `.spec.ports[port=80,protocol="TCP"].name`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(Vec<Element>);

/// Steps that are field names, or `*` for any element.
pub type PathPattern<'a> = &'a [&'a str];

impl Path {
    pub fn new(steps: &[Element]) -> Path {
        Path(steps.to_vec())
    }
}

impl std::ops::Deref for Path {
    type Target = [Element];

    fn deref(&self) -> &[Element] {
        &self.0
    }
}

impl FromIterator<Element> for Path {
    fn from_iter<I: IntoIterator<Item = Element>>(steps: I) -> Path {
        Path(steps.into_iter().collect())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.0.iter().try_for_each(|element| element.fmt(f))
    }
}
