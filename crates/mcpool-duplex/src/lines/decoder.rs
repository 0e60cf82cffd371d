//! Cuts a stream of bytes into lines. No I/O, no clock.

use crate::{frame::Frames, scan::IdScanner};

/// How much is read at once at first; it grows while a message fills it.
const SMALL_READ: usize = 8 * 1024;
/// A pipe holds this much on Linux, so a larger read gains nothing.
const LARGE_READ: usize = 64 * 1024;
/// A line that is this many times over the limit, and has not said its id, is given up.
const PATIENCE: usize = 16;

/// A line over the limit in which no id was found: whose answer it is cannot be known.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lost;

/// Holds the beginning of a line until its end comes.
pub(crate) struct Decoder {
    /// An unfinished line, and while [`space`](Self::space) is used what follows it.
    buffer: Vec<u8>,
    /// Where the line begins, and up to where it is known to hold no line end.
    start: usize,
    scanned: usize,
    limit: usize,
    oversized: Option<Oversized>,
}

impl Decoder {
    /// A decoder of lines of at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            scanned: 0,
            limit,
            oversized: None,
        }
    }

    /// Whether no line has begun: then bytes are best [fed](Self::feed) from elsewhere.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Whether a large buffer is kept for the next large line.
    pub(crate) fn keeps_room(&self) -> bool {
        self.buffer.is_empty() && self.buffer.capacity() > 0
    }

    /// Gives back what is kept.
    pub(crate) fn release(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = Vec::new();
        }
    }

    /// Room for the next bytes, behind those of the line that has begun.
    pub(crate) fn space(&mut self) -> &mut Vec<u8> {
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

    /// Takes bytes while no line has begun.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], frames: &mut Frames) -> Result<(), Lost> {
        while self.oversized.is_none() {
            let Some(end) = memchr::memchr(b'\n', bytes) else {
                break;
            };
            if end > self.limit {
                break;
            }
            frames.read(&bytes[..end]);
            bytes = &bytes[end + 1..];
        }
        self.buffer.extend_from_slice(bytes);
        self.cut(frames)
    }

    /// Cuts the lines out that have come into [`space`](Self::space).
    pub(crate) fn cut(&mut self, frames: &mut Frames) -> Result<(), Lost> {
        loop {
            if self.oversized.is_some() {
                if !self.cut_oversized(frames)? {
                    return Ok(());
                }
                continue;
            }
            let end = memchr::memchr(b'\n', &self.buffer[self.scanned..]);
            let end_at = end.map_or(self.buffer.len(), |at| self.scanned + at);
            if end_at - self.start > self.limit {
                self.oversized = Some(Oversized::new(self.limit));
                continue;
            }
            if end.is_none() {
                self.scanned = end_at;
                self.settle();
                return Ok(());
            }
            frames.read(&self.buffer[self.start..end_at]);
            self.begin_line(end_at + 1);
        }
    }

    /// No more bytes will come: what is left counts as a line if it is whole.
    pub(crate) fn finish(&mut self, frames: &mut Frames) -> Result<(), Lost> {
        let buffer = std::mem::take(&mut self.buffer);
        let line = &buffer[std::mem::take(&mut self.start)..];
        self.scanned = 0;
        match self.oversized.take() {
            Some(mut oversized) => oversized.end(frames),
            None => {
                frames.read_rest(line);
                Ok(())
            }
        }
    }

    /// Goes on with a line over the limit; gives whether its end was found.
    fn cut_oversized(&mut self, frames: &mut Frames) -> Result<bool, Lost> {
        let Some(oversized) = &mut self.oversized else {
            return Ok(true);
        };
        let rest = &self.buffer[self.start..];
        let Some(end) = memchr::memchr(b'\n', rest) else {
            oversized.feed(rest);
            self.buffer = Vec::new();
            (self.start, self.scanned) = (0, 0);
            oversized.report(frames)?;
            return Ok(false);
        };
        oversized.feed(&rest[..end]);
        let ended = oversized.end(frames);
        self.oversized = None;
        self.begin_line(self.start + end + 1);
        ended.map(|()| true)
    }

    fn begin_line(&mut self, at: usize) {
        self.start = at;
        self.scanned = at;
    }

    /// Moves the line that has begun to the front. A small buffer is given back when there is
    /// none; a large one is [kept](Self::keeps_room).
    fn settle(&mut self) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.scanned -= self.start;
            self.start = 0;
        }
        if self.buffer.is_empty() && self.buffer.capacity() <= SMALL_READ {
            self.buffer = Vec::new();
        }
    }
}

/// One line over the limit.
struct Oversized {
    scanner: IdScanner,
    limit: usize,
    seen: usize,
    reported: bool,
}

impl Oversized {
    fn new(limit: usize) -> Self {
        Self {
            scanner: IdScanner::new(),
            limit,
            seen: 0,
            reported: false,
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.seen = self.seen.saturating_add(bytes.len());
        self.scanner.feed(bytes);
    }

    /// Reports the ids that became known.
    fn report(&mut self, frames: &mut Frames) -> Result<(), Lost> {
        let ids = self.scanner.take();
        if !ids.is_empty() {
            self.reported = true;
            frames.oversized(ids, self.limit);
        }
        if self.reported || self.seen <= self.limit.saturating_mul(PATIENCE) {
            Ok(())
        } else {
            Err(Lost)
        }
    }

    fn end(&mut self, frames: &mut Frames) -> Result<(), Lost> {
        self.scanner.finish();
        let ids = self.scanner.take();
        if !ids.is_empty() {
            frames.oversized(ids, self.limit);
        } else if !self.reported {
            if !self.scanner.nobody_waits() {
                return Err(Lost);
            }
            frames.skip("over the size limit", "");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use mcpool_core::{Message, ResponseId};
    use proptest::prelude::*;

    use super::*;
    use crate::frame::Frame;

    fn decode(limit: usize, bytes: &[u8]) -> (Vec<Frame>, Result<(), Lost>) {
        let mut decoder = Decoder::new(limit);
        let mut frames = Frames::new();
        let result = decoder
            .feed(bytes, &mut frames)
            .and_then(|()| decoder.finish(&mut frames));
        (frames.drain().collect(), result)
    }

    fn answer(id: u64) -> Vec<u8> {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#).into_bytes()
    }

    fn answers(frames: &[Frame]) -> Vec<u64> {
        frames
            .iter()
            .filter_map(|frame| match frame {
                Frame::Message(Message::Response {
                    id: ResponseId::Ours(id),
                    ..
                }) => Some(id.get()),
                _ => None,
            })
            .collect()
    }

    /// The answers of ours in frames over the limit.
    fn failed(frames: &[Frame]) -> Vec<u64> {
        frames
            .iter()
            .flat_map(|frame| match frame {
                Frame::Oversized { ids, .. } => ids.answers.clone(),
                _ => Vec::new(),
            })
            .map(|id| id.get())
            .collect()
    }

    fn padded(pattern: &str, padding: usize) -> String {
        pattern.replace("PAD", &"x\\\"{[,:".repeat(padding / 7 + 1))
    }

    #[test]
    fn line_ends_blank_lines_and_a_line_without_an_end() {
        let mut bytes = b"\xEF\xBB\xBF".to_vec();
        bytes.extend(answer(1));
        bytes.extend(b"\r\n\n\r\n  \n");
        bytes.extend(answer(2));
        let (frames, result) = decode(1024, &bytes);
        assert_eq!((answers(&frames), frames.len()), (vec![1, 2], 2));
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn a_line_over_the_limit_fails_its_request_and_no_other() {
        for line in [
            r#"{"jsonrpc":"2.0","id":7,"result":{"t":"PAD"}}"#,
            r#"{"result":{"id":3,"t":"PAD"},"jsonrpc":"2.0","id":7}"#,
        ] {
            let mut bytes = padded(line, 300).into_bytes();
            bytes.push(b'\n');
            bytes.extend(answer(99));
            let (frames, result) = decode(100, &bytes);
            assert_eq!(failed(&frames), [7], "{line}");
            assert_eq!(answers(&frames), [99], "the next line is untouched: {line}");
            assert_eq!(result, Ok(()));
        }
    }

    #[test]
    fn a_line_over_the_limit_for_which_nobody_waits_is_skipped() {
        let line = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"t":"PAD"}}"#;
        let (frames, result) = decode(100, padded(line, 300).as_bytes());
        assert!(matches!(frames[..], [Frame::Skipped { .. }]), "{frames:?}");
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn a_line_over_the_limit_without_an_id_is_lost() {
        for line in [r#"{"jsonrpc":"2.0","id":null,"result":"PAD"}"#, "noise PAD"] {
            assert_eq!(
                decode(100, padded(line, 300).as_bytes()).1,
                Err(Lost),
                "{line}"
            );
        }
    }

    #[test]
    fn a_long_answer_fails_before_its_line_ends() {
        let mut decoder = Decoder::new(100);
        let mut frames = Frames::new();
        let line = padded(r#"{"jsonrpc":"2.0","id":7,"result":"PAD"#, 300);
        decoder.feed(line.as_bytes(), &mut frames).unwrap();
        assert_eq!(failed(&frames.drain().collect::<Vec<_>>()), [7]);
        decoder.feed(b"more\"}\n", &mut frames).unwrap();
        decoder.feed(&answer(8), &mut frames).unwrap();
        decoder.finish(&mut frames).unwrap();
        let frames: Vec<_> = frames.drain().collect();
        assert_eq!(failed(&frames), [] as [u64; 0], "it is not reported twice");
        assert_eq!(answers(&frames), [8]);
    }

    #[test]
    fn a_line_without_end_and_id_is_given_up() {
        let mut decoder = Decoder::new(100);
        let mut frames = Frames::new();
        let lost = (0..100).find(|_| {
            let fed = decoder.feed(&[b'x'; 100], &mut frames);
            assert!(decoder.buffer.capacity() <= 4_096);
            fed.is_err()
        });
        assert_eq!(lost, Some(16));
    }

    #[test]
    fn a_line_of_exactly_the_limit_passes() {
        let line = answer(1);
        assert_eq!(answers(&decode(line.len(), &line).0), [1]);
        assert_eq!(answers(&decode(line.len() - 1, &line).0), [] as [u64; 0]);
    }

    #[test]
    fn a_large_buffer_is_kept_until_it_is_released() {
        let mut decoder = Decoder::new(64 << 20);
        let mut frames = Frames::new();
        let long = format!(r#"{{"id":1,"result":"{}"}}"#, "x".repeat(2 << 20));
        decoder.space().extend_from_slice(long.as_bytes());
        decoder.cut(&mut frames).unwrap();
        decoder.space().extend_from_slice(b"\n{\"id\":2");
        decoder.cut(&mut frames).unwrap();
        assert!(!decoder.keeps_room(), "a line has begun");
        decoder.space().extend_from_slice(b",\"result\":2}\n");
        decoder.cut(&mut frames).unwrap();
        assert!(decoder.keeps_room());
        decoder.release();
        assert_eq!(decoder.buffer.capacity(), 0);
        decoder.space().extend_from_slice(b"\n");
        decoder.cut(&mut frames).unwrap();
        assert_eq!(decoder.buffer.capacity(), 0, "a small one is not kept");
        assert_eq!(answers(&frames.drain().collect::<Vec<_>>()), [1, 2]);
    }

    /// A batch over the limit may be reported in one frame or in several, as it comes in.
    fn merge(frames: Vec<Frame>) -> Vec<Frame> {
        let mut merged: Vec<Frame> = Vec::new();
        for frame in frames {
            match (merged.last_mut(), frame) {
                (Some(Frame::Oversized { ids, .. }), Frame::Oversized { ids: more, .. }) => {
                    ids.answers.extend(more.answers);
                    ids.requests.extend(more.requests);
                }
                (_, frame) => merged.push(frame),
            }
        }
        merged
    }

    proptest! {
        /// However the stream is cut, and whichever way it comes in, the same frames come out.
        #[test]
        fn cuts_change_nothing(
            lines in proptest::collection::vec(
                prop_oneof![
                    (0..1000_u64).prop_map(answer),
                    "[a-z{}\\[\\]\",:]{0,40}".prop_map(String::into_bytes),
                    (0..50_usize).prop_map(|n| padded(
                        r#"{"result":{"t":"PAD"},"id":4}"#, 200 + n).into_bytes()),
                    proptest::collection::vec(any::<u8>(), 0..60),
                ],
                0..12,
            ),
            cuts in proptest::collection::vec(1..50_usize, 1..40),
            through_space in any::<bool>(),
        ) {
            let stream = lines.join(&b'\n');
            let (whole, result) = decode(120, &stream);
            let mut decoder = Decoder::new(120);
            let mut frames = Frames::new();
            let mut rest = &stream[..];
            let mut cut_result = Ok(());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() || cut_result.is_err() { break; }
                let (head, tail) = rest.split_at((*cut).min(rest.len()));
                cut_result = if through_space || !decoder.is_empty() {
                    decoder.space().extend_from_slice(head);
                    decoder.cut(&mut frames)
                } else {
                    decoder.feed(head, &mut frames)
                };
                rest = tail;
            }
            cut_result = cut_result.and_then(|()| decoder.finish(&mut frames));
            let (read, whole) = (merge(frames.drain().collect()), merge(whole));
            prop_assert_eq!(format!("{read:?}"), format!("{whole:?}"));
            prop_assert_eq!(cut_result, result);
        }
    }
}
