//! The guardian that is a shell: the death of the application, however it dies, takes its servers
//! along.
//!
//! It is one small process for each application: a POSIX `sh` in its own process group
//! that reads process-group ids from a pipe which only the application holds. At the end of
//! the pipe the application is dead, SIGKILL included, and the guardian kills the groups that
//! are left, and on Linux every process that carries a marker of the application.
//!
//! It is started with the first server and ended with the last. Why no server slips through:
//!
//! - a server that was started and not yet registered holds, until its `exec`, a copy of the
//!   pipe. So the guardian sees the end of the pipe only after that `exec`, and from then on
//!   the marker in the server's environment is visible;
//! - where there is no `/proc`, the server is started behind a gate: it waits for one line on
//!   its stdin, which is sent after the registration, and gives up at end of file;
//! - a group is taken off the list before its leader is reaped, so its number is still its own;
//! - the guardian's environment is empty, so that it never carries the marker of an outer
//!   application that also uses mcpool, and outlives it long enough to do its work.
//!
//! Pipes are close-on-exec, so servers and guardian do not inherit each other's.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::process::Pid;

use crate::{command::MARKER, orphans};

/// `$1` is the application's id. Numbers only come from us, so they need no quoting.
const SCRIPT: &str = r#"
trap '' HUP INT QUIT TERM PIPE USR1 USR2
groups=' '
while read -r verb group; do
  case $verb in
    +) groups="$groups$group " ;;
    -) case $groups in
         *" $group "*) groups=${groups%%" $group "*}" "${groups#*" $group "} ;;
       esac ;;
  esac
done
for group in $groups; do kill -s KILL -- "-$group"; done
clean=0
round=0
while [ $clean -lt 3 ] && [ $round -lt 100 ]; do
  clean=$((clean + 1))
  round=$((round + 1))
  for file in $(grep -lsF -e "$2=$1-" /proc/[0-9]*/environ); do
    pid=${file#/proc/}
    kill -s KILL "${pid%/environ}"
    clean=0
  done
  sleep 0.02 || sleep 1
done
"#;

/// The guardian of this application.
static GUARDIAN: Mutex<Guardian> = Mutex::new(Guardian {
    leases: 0,
    groups: BTreeSet::new(),
    running: None,
    warned: false,
});

struct Guardian {
    leases: usize,
    groups: BTreeSet<i32>,
    running: Option<Running>,
    warned: bool,
}

struct Running {
    shell: Child,
    pipe: ChildStdin,
}

fn guardian() -> MutexGuard<'static, Guardian> {
    GUARDIAN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One server's claim on the guardian. It runs while there is one.
#[derive(Debug)]
pub(crate) struct Lease {
    group: Option<Pid>,
}

impl Lease {
    /// Starts the guardian if it does not run. To be taken before the server is started.
    pub(crate) fn take() -> Self {
        let mut guardian = guardian();
        guardian.leases += 1;
        guardian.ensure_running();
        Self { group: None }
    }

    /// Sends the server's process group to the guardian.
    pub(crate) fn register(&mut self, group: Pid) {
        self.group = Some(group);
        let number = group.as_raw_nonzero().get();
        let mut guardian = guardian();
        guardian.groups.insert(number);
        guardian.tell('+', number);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut guardian = guardian();
        if let Some(group) = self.group {
            let number = group.as_raw_nonzero().get();
            guardian.groups.remove(&number);
            if guardian.leases > 1 {
                guardian.tell('-', number);
            }
        }
        guardian.leases -= 1;
        if guardian.leases == 0 {
            guardian.stop();
        }
    }
}

impl Guardian {
    fn ensure_running(&mut self) {
        let gone = match &mut self.running {
            Some(running) => !matches!(running.shell.try_wait(), Ok(None)),
            None => true,
        };
        if gone {
            self.start();
        }
    }

    /// Starts a new one and sends it all that the old one knew.
    fn start(&mut self) {
        self.stop();
        let started = Running::start().and_then(|mut running| {
            for group in &self.groups {
                writeln!(running.pipe, "+ {group}")?;
            }
            Ok(running)
        });
        match started {
            Ok(running) => self.running = Some(running),
            Err(error) => {
                if !std::mem::replace(&mut self.warned, true) {
                    tracing::warn!(
                        transport = "stdio",
                        error = %error,
                        "no guardian could be started: servers may outlive this application if it is killed"
                    );
                }
            }
        }
    }

    fn tell(&mut self, verb: char, group: i32) {
        let Some(running) = &mut self.running else {
            return;
        };
        // One write, so that the line is whole. The pipe does not block: a guardian that was
        // stopped from outside must not stop the application.
        if running
            .pipe
            .write_all(format!("{verb} {group}\n").as_bytes())
            .is_err()
        {
            self.start();
        }
    }

    /// Ends it at once. It must not see the end of the pipe, which would mean work to do.
    fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            let _ = running.shell.kill();
            let _ = running.shell.wait();
        }
    }
}

impl Running {
    fn start() -> io::Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "mcpool-guardian"])
            .args([orphans::application_id(), MARKER])
            .env_clear()
            .env("PATH", path)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let Some(pipe) = shell.stdin.take() else {
            return Err(io::Error::other("the guardian has no stdin"));
        };
        rustix::io::ioctl_fionbio(&pipe, true)?;
        Ok(Self { shell, pipe })
    }
}
