use std::time::SystemTime;

use serde::Serialize;

use crate::{DisconnectCause, Error};

/// The state of one server, as its supervisor publishes it.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum ServerState {
    /// Switched off; a call is refused at once.
    Disabled,
    /// Not wanted yet: a lazy server before its first use, or after a disconnect.
    #[default]
    Idle,
    /// A connect is under way, the so-many-th since the last stable connection (from 1).
    Connecting {
        /// Which attempt it is.
        attempt: u32,
    },
    /// Connected; calls go through.
    Ready,
    /// Waiting for the next attempt.
    Backoff {
        /// How many attempts have failed since the last stable connection.
        attempt: u32,
        /// When the next attempt starts.
        until: SystemTime,
        /// Why the connection ended, or the last attempt failed.
        cause: DisconnectCause,
        /// The last error.
        error: Option<Error>,
    },
    /// Somebody has to log in; no attempt is made until then.
    AuthRequired {
        /// The error that says so, with its challenge.
        error: Error,
    },
    /// The fast attempts are spent, or the error is permanent.
    Dormant {
        /// When the slow re-probe comes; `None` when only a caller or a changed config can help.
        next_probe: Option<SystemTime>,
        /// The last error.
        error: Option<Error>,
    },
    /// Closed for good.
    Closed,
}

impl ServerState {
    /// The state's name, in `snake_case`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Idle => "idle",
            Self::Connecting { .. } => "connecting",
            Self::Ready => "ready",
            Self::Backoff { .. } => "backoff",
            Self::AuthRequired { .. } => "auth_required",
            Self::Dormant { .. } => "dormant",
            Self::Closed => "closed",
        }
    }

    /// The three-word view for user interfaces.
    #[must_use]
    pub fn coarse(&self) -> CoarseState {
        match self {
            Self::Ready => CoarseState::Connected,
            Self::Connecting { .. } | Self::Backoff { .. } => CoarseState::Reconnecting,
            _ => CoarseState::Disconnected,
        }
    }

    /// Whether calls go through now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready)
    }

    /// The last error that this state remembers.
    #[must_use]
    pub fn error(&self) -> Option<&Error> {
        match self {
            Self::Backoff { error, .. } | Self::Dormant { error, .. } => error.as_ref(),
            Self::AuthRequired { error } => Some(error),
            _ => None,
        }
    }
}

/// The three-word view of a state, for a badge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::exhaustive_enums, reason = "the three words are the contract")]
pub enum CoarseState {
    /// Calls go through.
    Connected,
    /// Being connected, or waiting for the next attempt.
    Reconnecting,
    /// Not connected, and nothing fast under way.
    Disconnected,
}
