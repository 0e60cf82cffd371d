//! A guardian that is a program: the application's side.
//!
//! The application gives it, over a socket, what to start and the ends of the pipes; the guardian
//! is the servers' parent, ends them on request, and takes them through the rest of the
//! ladder when the socket closes: the application is then gone, however it went. One thread of
//! the application reads what the guardian says, so that a drop can wait for it with no runtime
//! running.

use std::{
    collections::HashMap,
    ffi::OsString,
    io,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::wire::{self, Frame, Refusal, Report, Request};
use crate::clock::MachineTime;

/// How long the guardian may take to start itself and a server, and to take what is said to it.
pub(super) const START_PATIENCE: Duration = Duration::from_secs(10);

/// After so long a guardian that could not be started is tried again.
const RETRY: Duration = Duration::from_secs(60);

/// A program that starts the servers in the application's stead and is their parent.
///
/// The program calls [`run_guardian`](super::run_guardian) when it sees the arguments that are
/// given here; as a rule it is the application's own program
/// ([`this_program`](Self::this_program)). It is started with the first server and ends after the
/// last; clones, and the connectors that were given one, share it. It runs in a session of its
/// own with an empty environment, so that no server reaches the application's terminal. On Linux it
/// is a child subreaper (prctl(2)): a process that its parent left is its child, whatever else it
/// did, and ends with the last server at the latest.
///
/// If it cannot be started, servers are started as with [`Guardian::Shell`](super::Guardian), and
/// a warning is logged.
///
/// ```no_run
/// use mcpool_stdio::{GuardianProgram, StdioConnector, run_guardian};
///
/// fn main() -> std::io::Result<()> {
///     // First of all, before threads and runtimes.
///     if std::env::args_os().nth(1).is_some_and(|argument| argument == "--guardian") {
///         return run_guardian(None);
///     }
///     let guardian = GuardianProgram::this_program(["--guardian"]);
///     let connector = StdioConnector::new().with_guardian(guardian.clone());
///     // … the application works, and at its end, instead of waiting for slow servers:
///     guardian.hand_over();
///     # let _ = connector;
///     Ok(())
/// }
/// ```
#[derive(Debug, Clone)]
pub struct GuardianProgram {
    shared: Arc<Program>,
}

#[derive(Debug)]
struct Program {
    path: PathBuf,
    args: Vec<OsString>,
    running: Mutex<Running>,
    handed_over: AtomicBool,
    warned: AtomicBool,
}

#[derive(Debug, Default)]
struct Running {
    link: Weak<Link>,
    /// When it could not be started.
    failed: Option<Instant>,
    /// When the servers are to be dead, if that was set.
    deadline: Option<MachineTime>,
}

impl GuardianProgram {
    /// The program at this path, with these arguments.
    #[must_use]
    pub fn new(
        program: impl Into<PathBuf>,
        args: impl IntoIterator<Item = impl Into<OsString>>,
    ) -> Self {
        Self {
            shared: Arc::new(Program {
                path: program.into(),
                args: args.into_iter().map(Into::into).collect(),
                running: Mutex::default(),
                handed_over: AtomicBool::new(false),
                warned: AtomicBool::new(false),
            }),
        }
    }

    /// The program that runs now, with these arguments. On Linux it is the very file that runs,
    /// also after an update has replaced it.
    #[must_use]
    pub fn this_program(args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        let path = if cfg!(target_os = "linux") {
            Ok("/proc/self/exe".into())
        } else {
            std::env::current_exe()
        };
        // An empty path cannot be started, which is a warning then.
        Self::new(path.unwrap_or_default(), args)
    }

    /// The same program as another guardian, which runs in a process of its own and has no server
    /// yet.
    #[must_use]
    pub fn another(&self) -> Self {
        Self::new(&self.shared.path, &self.shared.args)
    }

    /// Leaves the end of the servers to the guardian: from now on a close returns at once, and
    /// the guardian takes the server through the rest of its shutdown policy, whether the
    /// application still runs or not. Meant for the end of a program that has done its work.
    ///
    /// A close that was begun before goes on as it was, and a
    /// [`kill`](mcpool_core::TransportMonitor::kill) still kills at once.
    pub fn hand_over(&self) {
        self.shared.handed_over.store(true, Ordering::Release);
    }

    /// Has the guardian kill its servers at this moment, whatever becomes of the application until
    /// then, unless a later one is set before: for servers that must not run any more when the
    /// application was stopped (SIGSTOP) or the machine slept. After the moment no server is started.
    /// An earlier moment than the one before changes nothing.
    ///
    /// The guardian looks at the clock four times a second. A shell that takes the place of a
    /// guardian that cannot be started knows no such moment. Blocks as long as a write to a socket
    /// and the start of the guardian do.
    pub fn end_at(&self, moment: MachineTime) {
        let mut running = lock(&self.shared.running);
        if running.deadline.is_some_and(|before| before >= moment) {
            return;
        }
        running.deadline = Some(moment);
        if let Some(link) = running.link.upgrade() {
            // An error is a guardian that has ended: its servers have, and the next one is given
            // the moment first.
            let _ = link.send(&Request::Deadline { at: moment }, &[]);
        }
    }

    pub(super) fn has_handed_over(&self) -> bool {
        self.shared.handed_over.load(Ordering::Acquire)
    }

    /// The guardian that runs, or a new one.
    pub(crate) fn link(&self) -> io::Result<Arc<Link>> {
        let mut running = lock(&self.shared.running);
        if let Some(link) = running.link.upgrade()
            && !link.heard.is_over()
        {
            return Ok(link);
        }
        if running.failed.is_some_and(|at| at.elapsed() < RETRY) {
            return Err(io::Error::other("it could not be started a moment ago"));
        }
        let opened = Link::open(&self.shared).and_then(|link| {
            if let Some(at) = running.deadline {
                link.send(&Request::Deadline { at }, &[])?;
            }
            Ok(link)
        });
        match opened {
            Ok(link) => {
                let link = Arc::new(link);
                running.link = Arc::downgrade(&link);
                running.failed = None;
                Ok(link)
            }
            Err(error) => {
                running.failed = Some(Instant::now());
                Err(error)
            }
        }
    }

    /// Says, once, that there is no guardian.
    pub(crate) fn warn(&self, error: &io::Error) {
        if !self.shared.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                transport = "stdio",
                %error,
                "the guardian program cannot be started; a shell takes its place, which does not find processes that cleared their environment"
            );
        }
    }
}

/// A guardian that runs, as long as a server needs it. Dropping it ends its input: nothing more
/// comes.
#[derive(Debug)]
pub(crate) struct Link {
    /// Locked while something is said.
    socket: Mutex<UnixStream>,
    pub(super) heard: Arc<Heard>,
    guardian: Arc<Mutex<Child>>,
}

/// What was heard of the servers of one guardian.
#[derive(Debug, Default)]
pub(super) struct Heard {
    servers: Mutex<HashMap<u64, Arc<Server>>>,
    /// Nothing more will be heard.
    over: AtomicBool,
}

/// What was heard of one server.
#[derive(Debug, Default)]
pub(super) struct Server {
    pub(super) facts: Mutex<Facts>,
    changed: Condvar,
    /// Becomes true when the leader has exited, and when that will never be heard.
    pub(super) exited: watch::Sender<bool>,
}

#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) start: Option<Result<i32, Refusal>>,
    exited: bool,
    pub(super) end: Option<(Option<i32>, u64)>,
    /// The guardian has ended before it said what is missing here.
    pub(super) lost: bool,
}

impl Link {
    fn open(program: &Program) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_write_timeout(Some(START_PATIENCE))?;
        let listening = ours.try_clone()?;
        let mut command = Command::new(&program.path);
        if let Some(name) = std::env::args_os().next() {
            command.arg0(name);
        }
        let guardian = command
            .args(&program.args)
            .env_clear()
            .current_dir("/")
            .stdin(OwnedFd::from(theirs))
            // Who waits for the end of our output must not wait for the guardian.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        // The command holds the guardian's end of the socket: its close is how the guardian's
        // death is seen.
        drop(command);
        let guardian = Arc::new(Mutex::new(guardian));
        if let Err(error) = await_ready(&listening) {
            bury(&guardian);
            return Err(error);
        }
        let link = Self {
            socket: Mutex::new(ours),
            heard: Arc::default(),
            guardian,
        };
        let heard = Arc::clone(&link.heard);
        let guardian = Arc::clone(&link.guardian);
        let listens = std::thread::Builder::new()
            .name("mcpool-guardian".to_owned())
            .stack_size(128 << 10)
            .spawn(move || {
                heard.listen(&listening);
                bury(&guardian);
            });
        match listens {
            Ok(_) => Ok(link),
            Err(error) => {
                bury(&link.guardian);
                Err(error)
            }
        }
    }

    /// Says something to the guardian.
    ///
    /// # Errors
    /// When it has ended, or was stopped and takes nothing: then it is killed, since it may have
    /// got half a message.
    pub(super) fn send(&self, request: &Request, streams: &[BorrowedFd<'_>]) -> io::Result<()> {
        let frame = Frame::new(request)?;
        let socket = lock(&self.socket);
        let sent = wire::send(&socket, &frame, streams);
        if sent.is_err() && !self.heard.is_over() {
            let _ = lock(&self.guardian).kill();
        }
        sent
    }
}

/// Waits until a guardian says that it is one.
fn await_ready(socket: &UnixStream) -> io::Result<()> {
    socket.set_read_timeout(Some(START_PATIENCE))?;
    let Report::Ready { adopts } = wire::receive(socket)? else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    socket.set_read_timeout(None)?;
    if !adopts && cfg!(target_os = "linux") {
        tracing::warn!(
            transport = "stdio",
            "the system does not let the guardian adopt processes: one that forked twice and cleared its environment may stay"
        );
    }
    Ok(())
}

/// Waits for a guardian that has nothing more to do, and sees to it that this is not for long.
fn bury(guardian: &Mutex<Child>) {
    let mut guardian = lock(guardian);
    let _ = guardian.kill();
    let _ = guardian.wait();
}

impl Drop for Link {
    fn drop(&mut self) {
        // The listening thread holds a copy of the socket, so a close is not enough.
        let _ = lock(&self.socket).shutdown(std::net::Shutdown::Write);
    }
}

impl Heard {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    pub(super) fn add(&self, id: u64) -> Arc<Server> {
        let server = Arc::new(Server::default());
        lock(&self.servers).insert(id, Arc::clone(&server));
        // What is added after the end does not learn of it from the listening thread.
        if self.is_over() {
            server.learn(|facts| facts.lost = true);
        }
        server
    }

    fn server(&self, id: u64) -> Option<Arc<Server>> {
        lock(&self.servers).get(&id).cloned()
    }

    pub(super) fn remove(&self, id: u64) {
        lock(&self.servers).remove(&id);
    }

    /// Takes in what the guardian says until its end.
    fn listen(&self, socket: &UnixStream) {
        while let Ok(report) = wire::receive(socket) {
            self.take_in(report);
        }
        self.over.store(true, Ordering::Release);
        for server in lock(&self.servers).values() {
            server.learn(|facts| facts.lost = true);
        }
    }

    fn take_in(&self, report: Report) {
        // Who is not on the list has been forgotten here, and ends there.
        let Some(server) = report.server().and_then(|id| self.server(id)) else {
            return;
        };
        server.learn(|facts| match report {
            Report::Ready { .. } => {}
            Report::Started { pid, .. } => facts.start = Some(Ok(pid)),
            Report::Refused { why, .. } => facts.start = Some(Err(why)),
            Report::Exited { .. } => facts.exited = true,
            Report::Ended { status, killed, .. } => facts.end = Some((status, killed)),
        });
    }
}

impl Server {
    fn learn(&self, change: impl FnOnce(&mut Facts)) {
        let over = {
            let mut facts = lock(&self.facts);
            change(&mut facts);
            facts.exited || facts.lost || facts.end.is_some()
        };
        self.changed.notify_all();
        if over {
            self.exited.send_replace(true);
        }
    }

    /// Waits until something is known, or never will be.
    pub(super) fn wait<T>(
        &self,
        patience: Duration,
        known: impl Fn(&Facts) -> Option<T>,
    ) -> Option<T> {
        let facts = lock(&self.facts);
        let (facts, _) = self
            .changed
            .wait_timeout_while(facts, patience, |facts| {
                known(facts).is_none() && !facts.lost
            })
            .unwrap_or_else(PoisonError::into_inner);
        known(&facts)
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
