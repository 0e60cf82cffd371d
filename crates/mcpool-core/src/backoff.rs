//! How long to wait before the next attempt: a pure function of the policy.

use std::time::Duration;

use crate::{Jitter, ReconnectPolicy};

/// The delays of a [`ReconnectPolicy`], one for each attempt.
///
/// A pure function of the policy, the attempt and a number that the caller draws: no clock, no
/// state but the attempt's number.
///
/// ```
/// use std::time::Duration;
/// use mcpool_core::{Backoff, ReconnectPolicy};
///
/// let mut backoff = Backoff::new(ReconnectPolicy::five_then_stop());
/// let delays: Vec<_> = std::iter::from_fn(|| backoff.next_delay(0.5)).collect();
/// assert_eq!(delays, [1, 2, 4, 8, 16].map(Duration::from_secs));
/// ```
#[derive(Debug, Clone)]
pub struct Backoff {
    policy: ReconnectPolicy,
    attempt: u32,
}

impl Backoff {
    /// At the foot of the ladder.
    #[must_use]
    pub fn new(policy: ReconnectPolicy) -> Self {
        Self { policy, attempt: 0 }
    }

    /// How many delays were given since the last reset.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Back to the foot of the ladder.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }

    /// The delay before the next attempt; `None` when the attempts are used up. `random` is a number
    /// in `[0, 1)` that the caller drew for it.
    pub fn next_delay(&mut self, random: f64) -> Option<Duration> {
        if self
            .policy
            .max_attempts
            .is_some_and(|max| self.attempt >= max)
        {
            return None;
        }
        let delay = self.policy.delay(self.attempt, random);
        self.attempt = self.attempt.saturating_add(1);
        Some(delay)
    }
}

impl ReconnectPolicy {
    /// The delay before retry `n`, counted from 0: never over the cap, never an overflow.
    ///
    /// A pure function; `random` is a number in `[0, 1)` that the caller drew. It does not look at
    /// [`max_attempts`](ReconnectPolicy::max_attempts).
    ///
    /// ```
    /// use std::time::Duration;
    /// use mcpool_core::ReconnectPolicy;
    ///
    /// let policy = ReconnectPolicy::unlimited();
    /// assert_eq!(policy.delay(2, 0.5), Duration::from_secs(1)); // half of 0.5 s · 2²
    /// assert_eq!(policy.delay(100_000, 0.5), Duration::from_secs(15));
    /// ```
    #[must_use]
    pub fn delay(&self, n: u32, random: f64) -> Duration {
        let cap = self.cap.as_secs_f64();
        let exponent = i32::try_from(n).unwrap_or(i32::MAX);
        let grown = self.base.as_secs_f64() * self.factor.max(1.0).powi(exponent);
        // `min` with infinity, or with NaN from 0·∞, gives the cap.
        let step = grown.min(cap);
        let seconds = match self.jitter {
            Jitter::None => step,
            Jitter::Full => step * random,
            Jitter::Equal => step / 2.0 + step / 2.0 * random,
            Jitter::Additive(fraction) => step + step * fraction.max(0.0) * random,
        };
        Duration::try_from_secs_f64(seconds.min(cap))
            .unwrap_or(self.cap)
            .min(self.cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, RngExt, SeedableRng, rngs::SmallRng};

    /// The delay before attempt `n`, with a number from this random source.
    fn delay(policy: &ReconnectPolicy, n: u32, rng: &mut impl Rng) -> Duration {
        policy.delay(n, rng.random::<f64>())
    }

    fn ladder(policy: ReconnectPolicy, n: usize) -> Vec<f64> {
        let mut rng = SmallRng::seed_from_u64(7);
        (0..n)
            .map(|i| delay(&policy, u32::try_from(i).unwrap(), &mut rng).as_secs_f64())
            .collect()
    }

    #[test]
    fn the_presets_give_the_sequences_that_their_names_promise() {
        let mut plain = ReconnectPolicy::unlimited();
        plain.jitter = Jitter::None;
        assert_eq!(
            ladder(plain, 8),
            [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
        );
        let mut retrying = ReconnectPolicy::retrying(3);
        for (i, step) in [1.0, 2.0, 4.0, 8.0, 16.0].into_iter().enumerate() {
            let delay = ladder(retrying.clone(), i + 1)[i];
            assert!((step..=step * 1.5).contains(&delay), "{i}: {delay}");
        }
        retrying.jitter = Jitter::None;
        assert_eq!(ladder(retrying, 6), [1.0, 2.0, 4.0, 8.0, 16.0, 30.0]);
        assert_eq!(
            ladder(ReconnectPolicy::five_then_stop(), 8),
            [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
        );
    }

    #[test]
    fn no_delay_is_over_the_cap_in_a_million_seeds() {
        for (jitter, attempt) in [
            (Jitter::Full, 6),
            (Jitter::Equal, 40),
            (Jitter::Additive(0.5), 6),
            (Jitter::Additive(9.0), 3),
        ] {
            let policy = ReconnectPolicy {
                jitter,
                ..ReconnectPolicy::default()
            };
            for seed in 0..250_000 {
                let mut rng = SmallRng::seed_from_u64(seed);
                assert!(delay(&policy, attempt, &mut rng) <= policy.cap);
            }
        }
    }

    #[test]
    fn full_jitter_has_its_mean_at_half_the_step() {
        let policy = ReconnectPolicy::default();
        let mut rng = SmallRng::seed_from_u64(1);
        let n = 1_000_000;
        let sum: f64 = (0..n)
            .map(|_| delay(&policy, 3, &mut rng).as_secs_f64())
            .sum();
        let mean = sum / f64::from(n);
        assert!((mean / 2.0 - 1.0).abs() < 0.01, "mean {mean}");
    }

    #[test]
    fn a_high_attempt_does_not_overflow() {
        let mut rng = SmallRng::seed_from_u64(1);
        let policy = ReconnectPolicy {
            jitter: Jitter::None,
            ..ReconnectPolicy::default()
        };
        for n in [1_000, 100_000, u32::MAX] {
            assert_eq!(delay(&policy, n, &mut rng), policy.cap);
        }
        let zero = ReconnectPolicy {
            base: Duration::ZERO,
            ..policy
        };
        assert!(delay(&zero, 100_000, &mut rng) <= zero.cap);
    }

    #[test]
    fn spent_attempts_end_the_ladder_and_a_reset_refills_it() {
        let mut backoff = Backoff::new(ReconnectPolicy::retrying(2));
        assert!(backoff.next_delay(0.5).is_some());
        assert!(backoff.next_delay(0.5).is_some());
        assert_eq!(backoff.next_delay(0.5), None);
        backoff.reset();
        assert!(backoff.next_delay(0.5).is_some());
        assert_eq!(Backoff::new(ReconnectPolicy::never()).next_delay(0.5), None);
    }
}
