//! What the manager's handle, its supervisors and its tasks share. It knows servers and what is
//! reported of them, and nothing of those who work on them.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::Duration,
};

use arc_swap::ArcSwap;
use mcpool_core::{ClientFactory, Error, ErrorKind, Result, ServerName};
use tokio::{
    runtime::Handle,
    task::{AbortHandle, JoinHandle},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    application::registry::Registry,
    catalog::view::View,
    observe::events::EventBus,
    server::{Server, lock},
    supervise::{budget::Budget, open::OpenClients, suspend::SuspendClock},
};

/// Supervisors that may still run.
#[derive(Default)]
pub(crate) struct Supervisors {
    running: Vec<(ServerName, AbortHandle)>,
    /// When so many are noted, those that have ended are forgotten.
    sweep_at: usize,
}

pub(crate) type Servers = BTreeMap<ServerName, Arc<Server>>;

/// What the manager, its supervisors and its tasks share.
pub(crate) struct Shared {
    pub(crate) factory: Arc<dyn ClientFactory>,
    pub(crate) budget: Budget,
    pub(crate) events: EventBus,
    pub(crate) view: View,
    /// Cancelled when the manager ends.
    pub(crate) root: CancellationToken,
    /// How long calls in flight on a removed server may take to end.
    pub(crate) drain: Duration,
    pub(crate) servers: ArcSwap<Servers>,
    /// Held while the set of servers changes; never across an await.
    pub(crate) changing: Mutex<()>,
    pub(crate) tasks: TaskTracker,
    /// The application's own tasks, which are not waited for past a deadline.
    pub(crate) registered: TaskTracker,
    /// Every supervisor that may still run.
    pub(crate) supervisors: Mutex<Supervisors>,
    pub(crate) open: Arc<OpenClients>,
    pub(crate) runtime: Option<Handle>,
    pub(crate) clock: Arc<dyn SuspendClock>,
    pub(crate) watching_sleep: AtomicBool,
    pub(crate) registry: Registry,
}

impl Shared {
    /// Runs a task that the manager's shutdown waits for.
    pub(crate) fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.spawn_among(&self.tasks, task)
    }

    /// Runs a task of one of the trackers.
    pub(crate) fn spawn_among<F>(&self, tracker: &TaskTracker, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        match &self.runtime {
            Some(runtime) => tracker.spawn_on(task, runtime),
            None => tracker.spawn(task),
        }
    }

    /// The runtime for tasks.
    ///
    /// # Errors
    /// `InvalidArgument` on a thread without one, unless the builder gave one.
    pub(crate) fn runtime(&self) -> Result<Handle> {
        let current = || Handle::try_current().ok();
        self.runtime.clone().or_else(current).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidArgument,
                "this needs a tokio runtime: call it from inside one, give the builder one, or use the blocking manager",
            )
        })
    }

    /// Runs a supervisor, which the end of the manager may abort.
    pub(crate) fn supervise(
        &self,
        name: &ServerName,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let handle = self.spawn(task).abort_handle();
        let mut supervisors = lock(&self.supervisors);
        if supervisors.running.len() >= supervisors.sweep_at {
            supervisors
                .running
                .retain(|(_, handle)| !handle.is_finished());
            // Twice what is left: the sweeps cost no more than the spawns.
            supervisors.sweep_at = supervisors.running.len().saturating_mul(2).max(64);
        }
        supervisors.running.push((name.clone(), handle));
    }

    /// Aborts the supervisors that still run, and names their servers.
    pub(crate) fn abort_supervisors(&self) -> Vec<ServerName> {
        let mut aborted: Vec<ServerName> = lock(&self.supervisors)
            .running
            .drain(..)
            .filter(|(_, handle)| !handle.is_finished())
            .map(|(name, handle)| {
                handle.abort();
                name
            })
            .collect();
        aborted.sort();
        aborted.dedup();
        aborted
    }

    pub(crate) fn server(&self, name: &str) -> Result<Arc<Server>> {
        let servers = self.servers.load();
        match servers.get(name) {
            Some(server) => Ok(Arc::clone(server)),
            None if self.root.is_cancelled() => Err(closed()),
            None => Err(Error::new(
                ErrorKind::UnknownServer,
                format!("there is no server called {name:?}"),
            )),
        }
    }

    pub(crate) fn all(&self) -> Vec<Arc<Server>> {
        self.servers.load().values().cloned().collect()
    }
}

/// The error of every verb after the shutdown.
pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the manager was shut down")
}
