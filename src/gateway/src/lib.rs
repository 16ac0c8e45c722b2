//! Everything outbound: the aggregation gateway's backends, and the client for webhooks.
//!
//! - [`Gateway`] is the handle: it keeps a [`Backend`] for every APIService that names a service, proxies requests to
//!   it, watches over its availability and learns its documents.
//! - On the request path: [`mod@proxy`] → [`headers`], [`uri`], [`upgrade`] → [`layers`] → [`pool`], its routes and retries →
//!   [`endpoint`] → [`connect`], [`tls`]; [`lost`] says why there is no answer; [`health`] judges what comes back.
//! - [`policy`] is what all of these go by, which of them holds, and what is told of it.
//! - Beside it: [`availability`], [`learning`] → [`discovery`], [`openapi`]; [`registration`]; [`webhook`] calls admission and
//!   conversion webhooks.
//! - [`direct`] reaches kubelets, pods and endpoints of Services, one connection a request; [`spdy`] is what kubelets speak.
//! - [`core`](mod@core) is a whole Kubernetes API server behind this one, reached by impersonation.
//! - [`objects`] are the traits through which cluster objects are read and written; [`changes`] and [`pace`] keep what
//!   happens to one from costing much where there are many.

pub mod apiservice;
pub mod availability;
pub mod backend;
pub mod body;
pub mod changes;
pub mod connect;
pub mod core;
pub mod direct;
pub mod discovery;
pub mod download;
pub mod endpoint;
pub mod fetch;
pub mod gateway;
pub mod headers;
pub mod health;
pub mod layers;
pub mod learning;
pub mod lost;
pub mod metrics;
pub mod objects;
pub mod openapi;
pub mod pace;
pub mod policy;
pub mod pool;
pub mod proxy;
pub mod registration;
pub mod resolve;
pub mod spdy;
pub mod tls;
pub mod upgrade;
pub mod uri;
pub mod webhook;

pub use self::core::{Core, CoreConfig};
pub use backend::{Backend, Shared};
pub use body::{Body, BoxError};
pub use discovery::{Freshness, RemoteGroup};
pub use endpoint::Tuning;
pub use gateway::{Config, Gateway};
pub use metrics::Metrics;
pub use objects::{ApiServices, BackendPolicies, ObjectSource};
pub use policy::{DiscoveryMode, Policy};
pub use proxy::{RequestContext, proxy};
pub use registration::Registrar;
pub use resolve::{AddressPolicy, Routing};
pub use webhook::{WebhookClient, WebhookError, Webhooks};
