//! Cutting an event stream into lines, under a size cap and an idle time-out.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt, stream::BoxStream};
use mcpool_core::{Error, ErrorKind, Result};
use reqwest::Response;
use tokio::time::{Instant, Sleep};

use crate::read_error;

/// The lines of a `text/event-stream` body, to be given to an event parser.
///
/// Each item is one line with its `\n`. The stream is made safe for any parser behind it:
///
/// - an event of more than the limit ends the stream with [`ErrorKind::TooLarge`], before the
///   parser holds it;
/// - every byte counts as a sign of life, comments too; a silence of more than the idle time-out
///   ends the stream with [`ErrorKind::Timeout`];
/// - comments, unknown fields and repeated `event`, `id` and `retry` fields are left out, line
///   ends are made alike, and bytes that are not UTF-8 are replaced: the HTML standard
///   (section 9.2.6) ignores what some parsers take for an error;
/// - each byte is looked at once: a parser that starts anew with every chunk of a long line needs
///   quadratic time.
pub struct EventLines {
    body: BoxStream<'static, Result<Bytes>>,
    cutter: LineCutter,
    ready: VecDeque<Bytes>,
    idle: Option<(Duration, Pin<Box<Sleep>>)>,
    ended: bool,
}

impl EventLines {
    /// The lines of this answer's body.
    ///
    /// `limit` is in bytes an event; `idle` is the longest silence, `None` is for ever.
    #[must_use]
    pub fn new(response: Response, limit: usize, idle: Option<Duration>) -> Self {
        let body = response
            .bytes_stream()
            .map(|chunk| chunk.map_err(read_error))
            .boxed();
        Self::from_stream(body, limit, idle)
    }

    fn from_stream(
        body: BoxStream<'static, Result<Bytes>>,
        limit: usize,
        idle: Option<Duration>,
    ) -> Self {
        Self {
            body,
            cutter: LineCutter::new(limit),
            ready: VecDeque::new(),
            idle: idle.map(|idle| (idle, Box::pin(tokio::time::sleep(idle)))),
            ended: false,
        }
    }
}

impl Stream for EventLines {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(line) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(line)));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            match this.body.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(chunk))) => {
                    if let Some((idle, timer)) = &mut this.idle {
                        timer.as_mut().reset(Instant::now() + *idle);
                    }
                    if let Err(error) = this.cutter.cut(&chunk, &mut this.ready) {
                        this.ended = true;
                        this.ready.clear();
                        return Poll::Ready(Some(Err(error)));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    this.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(None) => this.ended = true,
                Poll::Pending => {
                    let Some((idle, timer)) = &mut this.idle else {
                        return Poll::Pending;
                    };
                    if timer.poll_unpin(cx).is_pending() {
                        return Poll::Pending;
                    }
                    this.ended = true;
                    return Poll::Ready(Some(Err(Error::new(
                        ErrorKind::Timeout,
                        format!("the event stream was silent for {idle:?} (read_idle_timeout)"),
                    ))));
                }
            }
        }
    }
}

/// Cuts chunks into lines; holds what is left of an unfinished one.
struct LineCutter {
    limit: usize,
    partial: Vec<u8>,
    /// The bytes of the finished lines of the current event.
    event_bytes: usize,
    /// Which of the fields that may stand once have been seen in the current event.
    seen: [bool; 3],
    after_cr: bool,
    at_start: bool,
}

impl LineCutter {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            partial: Vec::new(),
            event_bytes: 0,
            seen: [false; 3],
            after_cr: false,
            at_start: true,
        }
    }

    fn cut(&mut self, chunk: &Bytes, out: &mut VecDeque<Bytes>) -> Result<()> {
        let mut at = 0;
        if self.after_cr && chunk.first() == Some(&b'\n') {
            at = 1;
        }
        if !chunk.is_empty() {
            self.after_cr = false;
        }
        while let Some(length) = memchr::memchr2(b'\n', b'\r', &chunk[at..]) {
            let end = at + length;
            self.check(length)?;
            if self.partial.is_empty() {
                // The common case copies nothing: the line and its `\n` are in this chunk.
                let with_end = (chunk[end] == b'\n').then(|| chunk.slice(at..=end));
                self.line(&chunk[at..end], with_end, out);
            } else {
                self.partial.extend_from_slice(&chunk[at..end]);
                let mut line = std::mem::take(&mut self.partial);
                line.push(b'\n');
                let line = Bytes::from(line);
                self.line(&line[..line.len() - 1], Some(line.clone()), out);
            }
            at = end + 1;
            if chunk[end] == b'\r' {
                match chunk.get(at) {
                    Some(b'\n') => at += 1,
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
        }
        self.check(chunk.len() - at)?;
        self.partial.extend_from_slice(&chunk[at..]);
        Ok(())
    }

    fn check(&self, more: usize) -> Result<()> {
        if self.event_bytes + self.partial.len() + more <= self.limit {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::TooLarge,
            format!(
                "an event of the server is larger than {} bytes (limits.max_message_bytes)",
                self.limit
            ),
        ))
    }

    /// Takes one finished line; `with_end` is the same line with its `\n`, if it is at hand.
    fn line(&mut self, line: &[u8], with_end: Option<Bytes>, out: &mut VecDeque<Bytes>) {
        let (line, with_end) = match line.strip_prefix(b"\xEF\xBB\xBF") {
            Some(rest) if self.at_start => (rest, None),
            _ => (line, with_end),
        };
        self.at_start = false;
        if line.is_empty() {
            self.event_bytes = 0;
            self.seen = [false; 3];
            out.push_back(Bytes::from_static(b"\n"));
            return;
        }
        let colon = memchr::memchr(b':', line);
        let (field, value) = match colon {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => (line, &line[line.len()..]),
        };
        let keep = match field {
            b"data" => true,
            b"event" => !std::mem::replace(&mut self.seen[0], true),
            b"id" => !value.contains(&0) && !std::mem::replace(&mut self.seen[1], true),
            b"retry" => {
                let digits = value.trim_ascii();
                // More digits than these overflow the parser.
                let valid =
                    (1..=18).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
                valid && !std::mem::replace(&mut self.seen[2], true)
            }
            _ => false,
        };
        if !keep {
            return;
        }
        self.event_bytes += line.len() + 1;
        out.push_back(match (std::str::from_utf8(line), colon, with_end) {
            (Ok(_), Some(_), Some(with_end)) => with_end,
            (text, colon, _) => {
                let mut text = match text {
                    Ok(text) => text.to_owned(),
                    Err(_) => String::from_utf8_lossy(line).into_owned(),
                };
                if colon.is_none() {
                    text.push(':');
                }
                text.push('\n');
                Bytes::from(text)
            }
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn cut(chunks: &[&[u8]], limit: usize) -> Result<String> {
        let mut cutter = LineCutter::new(limit);
        let mut out = VecDeque::new();
        for chunk in chunks {
            cutter.cut(&Bytes::copy_from_slice(chunk), &mut out)?;
        }
        let all: Vec<u8> = out.iter().flatten().copied().collect();
        Ok(String::from_utf8(all).unwrap())
    }

    #[test]
    fn lines_come_out_alike_wherever_the_chunks_end() {
        let text = "\u{feff}event: message\r\nid: 1\rdata: {\"a\":\"ü\"}\n: comment\n\ndata\nwhat\n\
                    foo: bar\r\n\r\ndata: x\r\r";
        let want = "event: message\nid: 1\ndata: {\"a\":\"ü\"}\n\ndata:\n\ndata: x\n\n";
        let bytes = text.as_bytes();
        assert_eq!(cut(&[bytes], 1000).unwrap(), want);
        for at in 0..bytes.len() {
            assert_eq!(
                cut(&[&bytes[..at], &bytes[at..]], 1000).unwrap(),
                want,
                "{at}"
            );
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(cut(&single, 1000).unwrap(), want);
    }

    #[test]
    fn what_parsers_choke_on_is_left_out() {
        let text = b"id: 1\nid: 2\nevent: a\nevent: b\nretry: soon\nretry: 5\nretry: 6\n\
                     data: \xff\n\nid: 3\nid: \0\n\n";
        let want = "id: 1\nevent: a\nretry: 5\ndata: \u{fffd}\n\nid: 3\n\n";
        assert_eq!(cut(&[text], 1000).unwrap(), want);
    }

    #[test]
    fn the_limit_counts_one_event_and_no_comments() {
        let event = b"data: 12345\n\n";
        assert!(cut(&[event, event, event, b": aaaaaaaaaa\n", event], 12).is_ok());
        for chunks in [
            &[b"data: 1234567\n".as_slice()][..],
            &[b"data: ", b"1234567"],
            &[b"data: 1234\ndata: 5\n"],
        ] {
            let error = cut(chunks, 12).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TooLarge);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn comments_are_life_and_silence_is_not() {
        let beats = futures::stream::unfold(0, |n| async move {
            let pause = if n < 5 { 20 } else { 600 };
            tokio::time::sleep(Duration::from_secs(pause)).await;
            Some((Ok(Bytes::from_static(b": beat\n")), n + 1))
        });
        let started = Instant::now();
        let mut lines = EventLines::from_stream(beats.boxed(), 100, Some(Duration::from_secs(30)));
        let error = lines.next().await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert_eq!(started.elapsed(), Duration::from_secs(5 * 20 + 30));
        assert!(lines.next().await.is_none());
    }
}
