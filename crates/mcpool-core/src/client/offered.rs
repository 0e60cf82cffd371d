//! What a server may ask of its client: what the client has declared, and nothing else. Pure.

use crate::{Raw, RawObject, RpcError, ServerRequest};
use serde::Deserialize;
use serde_json::Value;

/// What a client has declared that it can be asked: its `ClientCapabilities`.
///
/// ```
/// use mcpool_core::{Offered, Raw, ServerRequest};
///
/// let offered = Offered::read(&Raw::from_text(r#"{"roots":{}}"#.to_owned())?);
/// let ask = |method: &str| ServerRequest::new(Raw::null(), method, None);
/// assert!(offered.check(&ask("roots/list")).is_ok());
/// assert!(offered.check(&ask("sampling/createMessage")).is_err());
/// # Ok::<(), mcpool_core::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Offered(RawObject);

impl Offered {
    /// Reads what was declared. What is no object offers nothing.
    #[must_use]
    pub fn read(capabilities: &Raw) -> Self {
        Self(RawObject::parse(capabilities).unwrap_or_default())
    }

    /// Whether the client may be asked this.
    ///
    /// Methods of extensions get through where an extension, or something experimental, was
    /// declared: which methods they have is theirs to say.
    ///
    /// # Errors
    /// The refusal: −32601 for what was not declared, −32602 for a way of elicitation that was not
    /// (MCP 2025-11-25, "Elicitation").
    pub fn check(&self, request: &ServerRequest) -> Result<(), RpcError> {
        let refused = || Err(RpcError::method_not_found(&request.method));
        let needed = match request.method.as_str() {
            "roots/list" => "roots",
            "sampling/createMessage" => "sampling",
            "elicitation/create" => "elicitation",
            method if method.starts_with("tasks/") => "tasks",
            _ => {
                let open = ["extensions", "experimental"];
                let declared = open.iter().any(|name| {
                    let member = self.0.get(name).map(RawObject::parse);
                    member.is_some_and(|member| member.is_ok_and(|member| !member.is_empty()))
                });
                return if declared { Ok(()) } else { refused() };
            }
        };
        match self.0.get(needed).filter(|member| !member.is_null()) {
            None => refused(),
            Some(declared) if needed == "elicitation" => check_mode(declared, request),
            Some(_) => Ok(()),
        }
    }
}

/// Without a word of ways only forms were declared.
fn check_mode(declared: &Raw, request: &ServerRequest) -> Result<(), RpcError> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Params {
        mode: Value,
    }
    let ways = RawObject::parse(declared).unwrap_or_default();
    let params = request.params.as_ref();
    let params: Params = params
        .and_then(|params| params.parse().ok())
        .unwrap_or_default();
    let offered = match params.mode.as_str() {
        None | Some("form") => ways.get("form").is_some() || ways.get("url").is_none(),
        Some(mode) => ways.get(mode).is_some(),
    };
    if offered {
        Ok(())
    } else {
        Err(RpcError::new(
            RpcError::INVALID_PARAMS,
            "this client does not offer that way of elicitation",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(declared: &str, method: &str, params: &str) -> i64 {
        let raw = |text: &str| Raw::from_text(text.to_owned()).unwrap();
        let request = ServerRequest::new(raw("1"), method, Some(raw(params)));
        match Offered::read(&raw(declared)).check(&request) {
            Ok(()) => 0,
            Err(error) => error.code,
        }
    }

    #[test]
    fn what_was_not_declared_is_refused() {
        let all = r#"{"roots":{},"sampling":{},"elicitation":{},"tasks":{}}"#;
        for method in [
            "roots/list",
            "sampling/createMessage",
            "elicitation/create",
            "tasks/get",
        ] {
            assert_eq!(code(all, method, "{}"), 0, "{method}");
            for nothing in ["{}", "[]", "null", r#"{"roots":null,"sampling":null}"#] {
                assert_eq!(code(nothing, method, "{}"), -32601, "{method} {nothing}");
            }
        }
        assert_eq!(code(all, "vendor/ask", "{}"), -32601);
        assert_eq!(code(r#"{"extensions":{}}"#, "vendor/ask", "{}"), -32601);
        assert_eq!(code(r#"{"extensions":{"v":{}}}"#, "vendor/ask", "{}"), 0);
        assert_eq!(code(r#"{"experimental":{"v":{}}}"#, "vendor/ask", "{}"), 0);
    }

    #[test]
    fn a_way_of_elicitation_that_was_not_declared_is_invalid() {
        let ask = |ways: &str, mode: &str| {
            let declared = format!(r#"{{"elicitation":{ways}}}"#);
            code(&declared, "elicitation/create", mode)
        };
        let (form, url) = (r#"{"mode":"form"}"#, r#"{"mode":"url"}"#);
        assert_eq!(
            (ask("{}", "{}"), ask("{}", form), ask("{}", url)),
            (0, 0, -32602)
        );
        let only_url = r#"{"url":{}}"#;
        assert_eq!((ask(only_url, "{}"), ask(only_url, url)), (-32602, 0));
        let both = r#"{"form":{},"url":{}}"#;
        assert_eq!((ask(both, form), ask(both, url)), (0, 0));
    }
}
