//! Keys of service account tokens: reading, making, signing, verifying, publishing.
//!
//! Source of behaviour: kubernetes pkg/serviceaccount (jwt.go, openidmetadata.go), client-go util/keyutil.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use fairlead_api::{Node, node};
use rustls_pki_types::pem::{PemObject, SectionKind};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey as ParsedKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// How a token is signed; decided by its key alone, never by the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Rs256,
    Es256,
    Es384,
    Es512,
}

/// A key that verifies tokens.
#[derive(Clone, Debug)]
pub struct PublicKey {
    /// base64url of the SHA-256 of the key's DER form (SubjectPublicKeyInfo): the `kid` of tokens.
    pub id: String,
    pub algorithm: Algorithm,
    /// PKCS #1 for RSA, an uncompressed point for curves.
    material: Vec<u8>,
    jwk: Node,
}

/// A key that signs tokens.
pub struct SigningKey {
    pair: Pair,
    pub public: PublicKey,
}

enum Pair {
    Rsa(rsa::KeyPair),
    Ec(EcdsaKeyPair),
}

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("no usable key in the PEM data")]
    None,
    #[error("unreadable PEM data: {0}")]
    Pem(String),
    #[error("the key is neither RSA nor on curve P-256, P-384 or P-521")]
    Unsupported,
    #[error("the key cannot be used: {0}")]
    Rejected(String),
}

// === impl Algorithm ===

impl Algorithm {
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::Rs256 => "RS256",
            Algorithm::Es256 => "ES256",
            Algorithm::Es384 => "ES384",
            Algorithm::Es512 => "ES512",
        }
    }

    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Algorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Algorithm::Es256 => &signature::ECDSA_P256_SHA256_FIXED,
            Algorithm::Es384 => &signature::ECDSA_P384_SHA384_FIXED,
            Algorithm::Es512 => &signature::ECDSA_P521_SHA512_FIXED,
        }
    }

    /// The curve's name in a JWK.
    fn curve(self) -> &'static str {
        match self {
            Algorithm::Rs256 => "",
            Algorithm::Es256 => "P-256",
            Algorithm::Es384 => "P-384",
            Algorithm::Es512 => "P-521",
        }
    }
}

// === impl PublicKey ===

impl PublicKey {
    /// All keys of a file: public keys, certificates, and the public halves of private keys.
    pub fn all_from_pem(pem: &[u8]) -> Result<Vec<PublicKey>, KeyError> {
        let mut keys = Vec::new();
        for (kind, der) in sections(pem)? {
            match kind {
                SectionKind::PublicKey => keys.push(PublicKey::from_der(&der)?),
                SectionKind::Certificate => {
                    let (_, read) = X509Certificate::from_der(&der).map_err(|e| KeyError::Rejected(e.to_string()))?;
                    keys.push(PublicKey::from_der(read.public_key().raw)?);
                }
                _ => keys.extend(SigningKey::from_section(kind, &der)?.map(|key| key.public)),
            }
        }
        if keys.is_empty() { Err(KeyError::None) } else { Ok(keys) }
    }

    /// Reads a SubjectPublicKeyInfo.
    pub fn from_der(der: &[u8]) -> Result<PublicKey, KeyError> {
        let (_, info) = SubjectPublicKeyInfo::from_der(der).map_err(|e| KeyError::Rejected(e.to_string()))?;
        let id = URL_SAFE_NO_PAD.encode(digest(&SHA256, der));
        let parsed = info.parsed().map_err(|e| KeyError::Rejected(e.to_string()))?;
        let (algorithm, mut jwk) = match &parsed {
            ParsedKey::RSA(rsa) => (
                Algorithm::Rs256,
                node!({"kty": "RSA", "n": number(rsa.modulus), "e": number(rsa.exponent)}),
            ),
            ParsedKey::EC(point) => ec_jwk(point.data())?,
            _ => return Err(KeyError::Unsupported),
        };
        for (key, value) in [("use", "sig"), ("kid", &id), ("alg", algorithm.as_str())] {
            jwk.set(key, value);
        }
        Ok(PublicKey {
            id,
            algorithm,
            material: info.subject_public_key.data.to_vec(),
            jwk,
        })
    }

    /// Whether the signature over `message` was made with this key.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(self.algorithm.verification(), &self.material)
            .verify(message, signature)
            .is_ok()
    }
}

/// An uncompressed point: 4, x, y.
fn ec_jwk(point: &[u8]) -> Result<(Algorithm, Node), KeyError> {
    let algorithm = match point.len() {
        65 => Algorithm::Es256,
        97 => Algorithm::Es384,
        133 => Algorithm::Es512,
        _ => return Err(KeyError::Unsupported),
    };
    let (x, y) = point[1..].split_at((point.len() - 1) / 2);
    let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
    Ok((
        algorithm,
        node!({"kty": "EC", "crv": algorithm.curve(), "x": x, "y": y}),
    ))
}

/// An unsigned number without leading zeros, base64url.
fn number(bytes: &[u8]) -> String {
    let start = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len());
    URL_SAFE_NO_PAD.encode(&bytes[start..])
}

// === impl SigningKey ===

impl SigningKey {
    /// The first private key of a file.
    pub fn from_pem(pem: &[u8]) -> Result<SigningKey, KeyError> {
        for (kind, der) in sections(pem)? {
            if let Some(key) = SigningKey::from_section(kind, &der)? {
                return Ok(key);
            }
        }
        Err(KeyError::None)
    }

    /// Makes an RSA key of 2048 bits; also gives its PEM form, to be kept with mode 0600.
    pub fn generate() -> Result<(SigningKey, String), KeyError> {
        let pair = rsa::KeyPair::generate(KeySize::Rsa2048).map_err(rejected)?;
        let der = AsDer::<Pkcs8V1Der>::as_der(&pair).map_err(rejected)?;
        let text = pem_text("PRIVATE KEY", der.as_ref());
        Ok((SigningKey::rsa(pair)?, text))
    }

    /// Makes a key on curve P-256: much cheaper to make and to sign with.
    pub fn generate_ecdsa() -> Result<(SigningKey, String), KeyError> {
        let pair = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).map_err(rejected)?;
        let der = pair.to_pkcs8v1().map_err(rejected)?;
        let text = pem_text("PRIVATE KEY", der.as_ref());
        Ok((SigningKey::ec(pair)?, text))
    }

    fn from_section(kind: SectionKind, der: &[u8]) -> Result<Option<SigningKey>, KeyError> {
        let ec =
            |read: &dyn Fn(&'static EcdsaSigningAlgorithm) -> Option<EcdsaKeyPair>| CURVES.iter().find_map(|a| read(a));
        match kind {
            SectionKind::RsaPrivateKey => SigningKey::rsa(rsa::KeyPair::from_der(der).map_err(rejected)?).map(Some),
            SectionKind::EcPrivateKey => {
                let pair = ec(&|a| EcdsaKeyPair::from_private_key_der(a, der).ok()).ok_or(KeyError::Unsupported)?;
                SigningKey::ec(pair).map(Some)
            }
            SectionKind::PrivateKey => match rsa::KeyPair::from_pkcs8(der) {
                Ok(pair) => SigningKey::rsa(pair).map(Some),
                Err(_) => {
                    let pair = ec(&|a| EcdsaKeyPair::from_pkcs8(a, der).ok()).ok_or(KeyError::Unsupported)?;
                    SigningKey::ec(pair).map(Some)
                }
            },
            _ => Ok(None),
        }
    }

    fn rsa(pair: rsa::KeyPair) -> Result<SigningKey, KeyError> {
        let der = AsDer::<PublicKeyX509Der>::as_der(pair.public_key()).map_err(rejected)?;
        Ok(SigningKey {
            public: PublicKey::from_der(der.as_ref())?,
            pair: Pair::Rsa(pair),
        })
    }

    fn ec(pair: EcdsaKeyPair) -> Result<SigningKey, KeyError> {
        let der = AsDer::<PublicKeyX509Der>::as_der(pair.public_key()).map_err(rejected)?;
        Ok(SigningKey {
            public: PublicKey::from_der(der.as_ref())?,
            pair: Pair::Ec(pair),
        })
    }

    /// Signs claims: a JWT in compact form.
    pub fn sign(&self, claims: &Node) -> Result<String, KeyError> {
        let header = node!({"alg": self.public.algorithm.as_str(), "kid": self.public.id});
        let part = |node: &Node| URL_SAFE_NO_PAD.encode(fairlead_api::json::to_vec(node));
        let mut token = format!("{}.{}", part(&header), part(claims));
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&signature::RSA_PKCS1_SHA256, &random, token.as_bytes(), &mut signature)
                    .map_err(rejected)?;
                signature
            }
            Pair::Ec(pair) => pair
                .sign(&random, token.as_bytes())
                .map_err(rejected)?
                .as_ref()
                .to_vec(),
        };
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }
}

static CURVES: [&EcdsaSigningAlgorithm; 3] = [
    &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
    &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
    &signature::ECDSA_P521_SHA512_FIXED_SIGNING,
];

// === documents ===

/// Where the key set is served.
pub const JWKS_PATH: &str = "/openid/v1/jwks";
/// Where the discovery document is served.
pub const DISCOVERY_PATH: &str = "/.well-known/openid-configuration";
/// Media type of the key set (`application/json` of the discovery document).
pub const JWKS_MEDIA_TYPE: &str = "application/jwk-set+json";

/// `/openid/v1/jwks`
pub fn jwks(keys: &[PublicKey]) -> Node {
    let mut set = Node::map();
    set.set("keys", keys.iter().map(|k| k.jwk.clone()).collect::<Vec<_>>());
    set
}

/// `/.well-known/openid-configuration`. `None` where the issuer is no HTTPS URL without query and fragment: upstream
/// then serves neither document. `jwks_uri` is the flag's, or `https://<external address>/openid/v1/jwks`.
pub fn openid_configuration(issuer: &str, jwks_uri: &str, keys: &[PublicKey]) -> Option<Node> {
    let proper = |url: &str| url.starts_with("https://") && !url.contains(['?', '#']);
    if !proper(issuer) || !jwks_uri.starts_with("https://") || keys.is_empty() {
        return None;
    }
    let mut algorithms: Vec<&str> = keys.iter().map(|k| k.algorithm.as_str()).collect();
    algorithms.sort_unstable();
    algorithms.dedup();
    Some(node!({
        "issuer": issuer,
        "jwks_uri": jwks_uri,
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": algorithms,
    }))
}

fn sections(pem: &[u8]) -> Result<Vec<(SectionKind, Vec<u8>)>, KeyError> {
    <(SectionKind, Vec<u8>)>::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|e| KeyError::Pem(e.to_string()))
}

fn pem_text(label: &str, der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let lines: Vec<&str> = encoded
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).expect("base64 is ASCII"))
        .collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn rejected(error: impl std::fmt::Display) -> KeyError {
    KeyError::Rejected(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sign_and_verify_through_pem() {
        for made in [SigningKey::generate(), SigningKey::generate_ecdsa()] {
            let (key, pem) = made.unwrap();
            let read = SigningKey::from_pem(pem.as_bytes()).unwrap();
            assert_eq!(read.public.id, key.public.id);
            let public = PublicKey::all_from_pem(pem.as_bytes()).unwrap().remove(0);
            let token = read.sign(&node!({"sub": "a"})).unwrap();
            let (message, signature) = token.rsplit_once('.').unwrap();
            let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
            assert!(public.verifies(message.as_bytes(), &signature));
            assert!(!public.verifies(b"other", &signature));
        }
        assert!(matches!(SigningKey::from_pem(b"nothing"), Err(KeyError::None)));
    }

    #[test]
    fn documents_name_keys_and_algorithms() {
        let keys: Vec<PublicKey> = [SigningKey::generate_ecdsa(), SigningKey::generate_ecdsa()]
            .map(|k| k.unwrap().0.public)
            .into();
        let set = jwks(&keys);
        assert_eq!(set.list("keys").len(), 2);
        assert_eq!(set.list("keys")[0].str("kid"), keys[0].id);
        let document = openid_configuration("https://a", "https://b/openid/v1/jwks", &keys).unwrap();
        assert_eq!(
            document.get("id_token_signing_alg_values_supported"),
            Some(&node!(["ES256"]))
        );
        assert!(openid_configuration("kubernetes", "https://b", &keys).is_none());
    }
}
