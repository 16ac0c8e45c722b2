//! Encodings of objects other than JSON, which is `fairlead_api::json`.

pub mod gnostic;
pub mod protobuf;
pub mod yaml;
pub mod yaml_writer;
