//! Finds the processes of a server, those that left its process group included.
//!
//! A descendant that called `setsid` is in no group that we know. All of them inherit a marker
//! in their environment, which Linux shows in `/proc/<pid>/environ`. Elsewhere nothing is found
//! here, and only the process group is killed.

use std::sync::OnceLock;

use rustix::process::Pid;

/// A random name for this application, the beginning of every marker it gives out.
pub(crate) fn application_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        format!(
            "{:016x}{:016x}",
            rand::random::<u64>(),
            rand::random::<u64>()
        )
    })
}

/// A marker for one server's processes.
pub(crate) fn new_marker() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{}-{number}", application_id())
}

/// A live process of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) pid: Pid,
    /// Whether a signal to the server's group reaches it.
    pub(crate) in_group: bool,
}

#[cfg(target_os = "linux")]
pub(crate) use linux::{is_alive, kill_marked, members};

#[cfg(not(target_os = "linux"))]
pub(crate) fn members(_group: Pid, _marker: &str) -> Vec<Member> {
    Vec::new()
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn kill_marked(_pid: Pid, _marker: &str) {}

#[cfg(not(target_os = "linux"))]
pub(crate) fn is_alive(_pid: Pid) -> bool {
    false
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        fs::File,
        io::Read,
        sync::{
            Arc, Mutex, PoisonError,
            atomic::{AtomicU64, Ordering},
        },
    };

    use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

    use super::{Member, application_id};
    use crate::command::MARKER;

    /// A process that is not a zombie, as `/proc` showed it.
    #[derive(Debug)]
    struct Entry {
        pid: i32,
        group: i32,
        /// The number after the application's id in its marker, if it carries one of ours.
        number: Option<u64>,
    }

    /// The live members of a server.
    pub(crate) fn members(group: Pid, marker: &str) -> Vec<Member> {
        let group = group.as_raw_nonzero().get();
        let number = marker
            .rsplit_once('-')
            .and_then(|(_, number)| number.parse().ok());
        snapshot()
            .iter()
            .filter(|entry| entry.group == group || (number.is_some() && entry.number == number))
            .filter_map(|entry| {
                Some(Member {
                    pid: Pid::from_raw(entry.pid)?,
                    in_group: entry.group == group,
                })
            })
            .collect()
    }

    /// Whether a process runs; a zombie does not.
    pub(crate) fn is_alive(pid: Pid) -> bool {
        live(pid.as_raw_nonzero().get(), &mut Vec::new()).is_some()
    }

    /// Kills a process if it carries the marker still: its number may be another's by now.
    pub(crate) fn kill_marked(pid: Pid, marker: &str) {
        // A pidfd stays with the process that is checked; kernels before 5.3 have none.
        let handle = pidfd_open(pid, PidfdFlags::empty());
        let mut buffer = Vec::new();
        if marker_number(pid.as_raw_nonzero().get(), &mut buffer)
            != marker.rsplit_once('-').and_then(|(_, n)| n.parse().ok())
        {
            return;
        }
        // It fails when the process is gone, which is what was wanted.
        let _ = match handle {
            Ok(handle) => pidfd_send_signal(handle, Signal::KILL),
            Err(rustix::io::Errno::NOSYS) => kill_process(pid, Signal::KILL),
            Err(_) => return,
        };
    }

    /// All processes, in a picture that was begun after the call. When many servers end at
    /// once, those that wait for a picture share the next one.
    fn snapshot() -> Arc<Vec<Entry>> {
        static BEGUN: AtomicU64 = AtomicU64::new(0);
        static LATEST: Mutex<(u64, Option<Arc<Vec<Entry>>>)> = Mutex::new((0, None));
        let asked = BEGUN.load(Ordering::SeqCst);
        let mut latest = LATEST.lock().unwrap_or_else(PoisonError::into_inner);
        if let (number, Some(entries)) = &*latest
            && *number > asked
        {
            return Arc::clone(entries);
        }
        let number = BEGUN.fetch_add(1, Ordering::SeqCst) + 1;
        let entries = Arc::new(read_all());
        *latest = (number, Some(Arc::clone(&entries)));
        entries
    }

    fn read_all() -> Vec<Entry> {
        let Ok(dir) = std::fs::read_dir("/proc") else {
            return Vec::new();
        };
        let mut buffer = Vec::with_capacity(4096);
        // What is older than this application is no descendant of it.
        let own_start = live(std::process::id().cast_signed(), &mut buffer).map(|own| own.started);
        dir.filter_map(|item| {
            let pid: i32 = item.ok()?.file_name().to_str()?.parse().ok()?;
            let process = live(pid, &mut buffer)?;
            let number = if Some(process.started) < own_start {
                None
            } else {
                marker_number(pid, &mut buffer)
            };
            Some(Entry {
                pid,
                group: process.group,
                number,
            })
        })
        .collect()
    }

    fn read(path: &str, buffer: &mut Vec<u8>) -> Option<()> {
        buffer.clear();
        File::open(path).ok()?.read_to_end(buffer).ok()?;
        Some(())
    }

    /// What is read of a process that runs.
    #[derive(Debug, PartialEq, Eq)]
    pub(super) struct Live {
        pub(super) group: i32,
        /// When it was started, in ticks since the boot.
        pub(super) started: u64,
    }

    /// Looks a process up; `None` for zombies and kernel threads.
    fn live(pid: i32, buffer: &mut Vec<u8>) -> Option<Live> {
        read(&format!("/proc/{pid}/stat"), buffer)?;
        parse_stat(buffer)
    }

    /// Reads `pid (name) state ppid pgrp … starttime`, the fields 1 to 22; the name may hold
    /// anything (proc_pid_stat(5)).
    pub(super) fn parse_stat(stat: &[u8]) -> Option<Live> {
        let name_end = memchr::memrchr(b')', stat)?;
        let rest = std::str::from_utf8(&stat[name_end + 1..]).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?;
        let group: i32 = fields.nth(1)?.parse().ok()?;
        let started = fields.nth(16)?.parse().ok()?;
        let runs = !matches!(state, "Z" | "X" | "x") && group > 0;
        runs.then_some(Live { group, started })
    }

    fn marker_number(pid: i32, buffer: &mut Vec<u8>) -> Option<u64> {
        read(&format!("/proc/{pid}/environ"), buffer)?;
        parse_environ(buffer, application_id())
    }

    /// Finds the number of a marker of this application.
    pub(super) fn parse_environ(environ: &[u8], application: &str) -> Option<u64> {
        environ.split(|byte| *byte == 0).find_map(|variable| {
            let value = variable
                .strip_prefix(MARKER.as_bytes())?
                .strip_prefix(b"=")?
                .strip_prefix(application.as_bytes())?
                .strip_prefix(b"-")?;
            std::str::from_utf8(value).ok()?.parse().ok()
        })
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::linux::{Live, parse_environ, parse_stat};

    #[test]
    fn a_name_with_spaces_and_brackets() {
        let tail = "42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 0 0";
        let stat = |head: &str| parse_stat(format!("{head} {tail}").as_bytes());
        let (group, started) = (42, 12345);
        assert_eq!(stat("7 (a) Z 9) S 1 42"), Some(Live { group, started }));
        assert_eq!(stat("7 (gone) Z 1 42"), None);
        assert_eq!(stat("2 (kthreadd) S 0 0"), None);
    }

    #[test]
    fn only_markers_of_this_application() {
        let environ = b"A=b\0MCPOOL_SERVER_ID=abc-12\0C=d\0";
        assert_eq!(parse_environ(environ, "abc"), Some(12));
        assert_eq!(parse_environ(environ, "ab"), None);
        assert_eq!(parse_environ(b"X=MCPOOL_SERVER_ID=abc-12\0", "abc"), None);
    }
}
