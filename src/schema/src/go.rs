//! Go's view of a schema: type names as its decoder reports them, and JSON in the order of struct fields.

use crate::types::{Shape, TypeRef};
use fairlead_api::Node;
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

/// JSON with the fields of structs in declared order, as Go marshals them: for values shown in messages.
pub fn go_json(node: &Node, schema: TypeRef) -> String {
    let mut out = Vec::new();
    write(node, Some(schema), &mut out);
    String::from_utf8(out).expect("the writer writes UTF-8")
}

fn write(node: &Node, schema: Option<TypeRef>, out: &mut Vec<u8>) {
    match node {
        Node::List(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write(item, schema.and_then(TypeRef::items), out);
            }
            out.push(b']');
        }
        Node::Map(map) => {
            let order = |name: &str| schema.and_then(|s| s.field(name)).map_or(u16::MAX, |f| f.order);
            let mut entries: Vec<_> = map.iter().collect();
            // Stable: undeclared keys stay sorted, behind the declared ones.
            entries.sort_by_key(|(name, _)| order(name));
            out.push(b'{');
            for (i, (name, value)) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                fairlead_api::json::write_str(name, out);
                out.push(b':');
                write(value, schema.and_then(|s| s.member(name)), out);
            }
            out.push(b'}');
        }
        scalar => fairlead_api::json::write(scalar, out),
    }
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
    use fairlead_api::node;
    use std::sync::Arc;

    #[test]
    fn names_and_order_are_gos() {
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
        assert_eq!(
            go_json(&node!([{"image": "b", "name": "a", "x": 1}]), schema.root()),
            r#"[{"name":"a","image":"b","x":1}]"#
        );
    }
}
