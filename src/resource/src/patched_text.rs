//! COMPAT: a patched object as upstream shows it in errors: what the patch has passed through has its members sorted,
//! everything else keeps the order in which Go writes it.

use fairlead_api::{Node, json};
use fairlead_schema::{TypeRef, go_json};

/// The places a patch has passed through, as a tree.
#[derive(Debug, Default)]
pub struct Touched(Vec<(String, Touched)>);

impl Touched {
    /// By the operations of a JSON patch: everything above what they point at.
    pub fn by_operations(patch: &Node) -> Touched {
        let mut touched = Touched::default();
        for operation in patch.as_list().map_or(&[][..], Vec::as_slice) {
            for pointer in [operation.str("path"), operation.str("from")] {
                let parts: Vec<String> = pointer
                    .split('/')
                    .skip(1)
                    .map(|part| part.replace("~1", "/").replace("~0", "~"))
                    .collect();
                if let Some((_, above)) = parts.split_last() {
                    touched.add(above);
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
                touched.0.push((key.to_string(), Touched::by_merge(value)));
            }
        }
        touched
    }

    fn add(&mut self, path: &[String]) {
        let Some((first, rest)) = path.split_first() else {
            return;
        };
        let at = match self.0.iter().position(|(name, _)| name == first) {
            Some(at) => at,
            None => {
                self.0.push((first.clone(), Touched::default()));
                self.0.len() - 1
            }
        };
        self.0[at].1.add(rest);
    }

    fn below(&self, name: &str) -> Option<&Touched> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, touched)| touched)
    }
}

/// The JSON of `object`, which is of type `ty` where that is known.
pub fn text(object: &Node, ty: Option<TypeRef>, touched: &Touched) -> String {
    let mut out = String::new();
    write(object, ty, Some(touched), &mut out);
    out
}

fn write(node: &Node, ty: Option<TypeRef>, touched: Option<&Touched>, out: &mut String) {
    match (node, touched) {
        (Node::Map(members), Some(touched)) => {
            out.push('{');
            for (i, (key, value)) in members.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&json::to_string(&Node::String(key.clone())));
                out.push(':');
                write(value, ty.and_then(|ty| ty.member(key)), touched.below(key), out);
            }
            out.push('}');
        }
        (Node::List(items), Some(touched)) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write(item, ty.and_then(TypeRef::items), touched.below(&i.to_string()), out);
            }
            out.push(']');
        }
        (node, _) => match ty {
            Some(ty) => out.push_str(&go_json(node, ty)),
            None => out.push_str(&json::to_string(node)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn patches_touch_what_they_pass() {
        let operations = node!([{"op": "add", "path": "/a/b~1c/0", "value": 1}]);
        let touched = Touched::by_operations(&operations);
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
    }
}
