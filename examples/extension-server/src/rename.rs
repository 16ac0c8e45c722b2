//! The same API under another group's name (`--group`), so that tests can have as many groups as they like. No part of
//! a real server: names are replaced in the text of paths and bodies.

use crate::GROUP;
use crate::api::Answer;
use bytes::Bytes;
use http::{Request, Response, Uri, header};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};

/// What the one group is called by clients.
#[derive(Clone, Debug)]
pub struct Rename(String);

impl Rename {
    pub fn new(group: &str) -> Rename {
        Rename(group.to_owned())
    }

    /// A request as the API knows it.
    pub fn request<B>(&self, request: &mut Request<B>) {
        let known = request.uri().to_string().replace(&self.0, GROUP);
        if let Ok(uri) = known.parse::<Uri>() {
            *request.uri_mut() = uri;
        }
    }

    /// An answer as clients know it. Names never lie across two frames: documents and events are one each.
    pub fn response(&self, response: Response<Answer>) -> Response<Answer> {
        let names = [(GROUP.to_owned(), self.0.clone()), (reversed(GROUP), reversed(&self.0))];
        let (mut parts, body) = response.into_parts();
        parts.headers.remove(header::CONTENT_LENGTH);
        let body = body.map_frame(move |frame| {
            frame.map_data(|data| match std::str::from_utf8(&data) {
                Ok(text) => {
                    let text = names
                        .iter()
                        .fold(text.to_owned(), |text, (old, new)| text.replace(old, new));
                    Bytes::from(text)
                }
                Err(_) => data,
            })
        });
        Response::from_parts(parts, UnsyncBoxBody::new(body))
    }
}

/// As OpenAPI names types: `com.example.shipping`.
fn reversed(group: &str) -> String {
    group.split('.').rev().collect::<Vec<_>>().join(".")
}
