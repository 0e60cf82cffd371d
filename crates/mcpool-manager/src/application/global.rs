//! The process's own manager.

use std::sync::{Mutex, PoisonError};

use crate::manager::ConnectionManager;

impl ConnectionManager {
    /// The process's own manager: made by whoever asks first, the same for everybody after, from
    /// any thread. After its [`shutdown`](ConnectionManager::shutdown) the next one to ask makes a
    /// new one. It is never dropped: shut it down before the process ends.
    ///
    /// Its connections live on the runtime from which it was started. When that ends, so do they;
    /// the next [`start`](ConnectionManager::start), from another runtime, makes them anew. A
    /// program whose runtimes come and go is better served by the builder's
    /// [`with_runtime`](crate::ManagerBuilder::with_runtime), or by the blocking manager.
    ///
    #[must_use]
    pub fn global(make: impl FnOnce() -> ConnectionManager) -> ConnectionManager {
        static GLOBAL: Mutex<Option<ConnectionManager>> = Mutex::new(None);
        let mut global = GLOBAL.lock().unwrap_or_else(PoisonError::into_inner);
        match &*global {
            Some(manager) if !manager.is_shut_down() => manager.clone(),
            _ => global.insert(make()).clone(),
        }
    }
}
