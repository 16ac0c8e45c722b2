//! The filters of the chain, one file each. [`Gate`] and [`Filter`] are their two shapes; both become tower services.
// PERFORMANCE: per-request path

use crate::body::Response;
use futures_util::future::{BoxFuture, Either, Ready, ready};
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};
use tower::{Layer, Service};

pub mod audit;
pub mod authentication;
pub mod authorization;
pub mod cors;
pub mod cross_site;
pub mod deadline;
pub mod impersonation;
pub mod in_flight;
pub mod observation;
pub mod panic_recovery;
pub mod request_info;
pub mod response_headers;
pub mod warnings;

/// What stands behind a filter: the rest of the chain. Every tower service of the right kind is one.
pub trait Next<In>: Send + 'static {
    fn go(self, request: In) -> impl Future<Output = Response> + Send + 'static;
}

impl<In, S> Next<In> for S
where
    In: Send + 'static,
    S: Service<In, Response = Response, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
{
    fn go(mut self, request: In) -> impl Future<Output = Response> + Send + 'static {
        let answer = Service::call(&mut self, request);
        async move {
            match answer.await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        }
    }
}

/// A filter that decides at once: the request goes on as its next type, or is answered here.
pub trait Gate: Send + Sync + 'static {
    type In: Send + 'static;
    type Out: Send + 'static;

    fn check(&self, request: Self::In) -> Result<Self::Out, Response>;
}

/// A filter around the rest of the chain: it may wait before, and look at the answer after.
pub trait Filter: Send + Sync + 'static {
    type In: Send + 'static;
    type Out: Send + 'static;

    fn handle<S: Next<Self::Out>>(
        self: Arc<Self>,
        request: Self::In,
        next: S,
    ) -> impl Future<Output = Response> + Send + 'static;
}

/// A section of the chain, whose type nobody needs to know. All requests share it: passing it on costs one reference.
pub struct Section<In>(Arc<dyn Fn(In) -> Answer + Send + Sync>);

type Answer = BoxFuture<'static, Result<Response, Infallible>>;

impl<In> Section<In> {
    /// `service` begins with a [`Filter`].
    pub fn new<S>(service: S) -> Section<In>
    where
        S: Service<In, Response = Response, Error = Infallible, Future = Answer> + Clone + Send + Sync + 'static,
    {
        Section(Arc::new(move |request| service.clone().call(request)))
    }
}

impl<In> Clone for Section<In> {
    fn clone(&self) -> Self {
        Section(self.0.clone())
    }
}

impl<In> Service<In> for Section<In> {
    type Response = Response;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: In) -> Answer {
        (self.0)(request)
    }
}

/// Calls the rest of the chain.
pub fn go_on<In, S: Next<In>>(next: S, request: In) -> impl Future<Output = Response> + Send + 'static {
    next.go(request)
}

/// The layer of a [`Gate`].
pub fn gate<G>(gate: G) -> Layered<Gated<G>> {
    Layered(Gated(Arc::new(gate)))
}

/// The layer of a [`Filter`].
pub fn filter<F>(filter: F) -> Layered<Filtered<F>> {
    Layered(Filtered(Arc::new(filter)))
}

#[derive(Clone)]
pub struct Layered<F>(F);

pub struct Gated<G>(Arc<G>);
pub struct Filtered<F>(Arc<F>);

/// A filter and what stands behind it.
#[derive(Clone)]
pub struct Stage<F, S> {
    filter: F,
    next: S,
}

impl<F: Clone, S> Layer<S> for Layered<F> {
    type Service = Stage<F, S>;

    fn layer(&self, next: S) -> Stage<F, S> {
        Stage {
            filter: self.0.clone(),
            next,
        }
    }
}

impl<G, S> Service<G::In> for Stage<Gated<G>, S>
where
    G: Gate,
    S: Service<G::Out, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<Ready<Result<Response, Infallible>>, S::Future>;

    fn poll_ready(&mut self, context: &mut Context) -> Poll<Result<(), Infallible>> {
        self.next.poll_ready(context)
    }

    fn call(&mut self, request: G::In) -> Self::Future {
        match self.filter.0.check(request) {
            Ok(request) => Either::Right(self.next.call(request)),
            Err(response) => Either::Left(ready(Ok(response))),
        }
    }
}

impl<F, S> Service<F::In> for Stage<Filtered<F>, S>
where
    F: Filter,
    S: Service<F::Out, Response = Response, Error = Infallible> + Next<F::Out> + Clone,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context) -> Poll<Result<(), Infallible>> {
        self.next.poll_ready(context)
    }

    fn call(&mut self, request: F::In) -> Self::Future {
        let handled = self.filter.0.clone().handle(request, self.next.clone());
        Box::pin(async move { Ok(handled.await) })
    }
}

impl<G> Clone for Gated<G> {
    fn clone(&self) -> Self {
        Gated(self.0.clone())
    }
}

impl<F> Clone for Filtered<F> {
    fn clone(&self) -> Self {
        Filtered(self.0.clone())
    }
}
