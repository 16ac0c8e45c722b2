//! gzip of answers, piece by piece, at the level that costs least.
// PERFORMANCE: per-request path

use crate::body::{Body, BoxError};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::{Stream, StreamExt};
use std::io::Write;

/// How much input is compressed at a time: short enough not to hold up other requests.
const STEP: usize = 256 * 1024;

/// A body that is the gzip of `pieces`.
pub fn stream<S>(pieces: S) -> Body
where
    S: Stream<Item = Result<Bytes, BoxError>> + Send + 'static,
{
    let state = State {
        pieces: Box::pin(pieces),
        rest: Bytes::new(),
        encoder: Some(GzEncoder::new(Vec::new(), Compression::fast())),
    };
    Body::stream(Box::pin(futures_util::stream::unfold(state, next)), None)
}

struct State<S> {
    pieces: std::pin::Pin<Box<S>>,
    rest: Bytes,
    encoder: Option<GzEncoder<Vec<u8>>>,
}

async fn next<S>(mut state: State<S>) -> Option<(Result<Bytes, BoxError>, State<S>)>
where
    S: Stream<Item = Result<Bytes, BoxError>>,
{
    loop {
        let encoder = state.encoder.as_mut()?;
        if state.rest.is_empty() {
            match state.pieces.next().await {
                Some(Ok(piece)) => state.rest = piece,
                Some(Err(error)) => {
                    state.encoder = None;
                    return Some((Err(error), state));
                }
                None => {
                    let finished = state.encoder.take()?.finish().map(Bytes::from).map_err(Into::into);
                    return Some((finished, state));
                }
            }
        }
        let step = state.rest.split_to(state.rest.len().min(STEP));
        if let Err(error) = encoder.write_all(&step) {
            state.encoder = None;
            return Some((Err(error.into()), state));
        }
        let out = std::mem::take(encoder.get_mut());
        if !out.is_empty() {
            return Some((Ok(out.into()), state));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::io::Read;

    #[tokio::test]
    async fn what_is_compressed_unpacks_to_the_same() {
        let piece = Bytes::from(vec![b'x'; 300_000]);
        let body = stream(futures_util::stream::iter([Ok(piece.clone()), Ok("end".into())]));
        let compressed = body.collect().await.unwrap().to_bytes();
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&compressed[..])
            .read_to_end(&mut plain)
            .unwrap();
        assert_eq!(plain.len(), 300_003);
        assert!(plain.ends_with(b"xend"));
    }
}
