//! The connect budget: how many connects may run at once, so that a machine that wakes up does
//! not start forty servers at one instant.

use std::sync::Arc;

use mcpool_core::{ConnectBudget, Error, ErrorKind, TransportSpec};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A budget of simultaneous connects. Cloning it shares it, so that several managers can live
/// on one.
///
/// ```
/// use mcpool_core::ConnectBudget;
/// use mcpool_manager::Budget;
///
/// let shared = Budget::new(ConnectBudget::new(4, 16));
/// let for_another_manager = shared.clone();
/// assert_eq!(for_another_manager.limits(), ConnectBudget::new(4, 16));
/// ```
#[derive(Debug, Clone)]
pub struct Budget {
    limits: ConnectBudget,
    stdio: Arc<Semaphore>,
    http: Arc<Semaphore>,
}

impl Budget {
    /// A budget with these limits; a limit of 0 counts as 1.
    #[must_use]
    pub fn new(limits: ConnectBudget) -> Self {
        let permits =
            |limit: usize| Arc::new(Semaphore::new(limit.clamp(1, Semaphore::MAX_PERMITS)));
        Self {
            limits,
            stdio: permits(limits.stdio),
            http: permits(limits.http),
        }
    }

    /// The budget that every manager of this process shares unless it is given another: the
    /// default of [`ConnectBudget`].
    #[must_use]
    pub fn process_wide() -> Self {
        static PROCESS: std::sync::OnceLock<Budget> = std::sync::OnceLock::new();
        PROCESS
            .get_or_init(|| Self::new(ConnectBudget::default()))
            .clone()
    }

    /// Its limits.
    #[must_use]
    pub fn limits(&self) -> ConnectBudget {
        self.limits
    }

    /// Waits for a place, in the order of asking. Dropping the permit gives it back.
    pub(crate) async fn acquire(
        &self,
        transport: &TransportSpec,
    ) -> Result<OwnedSemaphorePermit, Error> {
        let semaphore = if transport.is_stdio() {
            &self.stdio
        } else {
            &self.http
        };
        Arc::clone(semaphore)
            .acquire_owned()
            .await
            .map_err(|_| Error::new(ErrorKind::Internal, "the connect budget was closed"))
    }
}

impl From<ConnectBudget> for Budget {
    fn from(limits: ConnectBudget) -> Self {
        Self::new(limits)
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::process_wide()
    }
}
