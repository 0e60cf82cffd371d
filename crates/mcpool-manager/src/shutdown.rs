//! The end: terminal, in parallel, bounded, and with a report.

use std::{sync::Arc, time::Duration};

use mcpool_core::ServerName;
use tokio::time::Instant;

use crate::{manager::ConnectionManager, server::lock, shared::Shared};

/// What [`ConnectionManager::shutdown`] did.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Servers that were closed in the orderly way.
    pub closed: Vec<ServerName>,
    /// Servers whose connections were dropped because the deadline passed.
    pub forced: Vec<ServerName>,
    /// How many calls were in flight and ended with an error.
    pub cancelled_calls: usize,
    /// How long it took.
    pub elapsed: Duration,
}

impl ConnectionManager {
    /// Whether [`shutdown`](ConnectionManager::shutdown) was called.
    ///
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        self.shared.root.is_cancelled()
    }

    /// Ends everything, for good: calls in flight end with `Cancelled`, all connections are closed
    /// in parallel in the orderly way, and what is not closed at the deadline is dropped, which
    /// kills its process.
    ///
    /// Idempotent: a second caller waits for the same end. Dropping the future stops the waiting,
    /// not the shutdown.
    ///
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        let shared = Arc::clone(&self.shared);
        let runtime = shared.runtime();
        let ending = async move { end(&shared, deadline).await };
        let ending = match runtime {
            Some(runtime) => runtime.spawn(ending),
            None => tokio::spawn(ending),
        };
        // It neither panics nor is aborted but with its runtime, which then ends us as well.
        ending.await.unwrap_or_default()
    }
}

/// Stops everything, waits until the deadline, and drops what is left.
async fn end(shared: &Shared, deadline: Duration) -> ShutdownReport {
    let started = Instant::now();
    let servers = shared.all();
    let cancelled_calls = servers.iter().map(|server| server.in_flight()).sum();
    {
        // No server is added once this is done.
        let _changing = lock(&shared.changing);
        shared.root.cancel();
        shared.tasks.close();
    }
    let mut forced = Vec::new();
    if tokio::time::timeout(deadline, shared.tasks.wait())
        .await
        .is_err()
    {
        forced = shared.abort_supervisors();
        tracing::warn!(
            ?forced,
            "the deadline of the shutdown passed; connections are dropped"
        );
        // An aborted task ends at its next await: at once.
        shared.tasks.wait().await;
    }
    shared.servers.store(Arc::default());
    shared.events.close();
    let closed = servers
        .iter()
        .map(|server| server.name.clone())
        .filter(|name| !forced.contains(name))
        .collect();
    ShutdownReport {
        closed,
        forced,
        cancelled_calls,
        elapsed: started.elapsed(),
    }
}
