//! What clients read of an answer of a kubelet that is not the log.
//!
//! Source of the texts: kubernetes/apimachinery pkg/api/errors (NewGenericServerResponse), kubernetes/apiserver
//! pkg/registry/generic/rest/response_checker.go.

use fairlead_api::Status;
use fairlead_api::field::go_quote;
use fairlead_api::status::Details;

/// `text` is what the kubelet said.
pub(super) fn status(code: u16, name: &str, text: &str) -> Status {
    match code {
        500 => return Status::internal(text),
        400 => return Status::bad_request(text),
        _ => {}
    }
    let (reason, message) = match code {
        401 => (
            "Unauthorized",
            "the server has asked for the client to provide credentials".into(),
        ),
        403 => ("Forbidden", text.to_owned()),
        404 => ("NotFound", "the server could not find the requested resource".into()),
        405 => (
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource".into(),
        ),
        406 if matches!(text, "" | "unknown") => (
            "NotAcceptable",
            "the server was unable to respond with a content type that the client supports".into(),
        ),
        406 => ("NotAcceptable", text.to_owned()),
        409 => ("Conflict", "the server reported a conflict".into()),
        415 => ("UnsupportedMediaType", text.to_owned()),
        422 => (
            "Invalid",
            "the server rejected our request due to an error in our request".into(),
        ),
        429 => (
            "TooManyRequests",
            "the server has received too many requests and has asked us to try again later".into(),
        ),
        503 => (
            "ServiceUnavailable",
            "the server is currently unable to handle the request".into(),
        ),
        504 => (
            "Timeout",
            "the server was unable to return a response in the time allotted, but may still be processing the request"
                .into(),
        ),
        501.. => (
            "InternalError",
            format!(
                "an error on the server ({}) has prevented the request from succeeding",
                go_quote(text)
            ),
        ),
        _ => (
            "",
            format!("the server responded with the status code {code} but did not return more information"),
        ),
    };
    // COMPAT: the verb is left empty, and the blank behind it is not.
    Status::new(code, reason, format!("{message} ( pods/log {name})")).with_details(Details {
        name: name.into(),
        kind: "pods/log".into(),
        ..Details::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_as_upstream_tells_them() {
        for (code, reason, message) in [
            (500, "InternalError", "Internal error occurred: gone"),
            (400, "BadRequest", "gone"),
            (
                404,
                "NotFound",
                "the server could not find the requested resource ( pods/log p)",
            ),
            (403, "Forbidden", "gone ( pods/log p)"),
            (
                502,
                "InternalError",
                "an error on the server (\"gone\") has prevented the request from succeeding ( pods/log p)",
            ),
            (
                418,
                "",
                "the server responded with the status code 418 but did not return more information ( pods/log p)",
            ),
        ] {
            let status = status(code, "p", "gone");
            assert_eq!(
                (status.code(), status.reason(), status.message()),
                (code, reason, message)
            );
        }
    }
}
