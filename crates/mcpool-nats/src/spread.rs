//! With which workers the sessions of one gateway with one server are. No I/O.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::identity::Identity;

/// The workers that have a server, and the sessions with each.
#[derive(Debug, Default)]
pub(crate) struct Spread(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The workers that can serve it now.
    here: BTreeSet<Identity>,
    sessions: BTreeMap<Identity, usize>,
}

impl State {
    fn count(&self, worker: &Identity) -> usize {
        self.sessions.get(worker).copied().unwrap_or(0)
    }

    /// The fewest sessions that a worker has which is here.
    fn fewest(&self) -> Option<usize> {
        self.here.iter().map(|worker| self.count(worker)).min()
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
        self.state().here = workers;
    }

    /// A place for a new session: at one of the workers with the fewest, if any is known.
    pub(crate) fn choose(self: &Arc<Self>) -> Option<Place> {
        let mut state = self.state();
        let fewest = state.fewest()?;
        let best: Vec<&Identity> = state
            .here
            .iter()
            .filter(|worker| state.count(worker) == fewest)
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
            left: Mutex::new(false),
        }
    }
}

/// The place of one session. Dropping it makes it free.
#[derive(Debug)]
pub(crate) struct Place {
    spread: Arc<Spread>,
    worker: Identity,
    left: Mutex<bool>,
}

impl Place {
    /// Where it is.
    pub(crate) fn worker(&self) -> &Identity {
        &self.worker
    }

    /// Leaves the place if another worker has at least two sessions fewer and `leave` says that the
    /// session can: then the session is to end, and the next one begins there.
    pub(crate) fn leave_for_another(&self, leave: impl FnOnce() -> bool) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.spread.state();
        let fewest = state.fewest();
        let is_surplus = fewest.is_some_and(|fewest| state.count(&self.worker) >= fewest + 2);
        if *left || !is_surplus || !leave() {
            return false;
        }
        *left = true;
        state.leave(&self.worker);
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let left = *self.left.get_mut().unwrap_or_else(PoisonError::into_inner);
        if !left {
            self.spread.state().leave(&self.worker);
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
}
