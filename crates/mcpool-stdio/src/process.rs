//! The process of a server: a child of this application, or of its guardian.

use std::{io, os::unix::process::ExitStatusExt, process::ExitStatus, time::Duration};

use rustix::process::{Pid, Signal};

use crate::{
    child::OwnProcess,
    command::Plan,
    guardian::{Guardian, guarded::GuardedProcess},
    orphans,
    pipes::Streams,
    shutdown::Ladder,
};

/// How a server is started.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    /// What ends the server when the application dies.
    pub(crate) guardian: Guardian,
    /// Whether the server waits behind a gate until the guardian, which is a shell, knows it.
    pub(crate) gate: bool,
}

impl Default for Launch {
    fn default() -> Self {
        Self {
            guardian: Guardian::default(),
            // The marker closes the gap where /proc shows it.
            gate: !cfg!(target_os = "linux"),
        }
    }
}

/// A server's process, the leader of its group. Dropping it kills all of the server's processes,
/// with no runtime running as well.
pub(crate) enum Process {
    /// A child of ours.
    Own(OwnProcess),
    /// A child of the guardian.
    Guarded(GuardedProcess),
}

impl Process {
    /// Starts the server. Blocks until it runs. The ladder is for the guardian.
    pub(crate) fn start(
        plan: &Plan,
        launch: &Launch,
        ladder: Ladder,
    ) -> io::Result<(Self, Streams)> {
        let guarded = match &launch.guardian {
            Guardian::Off => false,
            Guardian::Shell => true,
            Guardian::Program(program) => match program.link() {
                Ok(link) => {
                    let (process, streams) = GuardedProcess::start(program, link, plan, ladder)?;
                    return Ok((Self::Guarded(process), streams));
                }
                Err(error) => {
                    program.warn(&error);
                    true
                }
            },
        };
        let (process, streams) = OwnProcess::start(plan, guarded, launch.gate)?;
        Ok((Self::Own(process), streams))
    }

    /// The leader's process id, which is the group's too.
    pub(crate) fn id(&self) -> u32 {
        let pid = match self {
            Self::Own(process) => process.pid(),
            Self::Guarded(process) => process.pid(),
        };
        pid.as_raw_pid().unsigned_abs()
    }

    /// How many processes had to be killed so far.
    pub(crate) fn killed(&self) -> u64 {
        match self {
            Self::Own(process) => process.killed(),
            Self::Guarded(process) => process.killed(),
        }
    }

    /// Waits until the leader has exited. Cancel-safe. Needs a runtime with I/O enabled.
    ///
    /// # Errors
    /// When that can no longer be known; the process is then to be ended.
    pub(crate) async fn exited(&self) -> io::Result<()> {
        match self {
            Self::Own(process) => process.exited().await,
            Self::Guarded(process) => process.exited().await,
        }
    }

    /// Sends SIGTERM to the group.
    pub(crate) fn terminate(&self) {
        match self {
            Self::Own(process) => process.terminate(),
            Self::Guarded(process) => process.terminate(),
        }
    }

    /// Takes note of the server's processes before its stdin is closed. Blocks for a few
    /// milliseconds.
    pub(crate) fn survey(&self) {
        match self {
            Self::Own(process) => process.survey(),
            // The guardian is their parent in the end.
            Self::Guarded(_) => {}
        }
    }

    /// Leaves what is left of the shutdown to the guardian, if the application wants that and it
    /// can be done; then nothing else remains to be done here.
    pub(crate) fn leave(&self) -> bool {
        match self {
            Self::Own(_) => false,
            Self::Guarded(process) => process.leave(),
        }
    }

    /// Kills all that is left of the server. What is left may end by itself within `linger`
    /// first. Blocks until that is done, at most for `patience`; a process that the kernel holds
    /// may outlast it. `None` if the leader could not be reaped in time, or was left to the
    /// guardian.
    pub(crate) fn end(&self, linger: Duration, patience: Duration) -> Option<ExitStatus> {
        match self {
            Self::Own(process) => process.end(linger, patience),
            Self::Guarded(process) => process.end(linger, patience),
        }
    }

    /// Kills all that is left of the server at once, also when it was left to the guardian.
    /// Blocks as [`end`](Self::end) does.
    pub(crate) fn kill(&self, patience: Duration) -> Option<ExitStatus> {
        match self {
            Self::Own(process) => process.end(Duration::ZERO, patience),
            Self::Guarded(process) => process.kill(patience),
        }
    }
}

/// Whether the process of this id has exited, as far as the system shows it: it is a zombie, or gone.
pub(crate) fn has_exited(id: u32) -> bool {
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
    cfg!(target_os = "linux") && pid.is_some_and(|pid| orphans::identify(pid).is_none())
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

    #[test]
    fn an_end_is_described() {
        let status = |raw| describe(ExitStatus::from_raw(raw));
        assert_eq!(status(3 << 8), "exited with status 3");
        assert_eq!(status(9), "was killed by signal 9 (SIGKILL)");
        assert_eq!(status(64), "was killed by signal 64");
    }
}
