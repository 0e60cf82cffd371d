//! Notices that the machine slept: its boot clock went on while its monotonic clock stood still.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use mcpool_core::EventKind;

use crate::{manager::Shared, server::Command};

/// How often the clocks are compared. A sleep is noticed so long after the waking at most.
const INTERVAL: Duration = Duration::from_secs(5);

/// Reads the two clocks whose difference is the time asleep. Give the builder your own for tests.
pub trait SuspendClock: Send + Sync + 'static {
    /// How much further the clock that counts sleep has come than the one that does not.
    /// Only its changes mean something.
    fn drift(&self) -> Duration;
}

/// The clocks of the operating system.
///
/// Linux: `CLOCK_BOOTTIME` against `CLOCK_MONOTONIC`. Elsewhere: the wall clock against the
/// monotonic one, so that setting the clock forward by hand looks like a sleep as well; all that
/// follows is one probe.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    #[cfg(not(target_os = "linux"))]
    wall: std::time::SystemTime,
    #[cfg(not(target_os = "linux"))]
    monotonic: std::time::Instant,
}

impl SystemClock {
    /// Starts to watch.
    #[must_use]
    pub fn new() -> Self {
        Self {
            #[cfg(not(target_os = "linux"))]
            wall: std::time::SystemTime::now(),
            #[cfg(not(target_os = "linux"))]
            monotonic: std::time::Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl SuspendClock for SystemClock {
    #[cfg(target_os = "linux")]
    fn drift(&self) -> Duration {
        use nix::time::{ClockId, clock_gettime};
        let read = |clock| clock_gettime(clock).map(Duration::from);
        match (
            read(ClockId::CLOCK_BOOTTIME),
            read(ClockId::CLOCK_MONOTONIC),
        ) {
            (Ok(boot), Ok(monotonic)) => boot.saturating_sub(monotonic),
            _ => Duration::ZERO,
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn drift(&self) -> Duration {
        self.wall
            .elapsed()
            .unwrap_or_default()
            .saturating_sub(self.monotonic.elapsed())
    }
}

/// Compares readings of the clock.
pub(crate) struct SuspendDetector {
    clock: Arc<dyn SuspendClock>,
    last: Duration,
}

impl SuspendDetector {
    /// A shorter sleep is noise: connections live through it.
    const SHORTEST: Duration = Duration::from_secs(2);

    pub(crate) fn new(clock: Arc<dyn SuspendClock>) -> Self {
        let last = clock.drift();
        Self { clock, last }
    }

    /// How long the machine slept since the last look, if it did.
    pub(crate) fn look(&mut self) -> Option<Duration> {
        let now = self.clock.drift();
        let asleep = now.saturating_sub(self.last);
        self.last = now;
        (asleep >= Self::SHORTEST).then_some(asleep)
    }
}

/// Held by the task that watches: when it ends with its runtime, another may begin.
struct Watched(Arc<Shared>);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.watching_sleep.store(false, Ordering::Release);
    }
}

/// Watches for the sleep of the machine, once for a whole manager, and has every connection probed
/// after it.
pub(crate) fn watch(shared: &Arc<Shared>) {
    if shared.watching_sleep.swap(true, Ordering::AcqRel) {
        return;
    }
    let watched = Watched(Arc::clone(shared));
    shared.spawn(async move {
        let watched = &watched.0;
        let mut detector = SuspendDetector::new(Arc::clone(&watched.clock));
        let mut ticks = tokio::time::interval(INTERVAL);
        loop {
            tokio::select! {
                () = watched.root.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let Some(asleep) = detector.look() else {
                continue;
            };
            tracing::info!(?asleep, "the machine slept; every connection is probed");
            for server in watched.all() {
                watched
                    .events
                    .emit(&server.name, EventKind::Resumed { asleep });
                for instance in &server.instances {
                    // A supervisor that is gone has nothing to probe.
                    let _ = instance.tell(Command::Resumed);
                }
            }
        }
    });
}
