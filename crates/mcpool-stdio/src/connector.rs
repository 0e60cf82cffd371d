//! Opens transports: starts the server's process and takes over its pipes.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use mcpool_core::{
    ConnectRequest, Connector, Error, ErrorKind, Result, ServerSpec, StdioSpec, Transport,
    TransportKind, TransportSpec,
};

use crate::{
    command::{Plan, spawn_error},
    monitor::StdioMonitor,
    pipes::Streams,
    process::{Launch, Process},
    stderr::{Fanout, Redactor, StderrStream},
    transport::StdioTransport,
};

/// Starts servers as child processes and speaks with them over stdin and stdout.
///
/// Cloning it is cheap; the clones share the stream of stderr lines.
///
/// ```no_run
/// # async fn run() -> Result<(), mcpool_core::Error> {
/// use std::sync::Arc;
/// use mcpool_core::{ConnectRequest, Connector, ServerSpec, StdioSpec};
/// use mcpool_stdio::StdioConnector;
///
/// let connector = StdioConnector::new();
/// let spec = ServerSpec::stdio("files", StdioSpec::new("mcp-server-filesystem").with_args(["."]))?;
/// let mut transport = connector.connect(ConnectRequest::new(Arc::new(spec))).await?;
/// // … a client speaks on it …
/// transport.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct StdioConnector {
    launch: Launch,
    stderr: Arc<Mutex<Fanout>>,
}

impl StdioConnector {
    /// A connector with the guardian switched on.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether the guardian runs. Default `true`.
    ///
    /// The guardian is one small `sh` for each application, whatever the number of servers and
    /// connectors, and lives while a server does. It kills the servers when the application dies
    /// without a chance to do so itself (SIGKILL, a crash). Without it they are killed on every
    /// orderly way out, drop included. On Windows a job object does this and the switch has no
    /// effect.
    #[must_use]
    pub fn with_guardian(mut self, guardian: bool) -> Self {
        self.launch.guardian = guardian;
        self
    }

    /// Sets whether a server waits behind a gate until the guardian knows it. Default: only
    /// where there is no `/proc`, since on Linux the guardian finds an unregistered server by the
    /// marker in its environment.
    ///
    /// The gate is a `sh` that waits for one line on stdin and then becomes the server. It costs
    /// about a millisecond, and the shell passes no variables whose names it cannot have (`A.B`).
    #[must_use]
    pub fn with_exec_gate(mut self, gate: bool) -> Self {
        self.launch.gate = gate;
        self
    }

    /// The lines that all servers of this connector write to stderr from now on.
    #[must_use]
    pub fn stderr(&self) -> StderrStream {
        self.stderr
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .subscribe()
    }

    /// As [`Connector::connect`], with the transport's own type.
    ///
    /// # Errors
    /// [`InvalidSpec`](ErrorKind::InvalidSpec) for a spec that is not stdio or cannot work,
    /// [`CommandNotFound`](ErrorKind::CommandNotFound) for a program that is not there or not
    /// executable, [`Spawn`](ErrorKind::Spawn) for what the operating system refuses.
    pub async fn open(&self, request: ConnectRequest) -> Result<StdioTransport> {
        let spec = request.spec;
        self.start(&spec)
            .await
            .map_err(|error| error.with_server(&spec.name).with_operation("connect"))
    }

    async fn start(&self, spec: &ServerSpec) -> Result<StdioTransport> {
        let TransportSpec::Stdio(stdio) = &spec.transport else {
            return Err(Error::new(
                ErrorKind::InvalidSpec,
                format!(
                    "a {} server is not started as a process",
                    spec.transport.as_str()
                ),
            ));
        };
        let redactor = Redactor::new(stdio.env.values().map(|value| value.expose()));
        let launch = self.launch;
        let owned = stdio.clone();
        // Looking a program up and starting it block; dropping this future drops the process.
        let started = tokio::task::spawn_blocking(move || start_process(&owned, launch)).await;
        let (process, streams) = started.map_err(|source| {
            Error::new(ErrorKind::Closed, "the runtime is shutting down").with_source(source)
        })??;
        let monitor = Arc::new(StdioMonitor::new(
            spec.name.clone(),
            process.id(),
            spec.policy.limits.stderr_lines,
            redactor,
            Arc::clone(&self.stderr),
        ));
        tracing::debug!(
            server = %spec.name,
            transport = "stdio",
            pid = process.id(),
            "server process started"
        );
        StdioTransport::new(spec, process, streams, monitor).map_err(|source| {
            Error::new(ErrorKind::Spawn, "the pipes to the server cannot be used")
                .with_source(source)
        })
    }
}

fn start_process(spec: &StdioSpec, launch: Launch) -> Result<(Process, Streams)> {
    let plan = Plan::new(spec, std::env::vars_os())?;
    Process::start(&plan, launch).map_err(|source| spawn_error(&plan, source))
}

#[async_trait]
impl Connector for StdioConnector {
    fn kind(&self) -> TransportKind {
        TransportKind::Stdio
    }

    async fn connect(&self, request: ConnectRequest) -> Result<Box<dyn Transport>> {
        Ok(Box::new(self.open(request).await?))
    }
}

impl std::fmt::Debug for StdioConnector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StdioConnector")
            .field("launch", &self.launch)
            .finish_non_exhaustive()
    }
}
