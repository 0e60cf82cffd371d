//! Reading the event stream to its end.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use eventsource_stream::{Event, EventStreamError, Eventsource};
use futures::{StreamExt, stream::BoxStream};
use mcpool_core::{Diagnostics, Error, ErrorKind, IncomingMessage, Result, ServerName};
use mcpool_core::{TransportKind, TransportMonitor, Untrusted};
use mcpool_http_pool::{EventLines, split_batch};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The events of one stream.
pub(crate) type Events = BoxStream<'static, Result<Event>>;

/// Parses lines into events.
pub(crate) fn events(lines: EventLines) -> Events {
    lines
        .eventsource()
        .map(|event| {
            event.map_err(|error| match error {
                EventStreamError::Transport(error) => error,
                EventStreamError::Utf8(_) | EventStreamError::Parser(_) => Error::new(
                    ErrorKind::Protocol,
                    "the server's event stream cannot be parsed",
                ),
            })
        })
        .boxed()
}

/// What the reader, the transport and the pending sends share; the monitor, too.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) server: ServerName,
    /// Cancelled when the connection has ended, whatever the reason.
    pub(crate) ended: CancellationToken,
    failure: Mutex<Option<Error>>,
    closed: AtomicBool,
    sent: AtomicU64,
    received: AtomicU64,
    skipped: AtomicU64,
}

impl Link {
    pub(crate) fn new(server: ServerName) -> Self {
        Self {
            server,
            ended: CancellationToken::new(),
            failure: Mutex::new(None),
            closed: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
        }
    }

    /// Ends the connection because of this; the first reason stays.
    pub(crate) fn fail(&self, error: Error) {
        if !self.closed.load(Ordering::SeqCst) {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            if failure.is_none() {
                tracing::debug!(server = %self.server, transport = "sse", %error, "connection lost");
                *failure = Some(error.with_server(&self.server));
            }
        }
        self.ended.cancel();
    }

    /// Ends the connection because the application wants it.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.ended.cancel();
    }

    pub(crate) fn count_sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }
}

impl TransportMonitor for Link {
    fn kind(&self) -> TransportKind {
        TransportKind::Sse
    }

    fn diagnostics(&self) -> Diagnostics {
        let mut diagnostics = Diagnostics::default();
        diagnostics.sent = self.sent.load(Ordering::Relaxed);
        diagnostics.received = self.received.load(Ordering::Relaxed);
        diagnostics
    }

    fn failure(&self) -> Option<Error> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Reads events and passes their messages on, until the stream or the connection ends.
pub(crate) async fn read(
    link: std::sync::Arc<Link>,
    mut events: Events,
    messages: mpsc::Sender<IncomingMessage>,
) {
    let reason = loop {
        let event = tokio::select! {
            biased;
            () = link.ended.cancelled() => return,
            event = events.next() => event,
        };
        let event = match event {
            Some(Ok(event)) => event,
            Some(Err(error)) => break error,
            None => {
                break Error::new(
                    ErrorKind::ConnectionLost,
                    "the server ended the event stream",
                );
            }
        };
        if event.event != "message" {
            tracing::debug!(server = %link.server, event = %Untrusted::line(&event.event).clip(100), "event skipped");
            continue;
        }
        for message in parse(&link, &event.data) {
            link.received.fetch_add(1, Ordering::Relaxed);
            tokio::select! {
                biased;
                () = link.ended.cancelled() => return,
                sent = messages.send(message) => if sent.is_err() { return },
            }
        }
    };
    link.fail(reason);
}

fn parse(link: &Link, data: &str) -> Vec<IncomingMessage> {
    let parts = split_batch(data).unwrap_or_default();
    let parts: Vec<&str> = match parts.is_empty() {
        true => vec![data],
        false => parts.iter().map(String::as_str).collect(),
    };
    parts
        .into_iter()
        .filter_map(|part| match serde_json::from_str(part) {
            Ok(message) => Some(message),
            Err(error) => {
                // Once a connection is enough: a server that does this does it often.
                if link.skipped.fetch_add(1, Ordering::Relaxed) == 0 {
                    tracing::warn!(
                        server = %link.server,
                        error = %Untrusted::line(error.to_string()),
                        "an event of the server is no JSON-RPC message and was skipped"
                    );
                }
                None
            }
        })
        .collect()
}
