//! The process group of a server: started in its own, signalled as one, and ended for good.

use std::{
    collections::HashSet,
    io::{self, Write},
    os::{
        fd::OwnedFd,
        unix::process::{CommandExt, ExitStatusExt},
    },
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::{
    command::{MARKER, Plan},
    guardian::Lease,
    orphans::{self, Member},
    pipes::Streams,
};

/// Runs the program only after a line has come on stdin, and not at all at end of file.
const GATE: &str = r#"IFS= read -r _ && exec "$@""#;

/// How a server is started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Launch {
    /// Whether a guardian kills the server when the application dies.
    pub(crate) guardian: bool,
    /// Whether the server waits behind a gate until it is registered.
    pub(crate) gate: bool,
}

impl Default for Launch {
    fn default() -> Self {
        Self {
            guardian: true,
            // The marker closes the gap where /proc shows it.
            gate: !cfg!(target_os = "linux"),
        }
    }
}

/// A server's process, the leader of its group. Dropping it kills the group and reaps the
/// leader, with no runtime running as well.
pub(crate) struct Process {
    pid: Pid,
    marker: String,
    /// Held while the group is signalled and while the leader is reaped.
    state: Mutex<State>,
    /// Whether the leader was reaped. From then on its number may be another's.
    reaped: AtomicBool,
    killed: AtomicU64,
}

struct State {
    child: Child,
    status: Option<ExitStatus>,
    lease: Option<Lease>,
}

impl Process {
    /// Starts the server. Blocks for the time of a `fork` and an `exec`.
    pub(crate) fn start(plan: &Plan, launch: Launch) -> io::Result<(Self, Streams)> {
        let marker = orphans::new_marker();
        let mut command = if launch.gate {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", GATE, "mcpool-gate"]).arg(&plan.program);
            shell
        } else {
            Command::new(&plan.program)
        };
        command
            .args(&plan.args)
            .env_clear()
            .envs(&plan.env)
            .env(MARKER, &marker)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(cwd) = &plan.cwd {
            command.current_dir(cwd);
        }
        let mut lease = launch.guardian.then(Lease::take);
        let mut child = command.spawn()?;
        let pid = Pid::from_child(&child);
        if let Some(lease) = &mut lease {
            lease.register(pid);
        }
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        // From here on dropping it kills the server.
        let process = Self {
            pid,
            marker,
            state: Mutex::new(State {
                child,
                status: None,
                lease,
            }),
            reaped: AtomicBool::new(false),
            killed: AtomicU64::new(0),
        };
        let (Some(mut stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(io::Error::other("a pipe to the server is missing"));
        };
        if launch.gate {
            stdin.write_all(b"\n")?;
        }
        let streams = Streams {
            stdin: OwnedFd::from(stdin),
            stdout: OwnedFd::from(stdout),
            stderr: OwnedFd::from(stderr),
        };
        Ok((process, streams))
    }

    /// The leader's process id, which is the group's too.
    pub(crate) fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// How many processes had to be killed so far.
    pub(crate) fn killed(&self) -> u64 {
        self.killed.load(Ordering::Relaxed)
    }

    /// Waits until the leader has exited; it is not reaped, so its number stays its own.
    /// Cancel-safe. Needs a runtime with I/O enabled.
    pub(crate) async fn exited(&self) -> io::Result<()> {
        let mut signals = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::child())?;
        loop {
            if self.has_exited() {
                return Ok(());
            }
            signals.recv().await;
        }
    }

    fn has_exited(&self) -> bool {
        self.reaped.load(Ordering::Acquire) || leader_is_dead(self.pid)
    }

    /// Sends SIGTERM to the group.
    pub(crate) fn terminate(&self) {
        // If the lock is taken, the group is being killed already.
        if let Ok(_state) = self.state.try_lock()
            && !self.reaped.load(Ordering::Acquire)
        {
            // It fails only when all of the group are dead.
            let _ = kill_process_group(self.pid, Signal::TERM);
        }
    }

    /// Kills all that is left of the server and reaps the leader. What is left may end by itself
    /// within `linger` first. Blocks until that is done, at most for `patience`; a process that
    /// the kernel holds may outlast it. `None` if the leader could not be reaped in time.
    pub(crate) fn end(&self, linger: Duration, patience: Duration) -> Option<ExitStatus> {
        let mut state = self.state();
        if self.reaped.load(Ordering::Acquire) {
            return state.status;
        }
        let linger_until = Instant::now() + linger;
        let deadline = linger_until + patience;
        let mut seen = HashSet::new();
        loop {
            let members = orphans::members(self.pid, &self.marker);
            if !members.is_empty() && Instant::now() < linger_until {
                poll_until(linger_until, || !any_alive(&members));
                continue;
            }
            let _ = kill_process_group(self.pid, Signal::KILL);
            for member in &members {
                if !member.in_group {
                    orphans::kill_marked(member.pid, &self.marker);
                }
                seen.insert(member.pid);
            }
            let in_time = poll_until(deadline, || {
                leader_is_dead(self.pid) && !any_alive(&members)
            });
            // A member that was alive may have started another that is not in the picture: look
            // again, until there is none.
            if members.is_empty() || !in_time {
                break;
            }
        }
        self.killed.fetch_add(seen.len() as u64, Ordering::Relaxed);
        if !leader_is_dead(self.pid) {
            return None;
        }
        // Off the guardian's list before the number is free for others.
        state.lease = None;
        self.reaped.store(true, Ordering::Release);
        state.status = state.child.wait().ok();
        state.status
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a drop may wait for the kernel to end a killed process.
pub(crate) const DROP_PATIENCE: Duration = Duration::from_secs(1);

impl Drop for Process {
    fn drop(&mut self) {
        self.end(Duration::ZERO, DROP_PATIENCE);
    }
}

fn any_alive(members: &[Member]) -> bool {
    members.iter().any(|member| orphans::is_alive(member.pid))
}

/// Asks until it is so, in longer and longer intervals; gives whether it was in time.
fn poll_until(deadline: Instant, condition: impl Fn() -> bool) -> bool {
    let mut pause = Duration::from_micros(50);
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

/// Whether our child is a zombie, or no child of ours any more.
fn leader_is_dead(pid: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::Pid(pid), options), Ok(None))
}

/// How a process ended, in words that follow "the server".
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}{}", signal_name(signal)),
        (None, None) => "ended".to_owned(),
    }
}

fn signal_name(signal: i32) -> &'static str {
    const NAMES: [(Signal, &str); 8] = [
        (Signal::HUP, " (SIGHUP)"),
        (Signal::INT, " (SIGINT)"),
        (Signal::ABORT, " (SIGABRT)"),
        (Signal::KILL, " (SIGKILL)"),
        (Signal::SEGV, " (SIGSEGV)"),
        (Signal::PIPE, " (SIGPIPE)"),
        (Signal::TERM, " (SIGTERM)"),
        (Signal::BUS, " (SIGBUS)"),
    ];
    NAMES
        .iter()
        .find(|(known, _)| known.as_raw() == signal)
        .map_or("", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What happens when the application dies before the server is registered.
    #[test]
    fn the_gate_stays_shut_at_the_end_of_stdin() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ran");
        for (input, runs) in [(Stdio::null(), false), (Stdio::piped(), true)] {
            let mut gate = Command::new("/bin/sh")
                .args(["-c", GATE, "mcpool-gate", "touch"])
                .arg(&file)
                .stdin(input)
                .spawn()
                .unwrap();
            if let Some(mut stdin) = gate.stdin.take() {
                stdin.write_all(b"\n").unwrap();
            }
            assert_eq!(gate.wait().unwrap().success(), runs);
            assert_eq!(file.exists(), runs);
        }
    }

    #[test]
    fn an_end_is_told_in_words() {
        let status = |raw| describe(ExitStatus::from_raw(raw));
        assert_eq!(status(3 << 8), "exited with status 3");
        assert_eq!(status(9), "was killed by signal 9 (SIGKILL)");
        assert_eq!(status(64), "was killed by signal 64");
    }
}
