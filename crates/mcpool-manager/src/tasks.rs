//! The application's own background work, registered by name: it ends with the manager at the
//! latest, and nothing dangles.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex},
};

use mcpool_core::{Error, ErrorKind, Result};
use tokio_util::sync::CancellationToken;

use crate::{
    manager::{ConnectionManager, closed},
    server::lock,
};

/// The tasks that run, by name.
#[derive(Default)]
pub(crate) struct Registry(Mutex<BTreeMap<String, Entry>>);

#[derive(Clone)]
struct Entry {
    cancel: CancellationToken,
    ended: CancellationToken,
}

impl ConnectionManager {
    /// Runs a future in the background under a name, until it ends, it is cancelled, or the
    /// manager is shut down. Cancelling drops the future.
    ///
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use mcpool_core::{ServerSpec, StdioSpec};
    /// # use mcpool_manager::{CallOptions, ConnectionManager};
    /// # use mcpool_testkit::scripted_client::ScriptedFactory;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> mcpool_core::Result<()> {
    /// # let manager = ConnectionManager::new(Arc::new(ScriptedFactory::new()));
    /// # manager.start(vec![ServerSpec::stdio("files", StdioSpec::new("mcp-server-files"))?]).await?;
    /// let worker = manager.clone();
    /// manager.spawn_task("response", async move {
    ///     let _ = worker.call_tool("files", "echo", None, &CallOptions::new()).await;
    ///     std::future::pending::<()>().await;
    /// })?;
    /// assert_eq!(manager.task_names(), ["response"]);
    /// // A person presses "cancel": the task, and the call in it, end.
    /// assert_eq!(manager.cancel_all_tasks().await, 1);
    /// assert!(manager.task_names().is_empty());
    /// # Ok(()) }
    /// ```
    ///
    /// The future must not hold a handle of the manager for ever: the last handle's drop ends the
    /// tasks, and a handle in a task would keep it from coming. After
    /// [`shutdown`](ConnectionManager::shutdown) it is dropped in any case.
    ///
    /// # Errors
    /// `InvalidArgument` when a task of this name runs, or without a runtime; `Closed` after the shutdown.
    pub fn spawn_task(
        &self,
        name: impl Into<String>,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> Result<()> {
        self.shared.has_runtime()?;
        let name = name.into();
        let entry = Entry {
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
        self.shared.spawn(async move {
            // Dropped last, also when the task panics or its runtime goes.
            let _ending = ending;
            entry.cancel.run_until_cancelled_owned(task).await;
        });
        Ok(())
    }

    /// The names of the tasks that run, in order.
    #[must_use]
    pub fn task_names(&self) -> Vec<String> {
        lock(&self.shared.registry.0).keys().cloned().collect()
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
        let entries: Vec<Entry> = lock(&self.shared.registry.0).values().cloned().collect();
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
    shared: Arc<crate::manager::Shared>,
    name: String,
    ended: CancellationToken,
}

impl Drop for Ending {
    fn drop(&mut self) {
        lock(&self.shared.registry.0).remove(&self.name);
        self.ended.cancel();
    }
}
