//! Requests under way, found by their id: for what a server says of them on its standing stream.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mcpool_core::{Progress, Raw, RequestId, RequestSink, RpcError};
use tokio::sync::oneshot;

use crate::guarded::guarded;

/// The `result` of an answer, or its error.
pub(crate) type Outcome = Result<Raw, RpcError>;

/// The requests under way. As many as the session lets run at once.
#[derive(Default)]
pub(crate) struct InFlight(Mutex<HashMap<RequestId, Arc<RunningRequest>>>);

struct RunningRequest {
    sink: Mutex<Option<Arc<dyn RequestSink>>>,
    answer: Mutex<Option<oneshot::Sender<Outcome>>>,
}

impl InFlight {
    /// Enters a request; it stays until the handle is dropped.
    pub(crate) fn enter(&self, id: RequestId, sink: Option<Arc<dyn RequestSink>>) -> Entered<'_> {
        let (answer, answered) = oneshot::channel();
        let entry = Arc::new(RunningRequest {
            sink: Mutex::new(sink),
            answer: Mutex::new(Some(answer)),
        });
        self.table().insert(id, Arc::clone(&entry));
        Entered {
            table: self,
            id,
            entry,
            answered,
        }
    }

    /// Passes an answer on; gives it back when nobody waits for it.
    pub(crate) fn answer(&self, id: RequestId, outcome: Outcome) -> Result<(), Outcome> {
        let entry = self.table().get(&id).cloned();
        let sender = entry.and_then(|entry| lock(&entry.answer).take());
        match sender {
            Some(sender) => sender.send(outcome),
            None => Err(outcome),
        }
    }

    /// Reports progress; `false` when the request is not under way.
    pub(crate) fn progress(&self, id: RequestId, progress: Progress) -> bool {
        let Some(entry) = self.table().get(&id).cloned() else {
            return false;
        };
        // The lock is held meanwhile: once the handle is gone, nothing is reported.
        let sink = lock(&entry.sink);
        let Some(sink) = &*sink else {
            return false;
        };
        guarded(|| sink.progress(progress));
        true
    }

    fn table(&self) -> MutexGuard<'_, HashMap<RequestId, Arc<RunningRequest>>> {
        lock(&self.0)
    }
}

/// A request that is under way.
pub(crate) struct Entered<'a> {
    table: &'a InFlight,
    id: RequestId,
    entry: Arc<RunningRequest>,
    answered: oneshot::Receiver<Outcome>,
}

impl Entered<'_> {
    /// The answer, when it comes on the standing stream. Cancel-safe; waits for ever after it was
    /// given.
    pub(crate) async fn elsewhere(&mut self) -> Outcome {
        match (&mut self.answered).await {
            Ok(outcome) => outcome,
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.table.table().remove(&self.id);
        lock(&self.entry.sink).take();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl RequestSink for Counting {
        fn progress(&self, _: Progress) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn answers_and_progress_find_their_request_as_long_as_it_runs() {
        let table = InFlight::default();
        let id = RequestId::new(7);
        let sink = Arc::new(Counting::default());
        let mut entered = table.enter(id, Some(sink.clone()));
        let step = || Progress::new(1.0, None, None);
        assert!(table.progress(id, step()));
        assert!(!table.progress(RequestId::new(8), step()));
        table.answer(id, Ok(Raw::null())).unwrap();
        assert!(table.answer(id, Ok(Raw::null())).is_err());
        assert_eq!(entered.elsewhere().await, Ok(Raw::null()));
        drop(entered);
        assert!(!table.progress(id, step()));
        assert!(table.answer(id, Ok(Raw::null())).is_err());
        assert_eq!(sink.0.load(Ordering::SeqCst), 1);
        assert!(table.table().is_empty());
    }
}
