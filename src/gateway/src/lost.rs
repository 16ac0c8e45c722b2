//! Why a request got no answer, as the HTTP libraries tell it: in the words of Go's client, and whether the backend may
//! have acted on it.

use crate::connect::{io_text, remote_text};
use std::io;

/// A request that was handed to a connection and got no answer.
#[derive(Debug)]
pub struct Lost {
    /// What Go's HTTP client would say.
    pub text: String,
    /// The backend may have seen the request.
    pub sent: bool,
    /// Nothing was heard of it, not even a refusal.
    pub silent: bool,
    /// The client broke off: nobody else is to blame.
    pub by_client: bool,
}

impl Lost {
    /// The client's part of the request did not come.
    pub fn by_client(text: String) -> Lost {
        Lost {
            text,
            sent: true,
            silent: false,
            by_client: true,
        }
    }

    /// The connection is there, and nobody is at its other end.
    pub fn silent() -> Lost {
        Lost {
            text: "http2: client connection lost".into(),
            sent: true,
            silent: true,
            by_client: false,
        }
    }

    /// Of an HTTP/1.1 connection; `unsent` where it gave the request back.
    pub fn http1(error: &hyper::Error, unsent: bool) -> Lost {
        Lost {
            text: http1_text(error),
            sent: !unsent && !error.is_canceled(),
            silent: error.is_timeout(),
            by_client: error.is_user(),
        }
    }

    /// Of an HTTP/2 stream.
    pub fn http2(error: &h2::Error) -> Lost {
        Lost {
            text: http2_text(error),
            sent: !was_refused(error),
            silent: false,
            by_client: false,
        }
    }
}

/// Whether the backend says that it has not acted on the request.
fn was_refused(error: &h2::Error) -> bool {
    match error.reason() {
        Some(h2::Reason::REFUSED_STREAM) => error.is_remote(),
        // The streams that a graceful GOAWAY ends are those it did not accept.
        Some(h2::Reason::NO_ERROR) => error.is_go_away() && error.is_remote(),
        _ => false,
    }
}

pub fn http2_text(error: &h2::Error) -> String {
    if let Some(io) = error.get_io() {
        return read_text(io);
    }
    match error.reason() {
        Some(reason) if error.is_go_away() => {
            format!("http2: server sent GOAWAY and closed the connection; {reason:?}")
        }
        Some(reason) => format!("stream error: {reason:?}; received from peer"),
        None => "http2: client connection lost".into(),
    }
}

pub fn http1_text(error: &hyper::Error) -> String {
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        return "EOF".into();
    }
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return read_text(io);
        }
        source = error.source();
    }
    if error.is_parse() {
        "net/http: HTTP/1.x transport connection broken: malformed HTTP response".into()
    } else {
        "EOF".into()
    }
}

fn read_text(error: &io::Error) -> String {
    if let Some(text) = remote_text(error) {
        return text;
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "EOF".into(),
        _ => format!("read: {}", io_text(error)),
    }
}
