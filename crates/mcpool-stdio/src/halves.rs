//! The two halves of a connection to a server process.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_core::future::BoxFuture;
use mcpool_core::{Error, ErrorKind, Result, TransportMonitor};
use mcpool_duplex::{
    DuplexMonitor, Frames, Outgoing, ReadHalf, WriteError, WriteHalf, lines::LineReader,
};
use tokio::{
    task::AbortHandle,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    monitor::StdioMonitor,
    pace::Pace,
    pipes::{Stdin, Stdout, Streams},
    process::{Process, has_exited},
    shutdown::{DROP_PATIENCE, Ladder},
    tend::{DRAIN_GRACE, tend},
};

/// How long a server that closed its stdout has to exit as well, so that the error can say how.
const EXIT_GRACE: Duration = Duration::from_millis(200);

/// How long a process that has exited by then may take to be reaped, and its end to be reported: the
/// guardian and its report wait for their turn on a busy machine.
const EXIT_REPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Writes to the server's stdin, and owns its process.
pub(crate) struct Writer {
    stdin: Arc<Stdin>,
    process: Arc<Process>,
    monitor: Arc<StdioMonitor>,
    pace: Arc<Pace>,
    tending: AbortHandle,
}

/// Reads the server's stdout.
pub(crate) struct Reader {
    stdout: LineReader<Stdout>,
    stdin: Arc<Stdin>,
    monitor: Arc<StdioMonitor>,
    /// Until when stdout is read after the death of the process.
    drain_until: Option<Instant>,
}

/// Takes over a process that was just started. Needs a runtime with I/O and time enabled.
pub(crate) fn take_over(
    process: Process,
    streams: Streams,
    monitor: &Arc<StdioMonitor>,
    max_message_bytes: usize,
    pace: Arc<Pace>,
) -> std::io::Result<(Reader, Writer)> {
    let process = Arc::new(process);
    monitor.watch(&process);
    let (stdin, stdout, stderr) = streams.register()?;
    let stdin = Arc::new(stdin);
    let tending = tokio::spawn(tend(
        Arc::clone(&process),
        Arc::clone(monitor),
        Arc::clone(&stdin),
        stderr,
        pace.ladder().linger,
    ));
    let reader = Reader {
        stdout: LineReader::new(stdout, max_message_bytes),
        stdin: Arc::clone(&stdin),
        monitor: Arc::clone(monitor),
        drain_until: None,
    };
    let writer = Writer {
        stdin,
        process,
        monitor: Arc::clone(monitor),
        pace,
        tending: tending.abort_handle(),
    };
    Ok((reader, writer))
}

#[async_trait]
impl ReadHalf for Reader {
    async fn read(&mut self, frames: &mut Frames) -> Result<()> {
        let read = match self.drain_until {
            Some(deadline) => match timeout_at(deadline, self.stdout.read_once(frames)).await {
                Ok(read) => read,
                // A process that escaped holds it open.
                Err(_) => self.stdout.finish(frames).map(|()| false),
            },
            None => tokio::select! {
                biased;
                read = self.stdout.read_once(frames) => read,
                () = self.monitor.ended() => {
                    self.drain_until = Some(Instant::now() + DRAIN_GRACE);
                    Ok(true)
                }
            },
        };
        match read {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.end_of_stdout().await),
            Err(error) => Err(self.lost(error)),
        }
    }
}

impl Reader {
    /// Waits a moment for the exit, which is mostly the cause of it, so that the reason is known.
    async fn end_of_stdout(&self) -> Error {
        // What is known after it counts, not whether it was in time.
        let in_time = timeout(EXIT_GRACE, self.monitor.ended()).await;
        if in_time.is_err() && has_exited(self.monitor.pid()) {
            let _ = timeout(EXIT_REPORT_TIMEOUT, self.monitor.ended()).await;
        }
        let reason = self.monitor.reason().unwrap_or_else(|| {
            let words = if self.monitor.has_ended() {
                "the server was killed by force"
            } else {
                "the server closed its stdout and still runs"
            };
            Error::new(ErrorKind::ConnectionLost, words)
        });
        self.lost(self.monitor.end_error(&reason))
    }

    /// A caller that still writes must not wait for a connection that has ended.
    fn lost(&self, reason: Error) -> Error {
        self.stdin.shut();
        self.monitor.with_stderr(reason)
    }
}

#[async_trait]
impl WriteHalf for Writer {
    /// As `async_trait` writes it, without a second box around the future of the pipe.
    fn write<'a, 'b>(
        &'a self,
        message: Outgoing,
    ) -> BoxFuture<'b, std::result::Result<(), WriteError>>
    where
        'a: 'b,
        Self: 'b,
    {
        self.stdin.write(message)
    }

    /// Climbs down the ladder of the shutdown policy. Its end is watched by the task that tends
    /// the process; stdout is read all the while, since a server that is stuck in a write does
    /// not notice the end of its stdin.
    async fn close(&self) -> Result<()> {
        if self.monitor.has_ended() {
            self.stdin.shut();
            return Ok(());
        }
        self.monitor.begin_close();
        if self.process.leave() {
            self.stdin.shut();
            return Ok(());
        }
        self.pace.begin();
        let process = Arc::clone(&self.process);
        // It fails only with the runtime, and then what is known without it is ended.
        let _ = tokio::task::spawn_blocking(move || process.survey()).await;
        self.stdin.shut();
        if self.exits_before(|ladder| ladder.terminate).await {
            return Ok(());
        }
        self.process.terminate();
        if self.exits_before(|ladder| ladder.kill).await {
            return Ok(());
        }
        let process = Arc::clone(&self.process);
        let ladder = self.pace.ladder();
        let patience = ladder.give_up.saturating_sub(ladder.kill);
        tokio::select! {
            // The task that tends the process sees the death and publishes it.
            _ = tokio::task::spawn_blocking(move || process.end(Duration::ZERO, patience)) => {}
            () = self.pace.reach(|ladder| ladder.give_up) => {}
        }
        self.exits_before(|ladder| ladder.give_up).await;
        Err(Error::new(
            ErrorKind::Timeout,
            "the server did not exit when its stdin was closed, nor at SIGTERM; it was killed",
        ))
    }

    /// Kills all that is left of the server. Takes the time that the kernel needs: a few
    /// milliseconds, at most a second.
    fn abandon(&self) {
        self.monitor.begin_close();
        if self.process.leave() {
            self.stdin.shut();
            return;
        }
        // Before its stdin is closed: an obedient leader exits then, and nothing leads to what
        // left its group any more.
        let status = self.process.end(Duration::ZERO, DROP_PATIENCE);
        self.stdin.shut();
        if let Some(status) = status {
            self.monitor.set_killed(self.process.killed());
            self.monitor.process_ended(Some(status));
            self.monitor.stderr_ended();
            self.tending.abort();
        }
        // Else the task goes on waiting for a process that the kernel holds.
    }

    fn monitor(&self, counts: Arc<DuplexMonitor>) -> Arc<dyn TransportMonitor> {
        self.monitor.count_with(counts);
        Arc::clone(&self.monitor) as _
    }
}

impl Writer {
    /// Whether the process ends before the time of a step.
    async fn exits_before(&self, step: fn(&Ladder) -> Duration) -> bool {
        tokio::select! {
            biased;
            () = self.monitor.ended() => true,
            () = self.pace.reach(step) => false,
        }
    }
}
