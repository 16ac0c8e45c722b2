//! COMPAT: a patched object as upstream shows it in errors: what the patch has passed through has its members sorted,
//! everything else keeps the order in which Go writes it.

use fairlead_api::{Node, json};
use fairlead_patch::fields::Element;
use fairlead_schema::{Shape, TypeRef};
use std::cmp::Ordering;

/// The places a patch has passed through, as a tree.
#[derive(Debug, Default)]
pub struct Touched {
    members: Vec<(String, Touched)>,
    /// A number as the patch has it: `3.0`.
    literal: Option<String>,
}

impl Touched {
    /// By the operations of a JSON patch, which is `document`: everything above what they point at.
    pub fn by_operations(patch: &Node, document: &[u8]) -> Touched {
        let mut touched = Touched::default();
        for (i, operation) in patch.as_list().map_or(&[][..], Vec::as_slice).iter().enumerate() {
            for pointer in [operation.str("path"), operation.str("from")] {
                let parts: Vec<String> = pointer
                    .split('/')
                    .skip(1)
                    .map(|part| part.replace("~1", "/").replace("~0", "~"))
                    .collect();
                let Some((last, above)) = parts.split_last() else {
                    continue;
                };
                let parent = touched.add(above);
                if matches!(operation.get("value"), Some(Node::Int(_) | Node::Float(_))) {
                    let steps = [json::Step::Index(i), json::Step::Key("value".into())];
                    let literal = json::literal_at(document, &steps).map(String::from);
                    parent.add(std::slice::from_ref(last)).literal = literal;
                }
            }
        }
        touched
    }

    /// By a merge patch: every object that it merges into.
    pub fn by_merge(patch: &Node) -> Touched {
        let mut touched = Touched::default();
        if let Node::Map(members) = patch {
            for (key, value) in members.iter().filter(|(_, value)| matches!(value, Node::Map(_))) {
                touched.members.push((key.to_string(), Touched::by_merge(value)));
            }
        }
        touched
    }

    /// The place that `path` leads to.
    fn add(&mut self, path: &[String]) -> &mut Touched {
        let Some((first, rest)) = path.split_first() else {
            return self;
        };
        let at = match self.members.iter().position(|(name, _)| name == first) {
            Some(at) => at,
            None => {
                self.members.push((first.clone(), Touched::default()));
                self.members.len() - 1
            }
        };
        self.members[at].1.add(rest)
    }

    fn below(&self, name: &str) -> Option<&Touched> {
        self.members.iter().find(|(n, _)| n == name).map(|(_, touched)| touched)
    }
}

/// The JSON of `object`, which is of type `ty` where that is known.
pub fn text(object: &Node, ty: Option<TypeRef>, touched: &Touched) -> String {
    let mut out = String::new();
    write(object, ty, Some(touched), &mut out);
    out
}

fn write(node: &Node, ty: Option<TypeRef>, touched: Option<&Touched>, out: &mut String) {
    if let Some(literal) = touched.and_then(|touched| touched.literal.as_ref()) {
        out.push_str(literal);
        return;
    }
    match node {
        Node::Map(members) => {
            let mut members: Vec<_> = members.iter().collect();
            if touched.is_none() {
                members.sort_by(|(one, _), (other, _)| written_order(ty, one, other));
            }
            out.push('{');
            for (i, (key, value)) in members.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&json::to_string(&Node::String(key.clone())));
                out.push(':');
                let below = match ty {
                    Some(ty) if is_owned_fields(ty) => Some(ty),
                    ty => ty.and_then(|ty| ty.member(key)),
                };
                write(value, below, touched.and_then(|touched| touched.below(key)), out);
            }
            out.push('}');
        }
        Node::List(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                let touched = touched.and_then(|touched| touched.below(&i.to_string()));
                write(item, ty.and_then(TypeRef::items), touched, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&json::to_string(scalar)),
    }
}

/// The order in which Go writes two members of a value of this type.
fn written_order(ty: Option<TypeRef>, one: &str, other: &str) -> Ordering {
    let Some(ty) = ty else {
        return Ordering::Equal;
    };
    if is_owned_fields(ty) {
        return match (Element::parse(one), Element::parse(other)) {
            (Ok(Some(one)), Ok(Some(other))) => one.cmp(&other),
            // What is no element is the set itself, which comes first.
            (Err(_), Ok(_)) => Ordering::Less,
            (Ok(_), Err(_)) => Ordering::Greater,
            _ => Ordering::Equal,
        };
    }
    let order = |name: &str| ty.field(name).map_or(u16::MAX, |field| field.order);
    order(one).cmp(&order(other))
}

/// `fieldsV1`: sets of fields, which are written in an order of their own.
fn is_owned_fields(ty: TypeRef) -> bool {
    matches!(ty.shape(), Shape::Any) && ty.ty().name.ends_with(".FieldsV1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;
    use fairlead_schema::{Field, Fields, Schema, Type, Types};
    use std::sync::Arc;

    #[test]
    fn patches_touch_what_they_pass() {
        let operations = node!([{"op": "add", "path": "/a/b~1c/0", "value": "x"}]);
        let touched = Touched::by_operations(&operations, b"");
        assert!(touched.below("a").and_then(|a| a.below("b/c")).is_some());
        assert!(
            touched
                .below("a")
                .and_then(|a| a.below("b/c"))
                .and_then(|b| b.below("0"))
                .is_none()
        );
        let touched = Touched::by_merge(&node!({"a": {"b": 1}, "c": 2}));
        assert!(touched.below("a").is_some() && touched.below("c").is_none());
        assert_eq!(
            text(&node!({"b": [1, {"x": 2}], "a": "y"}), None, &touched),
            r#"{"a":"y","b":[1,{"x":2}]}"#
        );
        let document = br#"[{"op": "replace", "path": "/a/b", "value": 3.0}]"#;
        let touched = Touched::by_operations(&json::parse(document).unwrap(), document);
        assert_eq!(text(&node!({"a": {"b": 3.0}}), None, &touched), r#"{"a":{"b":3.0}}"#);
    }

    #[test]
    fn what_is_untouched_keeps_the_order_of_its_type() {
        let mut types = Types::default();
        let owned = types.push(Type {
            name: "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1".into(),
            ..Type::default()
        });
        let field = |name: &str, order| Field {
            name: name.into(),
            ty: owned,
            order,
            ..Field::default()
        };
        let fields = Fields::new(vec![field("b", 0), field("a", 1)]);
        let root = types.push(Type {
            shape: Shape::Struct(fields),
            ..Type::default()
        });
        let schema = Schema {
            types: Arc::new(types),
            root,
        };
        let object = node!({"a": {"k:{\"port\":443}": {}, "k:{\"port\":80}": {}, ".": {}, "f:x": {}}, "b": {}});
        let whole = text(&object, Some(schema.root()), &Touched::default());
        assert_eq!(
            whole,
            r#"{"a":{".":{},"f:x":{},"k:{\"port\":80}":{},"k:{\"port\":443}":{}},"b":{}}"#
        );
        let mut untouched = String::new();
        write(&object, Some(schema.root()), None, &mut untouched);
        assert!(untouched.starts_with(r#"{"b":{},"a""#));
    }
}
