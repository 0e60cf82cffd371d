//! When each step of a shutdown is taken. Pure.

use std::time::Duration;

use mcpool_core::ShutdownPolicy;

/// The steps, as times since stdin was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ladder {
    /// SIGTERM to the group.
    pub(crate) terminate: Duration,
    /// SIGKILL to the group.
    pub(crate) kill: Duration,
    /// The close returns, whatever is left.
    pub(crate) give_up: Duration,
}

impl Ladder {
    /// The steps of a policy. When the two graces do not fit into the total, both are shortened
    /// in proportion, so that SIGTERM is never left out and SIGKILL always has time to work.
    pub(crate) fn new(policy: &ShutdownPolicy) -> Self {
        let total = policy.total;
        let reserve = (total / 5).min(Duration::from_millis(500));
        let room = total.saturating_sub(reserve);
        let graces = policy.stdin_grace.saturating_add(policy.term_grace);
        let (terminate, kill) = if graces <= room {
            (policy.stdin_grace, graces)
        } else {
            let share = policy.stdin_grace.as_secs_f64() / graces.as_secs_f64();
            (room.mul_f64(share), room)
        };
        Self {
            terminate,
            kill,
            give_up: total,
        }
    }
}

/// How long what is left of a group may live on when its leader has obeyed and exited: a server
/// behind a launcher that does not wait for it still writes its files. A quarter of the grace
/// after SIGTERM, 500 ms by default.
pub(crate) fn linger(policy: &ShutdownPolicy) -> Duration {
    policy.term_grace.min(policy.total) / 4
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
    }

    #[test]
    fn a_short_total_shortens_both_graces() {
        let ladder = Ladder::new(&policy(2_000, 2_000, 1_000));
        assert_eq!(ladder.terminate, Duration::from_millis(400));
        assert_eq!(ladder.kill, Duration::from_millis(800));
    }

    proptest! {
        #[test]
        fn the_steps_are_in_order_and_within_the_total(
            stdin in 0..10_000_u64, term in 0..10_000_u64, total in 0..10_000_u64,
        ) {
            let ladder = Ladder::new(&policy(stdin, term, total));
            prop_assert!(ladder.terminate <= ladder.kill);
            prop_assert!(ladder.kill <= ladder.give_up);
            prop_assert!(total == 0 || ladder.kill < ladder.give_up);
        }
    }
}
