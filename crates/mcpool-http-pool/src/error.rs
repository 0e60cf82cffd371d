//! What went wrong with a request, in mcpool's words.

use std::{
    error::Error as StdError,
    io,
    time::{Duration, SystemTime},
};

use mcpool_core::{Delivery, Error, ErrorKind, HttpSpec, Untrusted, is_exhausted};
use reqwest::{
    StatusCode,
    header::{HeaderMap, LOCATION, WWW_AUTHENTICATE},
};

use crate::retry_after;

/// How much of a refusal's text is shown.
const MAX_SAID: usize = 200;

/// The error for a request that got no answer.
///
/// Says [`Delivery::NotSent`] where no byte of the request can have reached the server: no
/// connection was made, an idle connection was closed before the request was written, or HTTP/2
/// refused the stream (RFC 9113, section 8.7). Otherwise [`Delivery::Unknown`].
///
/// When this process has no descriptor left, it is [`ErrorKind::Exhausted`].
///
/// The URL is stripped from the source, as its query may hold a secret.
#[must_use]
pub fn request_error(error: reqwest::Error) -> Error {
    let error = error.without_url();
    if error.is_builder() {
        return Error::new(ErrorKind::InvalidSpec, "the HTTP request cannot be built")
            .with_delivery(Delivery::NotSent)
            .with_source(error);
    }
    if io_errors(&error).any(is_exhausted) {
        // Only opening a connection takes descriptors.
        return Error::new(
            ErrorKind::Exhausted,
            "this process has no descriptor or memory left for another connection",
        )
        .with_delivery(Delivery::NotSent)
        .with_source(error);
    }
    if error.is_connect() {
        let why = connect_problem(&error);
        return Error::new(
            ErrorKind::Connect,
            format!("cannot connect to the server: {why}"),
        )
        .with_delivery(Delivery::NotSent)
        .with_source(error);
    }
    if was_never_written(&error) {
        return Error::new(
            ErrorKind::ConnectionLost,
            "the connection was closed before the request was sent",
        )
        .with_delivery(Delivery::NotSent)
        .with_source(error);
    }
    if hyper_errors(&error).any(hyper::Error::is_parse) {
        return Error::new(
            ErrorKind::Protocol,
            "what answers does not speak HTTP; if it speaks TLS, the url must begin with https",
        )
        .with_delivery(Delivery::Unknown)
        .with_source(error);
    }
    if error.is_timeout() {
        return Error::new(ErrorKind::Timeout, "the server did not answer in time")
            .with_delivery(Delivery::Unknown)
            .with_source(error);
    }
    Error::new(
        ErrorKind::ConnectionLost,
        "the connection broke before the server answered",
    )
    .with_delivery(Delivery::Unknown)
    .with_source(error)
}

/// The error for an answer whose body broke off.
#[must_use]
pub fn read_error(error: reqwest::Error) -> Error {
    Error::new(
        ErrorKind::ConnectionLost,
        "the connection broke in the middle of an answer",
    )
    .with_delivery(Delivery::Unknown)
    .with_source(error.without_url())
}

/// The error for a status that is none of success.
///
/// | status | kind | delivery |
/// |---|---|---|
/// | 401 | `AuthRequired`, with the challenge | rejected |
/// | 403 | `Forbidden`, with the challenge | rejected |
/// | 429, 503 with `Retry-After` | `RateLimited` | rejected |
/// | 404, 405, 408, 421, 425 | `HttpStatus` | rejected: nobody was there to run it |
/// | other 3xx and 4xx | `HttpStatus` | answered |
/// | other 5xx | `HttpStatus` | unknown: a proxy may have lost the answer |
#[must_use]
pub fn status_error(status: StatusCode, headers: &HeaderMap) -> Error {
    let pause = retry_after(headers, SystemTime::now());
    let (kind, delivery, message) = match status.as_u16() {
        401 => (
            ErrorKind::AuthRequired,
            Delivery::Rejected,
            "the server wants a login (HTTP 401)".to_owned(),
        ),
        403 => (
            ErrorKind::Forbidden,
            Delivery::Rejected,
            "the credentials are not enough for the server (HTTP 403)".to_owned(),
        ),
        429 => (
            ErrorKind::RateLimited,
            Delivery::Rejected,
            come_back("the server asks for fewer requests (HTTP 429)", pause),
        ),
        503 if pause.is_some() => (
            ErrorKind::RateLimited,
            Delivery::Rejected,
            come_back("the server is not available now (HTTP 503)", pause),
        ),
        300..=399 => (
            ErrorKind::HttpStatus,
            Delivery::Answered,
            redirect_message(status, headers),
        ),
        code => (
            ErrorKind::HttpStatus,
            match code {
                404 | 405 | 408 | 421 | 425 => Delivery::Rejected,
                400..=499 => Delivery::Answered,
                _ => Delivery::Unknown,
            },
            match status.canonical_reason() {
                Some(reason) => format!("the server answered HTTP {code} ({reason})"),
                None => format!("the server answered HTTP {code}"),
            },
        ),
    };
    let mut error = Error::new(kind, message)
        .with_http_status(status.as_u16())
        .with_delivery(delivery);
    if let Some(pause) = pause {
        error = error.with_retry_after(pause);
    }
    if let Some(challenge) = challenge(headers) {
        error = error.with_challenge(challenge);
    }
    error
}

/// As [`status_error`], with what the body says: its text, on one line and cut short, where it is
/// text and no page.
#[must_use]
pub fn refusal_error(status: StatusCode, headers: &HeaderMap, says: &str) -> Error {
    let error = status_error(status, headers);
    let says = says.trim();
    if says.is_empty() || says.starts_with(['<', '{', '[']) || says.contains('\0') {
        return error;
    }
    let says = Untrusted::line(says).clip(MAX_SAID);
    let message = format!("{}: {}", error.message(), says.quoted());
    error.with_message(message)
}

/// What the server says, with the pause in whole seconds, rounded up.
fn come_back(what: &str, pause: Option<Duration>) -> String {
    match pause {
        Some(pause) => {
            let seconds = pause.as_secs() + u64::from(pause.subsec_nanos() > 0);
            format!("{what}: it asks to come back in {seconds} s")
        }
        None => what.to_owned(),
    }
}

/// The `WWW-Authenticate` headers, joined as RFC 9110, section 5.3, allows.
pub(crate) fn challenge(headers: &HeaderMap) -> Option<String> {
    let all: Vec<&str> = headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    (!all.is_empty()).then(|| all.join(", "))
}

fn redirect_message(status: StatusCode, headers: &HeaderMap) -> String {
    let code = status.as_u16();
    match headers.get(LOCATION).and_then(|value| value.to_str().ok()) {
        Some(location) => format!(
            "the server redirects to {} (HTTP {code}), which is not followed; if that is right, \
             put it into the url",
            HttpSpec::new(location).redacted_url()
        ),
        None => format!("the server redirects (HTTP {code}), which is not followed"),
    }
}

fn sources<'a>(error: &'a reqwest::Error) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = error.source();
    std::iter::from_fn(move || {
        let current = next?;
        next = match current.downcast_ref::<io::Error>() {
            // What travels inside of an I/O error is skipped over by its `source`.
            Some(io) => io.get_ref().map(|inner| inner as _),
            None => current.source(),
        };
        Some(current)
    })
}

fn io_errors(error: &reqwest::Error) -> impl Iterator<Item = &io::Error> {
    sources(error).filter_map(|source| source.downcast_ref())
}

fn hyper_errors(error: &reqwest::Error) -> impl Iterator<Item = &hyper::Error> {
    sources(error).filter_map(|source| source.downcast_ref())
}

fn connect_problem(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it took too long".to_owned();
    }
    if error.is_dns() {
        return "its name cannot be resolved".to_owned();
    }
    if let Some(tls) = sources(error).find_map(|source| source.downcast_ref::<rustls::Error>()) {
        return tls_problem(tls);
    }
    match io_errors(error).find(|error| error.get_ref().is_none()) {
        Some(io) => io.kind().to_string(),
        None => "no connection could be made".to_owned(),
    }
}

fn tls_problem(error: &rustls::Error) -> String {
    use rustls::CertificateError::{
        Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet,
        NotValidYetContext, Revoked, UnknownIssuer,
    };
    let why = match error {
        rustls::Error::InvalidCertificate(problem) => match problem {
            Expired | ExpiredContext { .. } => "has expired",
            NotValidYet | NotValidYetContext { .. } => "is not valid yet",
            NotValidForName | NotValidForNameContext { .. } => "is for another name",
            Revoked => "was revoked",
            UnknownIssuer => {
                "is of an issuer that is not trusted; if it is right, give it as ca_file"
            }
            _ => "is not valid or not trusted",
        },
        rustls::Error::InvalidMessage(_) => {
            return "what answers does not speak TLS; if it is plain HTTP, the url must begin \
                    with http"
                .to_owned();
        }
        _ => return "the TLS handshake failed".to_owned(),
    };
    format!("its TLS certificate {why}")
}

fn was_never_written(error: &reqwest::Error) -> bool {
    if hyper_errors(error).any(hyper::Error::is_canceled) {
        return true;
    }
    let mut h2 = sources(error).filter_map(|source| source.downcast_ref::<h2::Error>());
    h2.any(|h2| h2.is_remote() && h2.is_reset() && h2.reason() == Some(h2::Reason::REFUSED_STREAM))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    #[test]
    fn statuses() {
        let plain = HeaderMap::new();
        let mut later = HeaderMap::new();
        later.insert("retry-after", "3".parse().unwrap());
        use Delivery::{Answered, Rejected, Unknown};
        use ErrorKind::{AuthRequired, Forbidden, HttpStatus, RateLimited};
        for (code, headers, kind, delivery) in [
            (401, &plain, AuthRequired, Rejected),
            (403, &plain, Forbidden, Rejected),
            (404, &plain, HttpStatus, Rejected),
            (405, &plain, HttpStatus, Rejected),
            (400, &plain, HttpStatus, Answered),
            (301, &plain, HttpStatus, Answered),
            (429, &plain, RateLimited, Rejected),
            (429, &later, RateLimited, Rejected),
            (503, &plain, HttpStatus, Unknown),
            (503, &later, RateLimited, Rejected),
            (500, &plain, HttpStatus, Unknown),
            (502, &plain, HttpStatus, Unknown),
        ] {
            let error = status_error(StatusCode::from_u16(code).unwrap(), headers);
            assert_eq!(error.kind(), kind, "{code}");
            assert_eq!(error.delivery(), delivery, "{code}");
            assert_eq!(error.http_status(), Some(code));
            let pause = headers.contains_key("retry-after").then_some(3);
            assert_eq!(error.message().contains(" 3 s"), pause.is_some(), "{error}");
            assert_eq!(error.retry_after(), pause.map(Duration::from_secs));
        }
    }

    #[test]
    fn challenges_are_kept_whole() {
        let mut headers = HeaderMap::new();
        headers.append("www-authenticate", "Bearer realm=\"a\"".parse().unwrap());
        headers.append("www-authenticate", "DPoP algs=\"ES256\"".parse().unwrap());
        let error = status_error(StatusCode::UNAUTHORIZED, &headers);
        assert_eq!(
            error.challenge(),
            Some("Bearer realm=\"a\", DPoP algs=\"ES256\"")
        );
    }

    #[test]
    fn a_redirect_names_its_target_without_secrets() {
        let mut headers = HeaderMap::new();
        let to = "https://u:canary@elsewhere.example/mcp?token=canary";
        headers.insert("location", to.parse().unwrap());
        let text = status_error(StatusCode::FOUND, &headers).to_string();
        assert!(text.contains("https://elsewhere.example/mcp"), "{text}");
        assert!(!text.contains("canary"), "{text}");
    }
}
