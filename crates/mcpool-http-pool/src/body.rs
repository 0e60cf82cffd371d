//! Reading bodies to their end: within a size, within a time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mcpool_core::{Delivery, Error, ErrorKind, Result};
use reqwest::Response;
use tokio::time::timeout;

use crate::read_error;

/// A body that nobody wants is read up to here, so that its connection can be used again.
const DRAIN_LIMIT: usize = 64 * 1024;
const DRAIN_TIME: Duration = Duration::from_millis(500);

/// Reads a body of at most `limit` bytes, of which the next must arrive within `idle`.
///
/// Dropping the future closes the connection.
///
/// # Errors
/// [`ErrorKind::TooLarge`] as soon as the limit is known to be passed; [`ErrorKind::Timeout`]
/// after a silence; [`ErrorKind::ConnectionLost`] when the body breaks off.
pub async fn read_capped(mut response: Response, limit: usize, idle: Duration) -> Result<Bytes> {
    let expected = response.content_length();
    if expected.is_some_and(|length| length > limit as u64) {
        return Err(too_large(limit));
    }
    let mut first: Option<Bytes> = None;
    let mut rest = BytesMut::new();
    loop {
        let chunk = match timeout(idle, response.chunk()).await {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) => break,
            Ok(Err(error)) => return Err(read_error(error)),
            Err(_) => {
                return Err(Error::new(
                    ErrorKind::Timeout,
                    format!("the answer's body stopped for {idle:?}"),
                )
                .with_delivery(Delivery::Unknown));
            }
        };
        let so_far = rest.len() + first.as_ref().map_or(0, Bytes::len);
        if so_far + chunk.len() > limit {
            return Err(too_large(limit));
        }
        match first.take() {
            // Most bodies come in one piece and are not copied.
            None if rest.is_empty() => first = Some(chunk),
            Some(earlier) => {
                // A length that the server claims is not believed beyond what has come.
                let room = expected.map_or(0, |length| length as usize).min(4 * so_far);
                rest.reserve(room.max(so_far + chunk.len()));
                rest.extend_from_slice(&earlier);
                rest.extend_from_slice(&chunk);
            }
            None => rest.extend_from_slice(&chunk),
        }
    }
    Ok(first.unwrap_or_else(|| rest.freeze()))
}

/// Reads the rest of a body that nobody wants, so that its connection is used again; gives up
/// after 64 KiB or half a second, which closes the connection.
pub async fn drain(mut response: Response) {
    if response.content_length() == Some(0) {
        return;
    }
    let read_all = async {
        let mut left = DRAIN_LIMIT;
        while let Ok(Some(chunk)) = response.chunk().await {
            match left.checked_sub(chunk.len()) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    // Giving up is no error: the connection is then closed instead of used again.
    timeout(DRAIN_TIME, read_all).await.ok();
}

fn too_large(limit: usize) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!("the answer is larger than {limit} bytes (limits.max_message_bytes)"),
    )
    // The server ran the request and answered: doing it again would give the same.
    .with_delivery(Delivery::Answered)
}
