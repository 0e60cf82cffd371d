//! Answers of the HTTP front: one JSON document, an event stream, a refusal.

use std::{convert::Infallible, time::Duration};

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::{Stream, StreamExt as _};
use mcpool_core::{Raw, RpcError, encode_response};

use crate::drain;

/// How often a comment keeps an event stream alive on its way through proxies.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// When a client that was refused by a gateway that ends may come again: by then another runs.
const RESTART: Duration = Duration::from_secs(5);

/// When tokens that could not be checked may be sent again.
const KEYS_PAUSE: Duration = Duration::from_secs(10);

/// A JSON-RPC message as the whole answer.
pub(super) fn json(status: StatusCode, message: String) -> Response {
    (
        status,
        [(header::CONTENT_TYPE, "application/json")],
        message,
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
    let error = RpcError::new(
        RpcError::INTERNAL,
        "too many requests: this one was not run, and may be sent again later",
    );
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
