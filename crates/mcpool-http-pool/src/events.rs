//! Reading an event stream: the one parser of mcpool.

use std::{collections::VecDeque, ops::Range, time::Duration};

use bytes::Bytes;
use eventsource_stream::{Event, Eventsource};
use futures::{FutureExt, StreamExt};
use mcpool_core::Result;

use crate::{
    Response,
    body::Body,
    event_cutter::{Cut, EventCutter},
};

/// A line of data of so many bytes goes past the parser.
const LONG_DATA: usize = 4 * 1024;

/// What an event stream brings.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamItem {
    /// An event.
    Event(ServerEvent),
    /// A piece of the data of an event over the size limit, in order: nothing of it is kept.
    Oversized(Bytes),
    /// The end of an event over the size limit.
    OversizedEnd,
}

/// An event of an event stream (HTML standard, section 9.2).
///
/// An event without data that brings an id or a pause is one as well, with empty data: MCP
/// 2025-11-25 resumes after it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerEvent {
    /// Its type; `message` where the server gives none.
    pub kind: String,
    /// Its data; lines are joined with `\n`.
    pub data: String,
    /// The last id that the stream has brought; empty while it has brought none.
    pub id: String,
    /// The pause before a reconnect, where this event brings one.
    pub retry: Option<Duration>,
}

/// The events of a `text/event-stream` body.
///
/// `eventsource-stream` parses them, one whole event at a time. In front of it:
///
/// - an event over the limit is never held: its data comes in pieces, and the stream goes on;
/// - every byte counts as a sign of life, comments too; a silence of more than the idle timeout
///   ends the stream with [`ErrorKind::Timeout`](mcpool_core::ErrorKind::Timeout);
/// - bytes that are not UTF-8 are replaced, as the HTML standard wants, where the parser gives up;
/// - a last event that lacks its empty line counts, if the body came to its regular end.
pub struct Events {
    body: Body,
    cutter: EventCutter,
    ready: VecDeque<Cut>,
    last_id: String,
    ended: bool,
}

impl Events {
    /// The events of this answer's body.
    ///
    /// `limit` is in bytes an event; `idle` is the longest silence, `None` is for ever.
    #[must_use]
    pub fn new(response: Response, limit: usize, idle: Option<Duration>) -> Self {
        Self {
            body: Body::new(response, idle),
            cutter: EventCutter::new(limit),
            ready: VecDeque::new(),
            last_id: String::new(),
            ended: false,
        }
    }

    /// What comes next; `None` after the regular end of the body, and after an error. Cancel-safe.
    ///
    /// # Errors
    /// [`ConnectionLost`](mcpool_core::ErrorKind::ConnectionLost) when the body breaks off,
    /// [`Timeout`](mcpool_core::ErrorKind::Timeout) after a silence.
    pub async fn next(&mut self) -> Option<Result<StreamItem>> {
        loop {
            match self.ready.pop_front() {
                Some(Cut::Event(lines, names_id)) => match self.parse(lines, names_id) {
                    Some(event) => return Some(Ok(StreamItem::Event(event))),
                    None => continue,
                },
                Some(Cut::Oversized(piece)) => return Some(Ok(StreamItem::Oversized(piece))),
                Some(Cut::OversizedEnd) => return Some(Ok(StreamItem::OversizedEnd)),
                None if self.ended => return None,
                None => {}
            }
            match self.body.chunk().await {
                Ok(Some(chunk)) => self.cutter.cut(&chunk, &mut self.ready),
                Ok(None) => {
                    self.ended = true;
                    self.cutter.finish(&mut self.ready);
                }
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
    }

    /// The last id that the stream has brought, if any: what `Last-Event-ID` says.
    #[must_use]
    pub fn last_id(&self) -> Option<&str> {
        (!self.last_id.is_empty()).then_some(&*self.last_id)
    }

    fn parse(&mut self, lines: Vec<u8>, names_id: bool) -> Option<ServerEvent> {
        let event = parse(lines)?;
        if names_id {
            self.last_id.clone_from(&event.id);
        }
        Some(ServerEvent {
            kind: event.event,
            data: event.data,
            id: self.last_id.clone(),
            retry: event.retry,
        })
    }
}

/// Parses the lines of one event.
fn parse(lines: Vec<u8>) -> Option<Event> {
    let mut lines = match String::from_utf8(lines) {
        Ok(lines) => lines,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    };
    let Some(long) = long_data(&lines) else {
        return parse_fields(lines);
    };
    // The parser looks at each character by itself, which takes milliseconds for a megabyte. Such
    // a line is its own data: the parser sees the other fields, and an empty one in its place.
    let mut event = parse_fields([&lines[..long.start], &lines[long.end..]].concat())?;
    lines.truncate(long.end);
    lines.drain(..long.start);
    event.data = lines;
    Some(event)
}

fn parse_fields(lines: String) -> Option<Event> {
    let whole = futures::stream::iter([Ok::<_, std::convert::Infallible>(lines)]);
    // The stream is ready at once, so `now_or_never` gives what there is.
    whole.eventsource().next().now_or_never()??.ok()
}

/// Where the data of an event stands that has one line of data, and a long one (HTML standard,
/// section 9.2.6: a space behind the colon is none of it).
fn long_data(lines: &str) -> Option<Range<usize>> {
    if lines.len() < LONG_DATA {
        return None;
    }
    let mut found = None;
    let mut start = 0;
    for line in lines.split_inclusive('\n') {
        let end = start + line.len() - 1;
        if let Some(data) = line.strip_prefix("data:") {
            let data = data.strip_prefix(' ').unwrap_or(data);
            let begin = start + line.len() - data.len();
            if found.replace(begin..end).is_some() {
                return None;
            }
        } else if line == "data\n" {
            return None;
        }
        start += line.len();
    }
    found.filter(|data| data.len() >= LONG_DATA)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(chunks: Vec<&'static [u8]>) -> Response {
        let chunks = chunks
            .into_iter()
            .map(|chunk| Ok::<_, std::io::Error>(Bytes::from_static(chunk)));
        let body = reqwest::Body::wrap_stream(futures::stream::iter(chunks));
        http::Response::new(body).into()
    }

    async fn read(chunks: Vec<&'static [u8]>, limit: usize) -> Vec<StreamItem> {
        let mut events = Events::new(response(chunks), limit, None);
        let mut all = Vec::new();
        while let Some(item) = events.next().await {
            all.push(item.unwrap());
        }
        all
    }

    fn event(kind: &str, data: &str, id: &str, retry: Option<u64>) -> StreamItem {
        StreamItem::Event(ServerEvent {
            kind: kind.to_owned(),
            data: data.to_owned(),
            id: id.to_owned(),
            retry: retry.map(Duration::from_millis),
        })
    }

    #[tokio::test]
    async fn what_real_servers_send_is_read() {
        let text: &[u8] = b": hi\nid: 1\nretry: 500\ndata:\n\nevent: endpoint\ndata: /x\n\n\
            data: a\ndata: b\n\nid: 2\nid: 3\nretry: soon\nretry: 99999999999999999999999\n\
            data: \xff\n\nretry: 7\n\nid\ndata: {}\n\nevent: nothing\n\ndata: last";
        let want = [
            event("message", "", "1", Some(500)),
            event("endpoint", "/x", "1", None),
            event("message", "a\nb", "1", None),
            event("message", "\u{fffd}", "3", None),
            event("message", "", "3", Some(7)),
            event("message", "{}", "", None),
            event("message", "last", "", None),
        ];
        assert_eq!(read(vec![text], 1_000).await, want);
        let single: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(read(single, 1_000).await, want);
    }

    #[tokio::test]
    async fn long_data_is_the_same_as_short() {
        let long = "x\u{fc}: ".repeat(LONG_DATA);
        for (text, data) in [
            (
                format!("id: 1\nretry: 5\nevent: e\ndata: {long}\n\n"),
                long.clone(),
            ),
            (
                format!("event: e\ndata:{long}\nid: 1\nretry: 5\n\n"),
                long.clone(),
            ),
            (
                format!("event: e\ndata:  {long}\nid: 1\nretry: 5\n\n"),
                format!(" {long}"),
            ),
            (
                format!("event: e\ndata: a\ndata: {long}\nid: 1\nretry: 5\n\n"),
                format!("a\n{long}"),
            ),
            (
                format!("event: e\ndata: {long}\ndata\nid: 1\nretry: 5\n\n"),
                format!("{long}\n"),
            ),
        ] {
            let text: &'static str = text.leak();
            let want = [event("e", &data, "1", Some(5))];
            assert!(read(vec![text.as_bytes()], 1 << 20).await == want);
        }
    }

    #[tokio::test]
    async fn the_last_id_is_what_a_resume_says() {
        let mut events = Events::new(response(vec![b"data: x\n\nid: 7\n\n"]), 100, None);
        assert!(events.next().await.is_some());
        assert_eq!(events.last_id(), None);
        assert!(events.next().await.is_some());
        assert_eq!(events.last_id(), Some("7"));
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_ends_with_an_error_and_no_half_event() {
        let chunks = [
            Ok(Bytes::from_static(b"data: 1\n\ndata: half")),
            Err(std::io::Error::other("gone")),
        ];
        let body = reqwest::Body::wrap_stream(futures::stream::iter(chunks));
        let mut events = Events::new(http::Response::new(body).into(), 100, None);
        assert!(events.next().await.unwrap().is_ok());
        let error = events.next().await.unwrap().unwrap_err();
        assert_eq!(error.kind(), mcpool_core::ErrorKind::ConnectionLost);
        assert!(events.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn comments_are_life_and_silence_is_not() {
        let beats = futures::stream::unfold(0, |n| async move {
            let pause = if n < 5 { 20 } else { 600 };
            tokio::time::sleep(Duration::from_secs(pause)).await;
            Some((
                Ok::<_, std::io::Error>(Bytes::from_static(b": beat\n")),
                n + 1,
            ))
        });
        let body = reqwest::Body::wrap_stream(beats);
        let started = tokio::time::Instant::now();
        let idle = Some(Duration::from_secs(30));
        let mut events = Events::new(http::Response::new(body).into(), 100, idle);
        let error = events.next().await.unwrap().unwrap_err();
        assert_eq!(error.kind(), mcpool_core::ErrorKind::Timeout);
        assert_eq!(started.elapsed(), Duration::from_secs(5 * 20 + 30));
        assert!(events.next().await.is_none());
    }
}
