//! Encryption at rest: values are sealed on their way into a store and opened on their way out, in the bytes that
//! kube-apiserver writes, so that either can read what the other wrote.
//!
//! - `config`: the `EncryptionConfiguration` file as a value; `validation`: its mistakes, in upstream's words.
//! - `cipher`: AES-CBC, AES-GCM and secretbox with keys from the file. - `kms`: keys held by a plugin.
//! - `providers`: which of them reads and writes a resource. - `store`: the [`Store`] that seals and opens.
//!
//! Source of behaviour: kubernetes/apiserver pkg/storage/value and pkg/server/options/encryptionconfig.

mod cipher;
pub mod config;
mod kms;
mod metrics;
mod providers;
mod store;
#[cfg(test)]
mod tests;
mod validation;

pub use metrics::Metrics;
pub use providers::{Keyring, RefusedConfig};

use crate::store::Store;
use arc_swap::ArcSwap;
use fairlead_api::GroupResource;
use std::sync::Arc;

/// What encrypts the values of one server. Cheap to clone; clones share, so that a new keyring reaches every store.
#[derive(Clone)]
pub struct Encryption(Arc<Shared>);

struct Shared {
    keyring: ArcSwap<Keyring>,
    /// What keys in etcd begin with: the ciphers that authenticate a value's place authenticate the whole key.
    prefix: Box<str>,
    metrics: Metrics,
}

impl Encryption {
    /// `prefix` is `--etcd-prefix`: `/registry`.
    pub fn new(keyring: Keyring, prefix: &str, metrics: Metrics) -> Encryption {
        Encryption(Arc::new(Shared {
            keyring: ArcSwap::from_pointee(keyring),
            prefix: prefix.trim_end_matches('/').into(),
            metrics,
        }))
    }

    /// Seals and opens with `keyring` from now on.
    pub fn replace(&self, keyring: Keyring) {
        self.0.keyring.store(Arc::new(keyring));
    }

    /// What is in force.
    pub fn keyring(&self) -> Arc<Keyring> {
        self.0.keyring.load_full()
    }

    /// `inner`, for objects of one resource. Of its readers nobody knows that anything is encrypted.
    pub fn over(&self, inner: Arc<dyn Store>, resource: GroupResource) -> Arc<dyn Store> {
        Arc::new(store::Encrypted::new(inner, self.clone(), resource))
    }
}

/// `sha256:` and the digest in hexadecimal: how files and keys are named without being shown.
pub fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut text = String::from("sha256:");
    for byte in digest.as_ref() {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
    }
    text
}

impl std::fmt::Debug for Encryption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encryption").finish_non_exhaustive()
    }
}
