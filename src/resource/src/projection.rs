//! [`Projection`]: the parts of a JSON document that some paths name, read without building the rest.
// PERFORMANCE: for every object that is loaded or changed

use compact_str::CompactString;
use fairlead_api::{Node, json};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Which members of an object are wanted; one without members is wanted as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Projection(Vec<(CompactString, Projection)>);

impl Projection {
    pub fn add<'a>(&mut self, path: impl Iterator<Item = &'a str>) {
        let mut at = self;
        let mut fresh = true;
        for name in path {
            if at.0.is_empty() && !fresh {
                // All of it is wanted already.
                return;
            }
            let found = at.0.iter().position(|(known, _)| known == name);
            fresh = found.is_none();
            let index = found.unwrap_or_else(|| {
                at.0.push((name.into(), Projection::default()));
                at.0.len() - 1
            });
            at = &mut at.0[index].1;
        }
        at.0.clear();
    }

    /// The members of a simple JSONPath; `None` for one that does more than name them.
    pub fn names(json_path: &str) -> Option<impl Iterator<Item = &str>> {
        let path = json_path.strip_prefix('.')?;
        let simple = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        (!path.is_empty() && path.chars().all(simple)).then(|| path.split('.'))
    }

    /// # Errors
    /// The document is not JSON.
    pub fn read(&self, json: &[u8]) -> Result<Node, serde_json::Error> {
        let mut reader = serde_json::Deserializer::from_slice(json);
        let node = Wanted(self).deserialize(&mut reader)?;
        reader.end()?;
        Ok(node)
    }
}

struct Wanted<'a>(&'a Projection);

impl<'de> DeserializeSeed<'de> for Wanted<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        if self.0.0.is_empty() {
            return json::deserialize_node(deserializer);
        }
        deserializer.deserialize_any(self)
    }
}

/// Anything but an object has none of the members.
impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Node, A::Error> {
        let mut node = Node::map();
        while let Some(found) = members.next_key_seed(Member(self.0))? {
            match found {
                Some((name, wanted)) => node.set(name, members.next_value_seed(Wanted(wanted))?),
                None => _ = members.next_value::<IgnoredAny>()?,
            }
        }
        Ok(node)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Node::Null)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
}

/// Finds a key among the members without keeping it.
struct Member<'a>(&'a Projection);

impl<'de, 'a> DeserializeSeed<'de> for Member<'a> {
    type Value = Option<(&'a str, &'a Projection)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Member<'a> {
    type Value = Option<(&'a str, &'a Projection)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        let found = self.0.0.iter().find(|(name, _)| name == key);
        Ok(found.map(|(name, wanted)| (name.as_str(), wanted)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn only_what_is_wanted_is_there() {
        let mut projection = Projection::default();
        for path in [
            ".status.phase",
            ".spec.nodeName",
            ".status.podIPs",
            ".source.component",
            ".source",
            ".source.x",
        ] {
            projection.add(Projection::names(path).unwrap());
        }
        let json = br#"{"kind":"Pod","spec":{"nodeName":"n","containers":[{"a":1}]},"source":{"component":"c","z":[2]},
            "status":{"ph\u0061se":"Running","podIPs":[{"ip":"1"}],"x":{}},"n":1.5}"#;
        let expected = node!({
            "spec": {"nodeName": "n"}, "source": {"component": "c", "z": [2]},
            "status": {"phase": "Running", "podIPs": [{"ip": "1"}]}
        });
        assert_eq!(projection.read(json).unwrap(), expected);
        assert_eq!(
            projection.read(br#"{"spec":[1],"status":"x"}"#).unwrap(),
            node!({"spec": null, "status": null})
        );
        assert!(projection.read(b"{\"spec\":").is_err());
    }

    #[test]
    fn paths_that_choose_are_not_names() {
        for path in [".a[0]", "['a']", ".a[?(@.b)]", "a", ".", ".a['b.c']"] {
            assert!(Projection::names(path).is_none(), "{path}");
        }
    }
}
