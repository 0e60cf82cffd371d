//! A request of the application, and how it is treated.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use crate::{Caller, Progress, Raw, RawObject, Result};

/// A request of the application: a method and its parameters.
///
/// ```
/// use mcpool_core::Request;
///
/// let request = Request::new("tools/call").with_params(&serde_json::json!({"name": "echo"}))?;
/// assert_eq!(request.params.unwrap().get(), r#"{"name":"echo"}"#);
/// # Ok::<(), mcpool_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Request {
    /// What is asked.
    pub method: Cow<'static, str>,
    /// The parameters, an object.
    pub params: Option<Raw>,
}

/// The requests of a client in the protocol.
const METHODS: [&str; 13] = [
    "completion/complete",
    "logging/setLevel",
    "ping",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/subscribe",
    "resources/templates/list",
    "resources/unsubscribe",
    "server/discover",
    "tools/call",
    "tools/list",
];

impl Request {
    /// The name of a method that is known when this is compiled, for what must have a bound, such
    /// as the labels of metrics; `None` for any other.
    #[must_use]
    pub fn known_method(method: &str) -> Option<&'static str> {
        METHODS.into_iter().find(|known| *known == method)
    }

    /// A request without parameters.
    #[must_use]
    pub fn new(method: impl Into<Cow<'static, str>>) -> Self {
        Self {
            method: method.into(),
            params: None,
        }
    }

    /// Sets the parameters: anything that serialises to an object.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) when they cannot be JSON.
    pub fn with_params<T: serde::Serialize + ?Sized>(self, params: &T) -> Result<Self> {
        Ok(self.with_raw_params(Raw::of(params)?))
    }

    /// Sets the parameters as they are to be sent.
    #[must_use]
    pub fn with_raw_params(mut self, params: Raw) -> Self {
        self.params = Some(params);
        self
    }
}

/// The options of one request. The default takes everything from the spec's policy.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct RequestOptions {
    /// From the request to its answer; progress starts it again. `None`: the policy's.
    pub timeout: Option<Duration>,
    /// From the request to its answer, whatever the progress. `None`: the policy's.
    pub max_total: Option<Duration>,
    /// Called for each progress notification.
    pub progress: Option<ProgressCallback>,
    /// Members for the request's `_meta`.
    pub meta: Option<RawObject>,
    /// Who answers when the server wants input in the middle of it.
    pub rounds: Rounds,
    /// Who stands behind it, where that is not the application as a whole.
    pub caller: Option<Arc<dyn Caller>>,
}

impl RequestOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// These options, with those of `base` where these say nothing. The shorter `max_total` of
    /// the two counts.
    #[must_use]
    pub fn over(&self, base: &Self) -> Self {
        Self {
            timeout: self.timeout.or(base.timeout),
            max_total: match (self.max_total, base.max_total) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            },
            progress: self.progress.clone().or_else(|| base.progress.clone()),
            meta: self.meta.clone().or_else(|| base.meta.clone()),
            rounds: match self.rounds {
                Rounds::Drive => base.rounds,
                rounds => rounds,
            },
            caller: self.caller.clone().or_else(|| base.caller.clone()),
        }
    }

    /// Sets the timeout.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets the timeout that progress does not extend.
    #[must_use]
    pub fn with_max_total(mut self, timeout: Duration) -> Self {
        self.max_total = Some(timeout);
        self
    }

    /// Sets what is called for each progress notification. It is called by the connection's
    /// reader: it must not block.
    #[must_use]
    pub fn with_progress(mut self, callback: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(callback));
        self
    }

    /// Sets members for the request's `_meta`.
    #[must_use]
    pub fn with_meta(mut self, meta: RawObject) -> Self {
        self.meta = Some(meta);
        self
    }

    /// Sets who answers when the server wants input.
    #[must_use]
    pub fn with_rounds(mut self, rounds: Rounds) -> Self {
        self.rounds = rounds;
        self
    }

    /// Sets who hears what the server says in the course of the request, and answers what it asks.
    #[must_use]
    pub fn with_caller(mut self, caller: Arc<dyn Caller>) -> Self {
        self.caller = Some(caller);
        self
    }
}

impl fmt::Debug for RequestOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestOptions")
            .field("timeout", &self.timeout)
            .field("max_total", &self.max_total)
            .field("progress", &self.progress.is_some())
            .field("meta", &self.meta)
            .field("rounds", &self.rounds)
            .field("caller", &self.caller.is_some())
            .finish()
    }
}

/// Called for each progress notification.
pub type ProgressCallback = Arc<dyn Fn(Progress) + Send + Sync>;

/// Who answers a result of the type `input_required` (MCP 2026-07-28, "Multi Round-Trip
/// Requests").
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rounds {
    /// The session, through its handler; the caller gets the last result.
    #[default]
    Drive,
    /// The caller gets the result as it came: a forwarder, whose own client answers.
    Pass,
}
