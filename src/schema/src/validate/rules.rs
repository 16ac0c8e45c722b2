//! The walk that hands every value with CEL rules to their evaluator, in upstream's order and with its correlation
//! of old values.
//!
//! Source: apiextensions-apiserver pkg/apiserver/schema/cel/validation.go.

use crate::types::{ListSemantics, Shape, TypeRef, Validation};
use fairlead_api::{FieldErrors, FieldPath, Node};
use std::ops::ControlFlow;

/// Evaluates rules; implemented by the owner of the CEL environment.
pub trait RuleEvaluator {
    /// Evaluates all rules of one value and adds what they say. Breaking ends the walk (the cost budget is spent).
    fn evaluate(&mut self, site: &RuleSite, errors: &mut FieldErrors) -> ControlFlow<()>;
}

/// One value with rules.
pub struct RuleSite<'a> {
    /// The structural type: what `self` looks like to a rule.
    pub schema: TypeRef<'a>,
    /// Where the rules stand: of the type, or of an `allOf` inside it. Identifies compiled programs by address of its
    /// `rules`.
    pub validation: &'a Validation,
    pub value: &'a Node,
    /// `oldSelf`: the stored value of this place, where it can be told which that is.
    pub old: Option<&'a Node>,
    pub path: &'a FieldPath,
    /// The value, or the closest value around it that can be compared, is as it was stored: rules that do not use
    /// `oldSelf` are then forgiven.
    pub unchanged: bool,
    /// Whether this is the whole resource.
    pub is_root: bool,
}

pub(super) fn walk(
    node: &Node,
    old: Option<&Node>,
    schema: TypeRef,
    path: &FieldPath,
    evaluator: &mut dyn RuleEvaluator,
    errors: &mut FieldErrors,
) {
    let mut walk = RuleWalk {
        evaluator,
        errors,
        is_root: path.is_root(),
    };
    let unchanged = old == Some(node);
    let _ = walk.value(
        node,
        Place {
            old,
            correlated: old,
            unchanged,
        },
        schema,
        path,
    );
}

/// What is known about a value's past.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// `oldSelf` of rules.
    old: Option<&'a Node>,
    /// The stored value for ratcheting; differs below atomic maps, which rules cannot look into.
    correlated: Option<&'a Node>,
    unchanged: bool,
}

struct RuleWalk<'a> {
    evaluator: &'a mut dyn RuleEvaluator,
    errors: &'a mut FieldErrors,
    is_root: bool,
}

impl RuleWalk<'_> {
    fn value(&mut self, node: &Node, place: Place, schema: TypeRef, path: &FieldPath) -> ControlFlow<()> {
        let ty = schema.ty();
        if node.is_null() || !ty.name.is_empty() {
            return ControlFlow::Continue(());
        }
        let is_root = std::mem::take(&mut self.is_root);
        if let Some(validation) = ty.validation.as_deref() {
            self.rules(node, place, schema, validation, path, is_root)?;
        }
        match node {
            Node::Map(map) => {
                let keyed = matches!(schema.shape(), Shape::Map(_));
                for (name, value) in map.iter() {
                    let Some(member) = schema.member(name) else { continue };
                    if is_root && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                        continue;
                    }
                    let old = place.old.filter(|_| !ty.atomic).and_then(|o| o.get(name));
                    let correlated = place.correlated.and_then(|o| o.get(name));
                    let place = below(value, old, correlated, place);
                    let at = if keyed { path.key(name) } else { path.child(name) };
                    self.value(value, place, member, &at)?;
                }
            }
            Node::List(items) => {
                let Some(item_type) = schema.items() else {
                    return ControlFlow::Continue(());
                };
                for (i, item) in items.iter().enumerate() {
                    let old = match &ty.list {
                        ListSemantics::Map { keys } => place
                            .old
                            .and_then(Node::as_list)
                            .and_then(|l| l.iter().find(|o| keys.iter().all(|k| o.get(k) == item.get(k)))),
                        _ => None,
                    };
                    self.value(item, below(item, old, old, place), item_type, &path.index(i))?;
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn rules(
        &mut self,
        node: &Node,
        place: Place,
        schema: TypeRef,
        validation: &Validation,
        path: &FieldPath,
        is_root: bool,
    ) -> ControlFlow<()> {
        if !validation.rules.is_empty() {
            let site = RuleSite {
                schema,
                validation,
                value: node,
                old: place.old,
                path,
                unchanged: place.unchanged,
                is_root,
            };
            self.evaluator.evaluate(&site, self.errors)?;
        }
        for part in &validation.all_of {
            self.rules(node, place, schema, &part.validation, path, is_root)?;
        }
        ControlFlow::Continue(())
    }
}

/// Of a member: compared itself where it correlates, otherwise as unchanged as what it is in.
fn below<'a>(value: &Node, old: Option<&'a Node>, correlated: Option<&'a Node>, around: Place) -> Place<'a> {
    let unchanged = match correlated {
        Some(stored) => stored == value,
        None => around.unchanged,
    };
    Place {
        old,
        correlated,
        unchanged,
    }
}
