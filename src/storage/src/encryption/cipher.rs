//! Ciphers whose keys stand in the file. What they make is what kube-apiserver makes: a random nonce, then the text.
// PERFORMANCE: per-request path

use aws_lc_rs::aead::{AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rand;
use crypto_secretbox::XSalsa20Poly1305;
use crypto_secretbox::aead::{Aead, KeyInit};

const BLOCK: usize = 16;
const SECRETBOX_NONCE: usize = 24;
const SECRETBOX_TAG: usize = 16;
const SHORT: &str = "the stored data was shorter than the required size";

/// One key and what it is used for.
// A handful of keys exist, and none of them moves.
#[allow(clippy::large_enum_variant)]
pub(super) enum Cipher {
    /// PKCS#7 padding; authenticates nothing.
    AesCbc { seal: EncryptingKey, open: DecryptingKey },
    /// Authenticates the value and its place.
    AesGcm(LessSafeKey),
    /// Authenticates the value.
    Secretbox(Box<XSalsa20Poly1305>),
}

/// Which cipher a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    AesCbc,
    AesGcm,
    Secretbox,
}

impl Cipher {
    /// `None` for a key of the wrong length.
    pub fn new(kind: Kind, key: &[u8]) -> Option<Cipher> {
        match kind {
            Kind::AesCbc => {
                let algorithm = match key.len() {
                    16 => &AES_128,
                    24 => &AES_192,
                    32 => &AES_256,
                    _ => return None,
                };
                let unbound = || UnboundCipherKey::new(algorithm, key).ok();
                Some(Cipher::AesCbc {
                    seal: EncryptingKey::cbc(unbound()?).ok()?,
                    open: DecryptingKey::cbc(unbound()?).ok()?,
                })
            }
            Kind::AesGcm => aes_gcm(key).map(Cipher::AesGcm),
            Kind::Secretbox => {
                let cipher = XSalsa20Poly1305::new_from_slice(key).ok()?;
                Some(Cipher::Secretbox(Box::new(cipher)))
            }
        }
    }

    /// Appends `plain`, sealed, to `out`. `place` is the whole key the value is stored at.
    pub fn seal(&self, plain: &[u8], place: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        match self {
            Cipher::AesCbc { seal, .. } => seal_cbc(seal, plain, out),
            Cipher::AesGcm(key) => seal_gcm(key, plain, place, out),
            Cipher::Secretbox(key) => {
                let mut nonce = [0; SECRETBOX_NONCE];
                random(&mut nonce)?;
                let sealed = key
                    .encrypt(&nonce.into(), plain)
                    .map_err(|_| "secretbox could not seal the value")?;
                out.extend_from_slice(&nonce);
                out.extend_from_slice(&sealed);
                Ok(())
            }
        }
    }

    /// What [`Cipher::seal`] was given. Errors are upstream's.
    pub fn open(&self, sealed: &[u8], place: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Cipher::AesCbc { open, .. } => open_cbc(open, sealed),
            Cipher::AesGcm(key) => open_gcm(key, sealed, place),
            Cipher::Secretbox(key) => {
                if sealed.len() < SECRETBOX_NONCE + SECRETBOX_TAG {
                    return Err(SHORT.into());
                }
                let (nonce, sealed) = sealed.split_at(SECRETBOX_NONCE);
                let nonce = <[u8; SECRETBOX_NONCE]>::try_from(nonce).expect("split at its length");
                // COMPAT: a strange way to say it, but that is what it says.
                key.decrypt(&nonce.into(), sealed)
                    .map_err(|_| "output array was not large enough for encryption".into())
            }
        }
    }
}

pub(super) fn random(bytes: &mut [u8]) -> Result<(), String> {
    rand::fill(bytes).map_err(|_| "unable to read sufficient random bytes".into())
}

/// `None` for a key of the wrong length.
pub(super) fn aes_gcm(key: &[u8]) -> Option<LessSafeKey> {
    let algorithm = match key.len() {
        16 => &AES_128_GCM,
        24 => &AES_192_GCM,
        32 => &AES_256_GCM,
        _ => return None,
    };
    UnboundKey::new(algorithm, key).ok().map(LessSafeKey::new)
}

pub(super) fn seal_gcm(key: &LessSafeKey, plain: &[u8], place: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let mut nonce = [0; NONCE_LEN];
    random(&mut nonce)?;
    out.extend_from_slice(&nonce);
    let start = out.len();
    out.extend_from_slice(plain);
    let nonce = Nonce::assume_unique_for_key(nonce);
    let tag = key
        .seal_in_place_separate_tag(nonce, Aad::from(place), &mut out[start..])
        .map_err(|_| "AES-GCM could not seal the value")?;
    out.extend_from_slice(tag.as_ref());
    Ok(())
}

pub(super) fn open_gcm(key: &LessSafeKey, sealed: &[u8], place: &[u8]) -> Result<Vec<u8>, String> {
    if sealed.len() < NONCE_LEN {
        return Err(SHORT.into());
    }
    let (nonce, text) = sealed.split_at(NONCE_LEN);
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SHORT)?;
    let mut opened = text.to_vec();
    let length = key
        .open_in_place(nonce, Aad::from(place), &mut opened)
        .map_err(|_| "cipher: message authentication failed")?
        .len();
    opened.truncate(length);
    Ok(opened)
}

fn seal_cbc(key: &EncryptingKey, plain: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let mut iv = [0; BLOCK];
    random(&mut iv)?;
    out.extend_from_slice(&iv);
    let start = out.len();
    out.extend_from_slice(plain);
    let padding = BLOCK - plain.len() % BLOCK;
    out.resize(out.len() + padding, padding as u8);
    key.less_safe_encrypt(&mut out[start..], EncryptionContext::Iv128(FixedLength::from(&iv)))
        .map_err(|_| "AES-CBC could not seal the value")?;
    Ok(())
}

fn open_cbc(key: &DecryptingKey, sealed: &[u8]) -> Result<Vec<u8>, String> {
    const EMPTY: &str = "invalid PKCS7 data (empty or not padded)";
    if sealed.len() < BLOCK {
        return Err(SHORT.into());
    }
    let (iv, text) = sealed.split_at(BLOCK);
    if text.len() % BLOCK != 0 {
        return Err("the stored data is not a multiple of the block size".into());
    }
    let iv = <[u8; BLOCK]>::try_from(iv).expect("split at its length");
    let mut opened = text.to_vec();
    key.decrypt(&mut opened, DecryptionContext::Iv128(FixedLength::from(&iv)))
        .map_err(|_| EMPTY)?;
    let padding = usize::from(*opened.last().ok_or(EMPTY)?);
    if padding == 0 || padding > opened.len() {
        return Err(EMPTY.into());
    }
    let length = opened.len() - padding;
    if opened[length..].iter().any(|byte| usize::from(*byte) != padding) {
        return Err("invalid padding on input".into());
    }
    opened.truncate(length);
    Ok(opened)
}
