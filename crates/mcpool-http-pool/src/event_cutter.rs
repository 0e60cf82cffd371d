//! Cutting the bytes of an event stream into whole events, under a size cap. Pure.
//!
//! Events are distinguished by their empty lines (HTML standard, section 9.2.5), wherever the chunks
//! of a body end. Each byte is looked at once, and no more than one event is held.

use std::collections::VecDeque;

use bytes::Bytes;

/// The longest name of a field that matters, with its colon and space: `data: `.
const PREFIX: &[u8] = b"data: ";

/// What a cut gives.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The lines of one event, each with its `\n`, without comments, and the empty line; and
    /// whether one of them is an id.
    Event(Vec<u8>, bool),
    /// A piece of the data of an event over the limit.
    Oversized(Bytes),
    /// The end of an event over the limit.
    OversizedEnd,
}

/// Cuts chunks into events.
pub(crate) struct EventCutter {
    limit: usize,
    /// The lines of the current event.
    event: Vec<u8>,
    /// Where the unfinished line begins.
    line: usize,
    fields: Fields,
    /// What of the current line is passed on, in an event over the limit.
    oversized: Option<Passing>,
    after_cr: bool,
    at_start: bool,
}

/// Which fields the current event has.
#[derive(Default)]
struct Fields {
    data: bool,
    id: bool,
    retry: bool,
}

/// Where in a line of an oversized event the scan is.
enum Passing {
    /// At its beginning, of which so many bytes have been like `data: `.
    Prefix(usize),
    /// In its data.
    Data,
    /// In another field, or a comment.
    Other,
}

impl EventCutter {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            event: Vec::new(),
            line: 0,
            fields: Fields::default(),
            oversized: None,
            after_cr: false,
            at_start: true,
        }
    }

    /// Takes the next bytes.
    pub(crate) fn cut(&mut self, chunk: &Bytes, out: &mut VecDeque<Cut>) {
        let mut at = 0;
        if self.after_cr && chunk.first() == Some(&b'\n') {
            at = 1;
        }
        if !chunk.is_empty() {
            self.after_cr = false;
        }
        while let Some(length) = memchr::memchr2(b'\n', b'\r', &chunk[at..]) {
            let end = at + length;
            self.part(chunk.slice(at..end), out);
            self.line_end(out);
            at = end + 1;
            if chunk[end] == b'\r' {
                match chunk.get(at) {
                    Some(b'\n') => at += 1,
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
        }
        self.part(chunk.slice(at..), out);
    }

    /// The body came to its regular end: some servers leave out the last empty line.
    pub(crate) fn finish(&mut self, out: &mut VecDeque<Cut>) {
        if self.oversized.is_some() || self.line < self.event.len() {
            self.line_end(out);
        }
        if self.oversized.is_some() || !self.event.is_empty() {
            self.event_end(out);
        }
    }

    /// Bytes of the current line.
    fn part(&mut self, part: Bytes, out: &mut VecDeque<Cut>) {
        if part.is_empty() {
            return;
        }
        if self.oversized.is_some() {
            self.pass(part, out);
            return;
        }
        let is_comment = self.event.get(self.line).unwrap_or(&part[0]) == &b':';
        if is_comment {
            // A byte is kept, so that the line does not look empty.
            self.event.truncate(self.line);
            self.event.push(b':');
            return;
        }
        self.event.extend_from_slice(&part);
        if self.event.len() > self.limit {
            self.begin_oversized(out);
        }
    }

    fn line_end(&mut self, out: &mut VecDeque<Cut>) {
        if let Some(passing) = &mut self.oversized {
            match std::mem::replace(passing, Passing::Prefix(0)) {
                Passing::Prefix(0) => self.event_end(out),
                // The name alone, or with a colon, is a line of empty data.
                Passing::Data | Passing::Prefix(4..) => pass_on(Bytes::from_static(b"\n"), out),
                Passing::Prefix(_) | Passing::Other => {}
            }
            return;
        }
        if std::mem::take(&mut self.at_start) && self.event.starts_with(b"\xEF\xBB\xBF") {
            self.event.drain(..3);
        }
        let line = &self.event[self.line..];
        if line.is_empty() {
            return self.event_end(out);
        }
        let colon = memchr::memchr(b':', line).unwrap_or(line.len());
        match &line[..colon] {
            b"data" => self.fields.data = true,
            b"id" => self.fields.id = true,
            b"retry" => self.fields.retry = true,
            b"event" => {}
            // A comment, or a field that means nothing.
            _ => return self.event.truncate(self.line),
        }
        self.event.push(b'\n');
        self.line = self.event.len();
    }

    fn event_end(&mut self, out: &mut VecDeque<Cut>) {
        let fields = std::mem::take(&mut self.fields);
        if self.oversized.take().is_some() {
            out.push_back(Cut::OversizedEnd);
            return;
        }
        let mut event = std::mem::take(&mut self.event);
        self.line = 0;
        if event.is_empty() {
            return;
        }
        if (fields.id || fields.retry) && !fields.data {
            // Parsers drop an event without data (HTML standard, section 9.2.6), and with it the
            // pause that MCP 2025-11-25 wants kept.
            event.extend_from_slice(b"data:\n");
        }
        event.push(b'\n');
        out.push_back(Cut::Event(event, fields.id));
    }

    /// The current event is over the limit: its data is passed on from now on, and not kept.
    fn begin_oversized(&mut self, out: &mut VecDeque<Cut>) {
        self.oversized = Some(Passing::Prefix(0));
        let mut finished = Bytes::from(std::mem::take(&mut self.event));
        let unfinished = finished.split_off(std::mem::take(&mut self.line));
        // One piece of all lines: there may be millions, and a piece takes more room than a short one.
        let lines = finished.split_inclusive(|byte| *byte == b'\n');
        let data: Vec<u8> = lines.filter_map(data_of).flatten().copied().collect();
        pass_on(Bytes::from(data), out);
        self.pass(unfinished, out);
    }

    fn pass(&mut self, mut part: Bytes, out: &mut VecDeque<Cut>) {
        let Some(passing) = &mut self.oversized else {
            return;
        };
        while let (Passing::Prefix(like), Some(&byte)) = (&mut *passing, part.first()) {
            if PREFIX.get(*like) == Some(&byte) {
                *like += 1;
                part = part.slice(1..);
                if *like == PREFIX.len() {
                    *passing = Passing::Data;
                }
            } else if *like == PREFIX.len() - 1 {
                // `data:` without a space.
                *passing = Passing::Data;
            } else {
                *passing = Passing::Other;
            }
        }
        if matches!(passing, Passing::Data) {
            pass_on(part, out);
        }
    }
}

/// The data of a line of an event, with its line end.
fn data_of(line: &[u8]) -> Option<&[u8]> {
    let rest = line.strip_prefix(b"data")?;
    let rest = rest.strip_prefix(b":").unwrap_or(rest);
    Some(rest.strip_prefix(b" ").unwrap_or(rest))
}

fn pass_on(part: Bytes, out: &mut VecDeque<Cut>) {
    if !part.is_empty() {
        out.push_back(Cut::Oversized(part));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(chunks: &[&[u8]], limit: usize) -> Vec<Cut> {
        let mut cutter = EventCutter::new(limit);
        let mut out = VecDeque::new();
        for chunk in chunks {
            cutter.cut(&Bytes::copy_from_slice(chunk), &mut out);
        }
        cutter.finish(&mut out);
        out.into()
    }

    fn events(cuts: Vec<Cut>) -> String {
        let all = cuts.into_iter().flat_map(|cut| match cut {
            Cut::Event(event, _) => event,
            other => format!("{other:?}").into_bytes(),
        });
        String::from_utf8(all.collect()).unwrap()
    }

    #[test]
    fn events_come_out_alike_wherever_the_chunks_end() {
        let text = "\u{feff}event: message\r\nid: 1\rdata: {\"a\":\"ü\"}\n: comment\n\n:\n\ndata\nwhat\n\
                    foo: bar\r\n\r\ndata: x\r\rretry: 5\n\ndata: last";
        let want = "event: message\nid: 1\ndata: {\"a\":\"ü\"}\n\ndata\n\ndata: x\n\n\
                    retry: 5\ndata:\n\ndata: last\n\n";
        let bytes = text.as_bytes();
        assert_eq!(events(cut(&[bytes], 1000)), want);
        for at in 0..bytes.len() {
            assert_eq!(
                events(cut(&[&bytes[..at], &bytes[at..]], 1000)),
                want,
                "{at}"
            );
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(events(cut(&single, 1000)), want);
    }

    #[test]
    fn comments_are_not_kept_however_long() {
        let mut cutter = EventCutter::new(20);
        let mut out = VecDeque::new();
        cutter.cut(&Bytes::from_static(b"data: 1\n:"), &mut out);
        for _ in 0..1_000 {
            cutter.cut(
                &Bytes::from_static(b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
                &mut out,
            );
            assert!(cutter.event.len() <= b"data: 1\n:".len());
        }
        cutter.cut(&Bytes::from_static(b"\n\n"), &mut out);
        assert_eq!(events(out.into()), "data: 1\n\n");
    }

    /// What is passed on of an oversized event, and what comes after it.
    fn oversized(chunks: &[&[u8]]) -> (String, String) {
        let mut passed = Vec::new();
        let mut rest = Vec::new();
        let mut ends = 0;
        for cut in cut(chunks, 12) {
            match cut {
                Cut::Oversized(piece) => passed.extend_from_slice(&piece),
                Cut::OversizedEnd => ends += 1,
                Cut::Event(event, _) => rest.extend(event),
            }
        }
        assert_eq!(ends, 1);
        (
            String::from_utf8(passed).unwrap(),
            String::from_utf8(rest).unwrap(),
        )
    }

    #[test]
    fn an_event_over_the_limit_is_passed_on_in_pieces_and_the_next_is_whole() {
        for (text, want) in [
            ("data: 123456789\n\n", "123456789\n"),
            ("data:123456789\ndata: b\n\n", "123456789\nb\n"),
            (
                "event: x\ndata: 1\ndata: 2\nid: 7\ndata\ndata: \n\n",
                "1\n2\n\n\n",
            ),
            ("id: 1234567\r\ndate: 4\r\ndata: 123\r\n\r\n", "123\n"),
            ("datum: 123456789123456789\ndata: 1\n\n", "1\n"),
        ] {
            let text = format!("{text}data: next\n\n");
            let bytes = text.as_bytes();
            let (passed, rest) = oversized(&[bytes]);
            assert_eq!((passed.as_str(), rest.as_str()), (want, "data: next\n\n"));
            for at in 0..bytes.len() {
                assert_eq!(oversized(&[&bytes[..at], &bytes[at..]]).0, want, "{at}");
            }
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(oversized(&single).0, want);
        }
    }

    #[test]
    fn many_short_lines_are_one_piece() {
        let text = format!("{}x\n\n", "data\n".repeat(1000));
        let pieces = cut(&[text.as_bytes()], 4990).len();
        // The lines up to the limit, those behind it, and the end.
        assert!(pieces < 10, "{pieces}");
    }

    #[test]
    fn the_limit_is_of_one_event() {
        let event: &[u8] = b"data: 12345\n\n";
        let cuts = cut(&[event, event, b": aaaaaaaaaaaaaa\n", event], 12);
        assert_eq!(cuts.len(), 3);
        assert!(cuts.iter().all(|cut| matches!(cut, Cut::Event(..))));
    }
}
