//! The fairlead binary as a library, so that tests start whole servers in their own process.
//!
//! - [`flags`]: raw text. [`config`]: what it means, checked. [`compose`]: from there to a running server.
//! - [`identity`], [`pki`], [`kubeconfig`]: certificates and keys. [`access`]: who may do what.
//! - [`caches`], [`objects`]: stored objects for everyone who reads them. [`bootstrap`]: those every server has.
//! - [`testing`]: a server for tests.

pub mod access;
pub mod bootstrap;
pub mod caches;
pub mod compose;
pub mod config;
pub mod entropy;
pub mod files;
pub mod flags;
pub mod health;
pub mod identity;
pub mod kubeconfig;
pub mod objects;
pub mod pki;
pub mod testing;
pub mod version;
