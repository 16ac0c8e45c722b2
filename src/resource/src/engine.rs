//! [`Engine`]: one entry for every verb, and the settings it is made of.
// PERFORMANCE: per-request path

use crate::body::Scheme;
use crate::call::Call;
use crate::definition::{StorageSpec, Verb};
use crate::hooks::Entropy;
use crate::request::{Answer, Request, Response};
use crate::{answer, create, delete, list, patch, read, update, watch};
use fairlead_admission::Admission;
use fairlead_api::{Clock, Status, StatusResult};
use fairlead_storage::Cache;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// What an engine needs from the rest of the server.
pub struct EngineConfig {
    pub caches: Arc<dyn Caches>,
    pub admission: Arc<dyn Admission>,
    pub authorize_create: Arc<dyn AuthorizeCreate>,
    /// The kinds there are besides the one a request is for.
    pub scheme: Arc<dyn Scheme>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
}

/// Where the objects of each resource are kept. Asked on every request.
pub trait Caches: Send + Sync {
    /// # Errors
    /// What the client is told where there is no cache (yet).
    fn cache(&self, storage: &StorageSpec) -> StatusResult<Cache>;
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
    pub(crate) config: Arc<EngineConfig>,
}

impl Engine {
    pub fn new(config: EngineConfig) -> Engine {
        Engine {
            config: Arc::new(config),
        }
    }

    pub(crate) fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// Serves one request. Never fails as a whole: failures are in the answer.
    pub fn handle(&self, request: Request) -> BoxFuture<'static, Answer> {
        let engine = self.clone();
        Box::pin(async move {
            let mut answer = Answer {
                result: Err(Status::no_such_resource()),
                warnings: Vec::new(),
                audit: Vec::new(),
                recorded: None,
            };
            answer.warnings.extend(request.definition.warning.clone());
            let (result, warnings, audit, recorded) = match request.definition.hooks.serve(&request.subresource) {
                Some(service) => (service.serve(&request, &engine).await, Vec::new(), Vec::new(), None),
                None => match Call::new(&engine, &request) {
                    Err(status) => (Err(status), Vec::new(), Vec::new(), None),
                    Ok(mut call) => {
                        let result = dispatch(&mut call).await;
                        (result, call.warnings, call.audit, call.recorded)
                    }
                },
            };
            if result.is_ok() && writes(request.verb) && request.query("dryRun").is_none() {
                request.definition.hooks.after_write(&request, &engine).await;
            }
            answer.warnings.extend(warnings);
            answer.audit = audit;
            answer.recorded = recorded;
            answer.result = result.map(|response| unwrap(response, &mut answer.warnings));
            dedup(&mut answer.warnings);
            answer
        })
    }
}

fn writes(verb: Verb) -> bool {
    !matches!(verb, Verb::Get | Verb::List | Verb::Watch)
}

async fn dispatch(call: &mut Call<'_>) -> StatusResult<Response> {
    let verb = call.request.verb;
    if verb == Verb::Create
        && let Some(service) = call.definition.hooks.answers(&call.request.subresource)
    {
        return answer::answer(call, service).await;
    }
    if !call.is_stored() {
        return Err(Status::method_not_allowed());
    }
    match verb {
        Verb::Get => read::get(call).await,
        Verb::List => list::list(call).await,
        Verb::Watch => watch::watch(call).await,
        Verb::Create if call.subresource.is_none() => create::create(call).await,
        Verb::Create => Err(Status::method_not_allowed()),
        Verb::Update => update::put(call).await,
        Verb::Patch => patch::patch(call).await,
        Verb::Delete => delete::delete(call).await,
        Verb::DeleteCollection => delete::delete_collection(call).await,
    }
}

/// Takes the warnings off a response.
fn unwrap(response: Response, warnings: &mut Vec<String>) -> Response {
    match response {
        Response::Warned {
            response,
            warnings: more,
        } => {
            warnings.extend(more);
            unwrap(*response, warnings)
        }
        other => other,
    }
}

/// Keeps the first of equal warnings.
fn dedup(warnings: &mut Vec<String>) {
    let mut seen = std::collections::HashSet::new();
    warnings.retain(|warning| seen.insert(warning.clone()));
}
