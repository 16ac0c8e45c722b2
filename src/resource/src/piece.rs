//! [`Piece`]: events of a watch as its client reads them, several in one where several are ready.
// PERFORMANCE: per-request path

use crate::request::{WatchEvent, WatchStream};
use bytes::Bytes;
use std::sync::Arc;
use std::task::{Context, Poll};

/// About how many bytes of events make a piece.
const FULL: usize = 64 << 10;

/// Writes events as a client reads them.
pub trait Writer: Send + Sync {
    /// Tells it from other writers: two of one name write the events of one resource alike.
    fn name(&self) -> &'static str;

    /// An event by itself.
    fn frame(&self, event: &WatchEvent) -> Bytes;

    /// Appends an event to others.
    fn write(&self, event: &WatchEvent, out: &mut Vec<u8>);
}

/// Events as they are sent. Cheap to clone: watchers who see the same share one.
#[derive(Clone, Debug, Default)]
pub struct Piece {
    pub bytes: Bytes,
    /// How long each event is.
    pub sizes: Arc<[u32]>,
}

impl Piece {
    pub fn of(events: impl IntoIterator<Item = WatchEvent>, writer: &dyn Writer) -> Piece {
        let mut growing = Growing::default();
        for event in events {
            growing.push(&event, writer);
        }
        growing.finish()
    }

    /// One event, and what is ready behind it. An end that shows behind an event has to show again.
    pub(crate) fn poll_with(
        context: &mut Context<'_>,
        writer: &dyn Writer,
        mut poll_next: impl FnMut(&mut Context<'_>) -> Poll<Option<WatchEvent>>,
    ) -> Poll<Option<Piece>> {
        let mut growing = Growing::default();
        loop {
            match poll_next(context) {
                Poll::Ready(Some(event)) => growing.push(&event, writer),
                Poll::Ready(None) if growing.sizes.is_empty() => return Poll::Ready(None),
                Poll::Pending if growing.sizes.is_empty() => return Poll::Pending,
                Poll::Ready(None) | Poll::Pending => break,
            }
            if growing.len() >= FULL {
                break;
            }
        }
        Poll::Ready(Some(growing.finish()))
    }

    /// As [`WatchStream::poll_piece`], from [`WatchStream::next`].
    pub(crate) fn poll_each<S: WatchStream + ?Sized>(
        stream: &mut S,
        context: &mut Context<'_>,
        writer: &dyn Writer,
    ) -> Poll<Option<Piece>> {
        Piece::poll_with(context, writer, |context| stream.next().as_mut().poll(context))
    }
}

/// A piece in the making. The first event is a frame that others may share; it is copied only where a second follows.
#[derive(Default)]
struct Growing {
    first: Bytes,
    all: Vec<u8>,
    sizes: Vec<u32>,
}

impl Growing {
    fn push(&mut self, event: &WatchEvent, writer: &dyn Writer) {
        let before = self.len();
        if self.sizes.is_empty() {
            self.first = writer.frame(event);
        } else {
            if self.all.is_empty() {
                self.all.reserve(self.first.len() * 4);
                self.all.extend_from_slice(&self.first);
            }
            writer.write(event, &mut self.all);
        }
        self.sizes.push(u32::try_from(self.len() - before).unwrap_or(u32::MAX));
    }

    fn len(&self) -> usize {
        self.all.len().max(self.first.len())
    }

    fn finish(self) -> Piece {
        let bytes = if self.all.is_empty() {
            self.first
        } else {
            self.all.into()
        };
        Piece {
            bytes,
            sizes: self.sizes.into(),
        }
    }
}
