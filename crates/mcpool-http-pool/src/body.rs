//! Reading bodies to their end: within a size, within a time.

use std::{io::Write as _, time::Duration};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use http::header::CONTENT_ENCODING;
use mcpool_core::{Delivery, Error, ErrorKind, Result, Untrusted};
use tokio::time::timeout;

use crate::{Response, error::read_error};

/// A body that nobody wants is read up to here, so that its connection can be used again.
const DRAIN_LIMIT: usize = 64 * 1024;
const DRAIN_TIME: Duration = Duration::from_millis(500);

/// The words of a refusal are read up to here.
const REFUSAL_LIMIT: usize = 64 * 1024;
const REFUSAL_TIME: Duration = Duration::from_secs(5);

/// So much compressed text is unpacked at a time: it becomes at most about a thousand times as
/// much.
const GZIP_STEP: usize = 1_024;

/// A body that is read piece by piece. One that came compressed with gzip, though nobody asked
/// for that, is unpacked.
pub(crate) struct Body {
    response: Response,
    idle: Option<Duration>,
    gzip: Option<Gzip>,
}

struct Gzip {
    decoder: MultiGzDecoder<Vec<u8>>,
    packed: Bytes,
}

impl Body {
    /// `idle` is the longest wait for the next piece; `None` is for ever.
    pub(crate) fn new(response: Response, idle: Option<Duration>) -> Self {
        let gzip = is_gzip(&response).then(|| Gzip {
            decoder: MultiGzDecoder::new(Vec::new()),
            packed: Bytes::new(),
        });
        Self {
            response,
            idle,
            gzip,
        }
    }

    /// The next piece, `None` at the end. Cancel-safe.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>> {
        let Some(gzip) = &mut self.gzip else {
            return next(&mut self.response, self.idle).await;
        };
        loop {
            if gzip.packed.is_empty() {
                match next(&mut self.response, self.idle).await? {
                    Some(chunk) => gzip.packed = chunk,
                    None => {
                        gzip.decoder.try_finish().map_err(not_gzip)?;
                        let rest = std::mem::take(gzip.decoder.get_mut());
                        return Ok((!rest.is_empty()).then(|| rest.into()));
                    }
                }
            }
            let step = gzip.packed.split_to(gzip.packed.len().min(GZIP_STEP));
            gzip.decoder.write_all(&step).map_err(not_gzip)?;
            // Without this, an event would stay inside until the next one.
            gzip.decoder.flush().map_err(not_gzip)?;
            let piece = std::mem::take(gzip.decoder.get_mut());
            if !piece.is_empty() {
                return Ok(Some(piece.into()));
            }
        }
    }
}

async fn next(response: &mut Response, idle: Option<Duration>) -> Result<Option<Bytes>> {
    let Some(idle) = idle else {
        return response.0.chunk().await.map_err(read_error);
    };
    match timeout(idle, response.0.chunk()).await {
        Ok(chunk) => chunk.map_err(read_error),
        Err(_) => Err(Error::new(
            ErrorKind::Timeout,
            format!(
                "the server was silent for {idle:?} in the middle of an answer (read_idle_timeout)"
            ),
        )
        .with_delivery(Delivery::Unknown)),
    }
}

fn is_gzip(response: &Response) -> bool {
    response
        .headers()
        .get(CONTENT_ENCODING)
        .is_some_and(|coding| {
            let coding = coding.as_bytes().trim_ascii();
            coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip")
        })
}

/// The coding of a body that cannot be read: one that is neither plain nor gzip.
///
/// # Errors
/// [`ErrorKind::Protocol`] that names it. The server was never asked for any coding
/// (RFC 9110, section 12.5.3).
pub fn check_coding(response: &Response) -> Result<()> {
    let Some(coding) = response.headers().get(CONTENT_ENCODING) else {
        return Ok(());
    };
    let plain = coding.as_bytes().trim_ascii();
    if plain.is_empty() || plain.eq_ignore_ascii_case(b"identity") || is_gzip(response) {
        return Ok(());
    }
    let shown = String::from_utf8_lossy(plain).into_owned();
    Err(Error::new(
        ErrorKind::Protocol,
        format!(
            "the answer is encoded with {}, which nobody asked for",
            Untrusted::line(shown).clip(40).quoted()
        ),
    )
    .with_delivery(Delivery::Unknown))
}

fn not_gzip(error: std::io::Error) -> Error {
    Error::new(
        ErrorKind::Protocol,
        "the answer is said to be gzip and cannot be unpacked",
    )
    .with_delivery(Delivery::Unknown)
    .with_source(error)
}

/// Reads a body of at most `limit` bytes, of which the next must arrive within `idle`; `None` is
/// for ever. A body that is gzip is unpacked, and the limit is of the text.
///
/// Dropping the future closes the connection.
///
/// # Errors
/// [`ErrorKind::TooLarge`] as soon as the limit is known to be passed; [`ErrorKind::Timeout`]
/// after a silence; [`ErrorKind::ConnectionLost`] when the body breaks off.
pub async fn read_capped(
    response: Response,
    limit: usize,
    idle: Option<Duration>,
) -> Result<Bytes> {
    let announced = response.content_length();
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large_error(limit));
    }
    let mut body = Body::new(response, idle);
    let mut first = Bytes::new();
    let mut rest = Vec::new();
    let mut length = 0_usize;
    while let Some(chunk) = body.chunk().await? {
        length = length.saturating_add(chunk.len());
        if length > limit {
            return Err(too_large_error(limit));
        }
        // Most bodies come in one piece and are not copied; the others are copied once.
        match first.is_empty() {
            true => first = chunk,
            false => rest.push(chunk),
        }
    }
    if rest.is_empty() {
        return Ok(first);
    }
    let mut whole = Vec::with_capacity(length);
    whole.extend_from_slice(&first);
    rest.iter().for_each(|chunk| whole.extend_from_slice(chunk));
    Ok(whole.into())
}

/// Reads the words of an answer with an error status: at most 64 KiB, within five seconds; nothing
/// of a longer or slower one. Dropping the future closes the connection.
pub async fn read_refusal(response: Response) -> Bytes {
    let read = timeout(REFUSAL_TIME, read_capped(response, REFUSAL_LIMIT, None)).await;
    read.ok().and_then(Result::ok).unwrap_or_default()
}

/// Reads the rest of a body that nobody wants, so that its connection is used again; gives up
/// after 64 KiB or half a second, which closes the connection.
pub async fn drain(mut response: Response) {
    if response.content_length() == Some(0) {
        return;
    }
    let read_all = async {
        let mut left = DRAIN_LIMIT;
        while let Ok(Some(chunk)) = response.0.chunk().await {
            match left.checked_sub(chunk.len()) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    // Giving up is no error: the connection is then closed instead of used again.
    timeout(DRAIN_TIME, read_all).await.ok();
}

/// The error for an answer over the limit, in bytes.
#[must_use]
pub fn too_large_error(limit: usize) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!("the answer is larger than {limit} bytes (limits.max_message_bytes)"),
    )
    // The server ran the request and answered: doing it again would give the same.
    .with_delivery(Delivery::Answered)
}

#[cfg(test)]
mod tests {
    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn response(body: Vec<u8>, coding: &str) -> Response {
        let body = reqwest::Body::from(body);
        http::Response::builder()
            .header(CONTENT_ENCODING, coding)
            .body(body)
            .unwrap()
            .into()
    }

    #[tokio::test]
    async fn gzip_that_nobody_asked_for_is_unpacked_within_the_limit() {
        let text = "x".repeat(5_000_000);
        let gzip = packed(text.as_bytes());
        for coding in ["gzip", "x-gzip", " GZIP "] {
            let body = read_capped(response(gzip.clone(), coding), 6_000_000, None).await;
            assert_eq!(body.unwrap(), text.as_bytes());
        }
        let error = read_capped(response(gzip.clone(), "gzip"), 1_000_000, None)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        for broken in [gzip[..gzip.len() / 2].to_vec(), b"hello".to_vec()] {
            let error = read_capped(response(broken, "gzip"), 6_000_000, None)
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol);
            assert_eq!(error.delivery(), Delivery::Unknown);
        }
    }

    #[test]
    fn other_codings_are_named() {
        for plain in ["gzip", "identity", ""] {
            assert!(check_coding(&response(Vec::new(), plain)).is_ok());
        }
        let error = check_coding(&response(Vec::new(), "br")).unwrap_err();
        assert!(error.to_string().contains("\"br\""), "{error}");
    }
}
