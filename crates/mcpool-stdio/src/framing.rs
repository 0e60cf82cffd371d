//! How bytes on a server's stdout become messages: one JSON-RPC message, or one batch of them,
//! a line (MCP, "Transports", stdio). Pure: no I/O, no clock.

use std::collections::VecDeque;

use bytes::{Buf, BytesMut};
use mcpool_core::{IncomingMessage, model::RequestId};
use serde::{Deserialize, de::IgnoredAny};

use crate::oversized::Oversized;

/// How much is read at once at first; it grows while a message fills it.
const SMALL_READ: usize = 8 * 1024;
/// A pipe holds this much on Linux, so a larger read gains nothing.
const LARGE_READ: usize = 64 * 1024;
/// A buffer that grew over this for one message is given back after it.
const KEPT_CAPACITY: usize = 256 * 1024;

/// What the decoder found on the stream.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "most frames are messages, and a frame lives only from the decoder to the queue"
)]
pub(crate) enum Frame {
    /// One message.
    Message(IncomingMessage),
    /// The messages of a batch (2025-03-26), and how many of its members were none.
    Batch(VecDeque<IncomingMessage>, u64),
    /// A line that is no message.
    Skipped(Skip),
    /// An answer to this request that is no valid message.
    Malformed(RequestId, String),
    /// A line over the limit that answers or asks these.
    Oversized {
        /// Our requests that it answers.
        answers: Vec<RequestId>,
        /// The server's requests in it.
        requests: Vec<RequestId>,
    },
    /// A line over the limit in which no id could be found.
    Lost,
}

/// Why a line was skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Skip {
    NotJson,
    InvalidUtf8,
    NotAMessage,
    OversizedNotification,
}

impl Skip {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::NotJson => "not JSON",
            Self::InvalidUtf8 => "not UTF-8",
            Self::NotAMessage => "not a JSON-RPC message",
            Self::OversizedNotification => "a notification over the size limit",
        }
    }
}

/// Cuts a byte stream into lines and parses them. At most one line, of at most the limit, is
/// held in memory; the rest of a longer one is scanned and dropped as it comes.
pub(crate) struct Decoder {
    buffer: BytesMut,
    /// How much of `buffer` is known to hold no line end.
    scanned: usize,
    limit: usize,
    oversized: Option<Oversized>,
    finished: bool,
}

impl Decoder {
    /// A decoder of lines of at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            scanned: 0,
            limit,
            oversized: None,
            finished: false,
        }
    }

    /// The buffer to append the next bytes to, with room in it.
    pub(crate) fn space(&mut self) -> &mut BytesMut {
        let wanted = if self.buffer.len() < SMALL_READ {
            SMALL_READ
        } else {
            LARGE_READ
        };
        if self.buffer.capacity() - self.buffer.len() < wanted / 2 {
            self.buffer.reserve(wanted);
        }
        &mut self.buffer
    }

    /// Says that no more bytes will come: what is left counts as a line.
    pub(crate) fn finish(&mut self) {
        self.finished = true;
    }

    /// The next thing found; `None` until more bytes come.
    pub(crate) fn next_frame(&mut self) -> Option<Frame> {
        loop {
            if self.oversized.is_some() {
                return self.skip_oversized();
            }
            let end = match memchr::memchr(b'\n', &self.buffer[self.scanned..]) {
                Some(at) => self.scanned + at,
                None => {
                    self.scanned = self.buffer.len();
                    if self.scanned > self.limit {
                        self.oversized = Some(Oversized::new(self.limit));
                        continue;
                    }
                    if !self.finished || self.buffer.is_empty() {
                        return None;
                    }
                    self.scanned
                }
            };
            if end > self.limit {
                self.oversized = Some(Oversized::new(self.limit));
                continue;
            }
            let frame = parse_line(&self.buffer[..end]);
            self.consume(end);
            if frame.is_some() {
                return frame;
            }
        }
    }

    /// Drops a line and its end.
    fn consume(&mut self, line: usize) {
        let whole = (line + 1).min(self.buffer.len());
        self.buffer.advance(whole);
        self.scanned = 0;
        if self.buffer.is_empty() && line > KEPT_CAPACITY {
            self.buffer = BytesMut::new();
        }
    }

    fn skip_oversized(&mut self) -> Option<Frame> {
        let oversized = self.oversized.as_mut()?;
        match memchr::memchr(b'\n', &self.buffer) {
            Some(at) => {
                oversized.feed(&self.buffer[..at]);
                let frame = oversized.end();
                self.oversized = None;
                self.consume(at);
                frame.or_else(|| self.next_frame())
            }
            None => {
                oversized.feed(&self.buffer);
                self.buffer = BytesMut::new();
                self.scanned = 0;
                if self.finished {
                    let frame = oversized.end();
                    self.oversized = None;
                    frame
                } else {
                    oversized.known()
                }
            }
        }
    }
}

/// Parses one line without its line feed; `None` for a blank one.
fn parse_line(line: &[u8]) -> Option<Frame> {
    // RFC 8259, section 8.1, lets a parser ignore a byte order mark.
    let line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
    let line = line.trim_ascii();
    match line.first()? {
        b'{' => Some(match serde_json::from_slice::<IncomingMessage>(line) {
            Ok(message) => Frame::Message(message),
            Err(error) => explain(line, &error),
        }),
        b'[' => Some(parse_batch(line)),
        _ => Some(Frame::Skipped(not_json(line))),
    }
}

fn not_json(line: &[u8]) -> Skip {
    match std::str::from_utf8(line) {
        Ok(_) => Skip::NotJson,
        Err(_) => Skip::InvalidUtf8,
    }
}

fn parse_batch(line: &[u8]) -> Frame {
    let Ok(members) = serde_json::from_slice::<Vec<serde_json::Value>>(line) else {
        return Frame::Skipped(not_json(line));
    };
    let all = members.len();
    let messages: VecDeque<IncomingMessage> = members
        .into_iter()
        .filter_map(|member| serde_json::from_value(member).ok())
        .collect();
    if messages.is_empty() {
        return Frame::Skipped(Skip::NotAMessage);
    }
    let skipped = all - messages.len();
    Frame::Batch(messages, skipped as u64)
}

/// What of a message is looked at when it does not parse.
#[derive(Deserialize)]
struct Envelope {
    id: Option<RequestId>,
    method: Option<IgnoredAny>,
}

/// Finds out whose answer a line is that is an object but no message.
fn explain(line: &[u8], error: &serde_json::Error) -> Frame {
    match serde_json::from_slice::<Envelope>(line) {
        Ok(Envelope {
            id: Some(id),
            method: None,
        }) => Frame::Malformed(id, error.to_string()),
        Ok(_) if std::str::from_utf8(line).is_ok() => Frame::Skipped(Skip::NotAMessage),
        Err(_) if serde_json::from_slice::<serde_json::Value>(line).is_ok() => {
            Frame::Skipped(Skip::NotAMessage)
        }
        _ => Frame::Skipped(not_json(line)),
    }
}

#[cfg(test)]
#[path = "framing_tests.rs"]
mod tests;
