//! Notices that the machine slept: its boot clock went on while its monotonic clock stood still.

use std::{fmt, sync::Arc, time::Duration};

/// Reads the two clocks whose difference is the time asleep. Give the builder your own for tests.
pub trait SuspendClock: Send + Sync + 'static {
    /// How much further the clock that counts sleep has come than the one that does not.
    /// Only its changes mean something.
    fn drift(&self) -> Duration;
}

impl fmt::Debug for dyn SuspendClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SuspendClock")
    }
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
        use rustix::time::{ClockId, clock_gettime};
        let read = |clock| Duration::try_from(clock_gettime(clock)).unwrap_or_default();
        read(ClockId::Boottime).saturating_sub(read(ClockId::Monotonic))
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
