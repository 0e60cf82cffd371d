//! Opens transports: starts the server's process and takes over its pipes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use mcpool_core::{
    ConnectRequest, Connector, Error, ErrorKind, Result, ServerName, StdioSpec, Transport,
    TransportKind, TransportSpec,
};

use crate::{
    command::{Plan, spawn_error},
    guardian::Guardian,
    halves::{Reader, Writer, take_over},
    monitor::StdioMonitor,
    pace::Pace,
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
/// use mcpool_core::{ConnectRequest, Connector, StdioSpec, TransportSpec, WireRequest};
/// use mcpool_stdio::StdioConnector;
///
/// let connector = StdioConnector::new();
/// let spec = StdioSpec::new("mcp-server-filesystem").with_args(["."]);
/// let request = ConnectRequest::new("files".parse()?, TransportSpec::Stdio(spec));
/// let transport = connector.connect(request).await?;
/// let discovered = transport.request(WireRequest::new("server/discover", None), None).await;
/// transport.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct StdioConnector {
    launch: Launch,
    /// Guardians of single servers.
    guardians: HashMap<ServerName, Guardian>,
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

    /// Sets what ends one server, whatever the others have.
    #[must_use]
    pub fn with_guardian_of(mut self, server: ServerName, guardian: impl Into<Guardian>) -> Self {
        self.guardians.insert(server, guardian.into());
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
        let started = async {
            let pace = Arc::new(Pace::new(&request.shutdown));
            let (reader, writer, monitor) = self.start(&request, Arc::clone(&pace)).await?;
            StdioTransport::new(&request, reader, writer, monitor, pace)
        };
        started
            .await
            .map_err(|error| error.with_server(&request.server).with_operation("connect"))
    }

    /// Starts the server for rmcp's own client.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    #[cfg(feature = "rmcp")]
    pub async fn open_rmcp(&self, request: ConnectRequest) -> Result<crate::RmcpTransport> {
        let pace = Arc::new(Pace::new(&request.shutdown));
        let started = self.start(&request, pace).await;
        let (reader, writer, monitor) = started
            .map_err(|error| error.with_server(&request.server).with_operation("connect"))?;
        Ok(crate::RmcpTransport::new(reader, writer, monitor))
    }

    /// Starts the process and takes over its pipes.
    async fn start(
        &self,
        request: &ConnectRequest,
        pace: Arc<Pace>,
    ) -> Result<(Reader, Writer, Arc<StdioMonitor>)> {
        let TransportSpec::Stdio(stdio) = &*request.target else {
            return Err(Error::new(
                ErrorKind::InvalidSpec,
                format!(
                    "a {} server is not started as a process",
                    request.target.as_str()
                ),
            ));
        };
        let mut launch = self.launch.clone();
        if let Some(guardian) = self.guardians.get(&request.server) {
            launch.guardian = guardian.clone();
        }
        let owned = stdio.clone();
        let ladder = pace.ladder();
        // Looking a program up and starting it block.
        let (process, streams) =
            starting::start(move || start_process(&owned, &launch, ladder)).await?;
        let monitor = Arc::new(StdioMonitor::new(
            request.server.clone(),
            process.id(),
            request.limits.stderr_lines,
            request.masker.clone(),
            Arc::clone(&self.stderr),
        ));
        tracing::debug!(
            server = %request.server,
            transport = "stdio",
            pid = process.id(),
            "server process started"
        );
        let limit = request.limits.max_message_bytes;
        let halves = take_over(process, streams, &monitor, limit, pace);
        let (reader, writer) = halves.map_err(|source| {
            Error::new(ErrorKind::Spawn, "the pipes to the server cannot be used")
                .with_source(source)
        })?;
        Ok((reader, writer, monitor))
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

    async fn connect(&self, request: ConnectRequest) -> Result<Arc<dyn Transport>> {
        Ok(Arc::new(self.open(request).await?.into_duplex()))
    }
}

impl std::fmt::Debug for StdioConnector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StdioConnector")
            .field("launch", &self.launch)
            .finish_non_exhaustive()
    }
}
