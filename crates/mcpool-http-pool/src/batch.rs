//! JSON-RPC batches, which servers may send on revision 2025-03-26 and before.

/// Takes a JSON-RPC batch apart; `None` when the text is not an array of JSON.
///
/// MCP 2025-03-26 says that a client must accept batches; 2025-06-18 took them away.
///
/// ```
/// use mcpool_http_pool::split_batch;
/// assert_eq!(split_batch(r#"{"id":1}"#), None);
/// assert_eq!(split_batch(r#"[{"id":1},{"id":2}]"#).unwrap(), [r#"{"id":1}"#, r#"{"id":2}"#]);
/// ```
#[must_use]
pub fn split_batch(text: &str) -> Option<Vec<String>> {
    if !text.trim_start().starts_with('[') {
        return None;
    }
    let messages: Vec<serde_json::Value> = serde_json::from_str(text).ok()?;
    Some(messages.iter().map(ToString::to_string).collect())
}
