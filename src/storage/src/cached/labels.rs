//! [`Labels`] and [`Uid`]: parts of a [`Header`](super::Header) in few bytes.
// PERFORMANCE: per-request path

use std::fmt;

/// Labels in one piece: a key and a value in turn, each ended by a zero byte, which is in no label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Box<str>);

impl Labels {
    /// The value of a label.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    pub(super) fn own(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut rest = &*self.0;
        let mut next = move || {
            let (text, behind) = rest.split_once('\0')?;
            rest = behind;
            Some(text)
        };
        std::iter::from_fn(move || next().zip(next()))
    }
}

impl<K: AsRef<str>, V: AsRef<str>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Labels {
        let mut text = String::new();
        for (key, value) in pairs {
            let (key, value) = (key.as_ref(), value.as_ref());
            // No selector can ask for it.
            if key.contains('\0') || value.contains('\0') {
                continue;
            }
            for part in [key, value] {
                text.push_str(part);
                text.push('\0');
            }
        }
        Labels(text.into())
    }
}

/// An object's uid. Most are UUIDs and take no memory of their own.
#[derive(Clone, PartialEq, Eq)]
pub enum Uid {
    Uuid([u8; 16]),
    Other(Box<str>),
}

impl Default for Uid {
    fn default() -> Uid {
        Uid::Other(Box::default())
    }
}

impl From<&str> for Uid {
    fn from(text: &str) -> Uid {
        uuid(text).map_or_else(|| Uid::Other(text.into()), Uid::Uuid)
    }
}

impl Uid {
    pub(super) fn own(&self) -> usize {
        match self {
            Uid::Uuid(_) => 0,
            Uid::Other(text) => text.len(),
        }
    }
}

/// The bytes of a UUID in the usual form: lower case, with hyphens.
fn uuid(text: &str) -> Option<[u8; 16]> {
    if text.len() != 36 {
        return None;
    }
    let mut bytes = [0; 16];
    let mut at = 0;
    for (i, b) in text.bytes().enumerate() {
        let digit = match b {
            b'-' if HYPHENS.contains(&i) => continue,
            b'0'..=b'9' if !HYPHENS.contains(&i) => b - b'0',
            b'a'..=b'f' if !HYPHENS.contains(&i) => b - b'a' + 10,
            _ => return None,
        };
        bytes[at / 2] = bytes[at / 2] << 4 | digit;
        at += 1;
    }
    Some(bytes)
}

/// Where hyphens stand in a UUID.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = match self {
            Uid::Other(text) => return f.write_str(text),
            Uid::Uuid(bytes) => bytes,
        };
        for (i, byte) in bytes.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_read_as_they_were_given() {
        let uuid = "83ce138f-bd59-4007-a85e-164a582893b3";
        assert!(matches!(Uid::from(uuid), Uid::Uuid(_)));
        for other in [
            "",
            "u",
            &uuid.to_uppercase(),
            &uuid.replace('-', "0"),
            &uuid.replace('8', "-"),
        ] {
            assert!(matches!(Uid::from(other), Uid::Other(_)), "{other}");
            assert_eq!(Uid::from(other).to_string(), other);
        }
        assert_eq!(Uid::from(uuid).to_string(), uuid);
    }

    #[test]
    fn labels_are_found_by_their_whole_key() {
        let labels: Labels = [("a", "1"), ("ab", ""), ("c\0", "x"), ("d", "2")].into_iter().collect();
        assert_eq!(labels.get("a"), Some("1"));
        assert_eq!(labels.get("ab"), Some(""));
        assert_eq!((labels.get("b"), labels.get("1"), labels.get("")), (None, None, None));
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("a", "1"), ("ab", ""), ("d", "2")]);
        assert_eq!(Labels::default().iter().next(), None);
    }
}
