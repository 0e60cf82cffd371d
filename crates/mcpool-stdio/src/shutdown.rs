//! When each step of a shutdown is taken. Pure.

use std::time::Duration;

use mcpool_core::ShutdownPolicy;
use serde::{Deserialize, Serialize};

/// No policy is longer than this: a time that can be added to a clock without a thought.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// How long what was killed may take to be gone, in a drop or past any policy: a few milliseconds,
/// unless the kernel holds a process.
pub(crate) const DROP_PATIENCE: Duration = Duration::from_secs(1);

/// The steps, as times since stdin was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ladder {
    /// SIGTERM to the group.
    pub(crate) terminate: Duration,
    /// SIGKILL to the group.
    pub(crate) kill: Duration,
    /// The close returns, whatever is left.
    pub(crate) give_up: Duration,
    /// How long what is left of a group may live on when its leader has obeyed and exited: a
    /// server behind a launcher that does not wait for it still writes its files. A quarter of
    /// the grace after SIGTERM, 500 ms by default.
    pub(crate) linger: Duration,
}

impl Ladder {
    /// The steps of a policy. When the two graces do not fit into the total, both are shortened
    /// in proportion, so that SIGTERM is never left out. SIGKILL always has a second to work,
    /// also past the total: what is forced is dead when the close returns.
    pub(crate) fn new(policy: &ShutdownPolicy) -> Self {
        let total = policy.total.min(LONGEST);
        let stdin_grace = policy.stdin_grace.min(LONGEST);
        let term_grace = policy.term_grace.min(LONGEST);
        let reserve = (total / 5).min(Duration::from_millis(500));
        let room = total - reserve;
        let graces = stdin_grace + term_grace;
        let (terminate, kill) = if graces <= room {
            (stdin_grace, graces)
        } else {
            let share = stdin_grace.as_secs_f64() / graces.as_secs_f64();
            (room.mul_f64(share).min(room), room)
        };
        Self {
            terminate,
            kill,
            give_up: total.max(kill + DROP_PATIENCE),
            linger: term_grace.min(total) / 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(stdin_grace: u64, term_grace: u64, total: u64) -> ShutdownPolicy {
        let mut policy = ShutdownPolicy::default();
        policy.stdin_grace = Duration::from_millis(stdin_grace);
        policy.term_grace = Duration::from_millis(term_grace);
        policy.total = Duration::from_millis(total);
        policy
    }

    #[test]
    fn the_default_fits() {
        let ladder = Ladder::new(&ShutdownPolicy::default());
        assert_eq!(ladder.terminate, Duration::from_secs(2));
        assert_eq!(ladder.kill, Duration::from_secs(4));
        assert_eq!(ladder.give_up, Duration::from_secs(5));
        assert_eq!(ladder.linger, Duration::from_millis(500));
    }

    #[test]
    fn a_short_total_shortens_both_graces() {
        let ladder = Ladder::new(&policy(2_000, 2_000, 1_000));
        assert_eq!(ladder.terminate, Duration::from_millis(400));
        assert_eq!(ladder.kill, Duration::from_millis(800));
    }

    #[test]
    fn no_time_at_all_kills_at_once_and_waits_for_the_death() {
        let ladder = Ladder::new(&policy(2_000, 2_000, 0));
        assert_eq!(ladder.kill, Duration::ZERO);
        assert_eq!(ladder.give_up, DROP_PATIENCE);
    }

    proptest! {
        #[test]
        fn the_steps_are_in_order_and_within_the_total(
            stdin in any::<Duration>(), term in any::<Duration>(), total in any::<Duration>(),
        ) {
            let mut policy = ShutdownPolicy::default();
            (policy.stdin_grace, policy.term_grace, policy.total) = (stdin, term, total);
            let ladder = Ladder::new(&policy);
            prop_assert!(ladder.terminate <= ladder.kill);
            prop_assert!(ladder.kill <= total);
            prop_assert!(ladder.kill + DROP_PATIENCE <= ladder.give_up);
            prop_assert!(ladder.give_up <= total.saturating_add(DROP_PATIENCE));
            prop_assert!(std::time::Instant::now().checked_add(ladder.give_up).is_some());
        }

        #[test]
        fn short_ones_too(
            stdin in 0..10_000_u64, term in 0..10_000_u64, total in 0..10_000_u64,
        ) {
            let ladder = Ladder::new(&policy(stdin, term, total));
            let total = Duration::from_millis(total);
            prop_assert!(ladder.terminate <= ladder.kill && ladder.kill <= total);
            prop_assert!(ladder.give_up <= total + DROP_PATIENCE);
        }
    }
}
