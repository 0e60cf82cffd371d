//! How soon a server may be asked for its event stream again. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// Streams in a row that ended without a message before the next is delayed.
const FREE_ROUNDS: u32 = 2;
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// A stream that lived so long counts as good, even if it brought nothing.
const GOOD_LIFE: Duration = Duration::from_secs(30);

/// Slows down the GETs of one session while they bring nothing: a server that ends its stream at
/// once, and wants to be asked again at once, is not asked in a hot loop.
#[derive(Debug, Default)]
pub(crate) struct GetPacer {
    fruitless: u32,
    opened: Option<Instant>,
}

impl GetPacer {
    /// How long to wait before the next GET, which is then counted.
    pub(crate) fn next_delay(&mut self) -> Duration {
        let opened = self.opened.take();
        if opened.is_some_and(|opened| opened.elapsed() >= GOOD_LIFE) {
            self.fruitless = 0;
        }
        let rounds = self.fruitless;
        self.fruitless = rounds.saturating_add(1);
        delay(rounds)
    }

    /// A stream is open now.
    pub(crate) fn opened(&mut self) {
        self.opened = Some(Instant::now());
    }

    /// A stream brought a message.
    pub(crate) fn delivered(&mut self) {
        self.fruitless = 0;
    }
}

fn delay(rounds: u32) -> Duration {
    let Some(exponent) = rounds.checked_sub(FREE_ROUNDS) else {
        return Duration::ZERO;
    };
    FIRST_DELAY
        .saturating_mul(2_u32.saturating_pow(exponent))
        .min(LONGEST_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_climbs_to_its_cap() {
        let seconds: Vec<_> = (0..10).map(|rounds| delay(rounds).as_secs()).collect();
        assert_eq!(seconds, [0, 0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(delay(u32::MAX), LONGEST_DELAY);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_or_a_long_life_starts_over() {
        let mut pacer = GetPacer::default();
        for _ in 0..5 {
            pacer.next_delay();
        }
        pacer.opened();
        assert_eq!(pacer.next_delay().as_secs(), 8);
        pacer.delivered();
        assert_eq!(pacer.next_delay(), Duration::ZERO);
        for _ in 0..5 {
            pacer.next_delay();
        }
        pacer.opened();
        tokio::time::sleep(GOOD_LIFE).await;
        assert_eq!(pacer.next_delay(), Duration::ZERO);
    }
}
