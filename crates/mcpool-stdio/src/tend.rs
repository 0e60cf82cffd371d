//! The one task of a server beside its reader: it reads stderr and sees the server's end.

use std::{
    mem::MaybeUninit,
    pin::Pin,
    process::ExitStatus,
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use mcpool_core::{Error, ErrorKind};
use tokio::{
    io::{AsyncRead, ReadBuf},
    sync::Notify,
    time::timeout,
};

use crate::{
    monitor::StdioMonitor,
    pipes::{Stderr, Stdin},
    process::Process,
    stderr::LineSplitter,
};

/// How long a server that closed its stdin has to exit as well.
const EXIT_GRACE: Duration = Duration::from_millis(500);
/// How long a pipe is read after the process and its group are dead: only a process that escaped
/// can hold it open.
pub(crate) const DRAIN_GRACE: Duration = Duration::from_millis(100);
/// How long what is left of a server may take to die after SIGKILL.
const KILL_PATIENCE: Duration = Duration::from_secs(1);
/// Read from stderr at once, on the stack.
const STDERR_READ: usize = 4 * 1024;

pub(crate) async fn tend(
    process: Arc<Process>,
    monitor: Arc<StdioMonitor>,
    stdin: Arc<Stdin>,
    stderr: Stderr,
    linger: Duration,
) {
    let stderr_ended = Notify::new();
    let enough_stderr = Notify::new();
    let exited = async {
        if let Err(error) = process.exited().await {
            tracing::warn!(server = %monitor.server(), transport = "stdio", %error,
                "cannot wait for the server's process; it is ended");
        }
        // The leader has exited, by itself or not: nothing of its group may stay. Only in a close
        // may a server behind a launcher finish what it does.
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
        stdin.shut();
    };
    let stdin_broken = async {
        stdin.broken().await;
        if timeout(EXIT_GRACE, monitor.ended()).await.is_err() {
            // A server that lives and does not listen is of no use.
            monitor.note_reason(Error::new(
                ErrorKind::ConnectionLost,
                "the server closed its stdin and still runs",
            ));
            end(&process, Duration::ZERO).await;
        }
        std::future::pending::<()>().await;
    };
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
            tokio::select! {
                () = exited => {}
                () = stdin_broken => {}
            }
        },
    );
}

/// Kills what is left of a server, away from the runtime's threads.
async fn end(process: &Arc<Process>, linger: Duration) -> Option<ExitStatus> {
    let process = Arc::clone(process);
    tokio::task::spawn_blocking(move || process.end(linger, KILL_PATIENCE))
        .await
        .unwrap_or_default()
}

async fn read_stderr(mut stderr: Stderr, monitor: &StdioMonitor) {
    let mut splitter = LineSplitter::default();
    // It holds no buffer while it waits.
    std::future::poll_fn(|cx| {
        loop {
            let mut room = [MaybeUninit::uninit(); STDERR_READ];
            let mut room = ReadBuf::uninit(&mut room);
            let read = ready!(Pin::new(&mut stderr).poll_read(cx, &mut room));
            // An error is the end as well: stderr is not needed for anything.
            if read.is_err() || room.filled().is_empty() {
                return Poll::Ready(());
            }
            splitter.feed(room.filled(), |line| monitor.stderr_line(line));
        }
    })
    .await;
    splitter.finish(|line| monitor.stderr_line(line));
}
