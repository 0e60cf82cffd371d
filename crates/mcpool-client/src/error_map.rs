//! What the caller is told of a request that failed. Pure functions.

use std::time::Duration;

use mcpool_core::{
    CloseReason, Delivery, Diagnostics, Error, ErrorKind,
    model::{ErrorCode, ErrorData},
};

/// rmcp's Streamable HTTP worker answers a request whose response stream broke with a JSON-RPC
/// error of its own, marked by this key.
const STREAM_BROKEN: &str = "io.modelcontextprotocol/transportClosed";

/// What the same worker answers to requests that were in flight when a session was lost.
const SESSION_REPLACED: &str = "session was re-initialized before the response arrived";

/// The error for a JSON-RPC error object in an answer.
///
/// Errors that the HTTP worker made up itself are told apart: nothing is known of their requests.
pub(crate) fn rpc(error: ErrorData) -> Error {
    let marked = error
        .data
        .as_ref()
        .and_then(|data| data.get(STREAM_BROKEN))
        .is_some_and(serde_json::Value::is_u64);
    let replaced =
        error.code == ErrorCode::INTERNAL_ERROR && error.message.contains(SESSION_REPLACED);
    if marked || replaced {
        return Error::new(
            ErrorKind::ConnectionLost,
            format!("the answer was lost: {}", error.message),
        )
        .with_delivery(Delivery::Unknown);
    }
    Error::from_rpc(error)
}

/// The error for everything that was pending when the connection ended by itself.
pub(crate) fn lost(failure: Option<Error>, diagnostics: Diagnostics) -> Error {
    let error = failure.unwrap_or_else(|| match &diagnostics.exit_status {
        Some(status) => Error::new(
            ErrorKind::ProcessExited,
            format!("the server's process ended ({status})"),
        ),
        None => Error::new(
            ErrorKind::ConnectionLost,
            "the server closed the connection",
        ),
    });
    with_stderr(error, diagnostics)
}

/// Adds the last lines of stderr, unless the error has them.
pub(crate) fn with_stderr(error: Error, diagnostics: Diagnostics) -> Error {
    if error.stderr_tail().is_empty() && !diagnostics.stderr_tail.is_empty() {
        error.with_stderr_tail(diagnostics.stderr_tail)
    } else {
        error
    }
}

/// The error for a request that came after the end of the connection.
pub(crate) fn gone(reason: Option<&CloseReason>) -> Error {
    match reason {
        Some(CloseReason::Lost(error)) => error.clone(),
        Some(_) => Error::new(ErrorKind::Closed, "the client is closed"),
        None => Error::new(ErrorKind::ConnectionLost, "the connection has ended"),
    }
    .with_delivery(Delivery::NotSent)
}

/// The error for a request that took too long.
pub(crate) fn timed_out(waited: Duration, hard: bool) -> Error {
    let waited = Duration::from_millis(u64::try_from(waited.as_millis()).unwrap_or(u64::MAX));
    let message = if hard {
        format!("no answer within {waited:?}, the most that is allowed for one request")
    } else {
        format!("no answer and no progress within {waited:?}")
    };
    Error::new(ErrorKind::Timeout, message)
}

/// A result that is not what the protocol says.
pub(crate) fn protocol(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Protocol, message).with_delivery(Delivery::Answered)
}

/// The name of an operation in an error.
pub(crate) fn operation(method: &str) -> &'static str {
    const KNOWN: &[&str] = &[
        "completion/complete",
        "initialize",
        "logging/setLevel",
        "ping",
        "prompts/get",
        "prompts/list",
        "resources/list",
        "resources/read",
        "resources/subscribe",
        "resources/templates/list",
        "resources/unsubscribe",
        "server/discover",
        "subscriptions/listen",
        "tools/call",
        "tools/list",
    ];
    KNOWN
        .iter()
        .find(|known| **known == method)
        .copied()
        .unwrap_or("request")
}

#[cfg(test)]
mod tests {
    use super::*;
    use mcpool_core::StderrLine;
    use serde_json::json;

    #[test]
    fn an_rpc_error_is_an_answer() {
        let error = rpc(ErrorData::invalid_params("no such tool", None));
        assert_eq!(error.kind(), ErrorKind::Rpc);
        assert_eq!(error.delivery(), Delivery::Answered);
    }

    #[test]
    fn what_the_http_worker_made_up_is_no_answer() {
        let broken = ErrorData::internal_error("closed", Some(json!({ STREAM_BROKEN: 7 })));
        let replaced = ErrorData::internal_error(
            "streamable HTTP session was re-initialized before the response arrived",
            None,
        );
        for data in [broken, replaced] {
            let error = rpc(data);
            assert_eq!(error.kind(), ErrorKind::ConnectionLost);
            assert_eq!(error.delivery(), Delivery::Unknown);
        }
        // The same words from the server itself, under another code, are its answer.
        let said = ErrorData::invalid_params(SESSION_REPLACED, None);
        assert_eq!(rpc(said).kind(), ErrorKind::Rpc);
    }

    #[test]
    fn a_lost_connection_tells_what_is_known() {
        let mut diagnostics = Diagnostics::default();
        assert_eq!(
            lost(None, diagnostics.clone()).kind(),
            ErrorKind::ConnectionLost
        );

        diagnostics.exit_status = Some("exit status: 3".to_owned());
        diagnostics.stderr_tail = vec![StderrLine::now("no token")];
        let error = lost(None, diagnostics.clone());
        assert_eq!(error.kind(), ErrorKind::ProcessExited);
        assert!(error.message().contains("exit status: 3"));
        assert_eq!(error.stderr_tail()[0].text, "no token");

        let failure = Error::new(ErrorKind::TooLarge, "a line of 65 MiB");
        let error = lost(Some(failure), diagnostics);
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert_eq!(error.stderr_tail().len(), 1);
    }

    #[test]
    fn after_the_end_nothing_is_sent() {
        let lost = CloseReason::Lost(Error::new(ErrorKind::ProcessExited, "gone"));
        for reason in [None, Some(lost), Some(CloseReason::Requested)] {
            assert_eq!(gone(reason.as_ref()).delivery(), Delivery::NotSent);
        }
        assert_eq!(
            gone(Some(&CloseReason::Requested)).kind(),
            ErrorKind::Closed
        );
    }
}
