//! The processes of a server on Windows: a job object that dies with its last handle, so that
//! the death of the application takes them along. Not run by this project's tests.

use std::{
    io,
    os::windows::{io::AsRawHandle, process::CommandExt},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use win32job::{ExtendedLimitInfo, Job};

use crate::{
    command::Plan,
    guardian::Guardian,
    pipes::Streams,
    shutdown::{DROP_PATIENCE, Ladder},
};

/// No console window pops up for a server (`CREATE_NO_WINDOW`).
const CREATE_NO_WINDOW: u32 = 0x0800_0000;
/// How often a process is asked whether it has exited.
const POLL: Duration = Duration::from_millis(50);

/// How a server is started. The job object does the work of guardian and gate.
#[derive(Debug, Clone, Default)]
#[allow(dead_code, reason = "the switches of other systems")]
pub(crate) struct Launch {
    pub(crate) guardian: Guardian,
    pub(crate) gate: bool,
}

/// A server's process and its job. Dropping it kills all in the job.
pub(crate) struct Process {
    id: u32,
    state: Mutex<JobState>,
    killed: AtomicU64,
}

struct JobState {
    child: Child,
    status: Option<ExitStatus>,
    /// Closing the last handle kills what is left.
    job: Option<Job>,
}

impl Process {
    pub(crate) fn start(
        plan: &Plan,
        _launch: &Launch,
        _ladder: Ladder,
    ) -> io::Result<(Self, Streams)> {
        let mut limits = ExtendedLimitInfo::new();
        limits.limit_kill_on_job_close();
        let job = Job::create_with_limit_info(&limits).map_err(io::Error::other)?;
        let mut command = Command::new(&plan.program);
        command
            .args(&plan.args)
            .env_clear()
            .envs(&plan.env)
            .creation_flags(CREATE_NO_WINDOW)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(cwd) = &plan.cwd {
            command.current_dir(cwd);
        }
        let mut child = command.spawn()?;
        let assigned = job.assign_process(child.as_raw_handle() as isize);
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let process = Self {
            id: child.id(),
            state: Mutex::new(JobState {
                child,
                status: None,
                job: Some(job),
            }),
            killed: AtomicU64::new(0),
        };
        // From here on dropping the process kills the child.
        assigned.map_err(io::Error::other)?;
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(io::Error::other("a pipe to the server is missing"));
        };
        Ok((
            process,
            Streams {
                stdin,
                stdout,
                stderr,
            },
        ))
    }

    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    pub(crate) fn killed(&self) -> u64 {
        self.killed.load(Ordering::Relaxed)
    }

    /// Waits until the process has exited. Cancel-safe.
    pub(crate) async fn exited(&self) -> io::Result<()> {
        loop {
            {
                let mut state = self.state();
                if state.status.is_some() || state.child.try_wait()?.is_some() {
                    return Ok(());
                }
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// There is no SIGTERM: a console server is asked to end by the end of its stdin only.
    pub(crate) fn terminate(&self) {}

    /// The job knows them all.
    pub(crate) fn survey(&self) {}

    /// Nobody else can end it.
    pub(crate) fn leave(&self) -> bool {
        false
    }

    /// Kills all in the job and waits for the process, at most for `patience`. Nothing lingers:
    /// there is no signal that it could handle.
    pub(crate) fn end(&self, _linger: Duration, patience: Duration) -> Option<ExitStatus> {
        let mut state = self.state();
        if state.status.is_some() {
            return state.status;
        }
        if let Some(job) = state.job.take() {
            let left = job.query_process_id_list().map_or(0, |list| list.len());
            self.killed.fetch_add(left as u64, Ordering::Relaxed);
        }
        // In case it could not be put into the job.
        let _ = state.child.kill();
        let deadline = Instant::now() + patience;
        while state.status.is_none() && Instant::now() < deadline {
            state.status = state.child.try_wait().ok().flatten();
            if state.status.is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        state.status
    }

    /// The same, under the name that other systems have for it.
    pub(crate) fn kill(&self, patience: Duration) -> Option<ExitStatus> {
        self.end(Duration::ZERO, patience)
    }

    fn state(&self) -> MutexGuard<'_, JobState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end(Duration::ZERO, DROP_PATIENCE);
    }
}

/// Whether the process of this id has exited, as far as the system shows it.
pub(crate) fn has_exited(_: u32) -> bool {
    false
}

/// How a process ended, in words that follow "the server".
pub(crate) fn describe(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exited with status {code}"),
        None => "ended".to_owned(),
    }
}
