//! Puts paths in the order in which a document has them: messages about several fields follow the text, trees do not.

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::collections::HashMap;
use std::fmt;

/// The position of each path (`spec.containers[0].name`) in a JSON document; those that are not in it come last.
/// Runs only where there is more than one thing to tell. Paths below map keys with dots or brackets in them are found too.
pub fn in_document_order<T>(document: &[u8], items: &mut [T], path: impl Fn(&T) -> &str) {
    in_document_order_of(document, items, |item| (path(item), 0));
}

/// Like [`in_document_order`], where an item may be about a repetition of its path: 1 is the second time.
pub fn in_document_order_of<T>(document: &[u8], items: &mut [T], place: impl Fn(&T) -> (&str, usize)) {
    if items.len() < 2 {
        return;
    }
    let mut positions: HashMap<String, Vec<usize>> =
        items.iter().map(|i| (place(i).0.to_owned(), Vec::new())).collect();
    let mut state = State {
        path: String::new(),
        next: 0,
        positions: &mut positions,
    };
    let mut reader = serde_json::Deserializer::from_slice(document);
    reader.disable_recursion_limit();
    // What was parsed before parses again; anything else leaves the order as it is.
    let _ = Seed {
        state: &mut state,
        depth: 0,
    }
    .deserialize(&mut reader);
    items.sort_by_key(|item| {
        let (path, time) = place(item);
        positions
            .get(path)
            .and_then(|at| at.get(time))
            .copied()
            .unwrap_or(usize::MAX)
    });
}

struct State<'a> {
    path: String,
    next: usize,
    positions: &'a mut HashMap<String, Vec<usize>>,
}

impl State<'_> {
    fn visit(&mut self) {
        self.next += 1;
        if let Some(positions) = self.positions.get_mut(&self.path) {
            positions.push(self.next);
        }
    }
}

struct Seed<'a, 'b> {
    state: &'a mut State<'b>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.depth > super::MAX_DEPTH {
            return deserializer.deserialize_ignored_any(IgnoredAny).map(drop);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let length = self.state.path.len();
        for index in 0.. {
            super::push_index(&mut self.state.path, index);
            self.state.visit();
            let item = seq.next_element_seed(Seed {
                state: self.state,
                depth: self.depth + 1,
            })?;
            self.state.path.truncate(length);
            if item.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let length = self.state.path.len();
        while let Some(key) = map.next_key_seed(super::KeySeed)? {
            if length > 0 {
                self.state.path.push('.');
            }
            self.state.path.push_str(&key);
            self.state.visit();
            map.next_value_seed(Seed {
                state: self.state,
                depth: self.depth + 1,
            })?;
            self.state.path.truncate(length);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_follow_the_document() {
        let mut paths = vec!["a", "b.c[1].x", "z", "b.c[0]", "absent"];
        in_document_order(br#"{"z":1,"b":{"c":[{"x":1},{"x":2}]},"a":1}"#, &mut paths, |p| p);
        assert_eq!(paths, ["z", "b.c[0]", "b.c[1].x", "a", "absent"]);
    }
}
