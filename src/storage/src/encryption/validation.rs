//! What is wrong with an [`EncryptionConfiguration`], in upstream's words.
//!
//! Source of the wording: kubernetes/apiserver pkg/apis/apiserver/validation/validation_encryption.go.

use crate::encryption::config::{
    EncryptionConfiguration, Key, KmsConfiguration, ProviderConfiguration, group_resource,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fairlead_api::field::{FieldError, FieldErrors, FieldPath};
use fairlead_api::{GroupResource, Node};

const NO_PROVIDER: &str =
    "provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity";
const SEVERAL_PROVIDERS: &str =
    "more than one provider specified in a single element, should split into different list elements";
const OVERLAP: &str = "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be masked";
const DUPLICATE: &str = "the same resource cannot be specified multiple times";
const CAPITALS: &str = "resource name should not contain capital letters";
const STAR: &str = "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources";
const NOT_REST: &str = "resources which do not have REST API/s cannot be encrypted";
const EVENTS_GROUP: &str = "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the config file";
const EXTENSIONS_GROUP: &str = "'extensions' group has been removed and cannot be used for encryption";
const ACROSS_GROUPS: &str = "encrypting the same resource across groups is not supported";

const AES_SIZES: &[usize] = &[16, 24, 32];
const SECRETBOX_SIZES: &[usize] = &[32];

pub(super) fn validate(config: &EncryptionConfiguration, reload: bool) -> FieldErrors {
    let root = FieldPath::new("resources");
    if config.resources.is_empty() {
        return vec![at_least_one(&root, root.as_str())];
    }
    let mut errors = FieldErrors::new();
    let mut kms_names: Vec<&str> = Vec::new();
    for (index, entry) in config.resources.iter().enumerate() {
        let (resources, providers) = (
            root.index(index).child("resources"),
            root.index(index).child("providers"),
        );
        if entry.resources.is_empty() {
            errors.push(at_least_one(&resources, resources.as_str()));
        }
        overlap(&entry.resources, &resources, &mut errors);
        for (index, name) in entry.resources.iter().enumerate() {
            if let Some(why) = bad_name(name) {
                errors.push(FieldError::invalid(&resources.index(index), name.as_str(), why));
            }
        }
        if entry.providers.is_empty() {
            errors.push(at_least_one(&providers, providers.as_str()));
        }
        for (index, one) in entry.providers.iter().enumerate() {
            provider(one, &providers.index(index), &mut kms_names, reload, &mut errors);
        }
    }
    errors
}

fn at_least_one(path: &FieldPath, what: &str) -> FieldError {
    FieldError::required(path, format!("at least one {what} is required"))
}

fn overlap(names: &[String], path: &FieldPath, errors: &mut FieldErrors) {
    let parsed: Vec<GroupResource> = names.iter().map(|name| group_resource(name)).collect();
    let pairs = || {
        let pairs = parsed
            .iter()
            .enumerate()
            .flat_map(|(i, a)| parsed.iter().enumerate().map(move |(j, b)| (i, a, j, b)));
        pairs.filter(|(i, _, j, _)| i != j).map(|(_, a, _, b)| (a, b))
    };
    let everything = |one: &GroupResource| one.group == "*" && one.resource == "*";
    // Upstream lets the first pair of equals count as a duplicate only; any further one is an overlap if it is one.
    let mut equals = pairs().filter(|(a, b)| a == b);
    let duplicate = equals.next().is_some();
    let overlaps = pairs()
        .filter(|(a, b)| a != b)
        .chain(equals)
        .any(|(a, b)| everything(a) || (a.group == b.group && (a.resource == "*" || b.resource == "*")));
    let list = || Node::List(names.iter().map(|name| Node::string(name.as_str())).collect());
    if duplicate {
        errors.push(FieldError::invalid(path, list(), DUPLICATE));
    }
    if overlaps {
        errors.push(FieldError::invalid(path, list(), OVERLAP));
    }
}

fn bad_name(name: &str) -> Option<&'static str> {
    let parsed = group_resource(name);
    if name.to_lowercase() != name {
        Some(CAPITALS)
    } else if name == "*" {
        Some(STAR)
    } else if matches!(
        name,
        "apiserveripinfo" | "serviceipallocations" | "servicenodeportallocations"
    ) {
        Some(NOT_REST)
    } else if parsed.group == "events.k8s.io" {
        Some(EVENTS_GROUP)
    } else if parsed.group == "extensions" {
        Some(EXTENSIONS_GROUP)
    } else if parsed.group == "*" && parsed.resource != "*" {
        Some(ACROSS_GROUPS)
    } else {
        None
    }
}

fn provider<'a>(
    one: &'a ProviderConfiguration,
    path: &FieldPath,
    kms_names: &mut Vec<&'a str>,
    reload: bool,
    errors: &mut FieldErrors,
) {
    let given = [
        ("kms", one.kms.is_some()),
        ("aesgcm", one.aesgcm.is_some()),
        ("aescbc", one.aescbc.is_some()),
        ("secretbox", one.secretbox.is_some()),
        ("identity", one.identity),
    ];
    let given: Vec<&str> = given
        .iter()
        .filter(|(_, given)| *given)
        .map(|(name, _)| *name)
        .collect();
    // Which ones were given, and not what is in them, as upstream shows pointers.
    let shown = || format!("{{{}}}", given.join(", "));
    match given.len() {
        0 => errors.push(FieldError::invalid(path, Node::Null, NO_PROVIDER).showing(shown())),
        1 => {}
        _ => errors.push(FieldError::invalid(path, Node::Null, SEVERAL_PROVIDERS).showing(shown())),
    }
    if let Some(config) = &one.kms {
        kms(config, &path.child("kms"), kms_names, reload, errors);
        kms_names.push(&config.name);
    } else if let Some(given) = &one.aesgcm {
        keys(given, &path.child("aesgcm").child("keys"), AES_SIZES, errors);
    } else if let Some(given) = &one.aescbc {
        keys(given, &path.child("aescbc").child("keys"), AES_SIZES, errors);
    } else if let Some(given) = &one.secretbox {
        keys(given, &path.child("secretbox").child("keys"), SECRETBOX_SIZES, errors);
    }
}

fn keys(given: &[Key], path: &FieldPath, sizes: &[usize], errors: &mut FieldErrors) {
    if given.is_empty() {
        errors.push(at_least_one(path, "keys"));
    }
    for (index, key) in given.iter().enumerate() {
        let path = path.index(index);
        if key.name.is_empty() {
            errors.push(mandatory(&path.child("name"), "name", "key"));
        }
        let secret = path.child("secret");
        if key.secret.is_empty() {
            errors.push(mandatory(&secret, "secret", "key"));
            continue;
        }
        match decode_secret(&key.secret) {
            None => errors.push(FieldError::invalid(
                &secret,
                "REDACTED",
                "secrets must be base64 encoded",
            )),
            Some(bytes) if !sizes.contains(&bytes.len()) => {
                let sizes: Vec<String> = sizes.iter().map(usize::to_string).collect();
                let detail = format!(
                    "secret is not of the expected length, got {}, expected one of [{}]",
                    bytes.len(),
                    sizes.join(" ")
                );
                errors.push(FieldError::invalid(&secret, "REDACTED", detail));
            }
            Some(_) => {}
        }
    }
}

/// As Go decodes base64: line ends within are skipped.
pub(super) fn decode_secret(secret: &str) -> Option<Vec<u8>> {
    STANDARD.decode(secret.replace(['\n', '\r'], "")).ok()
}

fn mandatory(path: &FieldPath, field: &str, of: &str) -> FieldError {
    FieldError::required(path, format!("{field} is a mandatory field for a {of}"))
}

fn kms(config: &KmsConfiguration, path: &FieldPath, names: &[&str], reload: bool, errors: &mut FieldErrors) {
    let v1 = config.api_version == "v1";
    let name = path.child("name");
    if config.name.is_empty() {
        errors.push(mandatory(&name, "name", "provider"));
    }
    let mut bad_name = |why: String| errors.push(FieldError::invalid(&name, config.name.as_str(), why));
    if !v1 && config.name.contains(':') {
        bad_name(format!(
            "invalid KMS provider name {}, must not contain ':'",
            config.name
        ));
    }
    if (reload || !v1) && names.contains(&config.name.as_str()) {
        bad_name(format!(
            "duplicate KMS provider name {}, names must be unique",
            config.name
        ));
    }
    if config.timeout_nanos <= 0 {
        let shown = format!("\"{}ns\"", config.timeout_nanos).replace("\"0ns\"", "\"0s\"");
        let error = FieldError::invalid(&path.child("timeout"), Node::Null, "timeout should be a positive value");
        errors.push(error.showing(shown));
    }
    endpoint(&config.endpoint, &path.child("endpoint"), errors);
    let cache_size = path.child("cachesize");
    match config.cache_size {
        Some(size) if !v1 => {
            errors.push(FieldError::invalid(
                &cache_size,
                size,
                "cachesize is not supported in v2",
            ));
        }
        Some(0) => errors.push(FieldError::invalid(
            &cache_size,
            0,
            "cachesize should be a positive value, or negative to disable",
        )),
        _ => {}
    }
    if !v1 && config.api_version != "v2" {
        errors.push(FieldError::invalid(
            &path.child("apiVersion"),
            config.api_version.as_str(),
            "unsupported apiVersion apiVersion for KMS provider, only v1 and v2 are supported",
        ));
    }
}

fn endpoint(endpoint: &str, path: &FieldPath, errors: &mut FieldErrors) {
    if endpoint.is_empty() {
        errors.push(mandatory(path, "endpoint", "kms"));
        return;
    }
    let before = endpoint.split(['/', '?', '#']).next().unwrap_or_default();
    let scheme = before.split_once(':').map_or("", |(scheme, _)| scheme);
    if endpoint.starts_with(':') {
        let why = format!("invalid endpoint for kms provider, error: parse {endpoint:?}: missing protocol scheme");
        errors.push(FieldError::invalid(path, endpoint, why));
    } else if scheme != "unix" {
        let why = format!("unsupported scheme {scheme:?} for KMS provider, only unix is supported");
        errors.push(FieldError::invalid(path, endpoint, why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encryption::config::ResourceConfiguration;

    fn key(name: &str, secret: &str) -> Key {
        Key {
            name: name.into(),
            secret: secret.into(),
        }
    }

    fn config(resources: &[&str], providers: Vec<ProviderConfiguration>) -> EncryptionConfiguration {
        EncryptionConfiguration {
            resources: vec![ResourceConfiguration {
                resources: resources.iter().map(|name| (*name).to_owned()).collect(),
                providers,
            }],
        }
    }

    fn aescbc(keys: Vec<Key>) -> ProviderConfiguration {
        ProviderConfiguration {
            aescbc: Some(keys),
            ..ProviderConfiguration::default()
        }
    }

    fn identity() -> ProviderConfiguration {
        ProviderConfiguration {
            identity: true,
            ..ProviderConfiguration::default()
        }
    }

    fn told(config: &EncryptionConfiguration) -> Vec<String> {
        validate(config, true).iter().map(FieldError::to_string).collect()
    }

    #[test]
    fn names_are_judged_alone_and_beside_each_other() {
        let names = |names: &[&str]| told(&config(names, vec![identity()]));
        assert!(names(&["secrets", "*.apps", "pandas.bears.example"]).is_empty());
        assert!(names(&["*.*"]).is_empty());
        assert_eq!(
            names(&["Secrets"]),
            [format!(
                "resources[0].resources[0]: Invalid value: \"Secrets\": {CAPITALS}"
            )]
        );
        for (name, why) in [
            ("*", STAR),
            ("serviceipallocations", NOT_REST),
            ("events.events.k8s.io", EVENTS_GROUP),
            ("ingresses.extensions", EXTENSIONS_GROUP),
            ("pods.*", ACROSS_GROUPS),
        ] {
            assert!(names(&[name])[0].ends_with(why), "{name}");
        }
        for overlapping in [
            &["secrets", "*."][..],
            &["*.*", "secrets"],
            &["*.apps", "deployments.apps"],
        ] {
            let told = names(overlapping);
            assert!(told.len() == 1 && told[0].ends_with(OVERLAP), "{told:?}");
        }
        let twice = names(&["secrets", "secrets"]);
        assert_eq!(
            twice,
            [format!(
                "resources[0].resources: Invalid value: [\"secrets\",\"secrets\"]: {DUPLICATE}"
            )]
        );
    }

    #[test]
    fn keys_are_named_and_of_the_right_length() {
        let keys = |keys| told(&config(&["secrets"], vec![aescbc(keys)]));
        let at = "resources[0].providers[0].aescbc.keys";
        assert_eq!(
            keys(vec![]),
            [format!("{at}: Required value: at least one keys is required")]
        );
        assert_eq!(
            keys(vec![key("", "")]),
            [
                format!("{at}[0].name: Required value: name is a mandatory field for a key"),
                format!("{at}[0].secret: Required value: secret is a mandatory field for a key"),
            ]
        );
        assert_eq!(
            keys(vec![key("a", "not base64")]),
            [format!(
                "{at}[0].secret: Invalid value: \"REDACTED\": secrets must be base64 encoded"
            )]
        );
        assert_eq!(
            keys(vec![key("a", "c2hvcnQ=")]),
            [format!(
                "{at}[0].secret: Invalid value: \"REDACTED\": secret is not of the expected length, got 5, expected one of [16 24 32]"
            )]
        );
    }

    #[test]
    fn an_element_is_one_provider() {
        let both = ProviderConfiguration {
            identity: true,
            ..aescbc(vec![key("a", "AAAAAAAAAAAAAAAAAAAAAA==")])
        };
        let told_of = told(&config(&["secrets"], vec![both, ProviderConfiguration::default()]));
        assert!(told_of[0].ends_with(SEVERAL_PROVIDERS) && !told_of[0].contains("AAAA"));
        assert!(told_of[1].ends_with(NO_PROVIDER));
        assert_eq!(
            told(&EncryptionConfiguration::default()),
            ["resources: Required value: at least one resources is required"]
        );
    }

    #[test]
    fn plugins_are_named_once_and_reached_by_a_socket() {
        let kms = |api_version: &str, name: &str, endpoint: &str| ProviderConfiguration {
            kms: Some(KmsConfiguration {
                api_version: api_version.into(),
                name: name.into(),
                endpoint: endpoint.into(),
                timeout_nanos: 1,
                cache_size: None,
            }),
            ..ProviderConfiguration::default()
        };
        let providers = vec![
            kms("v2", "foo", "unix:///tmp/a.sock"),
            kms("v2", "foo", "tcp://localhost:1"),
            kms("v3", "a:b", ""),
        ];
        let told = told(&config(&["secrets"], providers));
        assert_eq!(told.len(), 5, "{told:#?}");
        assert!(told[0].ends_with("duplicate KMS provider name foo, names must be unique"));
        assert!(told[1].ends_with("unsupported scheme \"tcp\" for KMS provider, only unix is supported"));
        assert!(told[2].ends_with("invalid KMS provider name a:b, must not contain ':'"));
        assert!(told[3].ends_with("endpoint is a mandatory field for a kms"));
        assert!(told[4].contains("only v1 and v2 are supported"));
    }
}
