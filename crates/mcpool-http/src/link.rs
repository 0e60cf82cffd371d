//! What the parts of one connection share: its end, the reason for it, and how a dead server is
//! noticed.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use mcpool_core::{
    Delivery, Diagnostics, Error, ErrorKind, IncomingMessage, Result, ServerPolicy, TransportKind,
    TransportMonitor, model::ServerCapabilities,
};
use mcpool_http_pool::HttpPeer;
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::pacing::GetPacer;

/// The method of a notification that the transport itself makes, after a server had lost the
/// session and a new one was made in its place: what the session held on the server, such as
/// subscriptions and the log level, has to be set up again. It comes after a `list_changed` for
/// each list that the server has.
pub const SESSION_RENEWED: &str = mcpool_core::ServerNotice::SESSION_RENEWED;

/// The pauses before each check whether the server can still be reached.
const REACH_PAUSES: [Duration; 2] = [Duration::ZERO, Duration::from_millis(50)];
const REACH_TIMEOUT: Duration = Duration::from_secs(2);

/// The shortest backstop of a request. The client's own time-outs and cancellations end requests
/// much sooner; this only ends one that was forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60 * 60);

/// How long the first request of a session waits for the head of the standing stream. Most
/// servers send it at once; some with the first event only.
const STANDING_HEAD: Duration = Duration::from_millis(500);

/// How long the DELETE of the session may take after a drop, which waits for nothing.
const DELETE_AFTER_DROP: Duration = Duration::from_secs(1);

/// The bounds of one connection, from its spec.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    /// Bytes of one message.
    pub(crate) message: usize,
    /// A handshake, to the end of its answer.
    pub(crate) handshake: Duration,
    /// A message that is no request.
    pub(crate) one_way: Duration,
    /// A request, to the head of its answer.
    pub(crate) request: Duration,
    /// Between two pieces of an answer's body.
    pub(crate) body_idle: Duration,
    /// Between two pieces of an event stream.
    pub(crate) stream_idle: Option<Duration>,
    /// The whole close.
    pub(crate) close: Duration,
}

impl Bounds {
    pub(crate) fn new(policy: &ServerPolicy, read_idle: Option<Duration>) -> Self {
        let timeouts = &policy.timeouts;
        Self {
            message: policy.limits.max_message_bytes,
            handshake: timeouts.startup,
            one_way: timeouts.request,
            request: timeouts.request_max.max(FORGOTTEN_AFTER),
            body_idle: read_idle.unwrap_or(timeouts.request_max),
            stream_idle: read_idle,
            close: policy.shutdown.total,
        }
    }
}

/// What the transport, its HTTP client and its streams share; the monitor, too.
pub(crate) struct Link {
    pub(crate) peer: HttpPeer,
    pub(crate) bounds: Bounds,
    pub(crate) pacer: GetPacer,
    /// Cancelled when the connection has ended, whatever the reason. rmcp's worker stops on it.
    pub(crate) ended: CancellationToken,
    /// Cancelled when the server has answered the GET of the standing stream, well or not.
    pub(crate) standing: CancellationToken,
    /// Messages that this layer makes itself.
    local: mpsc::UnboundedSender<IncomingMessage>,
    state: Mutex<State>,
    closed: AtomicBool,
    verifying: AtomicBool,
    sent: AtomicU64,
    received: AtomicU64,
}

#[derive(Default)]
struct State {
    failure: Option<Error>,
    last_error: Option<String>,
    /// How long the DELETE may take, once that is known.
    delete_within: Option<Duration>,
    /// Whether a handshake was answered well.
    established: bool,
    initialize_sent: bool,
    initialized: bool,
    /// The session ids of the server; the worker knows them by their place in this list.
    sessions: Vec<String>,
    /// What the server can do, once a lost session was made anew.
    renewed: Option<ServerCapabilities>,
}

impl Link {
    pub(crate) fn new(
        peer: HttpPeer,
        bounds: Bounds,
        local: mpsc::UnboundedSender<IncomingMessage>,
    ) -> Self {
        Self {
            peer,
            bounds,
            pacer: GetPacer::default(),
            ended: CancellationToken::new(),
            standing: CancellationToken::new(),
            local,
            state: Mutex::default(),
            closed: AtomicBool::new(false),
            verifying: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
        }
    }

    fn with_state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends the connection because of this; the first reason stays.
    pub(crate) fn fail(&self, error: Error) {
        if !self.closed.load(Ordering::SeqCst) {
            self.with_state(|state| {
                if state.failure.is_none() {
                    let server = self.peer.server();
                    tracing::debug!(%server, transport = "http", %error, "connection lost");
                    state.failure = Some(error.with_server(server));
                }
            });
        }
        self.ended.cancel();
    }

    /// The application wants the end, and waits for it so long.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.with_state(|state| state.delete_within = Some(self.bounds.close));
        self.ended.cancel();
    }

    /// The transport was dropped.
    pub(crate) fn abandon(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.ended.cancel();
    }

    /// rmcp's worker has stopped, which it only does at the end.
    pub(crate) fn worker_ended(&self) {
        self.fail(Error::new(
            ErrorKind::ConnectionLost,
            "the HTTP session ended",
        ));
    }

    /// How long to wait for the DELETE of the session; `None` when it makes no sense.
    pub(crate) fn delete_within(&self) -> Option<Duration> {
        self.with_state(|state| match state.failure {
            Some(_) => None,
            None => Some(state.delete_within.unwrap_or(DELETE_AFTER_DROP)),
        })
    }

    /// The error of a send on a connection that has ended.
    pub(crate) fn ended_error(&self, delivery: Delivery) -> Error {
        match self.failure() {
            Some(failure) => failure.with_delivery(delivery),
            None => Error::new(ErrorKind::Closed, "the connection was closed")
                .with_server(self.peer.server())
                .with_delivery(delivery),
        }
    }

    /// Keeps an error that does not end the connection.
    pub(crate) fn note(&self, error: &Error) {
        self.with_state(|state| state.last_error = Some(error.message().to_owned()));
    }

    pub(crate) fn count_sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn is_established(&self) -> bool {
        self.with_state(|state| state.established)
    }

    pub(crate) fn establish(&self) {
        self.with_state(|state| state.established = true);
    }

    /// Whether this is the first `initialize` on the connection.
    pub(crate) fn first_initialize(&self) -> bool {
        self.with_state(|state| !std::mem::replace(&mut state.initialize_sent, true))
    }

    /// Keeps the server's session id and gives the name under which the worker knows it: the
    /// worker logs that name, and a session id is as good as a password.
    pub(crate) fn name_session(&self, id: String) -> String {
        self.with_state(|state| {
            state.sessions.push(id);
            (state.sessions.len() - 1).to_string()
        })
    }

    /// The server's id of a session that the worker names.
    pub(crate) fn session_id(&self, name: &str) -> Option<String> {
        let at: usize = name.parse().ok()?;
        self.with_state(|state| state.sessions.get(at).cloned())
    }

    /// `initialize` was answered well; from the second time on, after a session was lost.
    pub(crate) fn initialized(&self, capabilities: &ServerCapabilities) {
        self.with_state(|state| {
            state.established = true;
            if std::mem::replace(&mut state.initialized, true) {
                state.renewed = Some(capabilities.clone());
            }
        });
    }

    /// `notifications/initialized` was accepted: a renewed session is ready, and tells so.
    pub(crate) fn session_ready(&self) {
        let Some(capabilities) = self.with_state(|state| state.renewed.take()) else {
            return;
        };
        tracing::debug!(server = %self.peer.server(), "the server lost the session; it was renewed");
        let methods = [
            (
                capabilities.tools.is_some(),
                "notifications/tools/list_changed",
            ),
            (
                capabilities.prompts.is_some(),
                "notifications/prompts/list_changed",
            ),
            (
                capabilities.resources.is_some(),
                "notifications/resources/list_changed",
            ),
            (true, SESSION_RENEWED),
        ];
        for (applies, method) in methods {
            let message = json!({"jsonrpc": "2.0", "method": method});
            if let (true, Ok(message)) = (applies, serde_json::from_value(message)) {
                // Nobody listens after a drop, and nobody has to.
                self.local.send(message).ok();
            }
        }
    }

    /// Waits until the server has the standing stream, or says that it has none: it may ask back
    /// there while it works on a request, and what it asks before it has the stream is lost. Only
    /// the first requests of a session wait.
    pub(crate) async fn standing_stream(&self) {
        tokio::select! {
            () = self.standing.cancelled() => {}
            () = self.ended.cancelled() => {}
            () = sleep(STANDING_HEAD) => self.standing.cancel(),
        }
    }

    /// Called when a connection failed: finds out whether the server is gone, and ends the
    /// connection if it is. rmcp's worker never does: to it every network error is one of a
    /// single request.
    ///
    /// One check runs at a time; dropping the future is safe.
    pub(crate) async fn verify(&self, cause: &Error) {
        if !self.is_established() || self.ended.is_cancelled() {
            return;
        }
        let Some(_running) = Verification::begin(&self.verifying) else {
            return;
        };
        for pause in REACH_PAUSES {
            sleep(pause).await;
            let gone = match timeout(REACH_TIMEOUT, self.peer.reach()).await {
                Ok(Ok(())) => false,
                Ok(Err(error)) => error.kind() == ErrorKind::Connect,
                // Silence means nothing, unless no connection could be made before either.
                Err(_) => cause.kind() == ErrorKind::Connect,
            };
            if !gone {
                return;
            }
        }
        self.fail(
            Error::new(
                ErrorKind::ConnectionLost,
                "the server is gone: no new connection can be made",
            )
            .with_source(cause.clone()),
        );
    }
}

/// Holds the right to check whether the server is there.
struct Verification<'a>(&'a AtomicBool);

impl<'a> Verification<'a> {
    fn begin(running: &'a AtomicBool) -> Option<Self> {
        (!running.swap(true, Ordering::AcqRel)).then_some(Self(running))
    }
}

impl Drop for Verification<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl TransportMonitor for Link {
    fn kind(&self) -> TransportKind {
        TransportKind::Http
    }

    fn diagnostics(&self) -> Diagnostics {
        let mut diagnostics = Diagnostics::default();
        diagnostics.sent = self.sent.load(Ordering::Relaxed);
        diagnostics.received = self.received.load(Ordering::Relaxed);
        diagnostics.last_error = self.with_state(|state| state.last_error.clone());
        diagnostics
    }

    fn failure(&self) -> Option<Error> {
        self.with_state(|state| state.failure.clone())
    }
}

/// Waits for `work`, or for the end of the connection, or for the bound.
pub(crate) async fn bounded<T>(
    link: &Link,
    bound: Duration,
    what: &str,
    work: impl Future<Output = T>,
) -> Result<T> {
    tokio::select! {
        biased;
        () = link.ended.cancelled() => Err(link.ended_error(Delivery::Unknown)),
        done = timeout(bound, work) => done.map_err(|_| {
            Error::new(ErrorKind::Timeout, format!("{what} within {bound:?}"))
                .with_server(link.peer.server())
                .with_delivery(Delivery::Unknown)
        }),
    }
}
