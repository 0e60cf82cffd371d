//! The process's own manager.

use std::{
    cell::Cell,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::manager::ConnectionManager;

static GLOBAL: Mutex<Option<ConnectionManager>> = Mutex::new(None);

/// Held while it is made, so that it is made once.
static MAKING: Mutex<()> = Mutex::new(());

thread_local! {
    /// Whether this thread makes it just now.
    static MAKES: Cell<bool> = const { Cell::new(false) };
}

/// The turn of this thread to make it. A caller that is asked for it while it makes it has the turn
/// already.
struct Turn {
    _first: Option<MutexGuard<'static, ()>>,
    nested: bool,
}

impl Turn {
    fn take() -> Self {
        let nested = MAKES.replace(true);
        Self {
            // A maker that panicked has left nothing half done.
            _first: (!nested).then(|| MAKING.lock().unwrap_or_else(PoisonError::into_inner)),
            nested,
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        MAKES.set(self.nested);
    }
}

impl ConnectionManager {
    /// The process's own manager: made by a caller that asks first, the same for everybody after, from
    /// any thread. After its [`shutdown`](ConnectionManager::shutdown) the next one to ask makes a
    /// new one. It is never dropped: shut it down before the process ends. A `make` that asks for
    /// the global manager itself gets, and makes, the one that everybody gets.
    ///
    /// Its connections live on the runtime from which it was started. When that ends, so do they;
    /// the next [`start`](ConnectionManager::start), from another runtime, makes them again. A
    /// program whose runtimes come and go is better served by the builder's
    /// [`with_runtime`](crate::ManagerBuilder::with_runtime), or by the blocking manager.
    #[must_use]
    pub fn global(make: impl FnOnce() -> ConnectionManager) -> ConnectionManager {
        if let Some(manager) = alive() {
            return manager;
        }
        let _turn = Turn::take();
        // Somebody else had the turn, or `make` asked for it.
        if let Some(manager) = alive() {
            return manager;
        }
        let made = make();
        alive().unwrap_or_else(|| global().insert(made).clone())
    }
}

fn global() -> MutexGuard<'static, Option<ConnectionManager>> {
    GLOBAL.lock().unwrap_or_else(PoisonError::into_inner)
}

fn alive() -> Option<ConnectionManager> {
    let global = global();
    let manager = global.as_ref().filter(|manager| !manager.is_shut_down());
    manager.cloned()
}
