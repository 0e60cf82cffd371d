//! Finds the processes of a server, those that left its process group included.
//!
//! On Linux a process belongs to a server when it is in the server's group, when it carries the
//! server's marker in its environment (`/proc/<pid>/environ`), when it descends from a process of
//! the server, or when it was found to belong to it before. A process that sheds all of that at
//! once (a double fork with a cleared environment in a session of its own) is found only by the
//! guardian that is a program, which adopts it. Elsewhere nothing is found here, and only the
//! process group is killed.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::OnceLock,
    time::{Duration, Instant},
};

use rustix::process::Pid;

/// A random name for this application, the beginning of every marker it gives out.
pub(crate) fn application_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        // The keys of the hashes are the system's random numbers.
        let random = || RandomState::new().build_hasher().finish();
        format!("{:016x}{:016x}", random(), random())
    })
}

/// A marker for one server's processes.
pub(crate) fn new_marker() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{}-{number}", application_id())
}

/// A process. A number is given to another process some time after an end; the start time
/// distinguishes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    pub(crate) pid: Pid,
    /// In ticks since the boot.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "read from /proc"))]
    started: u64,
}

/// A live process of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) process: Identity,
    /// Whether a signal to the server's group reaches it.
    pub(crate) in_group: bool,
}

/// The processes of one server.
#[derive(Debug)]
pub(crate) struct Family {
    /// The leader's number, which is its group's; `None` where the number may be another's.
    leader: Option<Pid>,
    marker: String,
    /// Those that ran when they were last looked for.
    known: Vec<Identity>,
}

impl Family {
    /// The family of a leader that is our child and was not reaped: its number is its own.
    pub(crate) fn of_child(leader: Pid, marker: String) -> Self {
        Self {
            leader: Some(leader),
            marker,
            known: Vec::new(),
        }
    }

    /// The family of a leader that is the child of another process, if it is known.
    pub(crate) fn of_foreign(leader: Option<Identity>, marker: String) -> Self {
        Self {
            leader: None,
            marker,
            known: leader.into_iter().collect(),
        }
    }

    /// Those that run now. Who was found once stays found, whatever it does next.
    pub(crate) fn members(&mut self) -> Vec<Member> {
        let members = members(self.leader, &self.marker, &self.known);
        self.known = members.iter().map(|member| member.process).collect();
        members
    }

    /// Kills these members, and the leader's group as a whole.
    pub(crate) fn kill(&self, members: &[Member]) {
        if let Some(leader) = self.leader {
            // It fails only when all of the group are dead.
            let _ = rustix::process::kill_process_group(leader, rustix::process::Signal::KILL);
        }
        for member in members.iter().filter(|member| !member.in_group) {
            kill(member.process);
        }
    }
}

/// Asks until it is so, in longer and longer intervals; gives whether it was in time.
pub(crate) fn poll_until(deadline: Instant, condition: impl Fn() -> bool) -> bool {
    let mut pause = Duration::from_micros(50);
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

/// Whether any of these runs still.
pub(crate) fn any_alive(members: &[Member]) -> bool {
    members.iter().any(|member| is_alive(member.process))
}

#[cfg(target_os = "linux")]
use linux::members;
#[cfg(target_os = "linux")]
pub(crate) use linux::{descendants, identify, is_alive, kill, zombies};

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use rustix::process::Pid;

    use super::{Identity, Member};

    pub(crate) fn members(_leader: Option<Pid>, _marker: &str, _known: &[Identity]) -> Vec<Member> {
        Vec::new()
    }

    pub(crate) fn descendants(_root: Pid) -> Vec<Identity> {
        Vec::new()
    }

    pub(crate) fn zombies(_parent: Pid) -> Vec<Pid> {
        Vec::new()
    }

    pub(crate) fn identify(_pid: Pid) -> Option<Identity> {
        None
    }

    pub(crate) fn kill(_process: Identity) {}

    pub(crate) fn is_alive(_process: Identity) -> bool {
        false
    }
}
#[cfg(not(target_os = "linux"))]
use elsewhere::members;
#[cfg(not(target_os = "linux"))]
pub(crate) use elsewhere::{descendants, identify, is_alive, kill, zombies};

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        collections::{HashMap, HashSet},
        fs::File,
        io::Read,
        sync::{
            Arc, Mutex, PoisonError,
            atomic::{AtomicU64, Ordering},
        },
    };

    use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

    use super::{Identity, Member};
    use crate::command::MARKER;

    /// A process that is not a zombie, as `/proc` showed it.
    #[derive(Debug, Clone)]
    pub(super) struct Entry {
        pub(super) process: Identity,
        pub(super) parent: i32,
        pub(super) group: i32,
        /// The value of its marker, if it carries one.
        pub(super) marker: Option<Box<str>>,
    }

    pub(super) fn members(leader: Option<Pid>, marker: &str, known: &[Identity]) -> Vec<Member> {
        belonging(&snapshot(), leader, marker, known)
    }

    /// Which processes of a picture belong to a server.
    pub(super) fn belonging(
        picture: &[Entry],
        leader: Option<Pid>,
        marker: &str,
        known: &[Identity],
    ) -> Vec<Member> {
        let group = leader.map(Pid::as_raw_pid);
        let found = picture
            .iter()
            .filter(|entry| {
                group == Some(entry.group)
                    || entry.marker.as_deref() == Some(marker)
                    || known.contains(&entry.process)
            })
            .map(|entry| entry.process.pid.as_raw_pid());
        below(picture, found.chain(group).collect())
            .map(|entry| Member {
                process: entry.process,
                in_group: group == Some(entry.group),
            })
            .collect()
    }

    /// The entries with these numbers, and all that descend from these numbers.
    fn below(picture: &[Entry], mut numbers: HashSet<i32>) -> impl Iterator<Item = &Entry> {
        let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
        for entry in picture {
            let number = entry.process.pid.as_raw_pid();
            children.entry(entry.parent).or_default().push(number);
        }
        let mut left: Vec<i32> = numbers.iter().copied().collect();
        while let Some(parent) = left.pop() {
            for child in children.remove(&parent).into_iter().flatten() {
                if numbers.insert(child) {
                    left.push(child);
                }
            }
        }
        picture
            .iter()
            .filter(move |entry| numbers.contains(&entry.process.pid.as_raw_pid()))
    }

    /// All that descend from a process and run, itself not included.
    pub(crate) fn descendants(root: Pid) -> Vec<Identity> {
        below(&snapshot(), HashSet::from([root.as_raw_pid()]))
            .map(|entry| entry.process)
            .filter(|process| process.pid != root)
            .collect()
    }

    /// The children of a process that have ended and were not reaped.
    pub(crate) fn zombies(parent: Pid) -> Vec<Pid> {
        let mut buffer = Vec::new();
        numbers()
            .filter(|pid| {
                stat(*pid, &mut buffer)
                    .is_some_and(|stat| stat.zombie && stat.parent == parent.as_raw_pid())
            })
            .collect()
    }

    /// The process that has this number now.
    pub(crate) fn identify(pid: Pid) -> Option<Identity> {
        let started = live(pid, &mut Vec::new())?.started;
        Some(Identity { pid, started })
    }

    /// Whether a process runs; a zombie does not.
    pub(crate) fn is_alive(process: Identity) -> bool {
        live(process.pid, &mut Vec::new()).is_some_and(|stat| stat.started == process.started)
    }

    /// Kills a process, and never another that has its number by now.
    pub(crate) fn kill(process: Identity) {
        // A pidfd stays with the process that is checked; kernels before 5.3 have none.
        let handle = pidfd_open(process.pid, PidfdFlags::empty());
        if !is_alive(process) {
            return;
        }
        // It fails when the process is gone, which is what was wanted, or another user's.
        let _ = match handle {
            Ok(handle) => pidfd_send_signal(handle, Signal::KILL),
            Err(rustix::io::Errno::NOSYS) => kill_process(process.pid, Signal::KILL),
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
        let entries = Arc::new(read_all(latest.1.as_deref().map_or(&[], Vec::as_slice)));
        *latest = (number, Some(Arc::clone(&entries)));
        entries
    }

    fn numbers() -> impl Iterator<Item = Pid> {
        std::fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .filter_map(|item| Pid::from_raw(item.ok()?.file_name().to_str()?.parse().ok()?))
    }

    /// Reads `/proc`. A marker that the picture before this one has is not read again: that is
    /// most of the work where many servers run, and who had it once belongs to its server.
    fn read_all(before: &[Entry]) -> Vec<Entry> {
        let before: HashMap<Identity, &str> = before
            .iter()
            .filter_map(|entry| Some((entry.process, entry.marker.as_deref()?)))
            .collect();
        let mut buffer = Vec::with_capacity(4096);
        // What is older than this application is no descendant of it.
        let own_start = live(rustix::process::getpid(), &mut buffer).map(|own| own.started);
        numbers()
            .filter_map(|pid| {
                let stat = live(pid, &mut buffer)?;
                let process = Identity {
                    pid,
                    started: stat.started,
                };
                let marker = if Some(stat.started) < own_start {
                    None
                } else if let Some(marker) = before.get(&process) {
                    Some(Box::from(*marker))
                } else {
                    marker(pid, &mut buffer)
                };
                Some(Entry {
                    process,
                    parent: stat.parent,
                    group: stat.group,
                    marker,
                })
            })
            .collect()
    }

    fn read(path: &str, buffer: &mut Vec<u8>) -> Option<()> {
        buffer.clear();
        File::open(path).ok()?.read_to_end(buffer).ok()?;
        Some(())
    }

    /// What is read of a process.
    #[derive(Debug, PartialEq, Eq)]
    pub(super) struct Stat {
        pub(super) zombie: bool,
        pub(super) parent: i32,
        /// 0 for kernel threads.
        pub(super) group: i32,
        /// When it was started, in ticks since the boot.
        pub(super) started: u64,
    }

    fn stat(pid: Pid, buffer: &mut Vec<u8>) -> Option<Stat> {
        read(&format!("/proc/{}/stat", pid.as_raw_pid()), buffer)?;
        parse_stat(buffer)
    }

    /// Looks a process up; `None` for zombies and kernel threads.
    fn live(pid: Pid, buffer: &mut Vec<u8>) -> Option<Stat> {
        stat(pid, buffer).filter(|stat| !stat.zombie && stat.group > 0)
    }

    /// Reads `pid (name) state ppid pgrp … starttime`, the fields 1 to 22; the name may hold
    /// anything (proc_pid_stat(5)).
    pub(super) fn parse_stat(stat: &[u8]) -> Option<Stat> {
        let name_end = memchr::memrchr(b')', stat)?;
        let rest = std::str::from_utf8(&stat[name_end + 1..]).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        Some(Stat {
            zombie: matches!(fields.next()?, "Z" | "X" | "x"),
            parent: fields.next()?.parse().ok()?,
            group: fields.next()?.parse().ok()?,
            started: fields.nth(16)?.parse().ok()?,
        })
    }

    fn marker(pid: Pid, buffer: &mut Vec<u8>) -> Option<Box<str>> {
        read(&format!("/proc/{}/environ", pid.as_raw_pid()), buffer)?;
        parse_environ(buffer)
    }

    /// Finds the value of the marker.
    pub(super) fn parse_environ(environ: &[u8]) -> Option<Box<str>> {
        environ.split(|byte| *byte == 0).find_map(|variable| {
            let value = variable
                .strip_prefix(MARKER.as_bytes())?
                .strip_prefix(b"=")?;
            std::str::from_utf8(value).ok().map(Box::from)
        })
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::{
        linux::{Entry, Stat, belonging, parse_environ, parse_stat},
        *,
    };

    #[test]
    fn a_name_with_spaces_and_brackets() {
        let tail = "42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 0 0";
        let stat = |head: &str| parse_stat(format!("{head} {tail}").as_bytes());
        let expected = |zombie| Stat {
            zombie,
            parent: 1,
            group: 42,
            started: 12345,
        };
        assert_eq!(stat("7 (a) Z 9) S 1 42"), Some(expected(false)));
        assert_eq!(stat("7 (gone) Z 1 42"), Some(expected(true)));
        assert_eq!(parse_stat(b"7 (cut) S 1 42 42 0"), None);
    }

    #[test]
    fn the_marker_is_a_whole_variable() {
        let environ = b"A=b\0MCPOOL_SERVER_ID=abc-12\0C=d\0";
        assert_eq!(parse_environ(environ).as_deref(), Some("abc-12"));
        assert_eq!(parse_environ(b"X=MCPOOL_SERVER_ID=abc-12\0"), None);
    }

    fn pid(number: i32) -> Pid {
        Pid::from_raw(number).unwrap()
    }

    fn entry(number: i32, parent: i32, group: i32, marker: Option<&str>) -> Entry {
        Entry {
            process: Identity {
                pid: pid(number),
                started: 1,
            },
            parent,
            group,
            marker: marker.map(Box::from),
        }
    }

    #[test]
    fn who_belongs_to_a_server() {
        let server = Some("abc-1");
        // 10 leads; 11 is in its group; 12 left the group; 13 cleared its environment too, and
        // 14 is its child; 15 was adopted by another, but carries the marker; 20 is another
        // server, and 30 is a stranger.
        let picture = [
            entry(14, 13, 14, None),
            entry(10, 2, 10, server),
            entry(11, 10, 10, server),
            entry(12, 11, 12, server),
            entry(13, 12, 13, None),
            entry(15, 1, 15, server),
            entry(20, 2, 20, Some("abc-11")),
            entry(30, 1, 30, None),
        ];
        let numbers = |leader: Option<i32>, known: &[Identity]| {
            let members = belonging(&picture, leader.map(pid), "abc-1", known);
            let mut numbers: Vec<_> = members
                .iter()
                .map(|member| (member.process.pid.as_raw_pid(), member.in_group))
                .collect();
            numbers.sort_unstable();
            numbers
        };
        let all = [
            (10, true),
            (11, true),
            (12, false),
            (13, false),
            (14, false),
            (15, false),
        ];
        assert_eq!(numbers(Some(10), &[]), all);
        assert_eq!(numbers(None, &[]), all.map(|(number, _)| (number, false)));

        // Once seen it stays known, though nothing ties it to the server any more; but a new
        // process of the same number is a stranger.
        let known = Identity {
            pid: pid(30),
            started: 1,
        };
        assert!(numbers(Some(10), &[known]).contains(&(30, false)));
        let reused = Identity {
            started: 2,
            ..known
        };
        assert_eq!(numbers(Some(10), &[reused]), all);
    }
}
