//! What a server writes to its stderr: kept as a bounded tail, and offered as a stream.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use mcpool_core::{ServerName, StderrLine};
use tokio::sync::broadcast::{self, Receiver, error::RecvError};
use tokio_util::sync::ReusableBoxFuture;

/// A longer line is cut here.
const MAX_LINE_BYTES: usize = 8 * 1024;
/// The tail holds no more text than this, however many lines are allowed.
const MAX_TAIL_BYTES: usize = 256 * 1024;
/// How many lines a slow reader of the stream may be behind.
const STREAM_CAPACITY: usize = 512;

/// One item of a [`StderrStream`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StderrEvent {
    /// A server wrote a line.
    Line {
        /// Which server.
        server: ServerName,
        /// What it wrote.
        line: StderrLine,
    },
    /// The reader was too slow, and this many lines are lost to it.
    Missed(u64),
}

/// The stderr of one server, or of all servers of one connector, line by line as it is written.
///
/// It begins with the subscription: what came before is in the tail. A reader that is more than
/// 512 lines behind loses the oldest and gets their number. Of one server it ends when the
/// server's stderr ends; of a connector, when the connector and all its servers are gone.
/// Dropping it ends the subscription.
#[derive(Debug)]
pub struct StderrStream(ReusableBoxFuture<'static, Received>);

/// The next item, `None` at the end, and where the one after it comes from.
type Received = (Option<StderrEvent>, Receiver<StderrEvent>);

async fn receive(mut lines: Receiver<StderrEvent>) -> Received {
    let event = match lines.recv().await {
        Ok(event) => Some(event),
        Err(RecvError::Lagged(missed)) => Some(StderrEvent::Missed(missed)),
        Err(RecvError::Closed) => None,
    };
    (event, lines)
}

impl StderrStream {
    /// The next line; `None` at the end. Cancel-safe.
    pub async fn next(&mut self) -> Option<StderrEvent> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for StderrStream {
    type Item = StderrEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<StderrEvent>> {
        let (event, lines) = ready!(self.0.poll(cx));
        self.0.set(receive(lines));
        Poll::Ready(event)
    }
}

/// Where lines go out. Nothing is allocated before the first subscription.
#[derive(Debug, Default)]
pub(crate) struct Fanout {
    sender: Option<broadcast::Sender<StderrEvent>>,
    ended: bool,
}

impl Fanout {
    pub(crate) fn subscribe(&mut self) -> StderrStream {
        let receiver = if self.ended {
            // A sender that is dropped at once makes a stream that has ended.
            broadcast::channel(1).1
        } else {
            self.sender
                .get_or_insert_with(|| broadcast::channel(STREAM_CAPACITY).0)
                .subscribe()
        };
        StderrStream(ReusableBoxFuture::new(receive(receiver)))
    }

    pub(crate) fn publish(&self, server: &ServerName, line: &StderrLine) {
        if let Some(sender) = &self.sender
            && sender.receiver_count() > 0
        {
            // It fails only when the last reader has just gone.
            let _ = sender.send(StderrEvent::Line {
                server: server.clone(),
                line: line.clone(),
            });
        }
    }

    pub(crate) fn end(&mut self) {
        self.ended = true;
        self.sender = None;
    }
}

/// The last lines.
#[derive(Debug)]
pub(crate) struct Tail {
    lines: VecDeque<StderrLine>,
    bytes: usize,
    max_lines: usize,
}

impl Tail {
    pub(crate) fn new(max_lines: usize) -> Self {
        Self {
            lines: VecDeque::new(),
            bytes: 0,
            max_lines,
        }
    }

    pub(crate) fn push(&mut self, line: StderrLine) {
        if self.max_lines == 0 {
            return;
        }
        self.bytes += line.text.len();
        self.lines.push_back(line);
        while self.lines.len() > self.max_lines || self.bytes > MAX_TAIL_BYTES {
            match self.lines.pop_front() {
                Some(oldest) => self.bytes -= oldest.text.len(),
                None => break,
            }
        }
    }

    pub(crate) fn lines(&self) -> Vec<StderrLine> {
        self.lines.iter().cloned().collect()
    }
}

/// Cuts stderr into lines. A carriage return ends a line too, as progress bars use it; empty
/// lines are left out.
#[derive(Debug, Default)]
pub(crate) struct LineSplitter {
    partial: Vec<u8>,
    cut: bool,
}

impl LineSplitter {
    /// Gives every whole line in `bytes` to `line`.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut line: impl FnMut(String)) {
        let mut rest = bytes;
        while let Some(end) = memchr::memchr2(b'\n', b'\r', rest) {
            self.keep(&rest[..end]);
            self.finish(&mut line);
            rest = &rest[end + 1..];
        }
        self.keep(rest);
    }

    /// Gives the last line, which had no end.
    pub(crate) fn finish(&mut self, mut line: impl FnMut(String)) {
        if !self.partial.is_empty() {
            let mut text = String::from_utf8_lossy(&self.partial).into_owned();
            if self.cut {
                text.push('…');
            }
            line(text);
        }
        self.partial.clear();
        self.cut = false;
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = MAX_LINE_BYTES - self.partial.len();
        if bytes.len() > room {
            self.cut = true;
        }
        self.partial
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    fn split(chunks: &[&[u8]]) -> Vec<String> {
        let mut lines = Vec::new();
        let mut splitter = LineSplitter::default();
        for chunk in chunks {
            splitter.feed(chunk, |line| lines.push(line));
        }
        splitter.finish(|line| lines.push(line));
        lines
    }

    #[test]
    fn lines_are_cut_at_any_line_end() {
        assert_eq!(
            split(&[b"one\r\ntw", b"o\n\n10%\r20%\r\xff", b"end"]),
            ["one", "two", "10%", "20%", "\u{fffd}end"]
        );
    }

    #[test]
    fn a_long_line_is_cut() {
        let lines = split(&[&[b'x'; MAX_LINE_BYTES], b"yz\nnext\n"]);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].len(), MAX_LINE_BYTES + '…'.len_utf8());
        assert!(!lines[0].contains('y'));
        assert_eq!(lines[1], "next");
    }

    #[test]
    fn the_tail_is_bounded_in_lines_and_bytes() {
        let mut tail = Tail::new(3);
        for n in 0..10 {
            tail.push(StderrLine::now(n.to_string()));
        }
        let texts: Vec<_> = tail.lines().into_iter().map(|line| line.text).collect();
        assert_eq!(texts, ["7", "8", "9"]);

        let mut tail = Tail::new(1000);
        for _ in 0..100 {
            tail.push(StderrLine::now("x".repeat(MAX_LINE_BYTES)));
        }
        let bytes: usize = tail.lines().iter().map(|line| line.text.len()).sum();
        assert!(bytes <= MAX_TAIL_BYTES && bytes > MAX_TAIL_BYTES / 2);

        let mut none = Tail::new(0);
        none.push(StderrLine::now("x"));
        assert!(none.lines().is_empty());
    }

    #[tokio::test]
    async fn a_slow_reader_gets_what_it_missed() {
        let server: ServerName = "s".parse().unwrap();
        let mut fanout = Fanout::default();
        let mut stream = fanout.subscribe();
        for n in 0..STREAM_CAPACITY + 5 {
            fanout.publish(&server, &StderrLine::now(n.to_string()));
        }
        assert_eq!(stream.next().await, Some(StderrEvent::Missed(5)));
        assert!(
            matches!(stream.next().await, Some(StderrEvent::Line { line, .. }) if line.text == "5")
        );
        fanout.end();
        assert_eq!(StreamExt::count(stream).await, STREAM_CAPACITY - 1);
        assert_eq!(fanout.subscribe().next().await, None);
    }
}
