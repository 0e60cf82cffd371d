//! What the crate's own module of this name has, on loom's.

use std::task::Waker;

pub(crate) use loom::sync::{Mutex, MutexGuard, atomic};
use loom::{future::block_on, thread};

/// As that of `atomic_waker`.
#[derive(Debug)]
pub(crate) struct AtomicWaker(loom::future::AtomicWaker);

impl AtomicWaker {
    pub(crate) fn new() -> Self {
        Self(loom::future::AtomicWaker::new())
    }

    pub(crate) fn register(&self, waker: &Waker) {
        self.0.register_by_ref(waker);
    }

    pub(crate) fn wake(&self) {
        self.0.wake();
    }
}

/// A runtime that has a thread for each task.
#[derive(Clone, Debug)]
pub(crate) struct Handle;

impl Handle {
    pub(crate) fn try_current() -> Result<Self, std::convert::Infallible> {
        Ok(Self)
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        thread::spawn(move || block_on(task));
    }
}
