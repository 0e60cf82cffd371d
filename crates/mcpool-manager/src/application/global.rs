//! The process's own manager.

use std::sync::{Mutex, PoisonError};

use crate::manager::ConnectionManager;

impl ConnectionManager {
    /// The process's own manager: made by whoever asks first, the same for everybody after, from
    /// any thread. Of several who ask first at the same time one makes it, and what the others have
    /// made is dropped, before it has started anything. After its [`shutdown`](ConnectionManager::shutdown) the next one to ask makes a
    /// new one. It is never dropped: shut it down before the process ends.
    ///
    /// Its connections live on the runtime from which it was started. When that ends, so do they;
    /// the next [`start`](ConnectionManager::start), from another runtime, makes them again. A
    /// program whose runtimes come and go is better served by the builder's
    /// [`with_runtime`](crate::ManagerBuilder::with_runtime), or by the blocking manager.
    ///
    #[must_use]
    pub fn global(make: impl FnOnce() -> ConnectionManager) -> ConnectionManager {
        static GLOBAL: Mutex<Option<ConnectionManager>> = Mutex::new(None);
        let lock = || GLOBAL.lock().unwrap_or_else(PoisonError::into_inner);
        let alive = |global: &Option<ConnectionManager>| match global {
            Some(manager) if !manager.is_shut_down() => Some(manager.clone()),
            _ => None,
        };
        if let Some(manager) = alive(&lock()) {
            return manager;
        }
        // Made without the lock: `make` may ask for the global manager itself.
        let made = make();
        let mut global = lock();
        match alive(&global) {
            Some(manager) => {
                drop(global);
                manager
            }
            None => global.insert(made).clone(),
        }
    }
}
