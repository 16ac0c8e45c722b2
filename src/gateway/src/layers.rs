//! The stack between a request and a backend's pools: one mechanism a layer, one file a layer.
// PERFORMANCE: per-request path

pub mod bound;
pub mod breaker;
pub mod cache;
pub mod deadline;
pub mod hedge;
pub mod redirects;
mod split;

use crate::backend::PoolError;
use crate::body::Body;
use crate::metrics::BackendMetrics;
use crate::policy::Live;
use crate::pool::routes::Routes;
use crate::pool::{Outgoing, SendError};
use futures_util::future::BoxFuture;
use http::Response;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceBuilder};

/// What becomes of a request: an answer to pass on, or why there is none.
pub type Stack = BoxCloneSyncService<Outgoing, Answer, Infallible>;

pub type Answer = Result<Response<Body>, Refusal>;
pub type Answering = BoxFuture<'static, Result<Answer, Infallible>>;

/// Why a client gets no answer of the backend.
#[derive(Debug)]
pub enum Refusal {
    /// The backend has as many requests as it may.
    Busy,
    /// Most requests fail: the breaker is open for this long.
    Resting(Duration),
    /// The backend answered that the client should ask elsewhere.
    Redirected,
    /// There is nowhere to send it.
    Nowhere(PoolError),
    Send(SendError),
}

/// Builds the stack of one backend. Outermost first, each with why it stands there.
pub fn stack(routes: Arc<Routes>, live: Live, metrics: &BackendMetrics) -> Stack {
    let stack = ServiceBuilder::new()
        // Around everything: neither a place in the queue nor a retry gets time of its own.
        .layer(layer(deadline::Deadline::new(live.clone())))
        // Before any work: one slow backend never takes what the others need.
        .layer(layer(bound::Bound::new(live.clone(), metrics.in_flight.clone())))
        // On what becomes of a request in the end, retries included; what is refused above is no fault of the backend's.
        .layer(layer(breaker::Breaker::new(live.clone(), metrics.clone())))
        // Below the bound, since every answer is asked for again.
        .layer(layer(cache::EtagCache::new(live.clone(), metrics.clone())))
        // On the answer that is passed on.
        .layer(layer(redirects::NoRedirects::new(live.clone())))
        // Above the retries: each of the two requests may be tried again.
        .layer(layer(hedge::Hedge::new(live, routes.clone(), metrics.clone())))
        .service(split::Split(routes));
    BoxCloneSyncService::new(stack)
}

/// One mechanism. What it does not apply to it hands on as it is, without a future of its own.
pub trait Step: Send + Sync + 'static {
    fn call<S: Next>(self: &Arc<Self>, outgoing: Outgoing, next: &mut S) -> Answering;
}

/// The layers below.
pub trait Next:
    Service<Outgoing, Response = Answer, Error = Infallible, Future = Answering> + Clone + Send + Sync + 'static
{
}

impl<S> Next for S where
    S: Service<Outgoing, Response = Answer, Error = Infallible, Future = Answering> + Clone + Send + Sync + 'static
{
}

/// The tower layer of a step.
pub fn layer<T: Step>(step: T) -> StepLayer<T> {
    StepLayer(Arc::new(step))
}

pub struct StepLayer<T>(Arc<T>);

pub struct Stepped<T, S> {
    step: Arc<T>,
    next: S,
}

impl<T, S> Layer<S> for StepLayer<T> {
    type Service = Stepped<T, S>;

    fn layer(&self, next: S) -> Stepped<T, S> {
        Stepped {
            step: self.0.clone(),
            next,
        }
    }
}

impl<T, S: Clone> Clone for Stepped<T, S> {
    fn clone(&self) -> Self {
        Stepped {
            step: self.step.clone(),
            next: self.next.clone(),
        }
    }
}

impl<T: Step, S: Next> Service<Outgoing> for Stepped<T, S> {
    type Response = Answer;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, context: &mut Context) -> Poll<Result<(), Infallible>> {
        self.next.poll_ready(context)
    }

    fn call(&mut self, outgoing: Outgoing) -> Answering {
        self.step.call(outgoing, &mut self.next)
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! A bottom for stacks of one layer.
    use super::*;
    use crate::body::{Replay, full};
    use crate::policy::Policy;
    use http::uri::PathAndQuery;
    use http::{HeaderMap, Method};

    pub fn live(change: impl FnOnce(&mut Policy)) -> Live {
        let mut policy = Policy::default();
        change(&mut policy);
        policy.live()
    }

    pub fn metrics() -> BackendMetrics {
        crate::Metrics::new(&fairlead_telemetry::Families::default()).backend("test")
    }

    pub fn get(path: &'static str) -> Outgoing {
        Outgoing::new(
            Method::GET,
            PathAndQuery::from_static(path),
            HeaderMap::new(),
            Replay::empty(),
        )
    }

    pub fn lost() -> Answer {
        Err(Refusal::Send(SendError::from("EOF".to_owned())))
    }

    pub fn ok(text: &str) -> Answer {
        Ok(Response::new(full(text.to_owned())))
    }

    /// A service of a function.
    #[derive(Clone)]
    pub struct Bottom<F>(pub F);

    impl<F, A> Service<Outgoing> for Bottom<F>
    where
        F: Fn(Outgoing) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Answer> + Send + 'static,
    {
        type Response = Answer;
        type Error = Infallible;
        type Future = Answering;

        fn poll_ready(&mut self, _: &mut Context) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, outgoing: Outgoing) -> Answering {
            let answer = (self.0)(outgoing);
            Box::pin(async move { Ok(answer.await) })
        }
    }

    pub async fn send<S: Next>(service: &S, outgoing: Outgoing) -> Answer {
        match service.clone().call(outgoing).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        }
    }
}
