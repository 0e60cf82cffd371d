//! The transport that two halves make.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use mcpool_core::{
    ConnectRequest, Delivery, Error, ErrorKind, Inbox, Notification, Raw, RequestId, RequestSink,
    Result, RpcError, ServerRequest, Transport, TransportKind, TransportMonitor, WireRequest,
    encode, encode_notification,
};
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
    time::timeout,
};

use crate::{
    connection::Connection,
    departure::Departure,
    frame::Frames,
    halves::{Outgoing, ReadHalf, WriteHalf},
    monitor::DuplexMonitor,
    pending::{Outcome, Waiting},
    task::Task,
    wire::{Wire, guarded},
};

/// What a half may take over the total of the shutdown policy before it is abandoned: enough to
/// give its own error first.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// A [`Transport`] made of a half that writes and a half that reads.
///
/// It numbers requests and matches their answers; see the [crate's documentation](crate) for what
/// it keeps. One task reads, on the runtime on which it was made. Dropping the last reference ends
/// it and abandons both halves, with no runtime running as well.
pub struct Duplex {
    connection: Arc<Connection>,
    monitor: Arc<dyn TransportMonitor>,
    inbox: Mutex<Option<Inbox>>,
    reader: Task,
    close: Mutex<Option<Close>>,
    total: Duration,
}

/// A close that was begun.
struct Close {
    task: Task,
    done: watch::Receiver<Option<Result<()>>>,
}

impl Duplex {
    /// Makes a transport and begins to read. Of the request it uses the server's name, the tap and
    /// the total of the shutdown policy.
    ///
    /// # Errors
    /// [`Internal`](ErrorKind::Internal) outside a tokio runtime. The halves are dropped then.
    pub fn new(
        request: &ConnectRequest,
        kind: TransportKind,
        read: impl ReadHalf + 'static,
        write: impl WriteHalf + 'static,
    ) -> Result<Self> {
        let server = request.server.clone();
        let runtime = Handle::try_current().map_err(|source| {
            Error::new(
                ErrorKind::Internal,
                "a transport was made outside a tokio runtime",
            )
            .with_server(&server)
            .with_source(source.to_string())
        })?;
        let counts = Arc::new(DuplexMonitor::new(server.clone(), kind));
        let write: Arc<dyn WriteHalf> = Arc::new(write);
        let monitor = write.monitor(Arc::clone(&counts));
        let (sender, inbox) = Inbox::channel();
        let wire = Arc::new(Wire {
            server,
            kind,
            monitor: counts,
            tap: request.tap.clone(),
        });
        let connection = Arc::new(Connection::new(wire, write, sender, runtime.clone()));
        let reading = read_all(Arc::clone(&connection), Box::new(read));
        Ok(Self {
            reader: Task::spawn(&runtime, Box::pin(reading)),
            connection,
            monitor,
            inbox: Mutex::new(Some(inbox)),
            close: Mutex::new(None),
            total: request.shutdown.total,
        })
    }

    /// Begins the close, or finds the one that was begun.
    fn begin_close(&self) -> watch::Receiver<Option<Result<()>>> {
        let mut close = self.close.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(close) = &*close {
            return close.done.clone();
        }
        self.connection.end(None);
        let (sender, done) = watch::channel(None);
        let closing = Closing {
            connection: Arc::clone(&self.connection),
            reader: self.reader.clone(),
            done: sender,
        };
        let patience = self.total.saturating_add(CLOSE_GRACE);
        let task = Task::spawn(
            &self.connection.runtime,
            Box::pin(async move { closing.run(patience).await }),
        );
        *close = Some(Close {
            task,
            done: done.clone(),
        });
        done
    }
}

#[async_trait]
impl Transport for Duplex {
    async fn request(
        &self,
        request: WireRequest<'_>,
        sink: Option<Arc<dyn RequestSink>>,
    ) -> Result<Raw> {
        let connection = &self.connection;
        let wire = &connection.wire;
        let unsent = |error: Error| {
            error
                .with_server(&wire.server)
                .with_delivery(Delivery::NotSent)
        };
        let id = connection.next_id();
        let progress = sink
            .as_ref()
            .and_then(|sink| guarded(wire, || sink.wants_progress()))
            .unwrap_or_default();
        let text = encode(id, &request, progress).map_err(unsent)?;
        if let Some(sink) = &sink {
            guarded(wire, || sink.assigned(id));
        }
        let departure = Departure::new(wire, sink.clone());
        let (sender, mut outcome) = oneshot::channel();
        let waiting = Waiting {
            outcome: sender,
            sink,
            progress,
            class: request.class,
            departure: departure.clone(),
        };
        let in_company = connection.pending().enter(id, waiting).map_err(unsent)?;
        let entered = Entered { connection, id };
        // It is dropped before `entered`: what was not written is withdrawn first.
        let message = Outgoing::followed(text, departure.clone()).awaiting_answer(
            id,
            in_company,
            request.timeout,
        );
        let mut write = connection.write.write(message);
        let first = tokio::select! {
            biased;
            outcome = &mut outcome => Ok(outcome),
            written = &mut write => Err(written),
        };
        let mut known = None;
        let outcome = match first {
            Ok(outcome) => outcome,
            Err(Ok(())) => outcome.await,
            Err(Err(failure)) if failure.ended => {
                known = Some(failure.error.delivery());
                connection.expect_end(failure.error);
                outcome.await
            }
            Err(Err(failure)) => match outcome.try_recv() {
                // What the server says counts more than how its carrier fared.
                Ok(outcome) => Ok(outcome),
                Err(_) => {
                    entered.give_up();
                    return Err(failure.error.with_server(&wire.server));
                }
            },
        };
        drop(write);
        entered.done();
        match outcome {
            Ok(Outcome::Answered(Ok(result))) => Ok(result),
            Ok(Outcome::Answered(Err(error))) => {
                Err(Error::from_rpc(error).with_server(&wire.server))
            }
            Ok(Outcome::Failed(error)) => Err(error),
            Ok(Outcome::Ended(reason)) => {
                Err(reason.with_delivery(known.unwrap_or_else(|| departure.delivery())))
            }
            Err(_) => Err(connection.end_error(departure.delivery())),
        }
    }

    async fn notify(&self, notification: &Notification) -> Result<()> {
        let text = encode_notification(notification)?;
        self.connection.deliver(text).await
    }

    async fn respond(
        &self,
        request: &ServerRequest,
        outcome: std::result::Result<Raw, RpcError>,
    ) -> Result<()> {
        self.connection.respond(request, outcome).await
    }

    fn incoming(&self) -> Option<Inbox> {
        self.inbox
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    async fn closed(&self) -> Option<Error> {
        self.connection.ended().await;
        self.connection.wire.monitor.failure()
    }

    fn is_closed(&self) -> bool {
        self.connection.has_ended()
    }

    async fn close(&self) -> Result<()> {
        let mut done = self.begin_close();
        match done.wait_for(Option::is_some).await {
            Ok(result) => result.clone().unwrap_or(Ok(())),
            // It says something before it goes, whatever happens.
            Err(_) => Ok(()),
        }
    }

    fn monitor(&self) -> Arc<dyn TransportMonitor> {
        Arc::clone(&self.monitor)
    }
}

impl Drop for Duplex {
    fn drop(&mut self) {
        self.connection.end(None);
        let close = self.close.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(close) = close {
            close.task.stop();
        }
        self.reader.stop();
        self.connection.write.abandon();
    }
}

impl std::fmt::Debug for Duplex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Duplex")
            .field("wire", &self.connection.wire)
            .field("ended", &self.connection.has_ended())
            .finish_non_exhaustive()
    }
}

/// A request that waits. Dropping it gives the request up and notifies the server.
struct Entered<'a> {
    connection: &'a Arc<Connection>,
    id: RequestId,
}

impl Entered<'_> {
    /// It has ended.
    fn done(self) {
        std::mem::forget(self);
    }

    /// It failed and may still be answered; the server is not notified.
    fn give_up(self) {
        self.connection.pending().give_up(self.id);
        std::mem::forget(self);
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let tell = self.connection.pending().give_up(self.id);
        if tell {
            self.connection.cancel(self.id);
        }
    }
}

/// Ends the connection when reading ends, however it ends.
struct Reading(Arc<Connection>);

impl Drop for Reading {
    fn drop(&mut self) {
        let (kind, message) = if std::thread::panicking() {
            (ErrorKind::Internal, "the reader of the connection panicked")
        } else {
            let message = "the runtime on which the connection was made has ended";
            (ErrorKind::ConnectionLost, message)
        };
        self.0.end(Some(Error::new(kind, message)));
    }
}

async fn read_all(connection: Arc<Connection>, mut half: Box<dyn ReadHalf>) {
    let reading = Reading(connection);
    let connection = &reading.0;
    let mut frames = Frames::on(&connection.wire);
    let reason = loop {
        let read = half.read(&mut frames).await;
        let ended = connection.has_ended();
        for frame in frames.drain() {
            // After a close the server is only read from so that it does not get stuck.
            if !ended {
                connection.accept(frame);
            }
        }
        frames.shrink();
        if let Err(reason) = read {
            break reason;
        }
    };
    drop(half);
    connection.end(Some(reason));
}

/// A close under way.
struct Closing {
    connection: Arc<Connection>,
    reader: Task,
    done: watch::Sender<Option<Result<()>>>,
}

impl Closing {
    async fn run(self, patience: Duration) {
        let closed = timeout(patience, self.connection.write.close()).await;
        let result = closed.unwrap_or_else(|_| {
            self.connection.write.abandon();
            Err(Error::new(
                ErrorKind::Timeout,
                format!("the connection did not end within {patience:?}; it was abandoned"),
            ))
        });
        self.reader.stop();
        let result = result.map_err(|error| {
            error
                .with_server(&self.connection.wire.server)
                .with_operation("close")
        });
        self.done.send_replace(Some(result));
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        if self.done.borrow().is_some() {
            return;
        }
        // The runtime has ended, or the half panicked.
        self.reader.stop();
        self.connection.write.abandon();
        self.done.send_replace(Some(Err(Error::new(
            ErrorKind::Internal,
            "the connection was abandoned: nothing was left to close it in order",
        )
        .with_server(&self.connection.wire.server)
        .with_operation("close"))));
    }
}
