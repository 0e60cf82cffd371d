//! Calls of newer clients to older servers that wait for an answer of their client. A call is
//! parked while its client makes up the retry that brings the answer (MCP 2026-07-28, "Multi
//! Round-Trip Requests").

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mcpool_core::{Raw, Result, RpcError};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::relay::Question;

/// How long a call stays parked. Then it is cancelled.
pub(crate) const PARKED_TIMEOUT: Duration = Duration::from_secs(600);

/// Calls that are parked at once, in all. When one more asks, it is cancelled.
const MAX_PARKED: usize = 1_024;

/// A call that runs on a task of its own, and what its server asks meanwhile.
pub(crate) struct Running {
    pub(crate) task: AbortOnDropHandle<Result<Raw>>,
    pub(crate) questions: mpsc::Receiver<Question>,
}

/// What comes next of a running call.
pub(crate) enum Step {
    /// It has ended.
    Done(Result<Raw>),
    /// Its server asks.
    Asked(Question),
}

impl Running {
    /// Waits for what comes next. Dropping the future, and then the call, cancels it.
    pub(crate) async fn step(&mut self) -> Step {
        tokio::select! {
            biased;
            Some(question) = self.questions.recv() => Step::Asked(question),
            done = &mut self.task => Step::Done(done.unwrap_or_else(|_| {
                Err(mcpool_core::Error::new(
                    mcpool_core::ErrorKind::Internal,
                    "the call ended without an answer",
                ))
            })),
        }
    }
}

/// A call that waits for its client. Dropping it cancels the call.
pub(crate) struct Parked {
    pub(crate) running: Running,
    pub(crate) question: Question,
}

/// A call, and the task that ends its parking.
type Waiting = (Parked, AbortOnDropHandle<()>);

/// The calls that are parked.
#[derive(Default)]
pub(crate) struct Parking(Mutex<HashMap<String, Waiting>>);

impl Parking {
    /// Parks a call and gives the name under which it is found. After [`PARKED_TIMEOUT`] it is
    /// cancelled.
    ///
    /// # Errors
    /// That too many are parked. The call is then cancelled.
    pub(crate) fn park(self: &Arc<Self>, parked: Parked) -> Result<String, RpcError> {
        let name = format!("{:032x}", rand::random::<u128>());
        let (parking, key) = (Arc::downgrade(self), name.clone());
        let mut calls = self.calls();
        if calls.len() >= MAX_PARKED {
            return Err(RpcError::new(
                RpcError::INTERNAL,
                "too many calls wait for answers of their clients",
            ));
        }
        let ends = tokio::spawn(async move {
            tokio::time::sleep(PARKED_TIMEOUT).await;
            if let Some(parking) = parking.upgrade() {
                drop(parking.take(&key));
            }
        });
        calls.insert(name.clone(), (parked, AbortOnDropHandle::new(ends)));
        Ok(name)
    }

    /// Takes a call out.
    pub(crate) fn take(&self, name: &str) -> Option<Parked> {
        self.calls().remove(name).map(|(parked, _)| parked)
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<String, Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    fn parked() -> (Parked, oneshot::Receiver<Result<Raw, RpcError>>) {
        let (reply, answer) = oneshot::channel();
        let parked = Parked {
            running: Running {
                task: AbortOnDropHandle::new(tokio::spawn(std::future::pending())),
                questions: mpsc::channel(1).1,
            },
            question: Question {
                method: "roots/list".to_owned(),
                params: None,
                reply,
            },
        };
        (parked, answer)
    }

    #[tokio::test(start_paused = true)]
    async fn a_parked_call_is_found_once_and_ends_in_time() {
        let parking = Arc::new(Parking::default());
        let (call, _answer) = parked();
        let name = parking.park(call).unwrap();
        assert!(parking.take(&name).is_some());
        assert!(parking.take(&name).is_none());
        let (call, answer) = parked();
        let name = parking.park(call).unwrap();
        // The reply goes with the call.
        assert!(answer.await.is_err());
        assert!(parking.take(&name).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_a_most() {
        let parking = Arc::new(Parking::default());
        for _ in 0..MAX_PARKED {
            parking.park(parked().0).unwrap();
        }
        assert!(parking.park(parked().0).is_err());
    }
}
