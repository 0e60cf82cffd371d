//! Ctrl-C, SIGTERM and SIGHUP: each ends the program in an orderly way.

use std::io;
#[cfg(unix)]
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::exit::Exit;

/// The signals that end the program. From its creation on they no longer kill at once; but one that
/// comes while an earlier one was not looked at does, since the command then holds its thread.
#[cfg(unix)]
pub(crate) struct Signals {
    streams: Streams,
    looked_at: Arc<AtomicUsize>,
}

#[cfg(unix)]
impl Signals {
    /// To be called in a runtime, whose workers watch beside the thread of the command.
    pub(crate) fn new() -> io::Result<Self> {
        let (streams, mut beside) = (Streams::new()?, Streams::new()?);
        let looked_at = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&looked_at);
        tokio::spawn(async move {
            let mut came = 0_usize;
            loop {
                let signal = beside.next().await;
                let looked_at = seen.load(Ordering::Acquire);
                if looked_at < came {
                    // Servers are their guardian's.
                    std::process::exit(signal.code().into());
                }
                came = looked_at.saturating_add(1);
            }
        });
        Ok(Self { streams, looked_at })
    }

    /// Waits for one of them. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Exit {
        let signal = self.streams.next().await;
        self.looked_at.fetch_add(1, Ordering::AcqRel);
        signal
    }
}

#[cfg(unix)]
struct Streams {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Streams {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Exit {
        tokio::select! {
            _ = self.interrupt.recv() => Exit::Signal(2),
            _ = self.terminate.recv() => Exit::Signal(15),
            _ = self.hangup.recv() => Exit::Signal(1),
        }
    }
}

/// Ctrl-C.
#[cfg(not(unix))]
pub(crate) struct Signals;

#[cfg(not(unix))]
impl Signals {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self)
    }

    /// Waits for it. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Exit {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Exit::Signal(2),
            Err(_) => std::future::pending().await,
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::{
        io::{BufRead as _, BufReader},
        os::unix::process::ExitStatusExt as _,
        process::{Command, Stdio},
        time::Duration,
    };

    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };

    use super::*;

    /// A command that never gives its thread back.
    #[test]
    #[ignore = "the process that the next test starts"]
    fn held() {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let _signals = Signals::new().unwrap();
            crate::render::out::print_line(&crate::text!("\nheld")).unwrap();
            std::thread::sleep(Duration::from_secs(600));
        });
    }

    #[test]
    fn a_second_signal_ends_a_command_that_holds_its_thread() {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--ignored",
                "--exact",
                "--nocapture",
                "signals::tests::held",
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line == "held"));
        let pid = Pid::from_raw(child.id().try_into().unwrap());
        // Two that come as one count as one.
        let status = loop {
            kill(pid, Signal::SIGTERM).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
        };
        assert_eq!((status.code(), status.signal()), (Some(143), None));
    }
}
