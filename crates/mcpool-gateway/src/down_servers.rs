//! What is listed of servers that are down.

use mcpool_core::StateKind;

/// What is listed of a server that is down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DownServers {
    /// What was last known of it: a call waits for it, and says why it fails.
    #[default]
    LastGood,
    /// Nothing, until it is back. One that was not needed yet, or was closed because nobody used
    /// it, is not down.
    Hidden,
}

impl DownServers {
    /// Whether a server in this state is listed.
    pub(crate) fn lists(self, state: StateKind) -> bool {
        match self {
            Self::LastGood => true,
            Self::Hidden => matches!(state, StateKind::Ready | StateKind::Idle),
        }
    }
}
