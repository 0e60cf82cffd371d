//! What nobody waits for: cancellations, refusals, the ends of event streams.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{runtime::Handle, time::timeout};

/// Runs what nobody waits for beside the requests, at once and side by side: a cancellation that
/// waits for others comes when nobody needs it any more.
pub(crate) struct Aside {
    runtime: Handle,
    running: Arc<AtomicUsize>,
    at_once: usize,
    within: Duration,
}

impl Aside {
    /// For messages: as many at once as requests may run by default, for 5 s each.
    pub(crate) fn for_messages(runtime: Handle) -> Self {
        Self::new(runtime, 256, Duration::from_secs(5))
    }

    /// For the ends of event streams: 64 at once, for half a second each.
    pub(crate) fn for_tails(runtime: Handle) -> Self {
        Self::new(runtime, 64, Duration::from_millis(500))
    }

    fn new(runtime: Handle, at_once: usize, within: Duration) -> Self {
        Self {
            runtime,
            running: Arc::default(),
            at_once,
            within,
        }
    }

    /// Runs something; `false` when too many run.
    ///
    /// It may be called from anywhere; when the runtime is gone, the exchange is dropped.
    pub(crate) fn run(&self, exchange: impl Future<Output = ()> + Send + 'static) -> bool {
        if self.running.fetch_add(1, Ordering::AcqRel) >= self.at_once {
            self.running.fetch_sub(1, Ordering::AcqRel);
            return false;
        }
        let counted = Counted(Arc::clone(&self.running));
        let within = self.within;
        self.runtime.spawn(async move {
            let _counted = counted;
            timeout(within, exchange).await.ok();
        });
        true
    }
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn exchanges_run_side_by_side_and_are_bounded_in_number_and_time() {
        let aside = Aside::new(Handle::current(), 3, Duration::from_secs(5));
        for _ in 0..3 {
            assert!(aside.run(std::future::pending()));
        }
        assert!(!aside.run(std::future::pending()));
        tokio::time::sleep(Duration::from_millis(5_001)).await;
        assert!(aside.run(std::future::pending()));
        assert_eq!(aside.running.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_runtime_that_is_gone_takes_them_along() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let aside = Aside::for_messages(runtime.handle().clone());
        drop(runtime);
        assert!(aside.run(std::future::pending()));
        assert_eq!(aside.running.load(Ordering::SeqCst), 0);
    }
}
