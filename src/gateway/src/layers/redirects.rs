//! CVE-2022-3172: a backend must not send clients, and their credentials, elsewhere.
// PERFORMANCE: per-request path

use super::{Answering, Next, Refusal, Step};
use crate::policy::Live;
use crate::pool::Outgoing;
use http::header;
use std::sync::Arc;

pub struct NoRedirects(Live);

impl NoRedirects {
    pub fn new(live: Live) -> NoRedirects {
        NoRedirects(live)
    }
}

impl Step for NoRedirects {
    fn call<S: Next>(self: &Arc<Self>, outgoing: Outgoing, next: &mut S) -> Answering {
        let answering = next.call(outgoing);
        if self.0.load().passes_redirects {
            return answering;
        }
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
