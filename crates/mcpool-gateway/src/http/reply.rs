//! Answers of the HTTP front: one JSON document, an event stream, a refusal.

use std::{convert::Infallible, time::Duration};

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use mcpool_core::{Raw, RpcError, encode_response};

use crate::{
    drain,
    limits::{Busy, Unread},
};

/// How often a comment keeps an event stream alive on its way through proxies.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// When a client that was refused by a gateway that ends may come again: by then another runs.
const RESTART: Duration = Duration::from_secs(5);

/// When tokens that could not be checked may be sent again.
const KEYS_PAUSE: Duration = Duration::from_secs(10);

/// When a client with too much under way, or to read, may send the next request.
pub(super) const A_WHILE: Duration = Duration::from_secs(1);

/// The answer to a request that ran. It counts as unread for as long as any of it is kept.
pub(super) fn answer(status: StatusCode, message: String, unread: Option<Unread>) -> Response {
    struct Kept {
        message: String,
        _unread: Unread,
    }
    impl AsRef<[u8]> for Kept {
        fn as_ref(&self) -> &[u8] {
            self.message.as_bytes()
        }
    }
    match unread {
        Some(unread) => json(
            status,
            Bytes::from_owner(Kept {
                message,
                _unread: unread,
            }),
        ),
        None => json(status, message),
    }
}

/// A JSON-RPC message as the whole answer.
pub(super) fn json(status: StatusCode, message: impl Into<Bytes>) -> Response {
    (
        status,
        [(header::CONTENT_TYPE, "application/json")],
        message.into(),
    )
        .into_response()
}

/// A JSON-RPC error as the whole answer.
pub(super) fn refused(status: StatusCode, id: &Raw, error: RpcError) -> Response {
    match encode_response(id, &Err(error)) {
        Ok(message) => json(status, message),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Messages as an event stream. No ids are sent: nothing could be had again by them.
pub(super) fn events(messages: impl Stream<Item = String> + Send + 'static) -> Response {
    let events = messages.map(|message| Ok::<_, Infallible>(Event::default().data(message)));
    Sse::new(events)
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response()
}

/// Tokens cannot be checked at the moment.
pub(super) fn no_keys() -> Response {
    let error = RpcError::new(
        RpcError::INTERNAL,
        "the keys of the authorization server cannot be had at the moment",
    );
    later(
        refused(StatusCode::SERVICE_UNAVAILABLE, &Raw::null(), error),
        KEYS_PAUSE,
    )
}

/// The client asks for more than it may (RFC 6585, section 4).
pub(super) fn too_many(id: &Raw, wait: Duration) -> Response {
    refused_for(id, Busy::Requests, wait)
}

/// The client has too much under way, or to read.
pub(super) fn busy(id: &Raw, busy: Busy) -> Response {
    refused_for(id, busy, A_WHILE)
}

fn refused_for(id: &Raw, busy: Busy, wait: Duration) -> Response {
    let error = RpcError::new(RpcError::INTERNAL, busy.as_str());
    later(refused(StatusCode::TOO_MANY_REQUESTS, id, error), wait)
}

/// The gateway takes no more requests.
pub(super) fn draining(id: &Raw) -> Response {
    let refusal = refused(StatusCode::SERVICE_UNAVAILABLE, id, drain::refusal());
    later(refusal, RESTART)
}

/// Says when to come again (RFC 9110, section 10.2.3).
pub(super) fn later(mut response: Response, wait: Duration) -> Response {
    let seconds = wait.as_millis().div_ceil(1_000).max(1);
    if let Ok(seconds) = HeaderValue::from_str(&seconds.to_string()) {
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
}

/// A notification or an answer was taken.
pub(super) fn accepted() -> Response {
    StatusCode::ACCEPTED.into_response()
}

/// The method is none that is served here.
pub(super) fn not_allowed() -> Response {
    (
        StatusCode::METHOD_NOT_ALLOWED,
        [(header::ALLOW, "GET, POST, DELETE")],
    )
        .into_response()
}
