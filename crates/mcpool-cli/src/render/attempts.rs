//! How a server was connected, step by step.

use mcpool::{ConnectAttempt, TransportKind};

use super::text::Text;
use crate::text;

/// A line for each step. The step back from the newest question to the older one, which every
/// older server takes, is no failure, and neither is the older question that a slow server need
/// not answer. Streamable HTTP opens nothing before its first request, so
/// that is no step.
pub(crate) fn lines(attempts: &[ConnectAttempt]) -> Vec<Text> {
    let steps = attempts.iter().enumerate().filter(|(_, attempt)| {
        !(attempt.ok && attempt.tried == "open" && attempt.transport == TransportKind::Http)
    });
    let line = |(at, attempt): (usize, &ConnectAttempt)| {
        let is_older = led_on(attempt, attempts.get(at + 1..).unwrap_or_default());
        let is_spare = was_spare(attempt, attempts);
        let word = match (attempt.ok, is_older || is_spare) {
            (true, _) => "ok",
            (false, true) => "--",
            (false, false) => "no",
        };
        let step = text!(
            "{}  {:<5} {:<15} {:>6} ms  {}",
            word,
            attempt.transport.as_str(),
            attempt.tried,
            attempt.elapsed_ms,
            attempt.outcome
        );
        match (is_older, is_spare) {
            (true, _) => text!("{} (normal: the server is older than this question)", step),
            (_, true) => text!("{} (normal: the newer question was answered)", step),
            _ => step,
        }
    };
    steps.map(line).collect()
}

/// Whether a refused question was followed by an answered one: how every older server is met.
fn led_on(attempt: &ConnectAttempt, later: &[ConnectAttempt]) -> bool {
    let answered = |later: &ConnectAttempt| {
        later.ok && later.tried == "initialize" && later.transport == attempt.transport
    };
    !attempt.ok && attempt.tried == "server/discover" && later.iter().any(answered)
}

/// Whether the older question was asked because the newest took long, and was answered after all.
fn was_spare(attempt: &ConnectAttempt, all: &[ConnectAttempt]) -> bool {
    let answered = |other: &ConnectAttempt| {
        other.ok && other.tried == "server/discover" && other.transport == attempt.transport
    };
    !attempt.ok && attempt.tried == "initialize" && all.iter().any(answered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn attempt(tried: &str, ok: bool) -> ConnectAttempt {
        ConnectAttempt::new(TransportKind::Stdio, tried, "x", ok, Duration::ZERO)
    }

    #[test]
    fn what_was_only_made_ready_is_no_step() {
        let of = |transport| ConnectAttempt::new(transport, "open", "opened", true, Duration::ZERO);
        assert!(lines(&[of(TransportKind::Http)]).is_empty());
        let started = lines(&[of(TransportKind::Stdio), attempt("server/discover", false)]);
        let shown: Vec<&str> = started.iter().map(Text::as_str).collect();
        assert_eq!(
            shown,
            [
                "ok  stdio open                 0 ms  opened",
                "no  stdio server/discover      0 ms  x"
            ]
        );
    }

    #[test]
    fn the_step_back_to_initialize_is_no_failure() {
        let asked = attempt("server/discover", false);
        assert!(led_on(&asked, &[attempt("initialize", true)]));
        assert!(!led_on(&asked, &[attempt("initialize", false)]));
        assert!(!led_on(
            &attempt("open", false),
            &[attempt("initialize", true)]
        ));
        assert!(!led_on(&asked, &[]));
    }

    #[test]
    fn the_older_question_is_no_failure_where_the_newer_was_answered() {
        let asked = attempt("initialize", false);
        assert!(was_spare(&asked, &[attempt("server/discover", true)]));
        assert!(!was_spare(&asked, &[attempt("server/discover", false)]));
        assert!(!was_spare(
            &attempt("open", false),
            &[attempt("server/discover", true)]
        ));
    }
}
