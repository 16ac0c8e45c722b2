//! A plugin that is well, ill, gone, and changes its key.

use crate::encryption::config::{
    EncryptionConfiguration, KmsConfiguration, ProviderConfiguration, ResourceConfiguration,
};
use crate::encryption::kms::plugin::{Failure, Plugin};
use crate::encryption::kms::wire::{
    DecryptRequest, EncryptRequest, EncryptResponse, EncryptedObject, SourceType, StatusResponse,
};
use crate::encryption::kms::{Kms, validate_beside};
use crate::encryption::metrics::Metrics;
use crate::encryption::{Encryption, Keyring};
use crate::memory::Memory;
use crate::store::{Error, Expect, Revision, Store};
use crate::testing::{HandClock, bytes};
use fairlead_api::GroupResource;
use fairlead_telemetry::Families;
use futures_util::future::BoxFuture;
use prost::Message;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Its ciphertext is the plaintext, turned round.
#[derive(Clone, Default)]
struct Fake(Arc<Inner>);

#[derive(Default)]
struct Inner {
    key: AtomicU64,
    gone: Mutex<Option<&'static str>>,
    decrypted: AtomicUsize,
}

impl Fake {
    fn answer<'a, T: Send + 'a>(
        &'a self,
        make: impl FnOnce(&Inner) -> T + Send + 'a,
    ) -> BoxFuture<'a, Result<T, Failure>> {
        Box::pin(async move {
            // A plugin never answers at once.
            tokio::task::yield_now().await;
            match *self.0.gone.lock().unwrap() {
                Some(code) => Err(Failure {
                    code,
                    message: "no".into(),
                }),
                None => Ok(make(&self.0)),
            }
        })
    }

    fn key_id(&self) -> String {
        format!("key-{}", self.0.key.load(Ordering::SeqCst))
    }
}

impl Plugin for Fake {
    fn status(&self) -> BoxFuture<'_, Result<StatusResponse, Failure>> {
        self.answer(|_| StatusResponse {
            version: "v2".into(),
            healthz: "ok".into(),
            key_id: self.key_id(),
        })
    }

    fn encrypt(&self, request: EncryptRequest) -> BoxFuture<'_, Result<EncryptResponse, Failure>> {
        self.answer(|_| EncryptResponse {
            ciphertext: request.plaintext.into_iter().rev().collect::<Vec<u8>>().into(),
            key_id: self.key_id(),
            annotations: [("version.example.com".to_owned(), b"1".to_vec())].into(),
        })
    }

    fn decrypt(&self, request: DecryptRequest) -> BoxFuture<'_, Result<Vec<u8>, Failure>> {
        self.answer(move |inner| {
            inner.decrypted.fetch_add(1, Ordering::SeqCst);
            assert_eq!(request.annotations["version.example.com"], b"1");
            request.ciphertext.iter().rev().copied().collect()
        })
    }
}

struct Bench {
    fake: Fake,
    clock: Arc<HandClock>,
    raw: Memory,
    encryption: Encryption,
    plain: Arc<dyn Store>,
}

fn bench() -> Bench {
    over(Memory::new(HandClock::at(0)), Fake::default())
}

fn over(raw: Memory, fake: Fake) -> Bench {
    let clock = HandClock::at(1_000);
    let metrics = Metrics::register(&Families::default(), "server");
    let config = EncryptionConfiguration {
        resources: vec![ResourceConfiguration {
            resources: vec!["secrets".into()],
            providers: vec![ProviderConfiguration {
                kms: Some(KmsConfiguration {
                    api_version: "v2".into(),
                    name: "fake".into(),
                    endpoint: "unix:///fake".into(),
                    timeout_nanos: 1_000_000_000,
                    cache_size: None,
                }),
                ..ProviderConfiguration::default()
            }],
        }],
    };
    assert_eq!(config.validate(false), []);
    let keyring = Keyring::with_plugins(&config, &|kms| {
        Ok(Kms::new(
            &kms.name,
            Box::new(fake.clone()),
            clock.clone(),
            metrics.clone(),
        ))
    });
    let encryption = Encryption::new(keyring.unwrap(), "/registry", metrics.clone());
    let plain = encryption.over(Arc::new(raw.clone()), GroupResource::new("", "secrets"));
    Bench {
        fake,
        clock,
        raw,
        encryption,
        plain,
    }
}

impl Bench {
    async fn probe(&self) -> Result<(), String> {
        tokio::time::advance(std::time::Duration::from_secs(30)).await;
        self.encryption.keyring().health().await
    }

    async fn put(&self, key: &str) -> Result<Revision, Error> {
        self.plain.put(key, bytes("{}"), Expect::Absent, None).await
    }

    async fn object(&self, key: &str) -> EncryptedObject {
        let raw = self.raw.get(key).await.unwrap().0.unwrap().value;
        EncryptedObject::decode(raw.strip_prefix(b"k8s:enc:kms:v2:fake:").unwrap()).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_seed_is_asked_for_once() {
    let first = bench();
    let before = first.put("/secrets/a").await.unwrap_err();
    assert!(before.to_string().contains("/registry/secrets/a"), "{before}");
    first.probe().await.unwrap();
    for key in ["/secrets/a", "/secrets/b"] {
        first.put(key).await.unwrap();
        let object = first.object(key).await;
        assert_eq!(
            object.encrypted_dek_source_type(),
            SourceType::HkdfSha256XnonceAesGcmSeed
        );
        assert_eq!(
            (object.key_id.as_str(), object.encrypted_dek_source.len()),
            ("key-0", 32)
        );
        assert_eq!(object.encrypted_data.len(), 32 + 12 + 2 + 16);
    }
    assert_eq!(
        first.plain.range("/secrets/", "", 9, None).await.unwrap().entries[1].value,
        "{}"
    );
    assert_eq!(first.fake.0.decrypted.load(Ordering::SeqCst), 0);

    // Another process, which has to ask.
    let second = over(first.raw.clone(), first.fake.clone());
    second.probe().await.unwrap();
    let mut watch = second.plain.watch("/secrets/", Revision(1)).await.unwrap();
    // The plugin makes it wait; nothing is lost by that.
    assert!(watch.ready().unwrap().is_none());
    let batch = watch.next().await.unwrap();
    assert!(
        batch
            .changes
            .iter()
            .all(|change| change.value.as_deref() == Some(b"{}"))
    );
    assert_eq!(
        second
            .plain
            .range("/secrets/", "", 9, None)
            .await
            .unwrap()
            .entries
            .len(),
        2
    );
    assert_eq!(second.fake.0.decrypted.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_new_key_makes_values_outdated() {
    let bench = bench();
    bench.probe().await.unwrap();
    bench.put("/secrets/a").await.unwrap();
    assert_eq!(bench.plain.outdated("/secrets/a").await.unwrap(), None);
    bench.fake.0.key.store(1, Ordering::SeqCst);
    bench.probe().await.unwrap();
    let outdated = bench.plain.outdated("/secrets/a").await.unwrap().unwrap();
    let expect = Expect::Unchanged(outdated.mod_revision);
    bench
        .plain
        .put("/secrets/a", outdated.value, expect, None)
        .await
        .unwrap();
    assert_eq!(bench.object("/secrets/a").await.key_id, "key-1");
    assert_eq!(bench.plain.outdated("/secrets/a").await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn writes_coast_for_three_minutes_and_reads_for_ever() {
    let bench = bench();
    bench.probe().await.unwrap();
    bench.put("/secrets/a").await.unwrap();
    *bench.fake.0.gone.lock().unwrap() = Some("Unavailable");
    let ill = bench.probe().await.unwrap_err();
    assert_eq!(
        ill,
        "kms-provider-0: failed to perform status section of the healthz check for KMS Provider fake, error: rpc error: code = Unavailable desc = no"
    );
    bench.clock.advance(180);
    bench.put("/secrets/b").await.unwrap();
    bench.clock.advance(1);
    let expired = bench.put("/secrets/c").await.unwrap_err().to_string();
    assert!(
        expired.contains("/registry/secrets/c") && expired.contains("expired at 1970-01-01T00:19:40Z"),
        "{expired}"
    );
    assert_eq!(bench.plain.get("/secrets/a").await.unwrap().0.unwrap().value, "{}");
    *bench.fake.0.gone.lock().unwrap() = None;
    bench.probe().await.unwrap();
    bench.put("/secrets/c").await.unwrap();
    // A plugin that was asked and failed may do better later; a value that was tampered with never will.
    let other = over(bench.raw.clone(), bench.fake.clone());
    other.probe().await.unwrap();
    *other.fake.0.gone.lock().unwrap() = Some("PermissionDenied");
    let refused = other.plain.get("/secrets/a").await.unwrap_err();
    assert!(
        matches!(&refused, Error::Transform { passing: true, message } if message.contains("failed to decrypt DEK"))
    );
}

#[tokio::test(start_paused = true)]
async fn damaged_objects_are_refused() {
    let bench = bench();
    bench.probe().await.unwrap();
    bench.put("/secrets/a").await.unwrap();
    let good = bench.object("/secrets/a").await;
    let plant = async |name: &str, object: &EncryptedObject| {
        let mut value = b"k8s:enc:kms:v2:fake:".to_vec();
        object.encode(&mut value).unwrap();
        bench.raw.put(name, value.into(), Expect::Absent, None).await.unwrap();
        bench.plain.get(name).await.unwrap_err().to_string()
    };
    assert!(
        plant("/secrets/moved", &good)
            .await
            .ends_with("message authentication failed")
    );
    let odd = EncryptedObject {
        encrypted_dek_source_type: 7,
        ..good.clone()
    };
    assert!(
        plant("/secrets/odd", &odd)
            .await
            .ends_with("unknown encryptedDEKSourceType: 7")
    );
    let keyless = EncryptedObject {
        key_id: String::new(),
        ..good
    };
    assert!(plant("/secrets/keyless", &keyless).await.ends_with("keyID is empty"));
    let annotations = BTreeMap::from([("short".to_owned(), Vec::new())]);
    assert!(
        validate_beside("k", b"s", &annotations)
            .unwrap_err()
            .contains("two segments")
    );
    assert!(
        validate_beside("k", &[0; 1025], &BTreeMap::new())
            .unwrap_err()
            .contains("1025 bytes")
    );
}
