//! The stack between a request and a backend's pool, one policy a layer: bound, deadline, redirects.
// PERFORMANCE: per-request path

use crate::body::{Body, Guarded};
use crate::pool::{Outgoing, Pool, SendError};
use futures_util::future::BoxFuture;
use http::{Response, header};
use http_body_util::BodyExt;
use prometheus::IntGauge;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::timeout;
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceBuilder};

/// What becomes of a request: an answer to pass on, or why there is none.
pub type Stack = BoxCloneSyncService<Outgoing, Result<Response<Body>, Refusal>, Infallible>;

/// Why a client gets no answer of the backend.
#[derive(Debug)]
pub enum Refusal {
    /// The backend has as many requests as it may.
    Busy,
    /// The backend answered that the client should ask elsewhere.
    Redirected,
    Send(SendError),
}

/// Discovery is cheap to answer: a backend that takes longer is not well.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(5);

/// Builds the stack of one backend. Outermost first, each with why it stands there.
pub fn stack(pool: Arc<Pool>, in_flight: IntGauge) -> Stack {
    let bound = pool.tuning().max_in_flight;
    let stack = ServiceBuilder::new()
        // Before any work: one slow backend never takes what the others need.
        .layer(Bound {
            bound,
            current: Arc::new(AtomicUsize::new(0)),
            shown: in_flight,
        })
        // Around all attempts: a retry gets no time of its own.
        .layer(Deadline)
        // On the answer that is passed on.
        .layer(NoRedirects)
        .service(Send(pool));
    BoxCloneSyncService::new(stack)
}

type Answer = Result<Response<Body>, Refusal>;
type Answering = BoxFuture<'static, Result<Answer, Infallible>>;

/// The end of the stack.
#[derive(Clone)]
struct Send(Arc<Pool>);

impl Service<Outgoing> for Send {
    type Response = Answer;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, outgoing: Outgoing) -> Answering {
        let pool = self.0.clone();
        Box::pin(async move { Ok(pool.send(outgoing).await.map_err(Refusal::Send)) })
    }
}

/// Refuses what is above a backend's bound. Watches are not counted.
#[derive(Clone)]
struct Bound {
    bound: usize,
    current: Arc<AtomicUsize>,
    shown: IntGauge,
}

#[derive(Clone)]
struct Bounded<S> {
    inner: S,
    bound: Bound,
}

/// Counts as under way until it is dropped, with the answer's body.
struct InFlight(Bound);

impl<S> Layer<S> for Bound {
    type Service = Bounded<S>;

    fn layer(&self, inner: S) -> Bounded<S> {
        Bounded {
            inner,
            bound: self.clone(),
        }
    }
}

impl Bound {
    fn enter(&self) -> Option<InFlight> {
        if self.current.fetch_add(1, Ordering::Relaxed) >= self.bound {
            self.current.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        self.shown.inc();
        Some(InFlight(self.clone()))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.current.fetch_sub(1, Ordering::Relaxed);
        self.0.shown.dec();
    }
}

impl<S> Service<Outgoing> for Bounded<S>
where
    S: Service<Outgoing, Response = Answer, Error = Infallible, Future = Answering>,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, context: &mut Context) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, outgoing: Outgoing) -> Answering {
        if outgoing.long_running {
            return self.inner.call(outgoing);
        }
        let Some(guard) = self.bound.enter() else {
            return Box::pin(std::future::ready(Ok(Err(Refusal::Busy))));
        };
        let answering = self.inner.call(outgoing);
        Box::pin(async move {
            let answer = answering.await?;
            Ok(answer.map(|r| {
                r.map(|body| {
                    Guarded {
                        body,
                        guard: Some(guard),
                    }
                    .boxed_unsync()
                })
            }))
        })
    }
}

/// Gives discovery a short time of its own; everything else has the request's, which the chain keeps.
struct Deadline;

#[derive(Clone)]
struct Deadlined<S>(S);

impl<S> Layer<S> for Deadline {
    type Service = Deadlined<S>;

    fn layer(&self, inner: S) -> Deadlined<S> {
        Deadlined(inner)
    }
}

impl<S> Service<Outgoing> for Deadlined<S>
where
    S: Service<Outgoing, Response = Answer, Error = Infallible, Future = Answering>,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, context: &mut Context) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, outgoing: Outgoing) -> Answering {
        // `/apis/GROUP/VERSION`
        let is_discovery = outgoing.path_and_query.path().trim_matches('/').split('/').count() == 3;
        let answering = self.0.call(outgoing);
        if !is_discovery {
            return answering;
        }
        Box::pin(async move {
            let late = || {
                Ok(Err(Refusal::Send(SendError::from(
                    "context deadline exceeded".to_owned(),
                ))))
            };
            timeout(DISCOVERY_TIMEOUT, answering).await.unwrap_or_else(|_| late())
        })
    }
}

/// CVE-2022-3172: a backend must not send clients, and their credentials, elsewhere.
struct NoRedirects;

#[derive(Clone)]
struct NotRedirected<S>(S);

impl<S> Layer<S> for NoRedirects {
    type Service = NotRedirected<S>;

    fn layer(&self, inner: S) -> NotRedirected<S> {
        NotRedirected(inner)
    }
}

impl<S> Service<Outgoing> for NotRedirected<S>
where
    S: Service<Outgoing, Response = Answer, Error = Infallible, Future = Answering>,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, context: &mut Context) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, outgoing: Outgoing) -> Answering {
        let answering = self.0.call(outgoing);
        Box::pin(async move {
            let answer = answering.await?;
            Ok(answer.and_then(|response| {
                let leads_elsewhere =
                    response.status().is_redirection() && response.headers().contains_key(header::LOCATION);
                if leads_elsewhere {
                    Err(Refusal::Redirected)
                } else {
                    Ok(response)
                }
            }))
        })
    }
}
