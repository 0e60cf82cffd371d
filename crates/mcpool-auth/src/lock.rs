//! Waiting for a lock across processes without holding up the runtime.

use std::{path::PathBuf, time::Duration};

use mcpool_core::{Error, ErrorKind, Result};
use mcpool_files::Locks;
use tokio::time::{Instant, sleep};

use crate::StoreLock;

const POLL_MIN: Duration = Duration::from_millis(5);
const POLL_MAX: Duration = Duration::from_millis(100);

/// Takes the lock of a path, which ends with the process that holds it, however that dies.
/// Polled, because a blocking lock could not be given up: dropping the future stops the wait.
///
/// # Errors
/// [`Timeout`](ErrorKind::Timeout), which names the holder; [`Internal`](ErrorKind::Internal)
/// when there can be no lock.
pub(crate) async fn take(locks: &Locks, path: PathBuf, longest: Duration) -> Result<StoreLock> {
    let start = Instant::now();
    let mut pause = POLL_MIN;
    loop {
        let failed = |why: String| {
            Error::new(
                ErrorKind::Internal,
                format!("no lock for {}: {why}", path.display()),
            )
        };
        let (locks, wanted) = (locks.clone(), path.clone());
        let tried = tokio::task::spawn_blocking(move || match locks.try_lock(&wanted) {
            Ok(Some(lock)) => Ok(Ok(lock)),
            Ok(None) => Ok(Err(locks.holder(&wanted))),
            Err(error) => Err(error),
        });
        let holder = match tried.await {
            Ok(Ok(Ok(lock))) => return Ok(StoreLock::new(lock)),
            Ok(Ok(Err(holder))) => holder,
            Ok(Err(error)) => return Err(failed(error.to_string()).with_source(error)),
            Err(error) => return Err(failed("it was cancelled".to_owned()).with_source(error)),
        };
        if start.elapsed() >= longest {
            return Err(Error::new(
                ErrorKind::Timeout,
                format!(
                    "{holder} has had the lock of {} for over {} s; try again, or end that process",
                    path.display(),
                    longest.as_secs()
                ),
            ));
        }
        sleep(pause).await;
        pause = (pause * 2).min(POLL_MAX);
    }
}
