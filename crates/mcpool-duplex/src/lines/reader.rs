//! The reading half over a stream of bytes.

use std::{
    mem::MaybeUninit,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use mcpool_core::{Error, ErrorKind, Result};
use tokio::{
    io::{AsyncRead, AsyncReadExt, ReadBuf},
    sync::{Semaphore, SemaphorePermit},
    time::{Sleep, sleep},
};

use super::decoder::{Decoder, Lost};
use crate::{frame::Frames, halves::ReadHalf};

/// Read at once while no line has begun, on the stack.
const STACK_READ: usize = 16 * 1024;

/// How long the buffer of a large message is kept for the next one: to give it back each time and
/// to get a new one costs as much as to read the message.
const KEPT_FOR: Duration = Duration::from_secs(1);

/// Readers of this process that keep a large buffer at once. A thousand that keep one each leave
/// the heap so full of holes that it stays large for good.
const MAX_KEPT: usize = 8;

static KEPT: Semaphore = Semaphore::const_new(MAX_KEPT);

/// Reads messages that are lines. Holds no buffer while no line has begun, but for a second after
/// a message that did not fit on the stack, while at most seven other readers of the process do
/// so. Needs a runtime with time enabled.
pub struct LineReader<R> {
    bytes: R,
    decoder: Decoder,
    limit: usize,
    /// A large buffer is kept.
    kept: Option<Kept>,
    /// How many more readers may keep one.
    places: &'static Semaphore,
}

/// Until when a buffer is kept, and that it is one of a few.
struct Kept {
    until: Pin<Box<Sleep>>,
    _place: SemaphorePermit<'static>,
}

impl Kept {
    /// `None` when as many others keep theirs as may.
    fn begin(places: &'static Semaphore) -> Option<Self> {
        Some(Self {
            _place: places.try_acquire().ok()?,
            until: Box::pin(sleep(KEPT_FOR)),
        })
    }
}

impl<R: AsyncRead + Unpin + Send> LineReader<R> {
    /// Reads lines of at most `limit` bytes.
    #[must_use]
    pub fn new(bytes: R, limit: usize) -> Self {
        Self {
            bytes,
            decoder: Decoder::new(limit),
            limit,
            kept: None,
            places: &KEPT,
        }
    }

    /// Reads once and puts the messages that became whole into `frames`. Gives `false` at the end
    /// of the stream. Cancel-safe.
    ///
    /// # Errors
    /// [`ConnectionLost`](ErrorKind::ConnectionLost) when it cannot be read, and
    /// [`TooLarge`](ErrorKind::TooLarge) after a line over the limit in which no id was found.
    pub async fn read_once(&mut self, frames: &mut Frames) -> Result<bool> {
        std::future::poll_fn(|cx| self.poll_once(cx, frames)).await
    }

    /// What has come of a last line without an end counts as a line: for who stops to read before
    /// the end of the stream.
    ///
    /// # Errors
    /// As [`read_once`](Self::read_once).
    pub fn finish(&mut self, frames: &mut Frames) -> Result<()> {
        let finished = self.decoder.finish(frames);
        finished.map_err(|lost| self.lost(lost))
    }

    fn poll_once(&mut self, cx: &mut Context<'_>, frames: &mut Frames) -> Poll<Result<bool>> {
        let cut = if self.decoder.is_empty() {
            let mut room = [MaybeUninit::uninit(); STACK_READ];
            let mut room = ReadBuf::uninit(&mut room);
            match Pin::new(&mut self.bytes).poll_read(cx, &mut room) {
                Poll::Pending => {
                    self.poll_release(cx);
                    return Poll::Pending;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(unreadable(error))),
                Poll::Ready(Ok(())) => {}
            }
            if room.filled().is_empty() {
                return Poll::Ready(self.finish(frames).map(|()| false));
            }
            self.decoder.feed(room.filled(), frames)
        } else {
            self.kept = None;
            // It holds nothing while it waits, so a new one for each poll is the same.
            let read = pin!(self.bytes.read_buf(self.decoder.space())).poll(cx);
            match ready!(read) {
                Err(error) => return Poll::Ready(Err(unreadable(error))),
                Ok(0) => return Poll::Ready(self.finish(frames).map(|()| false)),
                Ok(_) => self.decoder.cut(frames),
            }
        };
        Poll::Ready(match cut {
            Ok(()) => Ok(true),
            Err(lost) => Err(self.lost(lost)),
        })
    }

    /// Gives a large buffer back that nothing needed for a while.
    fn poll_release(&mut self, cx: &mut Context<'_>) {
        if !self.decoder.keeps_room() {
            return;
        }
        if self.kept.is_none() {
            self.kept = Kept::begin(self.places);
        }
        let is_over = |kept: &mut Kept| kept.until.as_mut().poll(cx).is_ready();
        if self.kept.as_mut().is_none_or(is_over) {
            self.decoder.release();
            self.kept = None;
        }
    }

    fn lost(&self, Lost: Lost) -> Error {
        Error::new(
            ErrorKind::TooLarge,
            format!(
                "a message without an id that could be found is over the limit of {} bytes; raise \
                 the limit or ask for less",
                self.limit
            ),
        )
    }
}

fn unreadable(error: std::io::Error) -> Error {
    Error::new(ErrorKind::ConnectionLost, "the connection cannot be read").with_source(error)
}

#[async_trait]
impl<R: AsyncRead + Unpin + Send> ReadHalf for LineReader<R> {
    async fn read(&mut self, frames: &mut Frames) -> Result<()> {
        if self.read_once(frames).await? {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::ConnectionLost,
            "the server ended the connection",
        ))
    }
}

impl<R> std::fmt::Debug for LineReader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LineReader")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, DuplexStream};

    use super::*;

    /// A reader that has read a large message, and the other end.
    async fn after_a_large_message(
        places: &'static Semaphore,
    ) -> (LineReader<DuplexStream>, DuplexStream) {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let mut reader = LineReader::new(near, 1 << 20);
        reader.places = places;
        let mut frames = Frames::new();
        let long = format!("{{\"id\":1,\"result\":\"{}\"}}\n", "x".repeat(100_000));
        far.write_all(long.as_bytes()).await.unwrap();
        while frames.is_empty() {
            assert!(reader.read_once(&mut frames).await.unwrap());
        }
        (reader, far)
    }

    async fn nothing_comes(reader: &mut LineReader<DuplexStream>) {
        let mut frames = Frames::new();
        let read = tokio::time::timeout(Duration::ZERO, reader.read_once(&mut frames)).await;
        assert!(read.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_buffer_is_kept_for_a_second_by_a_few() {
        let places = Box::leak(Box::new(Semaphore::new(2)));
        let mut readers = Vec::new();
        for _ in 0..3 {
            let (mut reader, far) = after_a_large_message(places).await;
            nothing_comes(&mut reader).await;
            readers.push((reader, far));
        }
        let keeping = |readers: &[(LineReader<_>, _)]| {
            let keeps = |(reader, _): &&(LineReader<_>, _)| reader.decoder.keeps_room();
            readers.iter().filter(keeps).count()
        };
        assert_eq!(keeping(&readers), 2, "the third does not");
        for (reader, _) in &mut readers {
            nothing_comes(reader).await;
        }
        assert_eq!(keeping(&readers), 2, "before the second is over");
        tokio::time::advance(KEPT_FOR).await;
        for (reader, _) in &mut readers {
            nothing_comes(reader).await;
        }
        assert_eq!(keeping(&readers), 0);
        assert_eq!(places.available_permits(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_is_dropped_makes_room() {
        let places = Box::leak(Box::new(Semaphore::new(2)));
        let (mut reader, _far) = after_a_large_message(places).await;
        nothing_comes(&mut reader).await;
        assert_eq!(places.available_permits(), 1);
        drop(reader);
        assert_eq!(places.available_permits(), 2);
    }
}
