//! [`Dek`]: what a plugin's plaintext is good for.

use crate::encryption::cipher::{aes_gcm, open_gcm, random, seal_gcm};
use crate::encryption::kms::wire::SourceType;
use aws_lc_rs::aead::LessSafeKey;
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk};

/// Of seeds, derived keys and the random bytes they are derived with.
pub(super) const SIZE: usize = 32;
/// What sealing adds: the random bytes, a nonce and a tag.
pub(super) const OVERHEAD: usize = SIZE + 12 + 16;

/// A key, or a seed of keys.
pub(super) enum Dek {
    /// Only ever read: upstream wrote these before 1.29.
    Key(LessSafeKey),
    Seed(Prk),
}

/// The length of what is derived.
struct Length;

impl KeyType for Length {
    fn len(&self) -> usize {
        SIZE
    }
}

impl Dek {
    pub fn new(source: SourceType, key: &[u8]) -> Result<Dek, String> {
        match source {
            SourceType::AesGcmKey => aes_gcm(key)
                .map(Dek::Key)
                .ok_or_else(|| format!("crypto/aes: invalid key size {}", key.len())),
            SourceType::HkdfSha256XnonceAesGcmSeed if key.len() < SIZE => {
                Err(format!("invalid seed length {} used for key generation", key.len()))
            }
            SourceType::HkdfSha256XnonceAesGcmSeed => Ok(Dek::Seed(Prk::new_less_safe(HKDF_SHA256, key))),
        }
    }

    /// A new seed, and its bytes.
    pub fn generate() -> Result<(Dek, Vec<u8>), String> {
        let mut seed = vec![0; SIZE];
        random(&mut seed)?;
        let dek = Dek::new(SourceType::HkdfSha256XnonceAesGcmSeed, &seed)?;
        Ok((dek, seed))
    }

    pub fn seal(&self, plain: &[u8], place: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        match self {
            Dek::Key(key) => seal_gcm(key, plain, place, out),
            Dek::Seed(seed) => {
                let mut info = [0; SIZE];
                random(&mut info)?;
                out.extend_from_slice(&info);
                seal_gcm(&derive(seed, &info)?, plain, place, out)
            }
        }
    }

    pub fn open(&self, sealed: &[u8], place: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Dek::Key(key) => open_gcm(key, sealed, place),
            Dek::Seed(seed) => {
                let Some((info, sealed)) = sealed.split_at_checked(SIZE) else {
                    return Err("the stored data was shorter than the required size".into());
                };
                open_gcm(&derive(seed, info)?, sealed, place)
            }
        }
    }
}

fn derive(seed: &Prk, info: &[u8]) -> Result<LessSafeKey, String> {
    let mut key = [0; SIZE];
    let info = [info];
    let derived = seed.expand(&info, Length).and_then(|derived| derived.fill(&mut key));
    derived.map_err(|_| "failed to KDF expand seed with info")?;
    Ok(aes_gcm(&key).expect("the length is right"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encryption::tests::unhex;

    /// Made by kube-apiserver's own code (k8s.io/apiserver v0.33.3).
    #[test]
    fn what_kube_apiserver_sealed_with_a_seed_can_be_opened() {
        let seed: Vec<u8> = (0..32_u8).map(|i| i.wrapping_mul(7)).collect();
        let dek = Dek::new(SourceType::HkdfSha256XnonceAesGcmSeed, &seed).unwrap();
        let sealed = unhex(
            "63105f4ba0dbcc722450a57979c0d3f10956e7b63c6b091df50a37104988176e33edc4b322b03b46462f99ad32a7d85d9f071e1e5e34b7b9eebea0b7a9e330d0fcd11b8e345c5cc391443acce1",
        );
        let opened = dek.open(&sealed, b"/registry/secrets/ns/a").unwrap();
        assert_eq!(opened, br#"{"kind":"Secret"}"#);
        assert!(dek.open(&sealed, b"/registry/secrets/ns/b").is_err());
        assert!(dek.open(&sealed[..40], b"").is_err());
    }

    #[test]
    fn keys_of_before_seeds_can_be_read() {
        let dek = Dek::new(SourceType::AesGcmKey, &[3; 32]).unwrap();
        let mut sealed = Vec::new();
        dek.seal(b"{}", b"place", &mut sealed).unwrap();
        assert_eq!(dek.open(&sealed, b"place").unwrap(), b"{}");
        assert!(Dek::new(SourceType::AesGcmKey, &[3; 31]).is_err());
        assert!(Dek::new(SourceType::HkdfSha256XnonceAesGcmSeed, &[3; 31]).is_err());
    }
}
