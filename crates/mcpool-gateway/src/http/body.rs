//! The body of a request: whole, in time, and within what all bodies of its principal may take.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, HttpBody as _},
    http::StatusCode,
};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use mcpool_core::RpcError;

use super::post::Refused;
use crate::limits::{Allowance, Room};

/// A body that was read.
pub(super) struct Read {
    pub(super) text: String,
    /// What it takes of the memory for bodies, for as long as its requests are under way.
    pub(super) room: Arc<Room>,
}

/// Reads a body to its end.
pub(super) async fn read(
    body: Body,
    allowance: &Allowance,
    timeout: Duration,
) -> Result<Read, Refused> {
    let refused = |status, code, why: &str| (status, RpcError::new(code, why.to_owned()));
    match tokio::time::timeout(timeout, collect(body, allowance)).await {
        Ok(Ok((bytes, room))) => match String::from_utf8(bytes) {
            Ok(text) => Ok(Read {
                text,
                room: Arc::new(room),
            }),
            Err(_) => Err(refused(
                StatusCode::BAD_REQUEST,
                RpcError::PARSE,
                "the body is not UTF-8",
            )),
        },
        Ok(Err(Unread::TooLong)) => {
            let max = allowance.limits().max_body_bytes();
            Err(refused(
                StatusCode::PAYLOAD_TOO_LARGE,
                RpcError::INVALID_REQUEST,
                &format!("the body is longer than {max} bytes"),
            ))
        }
        Ok(Err(Unread::NoRoom)) => Err(refused(
            StatusCode::TOO_MANY_REQUESTS,
            RpcError::INTERNAL,
            "the bodies of the requests that are under way are too large together: this one was \
             not run, and may be sent again",
        )),
        Ok(Err(Unread::BrokenOff)) => Err(refused(
            StatusCode::BAD_REQUEST,
            RpcError::PARSE,
            "the body broke off",
        )),
        Err(_) => Err(refused(
            StatusCode::REQUEST_TIMEOUT,
            RpcError::INVALID_REQUEST,
            "the body came too slowly",
        )),
    }
}

/// Why a body was not read.
enum Unread {
    TooLong,
    NoRoom,
    BrokenOff,
}

async fn collect(body: Body, allowance: &Allowance) -> Result<(Vec<u8>, Room), Unread> {
    let max = allowance.limits().max_body_bytes();
    // What `Content-Length` says. One that is refused is not waited for.
    if usize::try_from(body.size_hint().lower()).map_or(true, |said| said > max) {
        return Err(Unread::TooLong);
    }
    let mut body = Limited::new(body, max);
    let mut bytes = Vec::new();
    let mut room = Room::default();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| match error.is::<LengthLimitError>() {
            true => Unread::TooLong,
            false => Unread::BrokenOff,
        })?;
        // Trailers say nothing that is wanted here.
        let Ok(chunk) = frame.into_data() else {
            continue;
        };
        let needed = bytes.len().saturating_add(chunk.len());
        if !allowance.widen(&mut room, needed) {
            return Err(Unread::NoRoom);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok((bytes, room))
}
