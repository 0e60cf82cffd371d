//! What a server says by itself, as an application hears it.

use std::sync::{Arc, OnceLock};

use tokio::sync::broadcast;

use crate::Raw;

/// Something that a server said by itself. Its texts are the server's own.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ServerNotice {
    /// `notifications/tools/list_changed`
    ToolsChanged,
    /// `notifications/prompts/list_changed`
    PromptsChanged,
    /// `notifications/resources/list_changed`
    ResourcesChanged,
    /// `notifications/resources/updated`
    ResourceUpdated {
        /// Which resource.
        uri: String,
    },
    /// `notifications/message`
    Log {
        /// The level, as the server spells it.
        level: String,
        /// Who logs.
        logger: Option<String>,
        /// What, as it came.
        data: Raw,
    },
    /// The session on the server was lost, and a new one was begun on the living connection.
    SessionRenewed,
    /// Any other notification.
    Other {
        /// Its method.
        method: String,
        /// Its parameters, as they came.
        params: Option<Raw>,
    },
    /// The reader was too slow: so many notices before the next one are lost to it.
    Missed {
        /// How many.
        count: u64,
    },
}

/// A stream of notices. A slow reader gets [`ServerNotice::Missed`] in place of what it lost.
#[derive(Debug)]
pub struct Notices(broadcast::Receiver<ServerNotice>);

/// The sending end of any number of [`Notices`]. Costs nothing until somebody listens.
#[derive(Debug, Clone)]
pub struct NoticeSender {
    capacity: usize,
    readers: Arc<OnceLock<broadcast::Sender<ServerNotice>>>,
}

impl Notices {
    /// The next notice; `None` when there will be no more. Cancel-safe.
    pub async fn next(&mut self) -> Option<ServerNotice> {
        match self.0.recv().await {
            Ok(notice) => Some(notice),
            Err(broadcast::error::RecvError::Lagged(count)) => Some(ServerNotice::Missed { count }),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }

    /// A stream that has ended.
    #[must_use]
    pub fn ended() -> Self {
        Self(broadcast::channel(1).1)
    }
}

impl NoticeSender {
    /// A sender whose readers may be so many notices behind; 0 counts as 1, and what is no power of
    /// two is rounded up to one. At most 65 536.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            // The channel panics over half of the address space.
            capacity: capacity.clamp(1, 1 << 16),
            readers: Arc::default(),
        }
    }

    /// Sends to all readers; fine when there is none.
    pub fn send(&self, notice: ServerNotice) {
        if let Some(readers) = self.readers.get() {
            let _ = readers.send(notice);
        }
    }

    /// A stream of what is sent from now on.
    #[must_use]
    pub fn subscribe(&self) -> Notices {
        let readers = self
            .readers
            .get_or_init(|| broadcast::Sender::new(self.capacity));
        Notices(readers.subscribe())
    }
}
