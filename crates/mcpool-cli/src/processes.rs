//! The processes below this one: the demo counts them to show that none is left.

use std::collections::BTreeSet;

/// The processes that were seen below this one.
#[derive(Debug, Default)]
pub(crate) struct Census(BTreeSet<u32>);

impl Census {
    /// Adds those that are below this process now.
    pub(crate) fn take(&mut self) {
        self.0.extend(descendants());
    }

    /// Adds one by its id.
    pub(crate) fn add(&mut self, pid: u32) {
        self.0.insert(pid);
    }

    /// How many were seen.
    pub(crate) fn seen(&self) -> usize {
        self.0.len()
    }

    /// How many of those that were seen, or that are below this process now, are alive.
    pub(crate) fn alive(&self) -> usize {
        let mut all = self.0.clone();
        all.extend(descendants());
        all.into_iter().filter(|pid| is_alive(*pid)).count()
    }
}

/// Ends a process without asking it.
#[cfg(unix)]
pub(crate) fn kill(pid: u32) -> std::io::Result<()> {
    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };
    let pid = i32::try_from(pid).map_err(std::io::Error::other)?;
    kill(Pid::from_raw(pid), Signal::SIGKILL).map_err(std::io::Error::from)
}

/// Ends a process without asking it.
#[cfg(not(unix))]
pub(crate) fn kill(pid: u32) -> std::io::Result<()> {
    std::process::Command::new("taskkill")
        .args(["/F", "/PID", &pid.to_string()])
        .output()
        .map(drop)
}

/// Whether a process is there; a zombie is one.
#[cfg(unix)]
fn is_alive(pid: u32) -> bool {
    use nix::{errno::Errno, sys::signal::kill, unistd::Pid};
    i32::try_from(pid).is_ok_and(|pid| kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH))
}

#[cfg(not(unix))]
fn is_alive(_pid: u32) -> bool {
    false
}

/// The ids of the processes below this one, from `/proc`; empty where there is none.
fn descendants() -> BTreeSet<u32> {
    let parents: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| Some((pid, parent_of(pid)?)))
        .collect();
    below(std::process::id(), &parents)
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; what follows it is regular.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// All processes under `root`, given each process's parent.
fn below(root: u32, parents: &[(u32, u32)]) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut level = vec![root];
    while let Some(parent) = level.pop() {
        for (pid, _) in parents.iter().filter(|(_, of)| *of == parent) {
            if found.insert(*pid) {
                level.push(*pid);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_of_descendants_count() {
        let parents = [(2, 1), (3, 2), (4, 3), (5, 9)];
        assert_eq!(below(1, &parents), BTreeSet::from([2, 3, 4]));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_child_is_seen_and_then_gone() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let mut census = Census::default();
        census.take();
        assert!(census.0.contains(&child.id()));
        kill(child.id()).unwrap();
        child.wait().unwrap();
        assert!(!is_alive(child.id()));
    }
}
