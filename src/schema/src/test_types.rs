//! A small built-in type for tests.

use crate::types::{Field, Fields, ListSemantics, Schema, Shape, Type, TypeId, Types};
use std::sync::Arc;

/// A pod in miniature, with one field of every kind that matters.
pub(crate) fn pod() -> Schema {
    let mut types = Types::default();
    let mut scalar = |shape: Shape, go: &str| {
        types.push(Type {
            shape,
            go: go.into(),
            ..Type::default()
        })
    };
    let string = scalar(Shape::String, "");
    let int = scalar(Shape::Int { bits: 32 }, "");
    let policy = scalar(Shape::String, "v1.RestartPolicy");
    let time = scalar(Shape::Time, "");
    let quantity = scalar(Shape::Quantity, "");
    let bytes = scalar(Shape::Bytes, "");
    let port = scalar(Shape::IntOrString, "");
    let labels = scalar(Shape::Map(string), "");
    let secret = scalar(Shape::Map(bytes), "");
    let limits = scalar(Shape::Map(quantity), "v1.ResourceList");
    let meta = structure(
        &mut types,
        "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
        vec![
            omitted("name", string),
            omitted("labels", labels),
            Field {
                omit_zero: true,
                ..omitted("creationTimestamp", time)
            },
        ],
    );
    let resources = structure(
        &mut types,
        "io.k8s.api.core.v1.ResourceRequirements",
        vec![omitted("limits", limits)],
    );
    let container = structure(
        &mut types,
        "io.k8s.api.core.v1.Container",
        vec![
            Field {
                required: true,
                ..written("name", string)
            },
            omitted("image", string),
            omitted("resources", resources),
            Field {
                default: Some("TCP".into()),
                ..omitted("protocol", string)
            },
        ],
    );
    let keys = vec!["name".into()];
    let containers = types.push(Type {
        shape: Shape::List(container),
        list: ListSemantics::Map { keys },
        list_declared: true,
        ..Type::default()
    });
    let spec = structure(
        &mut types,
        "io.k8s.api.core.v1.PodSpec",
        vec![
            Field {
                required: true,
                keeps_empty: true,
                ..written("containers", containers)
            },
            Field {
                keeps_empty: true,
                ..omitted("initContainers", containers)
            },
            omitted("restartPolicy", policy),
            Field {
                pointer: true,
                ..omitted("replicas", int)
            },
            omitted("secret", secret),
            Field {
                pointer: true,
                ..omitted("port", port)
            },
            Field {
                embedded: "VolumeSource".into(),
                ..omitted("hostPath", string)
            },
        ],
    );
    let status = structure(
        &mut types,
        "io.k8s.api.core.v1.PodStatus",
        vec![omitted("startTime", time)],
    );
    let root = structure(
        &mut types,
        "io.k8s.api.core.v1.Pod",
        vec![
            omitted("kind", string),
            omitted("apiVersion", string),
            omitted("metadata", meta),
            omitted("spec", spec),
            omitted("status", status),
        ],
    );
    Schema {
        types: Arc::new(types),
        root,
    }
}

fn structure(types: &mut Types, name: &str, mut fields: Vec<Field>) -> TypeId {
    for (i, field) in fields.iter_mut().enumerate() {
        field.order = i as u16;
    }
    types.push(Type {
        name: name.into(),
        shape: Shape::Struct(Fields::new(fields)),
        ..Type::default()
    })
}

fn omitted(name: &str, ty: TypeId) -> Field {
    Field {
        omit_empty: true,
        ..written(name, ty)
    }
}

fn written(name: &str, ty: TypeId) -> Field {
    Field {
        name: name.into(),
        ty,
        ..Field::default()
    }
}
