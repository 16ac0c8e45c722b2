//! Tokens that are accepted and tokens that are not.

use super::issuer::{Grant, Issuer};
use super::*;
use crate::authentication::keys::SigningKey;
use crate::authentication::peer::PeerCertificates;
use crate::objects::MemoryObjects;
use base64::engine::general_purpose::STANDARD;
use fairlead_api::node;
use fairlead_api::time::FixedClock;
use futures_util::FutureExt;

const NOW: i64 = 1_800_000_000;

struct World {
    objects: Arc<MemoryObjects>,
    account: Arc<Node>,
    issuer: Issuer,
}

impl World {
    fn new() -> World {
        let objects = Arc::new(MemoryObjects::new());
        for (plural, name) in [("serviceaccounts", "sa"), ("pods", "p"), ("secrets", "s")] {
            objects.put(
                "",
                plural,
                node!({"metadata": {"name": name, "namespace": "ns", "uid": format!("u-{name}")}}),
            );
        }
        let key = SigningKey::generate_ecdsa().unwrap().0;
        let account = objects.get("", "serviceaccounts", "ns", "sa").unwrap();
        World {
            account,
            objects,
            issuer: Issuer::new(key, "https://us", vec!["https://us".into()]),
        }
    }

    fn token<'a>(&'a self, change: impl FnOnce(&mut Grant<'a>)) -> String {
        let mut grant = Grant {
            account: &self.account,
            pod: None,
            secret: None,
            node: None,
            audiences: &self.issuer.audiences,
            now: NOW,
            expiration_seconds: 600,
            warn_after_seconds: 0,
            id: "j1",
        };
        change(&mut grant);
        self.issuer.token(&grant).unwrap()
    }

    fn ask(&self, token: &str, at: i64, audiences: &[String]) -> Result<Option<Authenticated>, AuthError> {
        let config = Config {
            issuers: vec!["https://us".into()],
            audiences: vec!["https://us".into()],
            keys: vec![self.issuer.key.public.clone()],
            legacy_token_used: None,
        };
        let clock = Arc::new(FixedClock(Timestamp::from_unix_seconds(at)));
        let tokens = ServiceAccountTokens::new(config, Arc::clone(&self.objects) as Arc<dyn ObjectSource>, clock);
        let peer = PeerCertificates::default();
        let credentials = Credentials {
            bearer: Some(token),
            audiences,
            ..Credentials::none(&peer)
        };
        tokens.authenticate(&credentials).now_or_never().expect("nothing waits")
    }

    fn error(&self, token: &str, at: i64) -> String {
        self.ask(token, at, &[]).unwrap_err().0
    }
}

#[test]
fn a_token_names_its_account_and_pod() {
    let world = World::new();
    let pod: &Node = &world.objects.get("", "pods", "ns", "p").unwrap();
    let token = world.token(|g| (g.pod, g.node) = (Some(pod), Some(("n", "nu"))));
    let user = world.ask(&token, NOW, &[]).unwrap().unwrap();
    assert_eq!(user.user.name, "system:serviceaccount:ns:sa");
    assert_eq!(
        user.user.groups,
        ["system:serviceaccounts", "system:serviceaccounts:ns"]
    );
    assert_eq!(user.audiences, ["https://us"]);
    let extra: Vec<(&str, &str)> = user
        .user
        .extra
        .iter()
        .map(|(k, v)| (k.rsplit('/').next().unwrap(), v[0].as_str()))
        .collect();
    assert_eq!(
        extra,
        [
            ("credential-id", "JTI=j1"),
            ("node-name", "n"),
            ("node-uid", "nu"),
            ("pod-name", "p"),
            ("pod-uid", "u-p")
        ]
    );
    world.objects.delete("", "pods", "ns", "p");
    assert_eq!(world.error(&token, NOW), "service account token has been invalidated");
}

#[test]
fn times_have_a_minute_of_leeway() {
    let world = World::new();
    let token = world.token(|_| {});
    assert!(world.ask(&token, NOW + 660, &[]).is_ok());
    assert_eq!(world.error(&token, NOW + 661), "service account token has expired");
    assert!(world.ask(&token, NOW - 60, &[]).is_ok());
    assert_eq!(world.error(&token, NOW - 61), "service account token is not valid yet");
}

#[test]
fn audiences_must_meet() {
    let world = World::new();
    let other = ["other".to_owned()];
    let token = world.token(|_| {});
    assert_eq!(
        world.ask(&token, NOW, &other).unwrap_err().0,
        r#"token audiences ["https://us"] is invalid for the target audiences ["other"]"#
    );
    let token = world.token(|g| g.audiences = &other);
    assert!(world.ask(&token, NOW, &[]).is_err());
    assert_eq!(world.ask(&token, NOW, &other).unwrap().unwrap().audiences, other);
}

#[test]
fn a_new_account_of_the_name_is_another() {
    let world = World::new();
    let token = world.token(|_| {});
    world.objects.put(
        "",
        "serviceaccounts",
        node!({"metadata": {"name": "sa", "namespace": "ns", "uid": "u2"}}),
    );
    assert_eq!(
        world.error(&token, NOW),
        "service account UID (u2) does not match claim (u-sa)"
    );
    world.objects.delete("", "serviceaccounts", "ns", "sa");
    assert_eq!(world.error(&token, NOW), r#"serviceaccounts "sa" not found"#);
}

#[test]
fn forged_tokens_are_refused_and_others_left_alone() {
    let world = World::new();
    let token = world.token(|_| {});
    let (message, _) = token.rsplit_once('.').unwrap();
    let (_, claims) = message.split_once('.').unwrap();
    assert_eq!(
        world.error(&format!("{message}.AAAA"), NOW),
        "square/go-jose: error in cryptographic primitive"
    );
    // No algorithm but the key's: neither none nor a MAC with the public key.
    for alg in ["none", "HS256", "RS256"] {
        let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{alg}","kid":"{}"}}"#, world.issuer.key.public.id));
        assert!(world.ask(&format!("{header}.{claims}."), NOW, &[]).is_err(), "{alg}");
    }
    let unknown = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","kid":"x"}"#);
    assert_eq!(
        world.error(&format!("{unknown}.{claims}.AAAA"), NOW),
        "invalid signature, no keys found"
    );
    let elsewhere = SigningKey::generate_ecdsa()
        .unwrap()
        .0
        .sign(&node!({"iss": "https://other"}))
        .unwrap();
    for foreign in ["", "nonsense", "a.b.c", "a.b.c.d", elsewhere.as_str()] {
        assert!(world.ask(foreign, NOW, &[]).unwrap().is_none(), "{foreign}");
    }
}

#[test]
fn secrets_hold_tokens_too() {
    let world = World::new();
    let account = world.objects.get("", "serviceaccounts", "ns", "sa").unwrap();
    let token = world.issuer.secret_token(&account, "s").unwrap();
    assert_eq!(world.error(&token, NOW), "Token does not match server's copy");
    let mut secret = node!({"metadata": {"name": "s", "namespace": "ns"}});
    secret.set_at(&["data", "token"], STANDARD.encode(&token));
    world.objects.put("", "secrets", secret.clone());
    let user = world.ask(&token, NOW, &[]).unwrap().unwrap();
    assert_eq!(user.user.name, "system:serviceaccount:ns:sa");
    assert!(
        user.audit
            .contains(&("authentication.k8s.io/legacy-token-manual-secret", "s".into()))
    );
    secret.set_at(
        &["metadata", "labels", "kubernetes.io/legacy-token-invalid-since"],
        "2026-01-01",
    );
    world.objects.put("", "secrets", secret);
    assert!(world.error(&token, NOW).contains("has been marked invalid"));
}

/// CVE-2019-11250, CVE-2020-8565: what is logged about a token is not the token.
#[test]
fn errors_do_not_hold_tokens() {
    let world = World::new();
    let token = world.token(|g| g.audiences = &[]);
    let bound = world.token(|_| {});
    let account = Arc::clone(&world.account);
    let legacy = world.issuer.secret_token(&account, "s").unwrap();
    for (token, at) in [(&token, NOW + 9_999), (&bound, NOW + 9_999), (&legacy, NOW)] {
        let error = world.error(token, at);
        assert!(token.split('.').all(|part| !error.contains(part)), "{error}");
    }
}
