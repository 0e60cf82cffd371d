//! How one call is treated, and how fresh a list has to be.

use std::time::Duration;

use mcpool_core::RequestOptions;

/// The options of one call through the manager.
///
/// ```
/// use std::time::Duration;
/// use mcpool_manager::CallOptions;
///
/// let options = CallOptions::new().with_timeout(Duration::from_secs(10)).fail_fast();
/// assert_eq!(options.timeout, Some(Duration::from_secs(10)));
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CallOptions {
    /// The bound of everything: waiting for the server, queueing, the request, and its one
    /// replay. `None`: waiting and queueing are bounded by `max_wait`, and the request by its own
    /// timeouts, which progress may extend.
    pub timeout: Option<Duration>,
    /// How long it may wait for the server, and for room at it, where `timeout` says nothing; before
    /// its one replay the time begins again. Never longer than the server's `startup` timeout.
    /// `None`: that timeout. Lists from the cache are shared by all who wait for them, and keep to
    /// that timeout alone.
    pub max_wait: Option<Duration>,
    /// What happens while the server is not ready. Default [`NotReady::Wait`].
    pub not_ready: NotReady,
    /// The options of the request itself: timeouts, progress, `_meta`.
    pub request: RequestOptions,
}

impl CallOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the bound of everything.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets how long it may wait for the server.
    #[must_use]
    pub fn with_max_wait(mut self, max_wait: Duration) -> Self {
        self.max_wait = Some(max_wait);
        self
    }

    /// Fails at once when the server is not ready.
    #[must_use]
    pub fn fail_fast(mut self) -> Self {
        self.not_ready = NotReady::FailFast;
        self
    }

    /// Sets the options of the request itself.
    #[must_use]
    pub fn with_request(mut self, request: RequestOptions) -> Self {
        self.request = request;
        self
    }
}

/// What a call does while its server is not ready.
///
/// Either way it fails at once when waiting cannot help: the server is disabled, was
/// disconnected by a caller, needs a login, or its attempts are used up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotReady {
    /// Waits, within the call's deadline.
    #[default]
    Wait,
    /// Fails at once with `NotConnected`. A lazy server is connected all the same, for the next.
    FailFast,
}

/// How fresh a list has to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refresh {
    /// What is cached, unless it is stale: nothing yet, `list_changed`, past its time, a new
    /// connection, or a refresh that failed.
    #[default]
    IfStale,
    /// Asks the server. A refresh that is under way is joined.
    Force,
    /// What is cached, without asking anybody; the error of a server that is not ready when
    /// there is nothing.
    Cached,
}
