//! Defaults of a schema, and the nulls that stand for absent values in custom resources.
//!
//! Source of the rules: kubernetes/apiextensions-apiserver pkg/apiserver/schema/defaulting.
// PERFORMANCE: per-request path

use crate::types::{Field, Fields, Shape, TypeRef};
use fairlead_api::{Map, Node};

/// Fills in defaults, recursively, wherever the object that lacks the field exists: nothing is made only to hold one.
///
/// A field of a built-in type that is not a pointer counts as absent when it is zero. A null counts as absent unless
/// the type is nullable.
pub fn set_defaults(node: &mut Node, schema: TypeRef) {
    match (node, schema.shape()) {
        (Node::Map(map), Shape::Struct(fields)) => {
            for field in &fields.fields {
                if let Some(default) = &field.default
                    && lacks(map, field, schema.with(field.ty))
                    && !(field.omit_empty && !field.pointer && is_zero_scalar(default))
                {
                    map.insert(field.name.clone(), default.clone());
                }
            }
            for (name, value) in map.iter_mut() {
                match member(fields, name) {
                    Some(Member::Field(field)) => set_defaults(value, schema.with(field.ty)),
                    Some(Member::Additional(id)) => element(value, schema.with(id)),
                    None => {}
                }
            }
        }
        (Node::Map(map), Shape::Map(values)) => map.values_mut().for_each(|v| element(v, schema.with(*values))),
        (Node::List(items), Shape::List(item)) => items.iter_mut().for_each(|i| element(i, schema.with(*item))),
        _ => {}
    }
}

/// Removes nulls that are neither allowed nor replaced by a default, as custom resources are read. Built-in types do
/// this in [`decode`](crate::decode).
pub fn drop_nulls(node: &mut Node, schema: TypeRef) {
    match (node, schema.shape()) {
        (Node::Map(map), shape @ (Shape::Struct(_) | Shape::Map(_))) => map.retain(|name, value| {
            let (ty, default) = match shape {
                Shape::Struct(fields) => match member(fields, name) {
                    Some(Member::Field(field)) => (schema.with(field.ty), field.default.is_some()),
                    Some(Member::Additional(id)) => (schema.with(id), schema.with(id).ty().default.is_some()),
                    None => return true,
                },
                Shape::Map(values) => (schema.with(*values), schema.with(*values).ty().default.is_some()),
                _ => return true,
            };
            if value.is_null() && !ty.ty().nullable && !default {
                return false;
            }
            drop_nulls(value, ty);
            true
        }),
        (Node::List(items), Shape::List(item)) => items.iter_mut().for_each(|i| drop_nulls(i, schema.with(*item))),
        _ => {}
    }
}

enum Member<'a> {
    Field(&'a Field),
    Additional(crate::TypeId),
}

fn member<'a>(fields: &'a Fields, name: &str) -> Option<Member<'a>> {
    fields
        .get(name)
        .map(Member::Field)
        .or(fields.additional.map(Member::Additional))
}

fn element(node: &mut Node, schema: TypeRef) {
    if node.is_null()
        && !schema.ty().nullable
        && let Some(default) = &schema.ty().default
    {
        *node = default.clone();
    }
    set_defaults(node, schema);
}

fn lacks(map: &Map, field: &Field, ty: TypeRef) -> bool {
    match map.get(&field.name) {
        None => true,
        Some(Node::Null) => !ty.ty().nullable,
        Some(value) => !field.pointer && is_zero_scalar(value),
    }
}

/// Zero as Go's defaulting functions test for it. Objects are never absent once they are there, and empty lists that
/// were kept mean something.
fn is_zero_scalar(value: &Node) -> bool {
    !matches!(value, Node::Map(_) | Node::List(_)) && value.is_zero()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Schema, Type, Types};
    use fairlead_api::node;
    use std::sync::Arc;

    /// `{a: string = "x", n: string = "y" nullable, o: {b: int = 1}, l: [string = "i"], m: {*: string}}`
    fn schema() -> Schema {
        let mut types = Types::default();
        let mut ty = |shape, nullable, default: Option<Node>| {
            types.push(Type {
                shape,
                nullable,
                default,
                ..Type::default()
            })
        };
        let string = ty(Shape::String, false, None);
        let nullable = ty(Shape::String, true, None);
        let int = ty(Shape::Int { bits: 64 }, false, None);
        let item = ty(Shape::String, false, Some("i".into()));
        let list = ty(Shape::List(item), false, None);
        let map = ty(Shape::Map(string), false, None);
        let field = |name: &str, ty, default| Field {
            name: name.into(),
            ty,
            default,
            pointer: true,
            ..Field::default()
        };
        let object = ty(
            Shape::Struct(Fields::new(vec![field("b", int, Some(Node::Int(1)))])),
            false,
            None,
        );
        let root = ty(
            Shape::Struct(Fields::new(vec![
                field("a", string, Some("x".into())),
                field("n", nullable, Some("y".into())),
                field("o", object, None),
                field("l", list, None),
                field("m", map, None),
            ])),
            false,
            None,
        );
        Schema {
            types: Arc::new(types),
            root,
        }
    }

    #[test]
    fn defaults_fill_what_is_absent_and_only_that() {
        for (given, expected) in [
            (node!({}), node!({"a": "x", "n": "y"})),
            (node!({"a": null, "n": null}), node!({"a": "x", "n": null})),
            (node!({"a": "", "o": {}}), node!({"a": "", "n": "y", "o": {"b": 1}})),
            (
                node!({"a": "q", "n": "", "l": [null, "z"]}),
                node!({"a": "q", "n": "", "l": ["i", "z"]}),
            ),
            (
                node!({"a": "q", "n": "", "o": null, "m": {"k": null, "j": "1"}}),
                node!({"a": "q", "n": "", "m": {"j": "1"}}),
            ),
        ] {
            let mut node = given;
            drop_nulls(&mut node, schema().root());
            set_defaults(&mut node, schema().root());
            assert_eq!(node, expected);
        }
    }

    #[test]
    fn zero_is_absent_for_built_in_values() {
        let pod = crate::test_types::pod();
        let mut node = node!({"spec": {"containers": [{"protocol": ""}, {"protocol": "UDP"}]}});
        set_defaults(&mut node, pod.root());
        assert_eq!(
            node,
            node!({"spec": {"containers": [{"protocol": "TCP"}, {"protocol": "UDP"}]}})
        );
    }
}
