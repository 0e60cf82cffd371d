#![allow(
    deprecated,
    reason = "the log level is deprecated by MCP 2026-07-28, spoken by older servers"
)]

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use rmcp::model::{
    CallToolResult, CompleteRequestParams, CompleteResult, GetPromptResult, JsonObject,
    LoggingLevel, Prompt, ProtocolVersion, ReadResourceResult, Resource, ResourceTemplate,
    ServerPeerInfo, Tool,
};
use serde::Serialize;
use serde_json::Value;
use tokio::{sync::broadcast, time::Instant};

use crate::{Diagnostics, Error, Result, ServerName, ServerSpec, TransportKind, Untrusted};

/// Turns a spec into a connected client. The second seam: the manager is tested on mocks of it.
#[async_trait]
pub trait ClientFactory: Send + Sync {
    /// Connects: resolves the spec, opens a transport, agrees on a protocol.
    ///
    /// Bounded by the spec's `startup` time-out. Dropping the future releases everything that was
    /// opened. Each call gives a client of its own that shares nothing with any other.
    ///
    /// # Errors
    /// An [`Error`] with what is known: status, stderr, and the attempts as its source.
    async fn connect(&self, spec: &ServerSpec) -> Result<Arc<dyn Client>>;

    /// Waits until there are other credentials for this server than those that it last refused, or
    /// until it is worth trying again.
    ///
    /// The manager waits for it while a server is in
    /// [`AuthRequired`](crate::ServerState::AuthRequired), and then connects; the second time
    /// in a row after a pause, which grows. The default waits for ever: then only a caller's
    /// connect helps.
    ///
    /// Dropping the future stops the wait.
    async fn credentials_changed(&self, _spec: &ServerSpec) {
        std::future::pending().await
    }
}

/// A live session with one server.
///
/// All methods may be called concurrently, from any task and thread. Dropping the future of a
/// request cancels it: over stdio and SSE the server is told (`notifications/cancelled`), on
/// 2026-07-28 over HTTP its stream is closed. Dropping the last reference closes the connection
/// without waiting.
#[async_trait]
pub trait Client: Send + Sync {
    /// What was agreed at connect time.
    fn info(&self) -> &ConnectionInfo;

    /// When it was connected and last heard of.
    fn times(&self) -> ConnectionTimes;

    /// What the transport knows: stderr, process id, counters.
    fn diagnostics(&self) -> Diagnostics;

    /// The tools, all pages. Tools that cannot be used are left out and reported.
    ///
    /// # Errors
    /// When a page cannot be fetched, a cursor repeats, or there are too many pages.
    async fn list_tools(&self, options: &RequestOptions) -> Result<ToolListing>;

    /// Calls a tool. A tool that fails is an `Ok` with `is_error` set.
    ///
    /// # Errors
    /// [`Rpc`](crate::ErrorKind::Rpc) when the server refuses, otherwise what happened on the way.
    async fn call_tool(
        &self,
        name: &str,
        arguments: Option<JsonObject>,
        options: &RequestOptions,
    ) -> Result<CallToolResult>;

    /// The prompts, all pages.
    ///
    /// # Errors
    /// As [`Client::list_tools`].
    async fn list_prompts(&self, options: &RequestOptions) -> Result<Vec<Prompt>>;

    /// One prompt, filled in.
    ///
    /// # Errors
    /// As [`Client::call_tool`].
    async fn get_prompt(
        &self,
        name: &str,
        arguments: Option<JsonObject>,
        options: &RequestOptions,
    ) -> Result<GetPromptResult>;

    /// The resources, all pages.
    ///
    /// # Errors
    /// As [`Client::list_tools`].
    async fn list_resources(&self, options: &RequestOptions) -> Result<Vec<Resource>>;

    /// The resource templates, all pages.
    ///
    /// # Errors
    /// As [`Client::list_tools`].
    async fn list_resource_templates(
        &self,
        options: &RequestOptions,
    ) -> Result<Vec<ResourceTemplate>>;

    /// Reads a resource.
    ///
    /// # Errors
    /// As [`Client::call_tool`].
    async fn read_resource(
        &self,
        uri: &str,
        options: &RequestOptions,
    ) -> Result<ReadResourceResult>;

    /// Completes an argument of a prompt or of a resource template.
    ///
    /// # Errors
    /// As [`Client::call_tool`].
    async fn complete(
        &self,
        params: CompleteRequestParams,
        options: &RequestOptions,
    ) -> Result<CompleteResult>;

    /// Asks to be told of changes of a resource: `resources/subscribe`, or a listen stream on
    /// 2026-07-28. [`ServerNotice::ResourceUpdated`] tells.
    ///
    /// # Errors
    /// As [`Client::call_tool`].
    async fn subscribe(&self, uri: &str) -> Result<()>;

    /// Takes that back.
    ///
    /// # Errors
    /// As [`Client::call_tool`].
    async fn unsubscribe(&self, uri: &str) -> Result<()>;

    /// Sets the level of the log messages. Deprecated by MCP 2026-07-28, where it is sent with
    /// each request instead.
    ///
    /// # Errors
    /// As [`Client::call_tool`].
    async fn set_log_level(&self, level: LoggingLevel) -> Result<()>;

    /// Any request at all; the result is the answer's `result`, as it came.
    ///
    /// # Errors
    /// As [`Client::call_tool`].
    async fn request(
        &self,
        method: &str,
        params: Option<Value>,
        options: &RequestOptions,
    ) -> Result<Value>;

    /// Finds out whether the server is alive, never from a cache. Does not count as activity.
    ///
    /// # Errors
    /// [`Timeout`](crate::ErrorKind::Timeout) when nothing came, or the end of the connection.
    async fn probe(&self, timeout: Duration) -> Result<ProbeReport>;

    /// What the server says unasked. A slow reader is told how many it missed.
    fn notices(&self) -> broadcast::Receiver<ServerNotice>;

    /// Waits for the end of the connection and says why it ended. Returns at once when it has.
    async fn closed(&self) -> CloseReason;

    /// Whether the connection has ended.
    fn is_closed(&self) -> bool;

    /// Ends the connection in the orderly way and waits for it, bounded by the shutdown policy.
    /// Requests in flight end with an error. May be called again, and from any task.
    async fn close(&self);
}

impl fmt::Debug for dyn Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("server", &self.info().server)
            .field("closed", &self.is_closed())
            .finish()
    }
}

/// What was agreed when a session was made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// The application's name for the server.
    pub server: ServerName,
    /// The transport that is used.
    pub transport: TransportKind,
    /// The protocol version that was agreed on.
    pub protocol: ProtocolVersion,
    /// What the server says of itself: capabilities, name, instructions. Untrusted text.
    pub peer: ServerPeerInfo,
    /// How the transport and the protocol were found out.
    pub evidence: ConnectEvidence,
}

impl ConnectionInfo {
    /// Puts it together; the evidence starts empty.
    #[must_use]
    pub fn new(
        server: ServerName,
        transport: TransportKind,
        protocol: ProtocolVersion,
        peer: ServerPeerInfo,
    ) -> Self {
        Self {
            server,
            transport,
            protocol,
            peer,
            evidence: ConnectEvidence::default(),
        }
    }

    /// Adds the evidence.
    #[must_use]
    pub fn with_evidence(mut self, evidence: ConnectEvidence) -> Self {
        self.evidence = evidence;
        self
    }
}

/// When a session was made and last used.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct ConnectionTimes {
    /// When the session became ready, by the wall clock.
    pub connected_at: SystemTime,
    /// When the session became ready.
    pub connected: Instant,
    /// When the server was last heard of, probes not counted.
    pub last_activity: Instant,
}

impl ConnectionTimes {
    /// A session that became ready now.
    #[must_use]
    pub fn now() -> Self {
        let now = Instant::now();
        Self {
            connected_at: SystemTime::now(),
            connected: now,
            last_activity: now,
        }
    }
}

/// How a connect went: each thing that was tried, in order.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct ConnectEvidence {
    /// The attempts.
    pub attempts: Vec<ConnectAttempt>,
    /// What was chosen and why, in one sentence.
    pub conclusion: String,
}

/// One thing that was tried while connecting.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct ConnectAttempt {
    /// The transport.
    pub transport: TransportKind,
    /// What was sent: `server/discover`, `initialize`, `GET`.
    pub tried: String,
    /// What came back, in one line: a version, a status, an error.
    pub outcome: String,
    /// Whether it led to the session.
    pub ok: bool,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
}

impl ConnectAttempt {
    /// One attempt. What steers a terminal in `outcome` is escaped (see [`Untrusted`]).
    #[must_use]
    pub fn new(
        transport: TransportKind,
        tried: impl Into<String>,
        outcome: impl Into<String>,
        ok: bool,
        elapsed: Duration,
    ) -> Self {
        Self {
            transport,
            tried: tried.into(),
            outcome: Untrusted::line(outcome.into()).into_clean().into_owned(),
            ok,
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// The options of one request. The default takes everything from the spec's policy.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct RequestOptions {
    /// From the request to its answer; progress starts it anew. `None`: the policy's.
    pub timeout: Option<Duration>,
    /// From the request to its answer, whatever the progress. `None`: the policy's.
    pub max_total: Option<Duration>,
    /// Told of each progress notification.
    pub progress: Option<ProgressCallback>,
    /// Entries for the request's `_meta`.
    pub meta: Option<JsonObject>,
}

impl RequestOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the time-out.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets the time-out that progress does not extend.
    #[must_use]
    pub fn with_max_total(mut self, timeout: Duration) -> Self {
        self.max_total = Some(timeout);
        self
    }

    /// Sets what is told of progress. It is called on the session's task: it must not block.
    #[must_use]
    pub fn with_progress(mut self, callback: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(callback));
        self
    }

    /// Sets entries for the request's `_meta`.
    #[must_use]
    pub fn with_meta(mut self, meta: JsonObject) -> Self {
        self.meta = Some(meta);
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
            .finish()
    }
}

/// What is told of progress.
pub type ProgressCallback = Arc<dyn Fn(Progress) + Send + Sync>;

/// How far a request has come.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// How much is done.
    pub progress: f64,
    /// Of how much, where the server knows.
    pub total: Option<f64>,
    /// What it does now.
    pub message: Option<String>,
}

impl Progress {
    /// So much, of so much.
    #[must_use]
    pub fn new(progress: f64, total: Option<f64>, message: Option<String>) -> Self {
        Self {
            progress,
            total,
            message,
        }
    }
}

/// A list of tools, as one server gave it.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ToolListing {
    /// The tools, in the server's order.
    pub tools: Vec<Tool>,
    /// Tools that could not be used.
    pub rejected: Vec<RejectedItem>,
    /// How long the server says the list is fresh (`ttlMs`, MCP 2026-07-28).
    pub ttl: Option<Duration>,
}

impl ToolListing {
    /// A list of these tools.
    #[must_use]
    pub fn new(tools: Vec<Tool>) -> Self {
        Self {
            tools,
            rejected: Vec::new(),
            ttl: None,
        }
    }
}

/// An item of a list that could not be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RejectedItem {
    /// Its name, or its place in the list.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

impl RejectedItem {
    /// An item and what is wrong with it.
    #[must_use]
    pub fn new(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            reason: reason.into(),
        }
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

/// Something the server said unasked.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ServerNotice {
    /// `notifications/tools/list_changed`
    ToolsChanged,
    /// `notifications/prompts/list_changed`
    PromptsChanged,
    /// `notifications/resources/list_changed`
    ResourcesChanged,
    /// `notifications/resources/updated`
    ResourceUpdated {
        /// Which resource.
        uri: String,
    },
    /// `notifications/message`
    Log {
        /// The level, as the protocol spells it.
        level: String,
        /// Who logs.
        logger: Option<String>,
        /// What.
        data: Value,
    },
    /// Any other notification.
    Other {
        /// Its method.
        method: String,
        /// Its parameters.
        params: Option<Value>,
    },
}

impl ServerNotice {
    /// The method of an [`Other`](ServerNotice::Other) notice that a transport makes itself when
    /// it had to begin a new session on a living connection (MCP 2025-11-25, "Session
    /// Management"): subscriptions and the log level of the old session are gone.
    pub const SESSION_RENEWED: &str = "notifications/mcpool/session_renewed";
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
