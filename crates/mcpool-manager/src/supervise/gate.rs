//! The gate in front of a connection: one word that counts the calls inside, and shuts for good.
//! `tests/loom.rs` compiles this file with the atomics of loom and tries every order of events.

use crate::sync::atomic::{AtomicUsize, Ordering};

/// The bit that marks a shut gate; the bits below it count the calls inside.
const SHUT: usize = 1 << (usize::BITS - 1);

/// Why a gate let nobody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The connection was given up.
    Shut,
    /// As many calls as are allowed are inside.
    Full,
}

/// Open at first.
#[derive(Debug)]
pub(crate) struct Gate(AtomicUsize);

impl Gate {
    pub(crate) fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// Lets a call in, unless so many are inside; [`leave`](Self::leave) lets it out.
    pub(crate) fn enter(&self, most: usize) -> Result<(), Refused> {
        let mut seen = self.0.load(Ordering::Acquire);
        loop {
            if seen & SHUT != 0 {
                return Err(Refused::Shut);
            }
            if seen >= most {
                return Err(Refused::Full);
            }
            match self
                .0
                .compare_exchange_weak(seen, seen + 1, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return Ok(()),
                Err(now) => seen = now,
            }
        }
    }

    /// Lets a call out. Gives whether it was the last one inside a shut gate: a caller that waits for
    /// that has to be notified.
    #[must_use]
    pub(crate) fn leave(&self) -> bool {
        self.0.fetch_sub(1, Ordering::AcqRel) == SHUT | 1
    }

    /// Lets nobody in any more. Calls inside go on.
    pub(crate) fn shut(&self) {
        self.0.fetch_or(SHUT, Ordering::AcqRel);
    }

    pub(crate) fn is_shut(&self) -> bool {
        self.0.load(Ordering::Acquire) & SHUT != 0
    }

    /// How many calls are inside.
    pub(crate) fn inside(&self) -> usize {
        self.0.load(Ordering::Acquire) & !SHUT
    }
}
