//! One connection: what waits, what is written beside the requests, and how it ends.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use mcpool_core::{
    Delivery, Error, ErrorKind, InboxSender, Raw, RequestId, Result, RpcError, ServerRequest,
    encode_response,
};
use tokio::{runtime::Handle, sync::watch};

use crate::{
    departure::Departure,
    halves::{Outgoing, WriteHalf},
    pending::Pending,
    wire::Wire,
};

/// How long the reading half may take to say why the connection ended, once the writing one has
/// seen that it did.
const GATHER: Duration = Duration::from_millis(200);
/// Cancellations that may wait to be written. More are left out: they are a courtesy.
const MAX_CANCELS: usize = 256;
/// Refusals of requests of the server that may wait to be written.
const MAX_REFUSALS: usize = 64;

pub(crate) struct Connection {
    pub(crate) wire: Arc<Wire>,
    pub(crate) write: Arc<dyn WriteHalf>,
    pub(crate) inbox: InboxSender,
    /// The runtime of the connect.
    pub(crate) runtime: Handle,
    pending: Mutex<Pending>,
    last_id: AtomicU64,
    ended: watch::Sender<bool>,
    /// The same, for who only looks: a look at the channel takes its lock.
    has_ended: AtomicBool,
    ending: AtomicBool,
    cancels: AtomicUsize,
    refusals: AtomicUsize,
}

impl Connection {
    pub(crate) fn new(
        wire: Arc<Wire>,
        write: Arc<dyn WriteHalf>,
        inbox: InboxSender,
        runtime: Handle,
    ) -> Self {
        Self {
            wire,
            write,
            inbox,
            runtime,
            pending: Mutex::default(),
            last_id: AtomicU64::new(0),
            ended: watch::Sender::new(false),
            has_ended: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            cancels: AtomicUsize::new(0),
            refusals: AtomicUsize::new(0),
        }
    }

    /// The next id: counted from 1.
    pub(crate) fn next_id(&self) -> RequestId {
        RequestId::new(self.last_id.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub(crate) fn was_assigned(&self, id: RequestId) -> bool {
        (1..=self.last_id.load(Ordering::Relaxed)).contains(&id.get())
    }

    pub(crate) fn pending(&self) -> MutexGuard<'_, Pending> {
        lock(&self.pending)
    }

    /// Ends the connection: for this reason, or because it is closed. The first end counts.
    pub(crate) fn end(&self, reason: Option<Error>) {
        let lost = reason.is_some();
        let reason = reason
            .unwrap_or_else(|| Error::new(ErrorKind::Closed, "the connection was closed"))
            .with_server(&self.wire.server);
        let waiting = {
            let mut pending = self.pending();
            if lost && !pending.has_ended() {
                // Before anybody can see the end.
                self.wire.monitor.fail(reason.clone());
            }
            match pending.end(reason.clone()) {
                Some(waiting) => waiting,
                None => return,
            }
        };
        if lost {
            tracing::debug!(
                server = %self.wire.server,
                transport = self.wire.kind.as_str(),
                error = %reason,
                waiting = waiting.len(),
                "connection lost"
            );
        }
        for request in waiting {
            request.ended(&reason);
        }
        self.wire.monitor.set_dropped_notices(self.inbox.dropped());
        self.inbox.finish();
        self.has_ended.store(true, Ordering::Release);
        self.ended.send_replace(true);
    }

    /// The writing half has seen the end. The reading half may know why; if it does not say so in
    /// time, this is the reason.
    pub(crate) fn expect_end(self: &Arc<Self>, reason: Error) {
        if self.ending.swap(true, Ordering::Relaxed) {
            return;
        }
        let fallback = Fallback(Arc::clone(self), reason);
        self.runtime.spawn(async move {
            let fallback = fallback;
            tokio::select! {
                () = fallback.0.ended() => {}
                () = tokio::time::sleep(GATHER) => {}
            }
        });
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// Waits for the end.
    pub(crate) async fn ended(&self) {
        // It fails only when the sender is gone, and we hold it.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    /// The error of whatever is tried after the end.
    pub(crate) fn end_error(&self, delivery: Delivery) -> Error {
        let reason = self.pending().reason().unwrap_or_else(|| {
            Error::new(ErrorKind::ConnectionLost, "the connection has ended")
                .with_server(&self.wire.server)
        });
        reason.with_delivery(delivery)
    }

    /// Writes a message that waits for no answer.
    pub(crate) async fn deliver(self: &Arc<Self>, text: String) -> Result<()> {
        if self.has_ended() {
            return Err(self.end_error(Delivery::NotSent));
        }
        let departure = Departure::new(&self.wire, None);
        let mut write = self
            .write
            .write(Outgoing::followed(text, departure.clone()));
        let delivery = tokio::select! {
            biased;
            written = &mut write => match written {
                Ok(()) => return Ok(()),
                Err(failure) if !failure.ended => {
                    return Err(failure.error.with_server(&self.wire.server));
                }
                Err(failure) => {
                    let delivery = failure.error.delivery();
                    self.expect_end(failure.error);
                    self.ended().await;
                    delivery
                }
            },
            () = self.ended() => {
                // What was not written is withdrawn; then what is known is final.
                drop(write);
                departure.delivery()
            }
        };
        Err(self.end_error(delivery))
    }

    /// Notifies the server that a request was given up. Nobody waits for it.
    pub(crate) fn cancel(self: &Arc<Self>, id: RequestId) {
        let text = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
        );
        if !self.say(text, |connection| &connection.cancels, MAX_CANCELS) {
            tracing::debug!(
                server = %self.wire.server,
                transport = self.wire.kind.as_str(),
                "the server does not read; a cancellation is left out"
            );
        }
    }

    /// Refuses a request of the server. Nobody waits for it.
    pub(crate) fn refuse(self: &Arc<Self>, id: &Raw, error: RpcError) {
        let Ok(text) = encode_response(id, &Err(error)) else {
            return;
        };
        if !self.say(text, |connection| &connection.refusals, MAX_REFUSALS) {
            self.end(Some(Error::new(
                ErrorKind::ConnectionLost,
                "the server asks and does not read what it is answered",
            )));
        }
    }

    /// Writes in a task of its own, unless too many do. Gives whether it does.
    fn say(
        self: &Arc<Self>,
        text: String,
        counter: fn(&Self) -> &AtomicUsize,
        most: usize,
    ) -> bool {
        struct Counted(Arc<Connection>, fn(&Connection) -> &AtomicUsize);
        impl Drop for Counted {
            fn drop(&mut self) {
                (self.1)(&self.0).fetch_sub(1, Ordering::Relaxed);
            }
        }
        let before = counter(self).fetch_add(1, Ordering::Relaxed);
        let counted = Counted(Arc::clone(self), counter);
        if before >= most {
            return false;
        }
        self.runtime.spawn(async move {
            // Its failure is the connection's, which others learn of.
            let _ = counted.0.deliver(text).await;
        });
        true
    }

    /// Answers a request of the server; nothing is said to one that it has withdrawn.
    pub(crate) async fn respond(
        self: &Arc<Self>,
        request: &ServerRequest,
        outcome: std::result::Result<Raw, RpcError>,
    ) -> Result<()> {
        /// It counts as open for as long as its answer cannot be written: a server that asks and
        /// does not read is refused at the bound of the inbox.
        struct Answering<'a>(&'a Connection, &'a Raw);
        impl Drop for Answering<'_> {
            fn drop(&mut self) {
                self.0.inbox.answered(self.1);
            }
        }
        if self.has_ended() {
            return Err(self.end_error(Delivery::NotSent));
        }
        let text = encode_response(&request.id, &outcome)?;
        if !self.inbox.is_open(&request.id) {
            return Ok(());
        }
        let _answering = Answering(self, &request.id);
        self.deliver(text).await
    }
}

/// Ends the connection when it is dropped, at the latest with its runtime.
struct Fallback(Arc<Connection>, Error);

impl Drop for Fallback {
    fn drop(&mut self) {
        self.0.end(Some(self.1.clone()));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
