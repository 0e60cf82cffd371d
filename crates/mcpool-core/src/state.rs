//! What state a server is in.

use std::{fmt, str::FromStr, time::SystemTime};

use serde::{Deserialize, Serialize};

use crate::{DisconnectCause, Error, ErrorKind, units};

/// The state of one server, as its supervisor publishes it.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ServerState {
    /// Switched off; a call is refused at once.
    Disabled,
    /// Not wanted yet: a lazy server before its first use, or after a disconnect.
    #[default]
    Idle,
    /// A connect is under way.
    Connecting {
        /// Which attempt it is since the last stable connection, from 1.
        attempt: u32,
    },
    /// Connected; calls go through.
    Ready,
    /// Waiting for the next attempt.
    Backoff {
        /// How many attempts have failed since the last stable connection.
        attempt: u32,
        /// When the next attempt starts.
        #[serde(serialize_with = "units::time")]
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
    /// The fast attempts are used up, or the error is permanent.
    Dormant {
        /// When the slow re-probe comes; `None` when only a caller or a changed config can help.
        #[serde(serialize_with = "units::some_time")]
        next_probe: Option<SystemTime>,
        /// The last error.
        error: Option<Error>,
    },
    /// Closed for good.
    Closed,
}

impl ServerState {
    /// Which state it is, without what belongs to it.
    #[must_use]
    pub fn kind(&self) -> StateKind {
        match self {
            Self::Disabled => StateKind::Disabled,
            Self::Idle => StateKind::Idle,
            Self::Connecting { .. } => StateKind::Connecting,
            Self::Ready => StateKind::Ready,
            Self::Backoff { .. } => StateKind::Backoff,
            Self::AuthRequired { .. } => StateKind::AuthRequired,
            Self::Dormant { .. } => StateKind::Dormant,
            Self::Closed => StateKind::Closed,
        }
    }

    /// The state in one of three words, for user interfaces.
    #[must_use]
    pub fn connectivity(&self) -> Connectivity {
        self.kind().connectivity()
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

/// Which state a server is in: [`ServerState`] without what belongs to it.
///
/// ```
/// use mcpool_core::StateKind;
///
/// assert_eq!(StateKind::AuthRequired.to_string(), "auth_required");
/// assert_eq!("ready".parse::<StateKind>().unwrap(), StateKind::Ready);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StateKind {
    /// Switched off.
    Disabled,
    /// Not wanted yet, or disconnected.
    Idle,
    /// A connect is under way.
    Connecting,
    /// Connected.
    Ready,
    /// Waiting for the next attempt.
    Backoff,
    /// Somebody has to log in.
    AuthRequired,
    /// The fast attempts are used up, or the error is permanent.
    Dormant,
    /// Closed for good.
    Closed,
}

impl StateKind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[
        Self::Disabled,
        Self::Idle,
        Self::Connecting,
        Self::Ready,
        Self::Backoff,
        Self::AuthRequired,
        Self::Dormant,
        Self::Closed,
    ];

    /// The word for it in JSON, in logs and in metrics labels, in `snake_case`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Idle => "idle",
            Self::Connecting => "connecting",
            Self::Ready => "ready",
            Self::Backoff => "backoff",
            Self::AuthRequired => "auth_required",
            Self::Dormant => "dormant",
            Self::Closed => "closed",
        }
    }

    /// The state in one of three words, for user interfaces.
    #[must_use]
    pub fn connectivity(self) -> Connectivity {
        match self {
            Self::Ready => Connectivity::Connected,
            Self::Connecting | Self::Backoff => Connectivity::Reconnecting,
            _ => Connectivity::Disconnected,
        }
    }
}

impl fmt::Display for StateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for StateKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .iter()
            .copied()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| {
                let known: Vec<&str> = Self::ALL.iter().map(|kind| kind.as_str()).collect();
                Error::new(
                    ErrorKind::InvalidArgument,
                    format!("no such state; the states are {}", known.join(", ")),
                )
            })
    }
}

/// A state in one of three words, for a badge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::exhaustive_enums, reason = "the three words are the contract")]
pub enum Connectivity {
    /// Calls go through.
    Connected,
    /// Being connected, or waiting for the next attempt.
    Reconnecting,
    /// Not connected, and nothing fast under way.
    Disconnected,
}
