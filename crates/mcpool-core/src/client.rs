//! The second seam: a [`ClientFactory`] makes a [`Client`], one connection with one server.
//!
//! It is two traits. [`Requester`] is what one asks a server through: a client, a handle of the
//! manager, a wrapper. [`Client`] is a requester that is one connection, with an end. The verbs
//! (`call_tool`, `list_tools` …) are written once, over every requester: [`Verbs`](crate::Verbs).

mod evidence;
mod info;
mod layer;
mod notice;
mod offered;
mod options;

pub use evidence::{ConnectAttempt, ConnectEvidence};
pub use info::{ClientSnapshot, ConnectionInfo, PeerInfo, ServerCapabilities};
pub use layer::{ClientLayer, Layered, LayeredFactory, Next};
pub use notice::{NoticeSender, Notices, ServerNotice};
pub use offered::Offered;
pub use options::{ProgressCallback, Request, RequestOptions, Rounds};

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::Serialize;

use crate::{
    Error, Limits, Notification, Raw, Result, ServerName, ServerRequestHandler, ServerSpec,
};

/// Sends requests to a server.
///
/// All methods may be called concurrently, from any task and thread.
#[async_trait]
pub trait Requester: Send + Sync {
    /// The application's name for the server.
    fn server(&self) -> &ServerName;

    /// What was agreed with the server; `None` while there is no connection. Behind a handle it
    /// changes with each connection.
    fn info(&self) -> Option<Arc<ConnectionInfo>>;

    /// Sizes and counts that the verbs keep to: those of the spec behind it.
    fn limits(&self) -> Limits {
        Limits::default()
    }

    /// Sends a request and gives the `result` of its answer, as it came.
    ///
    /// `resources/subscribe`, `resources/unsubscribe` and `logging/setLevel` mean the same in
    /// every era: on MCP 2026-07-28 they become a listen stream and a member of each request.
    ///
    /// Dropping the future cancels the request: over stdio and SSE the server is notified
    /// (`notifications/cancelled`), on 2026-07-28 over HTTP its stream is closed.
    ///
    /// # Errors
    /// [`Rpc`](crate::ErrorKind::Rpc) when the server answers with an error, otherwise what
    /// happened on the way; [`Error::delivery`] says what is known of the request.
    async fn request(&self, request: &Request, options: &RequestOptions) -> Result<Raw>;

    /// What the server says by itself from now on.
    fn notices(&self) -> Notices;
}

/// One connection with one server.
///
/// Dropping the last reference closes it without waiting.
#[async_trait]
pub trait Client: Requester {
    /// What is known of it now.
    fn snapshot(&self) -> ClientSnapshot;

    /// Finds out whether the server is alive, never from a cache. Does not count as activity.
    ///
    /// # Errors
    /// [`Timeout`](crate::ErrorKind::Timeout) when nothing came, or the end of the connection.
    async fn probe(&self, timeout: Duration) -> Result<ProbeReport>;

    /// Sends a notification of the application, and waits until the connection has taken it:
    /// `notifications/roots/list_changed`, after what a [`ServerRequestHandler`] answers to
    /// `roots/list` has changed (MCP 2025-11-25, "Roots").
    ///
    /// From MCP 2026-07-28 on, a client notifies a server of nothing by itself: nothing is sent
    /// then, and that is no error.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for `notifications/initialized` and
    /// `notifications/cancelled`, which are the client's own business;
    /// [`Timeout`](crate::ErrorKind::Timeout) when the connection does not take it within the
    /// timeout of a request; otherwise the end of the connection.
    async fn notify(&self, notification: &Notification) -> Result<()>;

    /// Waits for the end of the connection and says why it ended. Answers at once when it has.
    async fn closed(&self) -> CloseReason;

    /// Whether the connection has ended. Must be cheap: it is asked before each request.
    fn is_closed(&self) -> bool;

    /// Ends the connection in the orderly way and waits for it, bounded by the shutdown policy.
    /// Requests in flight end with an error. May be called again, and from any task.
    async fn close(&self);

    /// Ends the connection by force: what it holds outside of this program, a process above all,
    /// is gone when this returns. A close that is under way is overtaken. Idempotent.
    ///
    /// Blocks as [`TransportMonitor::kill`](crate::TransportMonitor::kill) does, for a few
    /// milliseconds and at most a second, and needs no runtime. A client that holds nothing outside
    /// has nothing to do; one that wraps another must pass it on, or its processes outlive a
    /// shutdown whose deadline has passed.
    fn kill(&self);
}

/// Turns a spec into a connected client. The manager is tested on fakes of it.
#[async_trait]
pub trait ClientFactory: Send + Sync {
    /// Connects: resolves the spec, opens a transport, agrees on a protocol.
    ///
    /// Bounded by the spec's `startup` timeout. Dropping the future releases everything that was
    /// opened. Each call gives a client of its own that shares nothing with any other.
    ///
    /// # Errors
    /// An [`Error`] with what is known: status, stderr, and the attempts as its source.
    async fn connect(&self, spec: &ServerSpec, options: &ConnectOptions)
    -> Result<Arc<dyn Client>>;

    /// Waits until there are other credentials for this server than those that it last refused, or
    /// until it is worth trying again.
    ///
    /// The manager waits for it while a server is in
    /// [`AuthRequired`](crate::ServerState::AuthRequired), and then connects; the second time
    /// in a row after a pause, which grows. A factory without credentials waits for ever; one that
    /// wraps another must pass it on, or logins are not noticed.
    ///
    /// Dropping the future stops the wait.
    async fn credentials_changed(&self, spec: &ServerSpec);
}

/// The options of a connect, beside the spec.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// Whether no idle socket of an earlier connection may be used: see
    /// [`ConnectRequest::fresh`](crate::ConnectRequest::fresh).
    pub fresh: bool,
    /// Who answers what the server asks, in place of the factory's own handler: for a connection
    /// that belongs to one client of a program with several. A factory without handlers has no
    /// use for it. Default `None`.
    pub handler: Option<Arc<dyn ServerRequestHandler>>,
}

impl ConnectOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether no idle socket of an earlier connection may be used.
    #[must_use]
    pub fn with_fresh(mut self, fresh: bool) -> Self {
        self.fresh = fresh;
        self
    }

    /// Sets who answers what the server asks, in place of the factory's own handler.
    #[must_use]
    pub fn with_handler(mut self, handler: Arc<dyn ServerRequestHandler>) -> Self {
        self.handler = Some(handler);
        self
    }
}

impl fmt::Debug for dyn Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requester")
            .field("server", self.server())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for dyn Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("server", self.server())
            .field("closed", &self.is_closed())
            .finish()
    }
}

impl fmt::Debug for dyn ClientFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientFactory")
    }
}

/// The answer to a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProbeReport {
    /// How long the answer took.
    pub latency: Duration,
    /// What was answered.
    pub method: ProbeMethod,
}

impl ProbeReport {
    /// An answer to this, after so long.
    #[must_use]
    pub fn new(latency: Duration, method: ProbeMethod) -> Self {
        Self { latency, method }
    }
}

/// What a probe asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ProbeMethod {
    /// `ping`, up to MCP 2025-11-25.
    Ping,
    /// `server/discover`, from MCP 2026-07-28.
    Discover,
    /// `tools/list`, where the first went unanswered.
    ListTools,
}

/// Why a connection ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum CloseReason {
    /// `close` was called, or the client was dropped.
    Requested,
    /// The connection was lost.
    Lost(Error),
}
