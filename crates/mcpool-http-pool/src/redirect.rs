//! Which redirects are followed.

use std::fmt;

use reqwest::{StatusCode, redirect::Policy};

/// Enough for a trailing slash and a move; more is a loop.
const MAX_REDIRECTS: usize = 5;

/// Follows 307 and 308 within one origin, and hands every other redirect to the caller as it is.
/// A loop of them is an error.
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
        if !keeps_body || !same_origin {
            attempt.stop()
        } else if attempt.previous().len() > MAX_REDIRECTS {
            let status = attempt.status();
            attempt.error(RedirectLoop(status))
        } else {
            attempt.follow()
        }
    })
}

/// The server redirects on and on; the status of the last redirect.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RedirectLoop(pub(crate) StatusCode);

impl fmt::Display for RedirectLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.0.as_u16();
        write!(
            f,
            "the server redirects in a loop: more than {MAX_REDIRECTS} times (HTTP {code})"
        )
    }
}

impl std::error::Error for RedirectLoop {}
