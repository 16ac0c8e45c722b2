//! `pods/NAME/log`: asked of the kubelet in this server's own name, and passed on as it comes.

use super::options::LogOptions;
use super::{Conversation, nodes, pods, refusal};
use crate::aggregation::passed_on;
use fairlead_api::{FieldError, FieldErrors, FieldPath, GroupKind, Status, StatusResult};
use fairlead_gateway::body::read_start;
use fairlead_gateway::direct::{Location, NoAnswer, Peer};
use fairlead_server::negotiate::{self, Offer, Route, Tables};
use fairlead_server::request::Identified;
use fairlead_server::{Body, Response};
use http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use http::{HeaderMap, StatusCode};

/// A log has no columns.
const LOGS: Offer = Offer::Resource {
    protobuf: true,
    tables: Tables::None,
};

/// How much of a refusal is passed on.
const REFUSAL_LIMIT: usize = 50_000;

impl Conversation<'_> {
    pub(super) async fn log(&mut self, request: Identified) -> StatusResult<Response> {
        let known = request.known;
        Route::Text.check(&known.parts.headers)?;
        negotiate::agree(&known.parts.headers, &known.query, LOGS)?;
        let options = LogOptions::read(&known.query).map_err(Status::bad_request)?;
        self.parts.counted.log(options.unverified);
        let name = known.info.name.as_str();
        validate(&options, name)?;
        let Some(location) = self.log_location(&known.info.namespace, name, &options).await? else {
            let mut nothing = Response::new(Body::empty());
            *nothing.status_mut() = StatusCode::NO_CONTENT;
            return Ok(nothing);
        };
        let peer = match options.unverified {
            true => Peer::UnverifiedKubelet,
            false => Peer::Kubelet,
        };
        let answer = self.parts.direct.get(peer, &location).await;
        let answer = answer.map_err(|error| self.failed(&location, &error))?;
        let code = answer.status();
        if let Some(elsewhere) = redirected(code, answer.headers()) {
            return Err(failure(&elsewhere, "redirects forbidden"));
        }
        let body = answer.into_body();
        if !(200..=206).contains(&code.as_u16()) {
            let text = read_start(body, REFUSAL_LIMIT).await.map_err(Status::internal)?;
            return Err(refusal::status(code.as_u16(), name, &String::from_utf8_lossy(&text)));
        }
        let metrics = self.parts.needs.metrics.clone();
        let mut response = Response::new(passed_on(body, metrics, known.info, known.parts.method));
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        Ok(response)
    }

    /// Where the log is; nowhere, as long as the pod has no node.
    async fn log_location(&self, namespace: &str, name: &str, options: &LogOptions) -> StatusResult<Option<Location>> {
        let pod = self.parts.get("pods", namespace, name).await?;
        let container = pods::container(&pod, &options.container)?;
        let node = pod.str_at(&["spec", "nodeName"]);
        if node.is_empty() {
            return Ok(None);
        }
        let kubelet = nodes::kubelet(self.parts, node).await?;
        let path = format!("/containerLogs/{namespace}/{name}/{container}");
        Ok(Some(kubelet.location(&path, options.query())))
    }

    fn failed(&self, location: &Location, error: &NoAnswer) -> Status {
        if error.untrusted {
            self.parts.counted.untrusted();
        }
        failure(&location.url(), &error.text)
    }
}

/// As Go's client says it.
fn failure(url: &str, why: &str) -> Status {
    Status::new(500, "", format!("Get \"{url}\": {why}"))
}

/// Where an answer sends the client instead.
fn redirected(code: StatusCode, headers: &HeaderMap) -> Option<String> {
    let location = headers.get(LOCATION).and_then(|l| l.to_str().ok())?;
    let redirects = matches!(code.as_u16(), 301 | 302 | 303 | 307 | 308) && !location.is_empty();
    redirects.then(|| location.to_owned())
}

/// kubernetes/kubernetes pkg/apis/core/validation (ValidatePodLogOptions).
fn validate(options: &LogOptions, name: &str) -> StatusResult<()> {
    let mut errors = FieldErrors::new();
    let mut at_least = |field: &str, value: Option<i64>, least: i64, detail: &str| {
        if let Some(value) = value.filter(|v| *v < least) {
            errors.push(FieldError::invalid(&FieldPath::new(field), value, detail));
        }
    };
    at_least("tailLines", options.tail_lines, 0, "must be greater than or equal to 0");
    at_least("limitBytes", options.limit_bytes, 1, "must be greater than 0");
    if options.since_time.is_none() {
        at_least("sinceSeconds", options.since_seconds, 1, "must be greater than 0");
    } else if options.since_seconds.is_some() {
        // COMPAT: a path of one empty name.
        let detail = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        errors.push(FieldError::forbidden(&FieldPath::new("[]"), detail));
    }
    if options.stream.is_some() {
        errors.push(FieldError::forbidden(&FieldPath::new("stream"), "may not be specified"));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(&GroupKind::new("", "PodLogOptions"), name, &errors))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(query: &str) -> String {
        let query = fairlead_server::query::parse(Some(query));
        let result = validate(&LogOptions::read(&query).unwrap(), "p");
        result.map_or_else(|status| status.message().to_owned(), |()| String::new())
    }

    #[test]
    fn options_are_judged_in_upstreams_words() {
        assert_eq!(told("tailLines=0&limitBytes=1&sinceSeconds=1"), "");
        for (query, why) in [
            (
                "tailLines=-1",
                "tailLines: Invalid value: -1: must be greater than or equal to 0",
            ),
            ("limitBytes=0", "limitBytes: Invalid value: 0: must be greater than 0"),
            (
                "sinceSeconds=0",
                "sinceSeconds: Invalid value: 0: must be greater than 0",
            ),
            (
                "sinceSeconds=1&sinceTime=2024-01-01T00:00:00Z",
                "[]: Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified",
            ),
            ("stream=Stdout", "stream: Forbidden: may not be specified"),
        ] {
            assert_eq!(told(query), format!("PodLogOptions \"p\" is invalid: {why}"));
        }
    }
}
