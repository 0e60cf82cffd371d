//! How soon a server may be asked for its event stream again.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// Streams in a row that ended without a message before the next is delayed.
const FREE_ROUNDS: u32 = 2;
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// The longest delay of a stream that has nothing to resume.
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// The longest delay of a stream that resumes after an event id: an answer may wait behind it
/// (MCP 2025-11-25: a server may end a stream early and be asked again).
const LONGEST_RESUME_DELAY: Duration = Duration::from_secs(2);
/// A stream that lived so long counts as good, even if it brought nothing.
const GOOD_LIFE: Duration = Duration::from_secs(30);

/// Slows down the GETs of one connection while they bring nothing.
///
/// rmcp's worker asks again after each graceful end of a stream, as soon as the server's `retry`
/// field allows, and without end.
#[derive(Debug, Default)]
pub(crate) struct GetPacer {
    fruitless: AtomicU32,
    opened: Mutex<Option<Instant>>,
}

impl GetPacer {
    /// How long to wait before the next GET, which is then counted.
    pub(crate) fn next_delay(&self, resumes: bool) -> Duration {
        let opened = self
            .opened
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if opened.is_some_and(|opened| opened.elapsed() >= GOOD_LIFE) {
            self.fruitless.store(0, Ordering::Relaxed);
        }
        let rounds = self.fruitless.fetch_add(1, Ordering::Relaxed);
        delay(rounds, resumes)
    }

    /// A stream is open now.
    pub(crate) fn opened(&self) {
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// A stream brought a message.
    pub(crate) fn delivered(&self) {
        self.fruitless.store(0, Ordering::Relaxed);
    }
}

fn delay(rounds: u32, resumes: bool) -> Duration {
    let Some(exponent) = rounds.checked_sub(FREE_ROUNDS) else {
        return Duration::ZERO;
    };
    let longest = match resumes {
        true => LONGEST_RESUME_DELAY,
        false => LONGEST_DELAY,
    };
    FIRST_DELAY
        .saturating_mul(2_u32.saturating_pow(exponent))
        .min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_climbs_to_its_cap() {
        let seconds = |resumes| {
            (0..10)
                .map(|rounds| delay(rounds, resumes).as_secs())
                .collect::<Vec<_>>()
        };
        assert_eq!(seconds(false), [0, 0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(seconds(true), [0, 0, 1, 2, 2, 2, 2, 2, 2, 2]);
        assert_eq!(delay(u32::MAX, false), LONGEST_DELAY);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_or_a_long_life_starts_over() {
        let pacer = GetPacer::default();
        for _ in 0..5 {
            pacer.next_delay(false);
        }
        pacer.opened();
        assert_eq!(pacer.next_delay(false).as_secs(), 8);
        pacer.delivered();
        assert_eq!(pacer.next_delay(false), Duration::ZERO);
        for _ in 0..5 {
            pacer.next_delay(false);
        }
        pacer.opened();
        tokio::time::sleep(GOOD_LIFE).await;
        assert_eq!(pacer.next_delay(false), Duration::ZERO);
    }
}
