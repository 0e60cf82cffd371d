//! What ends the servers when the application dies, however it dies.
//!
//! `shell.rs` is the guardian that needs nothing, a `sh` beside the servers. The other is a
//! program, as a rule the application's own, started again: `program.rs` is the application's
//! side of it, `guarded.rs` a server there, `serve.rs` the guardian's side, `wire.rs` what they
//! say to each other.

#[cfg(unix)]
pub(crate) mod guarded;
#[cfg(unix)]
mod program;
#[cfg(unix)]
mod serve;
#[cfg(unix)]
pub(crate) mod shell;
#[cfg(unix)]
mod wire;

#[cfg(not(unix))]
mod elsewhere;
#[cfg(not(unix))]
pub use elsewhere::{GuardianProgram, run_guardian};
#[cfg(unix)]
pub use program::GuardianProgram;
#[cfg(unix)]
pub use serve::run_guardian;

/// What ends the servers when the application dies without a chance to do so itself (SIGKILL, a
/// crash).
///
/// | | none | `sh` | a program |
/// |---|---|---|---|
/// | the application ends in order, or drops its transports | nothing is left | nothing is left | nothing is left |
/// | the application is killed | all stay | killed at once | get their graces, then are killed |
/// | a descendant that left the group (`setsid`) | found by its marker, Linux | the same, also after the application's death | found, Linux |
/// | … and cleared its environment | found while its parents run, Linux | the same, while the application lives | found, Linux |
/// | … and whose parents have ended (a double fork) | **stays** | **stays** | ends with the last server, Linux |
/// | the end of the application may be before the servers' ([`hand_over`](GuardianProgram::hand_over)) | no | no | yes |
///
/// With none of them is a process ended that another program was asked to start (`docker run`,
/// `systemd-run`, `at`), that runs as another user (`sudo`), or whose guardian was itself killed by
/// SIGKILL. On Windows a job object does all this, and the choice has no effect.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Guardian {
    /// None. Servers are ended on every orderly way out, drop included.
    Off,
    /// One small POSIX `sh` for each application, which runs while a server does. If it cannot be
    /// started, that is a warning.
    #[default]
    Shell,
    /// A program that starts the servers in the application's stead and is their parent.
    Program(GuardianProgram),
}

impl From<GuardianProgram> for Guardian {
    fn from(program: GuardianProgram) -> Self {
        Self::Program(program)
    }
}
