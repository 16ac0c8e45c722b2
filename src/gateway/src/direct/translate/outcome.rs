//! How a command ended: from the words of a kubelet to those of a WebSocket's error channel.

use fairlead_api::{Node, Status, json, node};

pub(super) struct Outcome {
    code: u16,
    /// A `Status`.
    status: Node,
}

const NON_ZERO: &str = "NonZeroExitCode";
const EXIT_CODE: &str = "ExitCode";

impl Outcome {
    /// What a kubelet said last; nothing is a success. Older ones say it in plain text.
    pub(super) fn of(said: Vec<u8>, speaks_status: bool) -> Outcome {
        let text = || String::from_utf8_lossy(&said).into_owned();
        if said.is_empty() {
            return Outcome::success();
        }
        if !speaks_status {
            return Outcome::error(format!("error executing remote command: {}", text()));
        }
        let Ok(status) = json::parse(&said) else {
            let quoted = fairlead_api::field::go_quote(&text());
            return Outcome::error(format!("error stream protocol error: invalid character in {quoted}"));
        };
        match status.str("status") {
            "Success" => Outcome::success(),
            "Failure" if status.str("reason") == NON_ZERO => Outcome::exited(&status),
            "Failure" => Outcome::error(status.str("message").to_owned()),
            _ => Outcome::error("error stream protocol error: unknown error".into()),
        }
    }

    /// A kubelet that did not switch protocols: its own `Status`, or its words.
    pub(super) fn refused(said: &[u8]) -> Outcome {
        if let Ok(status) = json::parse(said)
            && status.str("kind") == "Status"
        {
            let code = status
                .get("code")
                .and_then(Node::as_i64)
                .and_then(|code| u16::try_from(code).ok());
            return Outcome {
                code: code.unwrap_or(500),
                status,
            };
        }
        let said = String::from_utf8_lossy(said);
        Outcome::error(format!("unable to upgrade connection: {}", said.trim()))
    }

    pub(super) fn error(why: String) -> Outcome {
        let mut status = Status::internal(why).to_node();
        // COMPAT: an error that was made here does not say what it is.
        status.remove("kind");
        status.remove("apiVersion");
        Outcome { code: 500, status }
    }

    fn success() -> Outcome {
        Outcome {
            code: 200,
            status: node!({"metadata": {}, "status": "Success"}),
        }
    }

    fn exited(status: &Node) -> Outcome {
        let causes = status.get("details").map_or(&[][..], |details| details.list("causes"));
        let Some(cause) = causes.iter().find(|c| c.str("reason") == EXIT_CODE) else {
            return Outcome::error(format!("error stream protocol error: no {EXIT_CODE} cause given"));
        };
        let text = cause.str("message");
        let Ok(code) = text.parse::<u8>() else {
            let quoted = fairlead_api::field::go_quote(text);
            return Outcome::error(format!("error stream protocol error: invalid exit code value {quoted}"));
        };
        let message = format!("command terminated with non-zero exit code: command terminated with exit code {code}");
        let code = code.to_string();
        Outcome {
            code: 200,
            status: node!({
                "metadata": {}, "status": "Failure", "message": message, "reason": NON_ZERO,
                "details": {"causes": [{"reason": EXIT_CODE, "message": code}]},
            }),
        }
    }

    pub(super) fn code(&self) -> u16 {
        self.code
    }

    pub(super) fn text(&self) -> Vec<u8> {
        json::to_vec(&self.status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(said: &str, speaks_status: bool) -> (u16, String, String) {
        let outcome = Outcome::of(said.into(), speaks_status);
        let status = &outcome.status;
        (
            outcome.code,
            status.str("status").to_owned(),
            status.str("message").to_owned(),
        )
    }

    #[test]
    fn outcomes_are_told_as_upstream_tells_them() {
        let exited = r#"{"status":"Failure","reason":"NonZeroExitCode","message":"x",
            "details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#;
        for (said, speaks_status, code, status, message) in [
            ("", true, 200, "Success", ""),
            (r#"{"metadata":{},"status":"Success"}"#, true, 200, "Success", ""),
            (
                exited,
                true,
                200,
                "Failure",
                "command terminated with non-zero exit code: command terminated with exit code 3",
            ),
            (
                r#"{"status":"Failure","message":"no such container"}"#,
                true,
                500,
                "Failure",
                "Internal error occurred: no such container",
            ),
            (
                "it broke",
                false,
                500,
                "Failure",
                "Internal error occurred: error executing remote command: it broke",
            ),
        ] {
            assert_eq!(
                told(said, speaks_status),
                (code, status.into(), message.into()),
                "{said}"
            );
        }
    }

    #[test]
    fn a_refusal_is_passed_on() {
        let refused = Outcome::refused(br#"{"kind":"Status","status":"Failure","message":"no","code":403}"#);
        assert_eq!((refused.code, refused.status.str("message")), (403, "no"));
        let refused = Outcome::refused(b"you may not\n");
        assert_eq!(
            refused.status.str("message"),
            "Internal error occurred: unable to upgrade connection: you may not"
        );
    }
}
