//! What is known of a transport, also after its end.

use std::fmt;

use serde::Serialize;

use super::StderrLine;
use crate::{Error, TransportKind};

/// What is known of a transport, readable at any time, from any thread, after its end as well.
pub trait TransportMonitor: Send + Sync + fmt::Debug {
    /// Its kind.
    fn kind(&self) -> TransportKind;

    /// A snapshot of what it knows.
    fn diagnostics(&self) -> Diagnostics;

    /// Why the connection ended; `None` while it lives, and after an orderly close.
    fn failure(&self) -> Option<Error>;

    /// Ends the connection by force, without a goodbye and whatever else goes on with it: what it
    /// holds outside of this program is gone when this returns. A process is killed with all
    /// that descend from it, and reaped. Idempotent, and nothing after the end.
    ///
    /// Blocks for as long as the kernel takes: a few milliseconds for a process, at most a second.
    /// Needs no runtime. Default: nothing, for a transport that holds nothing outside.
    fn kill(&self) {}
}

/// A snapshot of what a transport knows about itself.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct Diagnostics {
    /// The last lines of stderr, oldest first (stdio only).
    pub stderr_tail: Vec<StderrLine>,
    /// The process id (stdio only).
    pub pid: Option<u32>,
    /// How the process ended, in words (stdio only).
    pub exit_status: Option<String>,
    /// How many frames were no JSON-RPC message and were skipped.
    pub skipped_lines: u64,
    /// The first of those frames, cut short, oldest first. Text of the server's.
    pub skipped_samples: Vec<String>,
    /// Odd things that were read all the same, in words, each kind once.
    pub oddities: Vec<String>,
    /// Processes of its group that had to be killed at the end (stdio only).
    pub killed_processes: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages received.
    pub received: u64,
    /// Log messages and other notices that were dropped because nobody took them in time.
    pub dropped_notices: u64,
    /// The last error that did not end the connection, in one line (HTTP only).
    pub last_error: Option<String>,
}
