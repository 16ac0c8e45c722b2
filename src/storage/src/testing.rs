//! What tests of this crate share: a clock that is set by hand and a decoder.

use crate::cached::{Cached, Decode, Forms, Header};
use crate::store::Revision;
use bytes::Bytes;
use fairlead_api::{Clock, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Stands still until moved.
#[derive(Debug, Default)]
pub struct HandClock(AtomicI64);

impl HandClock {
    pub fn at(seconds: i64) -> Arc<HandClock> {
        Arc::new(HandClock(AtomicI64::new(seconds)))
    }

    pub fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_seconds(self.0.load(Ordering::SeqCst))
    }
}

/// Serves `value@revision`; values that begin with `!` cannot be decoded.
pub struct AtRevision;

impl Decode for AtRevision {
    fn decode(&self, key: &str, value: &Bytes, revision: Revision) -> Result<Cached, String> {
        let text = String::from_utf8_lossy(value);
        if text.starts_with('!') {
            return Err("not an object".into());
        }
        Ok(Cached {
            key: key.into(),
            revision,
            json: format!("{text}@{}", revision.0).into(),
            header: Header::default(),
            forms: Forms::default(),
        })
    }
}

pub fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}
