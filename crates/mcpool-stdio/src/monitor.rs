//! What is known of one server process, readable at any time, after its end as well.

use std::{
    process::ExitStatus,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use mcpool_core::{
    Diagnostics, Error, ErrorKind, Masker, Sensitivity, ServerName, StderrLine, TransportKind,
    TransportMonitor, Untrusted,
};
use mcpool_duplex::DuplexMonitor;
use tokio::sync::watch;

use crate::{
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
    /// Why the connection ends, as far as the process knows.
    reason: OnceLock<Error>,
    /// What counts the messages.
    counts: OnceLock<Arc<DuplexMonitor>>,
    closing: AtomicBool,
    /// Becomes true when the process has ended and all is known of how.
    ended: watch::Sender<bool>,
    killed: AtomicU64,
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
            reason: OnceLock::new(),
            counts: OnceLock::new(),
            closing: AtomicBool::new(false),
            ended: watch::Sender::new(false),
            killed: AtomicU64::new(0),
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

    /// Takes note of what counts the messages.
    pub(crate) fn count_with(&self, counts: Arc<DuplexMonitor>) {
        // There is only one.
        let _ = self.counts.set(counts);
    }

    pub(crate) fn begin_close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// The leader's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn set_killed(&self, killed: u64) {
        self.killed.store(killed, Ordering::Relaxed);
    }

    /// Notes why the connection ends; the first reason stays, and after the begin of a close there
    /// is none.
    pub(crate) fn note_reason(&self, reason: Error) {
        if !self.is_closing() {
            let _ = self.reason.set(reason);
        }
    }

    /// Why the connection ends, as far as the process knows.
    pub(crate) fn reason(&self) -> Option<Error> {
        self.reason.get().cloned()
    }

    /// The error for the end of stdout: the reason, and what stdout began with when that was no
    /// message.
    pub(crate) fn end_error(&self, reason: &Error) -> Error {
        let said = self.counts.get().and_then(|counts| counts.skipped().1);
        let message = match said {
            Some(said) => format!(
                "{}; its stdout began with {:?}",
                reason.message(),
                self.masker.mask(&said, Sensitivity::Value)
            ),
            None => reason.message().to_owned(),
        };
        Error::new(reason.kind(), message)
    }

    /// Adds to an error what the server wrote to stderr.
    pub(crate) fn with_stderr(&self, error: Error) -> Error {
        error.with_stderr_tail(lock(&self.tail).lines())
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
            self.note_reason(Error::new(
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
}

impl TransportMonitor for StdioMonitor {
    fn kind(&self) -> TransportKind {
        TransportKind::Stdio
    }

    fn diagnostics(&self) -> Diagnostics {
        let counts = self.counts.get();
        let mut diagnostics = counts.map_or_else(Diagnostics::default, |it| it.diagnostics());
        for sample in &mut diagnostics.skipped_samples {
            let masked = self.masker.mask(sample, Sensitivity::Value);
            *sample = Untrusted::line(masked).into_clean().into_owned();
        }
        diagnostics.stderr_tail = lock(&self.tail).lines();
        diagnostics.pid = Some(self.pid);
        diagnostics.exit_status = self.exit_words();
        diagnostics.killed_processes = self.killed.load(Ordering::Relaxed);
        diagnostics
    }

    fn failure(&self) -> Option<Error> {
        match self.counts.get() {
            Some(counts) => counts.failure(),
            None => self.reason(),
        }
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
