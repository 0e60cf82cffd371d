//! The writing half over a stream of bytes: every message whole and in order, or not at all.

mod queue;
#[cfg(test)]
mod tests;

use std::{io, sync::Arc};

use async_trait::async_trait;
use mcpool_core::{Delivery, Error, ErrorKind, Result};
use tokio::{io::AsyncWrite, runtime::Handle};

use self::queue::{End, Line, Queue, Submitted, Unwritten};
use crate::halves::{Outgoing, WriteError, WriteHalf};

type Written = std::result::Result<(), WriteError>;

/// Writes messages as lines.
///
/// A caller writes its line itself, in one system call, when nobody waits before it; this never
/// blocks. When other requests wait for their answers as well, it lets every other task of its
/// runtime run once before, and then writes for all that have come meanwhile. What does not fit is
/// queued, and a task, which lives while something is stuck, writes it as the server reads.
///
/// A queued message belongs to the queue: when its future is dropped, it is left out if nothing of
/// it was written, and finished if something was.
///
/// The queue needs no bound of its own: it holds what requests, answers and cancellations in
/// flight put there, and of those that were dropped at most one.
///
/// Dropping it closes the stream.
pub struct LineWriter<W: AsyncWrite + Unpin + Send + 'static> {
    queue: Arc<Queue<W>>,
}

impl<W: AsyncWrite + Unpin + Send + 'static> LineWriter<W> {
    /// Writes to this stream. What is queued is written on the runtime that runs now.
    #[must_use]
    pub fn new(stream: W) -> Self {
        Self::with_direct(stream, true)
    }

    /// Writes to a stream that may only be written to on a runtime, by the task alone: one whose
    /// writes are done by a thread, such as a pipe on Windows.
    #[must_use]
    pub fn queued(stream: W) -> Self {
        Self::with_direct(stream, false)
    }

    fn with_direct(stream: W, direct: bool) -> Self {
        let runtime = Handle::try_current().ok();
        Self {
            queue: Arc::new(Queue::new(stream, runtime, direct)),
        }
    }

    /// Closes the stream by dropping it; what is queued fails. May be called again.
    pub fn shut(&self) {
        self.queue.shut();
    }

    /// Waits until a write failed because the server no longer reads. Cancel-safe.
    pub async fn broken(&self) {
        let mut broken = self.queue.broken();
        // It fails only when the sender is gone, and we hold it.
        let _ = broken.wait_for(|broken| *broken).await;
    }
}

impl<W: AsyncWrite + Unpin + Send + 'static> Drop for LineWriter<W> {
    fn drop(&mut self) {
        self.shut();
    }
}

#[async_trait]
impl<W: AsyncWrite + Unpin + Send + 'static> WriteHalf for LineWriter<W> {
    async fn write(&self, message: Outgoing) -> Written {
        let (awaits_answer, in_company) = (message.awaits_answer(), message.in_company());
        let (text, departure) = message.split();
        let written = match self.queue.submit(Line {
            text,
            departure,
            awaits_answer,
            in_company,
        }) {
            Ok(Submitted::Written) => Ok(()),
            Ok(Submitted::Queued(queued)) => queued.await,
            Ok(Submitted::First(first, queued)) => {
                tokio::task::yield_now().await;
                first.write();
                queued.await
            }
            Err(unwritten) => Err(unwritten),
        };
        written.map_err(WriteError::from)
    }

    /// Fails what is queued and shuts the stream down.
    async fn close(&self) -> Result<()> {
        self.queue.close();
        let shut = std::future::poll_fn(|cx| self.queue.poll_shutdown(cx));
        // A server that is gone already needs no notification.
        let _ = shut.await;
        self.shut();
        Ok(())
    }

    fn abandon(&self) {
        self.shut();
    }
}

impl<W: AsyncWrite + Unpin + Send + 'static> std::fmt::Debug for LineWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LineWriter")
            .field("waiting", &self.queue.len())
            .finish_non_exhaustive()
    }
}

impl From<Unwritten> for WriteError {
    fn from(unwritten: Unwritten) -> Self {
        let delivery = unwritten.departure.delivery();
        match unwritten.end {
            End::Broken(kind) => broken(delivery, kind),
            End::Closed => Self::closed(delivery),
        }
    }
}

fn broken(delivery: Delivery, kind: io::ErrorKind) -> WriteError {
    let error = Error::new(ErrorKind::ConnectionLost, "the server no longer reads");
    WriteError::ended(
        error
            .with_delivery(delivery)
            .with_source(io::Error::from(kind)),
    )
}
