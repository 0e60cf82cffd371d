//! What a gateway knows of the requests of one session. No I/O, no clock.
//!
//! One lock orders what would race: the departure of a request and the end of its session. So
//! either a request departs before the end and the end says what became of it, or it never
//! departs.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use mcpool_core::{Error, RequestId};
use tokio::sync::Notify;

/// The requests of one session that wait, by the number of the frame with which each began.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    state: Mutex<State>,
    /// Requests may begin again.
    released: Notify,
    /// Nothing is unanswered any more, while no request may begin.
    emptied: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: HashMap<u64, Call>,
    /// The worker goes: nothing new is sent to it.
    draining: bool,
    /// The session may leave for another worker: requests wait before they begin.
    held: bool,
    /// The session has ended: nothing is sent any more.
    over: bool,
}

#[derive(Debug)]
struct Call {
    id: RequestId,
    /// The frame that made it whole. Before that frame it is not run, whatever happens.
    whole: Option<u64>,
    /// The worker goes and has refused it: it waits for the end of the session.
    returned: bool,
}

/// What the end of a session says: no message that became whole after frame `after` was run.
#[derive(Debug)]
pub(crate) struct NotTaken {
    pub(crate) after: u64,
    /// The error of such a request, with its delivery.
    pub(crate) error: Error,
}

impl Calls {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request departs with the frame of this number, its first. `false` when the session is
    /// over: then it must not.
    pub(crate) fn enter(&self, number: u64, id: RequestId, is_whole: bool) -> bool {
        let mut state = self.state();
        if !state.over {
            let call = Call {
                id,
                whole: is_whole.then_some(number),
                returned: false,
            };
            state.waiting.insert(number, call);
        }
        !state.over
    }

    /// The last frame of the request that began with `first` departs. `false` when the session is
    /// over: then it must not.
    pub(crate) fn complete(&self, first: u64, number: u64) -> bool {
        let mut state = self.state();
        if !state.over
            && let Some(call) = state.waiting.get_mut(&first)
        {
            call.whole = Some(number);
        }
        !state.over
    }

    /// Nobody waits for it any more.
    pub(crate) fn leave(&self, first: u64) {
        let mut state = self.state();
        state.waiting.remove(&first);
        if state.held && state.waiting.is_empty() {
            self.emptied.notify_one();
        }
    }

    /// Lets no request begin until they are [released](Self::release).
    pub(crate) fn hold_new(&self) {
        let mut state = self.state();
        state.held = true;
        if state.waiting.is_empty() {
            self.emptied.notify_one();
        }
    }

    /// Lets requests begin again.
    pub(crate) fn release(&self) {
        self.state().held = false;
        self.released.notify_waiters();
    }

    /// Waits while no request may begin.
    pub(crate) async fn released(&self) {
        loop {
            let released = self.released.notified();
            if !self.state().held {
                return;
            }
            released.await;
        }
    }

    /// Waits until nothing is unanswered while no request may begin.
    pub(crate) async fn emptied(&self) {
        self.emptied.notified().await;
    }

    /// The id of the request that began with this frame.
    pub(crate) fn id(&self, first: u64) -> Option<RequestId> {
        self.state().waiting.get(&first).map(|call| call.id)
    }

    /// The worker goes, and has refused this request. It ends with the session, as not sent: sent
    /// again before that it would find the same worker. Gives its id while somebody waits for it.
    pub(crate) fn hold(&self, first: u64) -> Option<RequestId> {
        let mut state = self.state();
        state.draining = true;
        let call = state.waiting.get_mut(&first)?;
        call.returned = true;
        Some(call.id)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.state().draining
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state().over
    }

    /// Whether the worker owes a word: an answer, or its last one.
    pub(crate) fn is_busy(&self) -> bool {
        let state = self.state();
        state.draining || !state.waiting.is_empty()
    }

    /// Ends the session if nothing is unanswered, so that nothing departs any more. Whether it did.
    pub(crate) fn end_idle(&self) -> bool {
        let mut state = self.state();
        let is_idle = !state.over && !state.draining && state.waiting.is_empty();
        state.over |= is_idle;
        is_idle
    }

    /// Ends the session: gives the requests that departed and were certainly not run. Of the others
    /// those that are whole may have run; the rest count as not sent.
    pub(crate) fn end(&self, not_taken: Option<&NotTaken>) -> Vec<(RequestId, Error)> {
        let mut state = self.state();
        state.over = true;
        let known = |call: &Call| {
            let not_taken = not_taken?;
            let is_known = call.whole? > not_taken.after && !call.returned;
            is_known.then(|| (call.id, not_taken.error.clone()))
        };
        state.waiting.values().filter_map(known).collect()
    }
}

#[cfg(test)]
mod tests {
    use mcpool_core::{Delivery, ErrorKind};

    use super::*;

    fn error(delivery: Delivery) -> Error {
        Error::new(ErrorKind::ConnectionLost, "gone").with_delivery(delivery)
    }

    fn ended(calls: &Calls, after: Option<u64>) -> Vec<(u64, Delivery)> {
        let not_taken = after.map(|after| NotTaken {
            after,
            error: error(Delivery::NotSent),
        });
        let ended = calls.end(not_taken.as_ref());
        let mut ended: Vec<_> = ended
            .into_iter()
            .map(|(id, error)| (id.get(), error.delivery()))
            .collect();
        ended.sort_by_key(|(id, _)| *id);
        ended
    }

    #[test]
    fn the_end_tells_what_was_not_taken_and_nothing_of_the_rest() {
        let calls = Calls::default();
        for (number, is_whole) in [(3, true), (4, false), (5, false), (7, true)] {
            assert!(calls.enter(number, RequestId::new(number * 10), is_whole));
        }
        assert!(calls.complete(4, 6));
        // The one in parts became whole after the last frame that was taken; 50 never did.
        assert_eq!(
            ended(&calls, Some(5)),
            [(40, Delivery::NotSent), (70, Delivery::NotSent)]
        );
    }

    #[test]
    fn nothing_departs_after_the_end() {
        let calls = Calls::default();
        assert!(calls.enter(1, RequestId::new(1), false));
        assert_eq!(ended(&calls, None), []);
        assert!(!calls.complete(1, 2), "its last part");
        assert!(!calls.enter(2, RequestId::new(2), true));
        assert_eq!(calls.id(2), None);
    }

    #[test]
    fn what_a_worker_that_goes_has_refused_waits_for_the_end_as_not_sent() {
        let calls = Calls::default();
        assert!(calls.enter(1, RequestId::new(1), true));
        assert!(calls.enter(2, RequestId::new(2), true));
        let held = calls.hold(2);
        assert_eq!(held, Some(RequestId::new(2)));
        assert!(calls.is_draining() && calls.is_busy());
        assert_eq!(
            ended(&calls, Some(0)),
            [(1, Delivery::NotSent)],
            "not said twice"
        );
        calls.leave(1);
        calls.leave(2);
        assert!(calls.is_busy(), "its end is owed");
    }

    #[tokio::test]
    async fn requests_are_held_until_they_are_released() {
        use futures::FutureExt as _;
        let calls = Calls::default();
        assert!(calls.enter(1, RequestId::new(1), true));
        assert!(calls.released().now_or_never().is_some());
        calls.hold_new();
        assert!(calls.released().now_or_never().is_none());
        assert!(!calls.end_idle());
        assert!(calls.emptied().now_or_never().is_none());
        calls.leave(1);
        assert!(calls.emptied().now_or_never().is_some());
        let mut waits = std::pin::pin!(calls.released());
        assert!(waits.as_mut().now_or_never().is_none());
        calls.release();
        waits.await;
        assert!(calls.end_idle());
    }
}
