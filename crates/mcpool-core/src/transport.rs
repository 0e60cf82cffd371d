//! The first seam: a [`Connector`](crate::Connector) opens a [`Transport`], and a transport answers requests.

mod diagnostics;
mod encode;
mod inbox;
mod kind;
mod request;
mod stderr;
mod tap;
mod telling;

pub use diagnostics::{Diagnostics, TransportMonitor};
pub use encode::{encode, encode_notification, encode_response};
pub use inbox::{Inbox, InboxSender, Incoming, MAX_OPEN_SERVER_REQUESTS};
pub use kind::TransportKind;
pub use request::{Progress, RequestClass, RequestSink, WireRequest};
pub use stderr::StderrLine;
pub use tap::{Direction, WireEvent, WireTap};

use std::{fmt, sync::Arc};

use async_trait::async_trait;

use crate::{Error, Notification, Raw, Result, RpcError, ServerRequest};

/// Answers requests: the live connection to one server.
///
/// Every method may be called at the same time from any task and thread. The contract, which
/// `mcpool_testkit::contract` checks:
///
/// - **Ids are the transport's.** It counts from 1 and never uses one twice. A request is entered
///   before its first byte is written, so that no answer can be early.
/// - **Bytes belong to the connection.** A message is written whole or not at all, no matter who drops
///   what. Writes of different requests may overtake one another only as their carrier allows.
/// - **Dropping [`request`](Self::request) cancels it.** A request of which nothing was
///   written is withdrawn silently; else the server gets `notifications/cancelled`, or over Streamable
///   HTTP from MCP 2026-07-28 on its stream is closed. [`RequestClass::Handshake`] is never
///   cancelled in words. The drop does not block.
/// - **The transport has no timeouts of requests**: those are the session's. It bounds only what
///   the session cannot see: connecting, closing, writing to a server that does not read.
/// - **The sink is called before the answer completes**, in the order of the wire, never after.
/// - **Readers never wait for [`incoming`](Self::incoming)**: it is bounded, see [`Inbox`].
/// - **After [`close`](Self::close)** what is in flight ends with
///   [`Closed`](crate::ErrorKind::Closed) and its own delivery. When the server dies, the reason
///   is gathered for 200 ms, and longer only where it is sure to come; then every request ends
///   with it and its own delivery.
/// - **When the runtime of the connect is gone**, requests fail at once and never hang.
/// - **Dropping the last reference** releases every task, socket and process, with no runtime
///   running as well.
#[async_trait]
pub trait Transport: Send + Sync + fmt::Debug {
    /// Sends a request and waits for its answer: the `result`, as it came.
    ///
    /// Dropping the future cancels the request, as said above.
    ///
    /// # Errors
    /// [`Rpc`](crate::ErrorKind::Rpc) for an error of the server; anything else is an [`Error`]
    /// whose [`delivery`](Error::delivery) says what is known of this very request.
    async fn request(
        &self,
        request: WireRequest<'_>,
        sink: Option<Arc<dyn RequestSink>>,
    ) -> Result<Raw>;

    /// Sends a notification and waits until the connection has taken it.
    ///
    /// # Errors
    /// An [`Error`] whose delivery says what is known.
    async fn notify(&self, notification: &Notification) -> Result<()>;

    /// Answers a request of the server and waits until the connection has taken the answer.
    ///
    /// Answers are bounded: when a server asks and does not read, the connection ends with the
    /// reason.
    ///
    /// # Errors
    /// When it could not be sent.
    async fn respond(
        &self,
        request: &ServerRequest,
        outcome: std::result::Result<Raw, RpcError>,
    ) -> Result<()>;

    /// What the server says by itself. Taken once; `None` afterwards. It ends with the
    /// connection, after everything that came before was given.
    fn incoming(&self) -> Option<Inbox>;

    /// Waits for the end of the connection: `None` after [`close`](Self::close), else why it
    /// ended. Answers at once when it has ended.
    async fn closed(&self) -> Option<Error>;

    /// Whether the connection has ended.
    fn is_closed(&self) -> bool;

    /// Ends the connection in the orderly way of its kind, bounded by the shutdown policy.
    /// May be called again, also at the same time: all wait for the same end.
    ///
    /// Dropping the future does not undo it: what was begun goes on, and dropping the transport
    /// ends it.
    ///
    /// # Errors
    /// When the end was not orderly. The resources are released all the same.
    async fn close(&self) -> Result<()>;

    /// A handle that outlives the transport and answers for it.
    fn monitor(&self) -> Arc<dyn TransportMonitor>;
}
