//! Objects in memory, under one revision that grows with every write.

use crate::kinds::Kind;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard};
use tokio::sync::watch;

/// How many changes a watch can look back.
const HISTORY: usize = 1024;

/// Plural, namespace (empty for cluster scope), name.
pub type ObjectKey = (&'static str, String, String);

#[derive(Clone, Debug)]
pub struct Change {
    pub revision: u64,
    pub kind: &'static Kind,
    /// Before; `None` for a created object.
    pub old: Option<Value>,
    /// After; for a deleted object its last state, with the revision of the deletion.
    pub new: Value,
    pub deleted: bool,
}

#[derive(Default)]
struct Contents {
    revision: u64,
    objects: BTreeMap<ObjectKey, Value>,
    history: VecDeque<Change>,
}

pub struct Storage {
    contents: Mutex<Contents>,
    revision: watch::Sender<u64>,
}

/// Why a write did not happen.
#[derive(Debug, PartialEq, Eq)]
pub enum WriteError {
    NotFound,
    Exists,
    /// The stored object is newer than the caller's.
    Conflict,
}

impl Default for Storage {
    fn default() -> Storage {
        Storage {
            contents: Mutex::new(Contents {
                revision: 1,
                ..Contents::default()
            }),
            revision: watch::Sender::new(1),
        }
    }
}

impl Storage {
    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Wakes up whenever something is written.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    pub fn get(&self, key: &ObjectKey) -> Option<Value> {
        self.lock().objects.get(key).cloned()
    }

    /// All objects of a kind, in one namespace or (empty) in all, and the revision they were read at.
    pub fn list(&self, kind: &Kind, namespace: &str) -> (Vec<Value>, u64) {
        let contents = self.lock();
        let items = contents
            .objects
            .iter()
            .filter(|((plural, ns, _), _)| *plural == kind.plural && (namespace.is_empty() || ns == namespace))
            .map(|(_, object)| object.clone())
            .collect();
        (items, contents.revision)
    }

    pub fn create(&self, kind: &'static Kind, key: ObjectKey, mut object: Value) -> Result<Value, WriteError> {
        let mut contents = self.lock();
        if contents.objects.contains_key(&key) {
            return Err(WriteError::Exists);
        }
        contents.revision += 1;
        object["metadata"]["resourceVersion"] = contents.revision.to_string().into();
        contents.objects.insert(key, object.clone());
        self.record(contents, kind, None, object.clone(), false);
        Ok(object)
    }

    /// Stores what `change` makes of the stored object, which cannot change meanwhile.
    /// `expected` is the revision the caller saw; empty for "whatever is there".
    pub fn update<E: From<WriteError>>(
        &self,
        kind: &'static Kind,
        key: &ObjectKey,
        expected: &str,
        change: impl FnOnce(&Value) -> Result<Value, E>,
    ) -> Result<Value, E> {
        let mut contents = self.lock();
        let old = contents.objects.get(key).cloned().ok_or(WriteError::NotFound)?;
        if !expected.is_empty() && old["metadata"]["resourceVersion"] != expected {
            return Err(WriteError::Conflict.into());
        }
        let mut new = change(&old)?;
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
        if new == old {
            return Ok(old);
        }
        contents.revision += 1;
        new["metadata"]["resourceVersion"] = contents.revision.to_string().into();
        contents.objects.insert(key.clone(), new.clone());
        self.record(contents, kind, Some(old), new.clone(), false);
        Ok(new)
    }

    pub fn delete(&self, kind: &'static Kind, key: &ObjectKey) -> Result<Value, WriteError> {
        let mut contents = self.lock();
        let old = contents.objects.remove(key).ok_or(WriteError::NotFound)?;
        contents.revision += 1;
        let mut last = old.clone();
        last["metadata"]["resourceVersion"] = contents.revision.to_string().into();
        self.record(contents, kind, Some(old.clone()), last, true);
        Ok(old)
    }

    /// Changes of a kind after `revision`; `None` when they are no longer known.
    pub fn changes_since(&self, revision: u64, kind: &Kind) -> Option<(Vec<Change>, u64)> {
        let contents = self.lock();
        let oldest_known = contents.history.front().map_or(contents.revision, |c| c.revision - 1);
        if revision < oldest_known {
            return None;
        }
        let changes = contents
            .history
            .iter()
            .filter(|c| c.revision > revision && c.kind.plural == kind.plural)
            .cloned();
        Some((changes.collect(), contents.revision))
    }

    fn record(
        &self,
        mut contents: MutexGuard<Contents>,
        kind: &'static Kind,
        old: Option<Value>,
        new: Value,
        deleted: bool,
    ) {
        let revision = contents.revision;
        if contents.history.len() == HISTORY {
            contents.history.pop_front();
        }
        contents.history.push_back(Change {
            revision,
            kind,
            old,
            new,
            deleted,
        });
        drop(contents);
        self.revision.send_replace(revision);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::CARRIER;
    use serde_json::json;

    fn key(name: &str) -> ObjectKey {
        (CARRIER.plural, String::new(), name.into())
    }

    #[test]
    fn writes_check_the_revision_and_leave_history() {
        let storage = Storage::default();
        let a = storage
            .create(&CARRIER, key("a"), json!({"metadata": {"name": "a"}}))
            .unwrap();
        assert_eq!(a["metadata"]["resourceVersion"], "2");
        assert_eq!(storage.create(&CARRIER, key("a"), json!({})), Err(WriteError::Exists));
        let touch = |old: &Value| -> Result<Value, WriteError> {
            let mut new = old.clone();
            new["spec"] = json!({"x": 1});
            Ok(new)
        };
        assert_eq!(
            storage.update(&CARRIER, &key("a"), "1", touch),
            Err(WriteError::Conflict)
        );
        assert_eq!(
            storage.update(&CARRIER, &key("a"), "2", touch).unwrap()["metadata"]["resourceVersion"],
            "3"
        );
        // Nothing changes, so nothing is written.
        assert_eq!(
            storage.update(&CARRIER, &key("a"), "3", touch).unwrap()["metadata"]["resourceVersion"],
            "3"
        );
        storage.delete(&CARRIER, &key("a")).unwrap();
        let (changes, revision) = storage.changes_since(2, &CARRIER).unwrap();
        assert_eq!((changes.len(), revision), (2, 4));
        assert!(changes[1].deleted);
    }

    #[test]
    fn history_is_bounded() {
        let storage = Storage::default();
        for i in 0..=HISTORY {
            storage
                .create(&CARRIER, key(&format!("c{i}")), json!({"metadata": {}}))
                .unwrap();
        }
        assert!(storage.changes_since(1, &CARRIER).is_none());
        assert!(storage.changes_since(2, &CARRIER).is_some());
    }
}
