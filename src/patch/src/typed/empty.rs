//! The object that a create is compared with: what the Go type writes when nothing is set.

use fairlead_api::{Map, Node};
use fairlead_schema::{Field, Shape, TypeRef};

/// Go types do not nest deeper by value.
const MAX_DEPTH: usize = 16;

/// The zero value of a struct. For custom resources, whose fields are all optional, an empty object.
pub fn empty(ty: TypeRef) -> Node {
    zero_struct(ty, MAX_DEPTH)
}

fn zero_struct(ty: TypeRef, depth: usize) -> Node {
    let Shape::Struct(fields) = ty.shape() else {
        return Node::map();
    };
    let written = fields
        .fields
        .iter()
        .filter_map(|f| zero(f, ty.with(f.ty), depth).map(|value| (f.name.clone(), value)));
    Node::Map(written.collect::<Map>())
}

fn zero(field: &Field, ty: TypeRef, depth: usize) -> Option<Node> {
    if field.pointer || depth == 0 {
        return None;
    }
    match ty.shape() {
        // Go's omitempty leaves no struct out.
        Shape::Struct(_) => Some(zero_struct(ty, depth - 1)),
        Shape::Quantity => Some(Node::string("0")),
        Shape::IntOrString => Some(Node::Int(0)),
        Shape::Duration => Some(Node::string("0s")),
        _ if field.omit_empty => None,
        Shape::String => Some(Node::string("")),
        Shape::Bool => Some(Node::Bool(false)),
        Shape::Int { .. } | Shape::Float => Some(Node::Int(0)),
        Shape::Any | Shape::Bytes | Shape::Time | Shape::MicroTime | Shape::List(_) | Shape::Map(_) => Some(Node::Null),
    }
}
