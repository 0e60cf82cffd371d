//! What went wrong with a request, in mcpool's words.

use std::{
    borrow::Cow,
    error::Error as StdError,
    io,
    time::{Duration, SystemTime},
};

use http::{
    StatusCode,
    header::{HeaderMap, LOCATION, WWW_AUTHENTICATE},
};
use mcpool_core::{Delivery, Error, ErrorKind, HttpSpec, Untrusted, is_exhausted};
use serde_json::Value;

use crate::{Challenge, RefusedAddress, redirect::RedirectLoop, retry_after};

/// How much of a name that a server chose is shown.
const MAX_SHOWN: usize = 100;

/// How much of a refusal's text is shown.
const MAX_SAID: usize = 500;

/// The error for a request that got no answer.
///
/// Says [`Delivery::NotSent`] where no byte of the request can have reached the server: no
/// connection was made, an idle connection was closed before the request was written, or HTTP/2
/// refused the stream (RFC 9113, section 8.7). Otherwise [`Delivery::Unknown`].
///
/// A loop of redirects is what [`status_error`] says of a redirect, and names the loop.
///
/// When this process has no descriptor left, it is [`ErrorKind::Exhausted`].
///
/// The URL is stripped from the source, as its query may hold a secret.
#[must_use]
pub(crate) fn request_error(error: reqwest::Error) -> Error {
    let error = error.without_url();
    if error.is_builder() {
        return Error::new(ErrorKind::InvalidSpec, "the HTTP request cannot be built")
            .with_delivery(Delivery::NotSent)
            .with_source(error);
    }
    let looping = sources(&error).find_map(|source| source.downcast_ref::<RedirectLoop>());
    if let Some(looping) = looping.copied() {
        return Error::new(ErrorKind::HttpStatus, looping.to_string())
            .with_http_status(looping.0.as_u16())
            .with_delivery(Delivery::Answered)
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
    let unread = hyper_errors(&error).find(|error| error.is_parse());
    if let Some(message) = unread.map(unread_head) {
        return Error::new(ErrorKind::Protocol, message)
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

/// What is wrong with the head of an answer that cannot be read.
fn unread_head(error: &hyper::Error) -> String {
    let why = error.to_string();
    // It says in words alone which part it is: `is_parse_too_large` needs hyper's `server`.
    if why.contains("too large") {
        return "the head of the server's answer is too long to be read".to_owned();
    }
    if why.contains("HTTP version") {
        return "what answers does not speak HTTP; if it speaks TLS, the url must begin with https"
            .to_owned();
    }
    format!(
        "the head of the server's answer is broken: {}",
        why.trim_end_matches(" parsed")
    )
}

/// The error for an answer whose body broke off.
#[must_use]
pub(crate) fn read_error(error: reqwest::Error) -> Error {
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
/// | 401 that offers only what no login gets (`Basic`, `Negotiate` …) | `Forbidden`, with the challenge | rejected |
/// | 403 | `Forbidden`, with the challenge | rejected |
/// | 429, 503 with `Retry-After` | `RateLimited` | rejected |
/// | 404, 405, 421, 425 | `HttpStatus` | rejected: nobody was there to run it |
/// | 408 | `HttpStatus` | unknown: some servers say it of a request that ran for too long |
/// | other 3xx and 4xx | `HttpStatus` | answered |
/// | other 5xx | `HttpStatus` | unknown: a proxy may have lost the answer |
#[must_use]
pub fn status_error(status: StatusCode, headers: &HeaderMap) -> Error {
    let pause = retry_after(headers, SystemTime::now());
    let (kind, delivery, message) = match status.as_u16() {
        401 => {
            let (kind, message) = unauthorized(headers);
            (kind, Delivery::Rejected, message)
        }
        403 => (ErrorKind::Forbidden, Delivery::Rejected, forbidden(headers)),
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
                404 | 405 | 421 | 425 => Delivery::Rejected,
                // RFC 9110 means a request that did not come whole, but frameworks answer so when a
                // handler runs into its timeout.
                408 => Delivery::Unknown,
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

/// As [`status_error`], with what the body says, on one line and cut short: its text; of a page its
/// title, where that says more than the status; of a JSON object the member that is meant for people.
#[must_use]
pub fn refusal_error(status: StatusCode, headers: &HeaderMap, body: &str) -> Error {
    let error = status_error(status, headers);
    let says = said(body).filter(|says| !is_status(says, status));
    match says {
        Some(says) => {
            let says = Untrusted::line(&*says).clip(MAX_SAID);
            let message = format!("{}: {}", error.message(), says.quoted());
            error.with_message(message)
        }
        None => error,
    }
}

/// What a body says to people.
fn said(body: &str) -> Option<Cow<'_, str>> {
    let body = body.trim_start_matches('\u{feff}').trim();
    let says = match body.chars().next()? {
        '[' => return None,
        '<' => Cow::Owned(title(body)?),
        '{' => Cow::Owned(
            said_in(&serde_json::from_str(body).ok()?)?
                .trim()
                .to_owned(),
        ),
        _ => Cow::Borrowed(body),
    };
    (!says.is_empty() && !says.contains('\0')).then_some(says)
}

/// Whether a text is that of the status alone, as in "502 Bad Gateway".
fn is_status(says: &str, status: StatusCode) -> bool {
    let reason = status.canonical_reason().unwrap_or_default();
    let words = says.strip_prefix(status.as_str()).unwrap_or(says);
    words.trim().eq_ignore_ascii_case(reason)
}

/// The title of a page (HTML standard, section 4.2.2), with the few references that titles have.
fn title(page: &str) -> Option<String> {
    let lower = page.to_ascii_lowercase();
    let begin = lower.find("<title")?;
    let begin = begin + lower.get(begin..)?.find('>')? + 1;
    let end = begin + lower.get(begin..)?.find("</title")?;
    let words: Vec<&str> = page.get(begin..end)?.split_whitespace().collect();
    let mut title = words.join(" ");
    for (reference, text) in [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&nbsp;", " "),
        ("&amp;", "&"),
    ] {
        title = title.replace(reference, text);
    }
    Some(title)
}

/// The text of a JSON error object: of JSON-RPC, of OAuth (RFC 6749, section 5.2), of RFC 9457, or
/// of a gateway's own make.
fn said_in(object: &Value) -> Option<&str> {
    let text = |name: &str| object.get(name).and_then(Value::as_str);
    object
        .get("error")
        .filter(|error| error.is_object())
        .and_then(said_in)
        .or_else(|| text("error_description"))
        .or_else(|| text("message"))
        .or_else(|| text("detail"))
        .or_else(|| text("error"))
        .or_else(|| text("title"))
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

/// What a 401 says (RFC 9110, section 15.5.2).
fn unauthorized(headers: &HeaderMap) -> (ErrorKind, String) {
    let offered = Challenge::parse(&challenge(headers).unwrap_or_default());
    if offered.is_empty() || offered.iter().any(Challenge::takes_tokens) {
        let message = "the server wants a login (HTTP 401)";
        return (ErrorKind::AuthRequired, message.to_owned());
    }
    let schemes: Vec<&str> = offered
        .iter()
        .map(|challenge| challenge.scheme.as_str())
        .collect();
    let schemes = schemes.join(", ");
    let schemes = Untrusted::line(&*schemes).clip(MAX_SHOWN);
    (
        ErrorKind::Forbidden,
        format!(
            "the server takes only {schemes} credentials (HTTP 401), which no login gets: put \
             them into the header Authorization"
        ),
    )
}

/// What a 403 says, with the scope that is missing where it says so (RFC 6750, section 3.1).
fn forbidden(headers: &HeaderMap) -> String {
    let offered = Challenge::parse(&challenge(headers).unwrap_or_default());
    let scope = offered
        .iter()
        .find(|challenge| challenge.parameter("error") == Some("insufficient_scope"))
        .and_then(|challenge| challenge.parameter("scope"));
    match scope {
        Some(scope) => {
            let scope = Untrusted::line(scope).clip(MAX_SHOWN);
            format!("the server wants more scope for this (HTTP 403): {scope}")
        }
        None if offered.is_empty() => {
            "the server forbids this (HTTP 403) and does not say what would be enough".to_owned()
        }
        None => "the credentials are not enough for the server (HTTP 403)".to_owned(),
    }
}

fn redirect_message(status: StatusCode, headers: &HeaderMap) -> String {
    let code = status.as_u16();
    match headers.get(LOCATION).and_then(|value| value.to_str().ok()) {
        Some(location) => format!(
            "the server redirects to {} (HTTP {code}), which is not followed; if that is right, \
             put it into the url",
            match location.starts_with('/') {
                true => location
                    .split(['?', '#'])
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
                false => HttpSpec::new(location).redacted_url(),
            }
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
    if sources(error).any(|source| source.is::<RefusedAddress>()) {
        return "its name resolves to an address that may not be connected to".to_owned();
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
            (408, &plain, HttpStatus, Unknown),
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
    fn what_a_refusal_says_to_people_is_shown() {
        let headers = HeaderMap::new();
        let shown = |body: &str| {
            let error = refusal_error(StatusCode::FORBIDDEN, &headers, body);
            let (_, says) = error.message().split_once("enough: ")?;
            Some(says.to_owned())
        };
        for (body, says) in [
            ("IP not allowed\n", "IP not allowed"),
            (
                r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"no licence"}}"#,
                "no licence",
            ),
            (
                r#"{"error":"access_denied","error_description":"not in the group"}"#,
                "not in the group",
            ),
            ("\u{feff}{\"message\":\"quota\",\"code\":7}", "quota"),
            (
                r#"{"type":"about:blank","title":"Nope","detail":"too early"}"#,
                "too early",
            ),
            (r#"{"error":"blocked"}"#, "blocked"),
            (
                "<!DOCTYPE html>\n<HTML><head><TITLE lang=en>Access denied |\n Acme &amp; Co</TITLE>",
                "Access denied | Acme & Co",
            ),
            (r#"{"error":{"type":"x","message":"inner"}}"#, "inner"),
        ] {
            assert_eq!(shown(body), Some(format!("{says:?}")), "{body}");
        }
        for body in [
            "",
            " \n",
            "<html>no</html>",
            "<html><title>403 Forbidden</title></html>",
            "<title> </title>",
            "<title>no end",
            "[1]",
            "{}",
            "{broken",
            "\0\u{1}",
            r#"{"error":7}"#,
        ] {
            assert_eq!(shown(body), None, "{body}");
        }
        let long = shown(&"x".repeat(10_000)).unwrap();
        assert!(long.len() < 2 * MAX_SAID, "{long}");
        assert!(shown("a\u{1b}[2J").unwrap().contains("\\u{1b}"));
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
    fn what_a_login_does_not_get_is_no_call_for_a_login() {
        let error = |status: StatusCode, challenges: &[&str]| {
            let mut headers = HeaderMap::new();
            for challenge in challenges {
                headers.append("www-authenticate", challenge.parse().unwrap());
            }
            let error = status_error(status, &headers);
            (error.kind(), error.message().to_owned())
        };
        let (kind, text) = error(
            StatusCode::UNAUTHORIZED,
            &["Basic realm=\"x\"", "Negotiate"],
        );
        assert_eq!(kind, ErrorKind::Forbidden);
        assert!(text.contains("only Basic, Negotiate credentials"), "{text}");
        assert!(text.contains("header Authorization"), "{text}");
        for challenges in [&["Basic realm=\"x\"", "bearer"][..], &[], &["DPoP"]] {
            let (kind, text) = error(StatusCode::UNAUTHORIZED, challenges);
            assert_eq!(kind, ErrorKind::AuthRequired, "{text}");
        }
        let (kind, text) = error(StatusCode::FORBIDDEN, &[]);
        assert_eq!(kind, ErrorKind::Forbidden);
        assert!(text.contains("does not say what would be enough"), "{text}");
        let (_, text) = error(
            StatusCode::FORBIDDEN,
            &["Bearer error=\"insufficient_scope\", scope=\"files:write\""],
        );
        assert!(text.ends_with("files:write"), "{text}");
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
