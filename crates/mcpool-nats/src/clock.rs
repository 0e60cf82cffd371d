//! How old a request is, without wall clocks: `docs/fleet-wire.md`, "Age".

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use mcpool_manager::{SuspendClock as _, SystemClock};
use tokio::time::Instant;

/// A worker's clock: milliseconds since it was made, sleep of the machine counted. Never 0.
#[derive(Debug)]
pub(crate) struct WorkerClock {
    began: Instant,
    sleep: SystemClock,
    slept_before: Duration,
}

impl WorkerClock {
    pub(crate) fn new() -> Self {
        let sleep = SystemClock::new();
        Self {
            began: Instant::now(),
            slept_before: sleep.drift(),
            sleep,
        }
    }

    pub(crate) fn now(&self) -> u64 {
        let slept = self.sleep.drift().saturating_sub(self.slept_before);
        let passed = self.began.elapsed().saturating_add(slept);
        u64::try_from(passed.as_millis())
            .unwrap_or(u64::MAX)
            .saturating_add(1)
    }
}

/// What a gateway knows of its worker's clock.
#[derive(Debug, Default)]
pub(crate) struct Stamps(Mutex<Option<(u64, Instant)>>);

impl Stamps {
    /// A frame of the worker's arrived now.
    pub(crate) fn heard(&self, clock: u64) {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if clock > 0 && newest.is_none_or(|(before, _)| clock >= before) {
            *newest = Some((clock, Instant::now()));
        }
    }

    /// The stamp of what is sent now: at most the worker's clock in this moment.
    pub(crate) fn stamp(&self) -> u64 {
        let newest = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        newest.map_or(0, |(clock, at)| {
            let passed = u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
            clock.saturating_add(passed)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_age_is_never_taken_for_less_than_it_is() {
        let (worker, stamps) = (WorkerClock::new(), Stamps::default());
        assert_eq!(stamps.stamp(), 0);
        let told = worker.now();
        // The way of the frame with the clock.
        tokio::time::advance(Duration::from_millis(40)).await;
        stamps.heard(told);
        tokio::time::advance(Duration::from_secs(600)).await;
        let stamp = stamps.stamp();
        assert!(stamp <= worker.now());
        // Where the request lay.
        tokio::time::advance(Duration::from_secs(7)).await;
        let age = worker.now() - stamp;
        assert!((7_000..=7_050).contains(&age), "{age}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_older_word_of_the_clock_changes_nothing() {
        let stamps = Stamps::default();
        stamps.heard(500);
        tokio::time::advance(Duration::from_secs(1)).await;
        stamps.heard(400);
        assert_eq!(stamps.stamp(), 1_500);
    }
}
