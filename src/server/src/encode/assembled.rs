//! Documents from parts that exist already, in pieces worth a write.
// PERFORMANCE: per-request path

use super::{GZIP_THRESHOLD, PIECE, compress, mark_compressed};
use crate::body::{Body, BoxError, Response};
use bytes::Bytes;
use fairlead_resource::assembled::Assembled;
use futures_util::StreamExt;
use http::HeaderValue;
use http::header::CONTENT_TYPE;

/// The document and a line break.
pub fn stream(assembled: Assembled, gzip: bool) -> Response {
    let length = assembled.len() + 1;
    let compressed = gzip && length > GZIP_THRESHOLD;
    let pieces = futures_util::stream::iter(Pieces::new(assembled)).map(Ok::<_, BoxError>);
    let body = match compressed {
        true => compress::stream(pieces),
        false => Body::stream(Box::pin(pieces), Some(length as u64)),
    };
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if compressed {
        mark_compressed(&mut response);
    }
    response
}

pub struct Pieces {
    assembled: Assembled,
    /// The next item; `None` behind the tail.
    at: Option<usize>,
}

/// Most items fit in this.
const ROOM: usize = 4 * 1024;

impl Pieces {
    pub fn new(assembled: Assembled) -> Pieces {
        Pieces { assembled, at: Some(0) }
    }
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut at = self.at?;
        let mut piece = Vec::with_capacity(PIECE + ROOM);
        piece.append(&mut self.assembled.head);
        while piece.len() < PIECE && at < self.assembled.items.len() {
            self.assembled.write_item(at, &mut piece);
            at += 1;
        }
        self.at = Some(at);
        if at == self.assembled.items.len() && piece.len() < PIECE {
            piece.extend_from_slice(self.assembled.tail.as_bytes());
            piece.push(b'\n');
            self.at = None;
        }
        Some(piece.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn pieces_are_as_long_as_announced() {
        for count in [0, 1, 5000] {
            let item = || {
                [
                    Bytes::from_static(b"[1]"),
                    Bytes::from_static(b"{\"a\":\"bcdefghijklmnopqrstuvwxyz\"}"),
                ]
            };
            let assembled = Assembled {
                head: b"{\"rows\":[".to_vec(),
                around: ["{\"c\":".into(), ",\"o\":".into(), "}".into()],
                items: (0..count).map(|_| item()).collect(),
                tail: "]}",
            };
            let expected = [assembled.to_vec(), b"\n".to_vec()].concat();
            let body = stream(assembled, false).into_body();
            assert_eq!(body.len(), Some(expected.len() as u64));
            assert_eq!(body.collect().await.unwrap().to_bytes(), expected);
        }
    }
}
