//! The application's own background work, registered by name: it ends with the manager at the
//! latest, and nothing dangles.

use std::{future::Future, sync::Arc};

use mcpool_core::{Error, ErrorKind, Result};
use tokio_util::sync::CancellationToken;

use crate::{
    application::registry::RegisteredTask, manager::ConnectionManager, server::lock, shared::closed,
};

impl ConnectionManager {
    /// Runs a future in the background under a name, until it ends, it is cancelled, or the
    /// manager is shut down. Cancelling drops the future.
    ///
    /// The future must not hold a handle of the manager for ever: the last handle's drop ends the
    /// tasks, and a handle in a task would keep it from coming. After
    /// [`shutdown`](ConnectionManager::shutdown) it is dropped in any case, unless it blocks its
    /// thread: that cannot be ended, and the report names it.
    ///
    /// # Errors
    /// `InvalidArgument` when a task of this name runs, or without a runtime; `Closed` after the shutdown.
    pub fn spawn_task(
        &self,
        name: impl Into<String>,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> Result<()> {
        self.shared.runtime()?;
        let name = name.into();
        let entry = RegisteredTask {
            cancel: self.shared.root.child_token(),
            ended: CancellationToken::new(),
        };
        {
            let _changing = lock(&self.shared.changing);
            if self.is_shut_down() {
                return Err(closed());
            }
            let mut tasks = lock(&self.shared.registry.0);
            if tasks.contains_key(&name) {
                return Err(Error::new(
                    ErrorKind::InvalidArgument,
                    format!("a task called {name:?} runs already"),
                ));
            }
            tasks.insert(name.clone(), entry.clone());
        }
        let ending = Ending {
            shared: Arc::clone(&self.shared),
            name,
            ended: entry.ended,
        };
        let running = async move {
            // Dropped last, also when the task panics or its runtime goes.
            let _ending = ending;
            entry.cancel.run_until_cancelled_owned(task).await;
        };
        self.shared.spawn_among(&self.shared.registered, running);
        Ok(())
    }

    /// The names of the tasks that run, in order.
    #[must_use]
    pub fn task_names(&self) -> Vec<String> {
        self.shared.registry.names()
    }

    /// Cancels the task of this name and waits for its end; `false` when there is none.
    pub async fn cancel_task(&self, name: &str) -> bool {
        let entry = lock(&self.shared.registry.0).get(name).cloned();
        match entry {
            Some(entry) => {
                entry.cancel.cancel();
                entry.ended.cancelled().await;
                true
            }
            None => false,
        }
    }

    /// Cancels every task, waits for their end, and says how many there were.
    pub async fn cancel_all_tasks(&self) -> usize {
        let entries: Vec<RegisteredTask> =
            lock(&self.shared.registry.0).values().cloned().collect();
        for entry in &entries {
            entry.cancel.cancel();
        }
        for entry in &entries {
            entry.ended.cancelled().await;
        }
        entries.len()
    }
}

/// Takes a task out of the registry when it ends, however it ends.
struct Ending {
    shared: Arc<crate::shared::Shared>,
    name: String,
    ended: CancellationToken,
}

impl Drop for Ending {
    fn drop(&mut self) {
        lock(&self.shared.registry.0).remove(&self.name);
        self.ended.cancel();
    }
}
