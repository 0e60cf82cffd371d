//! The answer to a request that could not be served, in words that a model understands.
//! Pure.

use mcpool_core::{Delivery, Error, ErrorKind, Raw, Recovery, Result, RpcError};
use serde_json::json;

/// "Resource not found" up to MCP 2025-11-25.
pub(crate) const RESOURCE_NOT_FOUND: i64 = -32002;

/// What happened, what is known of the request, and what to do about it.
pub(crate) fn words(error: &Error) -> String {
    let server = match error.server() {
        Some(server) => format!("The server `{server}`"),
        None => "The server".to_owned(),
    };
    let what = match error.kind() {
        ErrorKind::AuthRequired => format!("{server} wants a login."),
        ErrorKind::Forbidden => format!("{server} does not allow this to the user."),
        ErrorKind::RateLimited | ErrorKind::Overloaded => format!("{server} is busy."),
        ErrorKind::Timeout => format!("{server} did not answer in time."),
        ErrorKind::Disabled => format!("{server} is switched off."),
        ErrorKind::UnknownTool => "There is no such tool.".to_owned(),
        ErrorKind::TooLarge | ErrorKind::Protocol => {
            format!("{server} gave an answer that cannot be used.")
        }
        _ => format!("{server} cannot be reached at the moment."),
    };
    let known = match error.delivery() {
        Delivery::NotSent | Delivery::Rejected => "The request was not run.",
        Delivery::Unknown => {
            "The request may have run: do not send it again unless running it twice does no harm."
        }
        _ => "",
    };
    let then = match error.recovery() {
        Recovery::Login => "The user has to log in before it is tried again.".to_owned(),
        Recovery::After(pause) => format!("Try again after {} s.", pause.as_secs().max(1)),
        Recovery::Now | Recovery::Reconnect if error.delivery() != Delivery::Unknown => {
            "It may be tried again in a while.".to_owned()
        }
        _ => String::new(),
    };
    let detail = format!("({error})");
    [what, known.to_owned(), then, detail]
        .into_iter()
        .filter(|sentence| !sentence.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The result of a tool call that could not be made: an error that the model sees
/// (MCP, "Error Handling" of tools).
fn tool_result(error: &Error) -> Result<Raw> {
    Raw::of(&json!({
        "content": [{"type": "text", "text": words(error)}],
        "isError": true,
        "_meta": {"mcpool/error": error.kind(), "mcpool/delivery": delivery(error)},
    }))
}

/// What a request that failed is answered with: a tool call has a result that the model sees.
pub(crate) fn outcome(method: &str, error: &Error) -> std::result::Result<Raw, RpcError> {
    match method {
        "tools/call" => tool_result(error).map_err(|error| rpc(&error)),
        _ => Err(rpc(error)),
    }
}

/// The error of any other request.
pub(crate) fn rpc(error: &Error) -> RpcError {
    if let Some(error) = error.rpc() {
        return error.clone();
    }
    let code = match error.kind() {
        ErrorKind::InvalidArgument | ErrorKind::UnknownTool => RpcError::INVALID_PARAMS,
        _ => RpcError::INTERNAL,
    };
    let answer = RpcError::new(code, words(error));
    match Raw::of(&json!({"mcpool/error": error.kind(), "mcpool/delivery": delivery(error)})) {
        Ok(data) => answer.with_data(data),
        Err(_) => answer,
    }
}

/// An error of an upstream as a client of this era knows it: MCP 2026-07-28 has no −32002.
pub(crate) fn in_era(mut error: RpcError, method: &str, modern: bool) -> RpcError {
    if method == "resources/read" && modern && error.code == RESOURCE_NOT_FOUND {
        error.code = RpcError::INVALID_PARAMS;
    }
    error
}

/// The refusal of a resource that nobody has.
pub(crate) fn no_resource(uri: &str, modern: bool) -> RpcError {
    let code = if modern {
        RpcError::INVALID_PARAMS
    } else {
        RESOURCE_NOT_FOUND
    };
    let error = RpcError::new(code, "no server has this resource");
    match Raw::of(&json!({ "uri": uri })) {
        Ok(data) => error.with_data(data),
        Err(_) => error,
    }
}

/// The refusal of parameters.
pub(crate) fn invalid(message: impl Into<String>) -> RpcError {
    RpcError::new(RpcError::INVALID_PARAMS, message)
}

fn delivery(error: &Error) -> &'static str {
    match error.delivery() {
        Delivery::NotSent => "not_sent",
        Delivery::Rejected => "rejected",
        Delivery::Answered => "answered",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use mcpool_core::ServerName;

    use super::*;

    #[test]
    fn a_model_learns_what_to_do() {
        let files = ServerName::new("files").unwrap();
        let said = |kind| words(&Error::new(kind, "it broke").with_server(&files));
        let lost = said(ErrorKind::NotConnected);
        assert!(
            lost.starts_with("The server `files` cannot be reached"),
            "{lost}"
        );
        assert!(
            lost.contains("was not run") && lost.contains("tried again"),
            "{lost}"
        );
        let unknown = said(ErrorKind::OutcomeUnknown);
        assert!(unknown.contains("do not send it again"), "{unknown}");
        assert!(!unknown.contains("may be tried again"), "{unknown}");
        assert!(said(ErrorKind::AuthRequired).contains("log in"));
        let result = tool_result(&Error::new(ErrorKind::Timeout, "silence")).unwrap();
        assert!(result.get().contains(r#""isError":true"#));
        assert!(result.get().contains(r#""mcpool/delivery":"unknown""#));
    }

    #[test]
    fn what_the_server_said_is_passed_on() {
        let said = RpcError::new(-32002, "no such thing");
        let error = Error::from_rpc(said.clone());
        assert_eq!(rpc(&error), said);
        assert_eq!(in_era(said.clone(), "resources/read", true).code, -32602);
        assert_eq!(in_era(said.clone(), "resources/read", false).code, -32002);
        assert_eq!(in_era(said, "tools/call", true).code, -32002);
    }
}
