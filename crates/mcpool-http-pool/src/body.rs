//! Reading bodies to their end: within a size, within a time.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_ENCODING;
use mcpool_core::{Delivery, Error, ErrorKind, Result, Untrusted};
use tokio::time::timeout;

#[cfg(feature = "gzip")]
use crate::gzip::Unpacker;
use crate::{Response, error::read_error};

/// A body that nobody wants is read up to here, so that its connection can be used again.
const DRAIN_LIMIT: usize = 64 * 1024;
const DRAIN_TIME: Duration = Duration::from_millis(500);

/// The words of a refusal are read up to here.
const REFUSAL_LIMIT: usize = 64 * 1024;
const REFUSAL_TIME: Duration = Duration::from_secs(5);

/// A body that is read piece by piece. One that came encoded, though nobody asked for that, is
/// unpacked or refused.
pub(crate) struct Body {
    response: Response,
    idle: Option<Duration>,
    coding: Coding,
}

/// How a body is encoded.
enum Coding {
    Plain,
    #[cfg(feature = "gzip")]
    Gzip(Box<Unpacker>),
    Unreadable(Error),
}

impl Body {
    /// `idle` is the longest wait for the next piece; `None` is for ever.
    pub(crate) fn new(response: Response, idle: Option<Duration>) -> Self {
        Self {
            coding: Coding::of(&response),
            response,
            idle,
        }
    }

    /// The next piece, `None` at the end. Cancel-safe.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>> {
        match &mut self.coding {
            Coding::Plain => next(&mut self.response, self.idle).await,
            Coding::Unreadable(error) => Err(error.clone()),
            #[cfg(feature = "gzip")]
            Coding::Gzip(unpacker) => loop {
                if let Some(piece) = unpacker.step()? {
                    return Ok(Some(piece));
                }
                match next(&mut self.response, self.idle).await? {
                    Some(packed) => unpacker.add(packed),
                    None => return unpacker.finish(),
                }
            },
        }
    }
}

impl Coding {
    /// No request asks for any (RFC 9110, section 12.5.3).
    fn of(response: &Response) -> Self {
        let Some(coding) = response.headers().get(CONTENT_ENCODING) else {
            return Self::Plain;
        };
        let coding = coding.as_bytes().trim_ascii();
        if coding.is_empty() || coding.eq_ignore_ascii_case(b"identity") {
            return Self::Plain;
        }
        let is_gzip =
            coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip");
        #[cfg(feature = "gzip")]
        if is_gzip {
            return Self::Gzip(Box::default());
        }
        let coding = Untrusted::line(String::from_utf8_lossy(coding).into_owned()).clip(40);
        let shown = coding.quoted();
        let message = match is_gzip {
            true => format!(
                "the answer is encoded with {shown}, which nobody asked for, and this build of \
                 mcpool is without the feature `gzip`, which unpacks it"
            ),
            false => format!("the answer is encoded with {shown}, which nobody asked for"),
        };
        let error = Error::new(ErrorKind::Protocol, message);
        Self::Unreadable(error.with_delivery(Delivery::Unknown))
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

/// Reads a body of at most `limit` bytes, of which the next must arrive within `idle`; `None` is
/// for ever. A body that is gzip is unpacked, and the limit is of the text.
///
/// Dropping the future closes the connection.
///
/// # Errors
/// [`ErrorKind::Protocol`] when the body is encoded in a way that this build cannot unpack, which
/// the error names; [`ErrorKind::TooLarge`] as soon as the limit is known to be passed; [`ErrorKind::Timeout`]
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

/// Reads the words of an answer with an error status: at most 64 KiB, within five seconds; `None`
/// for one that is longer or slower, or breaks off. Those of one that cannot be unpacked are why it
/// cannot. Dropping the future closes the connection.
pub async fn read_refusal(response: Response) -> Option<Bytes> {
    let read = timeout(REFUSAL_TIME, read_capped(response, REFUSAL_LIMIT, None)).await;
    match read {
        Ok(Ok(words)) => Some(words),
        Ok(Err(error)) if error.kind() == ErrorKind::Protocol => {
            Some(error.message().to_owned().into())
        }
        _ => None,
    }
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
    use super::*;

    fn response(body: impl Into<reqwest::Body>, coding: &str) -> Response {
        http::Response::builder()
            .header(CONTENT_ENCODING, coding)
            .body(body.into())
            .unwrap()
            .into()
    }

    #[cfg(feature = "gzip")]
    #[tokio::test]
    async fn gzip_that_nobody_asked_for_is_unpacked_within_the_limit() {
        use std::io::Write as _;

        let text = "x".repeat(5_000_000);
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        let gzip = encoder.finish().unwrap();
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

    #[tokio::test]
    async fn a_coding_that_cannot_be_unpacked_is_named() {
        for plain in ["identity", ""] {
            let body = read_capped(response("{}", plain), 10, None).await;
            assert_eq!(body.unwrap(), "{}");
        }
        for coding in ["br", "gzip, gzip"] {
            let error = read_capped(response("{}", coding), 10, None)
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol);
            assert_eq!(error.delivery(), Delivery::Unknown);
            assert!(
                error.to_string().contains(&format!("{coding:?}")),
                "{error}"
            );
            // A refusal is not without a word either.
            let words = read_refusal(response("{}", coding)).await.unwrap();
            assert_eq!(words, error.message());
        }
    }

    #[cfg(not(feature = "gzip"))]
    #[tokio::test]
    async fn without_the_feature_gzip_is_refused_by_its_name() {
        for coding in ["gzip", "x-gzip"] {
            let error = read_capped(response("{}", coding), 10, None)
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol);
            assert_eq!(error.delivery(), Delivery::Unknown);
            let said = error.to_string();
            assert!(said.contains(&format!("{coding:?}")), "{said}");
            assert!(said.contains("the feature `gzip`"), "{said}");
        }
    }
}
