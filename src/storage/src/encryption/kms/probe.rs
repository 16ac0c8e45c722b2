//! Whether a plugin is well, and which key it uses: asked by health checks and by a task of the provider's own.

use crate::encryption::kms::dek::Dek;
use crate::encryption::kms::wire::{EncryptRequest, EncryptedObject, SourceType, StatusResponse};
use crate::encryption::kms::{Kms, State, id, plugin, validate_beside, validate_key_id};
use crate::encryption::sha256;
use bytes::Bytes;
use fairlead_api::Timestamp;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// What was last heard.
#[derive(Default)]
pub(super) struct Probe {
    last: Option<(Instant, Result<(), String>)>,
    /// Of the first answer; it must not change.
    version: Option<String>,
}

/// How long an answer counts.
const WELL: Duration = Duration::from_secs(20);
const ILL: Duration = Duration::from_secs(3);
/// How often the provider itself asks.
const ASK: Duration = Duration::from_secs(60);
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// How long values are sealed after the plugin was last well.
const COAST_SECONDS: i128 = 180;

impl Kms {
    /// Asks now and then whether the key has changed, until the provider is dropped.
    pub(in crate::encryption) fn keep_probing(self: &Arc<Self>) {
        let kms: Weak<Kms> = Arc::downgrade(self);
        _ = fairlead_telemetry::task::spawn("kms-probe", async move {
            let mut pause = Duration::ZERO;
            loop {
                tokio::time::sleep(pause).await;
                let Some(kms) = kms.upgrade() else { return };
                pause = match kms.check().await {
                    Ok(()) => ASK,
                    Err(error) => {
                        tracing::warn!(provider = kms.name(), error, "a KMS plugin is not well");
                        ASK_AGAIN
                    }
                };
            }
        });
    }

    /// Whether the plugin is well. A recent answer is repeated.
    ///
    /// # Errors
    /// What is wrong, in upstream's words.
    pub async fn check(&self) -> Result<(), String> {
        let mut probe = self.probe.lock().await;
        if let Some((when, outcome)) = &probe.last {
            let counts = if outcome.is_ok() { WELL } else { ILL };
            if when.elapsed() < counts {
                return outcome.clone();
            }
        }
        let outcome = self.ask(&mut probe).await;
        probe.last = Some((Instant::now(), outcome.clone()));
        outcome
    }

    async fn ask(&self, probe: &mut Probe) -> Result<(), String> {
        let status = self.plugin.status().await.map_err(|failure| {
            format!(
                "failed to perform status section of the healthz check for KMS Provider {}, error: {failure}",
                self.name
            )
        })?;
        let mut wrong = Vec::new();
        if status.healthz != "ok" {
            wrong.push(format!("got unexpected healthz status: {}", status.healthz));
        }
        wrong.extend(version(&status, probe).err());
        if let Err((what, why)) = validate_key_id(&status.key_id) {
            self.metrics.invalid_key_id(&self.name, what);
            wrong.push(format!(
                "got invalid KMSv2 KeyID hash {:?}: {why}",
                hash(&status.key_id)
            ));
        } else {
            let now = self.clock.now().unix_seconds();
            self.metrics.key_told(&self.name, &status.key_id, now);
            wrong.extend(self.rotate(&status.key_id).await.err());
        }
        let wrong = match wrong.as_slice() {
            [] => return Ok(()),
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        Err(format!("kmsv2 Provider {} is not healthy, error: {wrong}", self.name))
    }

    /// Makes a new seed where the plugin has changed its key, and lets the old one live on where it has not.
    async fn rotate(&self, key_id: &str) -> Result<(), String> {
        // Taken before the plugin is asked: an upper bound.
        let expires = Timestamp(self.clock.now().0 + COAST_SECONDS * 1_000_000_000);
        let state = self.state.load_full();
        if let Some(state) = state.as_ref().filter(|state| state.key_id == key_id) {
            self.state.store(Some(Arc::new(State {
                dek: state.dek.clone(),
                key_id: state.key_id.clone(),
                source: state.source.clone(),
                annotations: state.annotations.clone(),
                expires,
            })));
            return Ok(());
        }
        let uid = plugin::uid()?;
        let failed = |why: &str, encrypted_with: &str| {
            format!(
                "failed to rotate DEK uid={uid:?}, useSeed=true, errGen={why}, statusKeyIDHash={:?}, encryptKeyIDHash={:?}, stateKeyIDHash={:?}",
                hash(key_id),
                hash(encrypted_with),
                hash(state.as_ref().map_or("", |state| &state.key_id)),
            )
        };
        let (fresh, used) = match self.seed(&uid, expires).await {
            Ok(fresh) => fresh,
            Err(why) => return Err(failed(&why, "")),
        };
        if fresh.key_id != key_id {
            return Err(failed("<nil>", &fresh.key_id));
        }
        self.keep(used, fresh.dek.clone());
        self.state.store(Some(Arc::new(fresh)));
        tracing::info!(
            provider = self.name(),
            key = hash(key_id),
            "values are sealed with a new seed"
        );
        Ok(())
    }

    /// A new seed, encrypted by the plugin.
    async fn seed(&self, uid: &str, expires: Timestamp) -> Result<(State, [u8; 32]), String> {
        let started = std::time::Instant::now();
        let generated = Dek::generate();
        self.metrics.seed_made(started, generated.is_ok());
        let (dek, seed) = generated?;
        let request = EncryptRequest {
            plaintext: seed,
            uid: uid.to_owned(),
        };
        let answer = self.plugin.encrypt(request).await;
        let answer = answer.map_err(|failure| format!("failed to encrypt DEK, error: {failure}"))?;
        validate_beside(&answer.key_id, &answer.ciphertext, &answer.annotations)?;
        let object = EncryptedObject {
            encrypted_data: Bytes::new(),
            key_id: answer.key_id.clone(),
            encrypted_dek_source: answer.ciphertext.clone(),
            annotations: answer.annotations.clone(),
            encrypted_dek_source_type: SourceType::HkdfSha256XnonceAesGcmSeed.into(),
        };
        let state = State {
            dek: Arc::new(dek),
            key_id: answer.key_id,
            source: answer.ciphertext,
            annotations: answer.annotations,
            expires,
        };
        Ok((state, id(&object)))
    }
}

fn version(status: &StatusResponse, probe: &mut Probe) -> Result<(), String> {
    if !matches!(status.version.as_str(), "v2" | "v2beta1") {
        return Err(format!("expected KMSv2 API version v2, got {}", status.version));
    }
    let first = probe.version.get_or_insert_with(|| status.version.clone());
    if *first != status.version {
        return Err(format!(
            "KMSv2 API version should not change after the initial status response version {first}, got {}",
            status.version
        ));
    }
    Ok(())
}

fn hash(key_id: &str) -> String {
    if key_id.is_empty() {
        String::new()
    } else {
        sha256(key_id.as_bytes())
    }
}
