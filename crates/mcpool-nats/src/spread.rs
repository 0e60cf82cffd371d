//! With which workers the sessions of one gateway with one server are. No I/O.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::identity::Identity;

/// How long after one session left that had something under way the next one may begin to. Calls that
/// waited in the first are under way again elsewhere by then, and are sent again once only.
const SETTLED_AFTER: Duration = Duration::from_secs(3);

/// How long no session is sent to a worker that has just refused one: it may be starting the server,
/// again and again.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// The workers that have a server, and the sessions with each.
#[derive(Debug, Default)]
pub(crate) struct Spread(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The workers that can serve it now.
    here: BTreeSet<Identity>,
    /// Those of them that opened no session, and when.
    refused: BTreeMap<Identity, Instant>,
    sessions: BTreeMap<Identity, usize>,
    /// A session begins nothing new, so that it can leave.
    one_leaves: bool,
    /// When the last of these left.
    left: Option<Instant>,
}

impl State {
    fn count(&self, worker: &Identity) -> usize {
        self.sessions.get(worker).copied().unwrap_or(0)
    }

    /// Whether a session may be asked of this worker.
    fn is_open(&self, worker: &Identity) -> bool {
        let refused = self.refused.get(worker);
        refused.is_none_or(|at| at.elapsed() >= REFUSED_PAUSE)
    }

    /// The fewest sessions that a worker has which is here and open.
    fn fewest(&self) -> Option<usize> {
        let open = self.here.iter().filter(|worker| self.is_open(worker));
        open.map(|worker| self.count(worker)).min()
    }

    /// Whether a session of this worker is to go to another one.
    fn is_surplus(&self, worker: &Identity) -> bool {
        let fewest = self.fewest();
        fewest.is_some_and(|fewest| self.count(worker) >= fewest.saturating_add(2))
    }

    /// The one that began nothing new is gone: what waited in it is sent again.
    fn one_has_left(&mut self) {
        self.one_leaves = false;
        self.left = Some(Instant::now());
    }

    fn leave(&mut self, worker: &Identity) {
        if let Some(count) = self.sessions.get_mut(worker) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.sessions.remove(worker);
            }
        }
    }
}

impl Spread {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These workers can serve it now.
    pub(crate) fn set_here(&self, workers: BTreeSet<Identity>) {
        let mut state = self.state();
        state.refused.retain(|worker, _| workers.contains(worker));
        state.here = workers;
    }

    /// This worker has opened no session.
    pub(crate) fn refused(&self, worker: &Identity) {
        self.state().refused.insert(worker.clone(), Instant::now());
    }

    /// A place for a new session: at one of the workers with the fewest, if any is known.
    pub(crate) fn choose(self: &Arc<Self>) -> Option<Place> {
        let mut state = self.state();
        let fewest = state.fewest()?;
        let best: Vec<&Identity> = state
            .here
            .iter()
            .filter(|worker| state.is_open(worker) && state.count(worker) == fewest)
            .collect();
        // By chance: other gateways choose as well.
        let chosen = (*best.get(rand::random_range(0..best.len()))?).clone();
        *state.sessions.entry(chosen.clone()).or_default() += 1;
        drop(state);
        Some(self.place(chosen))
    }

    /// The place of a session that is with this worker already.
    pub(crate) fn begun(self: &Arc<Self>, worker: Identity) -> Place {
        *self.state().sessions.entry(worker.clone()).or_default() += 1;
        self.place(worker)
    }

    fn place(self: &Arc<Self>, worker: Identity) -> Place {
        Place {
            spread: Arc::clone(self),
            worker,
            stay: Mutex::new(Stay::Stays),
        }
    }
}

/// The place of one session. Dropping it makes it free.
#[derive(Debug)]
pub(crate) struct Place {
    spread: Arc<Spread>,
    worker: Identity,
    stay: Mutex<Stay>,
}

/// Whether a session is at its place for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stay {
    Stays,
    /// It begins nothing new.
    Leaves,
    Left,
}

impl Place {
    /// Where it is.
    pub(crate) fn worker(&self) -> &Identity {
        &self.worker
    }

    /// Leaves the place if another worker has at least two sessions fewer and `leave` says that the
    /// session can: then the session is to end, and the next one begins there.
    pub(crate) fn leave_for_another(&self, leave: impl FnOnce() -> bool) -> bool {
        let mut stay = self.stay();
        let mut state = self.spread.state();
        if *stay == Stay::Left || !state.is_surplus(&self.worker) || !leave() {
            return false;
        }
        if *stay == Stay::Leaves {
            state.one_has_left();
        }
        state.leave(&self.worker);
        *stay = Stay::Left;
        true
    }

    /// Whether the session is to begin nothing new, so that it can leave for a worker that has at
    /// least two sessions fewer. One of all sessions at a time.
    pub(crate) fn begin_to_leave(&self) -> bool {
        let mut stay = self.stay();
        let mut state = self.spread.state();
        let is_settled = state.left.is_none_or(|at| at.elapsed() >= SETTLED_AFTER);
        let may = *stay == Stay::Stays
            && is_settled
            && !state.one_leaves
            && state.is_surplus(&self.worker);
        if may {
            state.one_leaves = true;
            *stay = Stay::Leaves;
        }
        may
    }

    /// It could not leave.
    pub(crate) fn stay_on(&self) {
        let mut stay = self.stay();
        if *stay == Stay::Leaves {
            self.spread.state().one_leaves = false;
            *stay = Stay::Stays;
        }
    }

    /// Taken before the lock of the state, always.
    fn stay(&self) -> MutexGuard<'_, Stay> {
        self.stay.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let stay = *self.stay();
        let mut state = self.spread.state();
        if stay == Stay::Leaves {
            state.one_has_left();
        }
        if stay != Stay::Left {
            state.leave(&self.worker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(name: &str) -> Identity {
        name.parse().unwrap()
    }

    fn counts(spread: &Spread) -> Vec<usize> {
        let state = spread.state();
        state
            .here
            .iter()
            .map(|worker| state.count(worker))
            .collect()
    }

    #[test]
    fn sessions_are_spread_and_spread_again_when_a_worker_comes() {
        let spread = Arc::new(Spread::default());
        assert!(spread.choose().is_none());
        spread.set_here([worker("w1"), worker("w2")].into());
        let mut places: Vec<Place> = (0..4).map(|_| spread.choose().unwrap()).collect();
        assert_eq!(counts(&spread), [2, 2]);
        assert!(!places.iter().any(|place| place.leave_for_another(|| true)));

        // Two go with their worker, and are with the other one then.
        spread.set_here([worker("w1")].into());
        places.retain(|place| *place.worker() == worker("w1"));
        places.extend((0..2).map(|_| spread.begun(worker("w1"))));
        assert_eq!(counts(&spread), [4]);
        assert!(!places[0].leave_for_another(|| true));

        // It is back: as many leave as it takes, of those that can.
        spread.set_here([worker("w1"), worker("w2")].into());
        assert!(!places[0].leave_for_another(|| false));
        let mut kept = Vec::new();
        for place in places.drain(..2) {
            assert!(place.leave_for_another(|| true));
            assert!(!place.leave_for_another(|| true));
            kept.push(spread.choose().unwrap());
        }
        assert!(kept.iter().all(|place| *place.worker() == worker("w2")));
        assert_eq!(counts(&spread), [2, 2]);
        assert!(!places[0].leave_for_another(|| true));
        drop(places);
        assert_eq!(counts(&spread), [0, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_session_at_a_time_begins_nothing_new_to_leave() {
        let spread = Arc::new(Spread::default());
        spread.set_here([worker("w1")].into());
        let mut places: Vec<Place> = (0..4).map(|_| spread.choose().unwrap()).collect();
        assert!(!places[0].begin_to_leave(), "nobody has fewer");
        spread.set_here([worker("w1"), worker("w2")].into());
        assert!(places[0].begin_to_leave());
        assert!(!places[0].begin_to_leave() && !places[1].begin_to_leave());
        places[0].stay_on();
        assert!(places[1].begin_to_leave());
        assert!(!places[1].leave_for_another(|| false));
        assert!(places[1].leave_for_another(|| true));
        assert!(!places[1].begin_to_leave(), "it has left");
        let moved = spread.choose().unwrap();
        assert_eq!(counts(&spread), [3, 1]);
        assert!(!places[2].begin_to_leave(), "soon after another");
        tokio::time::advance(SETTLED_AFTER).await;
        // One that ends in the midst of it holds no other up.
        assert!(places[2].begin_to_leave());
        drop(places.remove(2));
        assert_eq!(counts(&spread), [2, 1]);
        assert!(!places[0].begin_to_leave());
        spread.set_here([worker("w1"), worker("w3")].into());
        assert!(!places[0].begin_to_leave(), "soon after one that ended");
        tokio::time::advance(SETTLED_AFTER).await;
        assert!(places[0].begin_to_leave());
        drop(moved);
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_refuses_is_left_alone_for_a_while() {
        let spread = Arc::new(Spread::default());
        spread.set_here([worker("w1"), worker("w2")].into());
        let first = spread.choose().unwrap();
        let refusing = first.worker().clone();
        drop(first);
        spread.refused(&refusing);
        let places: Vec<Place> = (0..4).map(|_| spread.choose().unwrap()).collect();
        assert!(places.iter().all(|place| *place.worker() != refusing));
        assert!(!places[0].leave_for_another(|| true) && !places[0].begin_to_leave());
        tokio::time::advance(REFUSED_PAUSE).await;
        assert!(places[0].leave_for_another(|| true));
        assert_eq!(*spread.choose().unwrap().worker(), refusing);
        // All refuse: any that answers is asked.
        for name in ["w1", "w2"] {
            spread.refused(&worker(name));
        }
        assert!(spread.choose().is_none());
    }
}
