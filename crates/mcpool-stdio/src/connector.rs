//! Opens transports: starts the server's process and takes over its pipes.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use mcpool_core::{
    ConnectRequest, Connector, Error, ErrorKind, Result, ServerSpec, StdioSpec, Transport,
    TransportKind, TransportSpec,
};

use crate::{
    command::{Plan, spawn_error},
    guardian::Guardian,
    monitor::StdioMonitor,
    pipes::Streams,
    process::{Launch, Process},
    shutdown::Ladder,
    starting,
    stderr::{Fanout, StderrStream},
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
    /// A connector with a shell as the guardian.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what ends the servers when the application is killed. Default: [`Guardian::Shell`].
    /// What each of them promises stands in the table at [`Guardian`].
    #[must_use]
    pub fn with_guardian(mut self, guardian: impl Into<Guardian>) -> Self {
        self.launch.guardian = guardian.into();
        self
    }

    /// Sets whether a server waits behind a gate until a guardian that is a shell knows it.
    /// Default: only where there is no `/proc`, since on Linux the guardian finds an unregistered
    /// server by the marker in its environment. A guardian that is a program needs no gate.
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
    /// Dropping the future ends the process that was started, before the drop returns: a few
    /// milliseconds, at most a second.
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
        let launch = self.launch.clone();
        let owned = stdio.clone();
        let ladder = Ladder::new(&spec.policy.shutdown);
        // Looking a program up and starting it block.
        let (process, streams) =
            starting::start(move || start_process(&owned, &launch, ladder)).await?;
        let monitor = Arc::new(StdioMonitor::new(
            spec.name.clone(),
            process.id(),
            spec.policy.limits.stderr_lines,
            spec.masker.clone(),
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

fn start_process(spec: &StdioSpec, launch: &Launch, ladder: Ladder) -> Result<(Process, Streams)> {
    let plan = Plan::new(spec, std::env::vars_os())?;
    Process::start(&plan, launch, ladder).map_err(|source| spawn_error(&plan, source))
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
