//! One request and its answer.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use http::HeaderValue;
use mcpool_core::{
    Delivery, Error, ErrorKind, RequestClass, Result, Untrusted, WireRequest, is_safe_method,
};
use mcpool_http_pool::{Response, drain, http::StatusCode, read_capped};
use tokio::time::Instant;

use crate::{
    headers::{self, SESSION_ID},
    in_flight::Outcome,
    incoming::{About, ECHO, Found, take},
    link::Link,
    post::{Post, refusal_of},
    refusal::{Lost, Refusal, SessionState, lost_in_words},
    session::Session,
    stream,
};

/// What a request was answered with.
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    /// The session that the server gives, to `initialize`.
    pub(crate) session_id: Option<HeaderValue>,
}

/// Asks, and reads the answer to its end. `sending` is called each time before a byte of the
/// request may be written.
///
/// Dropping the future closes the connection, or the stream of HTTP/2.
///
/// # Errors
/// What went wrong, and whether that says that the session is lost.
pub(crate) async fn ask(
    link: &Arc<Link>,
    session: &Arc<Session>,
    request: &WireRequest<'_>,
    about: &About<'_>,
    body: Bytes,
    sending: &(dyn Fn() + Send + Sync),
) -> Result<Answer, Refusal> {
    let is_handshake = request.class == RequestClass::Handshake;
    let state = match is_handshake {
        true => SessionState::None,
        false => session.state(),
    };
    let post = Post {
        session,
        headers: headers::of_request(request, session.version.as_ref())?,
        body,
        repeatable: is_safe_method(request.method),
    };
    let response = post.send(link, sending).await?;
    let status = response.status();
    if !status.is_success() {
        let refusal = Box::pin(refusal_of(link, response, state, Some(about.id))).await;
        return match refusal.result {
            Some(result) => {
                link.notes.odd("a result has an error status");
                Ok(Answer {
                    outcome: Ok(result),
                    session_id: None,
                })
            }
            None => Err(refusal),
        };
    }
    if matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT) {
        link.answered(status, &[]);
        Box::pin(drain(response)).await;
        if !is_handshake && session.may_stand() {
            // Some servers answer on the standing stream.
            return std::future::pending().await;
        }
        let message = format!(
            "the server accepted the request and did not answer it (HTTP {})",
            status.as_u16()
        );
        return Err(unreadable(message, status).into());
    }
    let session_id = match request.method {
        "initialize" => response.headers().get(SESSION_ID).cloned(),
        _ => None,
    };
    let outcome = match headers::is_event_stream(response.headers()) {
        true => {
            // The rest of a handshake is asked for in the session that it begins.
            let begun = session_id
                .clone()
                .map(|id| Arc::new(session.with_id(&link.peer, id)));
            let session = begun.as_ref().unwrap_or(session);
            let version = request.version.or(session.version.as_ref());
            let resumable = version.is_none_or(|version| version.has_initialize());
            stream::read(link, session, about, response, resumable).await?
        }
        false => match read_body(link, session, about, response).await {
            Ok(outcome) => outcome,
            Err(error) => {
                link.notes.error(&error);
                if error.kind() == ErrorKind::ConnectionLost {
                    link.peer.renew_connections(Instant::now());
                    Box::pin(link.verify(&error)).await;
                }
                return Err(error.into());
            }
        },
    };
    if let Err(rpc) = &outcome
        && lost_in_words(rpc, state) != Lost::No
    {
        return Err(Refusal {
            error: Error::from_rpc(rpc.clone()),
            lost: Lost::InWords,
            result: None,
        });
    }
    Ok(Answer {
        outcome,
        session_id,
    })
}

/// Reads an answer that is one body: JSON, whatever it is said to be.
async fn read_body(
    link: &Arc<Link>,
    session: &Arc<Session>,
    about: &About<'_>,
    response: Response,
) -> Result<Outcome> {
    let status = response.status();
    let media_type = headers::media_type(response.headers());
    let is_json = headers::is_json(media_type.as_deref());
    let body = read_capped(response, link.bounds.message, link.bounds.read_idle).await?;
    let text = match std::str::from_utf8(&body) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => {
            link.notes.odd("an answer is not UTF-8");
            String::from_utf8_lossy(&body)
        }
    };
    if text.starts_with('\u{feff}') {
        link.notes.odd("an answer begins with a byte-order mark");
    }
    let message = match take(link, session, &text, Some(status), Some(about)) {
        Found::Answer(outcome) => {
            if !is_json {
                link.notes.odd(&match &media_type {
                    Some(kind) => format!("an answer in JSON says that it is {}", shown(kind)),
                    None => "an answer does not say that it is JSON".to_owned(),
                });
            }
            return Ok(outcome);
        }
        Found::Stray => "the server answered with the id of another request".to_owned(),
        Found::Echo => ECHO.to_owned(),
        Found::Nothing => "the server's answer holds no answer to the request".to_owned(),
        Found::Unreadable(_) if text.trim().is_empty() => {
            "the server answered a request with an empty body".to_owned()
        }
        Found::Unreadable(reason) if is_json => {
            format!("the server's answer is no JSON-RPC message: {reason}")
        }
        Found::Unreadable(_) => format!(
            "the server answered with {} and not with JSON or an event stream: this may not be \
             the URL of an MCP server",
            media_type
                .as_deref()
                .map_or("no content type".into(), shown)
        ),
    };
    Err(unreadable(message, status))
}

fn shown(media_type: &str) -> String {
    Untrusted::line(media_type).clip(60).quoted().to_string()
}

/// The server has answered, and what it has done cannot be known.
fn unreadable(message: String, status: StatusCode) -> Error {
    Error::new(ErrorKind::Protocol, message)
        .with_http_status(status.as_u16())
        .with_delivery(Delivery::Unknown)
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self {
            error,
            lost: Lost::No,
            result: None,
        }
    }
}
