//! The words in which servers say that they do not know a session any more. Only its status is
//! written down (404: MCP 2025-11-25, "Session Management", rule 3), and many give another one.

/// A longer text is a page or a dump, and no such word.
const MAX_WORDS: usize = 1_024;

/// Whether a server's refusal says, in whatever words, that it does not know the session. A page of
/// a proxy or a login may say "session" and mean its own: only a short text counts.
#[must_use]
pub fn says_lost_session(text: &str) -> bool {
    const UNINITIALIZED: &[&str] = &[
        "not initialized",
        "not been initialized",
        "not yet initialized",
        "uninitialized",
        "before initialization",
        "not initialised",
    ];
    const LOST: &[&str] = &[
        "not found",
        "invalid",
        "unknown",
        "expired",
        "no valid",
        "not valid",
        "missing",
        "not exist",
        "n't exist",
        "terminated",
        "closed",
        "no longer",
        "no such",
        "no session",
        "no transport",
        "no active",
        "not active",
        "inactive",
        "lost",
        "stale",
        "not recognized",
        "unrecognized",
        "timed out",
        "timeout",
        "deleted",
        "gone",
        "ended",
    ];
    if text.len() > MAX_WORDS || text.trim_start().starts_with('<') {
        return false;
    }
    let text = text.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    says(UNINITIALIZED) || (text.contains("session") && says(LOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_servers() {
        for text in [
            "Session not found",
            "Bad Request: No valid session ID provided",
            "Server not initialized",
            "No transport found for sessionId",
            r#"{"error": "session expired"}"#,
            "The session was terminated",
        ] {
            assert!(says_lost_session(text), "{text}");
        }
        for text in [
            "",
            "out of memory",
            "Resource not found",
            "session is required",
            "<html>Your session has expired, log in</html>",
            &format!("session not found {}", "x".repeat(MAX_WORDS)),
        ] {
            assert!(!says_lost_session(text), "{text}");
        }
    }
}
