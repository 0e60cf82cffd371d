//! When the server was last heard of.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::clock::add;

/// When the server was last heard of, answers to probes not counted. Counted in microseconds from
/// the start.
#[derive(Debug)]
pub(crate) struct Activity {
    origin: Instant,
    last: AtomicU64,
}

impl Activity {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            origin: Instant::now(),
            last: AtomicU64::new(0),
        })
    }

    /// It was heard of now. Gives the moment.
    pub(crate) fn heard(&self) -> u64 {
        let now = u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last.fetch_max(now, Ordering::Relaxed);
        now
    }

    /// When that was.
    pub(crate) fn last(&self) -> Instant {
        self.at(self.last.load(Ordering::Relaxed))
    }

    /// A moment that [`heard`](Self::heard) gave.
    pub(crate) fn at(&self, micros: u64) -> Instant {
        add(self.origin, Duration::from_micros(micros))
    }
}
