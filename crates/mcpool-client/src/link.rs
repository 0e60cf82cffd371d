//! One open transport and what a session adds to each request on it: the clock, the `_meta` of the
//! era, the name of the server and its stderr in errors.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use mcpool_core::{
    Caller, Delivery, Diagnostics, Error, ErrorKind, Masker, NoticeSender, Notification, Progress,
    ProgressCallback, ProtocolVersion, Raw, RawObject, RequestClass, RequestId, RequestSink,
    Result, Sensitivity, ServerName, ServerSpec, ShutdownPolicy, Transport, TransportKind,
    TransportMonitor, WireRequest,
};
use tokio::{
    runtime::Handle,
    time::{Instant, Sleep, sleep_until},
};

use crate::{
    activity::Activity,
    callers::Callers,
    clock::{Clock, Reading},
    pauses::Pauses,
    stream::StreamSink,
};

/// How many notices a slow reader may be behind before it misses some. The ring is memory of every
/// idle connection.
const NOTICES: usize = 32;

/// What is added to the bound of the shutdown policy before a transport that does not keep its
/// contract is not waited for any more.
const CLOSE_MARGIN: Duration = Duration::from_secs(1);

/// One open transport. Dropping the last reference drops it.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) server: ServerName,
    masker: Masker,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) monitor: Arc<dyn TransportMonitor>,
    pub(crate) notices: NoticeSender,
    pub(crate) activity: Arc<Activity>,
    pub(crate) pauses: Arc<Pauses>,
    pub(crate) callers: Arc<Callers>,
    agreed: OnceLock<Agreed>,
    in_flight: AtomicUsize,
    shutdown: ShutdownPolicy,
    /// That of the connect: what the session starts by itself runs there, no matter who asks for it.
    pub(crate) runtime: Handle,
    streams: Mutex<Vec<Weak<StreamSink>>>,
}

/// What was agreed with the server.
#[derive(Debug)]
struct Agreed {
    version: ProtocolVersion,
    /// The `_meta` of every request from MCP 2026-07-28 on.
    meta: Option<RwLock<Arc<RawObject>>>,
}

/// One request of the session.
pub(crate) struct Ask<'a> {
    /// What is sent.
    pub(crate) wire: WireRequest<'a>,
    /// Notified of progress.
    pub(crate) progress: Option<&'a ProgressCallback>,
    /// Hears what is said in its course, and is asked.
    pub(crate) caller: Option<&'a Arc<dyn Caller>>,
    /// Whether the answer is no activity: a probe.
    pub(crate) quiet: bool,
}

impl<'a> Ask<'a> {
    pub(crate) fn new(wire: WireRequest<'a>) -> Self {
        Self {
            wire,
            progress: None,
            caller: None,
            quiet: false,
        }
    }
}

impl Link {
    pub(crate) fn new(spec: &ServerSpec, runtime: Handle, transport: Arc<dyn Transport>) -> Self {
        let monitor = transport.monitor();
        Self {
            server: spec.name.clone(),
            masker: spec.masker.clone(),
            transport,
            monitor,
            notices: NoticeSender::new(NOTICES),
            activity: Activity::new(),
            pauses: Arc::default(),
            callers: Arc::default(),
            agreed: OnceLock::new(),
            in_flight: AtomicUsize::new(0),
            shutdown: spec.policy.shutdown.clone(),
            runtime,
            streams: Mutex::default(),
        }
    }

    pub(crate) fn kind(&self) -> TransportKind {
        self.monitor.kind()
    }

    /// The session has begun. With `meta`, every request carries it from here on.
    pub(crate) fn agree(&self, version: ProtocolVersion, meta: Option<RawObject>) {
        let meta = meta.map(|meta| RwLock::new(Arc::new(meta)));
        // Said once, by the one negotiation.
        let _ = self.agreed.set(Agreed { version, meta });
    }

    /// Whether the session is spoken in the era without `initialize`.
    pub(crate) fn is_modern(&self) -> bool {
        self.agreed
            .get()
            .is_some_and(|agreed| agreed.meta.is_some())
    }

    /// The version that was agreed on.
    pub(crate) fn version(&self) -> Option<&ProtocolVersion> {
        self.agreed.get().map(|agreed| &agreed.version)
    }

    /// Changes a member of the `_meta` of every request.
    pub(crate) fn set_meta(&self, name: &str, value: Raw) {
        if let Some(meta) = self.agreed.get().and_then(|agreed| agreed.meta.as_ref()) {
            let mut meta = meta.write().unwrap_or_else(PoisonError::into_inner);
            Arc::make_mut(&mut meta).insert(name, value);
        }
    }

    /// The members that the `_meta` of a request gets: the session's, and those that the caller
    /// wants. The version is the session's in any case: a header repeats it.
    pub(crate) fn meta(&self, wanted: Option<&RawObject>) -> Option<Arc<RawObject>> {
        let meta = self.agreed.get().and_then(|agreed| agreed.meta.as_ref());
        let Some(meta) = meta else {
            // What the era without `initialize` says of each request was said once here.
            return wanted.map(|wanted| {
                let mut wanted = wanted.clone();
                wanted.retain(|name| !name.starts_with(META_RESERVED));
                Arc::new(wanted)
            });
        };
        let meta = Arc::clone(&meta.read().unwrap_or_else(PoisonError::into_inner));
        let Some(wanted) = wanted else {
            return Some(meta);
        };
        let mut own = RawObject::clone(&meta);
        for (name, value) in wanted.iter().filter(|(name, _)| *name != META_VERSION) {
            own.insert(name, value.clone());
        }
        Some(Arc::new(own))
    }

    /// Sends a request and waits for its answer, on a clock.
    ///
    /// Dropping the future cancels the request.
    pub(crate) async fn ask(
        &self,
        ask: Ask<'_>,
        clock: &Clock,
        operation: &'static str,
    ) -> Result<Raw> {
        let sink = Arc::new(CallSink {
            id: AtomicU64::new(0),
            sent: AtomicBool::new(false),
            heard: AtomicU64::new(0),
            activity: Arc::clone(&self.activity),
            wants_progress: reports_progress(ask.wire.method),
            callback: ask.progress.cloned(),
            caller: ask
                .caller
                .map(|caller| (Arc::clone(&self.callers), Arc::clone(caller))),
        });
        let _leaves = LeavesCallers(&sink);
        let _in_flight = InFlight::enter(&self.in_flight);
        let sent = Instant::now();
        let wire = ask.wire.with_timeout(clock.left(sent));
        let mut call = self.transport.request(wire, Some(Arc::clone(&sink) as _));
        let mut timer = pin!(None::<Sleep>);
        let mut due = clock.first_look(sent);
        let outcome = poll_fn(|context| {
            if let Poll::Ready(answer) = call.as_mut().poll(context) {
                return Poll::Ready(Ok(answer));
            }
            loop {
                if timer.is_none() {
                    if Handle::try_current().is_err() {
                        return Poll::Ready(Err(None));
                    }
                    timer.set(Some(sleep_until(due)));
                }
                let Some(sleep) = timer.as_mut().as_pin_mut() else {
                    return Poll::Pending;
                };
                if sleep.poll(context).is_pending() {
                    return Poll::Pending;
                }
                match sink.read(clock, sent, &self.pauses) {
                    Reading::Until(next) => {
                        due = next;
                        timer.set(None);
                    }
                    reading => return Poll::Ready(Err(Some(reading))),
                }
            }
        })
        .await;
        let error = match outcome {
            Ok(answer) => {
                let heard = match &answer {
                    Ok(_) => true,
                    Err(error) => error.delivery() == Delivery::Answered,
                };
                if heard && !ask.quiet {
                    self.activity.heard();
                }
                match answer {
                    Ok(answer) => return Ok(answer),
                    Err(error) => error,
                }
            }
            Err(reading) => {
                // Dropping it withdraws it: from here on nothing of it is written any more.
                drop(call);
                let delivery = if sink.sent.load(Ordering::Acquire) {
                    Delivery::Unknown
                } else {
                    Delivery::NotSent
                };
                match reading {
                    Some(reading) => timed_out(sent.elapsed(), reading),
                    None => no_runtime(),
                }
                .with_delivery(delivery)
            }
        };
        Err(self.explain(error).with_operation(operation))
    }

    /// Opens a listen stream and waits for its end, for as long as it takes.
    pub(crate) async fn listen(&self, params: &Raw, sink: &Arc<StreamSink>) -> Result<Raw> {
        let meta = self.meta(None);
        let wire = WireRequest::new("subscriptions/listen", Some(params))
            .with_meta(meta.as_deref())
            .with_version(self.version())
            .with_class(RequestClass::Listen);
        let end = self
            .transport
            .request(wire, Some(Arc::clone(sink) as _))
            .await;
        end.map_err(|error| self.explain(error).with_operation("subscriptions/listen"))
    }

    /// Makes a stream known, so that what the transport cannot route to it finds it all the same.
    pub(crate) fn add_stream(&self, stream: &Arc<StreamSink>) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.retain(|stream| stream.strong_count() > 0);
        streams.push(Arc::downgrade(stream));
    }

    /// The open stream whose request has this id.
    pub(crate) fn stream(&self, id: RequestId) -> Option<Arc<StreamSink>> {
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let mut streams = streams.iter().filter_map(Weak::upgrade);
        streams.find(|stream| stream.is(id))
    }

    /// Whether a request of ours waits for its answer; listen streams do not count.
    pub(crate) fn has_requests(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) > 0
    }

    /// Adds what every error of this connection carries, and takes known secrets out of it: a
    /// server may repeat what it was given.
    pub(crate) fn explain(&self, error: Error) -> Error {
        let error = error.with_server(&self.server);
        let error = match error.kind() {
            ErrorKind::ProcessExited | ErrorKind::ConnectionLost | ErrorKind::Timeout => {
                with_stderr(error, &*self.monitor)
            }
            _ => error,
        };
        error.masked(&self.masker)
    }

    /// What the transport knows, without the secrets that a server repeats.
    pub(crate) fn diagnostics(&self) -> Diagnostics {
        let mut seen = self.monitor.diagnostics();
        for text in seen.skipped_samples.iter_mut().chain(&mut seen.last_error) {
            *text = self.masker.mask(text, Sensitivity::Value).into_owned();
        }
        seen
    }

    /// Ends the connection in the orderly way, bounded.
    pub(crate) async fn close(&self) {
        let close = self.transport.close();
        let outcome = if Handle::try_current().is_ok() {
            let bound = self.shutdown.total.saturating_add(CLOSE_MARGIN);
            tokio::time::timeout(bound, close).await
        } else {
            Ok(close.await)
        };
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(server = %self.server, kind = %error.kind(), "the close was not orderly");
            }
            Err(_) => {
                tracing::warn!(server = %self.server, "the transport did not close in time");
            }
        }
    }
}

/// The member of `_meta` that says the version (MCP 2026-07-28, "`_meta`").
pub(crate) const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";

/// The members of `_meta` that belong to the era without `initialize`.
const META_RESERVED: &str = "io.modelcontextprotocol/";

/// Whether a request may take long enough for the server to report its progress.
fn reports_progress(method: &str) -> bool {
    !matches!(
        method,
        "ping"
            | "initialize"
            | "server/discover"
            | "resources/subscribe"
            | "resources/unsubscribe"
            | "logging/setLevel"
    )
}

/// Adds the last lines of stderr, unless the error has them.
pub(crate) fn with_stderr(error: Error, monitor: &dyn TransportMonitor) -> Error {
    if !error.stderr_tail().is_empty() {
        return error;
    }
    let lines = monitor.diagnostics().stderr_tail;
    if lines.is_empty() {
        error
    } else {
        error.with_stderr_tail(lines)
    }
}

/// Adds to the error of a program that was not ready in time what it wrote to stdout in place of
/// messages: its usage, or that it listens on a port.
pub(crate) fn with_stdout(error: Error, monitor: &dyn TransportMonitor) -> Error {
    if error.kind() != ErrorKind::Timeout || monitor.kind() != TransportKind::Stdio {
        return error;
    }
    match monitor.diagnostics().skipped_samples.first() {
        Some(said) => {
            let message = format!("{}; its stdout began with {said:?}", error.message());
            error.with_message(message)
        }
        None => error,
    }
}

/// The error of a thread on which nothing can wait.
pub(crate) fn no_runtime() -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        "this needs a tokio runtime: call it from inside one",
    )
}

fn timed_out(waited: Duration, reading: Reading) -> Error {
    let waited = Duration::from_millis(u64::try_from(waited.as_millis()).unwrap_or(u64::MAX));
    let message = if reading == Reading::Over {
        format!("no answer within {waited:?}, the most that is allowed for one request")
    } else {
        format!("no answer and no progress within {waited:?}")
    };
    Error::new(ErrorKind::Timeout, message)
}

/// Counts a request for as long as it is under way.
struct InFlight<'a>(&'a AtomicUsize);

impl<'a> InFlight<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the transport reports one request.
struct CallSink {
    /// 0 until there is one: ids count from 1.
    id: AtomicU64,
    sent: AtomicBool,
    /// When progress was last heard of, by the activity's clock; 0 for never.
    heard: AtomicU64,
    activity: Arc<Activity>,
    wants_progress: bool,
    callback: Option<ProgressCallback>,
    caller: Option<(Arc<Callers>, Arc<dyn Caller>)>,
}

/// Takes the caller of a request out when it ends.
struct LeavesCallers<'a>(&'a CallSink);

impl Drop for LeavesCallers<'_> {
    fn drop(&mut self) {
        if let Some((callers, _)) = &self.0.caller {
            callers.leave(RequestId::new(self.0.id.load(Ordering::Acquire)));
        }
    }
}

impl CallSink {
    fn read(&self, clock: &Clock, sent: Instant, pauses: &Pauses) -> Reading {
        let id = match self.id.load(Ordering::Acquire) {
            0 => None,
            id => Some(RequestId::new(id)),
        };
        let heard = match self.heard.load(Ordering::Acquire) {
            0 => sent,
            micros => self.activity.at(micros).max(sent),
        };
        let now = Instant::now();
        let paused = |from, to| pauses.of(id, from, to);
        clock.read(now, sent, heard, paused, pauses.is_open(id))
    }
}

impl RequestSink for CallSink {
    fn assigned(&self, id: RequestId) {
        self.id.store(id.get(), Ordering::Release);
        if let Some((callers, caller)) = &self.caller {
            callers.enter(id, caller);
        }
    }

    fn sent(&self) {
        self.sent.store(true, Ordering::Release);
    }

    fn returned(&self) {
        self.sent.store(false, Ordering::Release);
    }

    fn wants_progress(&self) -> bool {
        self.wants_progress
    }

    fn progress(&self, progress: Progress) {
        self.heard.store(self.activity.heard(), Ordering::Release);
        if let Some(callback) = &self.callback {
            callback(progress);
        }
    }

    fn notification(&self, notification: &Notification) -> bool {
        let caller = self.caller.as_ref();
        caller.is_some_and(|(_, caller)| caller.heard(notification))
    }
}
