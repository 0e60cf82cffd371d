use std::{fmt, sync::Arc, time::SystemTime};

use async_trait::async_trait;
use futures::future::BoxFuture;
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use serde::Serialize;

use crate::{Authenticator, Error, Result, ServerSpec, TransportKind, Untrusted};

/// A message to the server.
pub type OutgoingMessage = ClientJsonRpcMessage;

/// A message from the server.
pub type IncomingMessage = ServerJsonRpcMessage;

/// What a [`Connector`] is given.
#[derive(Clone)]
#[non_exhaustive]
pub struct ConnectRequest {
    /// The spec, with every `${…}` filled in.
    pub spec: Arc<ServerSpec>,
    /// What authorizes HTTP requests, if anything does.
    pub authenticator: Option<Arc<dyn Authenticator>>,
}

impl ConnectRequest {
    /// A connect of this spec without credentials. What it holds is [masked](ServerSpec::masker)
    /// from now on.
    #[must_use]
    pub fn new(spec: Arc<ServerSpec>) -> Self {
        spec.note_secrets();
        Self {
            spec,
            authenticator: None,
        }
    }

    /// Adds what authorizes HTTP requests.
    #[must_use]
    pub fn with_authenticator(mut self, authenticator: Arc<dyn Authenticator>) -> Self {
        self.authenticator = Some(authenticator);
        self
    }
}

impl fmt::Debug for ConnectRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectRequest")
            .field("server", &self.spec.name)
            .field("authenticator", &self.authenticator.is_some())
            .finish()
    }
}

/// Opens transports of one kind. The first seam: swap it to bring your own transport.
#[async_trait]
pub trait Connector: Send + Sync {
    /// Which kind it opens.
    fn kind(&self) -> TransportKind;

    /// Opens a transport. It says nothing on it: the handshake is the client's.
    ///
    /// Not bounded in time but for the spec's `connect_timeout`; the caller bounds it.
    /// Dropping the future releases whatever was opened, processes and sockets included.
    ///
    /// # Errors
    /// An [`Error`] whose kind says whether trying again may help.
    async fn connect(&self, request: ConnectRequest) -> Result<Box<dyn Transport>>;
}

/// Carries JSON-RPC messages to one server and back.
///
/// The contract, which `mcpool_testkit::contract` checks:
///
/// - sends may run concurrently and in any number; a message is sent whole or not at all;
/// - `receive` is sequential and **cancel-safe**: dropping its future loses no message;
/// - after the remote's death `receive` gives `None` once all that came before was given, and
///   every pending send ends with an error;
/// - `close` is idempotent, bounded by the spec's shutdown policy even while a send is stuck;
/// - drop releases every task, socket and process, with no runtime running as well.
pub trait Transport: Send {
    /// Starts to send a message. The future owns what it needs and may outlive this borrow.
    ///
    /// Dropping the future before it ends may leave the message sent or unsent, never half sent.
    ///
    /// # Errors
    /// An [`Error`] whose [`delivery`](Error::delivery) says what is known.
    fn send(&self, message: OutgoingMessage) -> BoxFuture<'static, Result<()>>;

    /// The next message from the server; `None` when the connection has ended.
    fn receive(&mut self) -> BoxFuture<'_, Option<IncomingMessage>>;

    /// Ends the connection in the orderly way of its kind.
    ///
    /// # Errors
    /// When the end was not orderly. The resources are released all the same.
    fn close(&mut self) -> BoxFuture<'_, Result<()>>;

    /// A handle that outlives the transport and answers for it.
    fn monitor(&self) -> Arc<dyn TransportMonitor>;
}

/// What is known of a transport, readable at any time, from any thread, after its end as well.
pub trait TransportMonitor: Send + Sync {
    /// Its kind.
    fn kind(&self) -> TransportKind;

    /// A snapshot of what it knows.
    fn diagnostics(&self) -> Diagnostics;

    /// Why the connection ended; `None` while it lives, and after an orderly close.
    fn failure(&self) -> Option<Error>;

    /// Ends the connection by force, without a goodbye and whatever else goes on with it: what it
    /// holds outside of this program is gone when this returns. A process is killed with all
    /// that descend from it, and reaped. Idempotent, and nothing after the end.
    ///
    /// Blocks for as long as the kernel takes: a few milliseconds for a process, at most a second.
    /// Needs no runtime. Default: nothing, for a transport that holds nothing outside.
    fn kill(&self) {}
}

/// A snapshot of what a transport knows about itself.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct Diagnostics {
    /// The last lines of stderr, oldest first (stdio only).
    pub stderr_tail: Vec<StderrLine>,
    /// The process id (stdio only).
    pub pid: Option<u32>,
    /// How the process ended, in words (stdio only).
    pub exit_status: Option<String>,
    /// Lines on stdout that were not JSON-RPC and were skipped (stdio only).
    pub skipped_lines: u64,
    /// Processes of its group that had to be killed at the end (stdio only).
    pub killed_processes: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages received.
    pub received: u64,
    /// The last error that did not end the connection, in one line (HTTP only).
    pub last_error: Option<String>,
}

/// One line of a server's stderr.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StderrLine {
    /// When it was read.
    pub at: SystemTime,
    /// The text, without its line end; bytes that are not UTF-8 are replaced, and what steers a
    /// terminal is escaped (see [`Untrusted`]).
    pub text: String,
}

impl StderrLine {
    /// A line that was read now.
    #[must_use]
    pub fn now(text: impl Into<String>) -> Self {
        Self {
            at: SystemTime::now(),
            // A block, for the tabs of a stack trace.
            text: Untrusted::block(text.into()).into_clean().into_owned(),
        }
    }
}
