//! No guardian is needed where a job object ends what it holds. Not run by this project's tests.

use std::{ffi::OsString, io, path::PathBuf};

use crate::clock::MachineTime;

/// A program that starts the servers and ends them. On this system it is never started.
#[derive(Debug, Clone)]
pub struct GuardianProgram;

impl GuardianProgram {
    /// The program at this path, with these arguments.
    #[must_use]
    pub fn new(
        _program: impl Into<PathBuf>,
        _args: impl IntoIterator<Item = impl Into<OsString>>,
    ) -> Self {
        Self
    }

    /// The program that runs now, with these arguments.
    #[must_use]
    pub fn this_program(_args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self
    }

    /// Another one.
    #[must_use]
    pub fn another(&self) -> Self {
        Self
    }

    /// Nothing: servers end with the application.
    pub fn hand_over(&self) {}

    /// Nothing: a process that is stopped is not noticed on this system.
    pub fn end_at(&self, _moment: MachineTime) {}
}

/// Fails.
///
/// # Errors
/// Always: there is no guardian on this system.
pub fn run_guardian(_open_files: Option<u64>) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
