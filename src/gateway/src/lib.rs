//! Everything outbound: the aggregation gateway's backends, and the client for webhooks.
//!
//! - [`Gateway`] is the handle: it keeps a [`Backend`] for every APIService that names a service, proxies requests to
//!   it, watches over its availability and learns its documents.
//! - On the request path: [`mod@proxy`] → [`headers`], [`uri`], [`upgrade`] → [`layers`] → [`pool`] → [`endpoint`] → [`connect`], [`tls`].
//! - Beside it: [`availability`], [`discovery`], [`openapi`], [`registration`]; [`webhook`] calls admission and
//!   conversion webhooks.
//! - [`objects`] are the traits through which cluster objects are read and written.

pub mod apiservice;
pub mod availability;
pub mod backend;
pub mod body;
pub mod connect;
pub mod discovery;
pub mod endpoint;
pub mod fetch;
pub mod gateway;
pub mod headers;
pub mod layers;
pub mod metrics;
pub mod objects;
pub mod openapi;
pub mod pool;
pub mod proxy;
pub mod registration;
pub mod resolve;
pub mod tls;
pub mod upgrade;
pub mod uri;
pub mod webhook;

pub use backend::{Backend, Shared};
pub use body::{Body, BoxError};
pub use discovery::{Freshness, RemoteGroup};
pub use endpoint::Tuning;
pub use gateway::{Config, Gateway};
pub use metrics::Metrics;
pub use objects::{ApiServices, ObjectSource};
pub use proxy::{RequestContext, proxy};
pub use registration::Registrar;
pub use resolve::{AddressPolicy, Routing};
pub use webhook::{WebhookClient, WebhookError, Webhooks};
