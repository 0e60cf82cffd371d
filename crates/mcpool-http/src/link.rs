//! What the parts of one connection share: its end, the reason for it, and how a dead server is
//! noticed.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use mcpool_core::{
    ConnectRequest, Delivery, Diagnostics, Direction, Error, ErrorKind, InboxSender, RequestId,
    TransportKind, TransportMonitor, WireEvent, WireTap,
};
use mcpool_http_pool::{HttpPeer, http::StatusCode};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{aside::Aside, guarded::guarded, in_flight::InFlight, notes::Notes};

/// The pauses before each check whether the server can still be reached.
const REACH_PAUSES: [Duration; 2] = [Duration::ZERO, Duration::from_millis(50)];
const REACH_TIMEOUT: Duration = Duration::from_secs(2);

/// The bounds of one connection.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    /// Bytes of one message.
    pub(crate) message: usize,
    /// Between two pieces of a body.
    pub(crate) read_idle: Option<Duration>,
    /// The whole close.
    pub(crate) close: Duration,
}

impl Bounds {
    pub(crate) fn new(request: &ConnectRequest, read_idle: Option<Duration>) -> Self {
        Self {
            message: request.limits.max_message_bytes,
            read_idle,
            close: request.shutdown.total,
        }
    }
}

/// What the parts of one connection share; the monitor, too.
pub(crate) struct Link {
    pub(crate) peer: HttpPeer,
    pub(crate) bounds: Bounds,
    /// The runtime of the connect: sockets and timers are its.
    pub(crate) runtime: Handle,
    /// Cancelled when the connection has ended, whatever the reason.
    pub(crate) ended: CancellationToken,
    pub(crate) inbox: InboxSender,
    pub(crate) in_flight: InFlight,
    pub(crate) aside: Aside,
    pub(crate) tails: Aside,
    pub(crate) notes: Notes,
    tap: Option<Arc<dyn WireTap>>,
    failure: Mutex<Option<Error>>,
    closed: AtomicBool,
    /// Whether a handshake was answered well.
    established: AtomicBool,
    /// When it was last found that the server is there.
    reached: tokio::sync::Mutex<Option<Instant>>,
    made: Instant,
    /// When the server last gave a sign of life, in microseconds since the link was made.
    heard: AtomicU64,
    last_id: AtomicU64,
}

impl Link {
    pub(crate) fn new(
        peer: HttpPeer,
        bounds: Bounds,
        runtime: Handle,
        inbox: InboxSender,
        tap: Option<Arc<dyn WireTap>>,
    ) -> Self {
        Self {
            aside: Aside::for_messages(runtime.clone()),
            tails: Aside::for_tails(runtime.clone()),
            peer,
            bounds,
            runtime,
            ended: CancellationToken::new(),
            inbox,
            in_flight: InFlight::default(),
            notes: Notes::default(),
            tap,
            failure: Mutex::new(None),
            closed: AtomicBool::new(false),
            established: AtomicBool::new(false),
            reached: tokio::sync::Mutex::new(None),
            made: Instant::now(),
            heard: AtomicU64::new(0),
            last_id: AtomicU64::new(0),
        }
    }

    /// The id of the next request.
    pub(crate) fn next_id(&self) -> RequestId {
        RequestId::new(self.last_id.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Ends the connection because of this; the first reason stays.
    pub(crate) fn fail(&self, error: Error) {
        if !self.closed.load(Ordering::SeqCst) && !self.ended.is_cancelled() {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            if failure.is_none() {
                let server = self.peer.server();
                tracing::debug!(%server, transport = "http", %error, "connection lost");
                *failure = Some(error.with_server(server));
            }
        }
        self.end();
    }

    /// The application wants the end.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.end();
    }

    fn end(&self) {
        self.ended.cancel();
        self.inbox.finish();
    }

    /// The error of what was under way, or comes after the end.
    pub(crate) fn ended_error(&self, delivery: Delivery) -> Error {
        match self.failure() {
            Some(failure) => failure.with_delivery(delivery),
            None => Error::new(ErrorKind::Closed, "the connection was closed")
                .with_server(self.peer.server())
                .with_delivery(delivery),
        }
    }

    /// A handshake was answered well.
    pub(crate) fn establish(&self) {
        self.established.store(true, Ordering::Release);
    }

    /// The server gave a sign of life.
    pub(crate) fn heard(&self) {
        self.heard.store(self.micros(), Ordering::Relaxed);
    }

    /// Whether the server gave a sign of life since then.
    pub(crate) fn heard_since(&self, then: Instant) -> bool {
        let then = then.saturating_duration_since(self.made).as_micros();
        u128::from(self.heard.load(Ordering::Relaxed)) >= then
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.made.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Shows a message of ours to the tap, and counts it.
    pub(crate) fn sending(&self, body: &[u8]) {
        self.notes.sent();
        self.tap_bytes(Direction::Sent, None, body);
    }

    /// Shows to the tap an answer that is no message of its own.
    pub(crate) fn answered(&self, status: StatusCode, body: &[u8]) {
        self.tap_bytes(Direction::Received, Some(status), body);
    }

    fn tap_bytes(&self, direction: Direction, status: Option<StatusCode>, body: &[u8]) {
        if self.tap.is_some() {
            self.tap(direction, status, &String::from_utf8_lossy(body));
        }
    }

    /// Shows something to the tap.
    pub(crate) fn tap(&self, direction: Direction, status: Option<StatusCode>, text: &str) {
        let Some(tap) = &self.tap else { return };
        let server = self.peer.server();
        let event = WireEvent::now(server, TransportKind::Http, direction, text);
        let event = match status {
            Some(status) => event.with_status(status.as_u16()),
            None => event,
        };
        guarded(|| tap.event(&event));
    }

    /// Called when a connection failed: finds out whether the server is gone, and ends this
    /// connection if it is. A failure is one of its request only, as long as another connection
    /// can be made.
    ///
    /// Those that fail together wait for one check. Dropping the future is safe.
    pub(crate) async fn verify(&self, cause: &Error) {
        let is_about_the_connection =
            matches!(cause.kind(), ErrorKind::Connect | ErrorKind::ConnectionLost);
        if !is_about_the_connection || !self.established.load(Ordering::Acquire) {
            return;
        }
        let asked = Instant::now();
        let mut reached = self.reached.lock().await;
        if self.ended.is_cancelled() || reached.is_some_and(|reached| reached > asked) {
            return;
        }
        for pause in REACH_PAUSES {
            sleep(pause).await;
            let gone = match timeout(REACH_TIMEOUT, self.peer.reach()).await {
                Ok(Ok(())) => false,
                Ok(Err(error)) => error.kind() == ErrorKind::Connect,
                // Silence means nothing, unless no connection could be made before either.
                Err(_) => cause.kind() == ErrorKind::Connect,
            };
            if !gone {
                *reached = Some(Instant::now());
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

impl TransportMonitor for Link {
    fn kind(&self) -> TransportKind {
        TransportKind::Http
    }

    fn diagnostics(&self) -> Diagnostics {
        self.notes.diagnostics(self.inbox.dropped())
    }

    fn failure(&self) -> Option<Error> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("peer", &self.peer)
            .field("ended", &self.ended.is_cancelled())
            .finish_non_exhaustive()
    }
}
