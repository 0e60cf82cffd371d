//! Messages of ours as text: one line each, without its end.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::{Notification, Raw, RawObject, RequestId, Result, RpcError, WireRequest};

/// A request as text, with the members of its `meta` in the parameters' `_meta`. With `progress`,
/// `_meta.progressToken` asks the server to report progress: the token is the id (MCP,
/// "Progress").
///
/// Every transport uses it, so that a request is the same text on each.
///
/// # Errors
/// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) when there is something for `_meta`, and
/// the parameters, or their `_meta`, are no object.
pub fn encode(id: RequestId, request: &WireRequest<'_>, progress: bool) -> Result<String> {
    let params = request.params.map_or("", Raw::get);
    let mut line = String::with_capacity(request.method.len() + params.len() + 96);
    line.push_str(r#"{"jsonrpc":"2.0","id":"#);
    push_id(&mut line, id);
    line.push_str(r#","method":"#);
    push_text(&mut line, request.method)?;
    let meta = request.meta.filter(|meta| !meta.is_empty());
    if progress || meta.is_some() {
        line.push_str(r#","params":"#);
        push_with_meta(&mut line, request.params, meta, progress.then_some(id))?;
    } else if !params.is_empty() {
        line.push_str(r#","params":"#);
        line.push_str(params);
    }
    line.push('}');
    Ok(line)
}

/// A notification as text.
///
/// # Errors
/// None in practice: every text can be JSON.
pub fn encode_notification(notification: &Notification) -> Result<String> {
    let params = notification.params.as_ref().map_or("", Raw::get);
    let mut line = String::with_capacity(notification.method.len() + params.len() + 64);
    line.push_str(r#"{"jsonrpc":"2.0","method":"#);
    push_text(&mut line, &notification.method)?;
    if !params.is_empty() {
        line.push_str(r#","params":"#);
        line.push_str(params);
    }
    line.push('}');
    Ok(line)
}

/// An answer to a request of the server as text; its id is echoed as it came.
///
/// # Errors
/// None in practice: every error can be JSON.
pub fn encode_response(id: &Raw, outcome: &std::result::Result<Raw, RpcError>) -> Result<String> {
    let (member, payload) = match outcome {
        Ok(result) => ("result", result.clone()),
        Err(error) => ("error", Raw::of(error)?),
    };
    Ok(format!(
        r#"{{"jsonrpc":"2.0","id":{},"{member}":{}}}"#,
        id.get(),
        payload.get()
    ))
}

/// `format!` costs more than the rest of a short request.
fn push_id(line: &mut String, id: RequestId) {
    line.push_str(itoa::Buffer::new().format(id.get()));
}

fn push_text(line: &mut String, text: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        line.push('"');
        line.push_str(text);
        line.push('"');
        return Ok(());
    }
    line.push_str(Raw::of(text)?.get());
    Ok(())
}

/// The parameters with these members, and a progress token, in their `_meta`.
fn push_with_meta(
    line: &mut String,
    params: Option<&Raw>,
    meta: Option<&RawObject>,
    token: Option<RequestId>,
) -> Result<()> {
    let text = params.map_or("{}", Raw::get);
    // Nearly every request: nothing called `_meta` anywhere, so one can be put in front. An
    // escape could spell the name in another way; a second `_meta` in front of it would lose.
    let spelled = META.find(text.as_bytes()).is_some()
        || (memchr::memchr(b'\\', text.as_bytes()).is_some()
            && ESCAPE.find(text.as_bytes()).is_some());
    if let (false, Some(members)) = (spelled, text.strip_prefix('{')) {
        line.push_str(r#"{"_meta":{"#);
        for (name, value) in meta.into_iter().flat_map(RawObject::iter) {
            if token.is_some() && name == TOKEN {
                continue;
            }
            if !line.ends_with('{') {
                line.push(',');
            }
            push_text(line, name)?;
            line.push(':');
            line.push_str(value.get());
        }
        if let Some(token) = token {
            if !line.ends_with('{') {
                line.push(',');
            }
            line.push_str(r#""progressToken":"#);
            push_id(line, token);
        }
        line.push('}');
        let members = members.trim_start();
        if !members.starts_with('}') {
            line.push(',');
        }
        line.push_str(members);
        return Ok(());
    }
    let mut object: RawObject = match params {
        Some(params) => RawObject::parse(params).map_err(no_object)?,
        None => RawObject::new(),
    };
    let mut members = match object.get("_meta").filter(|meta| !meta.is_null()) {
        Some(meta) => RawObject::parse(meta).map_err(no_object)?,
        None => RawObject::new(),
    };
    for (name, value) in meta.into_iter().flat_map(RawObject::iter) {
        members.insert(name, value.clone());
    }
    if let Some(token) = token {
        members.insert(TOKEN, Raw::of(&token)?);
    }
    object.insert("_meta", members.to_raw()?);
    line.push_str(object.to_raw()?.get());
    Ok(())
}

const TOKEN: &str = "progressToken";
/// Made once: making one costs more than most searches.
static META: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("_meta"));
static ESCAPE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(r"\u"));

fn no_object(error: crate::Error) -> crate::Error {
    crate::Error::new(
        crate::ErrorKind::InvalidArgument,
        format!("the parameters and their `_meta` must be objects: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(params: Option<&str>, progress: bool) -> Result<String> {
        let raw = params.map(|text| Raw::from_text(text.to_owned()).unwrap());
        let request = WireRequest::new("tools/call", raw.as_ref());
        encode(RequestId::new(7), &request, progress)
    }

    #[test]
    fn requests_are_one_line_with_their_parameters_untouched() {
        assert_eq!(
            request(Some(r#"{"name":"x","n":1e999}"#), false).unwrap(),
            r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x","n":1e999}}"#
        );
        assert_eq!(
            request(None, false).unwrap(),
            r#"{"jsonrpc":"2.0","id":7,"method":"tools/call"}"#
        );
    }

    #[test]
    fn a_progress_token_joins_whatever_meta_there_is() {
        let head = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":"#;
        for (params, wanted) in [
            (None, r#"{"_meta":{"progressToken":7}}"#),
            (Some("{ }"), r#"{"_meta":{"progressToken":7}}"#),
            (
                Some(r#"{"name":"x"}"#),
                r#"{"_meta":{"progressToken":7},"name":"x"}"#,
            ),
            (
                Some(r#"{"name":"x","_meta":{"a":1e9}}"#),
                r#"{"name":"x","_meta":{"a":1e9,"progressToken":7}}"#,
            ),
            (
                Some(r#"{"\u005fmeta":{"a":1}}"#),
                r#"{"_meta":{"a":1,"progressToken":7}}"#,
            ),
            (
                Some(r#"{"_meta":null}"#),
                r#"{"_meta":{"progressToken":7}}"#,
            ),
        ] {
            assert_eq!(
                request(params, true).unwrap(),
                format!("{head}{wanted}}}"),
                "{params:?}"
            );
        }
        for bad in ["[]", "5", r#"{"_meta":5}"#] {
            let error = request(Some(bad), true).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::InvalidArgument, "{bad}");
        }
    }

    #[test]
    fn members_for_meta_win_over_those_that_are_there() {
        let mut meta = RawObject::new();
        meta.insert("a", Raw::from_text("1e400".to_owned()).unwrap());
        meta.insert("\u{fc}", Raw::null());
        let encoded = |params: Option<&str>, progress: bool| {
            let raw = params.map(|text| Raw::from_text(text.to_owned()).unwrap());
            let request = WireRequest::new("x", raw.as_ref()).with_meta(Some(&meta));
            let line = encode(RequestId::new(7), &request, progress).unwrap();
            let head = r#"{"jsonrpc":"2.0","id":7,"method":"x","params":"#;
            let rest = line.strip_prefix(head).unwrap().strip_suffix('}').unwrap();
            rest.to_owned()
        };
        for (params, progress, wanted) in [
            (None, false, r#"{"_meta":{"a":1e400,"ü":null}}"#),
            (
                None,
                true,
                r#"{"_meta":{"a":1e400,"ü":null,"progressToken":7}}"#,
            ),
            (Some("{}"), false, r#"{"_meta":{"a":1e400,"ü":null}}"#),
            (
                Some(r#"{"name":"x"}"#),
                true,
                r#"{"_meta":{"a":1e400,"ü":null,"progressToken":7},"name":"x"}"#,
            ),
            (
                Some(r#"{"_meta":{"b":2,"a":3,"progressToken":"x"}}"#),
                true,
                r#"{"_meta":{"b":2,"a":1e400,"progressToken":7,"ü":null}}"#,
            ),
        ] {
            assert_eq!(encoded(params, progress), wanted, "{params:?}");
        }
        // An empty object asks for nothing.
        let nothing = RawObject::new();
        let request = WireRequest::new("x", None).with_meta(Some(&nothing));
        let line = encode(RequestId::new(7), &request, false).unwrap();
        assert_eq!(line, r#"{"jsonrpc":"2.0","id":7,"method":"x"}"#);
    }

    #[test]
    fn answers_echo_the_id() {
        let id = Raw::from_text("\"a-1\"".to_owned()).unwrap();
        assert_eq!(
            encode_response(&id, &Ok(Raw::empty_object())).unwrap(),
            r#"{"jsonrpc":"2.0","id":"a-1","result":{}}"#
        );
        assert_eq!(
            encode_response(&id, &Err(RpcError::new(-1, "no\n"))).unwrap(),
            r#"{"jsonrpc":"2.0","id":"a-1","error":{"code":-1,"message":"no\n"}}"#
        );
    }
}
