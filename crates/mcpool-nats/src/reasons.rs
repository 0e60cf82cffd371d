//! What the bodies of `refused`, `failed` and `end` say, and what they mean to a caller: pure.

use std::time::Duration;

use bytes::Bytes;
use mcpool_core::{Delivery, Error, ErrorKind, ServerName};
use serde::{Deserialize, Serialize};

/// Why a worker does not take something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    /// The worker goes.
    Draining,
    /// The lease is another's, or there is none.
    Epoch,
    /// The request is older than it may be.
    Age,
    /// The wire's version is not understood.
    Version,
    /// A frame was lost.
    Gap,
    /// The server is not connected.
    NotReady,
    UnknownSession,
    UnknownServer,
    TooLarge,
    Busy,
    /// The server's connection has ended.
    Gone,
    /// In the orderly way.
    Closed,
    /// Of a newer version.
    #[serde(other)]
    Other,
}

/// The body of `refused`, `failed` and `end`. Members that are not known are ignored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Notice {
    pub(crate) reason: Reason,
    #[serde(default)]
    pub(crate) message: String,
    /// An error's kind, by its word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<String>,
    /// Of `end`: the last frame that was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) accepted: Option<u64>,
    /// Of `failed`: whether the server itself has answered.
    #[serde(default)]
    pub(crate) answered: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after_ms: Option<u64>,
}

impl Notice {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            kind: None,
            accepted: None,
            answered: false,
            retry_after_ms: None,
        }
    }

    /// The worker takes nothing new.
    pub(crate) fn draining() -> Self {
        Self::new(Reason::Draining, "the worker goes")
    }

    pub(crate) fn accepted(mut self, number: u64) -> Self {
        self.accepted = Some(number);
        self
    }

    /// What happened to a request at the worker. Whether it was refused (`true`) or may have run.
    pub(crate) fn of(error: &Error) -> (bool, Self) {
        let refused = matches!(error.delivery(), Delivery::NotSent | Delivery::Rejected);
        let reason = if refused {
            Reason::NotReady
        } else {
            Reason::Gone
        };
        let mut notice = Self::new(reason, error.message());
        notice.kind = Some(error.kind().as_str().to_owned());
        notice.answered = error.delivery() == Delivery::Answered;
        let millis = |pause: Duration| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        notice.retry_after_ms = error.retry_after().map(millis);
        (refused, notice)
    }

    pub(crate) fn body(&self) -> Bytes {
        // A struct of texts and numbers can always be JSON.
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// Reads a body; what cannot be read says nothing.
    pub(crate) fn read(body: &[u8]) -> Self {
        serde_json::from_slice(body)
            .unwrap_or_else(|_| Self::new(Reason::Other, "the worker gave no readable reason"))
    }

    /// The error of a request with this delivery. The text is the worker's: `Error` cleans it.
    pub(crate) fn error(&self, server: &ServerName, delivery: Delivery) -> Error {
        let kind = match (&self.kind, self.reason) {
            (Some(kind), _) => known_kind(kind),
            (None, Reason::TooLarge) => ErrorKind::TooLarge,
            (None, Reason::Busy) => ErrorKind::Overloaded,
            (None, Reason::Version) => ErrorKind::VersionMismatch,
            (None, _) => ErrorKind::ConnectionLost,
        };
        let error = Error::new(kind, format!("the worker says: {}", self.message))
            .with_server(server)
            .with_delivery(delivery);
        match self.retry_after_ms {
            Some(millis) => error.with_retry_after(Duration::from_millis(millis)),
            None => error,
        }
    }
}

/// An error's kind by its word. What is not known, or is of the worker's own business, is a lost
/// connection: then the delivery alone decides.
fn known_kind(word: &str) -> ErrorKind {
    const KINDS: [ErrorKind; 16] = [
        ErrorKind::ProcessExited,
        ErrorKind::HttpStatus,
        ErrorKind::RateLimited,
        ErrorKind::AuthRequired,
        ErrorKind::Forbidden,
        ErrorKind::Timeout,
        ErrorKind::TooLarge,
        ErrorKind::Protocol,
        ErrorKind::OutcomeUnknown,
        ErrorKind::UnknownTool,
        ErrorKind::Disabled,
        ErrorKind::NotConnected,
        ErrorKind::GivenUp,
        ErrorKind::Overloaded,
        ErrorKind::InvalidArgument,
        ErrorKind::Internal,
    ];
    let known = KINDS.into_iter().find(|kind| kind.as_str() == word);
    known.unwrap_or(ErrorKind::ConnectionLost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_worker_knows_of_a_request_arrives() {
        let server = ServerName::new("files").unwrap();
        for (delivery, refused) in [
            (Delivery::NotSent, true),
            (Delivery::Rejected, true),
            (Delivery::Unknown, false),
            (Delivery::Answered, false),
        ] {
            let error = Error::new(ErrorKind::Timeout, "slow").with_delivery(delivery);
            let (was_refused, notice) = Notice::of(&error);
            assert_eq!(was_refused, refused, "{delivery:?}");
            let notice = Notice::read(&notice.body());
            assert_eq!(notice.answered, delivery == Delivery::Answered);
            let told = notice.error(&server, Delivery::Unknown);
            assert_eq!(told.kind(), ErrorKind::Timeout);
            assert!(told.message().contains("slow"));
        }
    }

    #[test]
    fn a_newer_reason_and_an_unreadable_one_are_some_reason() {
        let notice = Notice::read(br#"{"reason":"eclipse","message":"m","phase":3}"#);
        assert_eq!((notice.reason, &*notice.message), (Reason::Other, "m"));
        assert_eq!(Notice::read(b"\xff").reason, Reason::Other);
    }
}
