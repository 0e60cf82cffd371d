//! The headers of a request. Those of MCP 2026-07-28 repeat what its body says, and must say the
//! same ("Standard Request Headers", "Custom Headers from Tool Parameters"). Pure.

use axum::http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use mcpool_core::{ParamHeaders, Raw, RawObject, RpcError, ServerRequest, TraceContext};
use serde::Deserialize;

/// The header that says the version.
pub(super) const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");

/// Around a value that a header cannot hold as it is.
const WRAP: (&str, &str) = ("=?base64?", "?=");

/// The text of a header, without the white space around it.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// Whether the body is said to be JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    text(headers, &CONTENT_TYPE)
        .and_then(|kind| kind.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// Whether the body is said to be as it is, not compressed (RFC 9110, section 8.4).
pub(super) fn is_plain(headers: &HeaderMap) -> bool {
    headers.get_all(CONTENT_ENCODING).iter().all(|value| {
        value.to_str().is_ok_and(|codings| {
            codings
                .split(',')
                .map(str::trim)
                .all(|coding| coding.is_empty() || coding.eq_ignore_ascii_case("identity"))
        })
    })
}

/// The header that comes twice and says two things, where what is served depends on it: others on
/// the way may go by the other one.
pub(super) fn contradiction(headers: &HeaderMap) -> Option<&'static str> {
    [
        (AUTHORIZATION, "Authorization"),
        (super::standing::SESSION, "Mcp-Session-Id"),
        (VERSION, "MCP-Protocol-Version"),
    ]
    .into_iter()
    .find(|(name, _)| {
        let mut values = headers.get_all(name).iter();
        let first = values.next();
        values.any(|value| Some(value) != first)
    })
    .map(|(_, shown)| shown)
}

/// Compares the headers that every request has with its body.
///
/// # Errors
/// −32020 that says which does not match.
pub(super) fn check(
    headers: &HeaderMap,
    request: &ServerRequest,
    version: Option<&str>,
) -> Result<(), RpcError> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Params {
        name: Option<String>,
        uri: Option<String>,
    }
    if let Some(version) = version
        && text(headers, &VERSION) != Some(version)
    {
        return Err(mismatch("MCP-Protocol-Version"));
    }
    if text(headers, &METHOD) != Some(&request.method) {
        return Err(mismatch("Mcp-Method"));
    }
    let params: Params = request
        .params
        .as_ref()
        .and_then(|params| params.parse().ok())
        .unwrap_or_default();
    let name = match request.method.as_str() {
        "tools/call" | "prompts/get" => params.name,
        "resources/read" => params.uri,
        _ => None,
    };
    if let Some(name) = name
        && text(headers, &NAME).and_then(plain).as_deref() != Some(&*name)
    {
        return Err(mismatch("Mcp-Name"));
    }
    Ok(())
}

/// Compares the headers that mirror the arguments of a tool with them. A tool whose description is
/// not known, or cannot be read, mirrors nothing.
///
/// # Errors
/// −32020 that says which does not match.
pub(super) fn check_arguments(
    headers: &HeaderMap,
    tool: &Raw,
    params: &Raw,
) -> Result<(), RpcError> {
    let Ok(mirrored) = ParamHeaders::of_tool(tool) else {
        return Ok(());
    };
    for (name, value) in mirrored.of_call(params) {
        let header = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()).ok();
        let said = header
            .and_then(|header| text(headers, &header))
            .and_then(plain);
        if said.as_deref() != Some(&*value) {
            return Err(mismatch(&name));
        }
    }
    Ok(())
}

/// A request whose `_meta` says which trace it belongs to, where its headers say so alone: bodies
/// reach servers over stdio, headers do not.
pub(super) fn with_trace(headers: &HeaderMap, mut request: ServerRequest) -> ServerRequest {
    let Some(parent) = headers.get(TraceContext::TRACEPARENT) else {
        return request;
    };
    let said = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
    // It may come in several lines (W3C Trace Context, section 3.3.1).
    let states = headers.get_all(TraceContext::TRACESTATE).iter();
    let state: Vec<String> = states.filter_map(said).collect();
    let Some(trace) = said(parent).and_then(|parent| {
        let state = state.join(",");
        TraceContext::new(&parent, Some(&state))
    }) else {
        return request;
    };
    let params = match &request.params {
        None => Ok(RawObject::new()),
        Some(params) if TraceContext::of_params(params).is_some() => return request,
        Some(params) => RawObject::parse(params),
    };
    let traced = params.and_then(|mut params| {
        let meta = params.get("_meta").map(RawObject::parse);
        let mut meta = meta.unwrap_or_else(|| Ok(RawObject::new()))?;
        trace.put_into(&mut meta);
        params.insert("_meta", meta.to_raw()?);
        params.to_raw()
    });
    // Parameters that are no object are refused later on.
    if let Ok(params) = traced {
        request.params = Some(params);
    }
    request
}

/// The plain text of a header's value; `None` for base64 that is none.
fn plain(value: &str) -> Option<String> {
    let inner = value
        .strip_prefix(WRAP.0)
        .and_then(|rest| rest.strip_suffix(WRAP.1));
    match inner {
        Some(inner) => String::from_utf8(BASE64_STANDARD.decode(inner).ok()?).ok(),
        None => Some(value.to_owned()),
    }
}

fn mismatch(header: &str) -> RpcError {
    RpcError::new(
        RpcError::HEADER_MISMATCH,
        format!("the header {header} does not say what the body says"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(headers: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            );
        }
        map
    }

    fn raw(text: &str) -> Raw {
        Raw::from_text(text.to_owned()).unwrap()
    }

    #[test]
    fn headers_say_what_the_body_says() {
        let call = ServerRequest::new(raw("1"), "tools/call", Some(raw(r#"{"name":"tü"}"#)));
        let good = [
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-method", "tools/call"),
            ("mcp-name", " =?base64?dMO8?= "),
        ];
        let check = |headers: &[(&str, &str)]| check(&map(headers), &call, Some("2026-07-28"));
        assert_eq!(check(&good), Ok(()));
        for at in 0..good.len() {
            let mut without = good.to_vec();
            without.remove(at);
            assert_eq!(check(&without).unwrap_err().code, RpcError::HEADER_MISMATCH);
            let mut other = good;
            other[at].1 = "TOOLS/CALL";
            assert!(check(&other).is_err());
        }
        let broken = [good[0], good[1], ("mcp-name", "=?base64?dMO?=")];
        assert!(check(&broken).is_err());
    }

    #[test]
    fn mirrored_arguments_are_compared() {
        let tool = raw(r#"{"name":"q","inputSchema":{"type":"object","properties":{
                "region":{"type":"string","x-mcp-header":"Region"}}}}"#);
        let params = raw(r#"{"name":"q","arguments":{"region":"Hello"}}"#);
        let check = |headers: &[(&str, &str)]| check_arguments(&map(headers), &tool, &params);
        for good in ["Hello", "=?base64?SGVsbG8=?="] {
            assert_eq!(check(&[("mcp-param-region", good)]), Ok(()), "{good}");
        }
        for bad in [
            "hello",
            "=?base64?SGVsbG8?=",
            "=?base64?SGVs!!!bG8=?=",
            "SGVsbG8=",
        ] {
            assert!(check(&[("mcp-param-region", bad)]).is_err(), "{bad}");
        }
        assert!(check(&[]).is_err());
        let nothing = raw(r#"{"name":"q","arguments":{}}"#);
        assert_eq!(check_arguments(&map(&[]), &tool, &nothing), Ok(()));
    }
}
