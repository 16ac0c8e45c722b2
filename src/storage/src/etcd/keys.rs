//! [`Keys`]: keys of this store under their prefix in etcd, and what etcd says of them in this store's words.
// PERFORMANCE: per-request path

use crate::store::{Change, Entry, Revision, StoreKey};
use bytes::Bytes;
use etcd_client::{Event, EventType, KeyValue, WatchResponse};

/// Puts the prefix in front of keys, and takes it off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Keys {
    /// `/registry`: a slash in front, none behind.
    prefix: Box<str>,
}

impl Keys {
    /// As upstream reads `--etcd-prefix`: with or without slashes around.
    pub fn new(prefix: &str) -> Keys {
        let parts: Vec<&str> = prefix.split('/').filter(|part| !part.is_empty()).collect();
        let prefix = parts.iter().map(|part| format!("/{part}")).collect::<String>();
        Keys { prefix: prefix.into() }
    }

    /// The key in etcd.
    pub fn outer(&self, key: &str) -> Vec<u8> {
        let mut outer = Vec::with_capacity(self.prefix.len() + key.len());
        outer.extend_from_slice(self.prefix.as_bytes());
        outer.extend_from_slice(key.as_bytes());
        outer
    }

    /// First and end of the keys in etcd that begin with `prefix` and are not before `start`.
    pub fn range(&self, prefix: &str, start: &str) -> (Vec<u8>, Vec<u8>) {
        // All keys of this store begin with a slash; what else begins like its prefix is somebody else's.
        let prefix = if prefix.is_empty() { "/" } else { prefix };
        (self.outer(start.max(prefix)), after_all(self.outer(prefix)))
    }

    /// The key in this store; `None` for somebody else's.
    pub fn inner<'a>(&self, key: &'a [u8]) -> Option<&'a str> {
        let inner = key.strip_prefix(self.prefix.as_bytes())?;
        std::str::from_utf8(inner).ok().filter(|inner| inner.starts_with('/'))
    }

    /// An entry of this store; `None` for somebody else's.
    pub fn entry(&self, kv: KeyValue) -> Option<Entry> {
        let (created, modified) = (kv.create_revision(), kv.mod_revision());
        let (key, value) = kv.into_key_value();
        Some(Entry {
            key: self.inner(&key)?.into(),
            value: value.into(),
            create_revision: revision(created),
            mod_revision: revision(modified),
        })
    }

    /// The changes in `response` above `after` that are this store's, and the revision they reach.
    pub fn changes(&self, response: &WatchResponse, after: u64) -> (Vec<Change>, u64) {
        let mut changes = Vec::with_capacity(response.events().len());
        let mut reached = after;
        for event in response.events() {
            let Some(kv) = event.kv() else { continue };
            let at = revision(kv.mod_revision());
            if at.0 <= after {
                continue;
            }
            reached = reached.max(at.0);
            if let Some(key) = self.inner(kv.key()) {
                changes.push(self.change(event, kv, key.into(), at));
            }
        }
        (changes, reached)
    }

    fn change(&self, event: &Event, kv: &KeyValue, key: StoreKey, at: Revision) -> Change {
        if event.event_type() == EventType::Delete {
            let previous = event.prev_kv().map(|before| Entry {
                key: key.clone(),
                value: Bytes::copy_from_slice(before.value()),
                create_revision: revision(before.create_revision()),
                mod_revision: revision(before.mod_revision()),
            });
            return Change {
                revision: at,
                key,
                value: None,
                previous,
            };
        }
        Change {
            revision: at,
            key,
            value: Some(Bytes::copy_from_slice(kv.value())),
            previous: None,
        }
    }
}

/// A revision as etcd sends it.
pub(super) fn revision(number: i64) -> Revision {
    Revision(u64::try_from(number).unwrap_or(0))
}

/// A revision as etcd takes it.
pub(super) fn number(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

/// The first key behind all that begin with `prefix`, which ends in ASCII.
fn after_all(mut prefix: Vec<u8>) -> Vec<u8> {
    if let Some(last) = prefix.last_mut() {
        *last = last.saturating_add(1);
    }
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_read_as_upstream_reads_them() {
        for (given, key) in [
            ("/registry", "/registry/a"),
            ("registry/", "/registry/a"),
            ("/kubernetes.io//registry", "/kubernetes.io/registry/a"),
            ("/", "/a"),
            ("", "/a"),
        ] {
            assert_eq!(Keys::new(given).outer("/a"), key.as_bytes());
        }
    }

    #[test]
    fn ranges_end_behind_their_prefix() {
        let keys = Keys::new("/registry");
        let text = |(first, end): (Vec<u8>, Vec<u8>)| [first, end].map(|key| String::from_utf8(key).unwrap());
        assert_eq!(text(keys.range("/pods/", "")), ["/registry/pods/", "/registry/pods0"]);
        assert_eq!(
            text(keys.range("/pods/", "/pods/a\0")),
            ["/registry/pods/a\0", "/registry/pods0"]
        );
        assert_eq!(text(keys.range("", "")), ["/registry/", "/registry0"]);
        assert_eq!(keys.inner(b"/registry/pods/a"), Some("/pods/a"));
        assert_eq!(keys.inner(b"/registry2/pods/a"), None);
        assert_eq!(keys.inner(b"compact_rev_key"), None);
    }
}
