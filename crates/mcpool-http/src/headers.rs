//! The headers of MCP over HTTP.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{ACCEPT, CONTENT_TYPE},
};
use mcpool_core::{Delivery, Error, ErrorKind, ProtocolVersion, Result, WireRequest};

pub(crate) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
pub(crate) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
pub(crate) const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const JSON_OR_STREAM: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
const STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");

/// What a header's value is wrapped in when it cannot stand there as it is.
const WRAP: (&str, &str) = ("=?base64?", "?=");

/// Adds what every POST has.
pub(crate) fn of_posts(headers: &mut HeaderMap) {
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(ACCEPT, JSON_OR_STREAM);
}

/// Adds what every GET has.
pub(crate) fn of_gets(headers: &mut HeaderMap) {
    headers.insert(ACCEPT, STREAM);
}

/// The media type without its parameters, in lower case.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let media_type = value.split(';').next()?.trim();
    (!media_type.is_empty()).then(|| media_type.to_ascii_lowercase())
}

/// Whether a body is an event stream.
pub(crate) fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(CONTENT_TYPE)
        .map_or(&[][..], HeaderValue::as_bytes);
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default();
    kind.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
}

/// Whether a body says that it is JSON.
pub(crate) fn is_json(media_type: Option<&str>) -> bool {
    media_type.is_some_and(|kind| kind == "application/json" || kind.ends_with("+json"))
}

/// The header that names a version.
pub(crate) fn version(version: &ProtocolVersion) -> Option<HeaderValue> {
    HeaderValue::from_str(version.as_str()).ok()
}

/// The headers of one request beside those of its session, which is of this version.
///
/// From MCP 2026-07-28 on ("Streamable HTTP", standard headers) they mirror the method, what it is
/// for, and annotated parameters.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] when a header has a name that HTTP does not allow.
pub(crate) fn of_request(
    request: &WireRequest<'_>,
    of_session: Option<&ProtocolVersion>,
) -> Result<Vec<(HeaderName, HeaderValue)>> {
    let mut headers = Vec::new();
    let Some(spoken) = request.version.or(of_session) else {
        return Ok(headers);
    };
    if of_session != Some(spoken)
        && let Some(value) = version(spoken)
    {
        headers.push((PROTOCOL_VERSION, value));
    }
    if spoken.has_initialize() {
        return Ok(headers);
    }
    headers.push((METHOD, value(request.method)));
    if let Some(name) = request.name {
        headers.push((NAME, value(name)));
    }
    for (name, text) in request.headers {
        let name = HeaderName::try_from(name).map_err(|_| {
            Error::new(
                ErrorKind::InvalidArgument,
                format!("{name:?} cannot be the name of a header"),
            )
            .with_delivery(Delivery::NotSent)
        })?;
        headers.push((name, value(text)));
    }
    Ok(headers)
}

/// A text as a header's value, in Base64 where it could not travel as it is.
fn value(text: &str) -> HeaderValue {
    let plain = text.bytes().all(|byte| matches!(byte, 0x20..=0x7e))
        && text.trim_matches([' ', '\t']).len() == text.len()
        && !(text.starts_with(WRAP.0) && text.ends_with(WRAP.1));
    let wrapped = || format!("{}{}{}", WRAP.0, BASE64_STANDARD.encode(text), WRAP.1);
    let value = match plain {
        true => HeaderValue::from_str(text),
        false => HeaderValue::try_from(wrapped()),
    };
    // Visible ASCII and spaces are what a header may hold.
    value.unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use mcpool_core::Raw;

    use super::*;

    fn shown(request: &WireRequest<'_>, session: Option<&ProtocolVersion>) -> Vec<String> {
        of_request(request, session)
            .unwrap()
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect()
    }

    #[test]
    fn a_modern_request_mirrors_what_it_is_for() {
        let params = Raw::empty_object();
        let modern = ProtocolVersion::V_2026_07_28;
        let mirrored = [("Mcp-Param-Region".to_owned(), "eu".to_owned())];
        let request = WireRequest::new("tools/call", Some(&params))
            .with_version(Some(&modern))
            .with_name(Some("echo"))
            .with_headers(&mirrored);
        let names = [
            "mcp-method: tools/call",
            "mcp-name: echo",
            "mcp-param-region: eu",
        ];
        assert_eq!(shown(&request, Some(&modern)), names);
        let with_version = shown(&request, None);
        assert_eq!(with_version[0], "mcp-protocol-version: 2026-07-28");
        assert_eq!(with_version[1..], names);
    }

    #[test]
    fn an_older_request_says_its_version_and_no_more() {
        let request = WireRequest::new("tools/call", None).with_name(Some("echo"));
        assert!(shown(&request, None).is_empty());
        assert!(shown(&request, Some(&ProtocolVersion::V_2025_06_18)).is_empty());
        let latest = ProtocolVersion::V_2025_11_25;
        let request = request.with_version(Some(&latest));
        assert_eq!(shown(&request, None), ["mcp-protocol-version: 2025-11-25"]);
        assert!(shown(&request, Some(&ProtocolVersion::V_2025_11_25)).is_empty());
    }

    #[test]
    fn what_a_header_cannot_hold_is_wrapped() {
        for (text, want) in [
            ("", ""),
            ("a b", "a b"),
            (" a", "=?base64?IGE=?="),
            ("a\t", "=?base64?YQk=?="),
            ("a\nb", "=?base64?YQpi?="),
            ("ü", "=?base64?w7w=?="),
            ("\u{7f}", "=?base64?fw==?="),
            ("=?base64?YQ==?=", "=?base64?PT9iYXNlNjQ/WVE9PT89?="),
        ] {
            assert_eq!(value(text).to_str().unwrap(), want, "{text:?}");
        }
    }

    #[test]
    fn a_name_that_is_none_is_refused() {
        let modern = ProtocolVersion::V_2026_07_28;
        let bad = [("Mcp-Param-\n".to_owned(), "x".to_owned())];
        let request = WireRequest::new("tools/call", None)
            .with_version(Some(&modern))
            .with_headers(&bad);
        let error = of_request(&request, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert_eq!(error.delivery(), Delivery::NotSent);
    }
}
