//! The half that reads: the event stream, and what servers put into the answers of POSTs.

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use mcpool_core::{Error, ErrorKind, Result};
use mcpool_duplex::{Frames, IdScanner, Ids, ReadHalf};
use mcpool_http_pool::{Events, StreamItem};
use tokio::sync::mpsc;

/// Events that are taken at once before they are handed on.
const AT_ONCE: usize = 64;

/// What an event stream says of messages.
pub(crate) enum Said {
    /// A framed text.
    Text(Bytes),
    /// A text over the limit answers or asks these.
    Oversized(Ids),
    /// A text over the limit, for which nobody waits.
    Skipped,
}

/// Reads one event stream, each event a message.
pub(crate) struct EventReader {
    events: Events,
    limit: usize,
    /// Of the event over the limit that is under way.
    oversized: Option<Oversized>,
}

#[derive(Default)]
struct Oversized {
    ids: IdScanner,
    reported: bool,
}

impl EventReader {
    pub(crate) fn new(events: Events, limit: usize) -> Self {
        Self {
            events,
            limit,
            oversized: None,
        }
    }

    /// What comes next; `None` at the end of the stream. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Result<Said>> {
        loop {
            match self.events.next().await? {
                Err(error) => return Some(Err(error)),
                Ok(StreamItem::Event(event)) if event.kind == "message" => {
                    // An event that only brings an id has no data.
                    if !event.data.is_empty() {
                        return Some(Ok(Said::Text(event.data.into())));
                    }
                }
                Ok(StreamItem::Oversized(piece)) => {
                    let oversized = self.oversized.get_or_insert_default();
                    oversized.ids.feed(&piece);
                    if let Some(ids) = oversized.known() {
                        return Some(Ok(Said::Oversized(ids)));
                    }
                }
                Ok(StreamItem::OversizedEnd) => {
                    if let Some(said) = self.end_of_oversized() {
                        return Some(said);
                    }
                }
                // Keep-alives, and what servers make up.
                Ok(_) => {}
            }
        }
    }

    fn end_of_oversized(&mut self) -> Option<Result<Said>> {
        let mut oversized = self.oversized.take().unwrap_or_default();
        oversized.ids.finish();
        if let Some(ids) = oversized.known() {
            return Some(Ok(Said::Oversized(ids)));
        }
        if oversized.reported {
            return None;
        }
        if oversized.ids.nobody_waits() {
            return Some(Ok(Said::Skipped));
        }
        Some(Err(Error::new(
            ErrorKind::TooLarge,
            format!(
                "an event without an id that could be found is over the limit of {} bytes; raise \
                 the limit or ask for less",
                self.limit
            ),
        )))
    }
}

impl Oversized {
    /// The ids that became known.
    fn known(&mut self) -> Option<Ids> {
        let ids = self.ids.take();
        self.reported |= !ids.is_empty();
        (!ids.is_empty()).then_some(ids)
    }
}

/// Reads a connection.
pub(crate) struct SseReader {
    stream: EventReader,
    /// What came in the answers of POSTs.
    answers: mpsc::Receiver<Said>,
}

impl SseReader {
    pub(crate) fn new(stream: EventReader, answers: mpsc::Receiver<Said>) -> Self {
        Self { stream, answers }
    }

    fn put(&self, said: Said, frames: &mut Frames) {
        match said {
            Said::Text(text) => frames.read(&text),
            Said::Oversized(ids) => frames.oversized(ids, self.stream.limit),
            Said::Skipped => frames.skip("over the size limit", ""),
        }
    }
}

#[async_trait]
impl ReadHalf for SseReader {
    async fn read(&mut self, frames: &mut Frames) -> Result<()> {
        tokio::select! {
            biased;
            Some(said) = self.answers.recv() => {
                frames.odd("messages in the answers of POSTs");
                self.put(said, frames);
            }
            next = self.stream.next() => {
                self.put(not_ended(next)?, frames);
                // What is there already comes with it.
                for _ in 0..AT_ONCE {
                    match self.stream.next().now_or_never() {
                        Some(next) => self.put(not_ended(next)?, frames),
                        None => break,
                    }
                }
            }
        }
        Ok(())
    }
}

fn not_ended(next: Option<Result<Said>>) -> Result<Said> {
    next.unwrap_or_else(|| {
        Err(Error::new(
            ErrorKind::ConnectionLost,
            "the server ended the event stream",
        ))
    })
}
