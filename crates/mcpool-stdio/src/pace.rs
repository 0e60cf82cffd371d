//! How fast a close goes: by the shutdown policy, or within a shorter time that was set meanwhile.

use std::{sync::OnceLock, time::Duration};

use mcpool_core::ShutdownPolicy;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::shutdown::Ladder;

/// The clock of one close.
#[derive(Debug)]
pub(crate) struct Pace {
    policy: ShutdownPolicy,
    /// The policy's, or less.
    total: watch::Sender<Duration>,
    began: OnceLock<Instant>,
}

impl Pace {
    pub(crate) fn new(policy: &ShutdownPolicy) -> Self {
        Self {
            policy: policy.clone(),
            total: watch::Sender::new(policy.total),
            began: OnceLock::new(),
        }
    }

    /// The close begins now, unless it has begun.
    pub(crate) fn begin(&self) {
        self.began.get_or_init(Instant::now);
    }

    /// What is left of the close may take so long at most.
    pub(crate) fn shorten(&self, time: Duration) {
        let since = self.began.get().map_or(Duration::ZERO, Instant::elapsed);
        let wanted = since.saturating_add(time);
        self.total.send_if_modified(|total| {
            let shorter = wanted < *total;
            *total = wanted.min(*total);
            shorter
        });
    }

    /// The steps, as they stand now.
    pub(crate) fn ladder(&self) -> Ladder {
        let mut policy = self.policy.clone();
        policy.total = *self.total.borrow();
        Ladder::new(&policy)
    }

    /// Waits until the time of a step has come, also when it is set to be earlier meanwhile.
    pub(crate) async fn reach(&self, step: fn(&Ladder) -> Duration) {
        let began = *self.began.get_or_init(Instant::now);
        let mut total = self.total.subscribe();
        loop {
            total.mark_unchanged();
            // No step of a ladder is too far away to be added to a clock.
            let until = began + step(&self.ladder());
            tokio::select! {
                () = sleep_until(until) => return,
                // It fails only when the sender is gone, and we hold it.
                _ = total.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_step_comes_earlier_when_the_time_is_shortened_meanwhile() {
        let pace = Pace::new(&ShutdownPolicy::default());
        let began = Instant::now();
        let shortened = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            pace.shorten(Duration::from_secs(1));
            pace.shorten(Duration::from_secs(100));
        };
        tokio::join!(pace.reach(|ladder| ladder.kill), shortened);
        // 1.5 s in all, of which a fifth is for the kernel.
        assert_eq!(began.elapsed(), Duration::from_millis(1_200));
    }

    #[tokio::test(start_paused = true)]
    async fn no_time_at_all_is_now() {
        let pace = Pace::new(&ShutdownPolicy::default());
        let began = Instant::now();
        pace.begin();
        pace.shorten(Duration::ZERO);
        pace.reach(|ladder| ladder.kill).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
