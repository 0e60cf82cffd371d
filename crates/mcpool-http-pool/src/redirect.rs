//! Which redirects are followed.

use reqwest::{StatusCode, redirect::Policy};

/// Enough for a trailing slash and a move; more is a loop.
const MAX_REDIRECTS: usize = 5;

/// Follows 307 and 308 within one origin, and hands every other redirect to the caller as it is.
///
/// 301, 302 and 303 would turn a POST into a GET and lose the message (RFC 9110, section 15.4);
/// another origin must not see the headers and the session of this one.
pub(crate) fn same_origin() -> Policy {
    Policy::custom(|attempt| {
        let keeps_body = matches!(
            attempt.status(),
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
        );
        let same_origin = attempt
            .previous()
            .first()
            .is_some_and(|first| first.origin() == attempt.url().origin());
        if !keeps_body || !same_origin || attempt.previous().len() > MAX_REDIRECTS {
            attempt.stop()
        } else {
            attempt.follow()
        }
    })
}
