//! Where a call finds the live connection: a lock-free slot, with a gate in front of each
//! connection that counts the calls inside and shuts for good when the connection is given up.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use mcpool_core::{Client, DisconnectCause, Error, ErrorKind, ServerName};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::supervise::{
    foreign::asked,
    gate::{Gate, Refused},
};

/// The slot of one instance. Only its supervisor fills and empties it.
#[derive(Default)]
pub(crate) struct Slot(ArcSwapOption<Live>);

impl Slot {
    /// The connection that calls go to, unless there is none or it is known to be dead.
    pub(crate) fn live(&self) -> Option<Arc<Live>> {
        self.0.load_full().filter(|live| live.usable())
    }

    /// What the slot holds, dead or alive.
    pub(crate) fn held(&self) -> Option<Arc<Live>> {
        self.0.load_full()
    }

    pub(crate) fn fill(&self, live: Arc<Live>) {
        self.0.store(Some(live));
    }

    pub(crate) fn empty(&self) {
        self.0.store(None);
    }
}

/// One live connection.
pub(crate) struct Live {
    pub(crate) client: Arc<dyn Client>,
    server: ServerName,
    /// Which connection of its instance it is, from 1.
    pub(crate) epoch: u64,
    gate: Gate,
    drained: Notify,
    /// Cancelled when the connection is given up: whatever is in flight ends.
    dead: CancellationToken,
    cause: OnceLock<DisconnectCause>,
    /// Why the client is of no use although it does not say that it has ended.
    fault: OnceLock<Error>,
    faulty: Notify,
    born: Instant,
    /// When the last call ended, in milliseconds since `born`.
    used: AtomicU64,
}

impl Live {
    pub(crate) fn new(server: ServerName, client: Arc<dyn Client>, epoch: u64) -> Arc<Self> {
        Arc::new(Self {
            client,
            server,
            epoch,
            gate: Gate::new(),
            drained: Notify::new(),
            dead: CancellationToken::new(),
            cause: OnceLock::new(),
            fault: OnceLock::new(),
            faulty: Notify::new(),
            born: Instant::now(),
            used: AtomicU64::new(0),
        })
    }

    fn usable(&self) -> bool {
        if self.gate.is_shut() {
            return false;
        }
        match asked("`is_closed` of the client", || self.client.is_closed()) {
            Ok(closed) => !closed,
            Err(panicked) => {
                self.give_up(panicked);
                false
            }
        }
    }

    /// Lets nobody in any more, because the client cannot be relied on: its supervisor gives the
    /// connection up for this reason. The first reason stays.
    pub(crate) fn give_up(&self, fault: Error) {
        self.shut();
        let _ = self.fault.set(fault);
        self.faulty.notify_one();
    }

    /// Waits until the client cannot be relied on. For the supervisor alone.
    pub(crate) async fn broken(&self) -> Error {
        loop {
            // A notification that comes between the look and the wait is kept.
            if let Some(fault) = self.fault.get() {
                return fault.clone();
            }
            self.faulty.notified().await;
        }
    }

    /// How many calls are inside.
    pub(crate) fn in_flight(&self) -> usize {
        self.gate.inside()
    }

    /// When the last call ended.
    pub(crate) fn last_used(&self) -> Instant {
        self.born + Duration::from_millis(self.used.load(Ordering::Relaxed))
    }

    /// Lets a call in; [`Live::leave`] lets it out.
    pub(crate) fn enter(&self, most: usize) -> Result<(), Refused> {
        self.gate.enter(most)
    }

    pub(crate) fn leave(&self) {
        let since = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        // Most calls end within the same millisecond as another: then nothing is written.
        if self.used.load(Ordering::Relaxed) < since {
            self.used.fetch_max(since, Ordering::Relaxed);
        }
        if self.gate.leave() {
            self.drained.notify_waiters();
        }
    }

    /// Lets nobody in any more. Calls inside go on.
    pub(crate) fn shut(&self) {
        self.gate.shut();
    }

    /// Ends every call inside.
    pub(crate) fn kill(&self, cause: DisconnectCause) {
        self.shut();
        // The first cause stays.
        let _ = self.cause.set(cause);
        self.dead.cancel();
    }

    /// Waits until nobody is inside a shut gate.
    pub(crate) async fn drained(&self) {
        loop {
            let empty = self.drained.notified();
            tokio::pin!(empty);
            empty.as_mut().enable();
            if self.in_flight() == 0 {
                return;
            }
            empty.await;
        }
    }

    /// Waits until the connection is given up.
    pub(crate) async fn killed(&self) {
        self.dead.cancelled().await;
    }

    /// Whether somebody wanted the connection to end.
    pub(crate) fn ended_on_purpose(&self) -> bool {
        matches!(
            self.cause.get(),
            Some(
                DisconnectCause::Requested
                    | DisconnectCause::Reconfigured
                    | DisconnectCause::IdleTimeout
                    | DisconnectCause::Shutdown
            )
        )
    }

    /// The error of a call that was inside when the connection was given up.
    pub(crate) fn death(&self) -> Error {
        let (kind, message) = match self.cause.get() {
            Some(
                DisconnectCause::Requested
                | DisconnectCause::Reconfigured
                | DisconnectCause::IdleTimeout,
            ) => (
                ErrorKind::Cancelled,
                "the server was disconnected while the request was in flight",
            ),
            Some(DisconnectCause::Shutdown) => (
                ErrorKind::Cancelled,
                "the manager was shut down while the request was in flight",
            ),
            Some(DisconnectCause::HeartbeatFailed) => (
                ErrorKind::ConnectionLost,
                "the server stopped answering and was given up while the request was in flight",
            ),
            _ => (
                ErrorKind::ConnectionLost,
                "the connection ended while the request was in flight",
            ),
        };
        Error::new(kind, message).with_server(&self.server)
    }
}
