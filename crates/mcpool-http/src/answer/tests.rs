#![allow(clippy::unwrap_used)]
use mcpool_core::model::RequestId;

use super::*;

fn request(id: i64) -> Posted {
    Posted {
        id: Some(RequestId::Number(id)),
        handshake: false,
        discover: false,
        session_attached: false,
        resumable: true,
    }
}

fn refuse(status: u16, body: &str, posted: &Posted) -> PostResult {
    let status = StatusCode::from_u16(status).unwrap();
    classify_refusal(status, &HeaderMap::new(), body.as_bytes(), posted)
}

fn rpc(code: i32, message: &str, id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","error":{{"code":{code},"message":"{message}"}},"id":{id}}}"#)
}

#[track_caller]
fn answered(result: PostResult) -> (i32, RequestId) {
    match result.unwrap() {
        StreamableHttpPostResponse::Json(JsonRpcMessage::Error(error), None) => {
            (error.error.code.0, error.id.unwrap())
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn failed(result: PostResult) -> Error {
    match result.unwrap_err() {
        StreamableHttpError::Client(error) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_error_object_is_an_answer_whatever_its_id() {
    for id in ["null", "\"server-error\"", "7"] {
        for status in [400, 404, 500] {
            let result = refuse(status, &rpc(-32602, "no", id), &request(7));
            assert_eq!(answered(result), (-32602, RequestId::Number(7)));
        }
    }
}

#[test]
fn a_lost_session_is_recognised_by_its_words() {
    let mut posted = request(7);
    posted.session_attached = true;
    for code in [-32000, -32600] {
        let body = rpc(code, "Bad Request: No valid session ID provided", "null");
        assert!(matches!(
            refuse(400, &body, &posted),
            Err(StreamableHttpError::SessionExpired)
        ));
        posted.session_attached = false;
        assert_eq!(answered(refuse(400, &body, &posted)).0, code);
        posted.session_attached = true;
    }
    let other = rpc(-32000, "the tool is broken", "7");
    assert_eq!(answered(refuse(400, &other, &posted)).0, -32000);
    let params = rpc(-32602, "session is required", "7");
    assert_eq!(answered(refuse(400, &params, &posted)).0, -32602);
}

#[test]
fn only_the_first_discover_takes_a_4xx_for_an_answer() {
    let mut posted = request(7);
    posted.discover = true;
    posted.handshake = true;
    for (status, body) in [(400, ""), (404, "<html>"), (405, "{}")] {
        match refuse(status, body, &posted).unwrap() {
            StreamableHttpPostResponse::Json(JsonRpcMessage::Error(error), None) => {
                assert_eq!(error.id, Some(RequestId::Number(7)));
                let data = error.error.data.unwrap();
                assert_eq!(data["httpStatus"], status);
            }
            other => panic!("{other:?}"),
        }
        posted.handshake = false;
        let error = failed(refuse(status, body, &posted));
        assert_eq!(error.http_status(), Some(status));
        posted.handshake = true;
    }
    for (status, kind) in [
        (401, ErrorKind::AuthRequired),
        (403, ErrorKind::Forbidden),
        (429, ErrorKind::RateLimited),
        (500, ErrorKind::HttpStatus),
    ] {
        assert_eq!(failed(refuse(status, "", &posted)).kind(), kind);
    }
}

#[test]
fn a_message_that_is_no_request_gets_the_status() {
    let mut posted = request(7);
    posted.id = None;
    let error = failed(refuse(400, &rpc(-32602, "no", "null"), &posted));
    assert_eq!(error.kind(), ErrorKind::HttpStatus);
}

#[test]
fn bodies() {
    let id = RequestId::Number(7);
    let error = failed(message(b"", &id, None));
    assert!(error.to_string().contains("empty body"), "{error}");
    let error = failed(message(b"<html>", &id, None));
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert_eq!(error.delivery(), Delivery::Answered);
    let no_id = rpc(-32600, "what", "null");
    assert_eq!(answered(message(no_id.as_bytes(), &id, None)).1, id);
    let batch = r#"[{"jsonrpc":"2.0","id":7,"result":{}}]"#;
    assert!(matches!(
        message(batch.as_bytes(), &id, None).unwrap(),
        StreamableHttpPostResponse::Sse(..)
    ));
}
