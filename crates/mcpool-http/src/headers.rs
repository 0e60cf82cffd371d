//! The headers of MCP over HTTP.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{ACCEPT, CONTENT_TYPE},
};
use mcpool_core::{Delivery, Error, ErrorKind, ProtocolVersion, Result, TraceContext, WireRequest};

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
/// for, and annotated parameters. The trace that `_meta` names stands in the headers of W3C Trace
/// Context as well, for what is on the way and reads no bodies.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] when a header has a name that HTTP does not allow.
pub(crate) fn of_request(
    request: &WireRequest<'_>,
    of_session: Option<&ProtocolVersion>,
) -> Result<Vec<(HeaderName, HeaderValue)>> {
    let mut headers = Vec::new();
    let trace = request.meta.and_then(TraceContext::of_meta);
    let trace = trace.or_else(|| request.params.and_then(TraceContext::of_params));
    for (name, text) in trace.iter().flat_map(TraceContext::pairs) {
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.push((HeaderName::from_static(name), value));
        }
    }
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
    fn the_trace_of_a_request_stands_in_headers_too() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let meta = |parent: &str| format!(r#"{{"traceparent":"{parent}","tracestate":"a=1"}}"#);
        let raw = |text: String| Raw::from_text(text).unwrap();
        let params = raw(format!(r#"{{"_meta":{}}}"#, meta(parent)));
        let request = WireRequest::new("tools/call", Some(&params));
        let names = [
            format!("traceparent: {parent}"),
            "tracestate: a=1".to_owned(),
        ];
        assert_eq!(shown(&request, None), names);
        // What is put into `_meta` wins, as it does in the body.
        let other =
            mcpool_core::RawObject::parse(&raw(meta(&parent.replace("-01", "-00")))).unwrap();
        let request = request.with_meta(Some(&other));
        assert_eq!(shown(&request, None)[0], names[0].replace("-01", "-00"));
        let broken = raw(format!(r#"{{"_meta":{}}}"#, meta("x")));
        assert!(shown(&WireRequest::new("tools/call", Some(&broken)), None).is_empty());
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
