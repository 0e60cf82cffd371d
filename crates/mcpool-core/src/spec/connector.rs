//! The seam for transports: a connector, and what it is given to connect.

use std::{fmt, sync::Arc};

use async_trait::async_trait;

use super::TransportSpec;
use crate::{
    Authenticator, Limits, Masker, Raw, Result, ServerName, ShutdownPolicy, Transport,
    TransportKind, WireTap,
};

/// What a [`Connector`] is given.
#[derive(Clone)]
#[non_exhaustive]
pub struct ConnectRequest {
    /// The application's name for the server, for logs and errors.
    pub server: ServerName,
    /// How to reach it, with every `${…}` filled in.
    pub target: Arc<TransportSpec>,
    /// Sizes and counts.
    pub limits: Limits,
    /// How the connection is closed.
    pub shutdown: ShutdownPolicy,
    /// What authorizes HTTP requests, if anything does.
    pub authenticator: Option<Arc<dyn Authenticator>>,
    /// What sees every message, if anything does.
    pub tap: Option<Arc<dyn WireTap>>,
    /// What must not be shown of the connection: in errors, in logs, in lines of stderr.
    pub masker: Masker,
    /// Whether no idle socket of an earlier connection may be used: the last connection failed,
    /// or went silent, and an idle socket may be as dead as it was.
    pub fresh: bool,
    /// What the session will declare that servers may ask it: its `ClientCapabilities`, for a
    /// connector that starts the server's own session elsewhere. The session says it itself as well.
    pub capabilities: Raw,
}

impl ConnectRequest {
    /// A connect with the default limits and shutdown, without credentials. What the
    /// target holds is masked in what is shown of the connection from now on.
    #[must_use]
    pub fn new(server: ServerName, target: TransportSpec) -> Self {
        let masker = Masker::new();
        target.note_secrets(&masker);
        Self {
            server,
            target: Arc::new(target),
            limits: Limits::default(),
            shutdown: ShutdownPolicy::default(),
            authenticator: None,
            tap: None,
            masker,
            fresh: false,
            capabilities: Raw::empty_object(),
        }
    }

    /// Sets sizes and counts.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets how the connection is closed.
    #[must_use]
    pub fn with_shutdown(mut self, shutdown: ShutdownPolicy) -> Self {
        self.shutdown = shutdown;
        self
    }

    /// Sets what authorizes HTTP requests.
    #[must_use]
    pub fn with_authenticator(mut self, authenticator: Arc<dyn Authenticator>) -> Self {
        self.authenticator = Some(authenticator);
        self
    }

    /// Sets what sees every message.
    #[must_use]
    pub fn with_tap(mut self, tap: Arc<dyn WireTap>) -> Self {
        self.tap = Some(tap);
        self
    }

    /// Sets what must not be shown, instead of what the target alone holds.
    #[must_use]
    pub fn with_masker(mut self, masker: Masker) -> Self {
        self.target.note_secrets(&masker);
        self.masker = masker;
        self
    }

    /// Sets whether no idle socket of an earlier connection may be used.
    #[must_use]
    pub fn with_fresh(mut self, fresh: bool) -> Self {
        self.fresh = fresh;
        self
    }

    /// Sets what the session will declare that servers may ask it. Default: nothing.
    #[must_use]
    pub fn with_capabilities(mut self, capabilities: Raw) -> Self {
        self.capabilities = capabilities;
        self
    }
}

impl fmt::Debug for ConnectRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectRequest")
            .field("server", &self.server)
            .field("target", &self.target.as_str())
            .field("authenticator", &self.authenticator.is_some())
            .field("tap", &self.tap.is_some())
            .field("fresh", &self.fresh)
            .finish_non_exhaustive()
    }
}

/// Opens transports of one kind. The first seam: swap it to bring your own transport.
#[async_trait]
pub trait Connector: Send + Sync + fmt::Debug {
    /// Which kind it opens.
    fn kind(&self) -> TransportKind;

    /// Opens a transport. It says nothing on it: the handshake is the session's.
    ///
    /// Not bounded in time but for the spec's `connect_timeout`; the caller bounds it.
    /// Dropping the future releases whatever was opened, processes and sockets included.
    ///
    /// # Errors
    /// An [`Error`](crate::Error) whose kind says whether trying again may help.
    async fn connect(&self, request: ConnectRequest) -> Result<Arc<dyn Transport>>;
}
