//! Reading an answer that is an event stream.

use std::sync::Arc;

use futures::FutureExt;
use mcpool_core::{Delivery, Error, ErrorKind, Result};
use mcpool_http_pool::{Events, Response, StreamItem, too_large_error};
use tokio::time::Instant;

use crate::{
    in_flight::Outcome,
    incoming::{About, ECHO, Found, take},
    link::Link,
    resume::Resumption,
    session::Session,
};

/// The event by which a legacy HTTP+SSE server begins (MCP 2024-11-05, "HTTP with SSE"). One that
/// takes the POST for its GET waits for messages elsewhere, and answers nothing here.
const ENDPOINT: &str = "endpoint";
const LEGACY: &str = "the server answered with the event stream of the legacy HTTP+SSE transport: \
                      its type is sse";

/// Reads the stream up to the answer, and hands over what else is said on it. Where it is
/// resumable, it goes on after an event id when it ends early, on the caller's future.
///
/// # Errors
/// What is known of the request when no answer can be had.
pub(crate) async fn read(
    link: &Arc<Link>,
    session: &Arc<Session>,
    about: &About<'_>,
    response: Response,
    resumable: bool,
) -> Result<Outcome> {
    let status = Some(response.status());
    let mut events = Events::new(response, link.bounds.message, link.bounds.read_idle);
    let mut resumption = Resumption::default();
    let mut instead = None;
    loop {
        let lost = match events.next().await {
            Some(Ok(StreamItem::Event(event))) => {
                link.heard();
                resumption.event(&event);
                if event.data.is_empty() {
                    continue;
                }
                if event.kind == ENDPOINT {
                    return Err(unknown(ErrorKind::Protocol, LEGACY));
                }
                match take(link, session, &event.data, status, Some(about)) {
                    Found::Answer(outcome) => {
                        finish(link, session, events);
                        return Ok(outcome);
                    }
                    Found::Echo => return Err(unknown(ErrorKind::Protocol, ECHO)),
                    Found::Nothing => {}
                    Found::Stray => instead = Some("an answer to another request".to_owned()),
                    Found::Unreadable(reason) if is_like_an_answer(&event.data) => {
                        return Err(unknown(
                            ErrorKind::Protocol,
                            format!("the server's answer cannot be read: {reason}"),
                        ));
                    }
                    Found::Unreadable(reason) => {
                        instead = Some(format!("something that is not a message: {reason}"));
                    }
                }
                continue;
            }
            Some(Ok(StreamItem::Oversized(_))) => return Err(too_large_error(link.bounds.message)),
            Some(Ok(_)) => continue,
            Some(Err(error)) if error.kind() == ErrorKind::Protocol => return Err(error),
            Some(Err(error)) => {
                // Other connections to the server may be as dead.
                link.peer.renew_connections(Instant::now());
                Box::pin(link.verify(&error)).await;
                unknown(ErrorKind::ConnectionLost, error.message()).with_source(error)
            }
            None => {
                let message = match &instead {
                    Some(instead) => {
                        format!("the server ended the event stream with {instead}")
                    }
                    None => "the server ended the event stream without an answer".to_owned(),
                };
                unknown(ErrorKind::ConnectionLost, message)
            }
        };
        link.notes.error(&lost);
        if !resumable {
            return Err(lost);
        }
        events = Box::pin(resumption.resume(link, session, lost)).await?;
    }
}

/// Reads a stream on to its end, which mostly comes with the answer, so that its connection is
/// used again. What is said there belongs to no request any more.
fn finish(link: &Arc<Link>, session: &Arc<Session>, mut events: Events) {
    let (here, session) = (Arc::clone(link), Arc::clone(session));
    let mut tail = Box::pin(async move {
        while let Some(Ok(item)) = events.next().await {
            match item {
                StreamItem::Event(event) if !event.data.is_empty() => {
                    take(&here, &session, &event.data, None, None);
                }
                _ => {}
            }
        }
    });
    if tail.as_mut().now_or_never().is_none() {
        // A server that leaves too many open loses their connections.
        link.tails.run(tail);
    }
}

fn unknown(kind: ErrorKind, message: impl Into<String>) -> Error {
    Error::new(kind, message).with_delivery(Delivery::Unknown)
}

/// Whether a text that cannot be read was meant as an answer: nothing else is coming then.
fn is_like_an_answer(text: &str) -> bool {
    let has = |name: &str| memchr::memmem::find(text.as_bytes(), name.as_bytes()).is_some();
    (has("\"result\"") || has("\"error\"")) && !has("\"method\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_known_by_its_members() {
        assert!(is_like_an_answer(r#"{"id":1,"result":{"x":NaN}}"#));
        assert!(is_like_an_answer(r#"{"id":1,"error":{"#));
        assert!(!is_like_an_answer(
            r#"{"method":"x","params":{"result":NaN}}"#.replace("\"result\"", "\"a\"").as_str()
        ));
        assert!(!is_like_an_answer("hello"));
    }
}
