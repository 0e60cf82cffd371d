//! Where calls wait for room: first come, first served, and free of charge while there is room.
//! `tests/loom` compiles this file with the atomics of loom and tries the orders of events.

use crate::{
    supervise::gate::Refused,
    sync::{
        Notify, Semaphore, SemaphorePermit,
        atomic::{AtomicUsize, Ordering},
    },
};

/// The queue in front of one server's instances.
///
/// Only the first in the queue looks for room; the others wait for their turn to be the first.
pub(crate) struct Queue {
    /// One permit: being the first.
    first: Semaphore,
    /// How many wait, the first one included.
    waiting: AtomicUsize,
    freed: Notify,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            first: Semaphore::new(1),
            waiting: AtomicUsize::new(0),
            freed: Notify::new(),
        }
    }
}

/// Being the first in the queue. Dropping it makes the next one the first.
struct Turn<'a> {
    _first: Option<SemaphorePermit<'a>>,
    _waiting: Waiting<'a>,
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Queue {
    /// Whether anybody waits.
    pub(crate) fn is_busy(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// Waits to be the first, and then for room; `admit` goes in where there is some. Each time
    /// that there is none, `full` is called. `None` when there is nothing to wait for in a queue: no
    /// connection is open. Dropping the future leaves the queue.
    pub(crate) async fn room<T>(
        &self,
        mut admit: impl FnMut() -> Result<T, Refused>,
        mut full: impl FnMut(),
    ) -> Option<T> {
        let _turn = self.turn().await;
        loop {
            // Made before looking, so that no room that is freed meanwhile is missed.
            let freed = self.freed.notified();
            match admit() {
                Ok(inside) => return Some(inside),
                Err(Refused::Full) => {
                    full();
                    freed.await;
                }
                // The others wait for a connection in their own ways.
                Err(Refused::Shut) => return None,
            }
        }
    }

    async fn turn(&self) -> Turn<'_> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let waiting = Waiting(&self.waiting);
        Turn {
            // The semaphore is never closed; if it were, everybody would be the first.
            _first: self.first.acquire().await.ok(),
            _waiting: waiting,
        }
    }

    /// Somebody left.
    pub(crate) fn left(&self) {
        self.freed.notify_one();
    }

    /// There may be room elsewhere, or none to wait for.
    pub(crate) fn look_again(&self) {
        self.freed.notify_waiters();
    }
}
