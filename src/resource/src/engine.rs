//! [`Engine`]: one entry for every verb, and the settings it is made of.
// PERFORMANCE: per-request path

use crate::hooks::Entropy;
use crate::request::{Answer, Request};
use fairlead_admission::Admission;
use fairlead_api::{Clock, Status, StatusResult};
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// What an engine needs from the rest of the server.
pub struct EngineConfig {
    pub admission: Arc<dyn Admission>,
    pub authorize_create: Arc<dyn AuthorizeCreate>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
}

/// Asked when an update or an apply is about to create an object: the request was authorized as an update.
pub trait AuthorizeCreate: Send + Sync {
    /// # Errors
    /// The Forbidden status to answer with.
    fn authorize_create<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, StatusResult<()>>;
}

/// Lets every create through. For tests and for servers that allow everything.
pub struct AllowCreate;

impl AuthorizeCreate for AllowCreate {
    fn authorize_create<'a>(&'a self, _: &'a Request) -> BoxFuture<'a, StatusResult<()>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// The verbs. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    config: Arc<EngineConfig>,
}

impl Engine {
    pub fn new(config: EngineConfig) -> Engine {
        Engine { config: Arc::new(config) }
    }

    /// Serves one request. Never fails as a whole: failures are in the answer.
    pub fn handle(&self, request: Request) -> BoxFuture<'static, Answer> {
        let engine = self.clone();
        Box::pin(async move {
            let _ = (&engine.config, &request);
            Answer { result: Err(Status::no_such_resource()), warnings: Vec::new(), audit: Vec::new() }
        })
    }
}
