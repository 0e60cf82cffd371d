//! From framed text to messages: generous in what it reads, and nothing is lost without a word.
//!
//! | a framed text | becomes |
//! |---|---|
//! | a message, a batch | its messages, in order |
//! | bytes that are not UTF-8, in a message | U+FFFD in their place; noted |
//! | half a surrogate pair in a payload | passes: payloads are text |
//! | JSON-RPC that cannot be read: `NaN`, a bare control character … | the failure of what it answers |
//! | an answer without result and error | the failure of what it answers |
//! | anything else | skipped, counted, kept as a sample |

use std::{borrow::Cow, sync::Arc};

use mcpool_core::{
    Direction, Error, Message, NotAMessage, ParsedLine, RequestId, ResponseId, parse_line,
};

use crate::{
    scan::{IdScanner, Ids},
    wire::Wire,
};

/// More room than this is given back after a burst.
const KEPT_CAPACITY: usize = 64;

/// What a [`ReadHalf`](crate::ReadHalf) has read.
#[derive(Debug, Default)]
pub struct Frames {
    frames: Vec<Frame>,
    wire: Option<Arc<Wire>>,
}

/// One thing that was read.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Frame {
    /// A message.
    Message(Message),
    /// Text that answers or asks these and cannot be read.
    Unreadable {
        /// Whom it concerns.
        ids: Ids,
        /// Why it cannot be read, with no text of the server's.
        reason: String,
    },
    /// Text that was over the limit, and answers or asks these.
    Oversized {
        /// Whom it concerns.
        ids: Ids,
        /// The limit, in bytes.
        limit: usize,
    },
    /// What the carrier itself says of this request: it gets no answer.
    Failed {
        /// The request.
        id: RequestId,
        /// Why it failed, and what is known of its delivery.
        error: Error,
    },
    /// The other side has refused this request, which waits for the end of the connection.
    Returned(RequestId),
    /// Text that is no message, and for which nobody waits.
    Skipped {
        /// Why.
        reason: &'static str,
        /// The text, or the beginning of it.
        text: String,
    },
    /// A message was read although it is odd in this way.
    Odd(&'static str),
}

impl Frames {
    /// A collection that nobody looks at, for tests of a half.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn on(wire: &Arc<Wire>) -> Self {
        Self {
            frames: Vec::new(),
            wire: Some(Arc::clone(wire)),
        }
    }

    /// Reads one framed text, without what frames it. White space and a byte-order mark around it
    /// are nothing.
    pub fn read(&mut self, bytes: &[u8]) {
        // RFC 8259, section 8.1, lets a parser ignore a byte-order mark.
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        let bytes = bytes.trim_ascii();
        if bytes.is_empty() {
            return;
        }
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => String::from_utf8_lossy(bytes),
        };
        let mended = matches!(text, Cow::Owned(_));
        match parse_line(&text) {
            Ok(ParsedLine::One(Ok(message))) => self.frames.push(Frame::Message(message)),
            Ok(ParsedLine::One(Err(why))) => return self.not_messages(&text, &why, &[]),
            Ok(ParsedLine::Batch(members)) => self.batch(members, &text),
            Ok(_) => return self.skip("not a JSON-RPC message", &text),
            Err(error) => return self.not_json(&text, mended, &error),
        }
        if mended {
            self.odd("bytes that are not UTF-8 were replaced");
        }
        self.show(Direction::Received, &text);
    }

    /// Reads what had come of a text when the connection ended. It counts when it is whole; a
    /// request that it would have answered ends with the connection.
    pub fn read_rest(&mut self, bytes: &[u8]) {
        let before = self.frames.len();
        self.read(bytes);
        let torn = |frame: &Frame| matches!(frame, Frame::Unreadable { .. });
        let mut rest = self.frames.split_off(before);
        // What stays of it is its sample.
        rest.retain(|frame| !torn(frame));
        self.frames.append(&mut rest);
    }

    /// A text over the limit, of which only the ids are known.
    pub fn oversized(&mut self, ids: Ids, limit: usize) {
        self.frames.push(Frame::Oversized { ids, limit });
    }

    /// A text that is no message.
    pub fn skip(&mut self, reason: &'static str, text: &str) {
        self.show(Direction::Skipped, text);
        // A sample is short; nobody needs the rest.
        let cut = text.char_indices().nth(1_000);
        let text = cut.map_or(text, |(end, _)| &text[..end]).to_owned();
        self.frames.push(Frame::Skipped { reason, text });
    }

    /// Fails one request, with what this error says of its delivery: the carrier knows what became
    /// of it. Nothing happens when it has ended. What is put before the reading half ends counts
    /// more than the end, so that a request whose fate is known is never said to be unknown.
    pub fn fail(&mut self, id: RequestId, error: Error) {
        self.frames.push(Frame::Failed { id, error });
    }

    /// The other side has refused this request, and the connection ends soon: the request ends with
    /// it, and counts as not sent from here on. Sent again before that it would be refused again.
    pub fn returned(&mut self, id: RequestId) {
        self.frames.push(Frame::Returned(id));
    }

    /// Notes that something odd was read all the same.
    pub fn odd(&mut self, what: &'static str) {
        self.frames.push(Frame::Odd(what));
    }

    /// Whether nothing was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Takes out what was read, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = Frame> + '_ {
        self.frames.drain(..)
    }

    /// Gives memory back after a burst.
    pub(crate) fn shrink(&mut self) {
        self.frames.shrink_to(KEPT_CAPACITY);
    }

    fn batch(&mut self, members: Vec<Result<Message, NotAMessage>>, text: &str) {
        if members.is_empty() {
            return self.skip("an empty batch", text);
        }
        self.odd("a batch, which MCP knew up to 2025-03-26 only");
        let mut bad = None;
        let mut answered = Vec::new();
        for member in members {
            match member {
                Ok(message) => {
                    if let Message::Response {
                        id: ResponseId::Ours(id),
                        ..
                    } = message
                    {
                        answered.push(id);
                    }
                    self.frames.push(Frame::Message(message));
                }
                Err(why) => bad = Some(why),
            }
        }
        if let Some(why) = bad {
            self.not_messages(text, &why, &answered);
        }
    }

    /// JSON, but no message: it may still answer one of ours.
    fn not_messages(&mut self, text: &str, why: &NotAMessage, answered: &[RequestId]) {
        let mut ids = IdScanner::scan(text.as_bytes());
        ids.answers.retain(|id| !answered.contains(id));
        // A request whose method is no text has an id and may wait.
        if ids.answers.is_empty() && (ids.requests.is_empty() || !answered.is_empty()) {
            return self.skip("not a JSON-RPC message", text);
        }
        self.unreadable(text, ids, why.reason.clone());
    }

    fn not_json(&mut self, text: &str, mended: bool, error: &serde_json::Error) {
        let ids = IdScanner::scan(text.as_bytes());
        if ids.is_empty() {
            let reason = if mended { "not UTF-8" } else { "not JSON" };
            return self.skip(reason, text);
        }
        let reason = match number_that_is_none(text, error) {
            Some(name) => format!("{name} is no JSON value (column {})", error.column()),
            None => error.to_string(),
        };
        self.unreadable(text, ids, reason);
    }

    fn unreadable(&mut self, text: &str, ids: Ids, reason: String) {
        self.skip("JSON-RPC that cannot be read", text);
        self.frames.push(Frame::Unreadable { ids, reason });
    }

    fn show(&self, direction: Direction, text: &str) {
        if let Some(wire) = &self.wire {
            if direction == Direction::Received {
                wire.monitor.count_received();
            }
            wire.show(direction, text);
        }
    }
}

/// What Python writes and JSON does not know, where the parser stopped.
fn number_that_is_none(text: &str, error: &serde_json::Error) -> Option<&'static str> {
    // The parser stops at the first character, or behind it.
    let at = error.column().saturating_sub(2);
    let near = text.as_bytes().get(at..)?;
    let near = &near[..near.len().min(12)];
    ["NaN", "Infinity"]
        .into_iter()
        .find(|name| memchr::memmem::find(near, name.as_bytes()).is_some_and(|found| found < 3))
}

#[cfg(test)]
mod tests {
    use mcpool_core::Notification;
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Vec<Frame> {
        let mut frames = Frames::new();
        frames.read(bytes);
        frames.frames
    }

    fn answers(frames: &[Frame]) -> Vec<u64> {
        let id = |frame: &Frame| match frame {
            Frame::Message(Message::Response {
                id: ResponseId::Ours(id),
                ..
            }) => Some(id.get()),
            _ => None,
        };
        frames.iter().filter_map(id).collect()
    }

    fn failed(frames: &[Frame]) -> Option<(Vec<u64>, String)> {
        frames.iter().find_map(|frame| match frame {
            Frame::Unreadable { ids, reason } => Some((
                ids.answers.iter().map(|id| id.get()).collect(),
                reason.clone(),
            )),
            _ => None,
        })
    }

    #[test]
    fn blank_lines_and_marks_are_nothing() {
        assert!(read(b" \r\n").is_empty());
        assert_eq!(
            answers(&read(b"\xEF\xBB\xBF {\"id\":1,\"result\":{}}\r")),
            [1]
        );
    }

    #[test]
    fn noise_is_skipped_and_named() {
        for (line, why) in [
            (&b"Server listening on stdio"[..], "not JSON"),
            (b"\xff\xfe rubbish", "not UTF-8"),
            (b"{\"level\":\"info\",\"id\":4}", "not a JSON-RPC message"),
            (b"{\"jsonrpc\":\"2.0\"", "not JSON"),
            (b"[1,2]", "not a JSON-RPC message"),
            (b"[]", "an empty batch"),
            (b"[INFO] ready", "not JSON"),
            (b"42", "not a JSON-RPC message"),
            (b"{", "not JSON"),
        ] {
            let frames = read(line);
            let skipped = frames.iter().find_map(|frame| match frame {
                Frame::Skipped { reason, .. } => Some(*reason),
                _ => None,
            });
            assert_eq!(skipped, Some(why), "{frames:?}");
            assert!(failed(&frames).is_none(), "{frames:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_fails_the_request_that_it_answers() {
        for (line, word) in [
            (r#"{"jsonrpc":"2.0","id":7,"result":{"mean":NaN}}"#, "NaN"),
            (
                r#"{"jsonrpc":"2.0","id":7,"result":{"mean":-Infinity}}"#,
                "Infinity",
            ),
            (
                "{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":\"a\tb\"}",
                "control character",
            ),
            (r#"{"jsonrpc":"2.0","result":{"a":1"#, ""),
            (r#"{"jsonrpc":"2.0","id":7,"result":{"a":1"#, "EOF"),
            (r#"{"jsonrpc":"2.0","id":7}"#, "neither"),
        ] {
            let failed = failed(&read(line.as_bytes()));
            if word.is_empty() {
                assert_eq!(failed, None, "{line}");
                continue;
            }
            let (ids, reason) = failed.unwrap();
            assert_eq!(ids, [7], "{line}");
            assert!(reason.contains(word), "{line}: {reason}");
        }
    }

    #[test]
    fn what_the_end_cut_off_fails_nothing_by_itself() {
        let mut frames = Frames::new();
        frames.read(br#"{"jsonrpc":"2.0","id":7,"result":{"a":NaN}}"#);
        frames.read_rest(br#"{"jsonrpc":"2.0","id":8,"result":{"a":1"#);
        assert_eq!(failed(&frames.frames).unwrap().0, [7]);
        assert_eq!(frames.frames.len(), 3);
        frames.read_rest(br#"{"jsonrpc":"2.0","id":9,"result":1}"#);
        assert_eq!(answers(&frames.frames), [9]);
    }

    #[test]
    fn what_can_be_mended_is() {
        let frames = read(b"{\"id\":7,\"result\":{\"text\":\"\xc7\xd1\",\"half\":\"\\ud83d\"}}");
        let [
            Frame::Message(Message::Response { outcome, .. }),
            Frame::Odd(_),
        ] = &frames[..]
        else {
            panic!("{frames:?}");
        };
        let raw = outcome.as_ref().unwrap();
        assert_eq!(
            raw.get(),
            "{\"text\":\"\u{fffd}\u{fffd}\",\"half\":\"\\ud83d\"}"
        );
    }

    #[test]
    fn a_batch_gives_its_messages_in_order_and_fails_what_it_spoils() {
        let frames = read(
            br#"[{"id":1,"result":1},{"nonsense":1},{"jsonrpc":"2.0","id":3},{"id":2,"result":2},{"method":"n"}]"#,
        );
        assert_eq!(answers(&frames), [1, 2]);
        assert_eq!(failed(&frames).unwrap().0, [3]);
        let note = Message::Notification(Notification::new("n", None));
        let is_note = |frame: &Frame| matches!(frame, Frame::Message(message) if *message == note);
        assert!(frames.iter().any(is_note));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_skipped(bytes in proptest::collection::vec(any::<u8>(), 1..80)) {
            let frames = read(&bytes);
            prop_assert!(!frames.is_empty() || bytes.trim_ascii().is_empty()
                || bytes.starts_with(b"\xEF\xBB\xBF"));
        }
    }
}
