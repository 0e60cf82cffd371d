//! The orderly end: nothing new begins, what runs may end, then everything stops.

use std::{future::Future, time::Duration};

use mcpool_core::{Raw, RpcError};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

/// What all fronts of a gateway look at.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    begun: CancellationToken,
    ended: CancellationToken,
    running: TaskTracker,
}

impl Drain {
    /// Whether new requests are refused.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Waits until new requests are refused.
    pub(crate) async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// Cancelled when everything stops.
    pub(crate) fn ended(&self) -> &CancellationToken {
        &self.ended
    }

    /// Runs a request, unless it is too late for it; cancels it at the end.
    ///
    /// # Errors
    /// Its own, and the refusal.
    pub(crate) async fn run(
        &self,
        request: impl Future<Output = Result<Raw, RpcError>>,
    ) -> Result<Raw, RpcError> {
        // Counted before it is looked: a drain that begins in between waits for it.
        let _running = self.running.token();
        if self.has_begun() {
            return Err(refusal());
        }
        match self.ended.run_until_cancelled(request).await {
            Some(outcome) => outcome,
            None => Err(RpcError::new(
                RpcError::INTERNAL,
                "the gateway shut down before this request was answered. It may have run: do not \
                 send it again unless running it twice does no harm",
            )),
        }
    }

    /// Counts a request that another replica runs, for as long as the token lives. To be taken
    /// before it is looked whether the drain has begun.
    pub(crate) fn elsewhere(&self) -> TaskTrackerToken {
        self.running.token()
    }

    /// How many requests run.
    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }

    /// Whether everything that ran has ended by itself.
    pub(crate) async fn drain(&self, patience: Duration) -> bool {
        self.begun.cancel();
        self.running.close();
        let in_time = tokio::time::timeout(patience, self.running.wait()).await;
        self.ended.cancel();
        in_time.is_ok()
    }
}

/// What a request that comes too late is answered.
pub(crate) fn refusal() -> RpcError {
    RpcError::new(
        RpcError::INTERNAL,
        "the gateway is shutting down: the request was not run, and may be sent again",
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_runs_may_end_and_nothing_begins() {
        let drain = Arc::new(Drain::default());
        let (started, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let running = tokio::spawn({
            let (drain, started, go_on) = (drain.clone(), started.clone(), go_on.clone());
            async move {
                let work = async {
                    started.notify_one();
                    go_on.notified().await;
                    Ok(Raw::empty_object())
                };
                drain.run(work).await
            }
        });
        started.notified().await;
        let mut ending = ending_within(drain.clone(), Duration::from_secs(60));
        drain.begun().await;
        let late = drain.run(async { Ok(Raw::null()) }).await;
        assert_eq!(late, Err(refusal()));
        assert!(!ending.is_finished());
        go_on.notify_one();
        assert_eq!(running.await.unwrap(), Ok(Raw::empty_object()));
        assert!((&mut ending).await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_end_is_cancelled() {
        let drain = Arc::new(Drain::default());
        let running = tokio::spawn({
            let drain = drain.clone();
            async move { drain.run(std::future::pending()).await }
        });
        while drain.running.is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(!drain.drain(Duration::from_secs(30)).await);
        let error = running.await.unwrap().unwrap_err();
        assert!(error.message.contains("may have run"), "{error:?}");
    }

    fn ending_within(drain: Arc<Drain>, patience: Duration) -> tokio::task::JoinHandle<bool> {
        tokio::spawn(async move { drain.drain(patience).await })
    }
}
