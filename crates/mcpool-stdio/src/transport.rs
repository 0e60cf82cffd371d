//! The transport: a duplex over a server's pipes.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use mcpool_core::{
    ConnectRequest, Error, Inbox, Notification, Raw, RequestSink, Result, RpcError, ServerRequest,
    Transport, TransportKind, TransportMonitor, WireRequest,
};
use mcpool_duplex::Duplex;

use crate::{
    halves::{Reader, Writer},
    monitor::StdioMonitor,
    pace::Pace,
};

/// A connection to one server process.
///
/// Dropping the last reference kills the server's process group and everything else that carries
/// the server's marker, synchronously and with no runtime running as well. This takes the time
/// that the kernel needs to end the processes: a few milliseconds, at most a second.
#[derive(Debug)]
pub struct StdioTransport {
    duplex: Duplex,
    monitor: Arc<StdioMonitor>,
    pace: Arc<Pace>,
}

impl StdioTransport {
    pub(crate) fn new(
        request: &ConnectRequest,
        reader: Reader,
        writer: Writer,
        monitor: Arc<StdioMonitor>,
        pace: Arc<Pace>,
    ) -> Result<Self> {
        Ok(Self {
            duplex: Duplex::new(request, TransportKind::Stdio, reader, writer)?,
            monitor,
            pace,
        })
    }

    /// The transport alone, without a layer that only passes on.
    pub(crate) fn into_duplex(self) -> Duplex {
        self.duplex
    }

    /// The monitor, with what only a process has.
    #[must_use]
    pub fn stdio_monitor(&self) -> Arc<StdioMonitor> {
        Arc::clone(&self.monitor)
    }

    /// Closes within this time, whatever the shutdown policy says: both graces are shortened to
    /// fit, and what does not end by then is killed. With no time at all it is killed at once. When this
    /// returns all of the server's processes are dead; that takes a second more at most, where the
    /// kernel holds one.
    ///
    /// A close that was begun goes on where it was, with what it has left of either time.
    ///
    /// # Errors
    /// As [`close`](Transport::close).
    pub async fn close_within(&self, time: Duration) -> Result<()> {
        self.pace.shorten(time);
        self.duplex.close().await
    }
}

#[async_trait]
impl Transport for StdioTransport {
    async fn request(
        &self,
        request: WireRequest<'_>,
        sink: Option<Arc<dyn RequestSink>>,
    ) -> Result<Raw> {
        self.duplex.request(request, sink).await
    }

    async fn notify(&self, notification: &Notification) -> Result<()> {
        self.duplex.notify(notification).await
    }

    async fn respond(
        &self,
        request: &ServerRequest,
        outcome: std::result::Result<Raw, RpcError>,
    ) -> Result<()> {
        self.duplex.respond(request, outcome).await
    }

    fn incoming(&self) -> Option<Inbox> {
        self.duplex.incoming()
    }

    async fn closed(&self) -> Option<Error> {
        self.duplex.closed().await
    }

    fn is_closed(&self) -> bool {
        self.duplex.is_closed()
    }

    async fn close(&self) -> Result<()> {
        self.duplex.close().await
    }

    fn monitor(&self) -> Arc<dyn TransportMonitor> {
        self.duplex.monitor()
    }
}
