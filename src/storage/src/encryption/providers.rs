//! [`Keyring`]: which providers seal and open the values of which resource.
// PERFORMANCE: per-request path

use crate::encryption::cipher::{Cipher, Kind};
use crate::encryption::config::{
    EncryptionConfiguration, Key, KmsConfiguration, ProviderConfiguration, group_resource,
};
use crate::encryption::kms::{Grpc, Kms};
use crate::encryption::metrics::{Metrics, Way};
use crate::encryption::validation::decode_secret;
use bytes::Bytes;
use fairlead_api::{Clock, GroupResource};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

/// What no value begins with unless it is encrypted: JSON begins with a brace, protobuf with `k8s` and a zero byte.
const ENCRYPTED: &[u8] = b"k8s:enc:";

/// All providers of one configuration.
#[derive(Default)]
pub struct Keyring {
    /// Wildcards are stored as they are written.
    chains: HashMap<GroupResource, Arc<Chain>>,
    plugins: Vec<Arc<Kms>>,
}

/// The providers of one resource: the first writes, all read.
#[derive(Default)]
pub(super) struct Chain(Vec<Arc<Provider>>);

struct Provider {
    /// What its values begin with.
    prefix: Box<str>,
    seals: Seals,
}

enum Seals {
    Identity,
    /// Named keys: the first seals, all open what bears their name.
    Keys {
        keys: Vec<(Box<str>, Cipher)>,
        provider: &'static str,
    },
    Kms(Arc<Kms>),
}

/// A value, opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub value: Bytes,
    /// Another provider or key would write it now.
    pub stale: bool,
}

/// Why a value could not be sealed or opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub message: String,
    /// The gRPC status of a plugin's answer; `None` where none was asked.
    pub status: Option<&'static str>,
}

/// A configuration that is valid but cannot be used; a sentence.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct RefusedConfig(pub String);

impl Refused {
    pub fn local(message: impl Into<String>) -> Refused {
        Refused {
            message: message.into(),
            status: None,
        }
    }

    pub fn status(&self) -> &'static str {
        self.status.unwrap_or("unknown-non-grpc")
    }

    /// Several as one, as Go's aggregate prints them.
    fn all(mut refusals: Vec<Refused>) -> Option<Refused> {
        if refusals.len() < 2 {
            return refusals.pop();
        }
        let mut texts: Vec<&str> = Vec::new();
        for refused in &refusals {
            if !texts.contains(&refused.message.as_str()) {
                texts.push(&refused.message);
            }
        }
        let message = match texts.as_slice() {
            [one] => (*one).to_owned(),
            many => format!("[{}]", many.join(", ")),
        };
        let status = refusals.iter().find_map(|refused| refused.status);
        Some(Refused { message, status })
    }
}

impl Keyring {
    /// Of a configuration that has been validated. Plugins are asked nothing before [`Keyring::start`]. Needs a tokio
    /// runtime where there are any.
    ///
    /// # Errors
    /// A rule hidden by an earlier one, a plugin that cannot be reached by what the file says.
    pub fn new(
        config: &EncryptionConfiguration,
        clock: &Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> Result<Keyring, RefusedConfig> {
        Keyring::with_plugins(config, &|kms| {
            if kms.api_version == "v1" {
                return Err(
                    "KMSv1 is deprecated and will only receive security updates going forward. Use KMSv2 instead."
                        .into(),
                );
            }
            let plugin = Grpc::new(&kms.endpoint, &kms.name, kms.timeout(), metrics.clone())
                .map_err(|why| format!("could not configure KMSv2-Plugin's probe {:?}, error: {why}", kms.name))?;
            Ok(Kms::new(&kms.name, Box::new(plugin), clock.clone(), metrics.clone()))
        })
    }

    pub(super) fn with_plugins(
        config: &EncryptionConfiguration,
        connect: &dyn Fn(&KmsConfiguration) -> Result<Arc<Kms>, String>,
    ) -> Result<Keyring, RefusedConfig> {
        let mut plugins = Vec::new();
        let mut lists: HashMap<GroupResource, Vec<Arc<Provider>>> = HashMap::new();
        let everything = GroupResource::new("*", "*");
        for entry in &config.resources {
            let providers: Vec<Arc<Provider>> = entry
                .providers
                .iter()
                .map(|one| Provider::new(one, connect, &mut plugins).map(Arc::new))
                .collect::<Result<_, _>>()?;
            for name in &entry.resources {
                let resource = group_resource(name);
                let group = GroupResource::new(resource.group.as_str(), "*");
                for earlier in [&group, &everything] {
                    if lists.contains_key(earlier) {
                        return Err(RefusedConfig(format!(
                            "resource {:?} is masked by earlier rule {:?}",
                            written(&resource),
                            written(earlier)
                        )));
                    }
                }
                lists.entry(resource).or_default().extend(providers.iter().cloned());
            }
        }
        let chains = lists
            .into_iter()
            .map(|(resource, list)| (resource, Arc::new(Chain(list))));
        Ok(Keyring {
            chains: chains.collect(),
            plugins,
        })
    }

    /// Asks every plugin once, and goes on asking until the keyring is dropped. One that is not well now may be later.
    pub async fn start(&self) {
        for kms in &self.plugins {
            if let Err(error) = kms.check().await {
                tracing::warn!(provider = kms.name(), error, "a KMS plugin is not well");
            }
            kms.keep_probing();
        }
    }

    /// Whether values can be sealed and opened.
    ///
    /// # Errors
    /// Which plugin is not well, and why.
    pub async fn health(&self) -> Result<(), String> {
        let mut ill = Vec::new();
        for (index, kms) in self.plugins.iter().enumerate() {
            if let Err(error) = kms.check().await {
                ill.push(format!("kms-provider-{index}: {error}"));
            }
        }
        match ill.as_slice() {
            [] => Ok(()),
            [one] => Err(one.clone()),
            many => Err(format!("[{}]", many.join(", "))),
        }
    }

    pub fn has_plugins(&self) -> bool {
        !self.plugins.is_empty()
    }

    /// The rule for `resource`: its own, its group's, everybody's; `None` where values are stored as they are.
    pub(super) fn of(&self, resource: &GroupResource) -> Option<&Arc<Chain>> {
        let group = || GroupResource::new(resource.group.as_str(), "*");
        self.chains
            .get(resource)
            .or_else(|| self.chains.get(&group()))
            .or_else(|| self.chains.get(&GroupResource::new("*", "*")))
    }
}

/// A rule's resource as it stands in the file.
fn written(resource: &GroupResource) -> String {
    match (resource.group.as_str(), resource.resource.as_str()) {
        ("", "*") => "*.".into(),
        _ => resource.to_string(),
    }
}

/// Where a value belongs, and who is told what happens to it.
pub(super) struct Place<'a> {
    pub resource: &'a GroupResource,
    /// The whole key.
    pub key: &'a str,
    pub metrics: &'a Metrics,
}

impl Chain {
    /// As the first provider stores it.
    pub fn seal(&self, plain: &Bytes, place: &Place<'_>) -> Result<Bytes, Refused> {
        let started = Instant::now();
        let first = self.0.first().ok_or_else(|| Refused::local("there is no provider"))?;
        let sealed = first.seal(plain, place);
        let refused = sealed.as_ref().err();
        place
            .metrics
            .transformed(place.resource, Way::In, &first.prefix, started, refused);
        sealed
    }

    /// What was sealed, by whichever provider can tell.
    pub async fn open(&self, sealed: &Bytes, place: &Place<'_>) -> Result<Opened, Refused> {
        let started = Instant::now();
        let mut refusals = Vec::new();
        for (index, provider) in self.0.iter().enumerate() {
            let Some(body) = sealed.strip_prefix(provider.prefix.as_bytes()) else {
                continue;
            };
            let opened = provider.open(&sealed.slice_ref(body), place).await;
            let identity = provider.prefix.is_empty();
            // Whoever moves away from encryption puts identity first; that it cannot read the rest says nothing.
            if identity && opened.is_err() {
                continue;
            }
            let label = if identity { "identity" } else { &provider.prefix };
            let refused = opened.as_ref().err();
            place
                .metrics
                .transformed(place.resource, Way::Out, label, started, refused);
            match opened {
                Ok(opened) => {
                    return Ok(Opened {
                        stale: opened.stale || index != 0,
                        ..opened
                    });
                }
                // Two providers of one kind share a prefix: the next one may have the key.
                Err(refused) => refusals.push(refused),
            }
        }
        Err(Refused::all(refusals).unwrap_or_else(|| {
            let refused = Refused::local("no matching prefix found");
            place
                .metrics
                .transformed(place.resource, Way::Out, "unknown", started, Some(&refused));
            refused
        }))
    }
}

/// A value that no provider is configured for.
pub(super) fn open_plain(value: &Bytes) -> Result<(), Refused> {
    if value.starts_with(ENCRYPTED) {
        return Err(Refused::local("identity transformer tried to read encrypted data"));
    }
    Ok(())
}

impl Provider {
    fn new(
        config: &ProviderConfiguration,
        connect: &dyn Fn(&KmsConfiguration) -> Result<Arc<Kms>, String>,
        plugins: &mut Vec<Arc<Kms>>,
    ) -> Result<Provider, RefusedConfig> {
        let keys = |keys: &[Key], kind, prefix: &str, provider| {
            Ok(Provider {
                prefix: prefix.into(),
                seals: Seals::Keys {
                    keys: keys.iter().map(|key| named(key, kind)).collect::<Result<_, _>>()?,
                    provider,
                },
            })
        };
        if let Some(given) = &config.aesgcm {
            keys(given, Kind::AesGcm, "k8s:enc:aesgcm:v1:", "AES")
        } else if let Some(given) = &config.aescbc {
            keys(given, Kind::AesCbc, "k8s:enc:aescbc:v1:", "AES")
        } else if let Some(given) = &config.secretbox {
            keys(given, Kind::Secretbox, "k8s:enc:secretbox:v1:", "Secretbox")
        } else if let Some(kms) = &config.kms {
            let plugin = connect(kms).map_err(RefusedConfig)?;
            plugins.push(plugin.clone());
            Ok(Provider {
                prefix: format!("k8s:enc:kms:v2:{}:", kms.name).into(),
                seals: Seals::Kms(plugin),
            })
        } else {
            Ok(Provider {
                prefix: "".into(),
                seals: Seals::Identity,
            })
        }
    }

    fn seal(&self, plain: &Bytes, place: &Place<'_>) -> Result<Bytes, Refused> {
        match &self.seals {
            Seals::Identity => Ok(plain.clone()),
            Seals::Keys { keys, .. } => {
                let (name, cipher) = keys.first().ok_or_else(|| Refused::local("there is no key"))?;
                let started = Instant::now();
                // Room for a nonce, a tag and padding.
                let mut out = Vec::with_capacity(self.prefix.len() + name.len() + plain.len() + 48);
                out.extend_from_slice(self.prefix.as_bytes());
                out.extend_from_slice(name.as_bytes());
                let sealed = cipher
                    .seal(plain, place.key.as_bytes(), &mut out)
                    .map_err(Refused::local);
                place
                    .metrics
                    .transformed(place.resource, Way::In, name, started, sealed.as_ref().err());
                sealed.map(|()| out.into())
            }
            Seals::Kms(kms) => {
                let mut out = Vec::with_capacity(self.prefix.len() + plain.len() + 512);
                out.extend_from_slice(self.prefix.as_bytes());
                kms.seal(plain, place.key.as_bytes(), &mut out)?;
                Ok(out.into())
            }
        }
    }

    /// `sealed` is what follows the prefix.
    async fn open(&self, sealed: &Bytes, place: &Place<'_>) -> Result<Opened, Refused> {
        match &self.seals {
            Seals::Identity => open_plain(sealed).map(|()| Opened {
                value: sealed.clone(),
                stale: false,
            }),
            Seals::Keys { keys, provider } => open_named(keys, provider, sealed, place),
            Seals::Kms(kms) => kms.open(sealed, place.key.as_bytes()).await,
        }
    }
}

fn open_named(
    keys: &[(Box<str>, Cipher)],
    provider: &str,
    sealed: &[u8],
    place: &Place<'_>,
) -> Result<Opened, Refused> {
    let started = Instant::now();
    let mut refusals = Vec::new();
    for (index, (name, cipher)) in keys.iter().enumerate() {
        let Some(body) = sealed.strip_prefix(name.as_bytes()) else {
            continue;
        };
        let opened = cipher.open(body, place.key.as_bytes()).map_err(Refused::local);
        place
            .metrics
            .transformed(place.resource, Way::Out, name, started, opened.as_ref().err());
        match opened {
            Ok(value) => {
                return Ok(Opened {
                    value: value.into(),
                    stale: index != 0,
                });
            }
            Err(refused) => refusals.push(refused),
        }
    }
    Err(Refused::all(refusals).unwrap_or_else(|| {
        let refused = Refused::local(format!(
            "no matching key was found for the provided {provider} transformer"
        ));
        place
            .metrics
            .transformed(place.resource, Way::Out, "unknown", started, Some(&refused));
        refused
    }))
}

fn named(key: &Key, kind: Kind) -> Result<(Box<str>, Cipher), RefusedConfig> {
    let secret = decode_secret(&key.secret);
    let cipher = secret.and_then(|secret| Cipher::new(kind, &secret));
    let cipher = cipher.ok_or_else(|| {
        RefusedConfig(format!(
            "could not obtain secret for named key {}: it is not a key of {kind:?}",
            key.name
        ))
    })?;
    Ok((format!("{}:", key.name).into(), cipher))
}
