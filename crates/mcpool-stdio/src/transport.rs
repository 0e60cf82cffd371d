//! The transport: ties the pipes, the decoder and the process together.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use mcpool_core::{
    Error, ErrorKind, IncomingMessage, OutgoingMessage, Result, ServerSpec, ShutdownPolicy,
    Transport, TransportMonitor, model::RequestId,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::Notify,
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    framing::{Decoder, Frame, Skip},
    monitor::StdioMonitor,
    pipes::{Stderr, Stdout, Streams},
    process::Process,
    shutdown::{DROP_PATIENCE, Ladder},
    stderr::LineSplitter,
    stdin::{Stdin, Submitted, WriteFailure},
};

/// How long a server that closed a pipe has to exit as well, so that the error can say how.
const EXIT_GRACE: Duration = Duration::from_millis(500);
/// How long the pipes are read after the process and its group are dead: only a process that
/// escaped can hold them open.
const DRAIN_GRACE: Duration = Duration::from_millis(300);
/// How long what is left of a server may take to die after SIGKILL.
const KILL_PATIENCE: Duration = Duration::from_secs(1);

/// A connection to one server process.
///
/// Dropping it kills the server's process group and everything else that carries the server's
/// marker, synchronously and with no runtime running as well. This takes the time that the kernel
/// needs to end the processes: a few milliseconds, at most a second.
pub struct StdioTransport {
    monitor: Arc<StdioMonitor>,
    process: Arc<Process>,
    stdin: Arc<Stdin>,
    /// `None` after its end.
    stdout: Option<Stdout>,
    decoder: Decoder,
    /// Messages that were decoded and not yet given.
    ready: VecDeque<IncomingMessage>,
    limit: usize,
    /// Until when stdout is read after the death of the process.
    drain_until: Option<Instant>,
    /// Until when a server that closed its stdout may exit.
    exit_until: Option<Instant>,
    shutdown: ShutdownPolicy,
    close_began: Option<Instant>,
    closed: Option<Result<()>>,
    tending: JoinHandle<()>,
}

impl StdioTransport {
    /// Takes over a process that was just started. Needs a runtime with I/O and time enabled.
    pub(crate) fn new(
        spec: &ServerSpec,
        process: Process,
        streams: Streams,
        monitor: Arc<StdioMonitor>,
    ) -> std::io::Result<Self> {
        let process = Arc::new(process);
        monitor.watch(&process);
        let (stdin, stdout, stderr) = streams.register()?;
        let stdin = Arc::new(Stdin::new(stdin, Arc::clone(&monitor)));
        let tending = tokio::spawn(tend(
            Arc::clone(&process),
            Arc::clone(&monitor),
            Arc::clone(&stdin),
            stderr,
            Ladder::new(&spec.policy.shutdown).linger,
        ));
        let limit = spec.policy.limits.max_message_bytes;
        Ok(Self {
            monitor,
            process,
            stdin,
            stdout: Some(stdout),
            decoder: Decoder::new(limit),
            ready: VecDeque::new(),
            limit,
            drain_until: None,
            exit_until: None,
            shutdown: spec.policy.shutdown.clone(),
            close_began: None,
            closed: None,
            tending,
        })
    }

    /// The monitor, with what only a process has.
    #[must_use]
    pub fn stdio_monitor(&self) -> Arc<StdioMonitor> {
        Arc::clone(&self.monitor)
    }

    /// Closes within this time, whatever the spec's shutdown policy says: both graces are
    /// shortened to fit, and what does not obey is killed. With no time at all it is killed at
    /// once. When this returns all of the server's processes are dead; that takes a second more
    /// at most, where the kernel holds one.
    ///
    /// A close that was begun and dropped goes on where it was, with what it has left of either
    /// time.
    ///
    /// # Errors
    /// As [`close`](Transport::close).
    pub async fn close_within(&mut self, time: Duration) -> Result<()> {
        let since = self.close_began.map_or(Duration::ZERO, |at| at.elapsed());
        self.shutdown.total = self.shutdown.total.min(since.saturating_add(time));
        self.close_once().await
    }

    async fn next_message(&mut self) -> Option<IncomingMessage> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                self.monitor.count_received();
                return Some(message);
            }
            if let Some(frame) = self.decoder.next_frame() {
                self.accept(frame);
                continue;
            }
            let Some(stdout) = &mut self.stdout else {
                self.settle().await;
                return None;
            };
            if self.drain_until.is_none() && self.monitor.has_ended() {
                self.drain_until = Some(Instant::now() + DRAIN_GRACE);
            }
            let read = match self.drain_until {
                None => tokio::select! {
                    biased;
                    read = stdout.read_buf(self.decoder.space()) => read,
                    () = self.monitor.ended() => continue,
                },
                Some(deadline) => timeout_at(deadline, stdout.read_buf(self.decoder.space()))
                    .await
                    .unwrap_or(Ok(0)),
            };
            match read {
                Ok(count) if count > 0 => {}
                Ok(_) => self.end_of_stdout(),
                Err(error) => {
                    self.monitor.fail(
                        Error::new(ErrorKind::ConnectionLost, "cannot read the server's stdout")
                            .with_source(error),
                    );
                    self.end_of_stdout();
                }
            }
        }
    }

    fn end_of_stdout(&mut self) {
        self.stdout = None;
        self.decoder.finish();
    }

    /// After the end of stdout: waits a moment for the exit, so that the reason is known.
    async fn settle(&mut self) {
        if !self.monitor.has_ended() && self.monitor.failure().is_none() {
            let deadline = *self
                .exit_until
                .get_or_insert_with(|| Instant::now() + EXIT_GRACE);
            if timeout_at(deadline, self.monitor.ended()).await.is_err() {
                self.monitor.fail(Error::new(
                    ErrorKind::ConnectionLost,
                    "the server closed its stdout and still runs",
                ));
            }
        }
        // Whoever still sends must not wait for a connection that has ended.
        self.stdin.close();
    }

    fn accept(&mut self, frame: Frame) {
        match frame {
            Frame::Message(message) => self.ready.push_back(message),
            Frame::Batch(messages, skipped) => {
                self.ready.extend(messages);
                self.monitor.skipped(Skip::NotAMessage, skipped);
            }
            Frame::Skipped(why) => self.monitor.skipped(why, 1),
            Frame::Malformed(id, problem) => {
                self.monitor.skipped(Skip::NotAMessage, 1);
                let error = Error::new(
                    ErrorKind::Protocol,
                    format!("the server's answer is not valid: {problem}"),
                );
                self.refuse(id, &error);
            }
            Frame::Oversized { answers, requests } => {
                let error = self.too_large("the server's answer");
                for id in answers {
                    self.refuse(id, &error);
                }
                let error = self.too_large("the request");
                for id in requests {
                    self.reject(id, &error);
                }
            }
            Frame::Lost => {
                self.monitor
                    .fail(self.too_large("a message without an id that could be found"));
                self.stdout = None;
            }
        }
    }

    fn too_large(&self, what: &str) -> Error {
        tracing::warn!(
            server = %self.monitor.server(),
            transport = "stdio",
            limit_bytes = self.limit,
            "{what} is over the size limit"
        );
        Error::new(
            ErrorKind::TooLarge,
            format!(
                "{what} is over the limit of {} bytes; raise the limit or ask for less",
                self.limit
            ),
        )
    }

    /// Ends one of our requests, as if the server had answered with an error.
    fn refuse(&mut self, id: RequestId, error: &Error) {
        self.ready
            .push_back(IncomingMessage::error(error.to_rpc(), Some(id)));
    }

    /// Answers one of the server's requests with an error. Nobody waits for its delivery.
    fn reject(&self, id: RequestId, error: &Error) {
        let answer = OutgoingMessage::error(error.to_rpc(), Some(id));
        if let Ok(line) = encode(&answer) {
            // An answer that had to be queued is only written while its receiver lives.
            if let Submitted::Queued(outcome) = self.stdin.submit(line) {
                tokio::spawn(outcome);
            }
        }
    }

    async fn close_once(&mut self) -> Result<()> {
        if let Some(result) = &self.closed {
            return result.clone();
        }
        if self.monitor.has_ended() {
            self.monitor.begin_close();
            self.stdin.close();
            self.closed = Some(Ok(()));
            return Ok(());
        }
        self.monitor.begin_close();
        if self.process.leave() {
            self.stdin.close();
            self.closed = Some(Ok(()));
            return Ok(());
        }
        let began = *self.close_began.get_or_insert_with(Instant::now);
        let ladder = Ladder::new(&self.shutdown);
        let process = Arc::clone(&self.process);
        // It fails only with the runtime, and then the drop ends what is known without it.
        let _ = tokio::task::spawn_blocking(move || process.survey()).await;
        self.stdin.close();
        let mut orderly = self.exit_by(began + ladder.terminate).await;
        if !orderly {
            self.process.terminate();
            orderly = self.exit_by(began + ladder.kill).await;
        }
        let result = if orderly {
            Ok(())
        } else {
            let process = Arc::clone(&self.process);
            let patience = ladder.give_up.saturating_sub(ladder.kill);
            // The task that tends the process sees the death and publishes it.
            let _ = timeout_at(
                began + ladder.give_up,
                tokio::task::spawn_blocking(move || process.end(Duration::ZERO, patience)),
            )
            .await;
            self.exit_by(began + ladder.give_up).await;
            Err(Error::new(
                ErrorKind::Timeout,
                "the server did not exit when its stdin was closed, nor at SIGTERM; it was killed",
            )
            .with_server(self.monitor.server())
            .with_operation("close"))
        };
        self.closed = Some(result.clone());
        result
    }

    /// Waits for the exit and reads stdout away meanwhile: a server that is stuck in a write
    /// does not notice the end of its stdin.
    async fn exit_by(&mut self, deadline: Instant) -> bool {
        let ended = self.monitor.ended();
        let drained = drain(&mut self.stdout);
        timeout_at(deadline, async {
            tokio::select! {
                biased;
                () = ended => {}
                () = drained => {}
            }
        })
        .await
        .is_ok()
    }
}

/// Reads all that comes and forgets it; never ends.
async fn drain(stdout: &mut Option<Stdout>) {
    if let Some(stdout) = stdout {
        let mut sink = tokio::io::sink();
        // The end of stdout and an error are the same here.
        let _ = tokio::io::copy(stdout, &mut sink).await;
    }
    std::future::pending().await
}

impl Transport for StdioTransport {
    fn send(&self, message: OutgoingMessage) -> BoxFuture<'static, Result<()>> {
        let line = match encode(&message) {
            Ok(line) => line,
            Err(error) => {
                let error = error.with_server(self.monitor.server());
                return std::future::ready(Err(error)).boxed();
            }
        };
        drop(message);
        match self.stdin.submit(line) {
            Submitted::Done(Ok(())) => std::future::ready(Ok(())).boxed(),
            Submitted::Done(Err(failure)) => failed(Arc::clone(&self.monitor), failure).boxed(),
            Submitted::Queued(outcome) => {
                let monitor = Arc::clone(&self.monitor);
                async move {
                    match outcome.await {
                        Ok(Ok(())) => Ok(()),
                        Ok(Err(failure)) => failed(monitor, failure).await,
                        // The queue went away with its runtime.
                        Err(_) => Err(monitor.send_error(mcpool_core::Delivery::Unknown, None)),
                    }
                }
                .boxed()
            }
        }
    }

    fn receive(&mut self) -> BoxFuture<'_, Option<IncomingMessage>> {
        self.next_message().boxed()
    }

    fn close(&mut self) -> BoxFuture<'_, Result<()>> {
        self.close_once().boxed()
    }

    fn monitor(&self) -> Arc<dyn TransportMonitor> {
        Arc::clone(&self.monitor) as _
    }
}

impl Drop for StdioTransport {
    fn drop(&mut self) {
        self.monitor.begin_close();
        if self.process.leave() {
            self.stdin.close();
            return;
        }
        // Before its stdin is closed: an obedient leader exits then, and nothing leads to what
        // left its group any more.
        let status = self.process.end(Duration::ZERO, DROP_PATIENCE);
        self.stdin.close();
        if let Some(status) = status {
            self.monitor.set_killed(self.process.killed());
            self.monitor.process_ended(Some(status));
            self.monitor.stderr_ended();
            self.tending.abort();
        }
        // Else the task goes on waiting for a process that the kernel holds.
    }
}

impl std::fmt::Debug for StdioTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StdioTransport")
            .field("monitor", &self.monitor)
            .finish_non_exhaustive()
    }
}

/// A message as a line. JSON text never holds a bare line feed.
fn encode(message: &OutgoingMessage) -> Result<Vec<u8>> {
    let mut line = Vec::with_capacity(256);
    serde_json::to_writer(&mut line, message).map_err(|source| {
        Error::new(ErrorKind::InvalidArgument, "the message cannot be JSON").with_source(source)
    })?;
    line.push(b'\n');
    Ok(line)
}

/// The error of a message that was not written. Waits a moment for the exit that is mostly the
/// cause of it, so that the error can say so.
async fn failed(monitor: Arc<StdioMonitor>, failure: WriteFailure) -> Result<()> {
    if monitor.failure().is_none() && !monitor.is_closing() {
        let _ = timeout(EXIT_GRACE, monitor.ended()).await;
    }
    Err(monitor.send_error(failure.delivery, failure.source))
}

/// The one task of a server: reads its stderr, writes what had to be queued, and sees its end.
async fn tend(
    process: Arc<Process>,
    monitor: Arc<StdioMonitor>,
    stdin: Arc<Stdin>,
    stderr: Stderr,
    linger: Duration,
) {
    let stderr_ended = Notify::new();
    let enough_stderr = Notify::new();
    tokio::join!(
        async {
            tokio::select! {
                () = read_stderr(stderr, &monitor) => {}
                () = enough_stderr.notified() => {}
            }
            monitor.stderr_ended();
            stderr_ended.notify_one();
        },
        async {
            if stdin.pump().await && timeout(EXIT_GRACE, monitor.ended()).await.is_err() {
                // A server that lives and does not listen is of no use.
                monitor.fail(Error::new(
                    ErrorKind::ConnectionLost,
                    "the server closed its stdin and still runs",
                ));
                end(&process, Duration::ZERO).await;
            }
        },
        async {
            if let Err(error) = process.exited().await {
                tracing::warn!(server = %monitor.server(), transport = "stdio", %error,
                    "cannot wait for the server's process; it is ended");
            }
            // The leader has exited, by itself or not: nothing of its group may stay. Only in a
            // close may a server behind a launcher finish what it does.
            let linger = if monitor.is_closing() {
                linger
            } else {
                Duration::ZERO
            };
            let status = end(&process, linger).await;
            monitor.set_killed(process.killed());
            let _ = timeout(DRAIN_GRACE, stderr_ended.notified()).await;
            enough_stderr.notify_one();
            monitor.process_ended(status);
            stdin.close();
        },
    );
}

/// Kills what is left of a server, away from the runtime's threads.
async fn end(process: &Arc<Process>, linger: Duration) -> Option<std::process::ExitStatus> {
    let process = Arc::clone(process);
    tokio::task::spawn_blocking(move || process.end(linger, KILL_PATIENCE))
        .await
        .unwrap_or_default()
}

async fn read_stderr(mut stderr: impl AsyncRead + Unpin, monitor: &StdioMonitor) {
    let mut buffer = bytes::BytesMut::new();
    let mut splitter = LineSplitter::default();
    loop {
        buffer.clear();
        buffer.reserve(4096);
        match stderr.read_buf(&mut buffer).await {
            Ok(count) if count > 0 => {
                splitter.feed(&buffer, |line| monitor.stderr_line(line));
            }
            // An error is the end as well: stderr is not needed for anything.
            _ => break,
        }
    }
    splitter.finish(|line| monitor.stderr_line(line));
}
