//! What is known of one server process, readable at any time, after its end as well.

use std::{
    process::ExitStatus,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use mcpool_core::{
    Delivery, Diagnostics, Error, ErrorKind, Masker, Sensitivity, ServerName, StderrLine,
    TransportKind, TransportMonitor,
};
use tokio::sync::watch;

use crate::{
    framing::Skip,
    process::{Process, describe},
    shutdown::DROP_PATIENCE,
    stderr::{Fanout, StderrStream, Tail},
};

/// The monitor of one stdio server. It does not keep the process alive.
pub struct StdioMonitor {
    server: ServerName,
    pid: u32,
    process: OnceLock<Weak<Process>>,
    tail: Mutex<Tail>,
    own_stream: Mutex<Fanout>,
    connector_stream: Arc<Mutex<Fanout>>,
    masker: Masker,
    exit: OnceLock<Option<ExitStatus>>,
    failure: OnceLock<Error>,
    closing: AtomicBool,
    /// Becomes true when the process has ended and all is known of how.
    ended: watch::Sender<bool>,
    skipped: AtomicU64,
    killed: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

impl StdioMonitor {
    pub(crate) fn new(
        server: ServerName,
        pid: u32,
        stderr_lines: usize,
        masker: Masker,
        connector_stream: Arc<Mutex<Fanout>>,
    ) -> Self {
        Self {
            server,
            pid,
            process: OnceLock::new(),
            tail: Mutex::new(Tail::new(stderr_lines)),
            own_stream: Mutex::default(),
            connector_stream,
            masker,
            exit: OnceLock::new(),
            failure: OnceLock::new(),
            closing: AtomicBool::new(false),
            ended: watch::Sender::new(false),
            skipped: AtomicU64::new(0),
            killed: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
        }
    }

    /// The lines that the server writes to stderr from now on.
    #[must_use]
    pub fn stderr(&self) -> StderrStream {
        lock(&self.own_stream).subscribe()
    }

    /// Takes note of the process that [`kill`](TransportMonitor::kill) kills.
    pub(crate) fn watch(&self, process: &Arc<Process>) {
        // There is only one.
        let _ = self.process.set(Arc::downgrade(process));
    }

    pub(crate) fn server(&self) -> &ServerName {
        &self.server
    }

    pub(crate) fn stderr_line(&self, text: String) {
        // A server that prints its token must not bring it into logs and errors.
        let line = StderrLine::now(self.masker.mask(&text, Sensitivity::Value));
        lock(&self.own_stream).publish(&self.server, &line);
        lock(&self.connector_stream).publish(&self.server, &line);
        lock(&self.tail).push(line);
    }

    pub(crate) fn stderr_ended(&self) {
        lock(&self.own_stream).end();
    }

    /// Counts lines that were skipped; the first is logged. Their text is not: it is unknown
    /// what a server prints.
    pub(crate) fn skipped(&self, why: Skip, count: u64) {
        if count > 0 && self.skipped.fetch_add(count, Ordering::Relaxed) == 0 {
            tracing::warn!(
                server = %self.server,
                transport = "stdio",
                reason = why.as_str(),
                "the server wrote to stdout what is no message; such lines are skipped and counted"
            );
        }
    }

    pub(crate) fn count_received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn begin_close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    pub(crate) fn set_killed(&self, killed: u64) {
        self.killed.store(killed, Ordering::Relaxed);
    }

    /// Notes why the connection ended; the first reason stays, and after the begin of a close
    /// there is none.
    pub(crate) fn fail(&self, error: Error) {
        if !self.is_closing() {
            let error = error
                .with_server(&self.server)
                .with_stderr_tail(lock(&self.tail).lines());
            let _ = self.failure.set(error);
        }
    }

    /// Publishes the end of the process.
    pub(crate) fn process_ended(&self, status: Option<ExitStatus>) {
        if self.exit.set(status).is_ok() {
            tracing::debug!(
                server = %self.server,
                transport = "stdio",
                pid = self.pid,
                status = self.exit_words(),
                killed = self.killed.load(Ordering::Relaxed),
                "server process ended"
            );
            self.fail(Error::new(
                ErrorKind::ProcessExited,
                format!("the server {}", self.exit_words().unwrap_or_default()),
            ));
            self.ended.send_replace(true);
        }
    }

    /// Waits until the end of the process was published. Cancel-safe.
    pub(crate) async fn ended(&self) {
        // It fails only when the sender is gone, and we hold it.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    pub(crate) fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }

    fn exit_words(&self) -> Option<String> {
        self.exit
            .get()
            .map(|status| status.map_or_else(|| "ended".to_owned(), describe))
    }

    /// The error of a send on this connection.
    pub(crate) fn send_error(&self, delivery: Delivery, source: Option<std::io::Error>) -> Error {
        let error = match self.failure() {
            Some(failure) => failure.with_delivery(delivery),
            None if self.is_closing() => Error::new(ErrorKind::Closed, "the connection is closed")
                .with_server(&self.server)
                .with_delivery(delivery),
            None => Error::new(
                ErrorKind::ConnectionLost,
                "the server no longer reads its stdin",
            )
            .with_server(&self.server)
            .with_stderr_tail(lock(&self.tail).lines())
            .with_delivery(delivery),
        };
        match source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }
}

impl TransportMonitor for StdioMonitor {
    fn kind(&self) -> TransportKind {
        TransportKind::Stdio
    }

    fn diagnostics(&self) -> Diagnostics {
        let mut diagnostics = Diagnostics::default();
        diagnostics.stderr_tail = lock(&self.tail).lines();
        diagnostics.pid = Some(self.pid);
        diagnostics.exit_status = self.exit_words();
        diagnostics.skipped_lines = self.skipped.load(Ordering::Relaxed);
        diagnostics.killed_processes = self.killed.load(Ordering::Relaxed);
        diagnostics.sent = self.sent.load(Ordering::Relaxed);
        diagnostics.received = self.received.load(Ordering::Relaxed);
        diagnostics
    }

    fn failure(&self) -> Option<Error> {
        self.failure.get().cloned()
    }

    fn kill(&self) {
        if let Some(process) = self.process.get().and_then(Weak::upgrade) {
            self.begin_close();
            process.kill(DROP_PATIENCE);
        }
    }
}

impl std::fmt::Debug for StdioMonitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StdioMonitor")
            .field("server", &self.server)
            .field("pid", &self.pid)
            .field("ended", &self.has_ended())
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
