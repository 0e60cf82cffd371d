//! The transports by name.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The transport that a connection really uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TransportKind {
    /// Standard input and output of a child process.
    Stdio,
    /// Legacy HTTP+SSE.
    Sse,
    /// Streamable HTTP.
    Http,
    /// A transport of a downstream crate.
    Custom,
}

impl TransportKind {
    /// The word for it in JSON and in log fields.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdio => "stdio",
            Self::Sse => "sse",
            Self::Http => "http",
            Self::Custom => "custom",
        }
    }
}

impl fmt::Display for TransportKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
