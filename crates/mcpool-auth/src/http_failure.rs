//! Why an OAuth request brought no answer.

use mcpool_core::{Error, ErrorKind};

use crate::{binding::OtherIssuer, error::refused, shown::shorten};

/// Why a request did not bring an answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum HttpFailure {
    /// It was not sent, or its answer not taken: somebody would get what is not theirs.
    #[error("{0}")]
    Refused(String),
    /// The answer leads to another authorization server than the bound one.
    #[error("{} is not the bound authorization server", shorten(&.0.found))]
    OtherIssuer(Box<OtherIssuer>),
    /// Nobody answered.
    #[error("{url} cannot be reached: {reason}")]
    Unreachable { url: String, reason: String },
    /// The answer makes no sense.
    #[error("{0}")]
    BadAnswer(String),
}

impl From<HttpFailure> for Error {
    fn from(failure: HttpFailure) -> Self {
        match failure {
            HttpFailure::Refused(why) => refused(format!("refused for safety: {why}")),
            HttpFailure::OtherIssuer(change) => (*change).into(),
            HttpFailure::Unreachable { .. } => Self::new(ErrorKind::Connect, failure.to_string()),
            HttpFailure::BadAnswer(why) => Self::new(ErrorKind::Protocol, why),
        }
    }
}
