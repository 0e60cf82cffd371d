//! The error object of JSON-RPC.

use std::{borrow::Cow, fmt};

use serde::Serialize;
use serde_json::value::RawValue;

use super::RawObject;
use crate::Raw;

/// The error object of a JSON-RPC answer, ours or the server's.
///
/// Its message is the server's own words: show it through a cleaner.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RpcError {
    /// The code.
    pub code: i64,
    /// The message, as it came.
    pub message: String,
    /// The data, as it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Raw>,
}

impl RpcError {
    /// Invalid JSON was received.
    pub const PARSE: i64 = -32700;
    /// The message is no valid request.
    pub const INVALID_REQUEST: i64 = -32600;
    /// The method is not offered.
    pub const METHOD_NOT_FOUND: i64 = -32601;
    /// The parameters do not fit.
    pub const INVALID_PARAMS: i64 = -32602;
    /// Something else went wrong.
    pub const INTERNAL: i64 = -32603;
    /// A header contradicts the body (MCP 2026-07-28).
    pub const HEADER_MISMATCH: i64 = -32020;
    /// The client lacks a capability that the request needs (MCP 2026-07-28).
    pub const MISSING_CLIENT_CAPABILITY: i64 = -32021;
    /// The protocol version is not supported (MCP 2026-07-28).
    pub const UNSUPPORTED_PROTOCOL_VERSION: i64 = -32022;

    /// An error without data.
    #[must_use]
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            data: None,
        }
    }

    /// The refusal of a method that is not offered.
    #[must_use]
    pub fn method_not_found(method: &str) -> Self {
        Self::new(
            Self::METHOD_NOT_FOUND,
            format!("this client does not offer {method}"),
        )
    }

    /// Adds data.
    #[must_use]
    pub fn with_data(mut self, data: Raw) -> Self {
        self.data = Some(data);
        self
    }

    /// Reads what real servers send as `error`: an object with any of its members missing or of
    /// another type, a text, anything.
    #[must_use]
    pub fn read(raw: &RawValue) -> Self {
        let text = |raw: &Raw| match raw.parse::<String>() {
            Ok(text) => text,
            Err(_) => raw.get().to_owned(),
        };
        let raw = Raw::copied(raw);
        match RawObject::parse(&raw) {
            Ok(mut members) => Self {
                code: members.get("code").and_then(code).unwrap_or(Self::INTERNAL),
                message: match members.get("message") {
                    Some(message) if !message.is_null() => text(message),
                    _ => "the server gives no message".to_owned(),
                },
                data: members.remove("data"),
            },
            Err(_) => Self::new(Self::INTERNAL, text(&raw)),
        }
    }
}

/// A code as a number, a float or a text of one.
fn code(raw: &Raw) -> Option<i64> {
    let text: Cow<'_, str> = match raw.get().strip_prefix('"') {
        Some(_) => Cow::Owned(serde_json::from_str::<String>(raw.get()).ok()?),
        None => Cow::Borrowed(raw.get()),
    };
    let text = text.trim();
    text.parse().ok().or_else(|| {
        let float: f64 = text.parse().ok()?;
        // `as` saturates.
        float.is_finite().then_some(float as i64)
    })
}

impl RpcError {
    /// The message, without the code that servers made with the TypeScript SDK put before it
    /// (`MCP error -32602: …`).
    #[must_use]
    pub fn words(&self) -> &str {
        let code = format!("MCP error {}: ", self.code);
        self.message.strip_prefix(&*code).unwrap_or(&self.message)
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.words())
    }
}

impl std::error::Error for RpcError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> RpcError {
        RpcError::read(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn what_real_servers_send_is_read() {
        let plain = read(r#"{"code":-32601,"message":"no such method","data":{"n":1e999}}"#);
        assert_eq!((plain.code, &*plain.message), (-32601, "no such method"));
        assert_eq!(plain.data.as_ref().unwrap().get(), r#"{"n":1e999}"#);
        assert_eq!(plain.to_string(), "-32601: no such method");
        let twice = read(r#"{"code":-32602,"message":"MCP error -32602: no such tool"}"#);
        assert_eq!(twice.to_string(), "-32602: no such tool");
        assert_eq!(read(r#""it broke""#).message, "it broke");
        assert_eq!(read(r#"{"code":"-32000","message":5}"#).code, -32000);
        assert_eq!(read(r#"{"code":"-32000","message":5}"#).message, "5");
        assert_eq!(read(r#"{"code":-32000.0}"#).code, -32000);
        assert_eq!(read("[1]").message, "[1]");
        assert_eq!(read("{}").code, RpcError::INTERNAL);
        let null = read(r#"{"code":1,"message":null,"data":null}"#);
        assert_eq!(null.message, "the server gives no message");
        assert_eq!(null.data, Some(Raw::null()), "null is there");
        assert_eq!(read(r#"{"code":1,"code":2,"message":""}"#).code, 2);
        assert_eq!(
            read(r#"{"code":1,"message":"a\ud800"}"#).message,
            "a\u{fffd}"
        );
    }
}
