//! What an answer with an error status means, and which refusals say that the session is lost.
//! Pure.

use mcpool_core::{
    Delivery, Error, Message, ParsedLine, Raw, RequestId, ResponseId, RpcError, parse_line,
};
use mcpool_http_pool::{
    http::{StatusCode, header::HeaderMap},
    refusal_error, retry_after, says_lost_session,
};

/// Whether a refusal says that the server does not know the session any more. A request that was
/// refused for that did not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// It says something else.
    No,
    /// It says so by its status.
    ByStatus,
    /// It says so in words beside another error status.
    InRefusal,
    /// It says so in the words of a JSON-RPC error beside a good status.
    InWords,
    /// It says nothing. Two of these in a row are a lost session.
    Perhaps,
    /// As that, and the request may have run: it is not sent again.
    Unclear,
}

impl Lost {
    /// Whether the refusal alone is enough to begin the session again.
    pub(crate) fn is_said(self) -> bool {
        matches!(self, Self::ByStatus | Self::InRefusal)
    }
}

/// What the session of a refused request can have to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionState {
    /// There is none: it was never begun, or the request is what begins it.
    None,
    /// It was begun, and the server gave it no id.
    WithoutId,
    /// The request named its id.
    WithId,
}

/// An answer with an error status.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) error: Error,
    pub(crate) lost: Lost,
    /// The result of the request, which the status belies.
    pub(crate) result: Option<Raw>,
}

/// Reads an answer with an error status to this request; to none, where a notification was sent.
///
/// A JSON-RPC error is the answer, whatever its id, which can only mean this request, and
/// whatever the status: except 429, and 503 with `Retry-After`, which ask for a pause. A result is
/// the answer where it has the request's id. Of a body that was not read to its end nothing is known.
pub(crate) fn read(
    status: StatusCode,
    headers: &HeaderMap,
    body: Option<&[u8]>,
    session: SessionState,
    asked: Option<RequestId>,
) -> Refusal {
    let text = String::from_utf8_lossy(body.unwrap_or_default());
    let said = said(&text, asked);
    let (rpc, is_own) = match said {
        Said::Error { error, is_own } => (Some(error), is_own),
        Said::Result(result) => {
            return Refusal {
                error: refusal_error(status, headers, &text).with_delivery(Delivery::Answered),
                lost: Lost::No,
                result: Some(result),
            };
        }
        Said::Nothing => (None, false),
    };
    let error = refusal_error(
        status,
        headers,
        rpc.as_ref().map_or(&*text, |rpc| &*rpc.message),
    );
    let asks_for_pause = status == StatusCode::TOO_MANY_REQUESTS
        || (status == StatusCode::SERVICE_UNAVAILABLE
            && retry_after(headers, std::time::SystemTime::now()).is_some());
    if asks_for_pause {
        return Refusal {
            error,
            lost: Lost::No,
            result: None,
        };
    }
    let lost = match lost_by_status(status, rpc.as_ref(), is_own, &text, session) {
        Lost::ByStatus if body.is_none() => Lost::Unclear,
        lost => lost,
    };
    let error = match rpc {
        Some(rpc) => Error::from_rpc(rpc).with_http_status(status.as_u16()),
        None => error,
    };
    let error = match lost {
        _ if lost.is_said() => error.with_delivery(Delivery::Rejected),
        Lost::Unclear if error.delivery() != Delivery::Answered => {
            error.with_delivery(Delivery::Unknown)
        }
        _ => error,
    };
    Refusal {
        error,
        lost,
        result: None,
    }
}

/// What a body says beside an error status.
enum Said {
    Error {
        error: RpcError,
        /// Whether it names the request.
        is_own: bool,
    },
    Result(Raw),
    Nothing,
}

fn said(text: &str, asked: Option<RequestId>) -> Said {
    let mut parsed = parse_line(text);
    if parsed.is_err() {
        // An event stream, perhaps, of one message.
        let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
        parsed = parse_line(&data.collect::<Vec<_>>().join("\n"));
    }
    let Ok(ParsedLine::One(Ok(Message::Response { id, outcome }))) = parsed else {
        return Said::Nothing;
    };
    let is_own = asked.is_some_and(|asked| id == ResponseId::Ours(asked));
    match outcome {
        Err(error) => Said::Error { error, is_own },
        Ok(result) if is_own => Said::Result(result),
        Ok(_) => Said::Nothing,
    }
}

fn lost_by_status(
    status: StatusCode,
    rpc: Option<&RpcError>,
    is_own: bool,
    text: &str,
    session: SessionState,
) -> Lost {
    if session == SessionState::None {
        return Lost::No;
    }
    let has_id = session == SessionState::WithId;
    let about_the_call = rpc.is_some_and(|rpc| {
        matches!(
            rpc.code,
            RpcError::METHOD_NOT_FOUND | RpcError::INVALID_PARAMS
        )
    });
    let says = match rpc {
        Some(rpc) => says_lost_session(&rpc.message),
        None => says_lost_session(text),
    };
    match status.as_u16() {
        // MCP 2025-11-25, "Session Management", rule 3. The method and its parameters may be not
        // found as well, and who names the request in an error without a word of a session has
        // looked at it, and perhaps run it.
        404 | 410 if has_id && (says || !(about_the_call || is_own)) => Lost::ByStatus,
        404 | 410 if has_id && is_own && !about_the_call => Lost::Unclear,
        400..=499 if says => Lost::InRefusal,
        // A server that breaks may have run the request, whatever its page says.
        _ if says && rpc.is_some() => Lost::InRefusal,
        400 if has_id && !about_the_call => Lost::Perhaps,
        _ => Lost::No,
    }
}

/// Whether a JSON-RPC error beside a good status says that the session is lost.
pub(crate) fn lost_in_words(error: &RpcError, session: SessionState) -> Lost {
    // Of the codes that servers choose for it. Others are of tools, which may have sessions of
    // their own.
    let code = matches!(error.code, -32000 | -32001 | -32002 | -32005 | -32600);
    match session != SessionState::None && code && says_lost_session(&error.message) {
        true => Lost::InWords,
        false => Lost::No,
    }
}

#[cfg(test)]
mod tests {
    use mcpool_core::ErrorKind;

    use super::*;

    fn refuse(status: u16, body: &str, session: SessionState) -> Refusal {
        let status = StatusCode::from_u16(status).unwrap();
        let asked = Some(RequestId::new(7));
        let body = Some(body.as_bytes());
        read(status, &HeaderMap::new(), body, session, asked)
    }

    #[test]
    fn what_names_the_request_is_its_answer() {
        let said = |what: &str, id: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},{what}}}"#);
        let paid = r#""result":{"paid":true}"#;
        let failed = r#""error":{"code":-32000,"message":"paid, then failed"}"#;
        let gone = r#""error":{"code":-32000,"message":"Session not found"}"#;
        for status in [400, 404, 410, 429, 500] {
            let answered = refuse(status, &said(paid, "7"), WithId);
            assert_eq!(answered.result.unwrap().get(), r#"{"paid":true}"#);
            assert_eq!(answered.lost, Lost::No, "{status}");
            // The result of another request is none of this one.
            assert!(refuse(status, &said(paid, "8"), WithId).result.is_none());
        }
        for status in [404, 410] {
            let stream = format!("event: message\r\ndata: {}\r\n\r\n", said(failed, "7"));
            for body in [said(failed, "7"), stream] {
                let answered = refuse(status, &body, WithId);
                assert_eq!(answered.lost, Lost::Unclear, "{status}");
                assert_eq!(answered.error.delivery(), Delivery::Answered);
            }
            for (what, id) in [(failed, "null"), (gone, "7"), (gone, "null")] {
                let lost = refuse(status, &said(what, id), WithId);
                assert_eq!(lost.lost, Lost::ByStatus, "{status} {what} {id}");
            }
        }
    }

    fn rpc(code: i32, message: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","error":{{"code":{code},"message":"{message}"}},"id":null}}"#)
    }

    use SessionState::{None as NoSession, WithId, WithoutId};

    #[test]
    fn an_error_object_is_the_answer() {
        for status in [400, 404, 422, 500] {
            let refusal = refuse(status, &rpc(-32602, "no"), WithId);
            assert_eq!(refusal.error.kind(), ErrorKind::Rpc);
            assert_eq!(refusal.error.rpc().unwrap().code, -32602);
            assert_eq!(refusal.error.http_status(), Some(status));
            assert_eq!(refusal.error.delivery(), Delivery::Answered);
            assert_eq!(refusal.lost, Lost::No);
        }
        let text = r#"{"jsonrpc":"2.0","error":"it broke","id":1}"#;
        assert_eq!(
            refuse(500, text, WithId).error.rpc().unwrap().message,
            "it broke"
        );
    }

    #[test]
    fn of_a_body_that_was_not_read_nothing_is_known() {
        let (headers, asked) = (HeaderMap::new(), Some(RequestId::new(7)));
        for (session, lost, delivery) in [
            (WithId, Lost::Unclear, Delivery::Unknown),
            (NoSession, Lost::No, Delivery::Rejected),
        ] {
            let refusal = read(StatusCode::NOT_FOUND, &headers, None, session, asked);
            assert_eq!((refusal.lost, refusal.error.delivery()), (lost, delivery));
        }
    }

    #[test]
    fn a_pause_is_a_pause_whatever_the_body() {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", "7".parse().unwrap());
        for status in [429, 503] {
            let body = rpc(-32000, "Session not found");
            let status = StatusCode::from_u16(status).unwrap();
            let refusal = read(status, &headers, Some(body.as_bytes()), WithId, None);
            assert_eq!(refusal.error.kind(), ErrorKind::RateLimited);
            assert_eq!(refusal.lost, Lost::No);
        }
    }

    #[test]
    fn a_lost_session_is_known_in_whatever_words() {
        let not_found = rpc(-32600, "Session not found");
        let none = rpc(-32000, "Bad Request: No valid session ID provided");
        let server = rpc(-32603, "session not found");
        let uninitialized = rpc(-32000, "Bad Request: Server not initialized");
        for (status, body, lost) in [
            (404, not_found.as_str(), Lost::ByStatus),
            (404, "<html>404</html>", Lost::ByStatus),
            (404, "", Lost::ByStatus),
            (410, "", Lost::ByStatus),
            (400, none.as_str(), Lost::InRefusal),
            (400, uninitialized.as_str(), Lost::InRefusal),
            (400, "Invalid session ID", Lost::InRefusal),
            (400, "{\"error\": \"session expired\"}", Lost::InRefusal),
            (409, "The session was terminated", Lost::InRefusal),
            (422, "Unknown session", Lost::InRefusal),
            (500, server.as_str(), Lost::InRefusal),
        ] {
            let refusal = refuse(status, body, WithId);
            assert_eq!(refusal.lost, lost, "{status} {body}");
            assert_eq!(refusal.error.delivery(), Delivery::Rejected);
            assert_eq!(refuse(status, body, NoSession).lost, Lost::No);
        }
        // A server that gives no ids can only say it in words.
        let refusal = refuse(400, &uninitialized, WithoutId);
        assert_eq!(refusal.lost, Lost::InRefusal);
        assert_eq!(refuse(404, "", WithoutId).lost, Lost::No);
    }

    #[test]
    fn what_is_about_the_call_or_somebody_elses_session_is_not_the_session() {
        let login = "<html>Your session has expired, log in again</html>";
        let required = rpc(-32602, "session is required");
        let method = rpc(-32601, "Method not found");
        let tool = rpc(-32000, "the tool is broken");
        for (status, body, lost) in [
            (404, method.as_str(), Lost::No),
            (400, required.as_str(), Lost::No),
            (500, "out of memory", Lost::No),
            (500, "Session terminated", Lost::No),
            (504, "session timeout", Lost::No),
            (502, login, Lost::No),
            (405, "", Lost::No),
            (400, login, Lost::Perhaps),
            (400, "", Lost::Perhaps),
            (400, tool.as_str(), Lost::Perhaps),
        ] {
            assert_eq!(refuse(status, body, WithId).lost, lost, "{status} {body}");
        }
        assert_eq!(refuse(400, "", WithoutId).lost, Lost::No);
    }

    #[test]
    fn beside_a_good_status_only_words_of_the_right_codes_count() {
        for (code, message, lost) in [
            (-32001, "Session not found", Lost::InWords),
            (-32005, "Session not found", Lost::InWords),
            (-32002, "Server not initialized", Lost::InWords),
            (-32002, "Resource not found", Lost::No),
            (-32603, "Session not found", Lost::No),
            (-32602, "unknown session", Lost::No),
            (-32000, "the tool is broken", Lost::No),
        ] {
            let error = RpcError::new(code, message);
            assert_eq!(lost_in_words(&error, WithId), lost, "{code} {message}");
            assert_eq!(lost_in_words(&error, NoSession), Lost::No);
        }
    }

    #[test]
    fn a_bare_status_is_an_error_of_its_own() {
        let refusal = refuse(400, "what do you want", NoSession);
        assert_eq!(refusal.error.kind(), ErrorKind::HttpStatus);
        assert!(
            refusal.error.to_string().contains("\"what do you want\""),
            "{}",
            refusal.error
        );
    }
}
