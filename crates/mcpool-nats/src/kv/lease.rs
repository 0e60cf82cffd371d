//! Who owns a server that runs once in the pool. Pure: every moment is given, on this machine's
//! clock.
//!
//! A record in KV is written by compare-and-swap alone. With `sent` the moment before a write was
//! sent, `ttl` and `margin` as in [`Terms`]:
//!
//! | moment | who | what |
//! |---|---|---|
//! | `sent` + (`ttl` − 2 `margin`) / 3 | owner | renews; tries again until it knows the outcome |
//! | `sent` + `ttl` − 2 `margin` | owner | without a later write that is known to be there: ends the server |
//! | `sent` + `ttl` − `margin` | owner | the server is dead |
//! | first sight of the newest revision + `ttl` + `margin` | successor | writes, expecting that revision |
//!
//! A revision is seen after it was sent. So a successor starts at least two margins after the
//! server of the old owner is dead, and no two clocks are compared: only their rates must be alike,
//! to a margin in a TTL. A read may be stale: a write that expects what it read then fails.

use std::{collections::VecDeque, time::Duration};

use mcpool_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::identity::Identity;

use super::bucket::{Held, Written};

/// How long a lease is valid, by default: more than an election in a cluster of NATS takes.
const DEFAULT_TTL: Duration = Duration::from_secs(15);

/// The margin, by default.
const DEFAULT_MARGIN: Duration = Duration::from_secs(3);

/// The longest lease.
const MAX_TTL: Duration = Duration::from_secs(3600);

/// The shortest margin: a server must be ended in it.
const MIN_MARGIN: Duration = Duration::from_millis(100);

/// The pause before a write or a read is tried again.
const RETRY: Duration = Duration::from_millis(250);

/// Writes of unknown outcome that are remembered. One that is forgotten does not prolong.
const MAX_DOUBTFUL: usize = 32;

/// How long a lease is valid, and how far owner and successor stay apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Terms {
    ttl: Duration,
    margin: Duration,
}

impl Default for Terms {
    /// 15 s with a margin of 3 s: a server whose worker dies is started elsewhere 18 s after the
    /// last renewal; when KV is away for 9 s it is ended.
    fn default() -> Self {
        Self {
            ttl: DEFAULT_TTL,
            margin: DEFAULT_MARGIN,
        }
    }
}

impl Terms {
    /// Terms of so long a lease, at most 1 h, and this margin, at least 100 ms.
    ///
    /// The owner ends the server within one margin, and the rates of two clocks may differ by a
    /// margin in a TTL.
    ///
    /// # Errors
    /// `InvalidArgument` outside of these, and for a TTL below five margins.
    pub fn new(ttl: Duration, margin: Duration) -> Result<Self> {
        if ttl > MAX_TTL || margin < MIN_MARGIN || margin.saturating_mul(5) > ttl {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "a lease is at most 1 h, its margin at least 100 ms and at most a fifth of it",
            ));
        }
        Ok(Self { ttl, margin })
    }

    /// After `sent`: when the owner begins to end the server.
    fn stop_after(self) -> Duration {
        self.ttl.saturating_sub(self.margin.saturating_mul(2))
    }

    /// After `sent`: when the server must be dead.
    pub(crate) fn dead_after(self) -> Duration {
        self.ttl.saturating_sub(self.margin)
    }

    fn renew_after(self) -> Duration {
        self.stop_after() / 3
    }

    fn wait(self) -> Duration {
        self.ttl.saturating_add(self.margin)
    }

    /// How long the server has to end in good order.
    #[must_use]
    pub fn margin(self) -> Duration {
        self.margin
    }
}

/// What KV holds of a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// The owner's worker, for people who look.
    holder: Identity,
    /// The owner's process: an identity may be used again after a crash.
    incarnation: String,
    /// Counts the owner's writes.
    write: u64,
    ttl_ms: u64,
    margin_ms: u64,
    /// The server was dead before this was written.
    released: bool,
}

/// Who holds a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    /// Nobody, and it is not known for how long.
    Nobody,
    /// Nobody: its owner gave it up.
    Released,
    /// This process, by this write.
    Own(u64),
    /// Another, whose successor waits so long.
    Other(Duration),
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Read the key.
    Read,
    /// Write the key, expecting this revision.
    Write { expected: u64, write: u64 },
    /// Nothing before this moment.
    Until(Duration),
    /// End the server, then say [`Lease::ended`].
    End,
}

/// One process's side of one lease.
#[derive(Debug)]
pub(crate) struct Lease {
    terms: Terms,
    holder: Identity,
    incarnation: String,
    writes: u64,
    /// No read and no write before.
    pause: Duration,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// Another's, or nobody's. No server runs here.
    Waiting(Option<Seen>),
    Owning(Owning),
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    revision: u64,
    holder: Holder,
    at: Duration,
}

#[derive(Debug)]
struct Owning {
    epoch: u64,
    revision: u64,
    /// When the newest write that is known to be there was sent.
    sent: Duration,
    /// Writes that may be there, with when they were sent.
    doubtful: VecDeque<(u64, Duration)>,
    /// Somebody wrote: look who.
    look: bool,
    lost: bool,
}

impl Lease {
    pub(crate) fn new(terms: Terms, holder: Identity, incarnation: String) -> Self {
        Self {
            terms,
            holder,
            incarnation,
            writes: 0,
            pause: Duration::ZERO,
            phase: Phase::Waiting(None),
        }
    }

    /// The epoch, while the lease is owned.
    pub(crate) fn epoch(&self) -> Option<u64> {
        match &self.phase {
            Phase::Owning(owning) if !owning.lost => Some(owning.epoch),
            _ => None,
        }
    }

    /// When the server must be dead, while the lease is owned.
    pub(crate) fn dead_at(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Owning(owning) => Some(owning.sent.saturating_add(self.terms.dead_after())),
            Phase::Waiting(_) => None,
        }
    }

    /// The value to write.
    pub(crate) fn record(&self, write: u64, released: bool) -> Vec<u8> {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let record = Record {
            holder: self.holder.clone(),
            incarnation: self.incarnation.clone(),
            write,
            ttl_ms: ms(self.terms.ttl),
            margin_ms: ms(self.terms.margin),
            released,
        };
        // Text and numbers always can be written as JSON.
        serde_json::to_vec(&record).unwrap_or_default()
    }

    fn holder(&self, value: Option<&[u8]>) -> Holder {
        let Some(value) = value else {
            return Holder::Nobody;
        };
        let Ok(record) = serde_json::from_slice::<Record>(value) else {
            return Holder::Other(self.terms.wait());
        };
        if record.released {
            return Holder::Released;
        }
        if record.incarnation == self.incarnation {
            return Holder::Own(record.write);
        }
        let wait = record.ttl_ms.saturating_add(record.margin_ms);
        // Another version may allow more than this one; nobody may make it wait for ever.
        let wait = Duration::from_millis(wait).min(MAX_TTL.saturating_mul(2));
        Holder::Other(wait.max(self.terms.wait()))
    }

    /// What to do now.
    pub(crate) fn next(&mut self, now: Duration) -> Next {
        match &self.phase {
            Phase::Waiting(_) if now < self.pause => Next::Until(self.pause),
            Phase::Waiting(None) => Next::Read,
            Phase::Waiting(Some(seen)) => {
                let free = match seen.holder {
                    // Its server is dead: this process is not the owner now.
                    Holder::Own(_) | Holder::Released => now,
                    Holder::Nobody => seen.at.saturating_add(self.terms.wait()),
                    Holder::Other(wait) => seen.at.saturating_add(wait),
                };
                let expected = seen.revision;
                if now < free {
                    return Next::Until(free);
                }
                self.write(expected)
            }
            Phase::Owning(owning) => {
                let end = owning.sent.saturating_add(self.terms.stop_after());
                if owning.lost || now >= end {
                    return Next::End;
                }
                let renewal = owning.sent.saturating_add(self.terms.renew_after());
                let (look, expected) = (owning.look, owning.revision);
                if now < self.pause {
                    Next::Until(self.pause.min(end))
                } else if look {
                    Next::Read
                } else if now < renewal {
                    Next::Until(renewal)
                } else {
                    self.write(expected)
                }
            }
        }
    }

    fn write(&mut self, expected: u64) -> Next {
        self.writes = self.writes.saturating_add(1);
        Next::Write {
            expected,
            write: self.writes,
        }
    }

    /// The outcome of a write that was sent at `sent`.
    pub(crate) fn wrote(&mut self, now: Duration, write: u64, sent: Duration, outcome: &Written) {
        let stop_after = self.terms.stop_after();
        match (&mut self.phase, outcome) {
            (Phase::Waiting(seen), Written::At(revision)) => {
                if now >= sent.saturating_add(stop_after) {
                    // Too late to begin with it.
                    *seen = Some(Seen {
                        revision: *revision,
                        holder: Holder::Own(write),
                        at: now,
                    });
                } else {
                    self.phase = Phase::Owning(Owning {
                        epoch: *revision,
                        revision: *revision,
                        sent,
                        doubtful: VecDeque::new(),
                        look: false,
                        lost: false,
                    });
                }
            }
            (Phase::Waiting(seen), Written::Conflict | Written::Unknown(_)) => {
                *seen = None;
                self.pause = now.saturating_add(RETRY);
            }
            (Phase::Owning(owning), Written::At(revision)) => {
                owning.revision = *revision;
                owning.sent = sent;
                owning.doubtful.clear();
            }
            (Phase::Owning(owning), Written::Conflict) => owning.look = true,
            (Phase::Owning(owning), Written::Unknown(_)) => {
                if owning.doubtful.len() == MAX_DOUBTFUL {
                    owning.doubtful.pop_front();
                }
                owning.doubtful.push_back((write, sent));
                self.pause = now.saturating_add(RETRY);
            }
        }
    }

    /// What the key holds, by a read or a watch.
    pub(crate) fn saw(&mut self, now: Duration, held: &Held) {
        let holder = self.holder(held.value.as_deref());
        match &mut self.phase {
            Phase::Waiting(seen) => {
                // The first sight of a revision counts, and an older one is stale.
                if seen.is_none_or(|seen| held.revision > seen.revision) {
                    *seen = Some(Seen {
                        revision: held.revision,
                        holder,
                        at: now,
                    });
                }
            }
            Phase::Owning(owning) if held.revision <= owning.revision => {
                // Stale, or nothing new.
                if owning.look {
                    self.pause = now.saturating_add(RETRY);
                }
            }
            Phase::Owning(owning) => match holder {
                Holder::Own(write) => {
                    owning.revision = held.revision;
                    owning.look = false;
                    let known = owning
                        .doubtful
                        .iter()
                        .find(|(doubtful, _)| *doubtful == write);
                    if let Some((_, sent)) = known {
                        owning.sent = owning.sent.max(*sent);
                    }
                }
                Holder::Nobody | Holder::Released | Holder::Other(_) => owning.lost = true,
            },
        }
    }

    /// The key could not be read.
    pub(crate) fn unread(&mut self, now: Duration) {
        self.pause = now.saturating_add(RETRY);
    }

    /// The server is dead. The revision under which the lease can be released.
    pub(crate) fn ended(&mut self) -> Option<u64> {
        match std::mem::replace(&mut self.phase, Phase::Waiting(None)) {
            Phase::Owning(owning) if !owning.lost => Some(owning.revision),
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "lease_simulation.rs"]
mod simulation;
