//! Turning an event stream into the events that rmcp's worker wants.

use std::{sync::Arc, time::Duration};

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use mcpool_core::{
    Error, ErrorKind, IncomingMessage, Result,
    model::{JsonRpcMessage, RequestId},
};
use mcpool_http_pool::{EventLines, reqwest::Response, split_batch};
use rmcp::transport::streamable_http_client::SseError;
use sse_stream::{Sse, SseStream};

use crate::link::Link;

/// What the worker reads.
pub(crate) type Events = BoxStream<'static, Result<Sse, SseError>>;

/// What an event stream is for.
#[derive(Debug, Clone)]
pub(crate) enum Purpose {
    /// The answer to this request, on a connection that may resume it after an event id or not.
    Answer { id: RequestId, resumable: bool },
    /// What the server says unasked, or the rest of an answer.
    Standing,
}

/// The events of this answer's body, until it or the connection ends.
///
/// An answer that breaks off and cannot be resumed, or is over the size limit, ends with an error
/// for exactly its request.
pub(crate) fn events(link: Arc<Link>, response: Response, purpose: Purpose) -> Events {
    let lines = EventLines::new(response, link.bounds.message, link.bounds.stream_idle);
    let parsed = SseStream::from_bytes_stream(lines);
    let end = Arc::clone(&link);
    let reader = Reader {
        link,
        purpose,
        seen_id: false,
    };
    stream::unfold(Some((parsed, reader)), |state| async move {
        let (mut parsed, mut reader) = state?;
        match parsed.next().await {
            Some(Ok(event)) => Some((reader.event(event), Some((parsed, reader)))),
            // The parser cannot go on after an error.
            Some(Err(error)) => Some((reader.broken(error).await, None)),
            None => Some((reader.finished(), None)),
        }
    })
    .map(stream::iter)
    .flatten()
    .take_until(async move { end.ended.cancelled().await })
    .boxed()
}

struct Reader {
    link: Arc<Link>,
    purpose: Purpose,
    seen_id: bool,
}

impl Reader {
    fn event(&mut self, mut event: Sse) -> Vec<Result<Sse, SseError>> {
        match &self.purpose {
            Purpose::Answer {
                resumable: false, ..
            } => {
                // MCP 2026-07-28 has no Last-Event-ID: without ids nothing is resumed.
                event.id = None;
                event.retry = None;
            }
            Purpose::Answer { .. } => {}
            Purpose::Standing => {
                if event.data.as_ref().is_some_and(|data| !data.is_empty()) {
                    self.link.pacer.delivered();
                }
            }
        }
        self.seen_id |= event.id.is_some();
        match event.data.as_deref().and_then(split_batch) {
            Some(messages) => messages
                .into_iter()
                .map(|data| {
                    let mut single = event.clone();
                    single.data = Some(data);
                    Ok(single)
                })
                .collect(),
            None => vec![Ok(event)],
        }
    }

    async fn broken(self, error: SseError) -> Vec<Result<Sse, SseError>> {
        let cause = match &error {
            SseError::Body(body) => body.downcast_ref::<Error>().cloned(),
            _ => None,
        };
        let cause = cause.unwrap_or_else(|| {
            Error::new(
                ErrorKind::Protocol,
                "the server's event stream cannot be parsed",
            )
        });
        self.link.note(&cause);
        if cause.kind() == ErrorKind::ConnectionLost {
            self.link.verify(&cause).await;
        }
        match self.purpose {
            // Only a broken connection is worth resuming.
            Purpose::Answer { id, .. }
                if !self.seen_id || cause.kind() != ErrorKind::ConnectionLost =>
            {
                let lost = match cause.kind() {
                    ErrorKind::TooLarge | ErrorKind::Protocol => cause,
                    _ => Error::new(ErrorKind::ConnectionLost, cause.message()),
                };
                lost_answer(&lost, id)
            }
            _ => vec![Err(error)],
        }
    }

    /// After an answer nobody reads on, so what is said here is only heard when there was none.
    fn finished(self) -> Vec<Result<Sse, SseError>> {
        match self.purpose {
            Purpose::Answer { id, .. } if !self.seen_id => lost_answer(
                &Error::new(
                    ErrorKind::ConnectionLost,
                    "the server ended the event stream without an answer",
                ),
                id,
            ),
            _ => Vec::new(),
        }
    }
}

/// The event that ends exactly this request with this error.
fn lost_answer(error: &Error, id: RequestId) -> Vec<Result<Sse, SseError>> {
    let message = IncomingMessage::error(error.to_rpc(), Some(id));
    serde_json::to_string(&message)
        .map(|data| Ok(Sse::default().data(data)))
        .into_iter()
        .collect()
}

/// Where to go on when a stream ends early.
#[derive(Debug, Default)]
pub(crate) struct Resumption {
    pub(crate) last_event_id: Option<String>,
    /// The pause that the server asked for.
    pub(crate) retry: Option<Duration>,
}

/// Reads events up to the answer, and leaves out what comes before it; `None` when the stream
/// ends without one.
pub(crate) async fn answer(
    events: &mut Events,
    resumption: &mut Resumption,
) -> Option<IncomingMessage> {
    while let Some(Ok(event)) = events.next().await {
        if event.id.is_some() {
            resumption.last_event_id = event.id;
        }
        if let Some(retry) = event.retry {
            resumption.retry = Some(Duration::from_millis(retry));
        }
        let Some(data) = event.data else { continue };
        if let Ok(message @ (JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_))) =
            serde_json::from_str(&data)
        {
            return Some(message);
        }
    }
    None
}
