//! A server that is the child of a guardian, as the application sees it.

use std::{
    io,
    os::{fd::AsFd, unix::process::ExitStatusExt},
    process::ExitStatus,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::process::Pid;

use super::{
    program::{Facts, GuardianProgram, Link, START_PATIENCE, Server, lock},
    wire::{Request, Start},
};
use crate::{
    command::Plan,
    orphans::{self, Family, poll_until},
    pipes::Streams,
    shutdown::{DROP_PATIENCE, Ladder},
};

/// A server that is the guardian's child. Dropping it ends it.
pub(crate) struct GuardedProcess {
    id: u64,
    pid: Pid,
    program: GuardianProgram,
    link: Arc<Link>,
    server: Arc<Server>,
    /// For the time after the guardian's death.
    family: Mutex<Family>,
    /// Whether it was left to the guardian.
    left: AtomicBool,
    killed: AtomicU64,
}

impl GuardedProcess {
    /// Starts the server. Blocks until it runs.
    pub(crate) fn start(
        program: &GuardianProgram,
        mut link: Arc<Link>,
        plan: &Plan,
        ladder: Ladder,
    ) -> io::Result<(Self, Streams)> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let marker = orphans::new_marker();
        let (their_stdin, stdin) = io::pipe()?;
        let (stdout, their_stdout) = io::pipe()?;
        let (stderr, their_stderr) = io::pipe()?;
        let request = Request::Start(Box::new(Start::new(id, plan, marker.clone(), ladder)));
        let streams = [
            their_stdin.as_fd(),
            their_stdout.as_fd(),
            their_stderr.as_fd(),
            stdout.as_fd(),
            stderr.as_fd(),
        ];
        let mut server = link.heard.add(id);
        if let Err(error) = link.send(&request, &streams) {
            link.heard.remove(id);
            if error.kind() == io::ErrorKind::ArgumentListTooLong {
                return Err(error);
            }
            // It was killed since it was asked for last, and nothing was started: the next one.
            link = program.link()?;
            server = link.heard.add(id);
            // After an error nobody has this link, and its list goes with it.
            link.send(&request, &streams)?;
        }
        drop((their_stdin, their_stdout, their_stderr));
        let pid = match server.wait(START_PATIENCE, |facts| facts.start.clone()) {
            Some(Ok(pid)) => Pid::from_raw(pid),
            Some(Err(refusal)) => {
                link.heard.remove(id);
                return Err(refusal.into());
            }
            None => None,
        };
        let Some(pid) = pid else {
            // It may start it yet, or may have started it before its own death.
            let end = Request::End {
                server: id,
                linger: Duration::ZERO,
                patience: DROP_PATIENCE,
            };
            let _ = link.send(&end, &[]);
            link.heard.remove(id);
            end_family(&mut Family::of_foreign(None, marker), DROP_PATIENCE);
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the guardian did not start the server",
            ));
        };
        let process = Self {
            id,
            pid,
            program: program.clone(),
            link,
            server,
            family: Mutex::new(Family::of_foreign(orphans::identify(pid), marker)),
            left: AtomicBool::new(false),
            killed: AtomicU64::new(0),
        };
        let streams = Streams {
            stdin: stdin.into(),
            stdout: stdout.into(),
            stderr: stderr.into(),
        };
        Ok((process, streams))
    }

    /// The leader's process id, which is the group's too.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// How many processes had to be killed so far.
    pub(crate) fn killed(&self) -> u64 {
        self.killed.load(Ordering::Relaxed)
    }

    /// Waits until the leader has exited. Cancel-safe.
    ///
    /// # Errors
    /// When the guardian has ended before.
    pub(crate) async fn exited(&self) -> io::Result<()> {
        // It fails only when the sender is gone, and we hold it.
        let _ = self
            .server
            .exited
            .subscribe()
            .wait_for(|exited| *exited)
            .await;
        match lock(&self.server.facts) {
            facts if facts.lost && facts.end.is_none() => {
                Err(io::Error::other("the guardian of the servers has ended"))
            }
            _ => Ok(()),
        }
    }

    /// Sends SIGTERM to the group.
    pub(crate) fn terminate(&self) {
        let request = Request::Terminate { server: self.id };
        // Without a guardian there is no SIGTERM any more.
        let _ = self.link.send(&request, &[]);
    }

    /// Leaves the server to the guardian, if the application is to be over.
    pub(crate) fn leave(&self) -> bool {
        if !self.program.has_handed_over() || self.is_settled() {
            return false;
        }
        let request = Request::Release { server: self.id };
        let left = self.link.send(&request, &[]).is_ok();
        if left {
            self.left.store(true, Ordering::Release);
        }
        left
    }

    /// Whether nothing is to be done any more.
    fn is_settled(&self) -> bool {
        self.left.load(Ordering::Acquire) || lock(&self.server.facts).end.is_some()
    }

    /// Kills all that is left of the server, unless it was left to the guardian. See
    /// [`Process::end`](crate::process::Process::end).
    pub(crate) fn end(&self, linger: Duration, patience: Duration) -> Option<ExitStatus> {
        if self.left.load(Ordering::Acquire) {
            return None;
        }
        self.force(linger, patience)
    }

    /// Kills all that is left of the server, also when it was left to the guardian.
    pub(crate) fn kill(&self, patience: Duration) -> Option<ExitStatus> {
        self.force(Duration::ZERO, patience)
    }

    fn force(&self, linger: Duration, patience: Duration) -> Option<ExitStatus> {
        if lock(&self.server.facts).end.is_none() {
            let request = Request::End {
                server: self.id,
                linger,
                patience,
            };
            // An error is a guardian that has ended, which the wait below sees as well.
            let _ = self.link.send(&request, &[]);
        }
        let ended = |facts: &Facts| facts.end;
        // A guardian that was killed, stopped, or that has no turn on a loaded machine: what it
        // would do is done here, with half of the time.
        let answer = self.server.wait(linger + patience / 2, ended).or_else(|| {
            let killed = end_family(&mut lock(&self.family), patience / 2);
            self.killed.fetch_add(killed, Ordering::Relaxed);
            self.server.wait(Duration::ZERO, ended)
        });
        let (status, killed) = answer?;
        self.killed.fetch_max(killed, Ordering::Relaxed);
        status.map(ExitStatus::from_raw)
    }
}

impl Drop for GuardedProcess {
    fn drop(&mut self) {
        if !self.is_settled() && !self.leave() {
            self.end(Duration::ZERO, DROP_PATIENCE);
        }
        self.link.heard.remove(self.id);
    }
}

/// Kills a family that is not ours to reap; gives how many were killed.
fn end_family(family: &mut Family, patience: Duration) -> u64 {
    let deadline = Instant::now() + patience;
    let mut killed = 0;
    loop {
        let members = family.members();
        family.kill(&members);
        killed += members.len() as u64;
        if members.is_empty() || !poll_until(deadline, || !orphans::any_alive(&members)) {
            return killed;
        }
    }
}
