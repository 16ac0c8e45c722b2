//! `EncryptionConfiguration` of `apiserver.config.k8s.io/v1`, read strictly from a parsed file.

use crate::encryption::validation;
use fairlead_api::field::FieldErrors;
use fairlead_api::{GroupResource, Node};
use std::time::Duration;

/// How the resources of a server are encrypted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EncryptionConfiguration {
    /// Lists in order: the first that names a resource counts.
    pub resources: Vec<ResourceConfiguration>,
}

/// The providers of some resources.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResourceConfiguration {
    pub resources: Vec<String>,
    /// The first writes; all read.
    pub providers: Vec<ProviderConfiguration>,
}

/// One provider; the format allows several in one element, which validation refuses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProviderConfiguration {
    pub aesgcm: Option<Vec<Key>>,
    pub aescbc: Option<Vec<Key>>,
    pub secretbox: Option<Vec<Key>>,
    pub identity: bool,
    pub kms: Option<KmsConfiguration>,
}

/// A named key. Its `Debug` does not show the secret.
#[derive(Clone, Default, PartialEq)]
pub struct Key {
    pub name: String,
    /// In base64.
    pub secret: String,
}

/// A plugin that holds the key that encrypts keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KmsConfiguration {
    pub api_version: String,
    pub name: String,
    pub cache_size: Option<i64>,
    pub endpoint: String,
    /// Zero or negative where the file says so.
    pub timeout_nanos: i64,
}

impl KmsConfiguration {
    pub fn timeout(&self) -> Duration {
        Duration::from_nanos(self.timeout_nanos.max(0).unsigned_abs())
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Name: {}, Secret: [REDACTED]", self.name)
    }
}

const KIND: &str = "EncryptionConfiguration";
const API_VERSION: &str = "apiserver.config.k8s.io/v1";
/// Upstream's default.
const KMS_TIMEOUT: i64 = 3_000_000_000;
const KMS_CACHE_SIZE: i64 = 1000;

impl EncryptionConfiguration {
    /// Reads a parsed file. `duration` parses what Go calls a duration, into nanoseconds.
    ///
    /// # Errors
    /// One sentence: another kind, a field of the wrong type, a field that does not exist.
    pub fn from_node(
        node: &Node,
        duration: &dyn Fn(&str) -> Result<i64, String>,
    ) -> Result<EncryptionConfiguration, String> {
        let (kind, version) = (node.str("kind"), node.str("apiVersion"));
        if kind.is_empty() {
            return Err("Object 'Kind' is missing".into());
        }
        if (kind, version) != (KIND, API_VERSION) {
            return Err(format!(
                "no kind {kind:?} is registered for version {version:?}: {KIND:?} of {API_VERSION:?} is what this file must hold"
            ));
        }
        let mut reader = Reader {
            unknown: Vec::new(),
            duration,
        };
        let mut config = EncryptionConfiguration::default();
        for field in reader.fields(node, "", &["kind", "apiVersion", "resources"])? {
            if field.name == "resources" {
                config.resources = reader.list(&field, Reader::resource)?;
            }
        }
        match reader.unknown.as_slice() {
            [] => Ok(config),
            unknown => {
                let unknown: Vec<String> = unknown.iter().map(|path| format!("unknown field {path:?}")).collect();
                Err(format!("strict decoding error: {}", unknown.join(", ")))
            }
        }
    }

    /// What is wrong with it; `reload` where it may be replaced while the server runs.
    pub fn validate(&self, reload: bool) -> FieldErrors {
        validation::validate(self, reload)
    }
}

/// `secrets`, `deployments.apps`, `*.`, `*.apps`, `*.*` as the file names resources.
pub fn group_resource(text: &str) -> GroupResource {
    let (resource, group) = text.split_once('.').unwrap_or((text, ""));
    GroupResource::new(group, resource)
}

/// A field that was found, and where.
struct Field<'a> {
    name: &'a str,
    path: String,
    value: &'a Node,
}

struct Reader<'a> {
    unknown: Vec<String>,
    duration: &'a dyn Fn(&str) -> Result<i64, String>,
}

impl Reader<'_> {
    /// The fields of an object that are known and not null; notes the others.
    fn fields<'n>(&mut self, node: &'n Node, path: &str, known: &[&str]) -> Result<Vec<Field<'n>>, String> {
        let Some(map) = node.as_map() else {
            return Err(mismatch(node, path, "an object"));
        };
        let mut fields = Vec::new();
        for (name, value) in map.iter() {
            let path = if path.is_empty() {
                name.to_string()
            } else {
                format!("{path}.{name}")
            };
            if !known.contains(&name.as_str()) {
                self.unknown.push(path);
            } else if !value.is_null() {
                fields.push(Field { name, path, value });
            }
        }
        Ok(fields)
    }

    fn list<T>(
        &mut self,
        field: &Field<'_>,
        item: fn(&mut Self, &Node, &str) -> Result<T, String>,
    ) -> Result<Vec<T>, String> {
        let Some(items) = field.value.as_list() else {
            return Err(mismatch(field.value, &field.path, "a list"));
        };
        let paths = (0..).map(|index| format!("{}[{index}]", field.path));
        items
            .iter()
            .zip(paths)
            .map(|(node, path)| item(self, node, &path))
            .collect()
    }

    fn resource(&mut self, node: &Node, path: &str) -> Result<ResourceConfiguration, String> {
        let mut config = ResourceConfiguration::default();
        for field in self.fields(node, path, &["resources", "providers"])? {
            match field.name {
                "resources" => config.resources = self.list(&field, |_, node, path| string(node, path))?,
                _ => config.providers = self.list(&field, Self::provider)?,
            }
        }
        Ok(config)
    }

    fn provider(&mut self, node: &Node, path: &str) -> Result<ProviderConfiguration, String> {
        let mut config = ProviderConfiguration::default();
        for field in self.fields(node, path, &["aesgcm", "aescbc", "secretbox", "identity", "kms"])? {
            match field.name {
                "aesgcm" => config.aesgcm = Some(self.keys(&field)?),
                "aescbc" => config.aescbc = Some(self.keys(&field)?),
                "secretbox" => config.secretbox = Some(self.keys(&field)?),
                "kms" => config.kms = Some(self.kms(&field)?),
                _ => {
                    self.fields(field.value, &field.path, &[])?;
                    config.identity = true;
                }
            }
        }
        Ok(config)
    }

    fn keys(&mut self, of: &Field<'_>) -> Result<Vec<Key>, String> {
        let fields = self.fields(of.value, &of.path, &["keys"])?;
        fields
            .first()
            .map_or(Ok(Vec::new()), |field| self.list(field, Self::key))
    }

    fn key(&mut self, node: &Node, path: &str) -> Result<Key, String> {
        let mut key = Key::default();
        for field in self.fields(node, path, &["name", "secret"])? {
            match field.name {
                "name" => key.name = string(field.value, &field.path)?,
                _ => key.secret = string(field.value, &field.path)?,
            }
        }
        Ok(key)
    }

    fn kms(&mut self, of: &Field<'_>) -> Result<KmsConfiguration, String> {
        let mut config = KmsConfiguration {
            timeout_nanos: KMS_TIMEOUT,
            ..KmsConfiguration::default()
        };
        let known = ["apiVersion", "name", "cachesize", "endpoint", "timeout"];
        for field in self.fields(of.value, &of.path, &known)? {
            let text = || string(field.value, &field.path);
            match field.name {
                "apiVersion" => config.api_version = text()?,
                "name" => config.name = text()?,
                "endpoint" => config.endpoint = text()?,
                "timeout" => config.timeout_nanos = (self.duration)(&text()?).map_err(|why| format!("time: {why}"))?,
                _ => {
                    let size = field.value.as_i64();
                    config.cache_size = Some(size.ok_or_else(|| mismatch(field.value, &field.path, "a number"))?);
                }
            }
        }
        if config.api_version.is_empty() {
            config.api_version = "v1".into();
        }
        if config.api_version == "v1" {
            config.cache_size.get_or_insert(KMS_CACHE_SIZE);
        }
        Ok(config)
    }
}

fn string(node: &Node, path: &str) -> Result<String, String> {
    match node.as_str() {
        Some(text) => Ok(text.to_owned()),
        None if node.is_null() => Ok(String::new()),
        None => Err(mismatch(node, path, "a string")),
    }
}

/// Says nothing of the value: it may be a secret.
fn mismatch(node: &Node, path: &str, wanted: &str) -> String {
    let path = if path.is_empty() { "the file" } else { path };
    format!("{path} must be {wanted}, not {}", node.type_name())
}
