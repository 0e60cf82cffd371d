//! Workers with clocks of their own, a KV that answers late, stale or not at all, and freezes: in
//! no course of events does a server run twice.

use super::*;

/// A small generator of random numbers with a seed (xorshift64*): a failure can be run again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % below.max(1)
    }
}

/// A write on its way.
struct Letter {
    worker: usize,
    write: u64,
    expected: u64,
    value: Vec<u8>,
    /// On the worker's clock.
    sent: Duration,
    /// When KV takes it, and when the answer is there, if it is not lost. True time, ms.
    applied_at: u64,
    answered_at: Option<u64>,
    outcome: Option<Written>,
}

struct Worker {
    lease: Lease,
    /// Its clock: an offset and a rate in parts per thousand.
    offset: u64,
    rate: u64,
    /// Until when it is stopped (SIGSTOP, a long pause).
    frozen_until: u64,
    waits_for: Option<(u64, u64)>,
    /// The server runs. It ends by the worker, or by the watchdog.
    runs: Option<u64>,
    ends_at: Option<u64>,
    kill_at: u64,
    ignores_watch: bool,
}

impl Worker {
    fn clock(&self, time: u64) -> Duration {
        Duration::from_millis(self.offset + time * self.rate / 1000)
    }

    /// The true time of a moment on its clock.
    fn time(&self, clock: Duration) -> u64 {
        let ms = u64::try_from(clock.as_millis()).unwrap();
        ms.saturating_sub(self.offset) * 1000 / self.rate
    }
}

#[derive(Default)]
struct Outcome {
    owners: usize,
    /// Worker, epoch.
    last: Option<(usize, u64)>,
}

/// One course of events. Panics when two servers run.
#[allow(clippy::too_many_lines)]
fn run(seed: u64) -> Outcome {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let terms = Terms::default();
    let mut workers: Vec<Worker> = (0..3)
        .map(|number| Worker {
            lease: Lease::new(
                terms,
                Identity::new(format!("w{number}")).unwrap(),
                format!("i{number}"),
            ),
            offset: dice.roll(1 << 40),
            rate: 960 + dice.roll(81),
            frozen_until: 0,
            waits_for: None,
            runs: None,
            ends_at: None,
            kill_at: 0,
            ignores_watch: dice.roll(2) == 0,
        })
        .collect();
    let mut history: Vec<(u64, Option<Vec<u8>>)> = vec![(0, None)];
    let mut letters: Vec<Letter> = Vec::new();
    let (mut outcome, mut away_until) = (Outcome::default(), 0_u64);
    for time in (0..400_000_u64).step_by(20) {
        // The world: KV goes away, a worker freezes, somebody deletes the key.
        if dice.roll(1500) == 0 {
            away_until = time + dice.roll(30_000);
        }
        if dice.roll(1000) == 0 {
            let frozen = usize::try_from(dice.roll(3)).unwrap();
            workers[frozen].frozen_until = time + dice.roll(40_000);
        }
        if dice.roll(8000) == 0 {
            let revision = history.last().unwrap().0 + 1;
            history.push((revision, None));
        }
        for letter in &mut letters {
            if letter.outcome.is_none() && time >= letter.applied_at {
                let newest = history.last().unwrap().0;
                letter.outcome = Some(if newest == letter.expected {
                    history.push((newest + 1, Some(letter.value.clone())));
                    Written::At(newest + 1)
                } else {
                    Written::Conflict
                });
            }
        }
        for (number, worker) in workers.iter_mut().enumerate() {
            // The watchdog is no part of the worker, and not frozen with it.
            if worker.runs.is_some()
                && time >= worker.kill_at.min(worker.ends_at.unwrap_or(u64::MAX))
            {
                worker.runs = None;
            }
            if time < worker.frozen_until {
                continue;
            }
            let now = worker.clock(time);
            if let Some((write, timeout)) = worker.waits_for {
                let answer = letters.iter().find(|letter| {
                    (letter.worker, letter.write) == (number, write)
                        && letter.answered_at.is_some_and(|at| time >= at)
                        && letter.outcome.is_some()
                });
                let sent = letters
                    .iter()
                    .find(|letter| (letter.worker, letter.write) == (number, write))
                    .unwrap()
                    .sent;
                let outcome = match answer {
                    Some(letter) => letter.outcome.clone().unwrap(),
                    None if time >= timeout => Written::Unknown(String::new()),
                    None => continue,
                };
                worker.waits_for = None;
                worker.lease.wrote(now, write, sent, &outcome);
            }
            if worker.ends_at.is_some() {
                if worker.runs.is_some() {
                    continue;
                }
                worker.ends_at = None;
                worker.lease.ended();
            }
            let held = |(revision, value): &(u64, Option<Vec<u8>>)| Held {
                revision: *revision,
                value: value.clone().map(Into::into),
            };
            if !worker.ignores_watch && time >= away_until && dice.roll(10) == 0 {
                worker.lease.saw(now, &held(history.last().unwrap()));
            }
            match worker.lease.next(now) {
                Next::Read if time < away_until => worker.lease.unread(now),
                Next::Read => {
                    // A replica that is behind.
                    let behind = usize::try_from(dice.roll(4)).unwrap() / 2;
                    let entry = history.len().saturating_sub(1 + behind);
                    worker.lease.saw(now, &held(&history[entry]));
                }
                Next::Write { expected, write } => {
                    let delay = match dice.roll(12) {
                        0 => dice.roll(60_000),
                        _ => dice.roll(60),
                    };
                    let applied_at = (time + delay).max(away_until);
                    letters.push(Letter {
                        worker: number,
                        write,
                        expected,
                        value: worker.lease.record(write, false),
                        sent: now,
                        applied_at,
                        answered_at: (dice.roll(8) > 0).then(|| applied_at + dice.roll(100)),
                        outcome: None,
                    });
                    worker.waits_for = Some((write, time + 2_000));
                }
                Next::Until(_) => {}
                Next::End => worker.ends_at = Some(time + dice.roll(3_500)),
            }
            if let (Some(epoch), None) = (worker.lease.epoch(), worker.runs)
                && worker.ends_at.is_none()
            {
                worker.runs = Some(epoch);
                if outcome.last != Some((number, epoch)) {
                    outcome.owners += 1;
                    assert!(outcome.last.is_none_or(|(_, before)| before < epoch));
                    outcome.last = Some((number, epoch));
                }
            }
            if let Some(dead_at) = worker.lease.dead_at() {
                worker.kill_at = worker.time(dead_at);
            }
        }
        let running = workers.iter().filter(|worker| worker.runs.is_some());
        assert!(
            running.count() <= 1,
            "two owners: seed {seed}, at {time} ms"
        );
    }
    outcome
}

#[test]
fn in_no_course_of_events_does_a_server_run_twice() {
    let mut owners = 0;
    for seed in 0..150 {
        owners += run(seed).owners;
    }
    // It is no proof that never lets a server run.
    assert!(owners > 600, "{owners}");
}

fn lease(name: &str) -> Lease {
    Lease::new(Terms::default(), Identity::new(name).unwrap(), name.into())
}

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn held(revision: u64, value: Option<Vec<u8>>) -> Held {
    Held {
        revision,
        value: value.map(Into::into),
    }
}

fn owner(lease: &mut Lease, at: Duration) {
    lease.saw(at, &held(0, None));
    let at = at + s(18);
    let Next::Write { expected: 0, write } = lease.next(at) else {
        panic!("not free");
    };
    lease.wrote(at, write, at, &Written::At(1));
    assert_eq!(lease.epoch(), Some(1));
}

#[test]
fn a_write_of_unknown_outcome_that_is_found_later_prolongs() {
    let mut one = lease("one");
    owner(&mut one, s(0));
    let Next::Write { expected: 1, write } = one.next(s(21)) else {
        panic!("no renewal");
    };
    one.wrote(s(23), write, s(21), &Written::Unknown("timed out".into()));
    let Next::Write {
        expected: 1,
        write: again,
    } = one.next(s(24))
    else {
        panic!("no second try");
    };
    one.wrote(s(24), again, s(24), &Written::Conflict);
    assert_eq!(one.next(s(24)), Next::Read);
    one.saw(s(24), &held(2, Some(one.record(write, false))));
    // 9 s after the write that is there was sent.
    assert_ne!(one.next(s(29)), Next::End);
    assert_eq!(one.next(s(30)), Next::End);
}

#[test]
fn one_that_was_released_is_free_at_once_and_one_of_another_later() {
    let (mut one, mut two) = (lease("one"), lease("two"));
    two.saw(s(5), &held(7, Some(one.record(1, false))));
    assert_eq!(two.next(s(22)), Next::Until(s(23)));
    // Seen again: the first sight counts.
    two.saw(s(9), &held(7, Some(one.record(1, false))));
    assert_eq!(two.next(s(10)), Next::Until(s(23)));
    two.saw(s(10), &held(8, Some(one.record(2, true))));
    assert!(matches!(two.next(s(10)), Next::Write { expected: 8, .. }));
    owner(&mut one, s(0));
    one.saw(s(19), &held(9, Some(two.record(1, false))));
    assert_eq!(one.next(s(19)), Next::End);
    assert_eq!(one.ended(), None);
}

#[test]
fn terms_are_checked() {
    let ms = Duration::from_millis;
    assert!(Terms::new(s(15), s(3)).is_ok());
    for (ttl, margin) in [(s(14), s(3)), (s(3601), s(3)), (s(1), ms(99)), (s(0), s(0))] {
        assert!(Terms::new(ttl, margin).is_err());
    }
}
