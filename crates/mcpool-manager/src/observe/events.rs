//! What happened, as a stream: a bounded broadcast whose slow readers learn how much they missed.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures::Stream;
use mcpool_core::{Event, EventKind, ServerName};
use tokio::sync::broadcast;
use tokio_util::sync::{CancellationToken, ReusableBoxFuture};

/// Where everything that happens is reported.
pub(crate) struct EventBus {
    sender: broadcast::Sender<Event>,
    closed: CancellationToken,
}

impl EventBus {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            sender: broadcast::Sender::new(capacity.clamp(1, 1 << 20)),
            closed: CancellationToken::new(),
        }
    }

    pub(crate) fn emit(&self, server: &ServerName, kind: EventKind) {
        // No reader is no error.
        let _ = self.sender.send(Event::now(server.clone(), kind));
    }

    /// Reports something that happened to the whole manager.
    pub(crate) fn emit_for_all(&self, kind: EventKind) {
        // No reader is no error.
        let _ = self.sender.send(Event::now(None, kind));
    }

    pub(crate) fn subscribe(&self) -> EventStream {
        EventStream {
            next: ReusableBoxFuture::new(receive(self.sender.subscribe(), self.closed.clone())),
            missed: 0,
        }
    }

    /// Ends every stream once it has been read to its end.
    pub(crate) fn close(&self) {
        self.closed.cancel();
    }
}

/// One item of an [`EventStream`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum EventItem {
    /// Something happened.
    Event(Event),
    /// The reader was too slow: so many events were dropped before the next one.
    Missed(u64),
}

type Received = (
    Option<Result<Event, u64>>,
    broadcast::Receiver<Event>,
    CancellationToken,
);

/// Waits for the next event; after the bus is closed, gives what is left and then `None`.
async fn receive(mut receiver: broadcast::Receiver<Event>, closed: CancellationToken) -> Received {
    let item = tokio::select! {
        biased;
        item = receiver.recv() => match item {
            Ok(event) => Some(Ok(event)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Err(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        },
        () = closed.cancelled() => None,
    };
    (item, receiver, closed)
}

/// The events of a manager, from the moment of the subscription on.
///
/// It ends after the manager's shutdown, or when its last handle is gone. It does not keep the
/// manager alive. Dropping it unsubscribes.
pub struct EventStream {
    next: ReusableBoxFuture<'static, Received>,
    missed: u64,
}

impl EventStream {
    /// The next event, or how many were missed; `None` at the end. Cancel-safe.
    pub async fn recv(&mut self) -> Option<EventItem> {
        std::future::poll_fn(|cx| self.poll_item(cx)).await
    }

    /// The next event, skipping the reports of missed ones; `None` at the end. Cancel-safe.
    pub async fn next_event(&mut self) -> Option<Event> {
        loop {
            if let EventItem::Event(event) = self.recv().await? {
                return Some(event);
            }
        }
    }

    /// How many events this stream has missed so far.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<EventItem>> {
        let (item, receiver, closed) = std::task::ready!(self.next.poll(cx));
        self.next.set(receive(receiver, closed));
        Poll::Ready(item.map(|item| match item {
            Ok(event) => EventItem::Event(event),
            Err(missed) => {
                self.missed += missed;
                crate::observe::metrics::events_dropped(missed);
                EventItem::Missed(missed)
            }
        }))
    }
}

impl Stream for EventStream {
    type Item = EventItem;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<EventItem>> {
        self.poll_item(cx)
    }
}

impl std::fmt::Debug for EventStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStream")
            .field("missed", &self.missed)
            .finish_non_exhaustive()
    }
}
