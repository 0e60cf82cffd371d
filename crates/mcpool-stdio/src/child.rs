//! A server that is a child of this process: started in a process group of its own, signalled as
//! one, and ended for good.

use std::{
    collections::HashSet,
    io::{self, Write},
    os::{fd::OwnedFd, unix::process::CommandExt},
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
    guardian::shell::Lease,
    orphans::{self, Family, poll_until},
    pipes::Streams,
    shutdown::DROP_PATIENCE,
};

/// Runs the program only after a line has come on stdin, and not at all at end of file.
const GATE: &str = r#"IFS= read -r _ && exec "$@""#;

/// What a server gets as its stdin, stdout and stderr.
pub(crate) type Standard = [Stdio; 3];

/// A server's process, the leader of its group. Dropping it kills the group and reaps the
/// leader, with no runtime running as well.
pub(crate) struct OwnProcess {
    pid: Pid,
    /// Held while the group is signalled and while the leader is reaped.
    state: Mutex<ChildState>,
    /// Whether the leader was reaped. From then on its number may be another's.
    reaped: AtomicBool,
    killed: AtomicU64,
}

struct ChildState {
    child: Child,
    family: Family,
    status: Option<ExitStatus>,
    lease: Option<Lease>,
}

impl OwnProcess {
    /// Starts the server with pipes of its own. Blocks for the time of a `fork` and an `exec`.
    pub(crate) fn start(plan: &Plan, guarded: bool, gate: bool) -> io::Result<(Self, Streams)> {
        let marker = orphans::new_marker();
        let mut command = if gate {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", GATE, "mcpool-gate"]).arg(&plan.program);
            shell
        } else {
            Command::new(&plan.program)
        };
        prepare(&mut command, plan, &marker);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut lease = guarded.then(Lease::take);
        let mut child = command.spawn()?;
        if let Some(lease) = &mut lease {
            lease.register(Pid::from_child(&child));
        }
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        // From here on dropping it kills the server.
        let process = Self::adopt(child, marker, lease);
        let (Some(mut stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(io::Error::other("a pipe to the server is missing"));
        };
        if gate {
            stdin.write_all(b"\n")?;
        }
        let streams = Streams {
            stdin: OwnedFd::from(stdin),
            stdout: OwnedFd::from(stdout),
            stderr: OwnedFd::from(stderr),
        };
        Ok((process, streams))
    }

    /// Starts the server for an application that has the other ends of its streams and gave out
    /// its marker.
    pub(crate) fn start_for(plan: &Plan, marker: String, streams: Standard) -> io::Result<Self> {
        let mut command = Command::new(&plan.program);
        prepare(&mut command, plan, &marker);
        let [stdin, stdout, stderr] = streams;
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        Ok(Self::adopt(command.spawn()?, marker, None))
    }

    fn adopt(child: Child, marker: String, lease: Option<Lease>) -> Self {
        let pid = Pid::from_child(&child);
        Self {
            pid,
            state: Mutex::new(ChildState {
                child,
                family: Family::of_child(pid, marker),
                status: None,
                lease,
            }),
            reaped: AtomicBool::new(false),
            killed: AtomicU64::new(0),
        }
    }

    /// The leader's process id, which is the group's too.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
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
            if self.reaped.load(Ordering::Acquire) || leader_is_dead(self.pid) {
                return Ok(());
            }
            signals.recv().await;
        }
    }

    /// Sends SIGTERM to the group. A process that was stopped is woken, so that it can react.
    pub(crate) fn terminate(&self) {
        // If the lock is taken, the group is being killed already.
        if let Ok(_state) = self.state.try_lock()
            && !self.reaped.load(Ordering::Acquire)
        {
            // They fail only when all of the group are dead.
            let _ = kill_process_group(self.pid, Signal::TERM);
            let _ = kill_process_group(self.pid, Signal::CONT);
        }
    }

    /// Takes note of the server's processes while its leader runs: what left the group with a
    /// cleared environment descends from the leader only as long as that lives. Blocks for the
    /// time of a look through `/proc`.
    pub(crate) fn survey(&self) {
        // If the lock is taken, the family is being ended already.
        if let Ok(mut state) = self.state.try_lock() {
            state.family.members();
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
        let mut killed = HashSet::new();
        loop {
            let members = state.family.members();
            if !members.is_empty() && Instant::now() < linger_until {
                poll_until(linger_until, || !orphans::any_alive(&members));
                continue;
            }
            state.family.kill(&members);
            killed.extend(members.iter().map(|member| member.process));
            let in_time = poll_until(deadline, || {
                leader_is_dead(self.pid) && !orphans::any_alive(&members)
            });
            // A member that was alive may have started another that is not in the picture: look
            // again, until there is none.
            if members.is_empty() || !in_time {
                break;
            }
        }
        self.killed
            .fetch_add(killed.len() as u64, Ordering::Relaxed);
        if !leader_is_dead(self.pid) {
            return None;
        }
        // Off the guardian's list before the number is free for others.
        state.lease = None;
        self.reaped.store(true, Ordering::Release);
        state.status = state.child.wait().ok();
        state.status
    }

    fn state(&self) -> MutexGuard<'_, ChildState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OwnProcess {
    fn drop(&mut self) {
        self.end(Duration::ZERO, DROP_PATIENCE);
    }
}

fn prepare(command: &mut Command, plan: &Plan, marker: &str) {
    command
        .args(&plan.args)
        .env_clear()
        .envs(&plan.env)
        .env(MARKER, marker)
        .process_group(0);
    if let Some(cwd) = &plan.cwd {
        command.current_dir(cwd);
    }
}

/// Whether our child is a zombie, or no child of ours any more.
fn leader_is_dead(pid: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::Pid(pid), options), Ok(None))
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
}
