//! Encryption as a store: what lies below is sealed, what is seen above is plain, whichever key wrote it.

use crate::encryption::config::{EncryptionConfiguration, Key, ProviderConfiguration, ResourceConfiguration};
use crate::encryption::{Encryption, Keyring, Metrics};
use crate::memory::Memory;
use crate::store::{Entry, Error, Expect, Revision, Store};
use crate::suite::{Bench, suite, until};
use crate::testing::{HandClock, bytes};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use fairlead_api::{Clock, GroupResource};
use fairlead_telemetry::Families;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

const KEY_1: [u8; 32] = [1; 32];
const KEY_2: [u8; 32] = [2; 32];

fn metrics() -> Metrics {
    Metrics::register(&Families::default(), "server")
}

fn clock() -> Arc<dyn Clock> {
    HandClock::at(0)
}

fn key(name: &str, bytes: &[u8]) -> Key {
    Key {
        name: name.into(),
        secret: STANDARD.encode(bytes),
    }
}

fn provider(kind: &str, keys: Vec<Key>) -> ProviderConfiguration {
    let mut config = ProviderConfiguration::default();
    match kind {
        "aescbc" => config.aescbc = Some(keys),
        "aesgcm" => config.aesgcm = Some(keys),
        "secretbox" => config.secretbox = Some(keys),
        _ => config.identity = true,
    }
    config
}

fn keyring(resources: &[&str], providers: Vec<ProviderConfiguration>) -> Keyring {
    let config = EncryptionConfiguration {
        resources: vec![ResourceConfiguration {
            resources: resources.iter().map(|name| (*name).to_owned()).collect(),
            providers,
        }],
    };
    assert_eq!(config.validate(true), []);
    Keyring::new(&config, &clock(), &metrics()).unwrap()
}

fn secrets(providers: Vec<ProviderConfiguration>) -> Encryption {
    let metrics = metrics();
    Encryption::new(keyring(&["secrets"], providers), "/registry", metrics)
}

struct Layers {
    raw: Memory,
    plain: Arc<dyn Store>,
    encryption: Encryption,
}

fn layers(providers: Vec<ProviderConfiguration>) -> Layers {
    let raw = Memory::new(HandClock::at(0));
    let encryption = secrets(providers);
    let plain = encryption.over(Arc::new(raw.clone()), GroupResource::new("", "secrets"));
    Layers { raw, plain, encryption }
}

impl Layers {
    async fn raw(&self, key: &str) -> Bytes {
        self.raw.get(key).await.unwrap().0.unwrap().value
    }

    async fn read(&self, key: &str) -> Result<Bytes, Error> {
        Ok(self.plain.get(key).await?.0.unwrap().value)
    }

    /// Puts bytes below, as another server would have.
    async fn plant(&self, key: &str, value: Bytes) {
        self.raw.put(key, value, Expect::Absent, None).await.unwrap();
    }
}

async fn bench() -> Option<Bench> {
    let clock = HandClock::at(1_000);
    let raw = Memory::new(clock.clone());
    let encryption = secrets(vec![provider("aesgcm", vec![key("a", &KEY_1)])]);
    let expiring = raw.clone();
    let over = move || encryption.over(Arc::new(raw.clone()), GroupResource::new("", "secrets"));
    Some(Bench {
        store: over(),
        lifetime: Duration::from_secs(60),
        pass: Arc::new(move |time| {
            clock.advance(time.as_secs().cast_signed());
            expiring.expire();
            Box::pin(ready(()))
        }),
        restart: Arc::new(move || Box::pin(ready(over()))),
        _keep: Box::new(()),
    })
}

suite!(conformance, bench);

#[tokio::test]
async fn values_are_sealed_below_and_plain_above() {
    for (kind, prefix) in [
        ("aescbc", "k8s:enc:aescbc:v1:one:"),
        ("aesgcm", "k8s:enc:aesgcm:v1:one:"),
        ("secretbox", "k8s:enc:secretbox:v1:one:"),
        ("identity", ""),
    ] {
        let layers = layers(vec![provider(kind, vec![key("one", &KEY_1)])]);
        let mut watch = layers.plain.watch("/secrets/", Revision(1)).await.unwrap();
        for length in [0, 1, 15, 16, 17, 1000] {
            let name = format!("/secrets/ns/{length}");
            let value = Bytes::from(vec![b'v'; length]);
            layers
                .plain
                .put(&name, value.clone(), Expect::Absent, None)
                .await
                .unwrap();
            let raw = layers.raw(&name).await;
            assert!(raw.starts_with(prefix.as_bytes()), "{kind}");
            assert!(kind == "identity" || !raw.windows(8).any(|window| window == b"vvvvvvvv"));
            assert_eq!(layers.read(&name).await.unwrap(), value, "{kind}");
        }
        let range = layers.plain.range("/secrets/", "", 100, None).await.unwrap();
        assert!(
            range
                .entries
                .iter()
                .all(|entry| entry.value.iter().all(|byte| *byte == b'v'))
        );
        layers
            .plain
            .delete("/secrets/ns/1", Expect::Unchanged(Revision(3)))
            .await
            .unwrap();
        let batch = until(&mut watch, Revision(1), Revision(8)).await;
        assert_eq!(batch.changes.len(), 7);
        assert_eq!(batch.changes[1].value.as_deref(), Some(&b"v"[..]));
        let previous = batch.changes[6].previous.as_ref().map(|entry| &entry.value[..]);
        assert_eq!(previous, Some(&b"v"[..]));
        let conflict = layers
            .plain
            .put("/secrets/ns/15", bytes("x"), Expect::Absent, None)
            .await;
        assert!(matches!(conflict, Err(Error::Conflict { current: Some(Entry { value, .. }) }) if value.len() == 15));
    }
}

/// Made by kube-apiserver's own code (k8s.io/apiserver v0.33.3), at `/registry/secrets/ns/a`.
#[tokio::test]
async fn what_kube_apiserver_sealed_can_be_opened() {
    assert_eq!(GOLDEN.len(), 7);
    for (kind, key_bytes, sealed) in GOLDEN {
        let layers = layers(vec![provider(kind, vec![key("key1", &unhex(key_bytes))])]);
        layers.plant("/secrets/ns/a", unhex(sealed).into()).await;
        assert_eq!(layers.read("/secrets/ns/a").await.unwrap(), GOLDEN_PLAIN, "{kind}");
    }
}

#[tokio::test]
async fn a_value_moved_or_changed_is_refused_by_name() {
    let layers = layers(vec![provider("aesgcm", vec![key("one", &KEY_1)])]);
    layers
        .plain
        .put("/secrets/ns/a", bytes("{}"), Expect::Absent, None)
        .await
        .unwrap();
    let sealed = layers.raw("/secrets/ns/a").await;
    layers.plant("/secrets/ns/moved", sealed.clone()).await;
    let error = layers.read("/secrets/ns/moved").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "unable to transform key \"/registry/secrets/ns/moved\": cipher: message authentication failed"
    );
    for at in 0..sealed.len() {
        let mut changed = sealed.to_vec();
        changed[at] ^= 1;
        let name = format!("/secrets/ns/changed-{at}");
        layers.plant(&name, changed.into()).await;
        assert!(layers.read(&name).await.is_err(), "{at}");
    }
    let range = layers
        .plain
        .range("/secrets/ns/changed-3", "", 9, None)
        .await
        .unwrap_err();
    assert!(range.to_string().contains("/registry/secrets/ns/changed-3"));
    for (sealed, why) in [
        (
            "k8s:enc:aesgcm:v1:other:abc",
            "no matching key was found for the provided AES transformer",
        ),
        ("k8s:enc:aescbc:v1:one:abc", "no matching prefix found"),
        ("{}", "no matching prefix found"),
        (
            "k8s:enc:aesgcm:v1:one:abc",
            "the stored data was shorter than the required size",
        ),
    ] {
        let name = format!("/secrets/ns/{}", why.replace(' ', "-") + sealed);
        layers.plant(&name, bytes(sealed)).await;
        let error = layers.read(&name).await.unwrap_err().to_string();
        assert!(error.ends_with(why), "{error}");
    }
}

#[tokio::test]
async fn keys_are_rotated_by_writing_again() {
    let (one, two) = (key("one", &KEY_1), key("two", &KEY_2));
    let layers = layers(vec![provider("identity", vec![])]);
    let name = "/secrets/ns/a";
    layers.plain.put(name, bytes("{}"), Expect::Absent, None).await.unwrap();
    assert_eq!(layers.plain.outdated(name).await.unwrap(), None);
    let steps = [
        (
            vec![provider("aescbc", vec![one.clone()]), provider("identity", vec![])],
            "k8s:enc:aescbc:v1:one:",
        ),
        (
            vec![provider("aescbc", vec![two.clone(), one.clone()])],
            "k8s:enc:aescbc:v1:two:",
        ),
        (
            vec![
                provider("aescbc", vec![one.clone()]),
                provider("aescbc", vec![two.clone()]),
            ],
            "k8s:enc:aescbc:v1:one:",
        ),
        (
            vec![provider("secretbox", vec![two.clone()]), provider("aescbc", vec![one])],
            "k8s:enc:secretbox:v1:two:",
        ),
        (
            vec![provider("identity", vec![]), provider("secretbox", vec![two])],
            "{}",
        ),
    ];
    for (providers, prefix) in steps {
        layers.encryption.replace(keyring(&["secrets"], providers));
        assert_eq!(layers.read(name).await.unwrap(), "{}");
        let outdated = layers
            .plain
            .outdated(name)
            .await
            .unwrap()
            .expect("another key writes now");
        assert_eq!(outdated.value, "{}");
        let expect = Expect::Unchanged(outdated.mod_revision);
        layers.plain.put(name, outdated.value, expect, None).await.unwrap();
        assert!(layers.raw(name).await.starts_with(prefix.as_bytes()), "{prefix}");
        assert_eq!(layers.plain.outdated(name).await.unwrap(), None);
    }
}

#[tokio::test]
async fn the_nearest_rule_counts() {
    let config = |resources: &[&str], name: &str| ResourceConfiguration {
        resources: resources.iter().map(|resource| (*resource).to_owned()).collect(),
        providers: match name {
            "" => vec![provider("identity", vec![])],
            name => vec![provider("aescbc", vec![key(name, &KEY_1)])],
        },
    };
    let config = EncryptionConfiguration {
        resources: vec![
            config(&["events"], ""),
            config(&["secrets", "widgets.example.com"], "own"),
            config(&["*.apps"], "apps"),
            config(&["*."], "core"),
            config(&["*.*"], "all"),
        ],
    };
    assert_eq!(config.validate(true), []);
    let keyring = Keyring::new(&config, &clock(), &metrics()).unwrap();
    let encryption = Encryption::new(keyring, "/registry", metrics());
    for (group, resource, by) in [
        ("", "events", "{}"),
        ("", "secrets", "k8s:enc:aescbc:v1:own:"),
        ("", "pods", "k8s:enc:aescbc:v1:core:"),
        ("apps", "deployments", "k8s:enc:aescbc:v1:apps:"),
        ("example.com", "widgets", "k8s:enc:aescbc:v1:own:"),
        ("example.com", "gadgets", "k8s:enc:aescbc:v1:all:"),
    ] {
        let raw = Memory::new(HandClock::at(0));
        let plain = encryption.over(Arc::new(raw.clone()), GroupResource::new(group, resource));
        plain.put("/x/a", bytes("{}"), Expect::Absent, None).await.unwrap();
        let stored = raw.get("/x/a").await.unwrap().0.unwrap().value;
        assert!(stored.starts_with(by.as_bytes()), "{group} {resource}: {stored:?}");
    }
}

#[tokio::test]
async fn what_no_rule_names_is_plain_and_must_be() {
    let encryption = secrets(vec![provider("aescbc", vec![key("one", &KEY_1)])]);
    let raw = Memory::new(HandClock::at(0));
    let plain = encryption.over(Arc::new(raw.clone()), GroupResource::new("", "pods"));
    plain.put("/pods/a", bytes("{}"), Expect::Absent, None).await.unwrap();
    assert_eq!(raw.get("/pods/a").await.unwrap().0.unwrap().value, "{}");
    raw.put("/pods/b", bytes("k8s:enc:aescbc:v1:one:"), Expect::Absent, None)
        .await
        .unwrap();
    let error = plain.get("/pods/b").await.unwrap_err().to_string();
    assert!(error.contains("/registry/pods/b") && error.ends_with("tried to read encrypted data"));
}

pub(super) fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16).unwrap() as u8;
    text.as_bytes()
        .chunks(2)
        .map(|pair| digit(pair[0]) * 16 + digit(pair[1]))
        .collect()
}

const GOLDEN_PLAIN: &str = r#"{"kind":"Secret"}"#;
/// Kind, key, value with its prefix.
#[rustfmt::skip]
const GOLDEN: &[(&str, &str, &str)] = &[
    ("aescbc", "00070e151c232a31383f464d545b6269", "6b38733a656e633a6165736362633a76313a6b6579313ad204ee618d52f860b29252dbc01147a48bfb39a37f857ef402e76578de5c40185161a7c53c4bc9528b48368f8a498b2d"),
    ("aesgcm", "00070e151c232a31383f464d545b6269", "6b38733a656e633a61657367636d3a76313a6b6579313aa5af30cf1415cd35767c8e196ecd8f0ba785f4310508af9289d35ad555f2bd2570bad05c23022129c0c3d5edce"),
    ("aescbc", "00070e151c232a31383f464d545b626970777e858c939aa1", "6b38733a656e633a6165736362633a76313a6b6579313a759dda36b729aa33164c7860d90a300c97fdbc096dad575d27ddd133e9f89756f61a498ac98ae66905660b6a0919e6b3"),
    ("aesgcm", "00070e151c232a31383f464d545b626970777e858c939aa1", "6b38733a656e633a61657367636d3a76313a6b6579313aef978af74b72fb8d584122d454b03dfeada98148b157f88652f97560f7871c6b22a265940fbf4b834b7fa997dd"),
    ("aescbc", "00070e151c232a31383f464d545b626970777e858c939aa1a8afb6bdc4cbd2d9", "6b38733a656e633a6165736362633a76313a6b6579313a5076a4ae8939601c1b2ffa4116d76e6a09beb77bb7e283bdabfb27c8bfd33c02e3589af6c537a3ec7c3a7c0840ea43cb"),
    ("aesgcm", "00070e151c232a31383f464d545b626970777e858c939aa1a8afb6bdc4cbd2d9", "6b38733a656e633a61657367636d3a76313a6b6579313adb8b72f3436c71d778d837c5cd5f7dbdf3f7763659ac982b8b2cbcbafd2bb879489bf47b3d60b8e981d41b6249"),
    ("secretbox", "00070e151c232a31383f464d545b626970777e858c939aa1a8afb6bdc4cbd2d9", "6b38733a656e633a736563726574626f783a76313a6b6579313a1824226f934a4e227a692f699620f585ffea68c7fc9563e36864ce68f076881e3f5790868345ecef8185d8e09202194f2dd71c9ed3e1bd05da"),
];
