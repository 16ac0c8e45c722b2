//! Request info: what the path means. Everything behind this filter knows.

use crate::body::Response;
use crate::encode;
use crate::filters::Gate;
use crate::filters::response_headers::Bare;
use crate::query::{self, Plus};
use crate::request::{Known, Received};
use crate::request_info::RequestInfo;

pub struct RequestInfoGate;

impl Gate for RequestInfoGate {
    type In = Received;
    type Out = Box<Known>;

    fn check(&self, request: Received) -> Result<Box<Known>, Response> {
        let Received {
            parts,
            payload,
            connection,
            at,
            audit_id,
        } = request;
        let query = query::parse(parts.uri.query());
        let info = match query::decode(parts.uri.path(), Plus::Literal) {
            None => return Err(encode::text(400, "400 Bad Request\n")),
            Some(path) => RequestInfo::new(&parts.method, &path, &query),
        };
        let Ok(info) = info else {
            let uri = parts.uri.path_and_query().map_or("", |p| p.as_str());
            let text = format!(
                "Internal Server Error: {}: failed to create RequestInfo: unable to determine kind and namespace from url, {uri}\n",
                fairlead_api::field::go_quote(uri)
            );
            // COMPAT: whoever asks for nothing in particular is answered before the headers of every answer are made.
            let mut response = encode::text(500, text);
            response.extensions_mut().insert(Bare);
            return Err(response);
        };
        Ok(Box::new(Known {
            parts,
            payload,
            connection,
            at,
            deadline: None,
            audit_id,
            trail: None,
            info,
            query,
        }))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::body::Payload;
    use crate::connection::Connection;
    use std::sync::Arc;

    /// A request as it comes in, for the tests of all filters.
    pub(crate) fn received(method: &str, uri: &str) -> Received {
        let (parts, ()) = http::Request::builder()
            .method(method)
            .uri(uri)
            .body(())
            .unwrap()
            .into_parts();
        Received {
            parts,
            payload: Payload::Empty,
            connection: Arc::new(Connection::local()),
            at: tokio::time::Instant::now(),
            audit_id: "a".into(),
        }
    }

    pub(crate) fn known(method: &str, uri: &str) -> Box<Known> {
        RequestInfoGate.check(received(method, uri)).ok().unwrap()
    }

    #[tokio::test]
    async fn paths_are_decoded_before_they_are_taken_apart() {
        assert_eq!(known("GET", "/api/v1/pods/a%3Ab").info.name, "a:b");
        let response = RequestInfoGate.check(received("GET", "/api/v1/watch")).err().unwrap();
        assert_eq!(response.status(), 500);
        assert!(RequestInfoGate.check(received("GET", "/a%zz")).is_err());
    }
}
