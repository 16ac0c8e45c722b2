//! Finds a number in a document as it was written: trees keep its value, messages show its text.

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// One step into a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Key(String),
    Index(usize),
}

/// The text of the value that `steps` lead to.
pub fn literal_at<'a>(document: &'a [u8], steps: &[Step]) -> Option<&'a str> {
    let mut text: &RawValue = serde_json::from_slice(document).ok()?;
    for step in steps {
        let mut reader = serde_json::Deserializer::from_str(text.get());
        reader.disable_recursion_limit();
        text = match step {
            Step::Key(key) => reader.deserialize_map(Member(key)).ok()??,
            Step::Index(index) => reader.deserialize_seq(Item(*index)).ok()??,
        };
    }
    Some(text.get())
}

/// The last member of a name, as it is the one that counts.
struct Member<'k>(&'k str);

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key_seed(super::KeySeed)? {
            if key == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

struct Item(usize);

impl<'de> Visitor<'de> for Item {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        let mut index = 0;
        while let Some(item) = seq.next_element()? {
            if index == self.0 {
                found = Some(item);
            }
            index += 1;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_as_written() {
        let document = br#"{"a": [0, {"b.c": 1, "b.c": 1.50e3}]}"#;
        let steps = [Step::Key("a".into()), Step::Index(1), Step::Key("b.c".into())];
        assert_eq!(literal_at(document, &steps), Some("1.50e3"));
        assert_eq!(literal_at(document, &[Step::Key("x".into())]), None);
    }
}
