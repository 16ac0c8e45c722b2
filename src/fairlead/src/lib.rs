//! The fairlead binary as a library, so that tests start whole servers in their own process.
//!
//! - [`flags`]: raw text. [`config`]: what it means, checked. [`compose`]: from there to a running server.
//! - [`identity`], [`pki`], [`kubeconfig`]: certificates and keys. [`access`]: who may do what. [`admission`]: what may be written.
//! - [`store`]: where objects are stored; [`encryption`]: how they lie there. [`caches`], [`objects`]: stored objects
//!   for everyone who reads them. [`allocation`]: who has which service address. [`bootstrap`], [`authentication_info`], [`endpoints`]: those every server has.
//! - [`routes`], [`custom`], [`aggregation`], [`conflicts`]: what is served, by whom. [`controllers`],
//!   [`remote_content`], [`remote_objects`]: the loops beside it.
//! - [`connections`]: logs, exec and proxies to kubelets, pods and Services.
//! - [`core_backend`], [`core_access`]: this server in front of another one.
//! - [`sight`]: what operators see. [`audit`]: what is recorded. [`backup`]: the commands beside the server. [`testing`]: a server for tests.

pub mod access;
pub mod admission;
pub mod aggregation;
pub mod allocation;
pub mod audit;
pub mod authentication_info;
pub mod backup;
pub mod bootstrap;
pub mod cache_metrics;
pub mod caches;
pub mod compose;
pub mod config;
pub mod conflicts;
pub mod connections;
pub mod controllers;
pub mod conversion;
pub mod core_access;
pub mod core_backend;
pub mod custom;
pub mod encryption;
pub mod endpoints;
pub mod entropy;
pub mod files;
pub mod flags;
pub mod health;
pub mod identity;
pub mod kubeconfig;
pub mod objects;
pub mod observer;
pub mod pki;
pub mod remote_content;
pub mod remote_objects;
pub mod routes;
pub mod scheme;
pub mod shared;
pub mod sight;
pub mod slices;
pub mod store;
pub mod testing;
pub mod version;
