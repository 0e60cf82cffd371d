//! The memory of idle servers over stdio: each contender is a program of its own, with one client in
//! it, since most of what a small program has resident are pages of itself.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

/// What everything here may fail with.
pub type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// Resident memory of a process (`self`, or a number) in kilobytes, from the kernel.
///
/// # Errors
/// There is no such process, or `/proc` does not say it.
pub fn resident(process: &str) -> Outcome<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .ok_or("no VmRSS in /proc")?;
    let number = line.split_whitespace().next().ok_or("an empty VmRSS")?;
    Ok(number.parse()?)
}

/// What one contender needs for idle servers over stdio.
#[derive(Debug, Clone, Copy)]
pub struct Need {
    /// Resident with one server, in MB.
    pub one_mb: f64,
    /// More for each of [`MORE`](Self::MORE) further servers, in KB.
    pub each_kb: f64,
    /// Until all of them were connected and had listed their tools, in seconds.
    pub connect_s: f64,
    /// Until all of them had ended, in seconds.
    pub shutdown_s: f64,
}

impl Need {
    /// Servers beside the first one.
    pub const MORE: usize = 1_000;
    /// Connects at a time.
    pub const AT_ONCE: usize = 32;
    /// What shrinks after a while has shrunk.
    pub const SETTLED: Duration = Duration::from_secs(2);

    /// From resident kilobytes with one server and with all, and the two times.
    #[must_use]
    pub fn new(one: f64, all: f64, connected: Duration, ended: Duration) -> Self {
        Self {
            one_mb: one / 1024.0,
            each_kb: (all - one) / 1_000.0,
            connect_s: connected.as_secs_f64(),
            shutdown_s: ended.as_secs_f64(),
        }
    }

    /// Writes it for [`of`](Self::of).
    pub fn print(&self) {
        let Self {
            one_mb,
            each_kb,
            connect_s,
            shutdown_s,
        } = self;
        println!("{one_mb} {each_kb} {connect_s} {shutdown_s}");
    }

    /// Runs the program of a contender, which stands beside this one, and reads what it printed.
    ///
    /// # Errors
    /// It cannot be started, failed, or printed something else.
    pub fn of(contender: &str) -> Outcome<Self> {
        let output = Command::new(beside(&format!("memory-of-{contender}"))?)
            .stderr(Stdio::inherit())
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        let figures: Vec<f64> = text
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        let [one_mb, each_kb, connect_s, shutdown_s] = figures[..] else {
            return Err(format!("the program of {contender} failed").into());
        };
        Ok(Self {
            one_mb,
            each_kb,
            connect_s,
            shutdown_s,
        })
    }
}

/// The program that serves over stdio.
///
/// # Errors
/// The path of this program is not known.
pub fn server() -> Outcome<PathBuf> {
    beside("mcpool-bench")
}

/// A program that was built into the same folder as this one.
fn beside(name: &str) -> Outcome<PathBuf> {
    let this = std::env::current_exe()?;
    let folder = this.parent().unwrap_or(Path::new("."));
    Ok(folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX)))
}
