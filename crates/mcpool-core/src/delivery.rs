//! What is known of a request's way to the server, and whether it may be sent again.

use serde::{Deserialize, Serialize};

/// What is known of a failed request's way to the server.
///
/// This, not the kind of the error, decides whether a request may be sent again: see [`replay`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Delivery {
    /// No byte of the request reached the server.
    NotSent,
    /// The server refused the request before running it (HTTP 401, 403, 429, 503 with
    /// `Retry-After`, or 404 and 400 for a lost session).
    Rejected,
    /// The request may have run: it was sent, and no answer came.
    Unknown,
    /// The server answered; the answer is the error.
    Answered,
}

/// What [`replay`] decides about a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Replay {
    /// Send it once more, on the next connection.
    Once,
    /// Do not send it again: return the error as it is.
    Never,
    /// Do not send it again, and say that its outcome is unknown.
    OutcomeUnknown,
}

/// The promises of a tool that matter to a replay, from its annotations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ToolTraits {
    /// `readOnlyHint`: the tool changes nothing.
    pub read_only: bool,
    /// `idempotentHint`: running it twice is running it once.
    pub idempotent: bool,
    /// Whether the policy trusts this server's annotations. Untrusted hints count for nothing
    /// (MCP 2025-06-18, "Tool annotations": clients must consider them untrusted).
    pub trusted: bool,
}

impl ToolTraits {
    /// Makes the traits from the two hints and from the policy's trust.
    #[must_use]
    pub fn new(read_only: bool, idempotent: bool, trusted: bool) -> Self {
        Self {
            read_only,
            idempotent,
            trusted,
        }
    }
}

/// Whether a method only lists or reads, so that running it twice changes nothing.
#[must_use]
pub fn is_safe_method(method: &str) -> bool {
    matches!(
        method,
        "ping"
            | "initialize"
            | "server/discover"
            | "tools/list"
            | "prompts/list"
            | "prompts/get"
            | "resources/list"
            | "resources/templates/list"
            | "resources/read"
            | "completion/complete"
    )
}

/// Whether only a client sends this request, in any revision: one that a server sends is our own,
/// sent back.
#[must_use]
pub fn is_client_method(method: &str) -> bool {
    matches!(
        method,
        "initialize"
            | "server/discover"
            | "tools/list"
            | "tools/call"
            | "prompts/list"
            | "prompts/get"
            | "resources/list"
            | "resources/templates/list"
            | "resources/read"
            | "resources/subscribe"
            | "resources/unsubscribe"
            | "completion/complete"
            | "logging/setLevel"
            | "subscriptions/listen"
    )
}

/// Decides whether a failed request may be sent once more.
///
/// | delivery | safe method, or a trusted read-only or idempotent tool | anything else |
/// |---|---|---|
/// | not sent | once | once |
/// | rejected | once | once |
/// | unknown | once | outcome unknown |
/// | answered | never | never |
///
/// ```
/// use mcpool_core::{Delivery, Replay, ToolTraits, replay};
///
/// let unknown = ToolTraits::default();
/// assert_eq!(replay(Delivery::NotSent, "tools/call", unknown), Replay::Once);
/// assert_eq!(replay(Delivery::Unknown, "tools/call", unknown), Replay::OutcomeUnknown);
/// assert_eq!(replay(Delivery::Unknown, "tools/list", unknown), Replay::Once);
/// ```
#[must_use]
pub fn replay(delivery: Delivery, method: &str, tool: ToolTraits) -> Replay {
    match delivery {
        Delivery::NotSent | Delivery::Rejected => Replay::Once,
        Delivery::Answered => Replay::Never,
        Delivery::Unknown => {
            let tool_allows = tool.trusted && (tool.read_only || tool.idempotent);
            if is_safe_method(method) || (method == "tools/call" && tool_allows) {
                Replay::Once
            } else {
                Replay::OutcomeUnknown
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untrusted_hints_count_for_nothing() {
        let untrusted = ToolTraits::new(true, true, false);
        assert_eq!(
            replay(Delivery::Unknown, "tools/call", untrusted),
            Replay::OutcomeUnknown
        );
        for trusted in [
            ToolTraits::new(true, false, true),
            ToolTraits::new(false, true, true),
        ] {
            assert_eq!(
                replay(Delivery::Unknown, "tools/call", trusted),
                Replay::Once
            );
        }
    }

    #[test]
    fn an_answer_is_final() {
        let all = ToolTraits::new(true, true, true);
        assert_eq!(replay(Delivery::Answered, "tools/list", all), Replay::Never);
    }

    #[test]
    fn unknown_methods_are_not_safe() {
        assert!(!is_safe_method("tools/call"));
        assert!(!is_safe_method("vendor/thing"));
        assert_eq!(
            replay(Delivery::Unknown, "vendor/thing", ToolTraits::default()),
            Replay::OutcomeUnknown
        );
    }
}
