//! Reading what a POST was answered with.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use mcpool_core::{
    Delivery, Error, ErrorKind, IncomingMessage, Result,
    model::{ErrorCode, ErrorData, JsonRpcMessage, RequestId},
};
use mcpool_http_pool::{
    drain, read_capped,
    reqwest::{
        Response, StatusCode,
        header::{CONTENT_TYPE, HeaderMap},
    },
    retry_after, split_batch, status_error,
};
use rmcp::transport::streamable_http_client::{StreamableHttpError, StreamableHttpPostResponse};
use serde_json::json;
use sse_stream::Sse;

use crate::{
    link::Link,
    stream::{self as events, Purpose},
};

/// An answer with an error status is read up to here.
const ERROR_BODY_LIMIT: usize = 64 * 1024;
const ERROR_BODY_IDLE: Duration = Duration::from_secs(5);

pub(crate) const SESSION_HEADER: &str = "mcp-session-id";

/// What was POSTed, as far as its answer depends on it.
#[derive(Debug, Clone)]
pub(crate) struct Posted {
    /// The id of a request; `None` for every other message.
    pub(crate) id: Option<RequestId>,
    /// `initialize`, the first or one that renews a lost session, or `server/discover` while the
    /// era is not known.
    pub(crate) handshake: bool,
    pub(crate) discover: bool,
    pub(crate) session_attached: bool,
    /// Whether a broken answer may be resumed with `Last-Event-ID`.
    pub(crate) resumable: bool,
}

pub(crate) type PostResult = Result<StreamableHttpPostResponse, StreamableHttpError<Error>>;

/// Reads the answer; the whole of it, unless it is a stream.
pub(crate) async fn read(link: &Arc<Link>, response: Response, posted: &Posted) -> PostResult {
    let status = response.status();
    if status == StatusCode::NOT_FOUND && posted.session_attached {
        drain(response).await;
        return Err(StreamableHttpError::SessionExpired);
    }
    if !status.is_success() {
        return refusal(response, posted).await;
    }
    let Some(id) = &posted.id else {
        // 202 by the book; some servers say 200 and more.
        drain(response).await;
        return Ok(StreamableHttpPostResponse::Accepted);
    };
    if matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT) {
        drain(response).await;
        return match posted.handshake {
            false => Ok(StreamableHttpPostResponse::Accepted),
            true => Err(protocol(
                "the server accepted the handshake, but did not answer it",
            )),
        };
    }
    let session = session_name(link, response.headers());
    match media_type(response.headers()).as_str() {
        "text/event-stream" => {
            let purpose = Purpose::Answer {
                id: id.clone(),
                resumable: posted.resumable,
            };
            let stream = events::events(Arc::clone(link), response, purpose);
            Ok(StreamableHttpPostResponse::Sse(stream, session))
        }
        "application/json" => {
            let body = read_capped(response, link.bounds.message, link.bounds.body_idle)
                .await
                .map_err(StreamableHttpError::Client)?;
            message(&body, id, session)
        }
        other => {
            let error = protocol_error(format!(
                "the server answered with {other:?} and not with JSON or an event stream: this \
                 may not be the URL of an MCP server"
            ))
            .with_http_status(status.as_u16());
            drain(response).await;
            Err(StreamableHttpError::Client(error))
        }
    }
}

fn message(body: &[u8], id: &RequestId, session: Option<String>) -> PostResult {
    match serde_json::from_slice(body) {
        Ok(JsonRpcMessage::Error(mut error)) => {
            // An error without an id can only mean this request.
            error.id.get_or_insert_with(|| id.clone());
            let message = JsonRpcMessage::Error(error);
            Ok(StreamableHttpPostResponse::Json(message, session))
        }
        Ok(message) => Ok(StreamableHttpPostResponse::Json(message, session)),
        Err(error) => {
            let batch = std::str::from_utf8(body).ok().and_then(split_batch);
            if let Some(batch) = batch {
                let events = batch.into_iter().map(|data| Ok(Sse::default().data(data)));
                let stream = stream::iter(events.collect::<Vec<_>>()).boxed();
                return Ok(StreamableHttpPostResponse::Sse(stream, session));
            }
            let what = match body.is_empty() {
                true => "the server answered a request with an empty body",
                false => "the server's answer is no JSON-RPC message",
            };
            Err(StreamableHttpError::Client(
                protocol_error(what).with_source(error),
            ))
        }
    }
}

/// Reads an answer whose status is an error.
async fn refusal(response: Response, posted: &Posted) -> PostResult {
    let status = response.status();
    let headers = response.headers().clone();
    let body = read_capped(response, ERROR_BODY_LIMIT, ERROR_BODY_IDLE)
        .await
        .unwrap_or_default();
    classify_refusal(status, &headers, &body, posted)
}

fn classify_refusal(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    posted: &Posted,
) -> PostResult {
    let rpc = match serde_json::from_slice::<IncomingMessage>(body) {
        Ok(JsonRpcMessage::Error(error)) => Some(error.error),
        _ => None,
    };
    if posted.session_attached
        && status == StatusCode::BAD_REQUEST
        && rpc.as_ref().is_some_and(says_session_is_lost)
    {
        return Err(StreamableHttpError::SessionExpired);
    }
    let asks_for_pause = status == StatusCode::TOO_MANY_REQUESTS
        || (status == StatusCode::SERVICE_UNAVAILABLE
            && retry_after(headers, std::time::SystemTime::now()).is_some());
    let is_auth = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    if let (Some(id), false, false) = (&posted.id, asks_for_pause, is_auth) {
        // Such errors often come with `id: null`, or none: they can only mean this request.
        let answer = |error| {
            let message = IncomingMessage::error(error, Some(id.clone()));
            Ok(StreamableHttpPostResponse::Json(message, None))
        };
        if let Some(error) = rpc {
            return answer(error);
        }
        // MCP 2026-07-28, "Backward compatibility": a 4xx without a modern error is how an older
        // server answers a probe. It is an answer, so that `initialize` can follow.
        if posted.discover && posted.handshake && status.is_client_error() {
            return answer(ErrorData::new(
                ErrorCode::INVALID_REQUEST,
                format!(
                    "the server answered server/discover with HTTP {}",
                    status.as_u16()
                ),
                Some(json!({"httpStatus": status.as_u16()})),
            ));
        }
    }
    Err(StreamableHttpError::Client(status_error(status, headers)))
}

/// Some servers answer 400 where the specification wants 404 (MCP 2025-06-18, "Session
/// management", rule 3).
fn says_session_is_lost(error: &ErrorData) -> bool {
    matches!(error.code.0, -32000 | -32600 | -32001)
        && error.message.to_ascii_lowercase().contains("session")
}

fn session_name(link: &Link, headers: &HeaderMap) -> Option<String> {
    let id = headers.get(SESSION_HEADER)?.to_str().ok()?;
    Some(link.name_session(id.to_owned()))
}

/// The media type without its parameters, in lower case.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .unwrap_or("no content type")
        .trim()
        .to_ascii_lowercase()
}

fn protocol_error(message: impl Into<String>) -> Error {
    // The server has run the request: it answered.
    Error::new(ErrorKind::Protocol, message).with_delivery(Delivery::Answered)
}

fn protocol(message: &str) -> StreamableHttpError<Error> {
    StreamableHttpError::Client(protocol_error(message))
}

#[cfg(test)]
mod tests;
