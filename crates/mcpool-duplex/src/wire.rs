//! What both halves share: whom they speak with, who looks on, what is counted.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use mcpool_core::{Direction, ServerName, TransportKind, WireEvent, WireTap};

use crate::monitor::DuplexMonitor;

/// One connection, as its messages see it.
pub(crate) struct Wire {
    pub(crate) server: ServerName,
    pub(crate) kind: TransportKind,
    pub(crate) monitor: Arc<DuplexMonitor>,
    pub(crate) tap: Option<Arc<dyn WireTap>>,
}

impl Wire {
    pub(crate) fn sent(&self, text: &str) {
        self.monitor.count_sent();
        self.show(Direction::Sent, text);
    }

    pub(crate) fn show(&self, direction: Direction, text: &str) {
        if let Some(tap) = &self.tap {
            guarded(self, || {
                tap.event(&WireEvent::now(&self.server, self.kind, direction, text));
            });
        }
    }
}

/// Runs what the application gave us; a panic in it must not end the connection of others.
pub(crate) fn guarded<T>(wire: &Wire, run: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(value) => Some(value),
        Err(_) => {
            tracing::error!(
                server = %wire.server,
                transport = wire.kind.as_str(),
                "a callback that looks on the connection panicked; its message goes on without it"
            );
            None
        }
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire")
            .field("server", &self.server)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A wire that nobody looks at.
    pub(crate) fn wire() -> Arc<Wire> {
        let server: ServerName = "test".parse().unwrap();
        Arc::new(Wire {
            monitor: Arc::new(DuplexMonitor::new(server.clone(), TransportKind::Custom)),
            server,
            kind: TransportKind::Custom,
            tap: None,
        })
    }
}
