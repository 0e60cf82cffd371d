//! What happens to a request that failed, as a pure function.
//!
//! [`mcpool_core::replay`] decides by delivery. Here the kind of the error is looked at first:
//! some errors are the answer itself, some ask for a pause, and only a lost connection is a reason
//! to try the next one.

use std::time::Duration;

use mcpool_core::{Delivery, Error, ErrorKind, Replay, ToolTraits, replay};

/// A pause that a server may ask for more than once: a server that asks for less is not asked in a hot
/// loop.
const SOME_TIME: Duration = Duration::from_secs(1);

/// What to do with a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Give the error to the caller.
    Return,
    /// Give it to the caller as `OutcomeUnknown`.
    OutcomeUnknown,
    /// Send it once more, on the next connection or on one that was found to live.
    Replay,
    /// Send it once more after the pause that the server asked for.
    ReplayAfter(Duration),
}

/// Decides about a request that failed for the first time (`replayed` says whether it was sent
/// again already), with so much time left. The delivery is looked at before the kind: what may have
/// run may have run, whatever it failed of.
pub(crate) fn decide(
    error: &Error,
    method: &str,
    tool: ToolTraits,
    replayed: bool,
    time_left: Duration,
) -> Verdict {
    match error.delivery() {
        Delivery::NotSent | Delivery::Rejected => refused(error, replayed, time_left),
        Delivery::Unknown => match error.kind() {
            // The caller's own doing, or there is no time left for a replay: the error
            // says so, and its delivery says that it may have run.
            ErrorKind::Timeout
            | ErrorKind::Cancelled
            | ErrorKind::OutcomeUnknown
            | ErrorKind::Internal => Verdict::Return,
            kind => match replay(Delivery::Unknown, method, tool) {
                Replay::OutcomeUnknown => Verdict::OutcomeUnknown,
                // An answer that cannot be read is no better the second time.
                Replay::Once if kind != ErrorKind::Protocol && kind != ErrorKind::TooLarge => {
                    once(replayed)
                }
                _ => Verdict::Return,
            },
        },
        // The server has spoken.
        _ => Verdict::Return,
    }
}

/// What has not run, for certain.
fn refused(error: &Error, replayed: bool, time_left: Duration) -> Verdict {
    match error.kind() {
        ErrorKind::RateLimited => match error.retry_after() {
            // It may ask again and again, as long as it asks for time: the deadline bounds it.
            Some(pause) if pause < time_left && (!replayed || pause >= SOME_TIME) => {
                Verdict::ReplayAfter(pause)
            }
            _ => Verdict::Return,
        },
        // A new connection changes nothing.
        ErrorKind::AuthRequired
        | ErrorKind::Forbidden
        | ErrorKind::TooLarge
        | ErrorKind::Protocol
        | ErrorKind::InvalidArgument
        | ErrorKind::Unresolved
        | ErrorKind::InvalidSpec
        | ErrorKind::UnknownTool
        | ErrorKind::Disabled
        | ErrorKind::Overloaded
        | ErrorKind::Internal
        | ErrorKind::Timeout
        // Ended on purpose: the next connection is not wanted.
        | ErrorKind::Cancelled => Verdict::Return,
        ErrorKind::HttpStatus
            if error.delivery() == Delivery::NotSent && error.http_status().is_some() =>
        {
            Verdict::Return
        }
        _ => once(replayed),
    }
}

fn once(replayed: bool) -> Verdict {
    if replayed {
        Verdict::Return
    } else {
        Verdict::Replay
    }
}

/// The error of a request that may have run and is not sent again.
pub(crate) fn outcome_unknown(cause: Error) -> Error {
    let message = format!(
        "the request may have run, and is not sent again because running it twice may do harm: {}",
        cause.message()
    );
    cause
        .wrap(ErrorKind::OutcomeUnknown, message)
        .with_delivery(Delivery::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLENTY: Duration = Duration::from_secs(60);

    fn verdict(error: &Error, method: &str, tool: ToolTraits) -> Verdict {
        decide(error, method, tool, false, PLENTY)
    }

    #[test]
    fn a_lost_connection_is_judged_by_delivery() {
        let call = "tools/call";
        let untrusted = ToolTraits::new(true, true, false);
        let trusted = ToolTraits::new(true, false, true);
        for (delivery, method, tool, want) in [
            (Delivery::NotSent, call, untrusted, Verdict::Replay),
            (Delivery::Rejected, call, untrusted, Verdict::Replay),
            (Delivery::Unknown, call, untrusted, Verdict::OutcomeUnknown),
            (Delivery::Unknown, call, trusted, Verdict::Replay),
            (Delivery::Unknown, "tools/list", untrusted, Verdict::Replay),
            (
                Delivery::Unknown,
                "vendor/thing",
                untrusted,
                Verdict::OutcomeUnknown,
            ),
            (Delivery::Answered, call, trusted, Verdict::Return),
        ] {
            let error = Error::new(ErrorKind::ConnectionLost, "gone").with_delivery(delivery);
            assert_eq!(verdict(&error, method, tool), want, "{delivery:?} {method}");
        }
    }

    #[test]
    fn nothing_is_sent_a_third_time() {
        let lost = Error::new(ErrorKind::ConnectionLost, "gone").with_delivery(Delivery::NotSent);
        let none = ToolTraits::default();
        assert_eq!(
            decide(&lost, "tools/call", none, true, PLENTY),
            Verdict::Return
        );
    }

    #[test]
    fn refusals_mean_what_they_say() {
        let none = ToolTraits::default();
        for kind in [
            ErrorKind::AuthRequired,
            ErrorKind::Forbidden,
            ErrorKind::Timeout,
            ErrorKind::Rpc,
        ] {
            assert_eq!(
                verdict(&Error::new(kind, "no"), "tools/list", none),
                Verdict::Return
            );
        }
        let limited = |pause| Error::new(ErrorKind::RateLimited, "slow").with_retry_after(pause);
        let pause = Duration::from_secs(3);
        assert_eq!(
            verdict(&limited(pause), "tools/call", none),
            Verdict::ReplayAfter(pause)
        );
        // Once more, as long as there is time, but in no hot loop.
        let again = |pause| decide(&limited(pause), "tools/call", none, true, PLENTY);
        assert_eq!(again(pause), Verdict::ReplayAfter(pause));
        assert_eq!(again(Duration::from_millis(10)), Verdict::Return);
        assert_eq!(again(PLENTY), Verdict::Return);
        // Past the deadline, or without a word of when: the caller decides.
        assert_eq!(
            verdict(&limited(PLENTY), "tools/call", none),
            Verdict::Return
        );
        let silent = Error::new(ErrorKind::RateLimited, "slow");
        assert_eq!(verdict(&silent, "tools/call", none), Verdict::Return);
    }

    #[test]
    fn the_unknown_outcome_keeps_its_cause() {
        let error = outcome_unknown(Error::new(ErrorKind::ProcessExited, "it exited with 1"));
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
        assert_eq!(error.delivery(), Delivery::Unknown);
        assert!(error.message().contains("it exited with 1"));
        assert!(std::error::Error::source(&error).is_some());
    }
}
