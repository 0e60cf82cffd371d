//! A clock that all processes of a machine have, and that counts its sleep.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A moment on the clock of the machine: the time since its start, sleep counted (Linux:
/// `CLOCK_BOOTTIME`; elsewhere `CLOCK_MONOTONIC`). Every process reads the same one, and nobody can
/// set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MachineTime(Duration);

impl MachineTime {
    /// This moment.
    #[must_use]
    pub fn now() -> Self {
        Self(read())
    }

    /// So long after this moment.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }

    /// How long it is from now to this moment; zero when it has passed.
    #[must_use]
    pub fn left(self) -> Duration {
        self.0.saturating_sub(Self::now().0)
    }

    /// Whether it has come.
    #[must_use]
    pub fn has_come(self) -> bool {
        Self::now() >= self
    }
}

#[cfg(unix)]
fn read() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    #[cfg(target_os = "linux")]
    const CLOCK: ClockId = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: ClockId = ClockId::Monotonic;
    // Neither has a time before its start.
    Duration::try_from(clock_gettime(CLOCK)).unwrap_or_default()
}

/// There no other process ends a server, so that the clock of this one is enough.
#[cfg(not(unix))]
fn read() -> Duration {
    static BEGAN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    BEGAN.get_or_init(std::time::Instant::now).elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_and_never_overflows() {
        let now = MachineTime::now();
        assert!(now.has_come() && MachineTime::now() >= now);
        let never = now.after(Duration::MAX);
        assert!(!never.has_come() && never.left() > Duration::from_secs(1));
        assert!(now.after(Duration::from_secs(5)).left() > Duration::from_secs(4));
    }
}
