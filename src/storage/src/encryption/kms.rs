//! [`Kms`]: values sealed with keys of this server, which only a plugin can open again (KMS v2, KEP-3299).
//!
//! A seed is made at start and whenever the plugin changes its key. Each value is sealed with a key of its own, derived
//! from the seed and 32 random bytes that stand before it. The seed, encrypted by the plugin, stands beside every value;
//! opened seeds are kept, so that the plugin is asked once a seed and not once a value.
//!
//! - `wire`: the messages. - `plugin`: the way to ask. - `dek`: seeds and keys.
//! - `probe`: whether the plugin is well and which key it uses.
//!
//! Source of behaviour: kubernetes/apiserver pkg/storage/value/encrypt/envelope/kmsv2, server/options/encryptionconfig.

mod dek;
mod plugin;
mod probe;
#[cfg(test)]
mod tests;
mod wire;

use crate::encryption::metrics::{Metrics, Way};
use crate::encryption::providers::{Opened, Refused};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use dek::Dek;
use fairlead_api::{Clock, Timestamp, name};
pub use plugin::Grpc;
use plugin::Plugin;
use prost::Message;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use wire::{DecryptRequest, EncryptedObject, SourceType};

/// Bounds of what a plugin may add to every value.
const MAX_KEY_ID: usize = 1 << 10;
const MAX_SOURCE: usize = 1 << 10;
const MAX_ANNOTATIONS: usize = 32 << 10;
/// How long an opened seed is kept without being asked for.
const KEPT_SECONDS: i64 = 24 * 3600;

/// One provider.
pub struct Kms {
    name: Box<str>,
    plugin: Box<dyn Plugin>,
    /// What values are sealed with; `None` until the plugin has been well once.
    state: ArcSwapOption<State>,
    /// Opened seeds by [`id`].
    deks: Mutex<HashMap<[u8; 32], Kept>>,
    probe: tokio::sync::Mutex<probe::Probe>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

struct Kept {
    dek: Arc<Dek>,
    since: i64,
}

/// A seed and what stands beside the values it seals.
struct State {
    dek: Arc<Dek>,
    key_id: String,
    source: Bytes,
    annotations: BTreeMap<String, Vec<u8>>,
    /// Nothing is sealed after this unless the plugin has been well since.
    expires: Timestamp,
}

impl Kms {
    pub(super) fn new(name: &str, plugin: Box<dyn Plugin>, clock: Arc<dyn Clock>, metrics: Metrics) -> Arc<Kms> {
        Arc::new(Kms {
            name: name.into(),
            plugin,
            state: ArcSwapOption::empty(),
            deks: Mutex::default(),
            probe: tokio::sync::Mutex::default(),
            clock,
            metrics,
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The stored form without its prefix, appended to `out`.
    pub(super) fn seal(&self, plain: &[u8], place: &[u8], out: &mut Vec<u8>) -> Result<(), Refused> {
        let state = self.state()?;
        let now = self.clock.now();
        if now.0 > state.expires.0 {
            return Err(Refused::local(format!(
                "encryptedDEKSource with keyID hash {:?} expired at {} (current time is {})",
                super::sha256(state.key_id.as_bytes()),
                state.expires.rfc3339(),
                now.rfc3339()
            )));
        }
        let mut sealed = Vec::with_capacity(plain.len() + dek::OVERHEAD);
        state.dek.seal(plain, place, &mut sealed).map_err(Refused::local)?;
        self.metrics
            .key_used(Way::In, &self.name, &state.key_id, now.unix_seconds());
        let object = EncryptedObject {
            encrypted_data: sealed.into(),
            key_id: state.key_id.clone(),
            encrypted_dek_source: state.source.clone(),
            annotations: state.annotations.clone(),
            encrypted_dek_source_type: SourceType::HkdfSha256XnonceAesGcmSeed.into(),
        };
        object.encode(out).map_err(|error| Refused::local(error.to_string()))
    }

    /// `sealed` without its prefix. Asks the plugin for a seed it has not seen.
    pub(super) async fn open(&self, sealed: &Bytes, place: &[u8]) -> Result<Opened, Refused> {
        let object = EncryptedObject::decode(sealed.clone()).map_err(|error| Refused::local(error.to_string()))?;
        validate(&object)?;
        let state = self.state()?;
        let id = id(&object);
        let dek = match self.kept(&id) {
            Some(dek) => dek,
            None => self.fetch(id, &object).await?,
        };
        let now = self.clock.now().unix_seconds();
        self.metrics.key_used(Way::Out, &self.name, &object.key_id, now);
        let value = dek.open(&object.encrypted_data, place).map_err(Refused::local)?;
        Ok(Opened {
            value: value.into(),
            stale: object.key_id != state.key_id
                || object.encrypted_dek_source_type() != SourceType::HkdfSha256XnonceAesGcmSeed,
        })
    }

    fn state(&self) -> Result<Arc<State>, Refused> {
        // COMPAT: upstream's words for a plugin that has never been well. It may be one day.
        self.state.load_full().ok_or_else(|| Refused {
            message: "got unexpected nil transformer".into(),
            status: Some("Unavailable"),
        })
    }

    fn kept(&self, id: &[u8; 32]) -> Option<Arc<Dek>> {
        let mut deks = crate::feed::lock(&self.deks);
        let kept = deks.get_mut(id)?;
        kept.since = self.clock.now().unix_seconds();
        Some(kept.dek.clone())
    }

    fn keep(&self, id: [u8; 32], dek: Arc<Dek>) {
        let now = self.clock.now().unix_seconds();
        let mut deks = crate::feed::lock(&self.deks);
        deks.retain(|_, kept| now - kept.since < KEPT_SECONDS);
        deks.insert(id, Kept { dek, since: now });
        self.metrics.seeds_kept(&self.name, deks.len());
    }

    async fn fetch(&self, id: [u8; 32], object: &EncryptedObject) -> Result<Arc<Dek>, Refused> {
        self.metrics.seed_missed();
        let request = DecryptRequest {
            ciphertext: object.encrypted_dek_source.clone(),
            uid: plugin::uid().map_err(Refused::local)?,
            key_id: object.key_id.clone(),
            annotations: object.annotations.clone(),
        };
        let key = self.plugin.decrypt(request).await.map_err(|failure| Refused {
            message: format!("failed to decrypt DEK, error: {failure}"),
            status: Some(failure.code),
        })?;
        let dek = Dek::new(object.encrypted_dek_source_type(), &key).map_err(Refused::local)?;
        let dek = Arc::new(dek);
        self.keep(id, dek.clone());
        Ok(dek)
    }
}

impl std::fmt::Debug for Kms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kms").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Which seed a value needs: everything the plugin is asked with.
fn id(object: &EncryptedObject) -> [u8; 32] {
    let asked = EncryptedObject {
        encrypted_data: Bytes::new(),
        ..object.clone()
    };
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &asked.encode_to_vec());
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn validate(object: &EncryptedObject) -> Result<(), Refused> {
    let refused = |message: String| Err(Refused::local(message));
    if SourceType::try_from(object.encrypted_dek_source_type).is_err() {
        return refused(format!(
            "unknown encryptedDEKSourceType: {}",
            object.encrypted_dek_source_type
        ));
    }
    if object.encrypted_data.is_empty() {
        return refused("encrypted data is empty".into());
    }
    validate_beside(&object.key_id, &object.encrypted_dek_source, &object.annotations).map_err(Refused::local)
}

/// What stands beside a value.
fn validate_beside(key_id: &str, source: &[u8], annotations: &BTreeMap<String, Vec<u8>>) -> Result<(), String> {
    let source_failed = |why: String| Err(format!("failed to validate encrypted DEK source: {why}"));
    if source.is_empty() {
        return source_failed("encrypted DEK source is empty".into());
    }
    if source.len() > MAX_SOURCE {
        return source_failed(format!(
            "encrypted DEK source is {} bytes, which exceeds the max size of {MAX_SOURCE}",
            source.len()
        ));
    }
    if let Err((_, why)) = validate_key_id(key_id) {
        return Err(format!("failed to validate key id: {why}"));
    }
    let size: usize = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    let bad = annotations.keys().find(|key| !is_domain(key));
    match bad {
        Some(key) => Err(format!(
            "failed to validate annotations: annotations: Invalid value: {key:?}: should be a domain with at least two segments separated by dots"
        )),
        None if size > MAX_ANNOTATIONS => Err(format!(
            "failed to validate annotations: total size of annotations is {size}, which exceeds the max size of {MAX_ANNOTATIONS}"
        )),
        None => Ok(()),
    }
}

/// Fully qualified: at least two labels.
fn is_domain(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    text.contains('.')
        && name::is_dns1123_subdomain(text).is_empty()
        && text.split('.').all(|label| name::is_dns1123_label(label).is_empty())
}

/// The error is what metrics call it, and a sentence.
fn validate_key_id(key_id: &str) -> Result<(), (&'static str, String)> {
    match key_id.len() {
        0 => Err(("empty", "keyID is empty".into())),
        length if length > MAX_KEY_ID => Err((
            "too_long",
            format!("keyID is {length} bytes, which exceeds the max size of {MAX_KEY_ID}"),
        )),
        _ => Ok(()),
    }
}
