//! [`Failed`]: what a failed call to etcd means for who made it.

use etcd_client::Error as ClientError;
use std::error::Error as _;
use tonic::{ConnectError, Status};

/// What became of one call to one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// The revision is gone.
    Compacted,
    /// The revision lies ahead.
    Future,
    /// The lease has expired, or was never granted by this cluster.
    NoLease,
    /// The message was longer than what is read in one piece.
    TooLong,
    /// The cluster has answered and says no: others will say the same. Nothing was written.
    Refused(String),
    /// The request was never sent, or the member cannot serve it: another one may. Nothing was written.
    Unsent(String),
    /// It may have been carried out.
    Unknown(String),
}

/// Before everything that a server says by itself. What the transport makes up does not begin like this.
const SERVER: &str = "etcdserver: ";

impl Failed {
    pub fn of(error: &ClientError) -> Failed {
        match error {
            ClientError::GRpcStatus(status) => of_status(status),
            ClientError::TransportError(error) if has_connect_error(error.source()) => {
                Failed::Unsent(error.to_string())
            }
            error => Failed::Unknown(error.to_string()),
        }
    }
}

fn of_status(status: &Status) -> Failed {
    let message = status.message();
    if let Some(said) = message.strip_prefix(SERVER) {
        return of_words(said, message);
    }
    if has_connect_error(status.source()) || message.starts_with("Service was not ready") {
        return Failed::Unsent(root_cause(status));
    }
    if message.contains("decoded message length too large") {
        return Failed::TooLong;
    }
    Failed::Unknown(format!("{}: {}", status.code(), root_cause(status)))
}

/// etcd's own words (etcd api/v3rpc/rpctypes/error.go); nothing else tells these failures apart.
fn of_words(said: &str, message: &str) -> Failed {
    match said {
        "mvcc: required revision has been compacted" => Failed::Compacted,
        "mvcc: required revision is a future revision" => Failed::Future,
        "requested lease not found" => Failed::NoLease,
        // With `hasleader` in the request, this comes before anything is proposed.
        "no leader" | "too many requests" | "rpc not supported for learner" => Failed::Unsent(message.into()),
        "mvcc: database space exceeded"
        | "request is too large"
        | "permission denied"
        | "user name is empty"
        | "invalid auth token"
        | "authentication failed, invalid user ID or password" => Failed::Refused(message.into()),
        _ => Failed::Unknown(message.into()),
    }
}

fn has_connect_error(mut source: Option<&(dyn std::error::Error + 'static)>) -> bool {
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// The innermost words: `connection refused` and not `transport error`.
fn root_cause(status: &Status) -> String {
    let mut words = status.message().to_owned();
    let mut source = status.source();
    while let Some(error) = source {
        words = error.to_string();
        source = error.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    fn of(code: Code, message: &str) -> Failed {
        Failed::of(&ClientError::GRpcStatus(Status::new(code, message)))
    }

    #[test]
    fn only_etcds_own_words_are_an_answer() {
        let compacted = "etcdserver: mvcc: required revision has been compacted";
        assert_eq!(of(Code::OutOfRange, compacted), Failed::Compacted);
        assert!(matches!(
            of(Code::Unavailable, "etcdserver: no leader"),
            Failed::Unsent(_)
        ));
        assert!(matches!(
            of(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"),
            Failed::Refused(_)
        ));
        for (code, message) in [
            (Code::Unavailable, "etcdserver: request timed out"),
            (Code::Unavailable, "etcdserver: leader changed"),
            (Code::ResourceExhausted, "h2 protocol error: enhance your calm"),
            (Code::Unknown, "transport error"),
        ] {
            assert!(matches!(of(code, message), Failed::Unknown(_)), "{message}");
        }
    }
}
