//! Which caller a question of the server is for. No I/O.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mcpool_core::{Caller, RequestId, RpcError};

/// The callers whose requests are in flight on one connection.
#[derive(Default)]
pub(crate) struct Callers(Mutex<Vec<(RequestId, Arc<dyn Caller>)>>);

impl Callers {
    /// A request of this caller was given its id.
    pub(crate) fn enter(&self, id: RequestId, caller: &Arc<dyn Caller>) {
        self.open().push((id, Arc::clone(caller)));
    }

    /// The request has ended.
    pub(crate) fn leave(&self, id: RequestId) {
        self.open().retain(|(open, _)| *open != id);
    }

    /// Who is to answer a question in the course of this request, or of one that is not named;
    /// `None`: the application as a whole.
    ///
    /// # Errors
    /// The refusal of a question that may be anybody's: answering it would show one caller the
    /// question of another.
    pub(crate) fn of(
        &self,
        related: Option<RequestId>,
    ) -> Result<Option<Arc<dyn Caller>>, RpcError> {
        let open = self.open();
        let open = open.as_slice();
        match (related, open) {
            (Some(id), open) => {
                let caller = open.iter().find(|(open, _)| *open == id);
                Ok(caller.map(|(_, caller)| Arc::clone(caller)))
            }
            (None, []) => Ok(None),
            (None, [(_, caller)]) => Ok(Some(Arc::clone(caller))),
            (None, [.., (_, latest)]) if are_of_one(open) => Ok(Some(Arc::clone(latest))),
            (None, _) => Err(RpcError::new(
                RpcError::INTERNAL,
                "several requests are in flight on this connection, and it cannot be known whose \
                 client is asked",
            )),
        }
    }

    fn open(&self) -> MutexGuard<'_, Vec<(RequestId, Arc<dyn Caller>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether all requests are of one client.
fn are_of_one(open: &[(RequestId, Arc<dyn Caller>)]) -> bool {
    let mut clients = open.iter().map(|(_, caller)| caller.client());
    match clients.next() {
        Some(first @ Some(_)) => clients.all(|client| client == first),
        _ => false,
    }
}

impl fmt::Debug for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Callers").field(&self.open().len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use mcpool_core::{Raw, ServerName, ServerRequest};

    use super::*;

    struct Nobody;

    /// A request of a client that may have several.
    struct Of(&'static str);

    #[async_trait]
    impl Caller for Of {
        fn client(&self) -> Option<&str> {
            Some(self.0)
        }

        async fn answer(&self, _: &ServerName, _: ServerRequest) -> Result<Raw, RpcError> {
            Ok(Raw::null())
        }
    }

    #[async_trait]
    impl Caller for Nobody {
        async fn answer(&self, _: &ServerName, _: ServerRequest) -> Result<Raw, RpcError> {
            Ok(Raw::null())
        }
    }

    #[test]
    fn a_question_is_for_the_request_that_it_names_or_for_the_only_one() {
        let callers = Callers::default();
        let id = RequestId::new;
        let (one, two): (Arc<dyn Caller>, Arc<dyn Caller>) = (Arc::new(Nobody), Arc::new(Nobody));
        assert!(callers.of(None).unwrap().is_none());
        callers.enter(id(1), &one);
        assert!(Arc::ptr_eq(&callers.of(None).unwrap().unwrap(), &one));
        callers.enter(id(2), &two);
        assert!(callers.of(None).is_err());
        assert!(Arc::ptr_eq(
            &callers.of(Some(id(2))).unwrap().unwrap(),
            &two
        ));
        assert!(callers.of(Some(id(3))).unwrap().is_none());
        callers.leave(id(1));
        assert!(Arc::ptr_eq(&callers.of(None).unwrap().unwrap(), &two));
    }

    #[test]
    fn a_question_is_for_the_only_client_however_many_requests_it_has() {
        let callers = Callers::default();
        let id = RequestId::new;
        let of = |client| -> Arc<dyn Caller> { Arc::new(Of(client)) };
        let latest = of("ada");
        callers.enter(id(1), &of("ada"));
        callers.enter(id(2), &latest);
        assert!(Arc::ptr_eq(&callers.of(None).unwrap().unwrap(), &latest));
        callers.enter(id(3), &of("bob"));
        assert!(callers.of(None).is_err());
        callers.leave(id(3));
        callers.enter(id(4), &(Arc::new(Nobody) as Arc<dyn Caller>));
        assert!(callers.of(None).is_err());
    }
}
