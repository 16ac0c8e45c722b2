//! Values as JSON: what the results of expressions are written as.
//!
//! Source: cel-go common/types (ConvertToNative to a JSON value), kubernetes/apiserver pkg/cel/mutation/dynamic.
// PERFORMANCE: per-request path

use super::{Key, Value, convert};
use base64::Engine;
use fairlead_api::field::go_quote;
use fairlead_api::{Map, Node};

impl Value<'_> {
    /// # Errors
    /// What is in it that JSON has nothing for.
    pub fn to_node(&self) -> Result<Node, String> {
        Ok(match self {
            Value::Null => Node::Null,
            Value::Bool(b) => Node::Bool(*b),
            Value::Int(i) => Node::Int(*i),
            Value::Uint(u) => i64::try_from(*u).map_or(Node::Float(*u as f64), Node::Int),
            Value::Double(d) => Node::Float(*d),
            Value::String(text) => Node::string(&**text),
            Value::Bytes(bytes) => Node::from(base64::engine::general_purpose::STANDARD.encode(bytes)),
            Value::Duration(nanos) => Node::from(convert::duration_text(*nanos)),
            Value::Timestamp(time) => Node::from(convert::timestamp_text(*time)),
            Value::Json(json) => json.node.clone(),
            Value::List(items) => Node::List(items.iter().map(Value::to_node).collect::<Result<_, _>>()?),
            Value::Map(entries) => {
                let entry = |(key, value): (&Key, &Value)| match key {
                    Key::String(name) => Ok((name.to_string(), value.to_node()?)),
                    other => Err(format!(
                        "map key {:?} is not a string",
                        other.to_value().type_of().name()
                    )),
                };
                object(entries.iter().map(entry))?
            }
            Value::Struct(of) => object(
                of.fields
                    .iter()
                    .map(|(name, value)| Ok((name.clone(), value.to_node()?))),
            )?,
            other => return Err(format!("{} cannot be written as JSON", other.type_of().name())),
        })
    }

    /// What objects inside are made as another type than the fields they stand in say: `Object.spec` stands in the
    /// field `spec` of an `Object`.
    pub fn misnamed(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if let Value::Struct(of) = self {
            collect(self, &of.name, &mut wrong);
        }
        wrong
    }
}

fn object(entries: impl Iterator<Item = Result<(String, Node), String>>) -> Result<Node, String> {
    let mut map = Node::from(Map::new());
    for entry in entries {
        let (name, node) = entry?;
        map.set(&name, node);
    }
    Ok(map)
}

fn collect(value: &Value, path: &str, wrong: &mut Vec<String>) {
    match value {
        Value::Struct(of) => {
            if of.name != path {
                wrong.push(format!(
                    "unexpected type name {}, expected {}, which matches field name path from root Object type",
                    go_quote(&of.name),
                    go_quote(path)
                ));
            }
            for (name, field) in &of.fields {
                collect(field, &format!("{path}.{name}"), wrong);
            }
        }
        Value::List(items) => items.iter().for_each(|item| collect(item, path, wrong)),
        Value::Map(entries) => entries.values().for_each(|entry| collect(entry, path, wrong)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use crate::admission::{Compiler, Declared, Output};
    use crate::value::Value;
    use fairlead_api::{Node, json, node};

    fn run(text: &str, object: &Node) -> (Result<String, String>, Vec<String>) {
        let declared = Declared {
            patches: true,
            ..Declared::default()
        };
        let program = Compiler::plain().compile(text, declared, Output::Any).unwrap();
        let value = program.run(&[Some(Value::untyped(object))], 10_000).value.unwrap();
        (value.to_node().map(|node| json::to_string(&node)), value.misnamed())
    }

    #[test]
    fn objects_become_json() {
        let object = node!({"spec": {"n": 1, "l": [true]}});
        let text = "Object{metadata: Object.metadata{labels: {'a': 'b'}}, spec: Object.spec{?n: optional.of(object.spec.n + 1), \
                    ?x: object.?spec.?x, l: object.spec.l, t: [duration('1500ms'), duration('2s')]}}";
        let (json, wrong) = run(text, &object);
        assert_eq!(
            json.unwrap(),
            r#"{"metadata":{"labels":{"a":"b"}},"spec":{"l":[true],"n":2,"t":["1.500s","2s"]}}"#
                .replace("1.500s", "1.5s")
        );
        assert!(wrong.is_empty());
        assert!(run("{1: 2}", &object).0.is_err());
    }

    #[test]
    fn objects_are_named_after_their_place() {
        let text = "Object{spec: Object.spec{a: [Object.spec.a{b: Object.b{}}], c: Object.spec{}}}";
        let expected = |name: &str, path: &str| {
            format!(
                "unexpected type name {name:?}, expected {path:?}, which matches field name path from root Object type"
            )
        };
        assert_eq!(
            run(text, &Node::Null).1,
            [
                expected("Object.b", "Object.spec.a.b"),
                expected("Object.spec", "Object.spec.c")
            ]
        );
    }
}
