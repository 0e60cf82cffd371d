//! Ctrl-C, SIGTERM and SIGHUP: each ends the program in an orderly way.

use std::io;
#[cfg(unix)]
use std::{pin::pin, time::Duration};

#[cfg(unix)]
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::exit::Exit;
#[cfg(unix)]
use crate::tty;

/// How long a command may hold its thread after a signal.
#[cfg(unix)]
const PATIENCE: Duration = Duration::from_secs(5);

/// How long it may do so after another one. The thread that looks at signals here may see both at
/// once, long after the command has seen the first.
#[cfg(unix)]
const LAST_PATIENCE: Duration = Duration::from_millis(250);

/// The signals that end the program. From its creation on they no longer kill at once. But a
/// command that holds its thread, for instance in a write to a terminal that nobody reads, does not
/// look at them: then the program ends after [`PATIENCE`], or soon after the next signal.
#[cfg(unix)]
pub(crate) struct Signals {
    streams: Streams,
    /// How often a sign of life was asked for, and how often one was given.
    asked: watch::Receiver<usize>,
    given: watch::Sender<usize>,
}

#[cfg(unix)]
impl Signals {
    /// To be called in a runtime.
    pub(crate) fn new() -> io::Result<Self> {
        Self::with_patience(PATIENCE)
    }

    fn with_patience(patience: Duration) -> io::Result<Self> {
        let ((ask, asked), (given, signs)) = (watch::channel(0), watch::channel(0));
        let streams = Streams::new()?;
        let modes = tty::Modes::now();
        let (say, started) = std::sync::mpsc::sync_channel(1);
        // All threads of the command's runtime may be held.
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || match beside() {
                Ok((runtime, beside)) => {
                    let _ = say.send(Ok(()));
                    runtime.block_on(watch_over(beside, ask, signs, patience, modes));
                }
                Err(error) => {
                    let _ = say.send(Err(error));
                }
            })?;
        started
            .recv()
            .map_err(|_| io::Error::other("the thread for signals ended"))??;
        Ok(Self {
            streams,
            asked,
            given,
        })
    }

    /// Waits for one of them. After a signal one has to come back here, and wait for the next: that
    /// is the sign of life. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Exit {
        loop {
            tokio::select! {
                // The signal comes before what is asked because of it.
                biased;
                signal = self.streams.next() => return signal,
                Ok(()) = self.asked.changed() => {
                    let asked = *self.asked.borrow_and_update();
                    self.given.send_replace(asked);
                }
            }
        }
    }
}

/// The same signals once more, in a runtime of their own.
#[cfg(unix)]
fn beside() -> io::Result<(tokio::runtime::Runtime, Streams)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let streams = {
        let _in_it = runtime.enter();
        Streams::new()?
    };
    Ok((runtime, streams))
}

/// Ends the program when a command holds its thread after a signal. Ends with the [`Signals`].
#[cfg(unix)]
async fn watch_over(
    mut beside: Streams,
    ask: watch::Sender<usize>,
    mut signs: watch::Receiver<usize>,
    patience: Duration,
    modes: tty::Modes,
) {
    for asked in 1_usize.. {
        let mut signal = tokio::select! {
            signal = beside.next() => signal,
            _ended = signs.wait_for(|_| false) => return,
        };
        ask.send_replace(asked);
        let mut end = pin!(sleep(patience));
        loop {
            tokio::select! {
                biased;
                sign = signs.wait_for(|given| *given == asked) => match sign {
                    Ok(_) => break,
                    Err(_ended) => return,
                },
                another = beside.next() => {
                    signal = another;
                    let soon = Instant::now() + LAST_PATIENCE;
                    let end_at = soon.min(end.deadline());
                    end.as_mut().reset(end_at);
                }
                () = &mut end => end_at_once(signal, &modes),
            }
        }
    }
}

/// Servers are their guardian's.
#[cfg(unix)]
fn end_at_once(signal: Exit, modes: &tty::Modes) -> ! {
    #[cfg(feature = "screen")]
    crate::commands::watch::terminal::give_back_at_once();
    modes.give_back();
    std::process::exit(signal.code().into());
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
    #![allow(clippy::unwrap_used)]
    use std::{
        io::{BufRead as _, BufReader},
        os::unix::process::ExitStatusExt as _,
        process::{Child, Command, Stdio},
        time::Duration,
    };

    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };

    use super::*;

    /// A command that never gives its thread back.
    fn hold(patience: Duration) {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let _signals = Signals::with_patience(patience).unwrap();
            crate::render::out::print_line(&crate::text!("\nheld")).unwrap();
            std::thread::sleep(Duration::from_secs(600));
        });
    }

    #[test]
    #[ignore = "a process that a test starts"]
    fn held() {
        hold(Duration::from_secs(600));
    }

    #[test]
    #[ignore = "a process that a test starts"]
    fn held_for_a_moment() {
        hold(Duration::from_millis(50));
    }

    /// A command that goes on for longer after its first signal than it may hold its thread.
    #[test]
    #[ignore = "a process that a test starts"]
    fn going_on() {
        let patience = Duration::from_secs(1);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let mut signals = Signals::with_patience(patience).unwrap();
            crate::render::out::print_line(&crate::text!("\nheld")).unwrap();
            assert_eq!(signals.next().await, Exit::Signal(15));
            let done = tokio::time::timeout(patience * 2, signals.next()).await;
            assert!(done.is_err());
        });
    }

    fn start(command: &str) -> (Child, Pid) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", command])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The test's own words come later, and need a reader.
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while line != "held\n" {
            line.clear();
            assert_ne!(out.read_line(&mut line).unwrap(), 0);
        }
        std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
        let pid = Pid::from_raw(child.id().try_into().unwrap());
        (child, pid)
    }

    #[test]
    fn a_second_signal_ends_a_command_that_holds_its_thread() {
        let (mut child, pid) = start("signals::tests::held");
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

    #[test]
    fn one_signal_is_enough_in_the_end() {
        let (mut child, pid) = start("signals::tests::held_for_a_moment");
        kill(pid, Signal::SIGTERM).unwrap();
        let status = child.wait().unwrap();
        assert_eq!((status.code(), status.signal()), (Some(143), None));
    }

    #[test]
    fn who_has_looked_at_a_signal_is_not_hurried() {
        let (mut child, pid) = start("signals::tests::going_on");
        kill(pid, Signal::SIGTERM).unwrap();
        assert!(child.wait().unwrap().success());
    }
}
