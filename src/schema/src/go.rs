//! Go's view of a schema: type names as its decoder reports them.

use crate::types::{Shape, TypeRef};
use std::borrow::Cow;

/// The type as Go's `reflect` prints it: `v1.PodSpec`, `[]v1.Container`, `map[string]string`, `int32`.
pub fn go_name(schema: TypeRef<'_>) -> Cow<'_, str> {
    let ty = schema.ty();
    if !ty.go.is_empty() {
        return Cow::Borrowed(&ty.go);
    }
    match &ty.shape {
        Shape::Struct(_) | Shape::Any if !ty.name.is_empty() => Cow::Borrowed(package_and_name(&ty.name)),
        Shape::Struct(_) | Shape::Any => Cow::Borrowed("interface {}"),
        Shape::Bool => Cow::Borrowed("bool"),
        Shape::Int { bits: 32 } => Cow::Borrowed("int32"),
        Shape::Int { .. } => Cow::Borrowed("int64"),
        Shape::Float => Cow::Borrowed("float64"),
        Shape::String => Cow::Borrowed("string"),
        Shape::Bytes => Cow::Borrowed("[]uint8"),
        Shape::Quantity => Cow::Borrowed("resource.Quantity"),
        Shape::Time => Cow::Borrowed("v1.Time"),
        Shape::MicroTime => Cow::Borrowed("v1.MicroTime"),
        Shape::Duration => Cow::Borrowed("v1.Duration"),
        Shape::IntOrString => Cow::Borrowed("intstr.IntOrString"),
        Shape::List(items) => Cow::Owned(format!("[]{}", go_name(schema.with(*items)))),
        Shape::Map(values) => Cow::Owned(format!("map[string]{}", go_name(schema.with(*values)))),
    }
}

/// The name of a struct without its package, as in `Go struct field PodSpec.…`.
pub(crate) fn struct_name<'a>(schema: TypeRef<'a>) -> &'a str {
    let ty = schema.ty();
    let name = if ty.go.is_empty() { &ty.name } else { &ty.go };
    name.rsplit('.').next().unwrap_or_default()
}

/// `v1.PodSpec` of `io.k8s.api.core.v1.PodSpec`.
fn package_and_name(name: &str) -> &str {
    let mut dots = name.rmatch_indices('.').map(|(i, _)| i);
    dots.next();
    dots.next().map_or(name, |i| &name[i + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Field, Fields, Schema, Type, Types};
    use std::sync::Arc;

    #[test]
    fn names_are_gos() {
        let mut types = Types::default();
        let string = types.push(Type {
            shape: Shape::String,
            ..Type::default()
        });
        let field = |name: &str, order| Field {
            name: name.into(),
            ty: string,
            order,
            ..Field::default()
        };
        let fields = Fields::new(vec![field("name", 0), field("image", 1)]);
        let container = types.push(Type {
            name: "io.k8s.api.core.v1.Container".into(),
            shape: Shape::Struct(fields),
            ..Type::default()
        });
        let list = types.push(Type {
            shape: Shape::List(container),
            ..Type::default()
        });
        let schema = Schema {
            types: Arc::new(types),
            root: list,
        };
        assert_eq!(go_name(schema.root()), "[]v1.Container");
        assert_eq!(struct_name(schema.root().with(container)), "Container");
    }
}
