//! How long a request may take: a time without a word from the server, which progress begins
//! again, and a time that holds whatever the progress. Both stand still while somebody answers a
//! question of the server. No I/O, and no timer.

use std::time::Duration;

use mcpool_core::{RequestOptions, RequestTimeouts};
use tokio::time::Instant;

/// Stands for "no limit": no sum of instants overflows with it.
pub(crate) const FAR: Duration = Duration::from_secs(60 * 60 * 24 * 365);

/// For how long in all the clock of one operation may stand still. It bounds a server that asks
/// without end, and an application that never answers.
pub(crate) const MAX_PAUSE: Duration = Duration::from_secs(60 * 60);

/// How often a clock that stands still is looked at. By so much a timeout after a question may be
/// late.
const LOOK: Duration = Duration::from_secs(1);

/// The clock of one operation, its rounds included.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    idle: Duration,
    deadline: Instant,
    /// How long it may still stand still.
    pause_left: Duration,
}

/// What a clock says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// There is time left: look again then.
    Until(Instant),
    /// The server was silent for too long.
    Silent,
    /// The operation took as long as one may.
    Over,
}

impl Clock {
    /// The clock of an operation that begins now.
    ///
    /// An explicit timeout may be longer than the policy's maximum: then it is the maximum.
    pub(crate) fn start(options: &RequestOptions, timeouts: &RequestTimeouts) -> Self {
        let idle = options.timeout.unwrap_or(timeouts.request);
        let total = options
            .max_total
            .unwrap_or_else(|| timeouts.request_max.max(idle));
        Self {
            idle,
            deadline: add(Instant::now(), total),
            pause_left: MAX_PAUSE,
        }
    }

    /// A clock that runs to this moment, whatever the progress and no matter who is asked.
    pub(crate) fn until(deadline: Instant) -> Self {
        Self {
            idle: FAR,
            deadline,
            pause_left: Duration::ZERO,
        }
    }

    /// A clock that never ends anything: what it is for is bounded elsewhere.
    pub(crate) fn stopped() -> Self {
        Self::until(add(Instant::now(), FAR))
    }

    /// When the operation ends.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// How long the operation may still take from this moment on; `None` when nothing ends it.
    pub(crate) fn left(&self, now: Instant) -> Option<Duration> {
        let left = self.deadline.saturating_duration_since(now);
        (left < FAR / 2).then_some(left)
    }

    /// How long it may still stand still.
    pub(crate) fn pause_left(&self) -> Duration {
        self.pause_left
    }

    /// It stood still for so long.
    pub(crate) fn stood_still(&mut self, pause: Duration) {
        let pause = pause.min(self.pause_left);
        self.pause_left -= pause;
        self.deadline = add(self.deadline, pause);
    }

    /// When a request that was sent now is to be looked at.
    pub(crate) fn first_look(&self, sent: Instant) -> Instant {
        add(sent, self.idle).min(self.deadline)
    }

    /// Reads it at `now` for a request that was `sent` then and heard of (`heard`) since then.
    /// `paused` gives for how long between two moments somebody was answering a question, and
    /// `answering` says whether somebody is.
    pub(crate) fn read(
        &self,
        now: Instant,
        sent: Instant,
        heard: Instant,
        paused: impl Fn(Instant, Instant) -> Duration,
        answering: bool,
    ) -> Reading {
        let pause = |since| paused(since, now).min(self.pause_left);
        let over = add(self.deadline, pause(sent));
        let silent = add(add(heard, self.idle), pause(heard));
        let next = over.min(silent);
        if next > now {
            let look = if answering { add(now, LOOK) } else { next };
            return Reading::Until(next.max(look));
        }
        if over <= now {
            Reading::Over
        } else {
            Reading::Silent
        }
    }
}

/// A sum that does not overflow.
pub(crate) fn add(instant: Instant, duration: Duration) -> Instant {
    let duration = duration.min(FAR);
    instant.checked_add(duration).unwrap_or(instant)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn clock(idle: u32, total: u32) -> (Clock, Instant) {
        let options = RequestOptions::new()
            .with_timeout(SECOND * idle)
            .with_max_total(SECOND * total);
        let clock = Clock::start(&options, &RequestTimeouts::default());
        let began = clock.deadline - SECOND * total;
        (clock, began)
    }

    #[test]
    fn progress_begins_the_silence_again_and_not_the_whole() {
        let (clock, began) = clock(10, 25);
        let never = |_, _| Duration::ZERO;
        let at = |now: u32, heard: u32| {
            clock.read(
                began + SECOND * now,
                began,
                began + SECOND * heard,
                never,
                false,
            )
        };
        assert_eq!(at(5, 0), Reading::Until(began + SECOND * 10));
        assert_eq!(at(10, 0), Reading::Silent);
        assert_eq!(at(10, 8), Reading::Until(began + SECOND * 18));
        assert_eq!(at(20, 20), Reading::Until(began + SECOND * 25));
        assert_eq!(at(25, 24), Reading::Over);
    }

    #[test]
    fn both_stand_still_while_somebody_answers() {
        let (clock, began) = clock(10, 15);
        // A question from the 5th second on.
        let asked = began + SECOND * 5;
        let paused = |from: Instant, to: Instant| to.saturating_duration_since(asked.max(from));
        for now in [10, 100, 3_000] {
            let now = began + SECOND * now;
            assert_eq!(
                clock.read(now, began, began, paused, true),
                Reading::Until(now + SECOND * 5),
                "what was left when it was asked"
            );
        }
        let late = began + MAX_PAUSE + SECOND * 20;
        assert_eq!(clock.read(late, began, began, paused, true), Reading::Over);
    }

    #[test]
    fn a_clock_that_stands_still_is_not_looked_at_all_the_time() {
        let (clock, began) = clock(10, 1_000);
        let asked = began + SECOND * 10 - Duration::from_millis(1);
        let paused = |from: Instant, to: Instant| to.saturating_duration_since(asked.max(from));
        let now = began + SECOND * 10;
        assert_eq!(
            clock.read(now, began, began, paused, true),
            Reading::Until(now + LOOK)
        );
    }

    #[test]
    fn no_duration_overflows() {
        let options = RequestOptions::new()
            .with_timeout(Duration::MAX)
            .with_max_total(Duration::MAX);
        let mut clock = Clock::start(&options, &RequestTimeouts::default());
        let now = Instant::now();
        clock.stood_still(Duration::MAX);
        clock.stood_still(Duration::MAX);
        assert_eq!(clock.pause_left(), Duration::ZERO);
        let reading = clock.read(now, now, now, |_, _| Duration::MAX, true);
        assert!(matches!(reading, Reading::Until(then) if then > now));
        assert!(clock.first_look(now) > now);
    }
}
