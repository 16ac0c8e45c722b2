//! Whether a stored custom resource needs anything done to it, told from its text: most do not, and loading them by the
//! hundred thousand shall not build trees only to find that out.
// PERFORMANCE: for every object that is loaded or changed

use crate::decode::{always_written, is_left_out};
use crate::prune::is_meta;
use crate::types::{Field, Fields, Shape, TypeRef};
use fairlead_api::{Map, Node};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Whether [`decode_custom`](crate::decode_custom), [`set_defaults`](crate::set_defaults) and the parts of them leave the
/// object in `json` as it is. When in doubt, no: then it has to be tried.
pub fn is_settled(json: &[u8], schema: TypeRef) -> bool {
    if schema.types.types.iter().any(|ty| ty.embedded_resource) {
        return false;
    }
    let mut reader = serde_json::Deserializer::from_slice(json);
    let root = Place {
        schema,
        reading: Reading::Resource,
        field: None,
    };
    root.deserialize(&mut reader).is_ok() && reader.end().is_ok()
}

/// By which rules a value is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// A whole custom resource.
    Resource,
    /// A part of one.
    Custom,
    /// Its metadata, which is of a Go type.
    Go,
}

/// A value that must be settled: one that is not is an error.
#[derive(Clone, Copy)]
struct Place<'a> {
    schema: TypeRef<'a>,
    reading: Reading,
    /// What a struct says of it.
    field: Option<&'a Field>,
}

/// Fields of one struct are noted in as many bits.
const FIELDS: usize = 128;

impl<'a> Place<'a> {
    fn of(self, schema: TypeRef<'a>, field: Option<&'a Field>) -> Place<'a> {
        let reading = match self.reading {
            Reading::Go => Reading::Go,
            Reading::Resource | Reading::Custom => Reading::Custom,
        };
        Place { schema, reading, field }
    }

    /// What stands at a member, and which field that is; `None` for what nobody looks at.
    fn member<E: Error>(self, name: &str) -> Result<(Option<Place<'a>>, Option<usize>), E> {
        let fields = match self.schema.shape() {
            Shape::Struct(fields) => fields.fields.as_slice(),
            _ => &[],
        };
        let at = fields.binary_search_by(|field| field.name.as_str().cmp(name)).ok();
        let field = at.map(|at| &fields[at]);
        if self.reading == Reading::Resource && is_meta(name) {
            let metadata = self.schema.member(name).filter(|_| name == "metadata");
            let place = metadata.map(|schema| Place {
                schema,
                reading: Reading::Go,
                field: None,
            });
            return Ok((place, at));
        }
        match self.schema.member(name) {
            Some(schema) => Ok((Some(self.of(schema, field)), at)),
            None if self.schema.ty().preserve_unknown => Ok((None, at)),
            None => Err(unsettled()),
        }
    }

    /// A value that is not null, without its parts: Go's zero values may not be written, and others must be of the type.
    fn check<E: Error>(self, value: &Node) -> Result<(), E> {
        if let Some(field) = self.field {
            let left_out = self.reading == Reading::Go && is_left_out(value, field, self.schema);
            if left_out || (field.default.is_some() && !field.pointer && value.is_zero()) {
                return Err(unsettled());
            }
        }
        let fits = self.reading != Reading::Go
            || match (self.schema.shape(), value) {
                (Shape::Any, _)
                | (Shape::String, Node::String(_))
                | (Shape::Bool, Node::Bool(_))
                | (Shape::Struct(_) | Shape::Map(_), Node::Map(_))
                | (Shape::List(_), Node::List(_)) => true,
                (Shape::Int { bits }, Node::Int(number)) => *bits == 64 || i32::try_from(*number).is_ok(),
                (Shape::Time, Node::String(text)) => is_time(text),
                _ => false,
            };
        if fits { Ok(()) } else { Err(unsettled()) }
    }

    /// Whether everything is there that would be filled in. `seen` has a bit for each field.
    fn is_complete(self, fields: &Fields, seen: u128) -> bool {
        let present = |at: usize| at < FIELDS && seen & (1 << at) != 0;
        fields.fields.iter().enumerate().all(|(at, field)| {
            let given = self.reading == Reading::Go && always_written(field, self.schema.with(field.ty)).is_some();
            present(at) || (field.default.is_none() && !given)
        })
    }
}

fn unsettled<E: Error>() -> E {
    E::custom("")
}

/// In the form that Go writes: others are rewritten.
fn is_time(text: &str) -> bool {
    const FORM: &[u8] = b"0000-00-00T00:00:00Z";
    let fits = |(b, form): (u8, &u8)| if *form == b'0' { b.is_ascii_digit() } else { b == *form };
    text.len() == FORM.len() && text.bytes().zip(FORM).all(fits)
}

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        // Nothing is done to the values of Go's raw types.
        if self.reading == Reading::Go && matches!(self.schema.shape(), Shape::Any) {
            return deserializer.deserialize_ignored_any(IgnoredAny).map(drop);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let (mut seen, mut empty) = (0u128, true);
        while let Some((place, at)) = members.next_key_seed(Name(self))? {
            empty = false;
            if let Some(at) = at {
                if at >= FIELDS || seen & (1 << at) != 0 {
                    return Err(unsettled());
                }
                seen |= 1 << at;
            }
            match place {
                Some(place) => members.next_value_seed(place)?,
                None => _ = members.next_value::<IgnoredAny>()?,
            }
        }
        // Of one that has members only the type matters.
        let shown = if empty {
            Map::new()
        } else {
            Map::from_entries(vec![("".into(), Node::Int(1))])
        };
        self.check(&Node::Map(shown))?;
        match self.schema.shape() {
            Shape::Struct(fields) if !self.is_complete(fields, seen) => Err(unsettled()),
            _ => Ok(()),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut empty = true;
        match self.schema.items() {
            Some(schema) => {
                while items.next_element_seed(self.of(schema, None))?.is_some() {
                    empty = false;
                }
            }
            // What is kept is kept with all its parts.
            None if self.schema.ty().preserve_unknown => {
                while items.next_element::<IgnoredAny>()?.is_some() {
                    empty = false;
                }
            }
            None => return Err(unsettled()),
        }
        self.check(&Node::List(if empty { Vec::new() } else { vec![Node::Null] }))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.check(&Node::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.check(&Node::Int(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.check(&i64::try_from(value).map_or(Node::Float(value as f64), Node::Int))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.check(&Node::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        match (self.reading, self.field) {
            (Reading::Resource | Reading::Custom, None) => Ok(()),
            _ => self.check(&Node::from(value)),
        }
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        match self.reading == Reading::Custom && self.schema.ty().nullable {
            true => Ok(()),
            false => Err(unsettled()),
        }
    }
}

/// Looks a name up without keeping it.
struct Name<'a>(Place<'a>);

impl<'de, 'a> DeserializeSeed<'de> for Name<'a> {
    type Value = (Option<Place<'a>>, Option<usize>);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Name<'a> {
    type Value = (Option<Place<'a>>, Option<usize>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        self.0.member(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Schema, Unknown, compile, decode_custom, set_defaults};
    use fairlead_api::{json, node};
    use proptest::prelude::*;

    fn schema() -> Schema {
        let schema = node!({"type": "object", "properties": {
            "spec": {"type": "object", "properties": {
                "size": {"type": "integer", "default": 3},
                "name": {"type": "string", "nullable": true},
                "tags": {"type": "array", "items": {"type": "string"}},
                "parts": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "integer"}}}},
                "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                    "properties": {"in": {"type": "object", "properties": {"x": {"type": "string"}}}}},
                "map": {"type": "object", "additionalProperties": {"type": "string"}},
                "port": {"x-kubernetes-int-or-string": true},
            }},
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        }});
        compile(&schema).unwrap()
    }

    fn is_left_alone(node: &Node, schema: &Schema) -> bool {
        let mut read = node.clone();
        if decode_custom(&mut read, schema.root(), Unknown::Drop).is_err() {
            return false;
        }
        set_defaults(&mut read, schema.root());
        read == *node
    }

    #[test]
    fn ordinary_objects_are_settled_and_others_are_not() {
        let schema = schema();
        let settled = node!({"kind": "T", "apiVersion": "g/v1", "metadata": {
                "name": "a", "namespace": "b", "uid": "c", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {"a": "b"}, "finalizers": ["x"],
                "ownerReferences": [{"apiVersion": "v1", "kind": "P", "name": "p", "uid": "u", "controller": false}],
                "managedFields": [{"manager": "m", "operation": "Update", "apiVersion": "g/v1",
                    "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {".": {}}}}],
            }, "spec": {"size": 1, "name": null, "tags": ["a"], "parts": [{"a": 1}, {}], "map": {"k": "v"}, "port": "x",
                "any": {"z": {"y": [1, null]}, "in": {"x": "1"}}},
            "status": {"conditions": [{"a": 1}]}});
        assert!(is_left_alone(&settled, &schema));
        assert!(is_settled(&json::to_vec(&settled), schema.root()));
        for (path, value) in [
            (&["spec", "unknown"][..], node!(1)),
            (&["spec", "size"], node!(null)),
            (&["spec", "parts"], node!([{"b": 1}])),
            (&["spec", "any", "in", "y"], node!("z")),
            (&["spec", "map", "k"], node!({"a": 1})),
            (&["metadata", "labels"], node!({})),
            (&["metadata", "unknown"], node!(1)),
            (&["metadata", "creationTimestamp"], node!("2026-01-01T01:00:00+01:00")),
            (&["metadata", "ownerReferences"], node!([{"kind": "P"}])),
            (&["metadata", "generation"], node!(0)),
            (&["unknown"], node!({})),
        ] {
            let mut other = settled.clone();
            other.set_at(path, value);
            assert!(!is_left_alone(&other, &schema), "{path:?}");
            assert!(!is_settled(&json::to_vec(&other), schema.root()), "{path:?}");
        }
        for damaged in ["", "{", "[]", "{} {}"] {
            assert!(!is_settled(damaged.as_bytes(), schema.root()), "{damaged}");
        }
    }

    /// Values that fit somewhere, put anywhere.
    fn values() -> impl Strategy<Value = Node> {
        let leaf = prop::sample::select(vec![
            node!(null),
            node!(0),
            node!(1),
            node!(1.5),
            node!(""),
            node!("x"),
            node!(true),
            node!(false),
            node!([]),
            node!({}),
            node!("2026-01-01T00:00:00Z"),
        ]);
        let names = prop::sample::select(vec![
            "spec",
            "size",
            "name",
            "tags",
            "parts",
            "a",
            "any",
            "in",
            "x",
            "map",
            "port",
            "status",
            "metadata",
            "labels",
            "generation",
            "kind",
            "managedFields",
            "time",
            "ownerReferences",
            "uid",
            "apiVersion",
        ]);
        leaf.prop_recursive(5, 40, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Node::List),
                prop::collection::vec((names.clone(), inner), 0..5).prop_map(|members| {
                    let mut node = Node::map();
                    members.into_iter().for_each(|(name, value)| node.set(name, value));
                    node
                }),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
        #[test]
        fn what_is_settled_is_left_alone(spec in values(), metadata in values(), rest in values()) {
            let schema = schema();
            for object in [node!({"kind": "T"}), rest] {
                let mut object = object;
                if matches!(object, Node::Map(_)) {
                    object.set("spec", spec.clone());
                    object.set("metadata", metadata.clone());
                }
                if is_settled(&json::to_vec(&object), schema.root()) {
                    prop_assert!(is_left_alone(&object, &schema), "{object:?}");
                }
            }
        }
    }
}
