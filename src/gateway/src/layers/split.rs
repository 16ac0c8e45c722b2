//! The end of the stack: the Service that gets the request, and its pool.
// PERFORMANCE: per-request path

use super::{Answer, Answering, Refusal};
use crate::pool::Outgoing;
use crate::pool::routes::Routes;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use tower::Service;

#[derive(Clone)]
pub struct Split(pub Arc<Routes>);

impl Service<Outgoing> for Split {
    type Response = Answer;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, outgoing: Outgoing) -> Answering {
        match self.0.choose(&outgoing.headers) {
            Ok(pool) => Box::pin(async move { Ok(pool.send(outgoing).await.map_err(Refusal::Send)) }),
            Err(error) => Box::pin(std::future::ready(Ok(Err(Refusal::Nowhere(error))))),
        }
    }
}
