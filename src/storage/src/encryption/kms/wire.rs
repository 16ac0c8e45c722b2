//! What is said to a plugin, and what is stored beside a value it protects: the messages of `v2.KeyManagementService`
//! and `EncryptedObject`, few enough to write down.
//!
//! Source of the fields: kubernetes/kms apis/v2/api.proto, kubernetes/apiserver …/envelope/kmsv2/v2/api.proto.

use std::collections::BTreeMap;

#[derive(Clone, PartialEq, prost::Message)]
pub struct StatusRequest {}

#[derive(Clone, PartialEq, prost::Message)]
pub struct StatusResponse {
    #[prost(string, tag = "1")]
    pub version: String,
    #[prost(string, tag = "2")]
    pub healthz: String,
    #[prost(string, tag = "3")]
    pub key_id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct DecryptRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub ciphertext: bytes::Bytes,
    #[prost(string, tag = "2")]
    pub uid: String,
    #[prost(string, tag = "3")]
    pub key_id: String,
    #[prost(btree_map = "string, bytes", tag = "4")]
    pub annotations: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct DecryptResponse {
    #[prost(bytes = "vec", tag = "1")]
    pub plaintext: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct EncryptRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub plaintext: Vec<u8>,
    #[prost(string, tag = "2")]
    pub uid: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct EncryptResponse {
    #[prost(bytes = "bytes", tag = "1")]
    pub ciphertext: bytes::Bytes,
    #[prost(string, tag = "2")]
    pub key_id: String,
    #[prost(btree_map = "string, bytes", tag = "3")]
    pub annotations: BTreeMap<String, Vec<u8>>,
}

/// A stored value: sealed with a key of its own, which the plugin can open.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EncryptedObject {
    #[prost(bytes = "bytes", tag = "1")]
    pub encrypted_data: bytes::Bytes,
    #[prost(string, tag = "2")]
    pub key_id: String,
    #[prost(bytes = "bytes", tag = "3")]
    pub encrypted_dek_source: bytes::Bytes,
    #[prost(btree_map = "string, bytes", tag = "4")]
    pub annotations: BTreeMap<String, Vec<u8>>,
    #[prost(enumeration = "SourceType", tag = "5")]
    pub encrypted_dek_source_type: i32,
}

/// What a plugin's plaintext is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum SourceType {
    AesGcmKey = 0,
    HkdfSha256XnonceAesGcmSeed = 1,
}
