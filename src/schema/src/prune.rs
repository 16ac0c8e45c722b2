//! Pruning: what a custom resource's schema does not name is removed.
//!
//! Source of the rules: kubernetes/apiextensions-apiserver pkg/apiserver/schema/pruning.
// PERFORMANCE: per-request path

use crate::path::{Path, Step};
use crate::types::{Shape, TypeRef};
use fairlead_api::{Map, Node};

/// Removes unknown fields from a whole resource and returns their paths (`spec.foo`), sorted. Its own `apiVersion`,
/// `kind` and `metadata`, and those of embedded resources, are left as they are.
pub fn prune(node: &mut Node, schema: TypeRef) -> Vec<String> {
    let mut unknown = Vec::new();
    let root = Path {
        parent: None,
        step: Step::Root(""),
    };
    match node {
        Node::Map(map) if keeps_unknown(schema) => keep_map(map, schema, true, &root, &mut unknown),
        Node::Map(map) => prune_map(map, schema, true, &root, &mut unknown),
        other => walk(other, Some(schema), &root, &mut unknown),
    }
    unknown.sort();
    unknown
}

/// Removes unknown fields from a value that is no whole resource, unless its schema embeds one, and returns their paths.
pub fn prune_value(node: &mut Node, schema: TypeRef) -> Vec<String> {
    let mut unknown = Vec::new();
    let root = Path {
        parent: None,
        step: Step::Root(""),
    };
    walk(node, Some(schema), &root, &mut unknown);
    unknown
}

fn walk(node: &mut Node, schema: Option<TypeRef>, path: &Path, unknown: &mut Vec<String>) {
    match (node, schema) {
        (node, Some(schema)) if keeps_unknown(schema) => keep(node, Some(schema), path, unknown),
        (Node::Map(map), Some(schema)) => prune_map(map, schema, schema.ty().embedded_resource, path, unknown),
        (Node::Map(map), None) => remove_all(map, path, unknown),
        (Node::List(items), schema) => {
            let schema = schema.and_then(TypeRef::items);
            for (i, item) in items.iter_mut().enumerate() {
                walk(
                    item,
                    schema,
                    &Path {
                        parent: Some(path),
                        step: Step::Index(i),
                    },
                    unknown,
                );
            }
        }
        _ => {}
    }
}

fn prune_map(map: &mut Map, schema: TypeRef, is_resource: bool, path: &Path, unknown: &mut Vec<String>) {
    if matches!(schema.shape(), Shape::Any) && !is_resource {
        return remove_all(map, path, unknown);
    }
    map.retain(|name, value| {
        if is_resource && is_meta(name) {
            return true;
        }
        let here = Path {
            parent: Some(path),
            step: Step::Key(name),
        };
        let Some(member) = schema.member(name) else {
            unknown.push(here.json());
            return false;
        };
        walk(value, Some(member), &here, unknown);
        true
    });
}

/// Inside what keeps unknown fields, declared ones are still pruned.
fn keep(node: &mut Node, schema: Option<TypeRef>, path: &Path, unknown: &mut Vec<String>) {
    let Some(schema) = schema else { return };
    match node {
        Node::Map(map) => keep_map(map, schema, schema.ty().embedded_resource, path, unknown),
        Node::List(items) => {
            for (i, item) in items.iter_mut().enumerate() {
                keep(
                    item,
                    schema.items(),
                    &Path {
                        parent: Some(path),
                        step: Step::Index(i),
                    },
                    unknown,
                );
            }
        }
        _ => {}
    }
}

fn keep_map(map: &mut Map, schema: TypeRef, is_resource: bool, path: &Path, unknown: &mut Vec<String>) {
    for (name, value) in map.iter_mut() {
        if is_resource && is_meta(name) {
            continue;
        }
        if let Some(member) = schema.member(name) {
            walk(
                value,
                Some(member),
                &Path {
                    parent: Some(path),
                    step: Step::Key(name),
                },
                unknown,
            );
        }
    }
}

fn remove_all(map: &mut Map, path: &Path, unknown: &mut Vec<String>) {
    unknown.extend(map.keys().map(|name| {
        Path {
            parent: Some(path),
            step: Step::Key(name),
        }
        .json()
    }));
    *map = Map::new();
}

fn keeps_unknown(schema: TypeRef) -> bool {
    schema.ty().preserve_unknown
}

pub(crate) fn is_meta(name: &str) -> bool {
    matches!(name, "apiVersion" | "kind" | "metadata")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Field, Fields, Schema, Type, TypeId, Types};
    use fairlead_api::node;
    use std::sync::Arc;

    fn object(types: &mut Types, fields: &[(&str, TypeId)], base: Type) -> TypeId {
        let fields = fields
            .iter()
            .map(|(name, ty)| Field {
                name: (*name).into(),
                ty: *ty,
                ..Field::default()
            })
            .collect();
        types.push(Type {
            shape: Shape::Struct(Fields::new(fields)),
            ..base
        })
    }

    #[test]
    fn unknown_fields_go_except_where_they_are_kept() {
        let mut types = Types::default();
        let string = types.push(Type {
            shape: Shape::String,
            ..Type::default()
        });
        let any = types.push(Type {
            preserve_unknown: true,
            ..Type::default()
        });
        let closed = object(&mut types, &[("x", string)], Type::default());
        let keeping = object(
            &mut types,
            &[("in", closed)],
            Type {
                preserve_unknown: true,
                ..Type::default()
            },
        );
        let embedded = object(
            &mut types,
            &[("spec", closed)],
            Type {
                embedded_resource: true,
                ..Type::default()
            },
        );
        let list = types.push(Type {
            shape: Shape::List(closed),
            ..Type::default()
        });
        let map = types.push(Type {
            shape: Shape::Map(closed),
            ..Type::default()
        });
        let spec = object(
            &mut types,
            &[
                ("any", any),
                ("keep", keeping),
                ("emb", embedded),
                ("list", list),
                ("map", map),
            ],
            Type::default(),
        );
        let root = object(&mut types, &[("spec", spec)], Type::default());
        let schema = Schema {
            types: Arc::new(types),
            root,
        };
        let mut node = node!({
            "apiVersion": "v1", "kind": "X", "metadata": {"zz": 1}, "top": 1,
            "spec": {
                "any": {"a": {"b": 1}}, "keep": {"u": 1, "in": {"x": "1", "y": 2}}, "list": [{"x": "1"}, {"q": 1}],
                "emb": {"apiVersion": "v1", "metadata": {"m": 1}, "spec": {"z": 1}, "status": 1}, "map": {"k.k": {"w": 1}},
            },
        });
        assert_eq!(
            prune(&mut node, schema.root()),
            [
                "spec.emb.spec.z",
                "spec.emb.status",
                "spec.keep.in.y",
                "spec.list[1].q",
                "spec.map.k.k.w",
                "top"
            ]
        );
        assert_eq!(
            node,
            node!({
                "apiVersion": "v1", "kind": "X", "metadata": {"zz": 1},
                "spec": {
                    "any": {"a": {"b": 1}}, "keep": {"u": 1, "in": {"x": "1"}}, "list": [{"x": "1"}, {}],
                    "emb": {"apiVersion": "v1", "metadata": {"m": 1}, "spec": {}}, "map": {"k.k": {}},
                },
            })
        );
    }
}
