//! How much one principal may ask for: requests at once, requests a second, bytes of a body, bytes
//! of answers that it does not read.
//!
//! What is refused here reaches no server, so it counts against the health of none.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests of one principal that are under way at once, unless it is set.
const MAX_REQUESTS: usize = 4_096;

/// HTTP requests of one principal a second, unless it is set. A program that goes wrong in a loop
/// is slowed down; nobody who works is.
const RATE_LIMIT: u32 = 50_000;

/// Bytes of the body of a request, unless it is set.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// Bytes that the bodies of one principal's requests take together, from their first byte to the
/// end of the request; more where one body alone may be longer.
const MAX_BODIES_BYTES: usize = 256 * 1024 * 1024;

/// Bytes of answers that one principal has not read yet, unless it is set: with more it begins no
/// further request. What it has begun is answered, whatever comes.
const MAX_UNREAD_BYTES: usize = 256 * 1024 * 1024;

/// In what steps the bytes of bodies are counted.
const BLOCK_BYTES: usize = 4 * 1024;

/// Event streams of the API that one principal has open.
const MAX_EVENTS: usize = 8;

/// Principals whose use is counted at once. The one that was idle for the longest time is
/// forgotten first.
const MAX_PRINCIPALS: usize = 10_000;

/// What one principal may ask for. Where no keys are asked for, all clients together are one.
///
/// ```
/// use mcpool_gateway::Limits;
///
/// let limits = Limits::new().with_in_flight(32).with_rate(100);
/// assert_ne!(limits, Limits::default());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Limits {
    in_flight: usize,
    rate: NonZeroU32,
    max_body_bytes: usize,
    max_unread_bytes: usize,
}

impl Limits {
    /// The defaults: 4 096 requests at once, 50 000 a second, bodies of 16 MiB, 256 MiB of answers
    /// that wait to be read.
    pub fn new() -> Self {
        Self {
            in_flight: MAX_REQUESTS,
            rate: at_least_one(RATE_LIMIT),
            max_body_bytes: MAX_BODY_BYTES,
            max_unread_bytes: MAX_UNREAD_BYTES,
        }
    }

    /// Sets how many requests may be under way at once; the next is answered with 429. None at all
    /// counts as 1.
    pub fn with_in_flight(mut self, requests: usize) -> Self {
        self.in_flight = requests.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// Sets how many HTTP requests may come in a second, which is also how many may come at one
    /// moment; the next is answered with 429. None at all counts as 1.
    pub fn with_rate(mut self, per_second: u32) -> Self {
        self.rate = at_least_one(per_second);
        self
    }

    /// Sets how large the body of a request may be, in bytes; a longer one is answered with 413.
    pub fn with_max_body_bytes(mut self, bytes: usize) -> Self {
        self.max_body_bytes = bytes;
        self
    }

    /// Sets how many bytes of answers may wait to be read by the client; with more than that the
    /// next request is answered with 429. Answers to requests that run then are kept all the same,
    /// and come on top.
    pub fn with_max_unread_bytes(mut self, bytes: usize) -> Self {
        self.max_unread_bytes = bytes;
        self
    }

    pub(crate) fn max_body_bytes(&self) -> usize {
        self.max_body_bytes
    }

    /// Blocks for all bodies together.
    fn bodies(&self) -> usize {
        let bytes = self.max_body_bytes.max(MAX_BODIES_BYTES);
        let most = Semaphore::MAX_PERMITS.min(u32::MAX as usize);
        bytes.div_ceil(BLOCK_BYTES).min(most)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}

/// A rate that lets something through.
pub(crate) fn at_least_one(rate: u32) -> NonZeroU32 {
    NonZeroU32::new(rate).unwrap_or(NonZeroU32::MIN)
}

/// The use that principals make of the gateway.
#[derive(Default)]
pub(crate) struct Allowances(Mutex<HashMap<Option<Arc<str>>, Entry>>);

struct Entry {
    allowance: Arc<Allowance>,
    used: Instant,
}

/// What one principal has left.
pub(crate) struct Allowance {
    limits: Limits,
    rate: DefaultDirectRateLimiter,
    in_flight: Arc<Semaphore>,
    /// Blocks of memory for bodies.
    bodies: Arc<Semaphore>,
    /// Bytes of answers that were not written yet.
    unread: Arc<AtomicUsize>,
    /// Event streams of the API.
    events: Arc<Semaphore>,
}

/// A request that is under way, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Turn {
    _place: OwnedSemaphorePermit,
    _room: Option<Arc<Room>>,
    unread: Arc<AtomicUsize>,
}

/// Why a request is not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Busy {
    /// Too many are under way.
    Requests,
    /// Too much of what was answered was not read.
    Unread,
}

impl Busy {
    /// The words for the client.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Requests => {
                "too many requests: this one was not run, and may be sent again later"
            }
            Self::Unread => {
                "too many bytes of answers to earlier requests wait to be read: this request was \
                 not run, and may be sent again when they have been read"
            }
        }
    }
}

/// An answer that waits to be written, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Unread {
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl Turn {
    /// Counts an answer.
    pub(crate) fn answered(&self, bytes: usize) -> Unread {
        self.unread.fetch_add(bytes, Ordering::Relaxed);
        Unread {
            all: Arc::clone(&self.unread),
            bytes,
        }
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Memory for a body, for as long as this lives.
#[derive(Debug, Default)]
pub(crate) struct Room(Option<OwnedSemaphorePermit>);

impl Allowances {
    /// What a principal has left. Other limits than before begin with nothing used.
    pub(crate) fn of(&self, principal: Option<&Arc<str>>, limits: Limits) -> Arc<Allowance> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let principal = principal.cloned();
        let now = Instant::now();
        if let Some(entry) = entries.get_mut(&principal)
            && entry.allowance.limits == limits
        {
            entry.used = now;
            return Arc::clone(&entry.allowance);
        }
        if entries.len() >= MAX_PRINCIPALS {
            let oldest = entries.iter().min_by_key(|(_, entry)| entry.used);
            let oldest = oldest.map(|(principal, _)| principal.clone());
            oldest.map(|principal| entries.remove(&principal));
        }
        let allowance = Arc::new(Allowance {
            limits,
            rate: RateLimiter::direct(Quota::per_second(limits.rate)),
            in_flight: Arc::new(Semaphore::new(limits.in_flight)),
            bodies: Arc::new(Semaphore::new(limits.bodies())),
            unread: Arc::default(),
            events: Arc::new(Semaphore::new(MAX_EVENTS)),
        });
        let entry = Entry {
            allowance: Arc::clone(&allowance),
            used: now,
        };
        entries.insert(principal, entry);
        allowance
    }
}

impl Allowance {
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Counts an HTTP request.
    ///
    /// # Errors
    /// How long it has to wait.
    pub(crate) fn count(&self) -> Result<(), Duration> {
        let refused = self.rate.check();
        refused.map_err(|until| until.wait_time_from(DefaultClock::default().now()))
    }

    /// Begins a request whose body takes this room.
    ///
    /// # Errors
    /// Why it has to wait.
    pub(crate) fn begin(&self, room: Option<Arc<Room>>) -> Result<Turn, Busy> {
        if self.unread.load(Ordering::Relaxed) > self.limits.max_unread_bytes {
            return Err(Busy::Unread);
        }
        let place = Arc::clone(&self.in_flight)
            .try_acquire_owned()
            .map_err(|_| Busy::Requests)?;
        Ok(Turn {
            _place: place,
            _room: room,
            unread: Arc::clone(&self.unread),
        })
    }

    /// Begins an event stream of the API; `None` when too many are open.
    pub(crate) fn begin_events(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.events).try_acquire_owned().ok()
    }

    /// Makes room for so many bytes of one body in all; `false` when there is none.
    pub(crate) fn widen(&self, room: &mut Room, bytes: usize) -> bool {
        let has = room.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = bytes.div_ceil(BLOCK_BYTES).saturating_sub(has);
        if more == 0 {
            return true;
        }
        let Ok(more) = u32::try_from(more) else {
            return false;
        };
        let Ok(more) = Arc::clone(&self.bodies).try_acquire_many_owned(more) else {
            return false;
        };
        match &mut room.0 {
            Some(held) => held.merge(more),
            None => room.0 = Some(more),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_principal_has_its_own() {
        let allowances = Allowances::default();
        let limits = Limits::new().with_in_flight(1).with_rate(2);
        let (ada, bob): (Arc<str>, Arc<str>) = ("ada".into(), "bob".into());
        let of_ada = allowances.of(Some(&ada), limits);
        let turn = of_ada.begin(None);
        assert!(turn.is_ok());
        assert!(allowances.of(Some(&ada), limits).begin(None).is_err());
        assert!(allowances.of(Some(&bob), limits).begin(None).is_ok());
        assert!(allowances.of(None, limits).begin(None).is_ok());
        drop(turn);
        assert!(of_ada.begin(None).is_ok());
        assert_eq!((of_ada.count(), of_ada.count()), (Ok(()), Ok(())));
        let wait = of_ada.count().unwrap_err();
        assert!(
            wait > Duration::ZERO && wait <= Duration::from_secs(1),
            "{wait:?}"
        );
        assert_eq!(allowances.of(Some(&bob), limits).count(), Ok(()));
    }

    #[test]
    fn bodies_take_room_together_until_their_requests_end() {
        let limits = Limits::new().with_max_body_bytes(MAX_BODIES_BYTES);
        let allowance = Allowances::default().of(None, limits);
        let (mut first, mut second) = (Room::default(), Room::default());
        assert!(
            allowance.widen(&mut first, 1) && allowance.widen(&mut first, MAX_BODIES_BYTES / 2)
        );
        assert!(allowance.widen(&mut second, MAX_BODIES_BYTES / 2));
        assert!(!allowance.widen(&mut second, MAX_BODIES_BYTES / 2 + 1));
        let turn = allowance.begin(Some(Arc::new(first)));
        assert!(!allowance.widen(&mut second, MAX_BODIES_BYTES));
        drop(turn);
        assert!(allowance.widen(&mut second, MAX_BODIES_BYTES));
        assert!(!allowance.widen(&mut second, usize::MAX));
    }

    #[test]
    fn answers_count_until_they_are_written() {
        let limits = Limits::new().with_max_unread_bytes(10);
        let allowance = Allowances::default().of(None, limits);
        let turn = allowance.begin(None).unwrap();
        let first = turn.answered(10);
        assert!(allowance.begin(None).is_ok());
        // What ran is answered, whatever waits.
        let second = turn.answered(100);
        drop(turn);
        assert_eq!(allowance.begin(None).unwrap_err(), Busy::Unread);
        drop(first);
        assert_eq!(allowance.begin(None).unwrap_err(), Busy::Unread);
        drop(second);
        assert!(allowance.begin(None).is_ok());
    }

    #[test]
    fn extreme_limits_are_limits() {
        let limits = Limits::new().with_in_flight(usize::MAX).with_rate(u32::MAX);
        assert!(Allowances::default().of(None, limits).begin(None).is_ok());
        let limits = Limits::new().with_in_flight(0).with_rate(0);
        let allowance = Allowances::default().of(None, limits);
        assert!(allowance.begin(None).is_ok() && allowance.count().is_ok());
    }

    #[test]
    fn a_bounded_number_is_remembered() {
        let allowances = Allowances::default();
        for n in 0..=MAX_PRINCIPALS {
            allowances.of(Some(&n.to_string().into()), Limits::new());
        }
        assert_eq!(allowances.0.lock().unwrap().len(), MAX_PRINCIPALS);
    }
}
