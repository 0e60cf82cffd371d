//! The end: terminal, in parallel, bounded, and with a report.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::future;
use mcpool_core::{Client, ServerName};
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
    task::spawn_blocking,
    time::{Instant, timeout},
};

use crate::{manager::ConnectionManager, server::lock, shared::Shared, supervise::foreign::asked};

/// How long an aborted task may take to be dropped. It takes no time, unless something blocks its
/// thread.
const ABORT_PATIENCE: Duration = Duration::from_secs(1);

/// How long what was killed may take to be gone: a few milliseconds, unless the kernel holds it.
const KILL_PATIENCE: Duration = Duration::from_secs(2);

/// How many clients are killed at once.
const KILLERS: usize = 16;

/// What [`ConnectionManager::shutdown`] did.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Servers that were closed in the orderly way.
    pub closed: Vec<ServerName>,
    /// Servers whose connections were killed because the deadline had passed.
    pub forced: Vec<ServerName>,
    /// How many calls were in flight and ended with an error.
    pub cancelled_calls: usize,
    /// The application's [tasks](ConnectionManager::spawn_task) that have not ended: they block
    /// their threads. Empty but for that.
    pub unfinished_tasks: Vec<String>,
    /// How long it took.
    pub elapsed: Duration,
}

impl ConnectionManager {
    /// Whether [`shutdown`](ConnectionManager::shutdown) was called.
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        self.shared.root.is_cancelled()
    }

    /// Ends everything, for good: calls in flight end with `Cancelled`, all connections are closed
    /// in parallel in the orderly way, and what is not closed at the deadline is killed: its
    /// processes are dead when this returns, which takes a few milliseconds more, or up to three
    /// seconds where the kernel or a blocked thread holds something.
    ///
    /// Idempotent: a second caller waits for the same end. Dropping the future stops the waiting,
    /// not the shutdown. Needs no runtime: outside of one it works on a thread of its own.
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        let shared = Arc::clone(&self.shared);
        let ended = match Handle::try_current() {
            Ok(runtime) => runtime
                .spawn(async move { end(&shared, deadline).await })
                .await
                .ok(),
            Err(_) => elsewhere(shared, deadline).await,
        };
        // It was stopped with the runtime that it ran on, or there was no thread for it.
        ended.unwrap_or_else(|| end_at_once(&self.shared))
    }
}

/// Ends everything on a thread of its own.
async fn elsewhere(shared: Arc<Shared>, deadline: Duration) -> Option<ShutdownReport> {
    let (report, reported) = oneshot::channel();
    let work = move || {
        let Ok(runtime) = Builder::new_current_thread().enable_time().build() else {
            return;
        };
        // Nobody waits any more: no harm done.
        let _ = report.send(runtime.block_on(end(&shared, deadline)));
        runtime.shutdown_background();
    };
    let thread = std::thread::Builder::new().name("mcpool-shutdown".to_owned());
    thread.spawn(work).ok()?;
    reported.await.ok()
}

/// Lets nothing begin any more, and ends what hears of it.
fn begin(shared: &Shared) {
    // No server is added once this is done.
    let _changing = lock(&shared.changing);
    shared.root.cancel();
    shared.tasks.close();
    shared.registered.close();
}

/// Stops everything, waits until the deadline, and kills what is left.
async fn end(shared: &Shared, deadline: Duration) -> ShutdownReport {
    let started = Instant::now();
    let servers = shared.all();
    let cancelled_calls = servers.iter().map(|server| server.in_flight()).sum();
    begin(shared);
    let ending = future::join(shared.tasks.wait(), shared.registered.wait());
    let forced = match timeout(deadline, ending).await {
        Ok(_) => Vec::new(),
        Err(_) => force(shared).await,
    };
    let mut report = finish(shared, forced);
    report.cancelled_calls = cancelled_calls;
    report.closed = servers
        .iter()
        .map(|server| server.name.clone())
        .filter(|name| report.forced.binary_search(name).is_err())
        .collect();
    report.elapsed = started.elapsed();
    report
}

/// Kills what is connected, and stops what is being connected. Gives the names of the servers, in
/// order.
async fn force(shared: &Shared) -> Vec<ServerName> {
    shared.open.force();
    let forced = shared.abort_supervisors();
    if !forced.is_empty() {
        tracing::warn!(
            ?forced,
            "the deadline of the shutdown passed; connections are killed"
        );
    }
    kill_all(shared.open.take()).await;
    // An aborted task ends at its next await: at once, with the connect that it makes.
    if timeout(ABORT_PATIENCE, shared.tasks.wait()).await.is_err() {
        tracing::warn!("a task that blocks its thread keeps the manager's own from ending");
    }
    // A connect may have come to its end in between.
    kill_all(shared.open.take()).await;
    forced
}

async fn kill_all(clients: Vec<Arc<dyn Client>>) {
    let count = clients.len().min(KILLERS);
    let left = Arc::new(Mutex::new(clients));
    let killers = (0..count).map(|_| {
        let left = Arc::clone(&left);
        spawn_blocking(move || {
            loop {
                let next = lock(&left).pop();
                let Some(client) = next else { return };
                kill(&*client);
            }
        })
    });
    if timeout(KILL_PATIENCE, future::join_all(killers))
        .await
        .is_err()
    {
        tracing::warn!("a connection that was killed is not gone yet");
    }
}

fn kill(client: &dyn Client) {
    if let Err(error) = asked("`kill` of the client", || client.kill()) {
        tracing::warn!(%error, "a connection was not killed");
    }
}

/// What is left to do when nothing can be waited for.
fn end_at_once(shared: &Shared) -> ShutdownReport {
    begin(shared);
    shared.open.force();
    let forced = shared.abort_supervisors();
    for client in shared.open.take() {
        kill(&*client);
    }
    finish(shared, forced)
}

fn finish(shared: &Shared, forced: Vec<ServerName>) -> ShutdownReport {
    shared.servers.store(Arc::default());
    shared.events.close();
    ShutdownReport {
        forced,
        unfinished_tasks: shared.registry.names(),
        ..ShutdownReport::default()
    }
}
