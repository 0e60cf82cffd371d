//! How many things run at once.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// How many of something run now, and how many ran at once at most.
#[derive(Debug, Clone, Default)]
pub struct Gauge(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Gauge {
    /// Those that run now.
    #[must_use]
    pub fn now(&self) -> usize {
        self.0.now.load(Ordering::SeqCst)
    }

    /// The most that ran at once.
    #[must_use]
    pub fn most(&self) -> usize {
        self.0.most.load(Ordering::SeqCst)
    }

    pub(super) fn enter(&self) -> Within {
        let now = self.0.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.most.fetch_max(now, Ordering::SeqCst);
        Within(self.clone())
    }
}

/// Counts one of them for as long as it lives.
#[derive(Debug)]
pub(super) struct Within(Gauge);

impl Drop for Within {
    fn drop(&mut self) {
        self.0.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}
