//! The Go type of metadata, as every custom resource has it.

use crate::types::{Field, Fields, ListSemantics, PatchStrategy, Shape, Type, TypeId, Types};

const PACKAGE: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Adds `meta/v1 ObjectMeta` and what it needs to a table. `name` and `generate_name` replace the types of these two
/// fields, where a CRD restricts them.
pub(crate) fn push_object_meta(types: &mut Types, name: Option<TypeId>, generate_name: Option<TypeId>) -> TypeId {
    let mut scalar = |shape: Shape, go: &str| {
        types.push(Type {
            shape,
            go: go.into(),
            ..Type::default()
        })
    };
    let string = scalar(Shape::String, "");
    let uid = scalar(Shape::String, "types.UID");
    let operation = scalar(Shape::String, "v1.ManagedFieldsOperationType");
    let boolean = scalar(Shape::Bool, "");
    let int = scalar(Shape::Int { bits: 64 }, "");
    let time = scalar(Shape::Time, "");
    let map = scalar(Shape::Map(string), "");
    let fields_v1 = types.push(Type {
        name: format!("{PACKAGE}.FieldsV1").into(),
        atomic: true,
        preserve_unknown: true,
        ..Type::default()
    });
    let owner = structure(
        types,
        "OwnerReference",
        vec![
            Field {
                required: true,
                ..written("apiVersion", string, 5)
            },
            Field {
                required: true,
                ..written("kind", string, 1)
            },
            Field {
                required: true,
                ..written("name", string, 3)
            },
            Field {
                required: true,
                ..written("uid", uid, 4)
            },
            Field {
                pointer: true,
                ..omitted("controller", boolean, 6)
            },
            Field {
                pointer: true,
                ..omitted("blockOwnerDeletion", boolean, 7)
            },
        ],
    );
    types.types[owner.0 as usize].atomic = true;
    let entry = structure(
        types,
        "ManagedFieldsEntry",
        vec![
            omitted("manager", string, 1),
            omitted("operation", operation, 2),
            omitted("apiVersion", string, 3),
            Field {
                pointer: true,
                ..omitted("time", time, 4)
            },
            omitted("fieldsType", string, 6),
            Field {
                pointer: true,
                ..omitted("fieldsV1", fields_v1, 7)
            },
            omitted("subresource", string, 8),
        ],
    );
    let mut list = |item: TypeId, list: ListSemantics| {
        types.push(Type {
            shape: Shape::List(item),
            list,
            list_declared: true,
            ..Type::default()
        })
    };
    let owners = list(
        owner,
        ListSemantics::Map {
            keys: vec!["uid".into()],
        },
    );
    let finalizers = list(string, ListSemantics::Set);
    let entries = list(entry, ListSemantics::Atomic);
    let merge = PatchStrategy {
        merge: true,
        ..PatchStrategy::default()
    };
    structure(
        types,
        "ObjectMeta",
        vec![
            omitted("name", name.unwrap_or(string), 1),
            omitted("generateName", generate_name.unwrap_or(string), 2),
            omitted("namespace", string, 3),
            omitted("selfLink", string, 4),
            omitted("uid", uid, 5),
            omitted("resourceVersion", string, 6),
            omitted("generation", int, 7),
            Field {
                omit_zero: true,
                ..omitted("creationTimestamp", time, 8)
            },
            Field {
                pointer: true,
                ..omitted("deletionTimestamp", time, 9)
            },
            Field {
                pointer: true,
                ..omitted("deletionGracePeriodSeconds", int, 10)
            },
            omitted("labels", map, 11),
            omitted("annotations", map, 12),
            Field {
                patch: merge,
                patch_merge_key: "uid".into(),
                ..omitted("ownerReferences", owners, 13)
            },
            Field {
                patch: merge,
                ..omitted("finalizers", finalizers, 14)
            },
            omitted("managedFields", entries, 17),
        ],
    )
}

fn structure(types: &mut Types, name: &str, mut fields: Vec<Field>) -> TypeId {
    for (i, field) in fields.iter_mut().enumerate() {
        field.order = i as u16;
    }
    types.push(Type {
        name: format!("{PACKAGE}.{name}").into(),
        shape: Shape::Struct(Fields::new(fields)),
        ..Type::default()
    })
}

fn written(name: &str, ty: TypeId, proto: u32) -> Field {
    Field {
        name: name.into(),
        ty,
        proto,
        ..Field::default()
    }
}

fn omitted(name: &str, ty: TypeId, proto: u32) -> Field {
    Field {
        omit_empty: true,
        ..written(name, ty, proto)
    }
}
