//! What waits for an answer, and which answer is whose. No I/O, no clock.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use mcpool_core::{Error, Raw, RequestClass, RequestId, RequestSink, Result, RpcError};
use tokio::sync::oneshot;

use crate::departure::Departure;

/// Requests that were given up and may still be answered: so many are remembered.
const MAX_GIVEN_UP: usize = 1_024;
/// More room than this is given back once nothing waits.
const KEPT_CAPACITY: usize = 64;

/// How a request ends.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The server answered.
    Answered(std::result::Result<Raw, RpcError>),
    /// It failed alone, and the error says what is known of it.
    Failed(Error),
    /// The connection ended. What is known of this request is in its departure.
    Ended(Error),
}

/// A request that waits.
pub(crate) struct Waiting {
    pub(crate) outcome: oneshot::Sender<Outcome>,
    pub(crate) sink: Option<Arc<dyn RequestSink>>,
    /// Whether progress was asked for.
    pub(crate) progress: bool,
    pub(crate) class: RequestClass,
    pub(crate) departure: Departure,
}

impl Waiting {
    /// Ends it. Nobody is there any more when its caller dropped it meanwhile.
    pub(crate) fn answered(self, answer: std::result::Result<Raw, RpcError>) {
        let _ = self.outcome.send(Outcome::Answered(answer));
    }

    /// Ends it with an error of its own.
    pub(crate) fn failed(self, error: Error) {
        let _ = self.outcome.send(Outcome::Failed(error));
    }

    /// Ends it with the connection.
    pub(crate) fn ended(self, reason: &Error) {
        let _ = self.outcome.send(Outcome::Ended(reason.clone()));
    }
}

/// The requests of one connection.
#[derive(Default)]
pub(crate) struct Pending {
    waiting: HashMap<u64, Waiting>,
    /// Listen streams among them.
    listens: usize,
    /// What was given up after it departed, and was not answered.
    given_up: HashSet<u64>,
    /// Whether more was given up than is remembered.
    forgotten: bool,
    end: Option<Error>,
}

/// What an answer to an id is that nobody waits for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stray {
    /// The request was given up; the server may not have known.
    Late,
    /// It was answered before, or was never asked.
    Unasked,
}

impl Pending {
    /// Enters a request. Gives whether others wait as well, listen streams apart.
    pub(crate) fn enter(&mut self, id: RequestId, request: Waiting) -> Result<bool> {
        if let Some(end) = &self.end {
            return Err(end.clone());
        }
        self.listens += usize::from(request.class == RequestClass::Listen);
        self.waiting.insert(id.get(), request);
        Ok(self.waiting.len() - self.listens > 1)
    }

    /// Takes the request out that an answer with this id ends.
    pub(crate) fn answered(&mut self, id: RequestId) -> std::result::Result<Waiting, Stray> {
        if let Some(request) = self.remove(id) {
            return Ok(request);
        }
        Err(if self.given_up.remove(&id.get()) {
            Stray::Late
        } else {
            Stray::Unasked
        })
    }

    /// Takes the one request out that an error without an id can be about: exactly one was ever
    /// unanswered, given up ones included. Listen streams, which stay unanswered, do not count.
    pub(crate) fn only_one(&mut self) -> Option<Waiting> {
        let alone = self.waiting.len() - self.listens == 1;
        if !alone || self.forgotten || !self.given_up.is_empty() {
            return None;
        }
        let id = self
            .waiting
            .iter()
            .find(|(_, request)| request.class != RequestClass::Listen)
            .map(|(id, _)| *id)?;
        self.remove(RequestId::new(id))
    }

    /// Gives a request up that its caller dropped. Gives whether the server has to be notified.
    pub(crate) fn give_up(&mut self, id: RequestId) -> bool {
        let Some(request) = self.remove(id) else {
            return false;
        };
        if !request.departure.has_departed() {
            return false;
        }
        if request.class != RequestClass::Listen {
            if self.given_up.len() < MAX_GIVEN_UP {
                self.given_up.insert(id.get());
            } else {
                self.forgotten = true;
            }
        }
        // MCP, "Cancellation": `initialize` must not be cancelled.
        request.class != RequestClass::Handshake
    }

    /// The departure of a request that waits.
    pub(crate) fn departure_of(&self, id: RequestId) -> Option<Departure> {
        let request = self.waiting.get(&id.get())?;
        Some(request.departure.clone())
    }

    /// Who hears of the progress of a request.
    pub(crate) fn progress_of(&self, id: RequestId) -> Option<Arc<dyn RequestSink>> {
        let request = self.waiting.get(&id.get())?;
        request.sink.clone().filter(|_| request.progress)
    }

    /// Who hears of the events of a listen stream.
    pub(crate) fn listener(&self, id: RequestId) -> Option<Arc<dyn RequestSink>> {
        let request = self.waiting.get(&id.get())?;
        request
            .sink
            .clone()
            .filter(|_| request.class == RequestClass::Listen)
    }

    pub(crate) fn has_listens(&self) -> bool {
        self.listens > 0
    }

    pub(crate) fn is_waiting(&self, id: RequestId) -> bool {
        self.waiting.contains_key(&id.get())
    }

    /// Ends the connection for this reason, unless it has ended: gives all that waited.
    pub(crate) fn end(&mut self, reason: Error) -> Option<Vec<Waiting>> {
        if self.end.is_some() {
            return None;
        }
        self.end = Some(reason);
        self.listens = 0;
        self.given_up = HashSet::new();
        Some(std::mem::take(&mut self.waiting).into_values().collect())
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Why the connection ended.
    pub(crate) fn reason(&self) -> Option<Error> {
        self.end.clone()
    }

    fn remove(&mut self, id: RequestId) -> Option<Waiting> {
        let request = self.waiting.remove(&id.get())?;
        self.listens -= usize::from(request.class == RequestClass::Listen);
        if self.waiting.is_empty() && self.waiting.capacity() > KEPT_CAPACITY {
            self.waiting.shrink_to(KEPT_CAPACITY);
        }
        Some(request)
    }
}

#[cfg(test)]
mod tests {
    use mcpool_core::ErrorKind;

    use super::*;
    use crate::wire::tests::wire;

    fn request(class: RequestClass, departed: bool) -> Waiting {
        let departure = Departure::new(&wire(), None);
        if departed {
            departure.mark("{}");
        }
        Waiting {
            outcome: oneshot::channel().0,
            sink: None,
            progress: false,
            class,
            departure,
        }
    }

    fn pending(requests: &[(u64, RequestClass)]) -> Pending {
        let mut pending = Pending::default();
        for (id, class) in requests {
            pending
                .enter(RequestId::new(*id), request(*class, true))
                .unwrap();
        }
        pending
    }

    #[test]
    fn an_error_without_an_id_is_guessed_only_when_it_can_be_of_one_alone() {
        use RequestClass::{Call, Handshake, Listen};
        assert!(pending(&[]).only_one().is_none());
        assert!(pending(&[(1, Listen)]).only_one().is_none());
        assert!(pending(&[(1, Call)]).only_one().is_some());
        assert!(pending(&[(1, Listen), (2, Call)]).only_one().is_some());
        assert!(pending(&[(1, Handshake), (2, Call)]).only_one().is_none());

        let mut pending = pending(&[(1, Call), (2, Call), (3, Listen)]);
        assert!(pending.give_up(RequestId::new(1)));
        assert!(pending.give_up(RequestId::new(3)));
        assert!(pending.only_one().is_none(), "the one given up counts");
        assert_eq!(pending.answered(RequestId::new(1)).err(), Some(Stray::Late));
        assert!(pending.only_one().is_some());
        assert_eq!(
            pending.answered(RequestId::new(2)).err(),
            Some(Stray::Unasked)
        );
    }

    #[test]
    fn who_has_to_be_notified() {
        use RequestClass::{Call, Handshake, Listen};
        for (class, departed, cancels) in [
            (Call, true, true),
            (Listen, true, true),
            (Handshake, true, false),
            (Call, false, false),
        ] {
            let mut pending = Pending::default();
            let id = RequestId::new(1);
            pending.enter(id, request(class, departed)).unwrap();
            assert_eq!(pending.give_up(id), cancels, "{class:?} {departed}");
            assert!(!pending.give_up(id), "reported once");
        }
    }

    #[test]
    fn too_many_given_up_and_nothing_is_guessed_any_more() {
        let mut pending = Pending::default();
        for id in 1..=MAX_GIVEN_UP as u64 + 1 {
            let id = RequestId::new(id);
            pending
                .enter(id, request(RequestClass::Call, true))
                .unwrap();
            pending.give_up(id);
        }
        for id in 1..=MAX_GIVEN_UP as u64 + 1 {
            let _ = pending.answered(RequestId::new(id));
        }
        pending
            .enter(RequestId::new(9_999), request(RequestClass::Call, true))
            .unwrap();
        assert!(pending.only_one().is_none());
    }

    #[test]
    fn after_the_end_nothing_enters() {
        let mut pending = pending(&[(1, RequestClass::Call)]);
        let reason = Error::new(ErrorKind::Closed, "closed");
        assert_eq!(pending.end(reason.clone()).unwrap().len(), 1);
        assert!(pending.end(reason).is_none());
        let refused = pending
            .enter(RequestId::new(2), request(RequestClass::Call, false))
            .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Closed);
    }
}
