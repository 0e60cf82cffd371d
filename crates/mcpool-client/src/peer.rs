//! The caller's side of one JSON-RPC connection: sends requests and waits for their answers.
//!
//! rmcp's own session is not used, because of what it does on the same transports: pending calls
//! wait until a dead transport is drained and closed, each notification runs in a task of its own
//! (so progress may come out of order), and a list may come from a cache when the server is dead.
//! `tests/rmcp_session.rs` shows it. So rmcp gives the messages, and this file and `driver.rs`
//! give the session.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use mcpool_core::{
    CloseReason, Delivery, Error, Progress, ProgressCallback, Result, ServerName, ServerNotice,
    ServerRequestHandler, ShutdownPolicy, Transport, TransportKind, TransportMonitor,
    model::{
        ClientNotification, ClientRequest, GetMeta, JsonObject, MetaObject, ProgressToken,
        RequestId, RequestMetaObject, ServerResult, SubscriptionFilter,
    },
};
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    task::AbortHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{driver::Driver, error_map};

/// How many notices a slow reader may fall behind before it misses some.
const NOTICE_CAPACITY: usize = 256;

/// Stands for "no limit" in clock arithmetic: no sum of instants overflows with it.
const FAR: Duration = Duration::from_secs(60 * 60 * 24 * 365);

/// A handle to the connection; cheap to clone.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<Command>,
}

/// What the handle and the driver both know.
pub(crate) struct Shared {
    pub(crate) server: ServerName,
    pub(crate) kind: TransportKind,
    pub(crate) monitor: Arc<dyn TransportMonitor>,
    pub(crate) shutdown: ShutdownPolicy,
    /// Cancelled to ask for an orderly close.
    pub(crate) closing: CancellationToken,
    /// Cancelled the moment the connection can no longer be used.
    pub(crate) dead: CancellationToken,
    /// Cancelled when the transport is closed and the driver is gone.
    pub(crate) finished: CancellationToken,
    pub(crate) reason: watch::Sender<Option<CloseReason>>,
    pub(crate) notices: broadcast::Sender<ServerNotice>,
    /// How many questions of the server a person, or the application, is answering now.
    pub(crate) answering: AtomicUsize,
    next_id: AtomicI64,
    /// `_meta` that every request carries from MCP 2026-07-28 on; empty cell before.
    modern: OnceLock<RequestMetaObject>,
    log_level: Mutex<Option<RequestMetaObject>>,
    origin: Instant,
    last_heard: AtomicU64,
    task: OnceLock<AbortHandle>,
}

impl Shared {
    /// Notes that the server was heard of.
    pub(crate) fn heard(&self) {
        let now = u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last_heard.fetch_max(now, Ordering::Relaxed);
    }

    pub(crate) fn last_heard(&self) -> Instant {
        self.origin + Duration::from_micros(self.last_heard.load(Ordering::Relaxed))
    }

    /// Whether the session is spoken in the era without `initialize`.
    pub(crate) fn is_modern(&self) -> bool {
        self.modern.get().is_some()
    }
}

/// What the handle asks of the driver.
pub(crate) enum Command {
    Request(Box<Outgoing>),
    Notify {
        notification: Box<ClientNotification>,
        done: oneshot::Sender<Result<()>>,
    },
    /// Nobody waits for the answer any more.
    Cancel {
        id: RequestId,
        /// What the server is told; `None` tells it nothing.
        reason: Option<&'static str>,
    },
}

/// One request on its way to the driver.
pub(crate) struct Outgoing {
    pub(crate) id: RequestId,
    pub(crate) request: ClientRequest,
    pub(crate) slot: Arc<Slot>,
    pub(crate) reply: oneshot::Sender<Result<ServerResult>>,
    /// Told what a listen stream was granted.
    pub(crate) granted: Option<oneshot::Sender<SubscriptionFilter>>,
}

/// What the caller and the driver share about one request.
pub(crate) struct Slot {
    stage: AtomicU8,
    progressed: Mutex<Option<Instant>>,
    callback: Option<ProgressCallback>,
    /// A probe: its answer is no activity.
    pub(crate) probe: bool,
    /// A listen stream: stays open, its notifications are notices.
    pub(crate) listen: bool,
}

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stage {
    /// Not handed to the transport.
    Queued = 0,
    /// Handed to the transport.
    Sending = 1,
    /// The caller left before it was handed to the transport: it never will be.
    Abandoned = 2,
}

impl Slot {
    /// The driver takes it up; `false` when the caller has left.
    pub(crate) fn start(&self) -> bool {
        self.advance(Stage::Sending)
    }

    /// The caller leaves; `true` when nothing was sent, nor will be.
    fn abandon(&self) -> bool {
        self.advance(Stage::Abandoned) || self.stage() == Stage::Abandoned
    }

    fn advance(&self, to: Stage) -> bool {
        self.stage
            .compare_exchange(
                Stage::Queued as u8,
                to as u8,
                Ordering::AcqRel,
                Ordering::Acquire,
            )
            .is_ok()
    }

    pub(crate) fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Acquire) {
            0 => Stage::Queued,
            1 => Stage::Sending,
            _ => Stage::Abandoned,
        }
    }

    /// Notes progress and tells the caller's callback. A callback that panics harms nobody else.
    pub(crate) fn progress(&self, progress: Progress) {
        *self
            .progressed
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        if let Some(callback) = &self.callback {
            let told =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| callback(progress)));
            if told.is_err() {
                tracing::error!("a progress callback panicked");
            }
        }
    }

    fn last_progress(&self) -> Option<Instant> {
        *self
            .progressed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request and how it is to be treated.
pub(crate) struct Ask {
    request: ClientRequest,
    idle: Duration,
    deadline: Option<Instant>,
    progress: Option<ProgressCallback>,
    meta: Option<JsonObject>,
    probe: bool,
    handshake: bool,
    granted: Option<oneshot::Sender<SubscriptionFilter>>,
}

impl Ask {
    pub(crate) fn new(request: ClientRequest) -> Self {
        Self {
            request,
            idle: FAR,
            deadline: None,
            progress: None,
            meta: None,
            probe: false,
            handshake: false,
            granted: None,
        }
    }

    /// Sets how long the server may be silent; progress starts it anew.
    pub(crate) fn idle(mut self, timeout: Duration) -> Self {
        self.idle = timeout.min(FAR);
        self
    }

    /// Sets when it ends, whatever the progress.
    pub(crate) fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    pub(crate) fn progress(mut self, callback: Option<ProgressCallback>) -> Self {
        self.progress = callback;
        self
    }

    pub(crate) fn meta(mut self, meta: Option<JsonObject>) -> Self {
        self.meta = meta;
        self
    }

    /// Its answer does not count as activity.
    pub(crate) fn probe(mut self) -> Self {
        self.probe = true;
        self
    }

    /// Never cancelled by a notification: `initialize` must not be (MCP, "Cancellation"), and a
    /// server that waits for `initialize` may choke on anything else.
    pub(crate) fn handshake(mut self) -> Self {
        self.handshake = true;
        self
    }

    /// A listen stream: stays open, and tells what it was granted.
    pub(crate) fn listen(mut self, granted: oneshot::Sender<SubscriptionFilter>) -> Self {
        self.granted = Some(granted);
        self
    }
}

impl Peer {
    /// Starts the driver of a transport.
    pub(crate) fn start(
        server: ServerName,
        shutdown: ShutdownPolicy,
        transport: Box<dyn Transport>,
        handler: Arc<dyn ServerRequestHandler>,
    ) -> Self {
        let monitor = transport.monitor();
        let (commands, receiver) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            server,
            kind: monitor.kind(),
            monitor,
            shutdown,
            closing: CancellationToken::new(),
            dead: CancellationToken::new(),
            finished: CancellationToken::new(),
            reason: watch::Sender::new(None),
            notices: broadcast::Sender::new(NOTICE_CAPACITY),
            answering: AtomicUsize::new(0),
            next_id: AtomicI64::new(1),
            modern: OnceLock::new(),
            log_level: Mutex::new(None),
            origin: Instant::now(),
            last_heard: AtomicU64::new(0),
            task: OnceLock::new(),
        });
        let driver = Driver::new(transport, Arc::clone(&shared), receiver, handler);
        let task = tokio::spawn(driver.run());
        // The cell was made empty above.
        let _ = shared.task.set(task.abort_handle());
        Self { shared, commands }
    }

    /// From here on every request carries this `_meta`: the session is spoken in the era without
    /// `initialize`.
    pub(crate) fn speak_modern(&self, meta: RequestMetaObject) {
        let _ = self.shared.modern.set(meta);
    }

    /// Sets the `_meta` that asks for log messages, with each request from MCP 2026-07-28 on.
    pub(crate) fn set_log_meta(&self, meta: RequestMetaObject) {
        *self
            .shared
            .log_level
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(meta);
    }

    /// Sends a request and waits for its answer.
    ///
    /// Dropping the future cancels the request and tells the server. The future ends at once when
    /// the connection does.
    pub(crate) async fn ask(&self, ask: Ask) -> Result<ServerResult> {
        let Ask {
            mut request,
            idle,
            deadline,
            progress,
            meta,
            probe,
            handshake,
            granted,
        } = ask;
        let operation = error_map::operation(request.method());
        let id = RequestId::Number(self.shared.next_id.fetch_add(1, Ordering::Relaxed));
        self.stamp(&mut request, &id, meta, handshake);

        let slot = Arc::new(Slot {
            stage: AtomicU8::new(Stage::Queued as u8),
            progressed: Mutex::new(None),
            callback: progress,
            probe,
            listen: granted.is_some(),
        });
        let (reply, mut answer) = oneshot::channel();
        let outgoing = Outgoing {
            id: id.clone(),
            request,
            slot: Arc::clone(&slot),
            reply,
            granted,
        };
        let finish = |error: Error| {
            error
                .with_server(&self.shared.server)
                .with_operation(operation)
        };
        if self
            .commands
            .send(Command::Request(Box::new(outgoing)))
            .is_err()
        {
            return Err(finish(self.gone()));
        }
        let mut guard = CancelOnDrop {
            peer: self,
            id: Some(id),
            slot: &slot,
            reason: (!handshake).then_some("the caller no longer waits"),
        };

        let started = Instant::now();
        let deadline = deadline.unwrap_or_else(|| started + FAR);
        let mut wake = (started + idle).min(deadline);
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => {
                    guard.id = None;
                    return match answer {
                        Ok(answer) => answer.map_err(finish),
                        Err(_) => Err(finish(self.gone().with_delivery(Delivery::Unknown))),
                    };
                }
                () = tokio::time::sleep_until(wake) => {}
            }
            let now = Instant::now();
            // While somebody answers a question of the server, the server is not to blame.
            let active = if self.shared.answering.load(Ordering::Relaxed) > 0 {
                now
            } else {
                slot.last_progress().unwrap_or(started)
            };
            wake = (active + idle).min(deadline);
            if wake <= now {
                guard.reason = guard.reason.and(Some("the request timed out"));
                let delivery = if slot.abandon() {
                    Delivery::NotSent
                } else {
                    Delivery::Unknown
                };
                return Err(finish(error_map::timed_out(now - started, now >= deadline))
                    .with_delivery(delivery));
            }
        }
    }

    /// Sends a notification and waits until the transport took it.
    pub(crate) async fn notify(&self, notification: ClientNotification) -> Result<()> {
        let (done, sent) = oneshot::channel();
        let command = Command::Notify {
            notification: Box::new(notification),
            done,
        };
        let outcome = match self.commands.send(command) {
            Ok(()) => sent.await.unwrap_or_else(|_| Err(self.gone())),
            Err(_) => Err(self.gone()),
        };
        outcome.map_err(|error| error.with_server(&self.shared.server))
    }

    /// Why a request that was never sent cannot be sent any more.
    pub(crate) fn gone(&self) -> Error {
        error_map::gone(self.shared.reason.borrow().as_ref())
    }

    /// Ends the connection in the orderly way and waits until it has ended.
    pub(crate) async fn close(&self) {
        self.shared.closing.cancel();
        self.shared.finished.cancelled().await;
    }

    /// Drops the transport as soon as the runtime gets to it, without an orderly close.
    pub(crate) fn abort(&self) {
        if let Some(task) = self.shared.task.get() {
            task.abort();
        }
    }

    /// Waits for the end of the connection.
    pub(crate) async fn closed(&self) -> CloseReason {
        let mut reason = self.shared.reason.subscribe();
        match reason.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or(CloseReason::Requested),
            // Not reached: `self` holds the sender.
            Err(_) => CloseReason::Requested,
        }
    }

    fn stamp(
        &self,
        request: &mut ClientRequest,
        id: &RequestId,
        meta: Option<JsonObject>,
        handshake: bool,
    ) {
        let wants_progress = !handshake && reports_progress(request);
        let modern = self.shared.modern.get().filter(|_| !handshake);
        if modern.is_none() && meta.is_none() && !wants_progress {
            return;
        }
        let target = request.get_meta_mut();
        if let Some(modern) = modern {
            target.extend(modern.clone());
            let log_level = self
                .shared
                .log_level
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(level) = &*log_level {
                target.extend(level.clone());
            }
        }
        if let Some(meta) = meta {
            target.extend(RequestMetaObject(MetaObject(meta)));
        }
        if wants_progress {
            target.set_progress_token(ProgressToken(id.clone()));
        }
    }
}

/// Whether a request may take long enough for the server to tell of its progress.
fn reports_progress(request: &ClientRequest) -> bool {
    !matches!(
        request,
        ClientRequest::PingRequest(_)
            | ClientRequest::InitializeRequest(_)
            | ClientRequest::DiscoverRequest(_)
            | ClientRequest::SubscriptionsListenRequest(_)
            | ClientRequest::SubscribeRequest(_)
            | ClientRequest::UnsubscribeRequest(_)
            | ClientRequest::SetLevelRequest(_)
    )
}

/// Tells the server that nobody waits for the answer any more.
struct CancelOnDrop<'a> {
    peer: &'a Peer,
    id: Option<RequestId>,
    slot: &'a Slot,
    reason: Option<&'static str>,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.slot.abandon();
            // Fails when the connection is over: then there is nothing to cancel.
            let _ = self.peer.commands.send(Command::Cancel {
                id,
                reason: self.reason,
            });
        }
    }
}

/// Closes the transport at once when a connect is dropped or fails, unless it is kept.
pub(crate) struct Opened {
    peer: Peer,
    kept: bool,
}

impl Opened {
    pub(crate) fn new(peer: Peer) -> Self {
        Self { peer, kept: false }
    }

    /// The connect has succeeded.
    pub(crate) fn keep(mut self) -> Peer {
        self.kept = true;
        self.peer.clone()
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if !self.kept {
            self.peer.abort();
        }
    }
}
