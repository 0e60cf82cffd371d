//! The reading half over a stream of bytes.

use std::{
    mem::MaybeUninit,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use async_trait::async_trait;
use mcpool_core::{Error, ErrorKind, Result};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::decoder::{Decoder, Lost};
use crate::{frame::Frames, halves::ReadHalf};

/// Read at once while no line has begun, on the stack.
const STACK_READ: usize = 16 * 1024;

/// Reads messages that are lines. Holds no buffer while no line has begun.
pub struct LineReader<R> {
    bytes: R,
    decoder: Decoder,
    limit: usize,
}

impl<R: AsyncRead + Unpin + Send> LineReader<R> {
    /// Reads lines of at most `limit` bytes.
    #[must_use]
    pub fn new(bytes: R, limit: usize) -> Self {
        Self {
            bytes,
            decoder: Decoder::new(limit),
            limit,
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
            if let Err(error) = ready!(Pin::new(&mut self.bytes).poll_read(cx, &mut room)) {
                return Poll::Ready(Err(unreadable(error)));
            }
            if room.filled().is_empty() {
                return Poll::Ready(self.finish(frames).map(|()| false));
            }
            self.decoder.feed(room.filled(), frames)
        } else {
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
