//! [`Corked`]: what a connection writes, gathered until its task has nothing more to say for now.
//!
//! HTTP/2 sends every frame by itself, as a TLS record and a system call. Here the frames of all streams go together.
// PERFORMANCE: per-request path

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// So much is gathered; a little more where one write brings it. TLS takes as much at once.
const FULL: usize = 64 << 10;
/// What is set aside for the first write.
const FIRST: usize = 16 << 10;

/// A stream that does not send before [`Cork::poll_send`], unless there is much to send.
pub struct Corked<S>(Arc<Mutex<Gathered<S>>>);

/// Lets out what has been gathered. Whoever polls the owner of the [`Corked`] has to use it after each poll.
pub struct Cork<S>(Arc<Mutex<Gathered<S>>>);

struct Gathered<S> {
    io: S,
    waiting: Vec<u8>,
    /// How much of `waiting` has been sent.
    sent: usize,
}

pub fn cork<S>(io: S) -> (Corked<S>, Cork<S>) {
    let gathered = Arc::new(Mutex::new(Gathered {
        io,
        waiting: Vec::new(),
        sent: 0,
    }));
    (Corked(gathered.clone()), Cork(gathered))
}

impl<S: AsyncWrite + Unpin> Cork<S> {
    /// Sends what is there.
    ///
    /// # Errors
    /// The stream's.
    pub fn poll_send(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.0).poll_send(context)
    }
}

impl<S: AsyncWrite + Unpin> Gathered<S> {
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_empty(context))?;
        Pin::new(&mut self.io).poll_flush(context)
    }

    /// Hands everything to the stream. Nothing is kept in readiness: most connections are idle.
    fn poll_empty(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.waiting.len() {
            match ready!(Pin::new(&mut self.io).poll_write(context, &self.waiting[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.sent += written,
            }
        }
        self.waiting = Vec::new();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Takes all of it, as soon as there is room.
    fn poll_gather(&mut self, context: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.waiting.len() >= FULL {
            ready!(self.poll_empty(context))?;
        }
        let length = parts.iter().map(|part| part.len()).sum();
        if self.waiting.is_empty() {
            self.waiting.reserve(FIRST.max(length));
        }
        parts.iter().for_each(|part| self.waiting.extend_from_slice(part));
        Poll::Ready(Ok(length))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Corked<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut lock(&self.0).io).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Corked<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        lock(&self.0).poll_gather(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        lock(&self.0).poll_gather(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Done by [`Cork::poll_send`].
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gathered = lock(&self.0);
        ready!(gathered.poll_empty(context))?;
        Pin::new(&mut gathered.io).poll_shutdown(context)
    }
}

fn lock<S>(gathered: &Mutex<Gathered<S>>) -> MutexGuard<'_, Gathered<S>> {
    gathered.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn writes_go_together() {
        let (here, mut there) = tokio::io::duplex(1 << 20);
        let (mut corked, cork) = cork(here);
        corked.write_all(b"one ").await.unwrap();
        corked.flush().await.unwrap();
        corked.write_all(b"two").await.unwrap();
        let mut buffer = [0; 16];
        assert!(futures_util::poll!(Box::pin(there.read(&mut buffer))).is_pending());
        poll_fn(|context| cork.poll_send(context)).await.unwrap();
        let length = there.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..length], b"one two");
    }

    #[tokio::test]
    async fn who_does_not_read_is_not_gathered_for() {
        let (here, mut there) = tokio::io::duplex(1000);
        let (mut corked, cork) = cork(here);
        let piece = vec![b'x'; 10_000];
        let mut taken = 0;
        while futures_util::poll!(Box::pin(corked.write_all(&piece))).is_ready() {
            taken += piece.len();
        }
        assert!((FULL..FULL + piece.len() + 1000).contains(&taken), "{taken}");
        let sender = async {
            poll_fn(|context| cork.poll_send(context)).await.unwrap();
            corked.shutdown().await.unwrap();
        };
        let mut read = Vec::new();
        tokio::join!(sender, async { there.read_to_end(&mut read).await.unwrap() });
        assert_eq!(read.len(), taken);
    }
}
