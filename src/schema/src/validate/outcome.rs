//! What came of checking one value: errors, and how much of it was right, by which upstream picks the alternative to
//! complain about.

use fairlead_api::{FieldError, FieldPath};

#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub errors: Vec<FieldError>,
    pub matches: u32,
}

impl Outcome {
    pub fn of(error: FieldError) -> Outcome {
        Outcome {
            errors: vec![error],
            matches: 0,
        }
    }

    pub fn matched(matches: u32) -> Outcome {
        Outcome {
            errors: Vec::new(),
            matches,
        }
    }

    /// Adds an error, unless it was reported already.
    pub fn add(&mut self, error: FieldError) {
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    pub fn merge(&mut self, other: Outcome) {
        self.matches += other.matches;
        other.errors.into_iter().for_each(|e| self.add(e));
    }

    pub fn is_valid(&self) -> bool {
        self.errors.is_empty()
    }
}

/// The path of an error, of the path in its text: that may begin with a dot.
pub(super) fn path(text: &str) -> FieldPath {
    FieldPath::new(text.strip_prefix('.').unwrap_or(text))
}

/// An error that upstream reports without a path.
pub(super) fn pathless(text: String) -> FieldError {
    FieldError::invalid(&FieldPath::root(), "", text)
}
