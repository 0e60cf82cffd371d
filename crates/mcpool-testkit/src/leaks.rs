//! Finds what was left behind: processes, sockets, pipes, tasks, threads.
//!
//! Everything is found by a mark of its own (a variable in the environment, a port, the inode of
//! a pipe), so that tests which run at the same time in one process do not see each other.
//! Reads `/proc`: on other systems than Linux the counts are 0, and only what needs no `/proc`
//! is checked.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Waits until the condition holds; polls it every few milliseconds. `true` when it held in time.
pub async fn eventually(within: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if holds() {
            return true;
        }
        if start.elapsed() > within {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// As [`eventually`], outside any runtime.
pub fn eventually_blocking(within: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if holds() {
            return true;
        }
        if start.elapsed() > within {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A mark in the environment of processes, by which they and their descendants are found,
/// whatever session or group they moved to.
///
/// Dropping it kills what still carries it.
#[derive(Debug)]
pub struct Marker {
    dir: PathBuf,
}

impl Marker {
    /// The variable that carries it.
    pub const VARIABLE: &str = "MCPOOL_TEST_MARK";

    /// A mark like no other.
    ///
    /// # Panics
    /// When its directory cannot be made.
    #[must_use]
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let time = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let name = format!(
            "mcpool-test-{}-{}-{}",
            std::process::id(),
            time.as_nanos(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let dir = std::env::temp_dir().join(name);
        if let Err(error) = std::fs::create_dir_all(&dir) {
            panic!("cannot make {}: {error}", dir.display());
        }
        Self { dir }
    }

    /// The variable and its value, to be set for the process.
    #[must_use]
    pub fn env(&self) -> (&'static str, String) {
        (Self::VARIABLE, self.dir.to_string_lossy().into_owned())
    }

    /// A directory of its own, gone when the mark is dropped.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The processes that carry it and run. Zombies have ended and do not count.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        let (name, value) = self.env();
        let wanted = format!("{name}={value}");
        if !cfg!(target_os = "linux") {
            return self.left_pids().filter(|pid| is_alive(*pid)).collect();
        }
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
                continue;
            };
            let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            let carries = environ
                .split(|byte| *byte == 0)
                .any(|variable| variable == wanted.as_bytes());
            if carries && is_alive(pid) {
                found.push(pid);
            }
        }
        found
    }

    /// The process ids that processes left in [`Marker::dir`], as `mcpool-fixture` does.
    fn left_pids(&self) -> impl Iterator<Item = u32> {
        std::fs::read_dir(&self.dir)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str().and_then(|n| n.parse().ok()))
    }

    /// Kills every process that carries it (SIGKILL).
    pub fn kill(&self) {
        for pid in self.processes() {
            kill_process(pid);
        }
    }

    /// The pipes that its processes hold open.
    #[must_use]
    pub fn pipes(&self) -> Pipes {
        let mut inodes = BTreeSet::new();
        for pid in self.processes() {
            // Only the standard streams: what else a process holds, it may have inherited from
            // the runner of the tests.
            let streams = (0..3).filter_map(|number| {
                let target = std::fs::read_link(format!("/proc/{pid}/fd/{number}")).ok()?;
                Some(target.to_string_lossy().into_owned())
            });
            inodes.extend(streams.filter(|target| target.starts_with("pipe:")));
        }
        // What the test's own standard streams are may have been inherited by the process.
        for standard in 0..3 {
            if let Ok(target) = std::fs::read_link(format!("/proc/self/fd/{standard}")) {
                inodes.remove(&*target.to_string_lossy());
            }
        }
        Pipes(inodes)
    }
}

impl Default for Marker {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Marker {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Pipes that were seen in other processes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pipes(BTreeSet<String>);

impl Pipes {
    /// How many descriptors of this process are ends of these pipes.
    #[must_use]
    pub fn held_here(&self) -> usize {
        descriptors(std::process::id())
            .filter(|target| self.0.contains(target))
            .count()
    }
}

/// Whether a process runs. A zombie does not.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    if cfg!(target_os = "linux") {
        // "pid (comm) S …": comm may hold anything, a parenthesis too.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        return stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.trim_start().chars().next())
            .is_some_and(|state| !matches!(state, 'Z' | 'X'));
    }
    #[cfg(unix)]
    if let Ok(pid) = i32::try_from(pid) {
        return nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None).is_ok();
    }
    false
}

/// Kills a process (SIGKILL). Nothing happens when it is gone.
pub fn kill_process(pid: u32) {
    #[cfg(unix)]
    if let Ok(pid) = i32::try_from(pid) {
        let pid = nix::unistd::Pid::from_raw(pid);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
    }
    #[cfg(not(unix))]
    let _ = std::process::Command::new("taskkill")
        .args(["/F", "/PID", &pid.to_string()])
        .output();
}

/// The descendants of a process, itself not included, zombies not included.
#[must_use]
pub fn descendants(pid: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(child) = entry
            .file_name()
            .to_str()
            .and_then(|n| n.parse::<u32>().ok())
        else {
            continue;
        };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1))
            .and_then(|parent| parent.parse::<u32>().ok());
        if let Some(parent) = parent {
            parents.push((child, parent));
        }
    }
    let mut found = vec![pid];
    let mut at = 0;
    while at < found.len() {
        let children = parents
            .iter()
            .filter(|(child, parent)| *parent == found[at] && !found.contains(child))
            .map(|(child, _)| *child)
            .collect::<Vec<_>>();
        found.extend(children);
        at += 1;
    }
    found.remove(0);
    found.retain(|pid| is_alive(*pid));
    found
}

/// The TCP connections of this process to that port, in any state. Listening sockets and the
/// server's own ends do not count.
#[must_use]
pub fn connections_to(port: u16) -> usize {
    let held: BTreeSet<_> = descriptors(std::process::id())
        .filter_map(|target| {
            Some(
                target
                    .strip_prefix("socket:[")?
                    .strip_suffix(']')?
                    .to_owned(),
            )
        })
        .collect();
    let mut count = 0;
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        for line in std::fs::read_to_string(table)
            .unwrap_or_default()
            .lines()
            .skip(1)
        {
            let fields: Vec<_> = line.split_whitespace().collect();
            let remote = fields
                .get(2)
                .and_then(|address| address.rsplit_once(':'))
                .and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
            let inode = fields.get(9).copied().unwrap_or("0");
            if remote == Some(port) && held.contains(inode) {
                count += 1;
            }
        }
    }
    count
}

/// Open file descriptors of this process. Other tests in the same process count as well.
#[must_use]
pub fn descriptor_count() -> usize {
    descriptors(std::process::id()).count()
}

/// Threads of this process. Other tests in the same process count as well.
#[must_use]
pub fn thread_count() -> usize {
    std::fs::read_dir("/proc/self/task")
        .map(Iterator::count)
        .unwrap_or_default()
}

/// Tasks of the current runtime that have not ended. 0 outside a runtime.
#[must_use]
pub fn task_count() -> usize {
    tokio::runtime::Handle::try_current()
        .map(|handle| handle.metrics().num_alive_tasks())
        .unwrap_or_default()
}

/// Resident memory of a process in bytes.
#[must_use]
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

fn descriptors(pid: u32) -> impl Iterator<Item = String> {
    std::fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .map(|target| target.to_string_lossy().into_owned())
}
