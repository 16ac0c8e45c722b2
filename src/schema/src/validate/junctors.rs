//! `anyOf`, `oneOf`, `allOf` and `not`.

use super::outcome::{Outcome, pathless};
use super::view::View;
use super::{Ratchet, Walk};
use crate::types::Constraint;
use fairlead_api::Node;

impl Walk {
    pub(super) fn junctors(&mut self, view: View, node: &Node, old: Option<&Node>) -> Outcome {
        let mut result = Outcome::default();
        if let Some(v) = view.validation() {
            if !v.any_of.is_empty() {
                self.any_of(&v.any_of, node, old, &mut result);
            }
            if !v.one_of.is_empty() {
                self.one_of(&v.one_of, node, old, &mut result);
            }
            if !v.all_of.is_empty() {
                self.all_of(&v.all_of, node, old, &mut result);
            }
            if let Some(not) = &v.not
                && self.alternative(not, node, old).is_valid()
            {
                result.add(pathless(format!("{:?} must not validate the schema (not)", self.path)));
            }
        }
        result.matches += 1;
        result
    }

    fn alternative(&mut self, constraint: &Constraint, node: &Node, old: Option<&Node>) -> Outcome {
        self.value(View::Constraint(constraint), node, old, Ratchet::No)
    }

    fn any_of(&mut self, alternatives: &[Constraint], node: &Node, old: Option<&Node>, result: &mut Outcome) {
        let mut best: Option<Outcome> = None;
        for constraint in alternatives {
            let outcome = self.alternative(constraint, node, old);
            if outcome.is_valid() {
                return result.merge(outcome);
            }
            keep_better(&mut best, outcome);
        }
        result.add(pathless(format!(
            "{:?} must validate at least one schema (anyOf)",
            self.path
        )));
        best.into_iter().for_each(|b| result.merge(b));
    }

    fn one_of(&mut self, alternatives: &[Constraint], node: &Node, old: Option<&Node>, result: &mut Outcome) {
        let mut best: Option<Outcome> = None;
        let mut first_valid: Option<Outcome> = None;
        let mut valid = 0;
        for constraint in alternatives {
            let outcome = self.alternative(constraint, node, old);
            if outcome.is_valid() {
                valid += 1;
                best = None;
                first_valid.get_or_insert(outcome);
            } else if valid == 0 {
                keep_better(&mut best, outcome);
            }
        }
        if valid == 1 {
            return first_valid.into_iter().for_each(|o| result.merge(o));
        }
        let found = if valid == 0 {
            "Found none valid".to_owned()
        } else {
            format!("Found {valid} valid alternatives")
        };
        result.add(pathless(format!(
            "{:?} must validate one and only one schema (oneOf). {found}",
            self.path
        )));
        best.into_iter().for_each(|b| result.merge(b));
    }

    fn all_of(&mut self, parts: &[Constraint], node: &Node, old: Option<&Node>, result: &mut Outcome) {
        let mut valid = 0;
        for constraint in parts {
            let outcome = self.alternative(constraint, node, old);
            valid += usize::from(outcome.is_valid());
            result.merge(outcome);
        }
        if valid != parts.len() {
            let none = if valid == 0 { ". None validated" } else { "" };
            result.add(pathless(format!(
                "{:?} must validate all the schemas (allOf){none}",
                self.path
            )));
        }
    }
}

/// Upstream complains about the first of the alternatives that went furthest.
fn keep_better(best: &mut Option<Outcome>, outcome: Outcome) {
    if best.as_ref().is_none_or(|b| outcome.matches > b.matches) {
        *best = Some(outcome);
    }
}
