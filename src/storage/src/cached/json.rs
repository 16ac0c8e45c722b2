//! [`Json`]: the bytes of a cached object, packed; and [`Texts`], parts that many objects have in common.
//!
//! Most of what objects of a resource say is said by all of them: a controller's managedFields are the same for each but
//! for their time. And allocators round sizes up, to one of four sizes between a power of two and the next, which costs a
//! tenth of all bytes. So a part may be shared, and long ends are kept by themselves.
// PERFORMANCE: per-request path

use crate::feed::lock;
use bytes::Bytes;
use std::borrow::Cow;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// Immutable bytes in up to four pieces.
#[derive(Clone, Default)]
pub struct Json {
    head: Box<[u8]>,
    tail: Box<[u8]>,
    /// What stands behind the first `at` bytes of head and tail.
    shared: Option<Arc<[u8]>>,
    at: u32,
}

/// Below this rounding up costs little.
const SPLIT: usize = 256;
/// What a piece of its own must save.
const WORTH: usize = 48;

impl Json {
    /// `bytes`, of which those in `part` read as `text` does, which is kept instead.
    pub fn sharing(bytes: &[u8], part: Range<usize>, text: Arc<[u8]>) -> Json {
        debug_assert!(bytes[part.clone()] == *text);
        let Ok(at) = u32::try_from(part.start) else {
            return Json::from(bytes.to_vec());
        };
        let own = [&bytes[..part.start], &bytes[part.end..]].concat();
        Json {
            shared: Some(text),
            at,
            ..Json::from(own)
        }
    }

    pub fn len(&self) -> usize {
        self.own() + self.shared.as_ref().map_or(0, |text| text.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that go when this goes.
    pub fn own(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    /// The pieces, in order. Some are empty.
    pub fn pieces(&self) -> [&[u8]; 4] {
        let Some(shared) = &self.shared else {
            return [&self.head, &self.tail, &[], &[]];
        };
        match (self.at as usize).checked_sub(self.head.len()) {
            None => {
                let (before, behind) = self.head.split_at(self.at as usize);
                [before, shared, behind, &self.tail]
            }
            Some(at) => {
                let (before, behind) = self.tail.split_at(at);
                [&self.head, before, shared, behind]
            }
        }
    }

    /// Appends everything from `from` on.
    pub fn write(&self, from: usize, out: &mut Vec<u8>) {
        let mut skip = from;
        for piece in self.pieces() {
            out.extend_from_slice(piece.get(skip..).unwrap_or_default());
            skip = skip.saturating_sub(piece.len());
        }
    }

    /// As much of the beginning as lies together.
    pub fn beginning(&self) -> &[u8] {
        self.pieces()[0]
    }

    /// All of it in one piece, copied where it is not.
    pub fn text(&self) -> Cow<'_, [u8]> {
        if self.shared.is_none() && self.tail.is_empty() {
            return Cow::Borrowed(&self.head);
        }
        Cow::Owned(self.to_vec())
    }

    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len());
        self.write(0, &mut out);
        out
    }
}

impl From<Vec<u8>> for Json {
    fn from(bytes: Vec<u8>) -> Json {
        let split = split(bytes.len());
        let (head, tail) = match split {
            0 => (bytes.into_boxed_slice(), Box::default()),
            at => (bytes[..at].into(), bytes[at..].into()),
        };
        Json {
            head,
            tail,
            shared: None,
            at: 0,
        }
    }
}

impl From<String> for Json {
    fn from(text: String) -> Json {
        text.into_bytes().into()
    }
}

impl From<&Json> for Bytes {
    fn from(json: &Json) -> Bytes {
        json.to_vec().into()
    }
}

impl PartialEq<[u8]> for Json {
    fn eq(&self, other: &[u8]) -> bool {
        *self.text() == *other
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.text()))
    }
}

/// Where to cut bytes in two, so that both parts nearly fill what an allocator gives them; 0 where that saves nothing.
fn split(length: usize) -> usize {
    if length < SPLIT {
        return 0;
    }
    let step = 1 << (length.ilog2() - 2);
    let below = length - length % step;
    let rest = length - below;
    match rest > 0 && step - rest > WORTH {
        true => below,
        false => 0,
    }
}

/// Texts that came more than once lately.
#[derive(Debug, Default)]
pub struct Texts(Mutex<Vec<Slot>>);

#[derive(Clone, Debug, Default)]
struct Slot {
    hash: u64,
    /// Made when it comes for the second time.
    text: Option<Arc<[u8]>>,
}

/// How many are remembered.
const SLOTS: usize = 64;
/// What is shared: less is not worth it, and what is remembered has to be bounded.
const SHARED: std::ops::RangeInclusive<usize> = 64..=8192;

impl Texts {
    /// The same text, as others hold it; `None` the first time, and where it is too short or too long.
    pub fn share(&self, text: &[u8]) -> Option<Arc<[u8]>> {
        if !SHARED.contains(&text.len()) {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let hash = hasher.finish();
        let mut slots = lock(&self.0);
        if slots.is_empty() {
            slots.resize(SLOTS, Slot::default());
        }
        let slot = &mut slots[usize::try_from(hash).unwrap_or(0) % SLOTS];
        if slot.hash != hash {
            *slot = Slot { hash, text: None };
            return None;
        }
        let known = slot.text.get_or_insert_with(|| text.into());
        (**known == *text).then(|| known.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn however_it_is_kept_it_reads_the_same(
            length in 0usize..5000, cut in (0usize..5000, 0usize..5000), from in 0usize..5100
        ) {
            let bytes: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            let (a, b) = (cut.0.min(length), cut.1.min(length));
            let part = a.min(b)..a.max(b);
            let whole = Json::from(bytes.clone());
            let shared = Json::sharing(&bytes, part.clone(), bytes[part.clone()].into());
            for json in [&whole, &shared, &whole.clone()] {
                prop_assert_eq!(&*json.text(), &bytes[..]);
                prop_assert_eq!(json.len(), length);
                let mut rest = vec![7];
                json.write(from, &mut rest);
                prop_assert_eq!(&rest[1..], bytes.get(from..).unwrap_or_default());
                prop_assert!(bytes.starts_with(json.beginning()));
            }
            prop_assert_eq!(shared.own(), length - part.len());
        }
    }

    #[test]
    fn little_is_lost_to_rounding_up() {
        let rounded = |length: usize| match length {
            0..=64 => length.next_multiple_of(8),
            _ => length.next_multiple_of(1 << ((length - 1).ilog2() - 2)),
        };
        for length in 256..20_000 {
            let json = Json::from(vec![0; length]);
            let (head, tail) = (json.head.len(), json.tail.len());
            let lost = rounded(head) + rounded(tail) - length;
            assert!(
                lost <= WORTH.max(length / 16),
                "{length}: {head} and {tail} lose {lost}"
            );
        }
    }

    #[test]
    fn texts_are_shared_from_the_second_time_on() {
        let texts = Texts::default();
        let (a, b) = ([b'a'; 100], [b'b'; 100]);
        assert!(texts.share(&a).is_none());
        assert!(texts.share(&b).is_none());
        let (first, second) = (texts.share(&a).unwrap(), texts.share(&a).unwrap());
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(*first, a);
        assert!(texts.share(b"short").is_none() && texts.share(b"short").is_none());
    }
}
