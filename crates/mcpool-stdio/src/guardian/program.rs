//! A guardian that is a program: the application's side.
//!
//! The application gives it, over a socket, what to start and the ends of the pipes; the guardian
//! is the servers' parent, ends them when it is told to, and takes them through the rest of the
//! ladder when the socket closes: the application is then gone, however it went. One thread of
//! the application reads what the guardian says, so that a drop can wait for it with no runtime
//! running.

use std::{
    collections::HashMap,
    ffi::OsString,
    io,
    os::{
        fd::AsFd, unix::net::UnixStream, unix::process::CommandExt, unix::process::ExitStatusExt,
    },
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::process::Pid;
use tokio::sync::watch;

use super::wire::{self, Frame, Refusal, Report, Request, Start};
use crate::{
    command::Plan,
    orphans::{self, Family},
    pipes::Streams,
    process::{DROP_PATIENCE, poll_until},
    shutdown::Ladder,
};

/// How long the guardian may take to start itself and a server, and to take what is said to it.
const START_PATIENCE: Duration = Duration::from_secs(10);

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
    running: Mutex<Weak<Link>>,
    handed_over: AtomicBool,
    warned: AtomicBool,
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

    /// Leaves the end of the servers to the guardian: from now on a close returns at once, and
    /// the guardian takes the server through the rest of its shutdown policy, whether the
    /// application still runs or not. Meant for the end of a program that has done its work.
    ///
    /// Servers that are already being closed are not affected, nor is a
    /// [`kill`](mcpool_core::TransportMonitor::kill).
    pub fn hand_over(&self) {
        self.shared.handed_over.store(true, Ordering::Release);
    }

    fn has_handed_over(&self) -> bool {
        self.shared.handed_over.load(Ordering::Acquire)
    }

    /// The guardian that runs, or a new one.
    pub(crate) fn link(&self) -> io::Result<Arc<Link>> {
        let mut running = lock(&self.shared.running);
        if let Some(link) = running.upgrade()
            && !link.heard.is_over()
        {
            return Ok(link);
        }
        let link = Arc::new(Link::open(&self.shared)?);
        *running = Arc::downgrade(&link);
        Ok(link)
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

/// A guardian that runs, as long as a server needs it. Dropping it tells the guardian that nothing
/// more comes.
#[derive(Debug)]
pub(crate) struct Link {
    /// Locked while something is said.
    socket: Mutex<UnixStream>,
    heard: Arc<Heard>,
    guardian: Arc<Mutex<Child>>,
}

/// What was heard of the servers of one guardian.
#[derive(Debug, Default)]
struct Heard {
    servers: Mutex<HashMap<u64, Arc<Server>>>,
    /// Nothing more will be heard.
    over: AtomicBool,
}

/// What was heard of one server.
#[derive(Debug, Default)]
struct Server {
    facts: Mutex<Facts>,
    changed: Condvar,
    /// Becomes true when the leader has exited, and when that will never be heard.
    exited: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Facts {
    start: Option<Result<i32, Refusal>>,
    exited: bool,
    end: Option<(Option<i32>, u64)>,
    /// The guardian has ended before it said what is missing here.
    lost: bool,
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
            .stdin(std::os::fd::OwnedFd::from(theirs))
            // Who waits for the end of our output must not wait for the guardian.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        // The command holds the guardian's end of the socket: its close is how the guardian's
        // death is seen.
        drop(command);
        let link = Self {
            socket: Mutex::new(ours),
            heard: Arc::default(),
            guardian: Arc::new(Mutex::new(guardian)),
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
    fn send(&self, request: &Request, streams: &[std::os::fd::BorrowedFd<'_>]) -> io::Result<()> {
        let frame = Frame::new(request)?;
        let socket = lock(&self.socket);
        let sent = wire::send(&socket, &frame, streams);
        if sent.is_err() && !self.heard.is_over() {
            let _ = lock(&self.guardian).kill();
        }
        sent
    }
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

    fn add(&self, id: u64) -> Arc<Server> {
        let server = Arc::new(Server::default());
        lock(&self.servers).insert(id, Arc::clone(&server));
        // Who is added after the end is not told of it by the listening thread.
        if self.is_over() {
            server.learn(|facts| facts.lost = true);
        }
        server
    }

    fn server(&self, id: u64) -> Option<Arc<Server>> {
        lock(&self.servers).get(&id).cloned()
    }

    fn remove(&self, id: u64) {
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
        let Some(server) = self.server(report.server()) else {
            return;
        };
        server.learn(|facts| match report {
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
    fn wait<T>(&self, patience: Duration, known: impl Fn(&Facts) -> Option<T>) -> Option<T> {
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

/// A server that is the guardian's child. Dropping it ends it.
pub(crate) struct GuardedProcess {
    id: u64,
    pid: Pid,
    program: GuardianProgram,
    link: Arc<Link>,
    server: Arc<Server>,
    /// For the time after the guardian's death.
    family: Mutex<Family>,
    /// Whether it was left to the guardian.
    left: AtomicBool,
    killed: AtomicU64,
}

impl GuardedProcess {
    /// Starts the server. Blocks until it runs.
    pub(crate) fn start(
        program: &GuardianProgram,
        mut link: Arc<Link>,
        plan: &Plan,
        ladder: Ladder,
    ) -> io::Result<(Self, Streams)> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let marker = orphans::new_marker();
        let (their_stdin, stdin) = io::pipe()?;
        let (stdout, their_stdout) = io::pipe()?;
        let (stderr, their_stderr) = io::pipe()?;
        let request = Request::Start(Box::new(Start::new(id, plan, marker.clone(), ladder)));
        let streams = [
            their_stdin.as_fd(),
            their_stdout.as_fd(),
            their_stderr.as_fd(),
            stdout.as_fd(),
            stderr.as_fd(),
        ];
        let mut server = link.heard.add(id);
        if let Err(error) = link.send(&request, &streams) {
            link.heard.remove(id);
            if error.kind() == io::ErrorKind::ArgumentListTooLong {
                return Err(error);
            }
            // It was killed since it was asked for last, and nothing was started: the next one.
            link = program.link()?;
            server = link.heard.add(id);
            // After an error nobody has this link, and its list goes with it.
            link.send(&request, &streams)?;
        }
        drop((their_stdin, their_stdout, their_stderr));
        let pid = match server.wait(START_PATIENCE, |facts| facts.start.clone()) {
            Some(Ok(pid)) => Pid::from_raw(pid),
            Some(Err(refusal)) => {
                link.heard.remove(id);
                return Err(refusal.into());
            }
            None => None,
        };
        let Some(pid) = pid else {
            // It may start it yet, or may have started it before its own death.
            let end = Request::End {
                server: id,
                linger: Duration::ZERO,
                patience: DROP_PATIENCE,
            };
            let _ = link.send(&end, &[]);
            link.heard.remove(id);
            end_family(&mut Family::of_foreign(None, marker), DROP_PATIENCE);
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the guardian did not start the server",
            ));
        };
        let process = Self {
            id,
            pid,
            program: program.clone(),
            link,
            server,
            family: Mutex::new(Family::of_foreign(orphans::identify(pid), marker)),
            left: AtomicBool::new(false),
            killed: AtomicU64::new(0),
        };
        let streams = Streams {
            stdin: stdin.into(),
            stdout: stdout.into(),
            stderr: stderr.into(),
        };
        Ok((process, streams))
    }

    /// The leader's process id, which is the group's too.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// How many processes had to be killed so far.
    pub(crate) fn killed(&self) -> u64 {
        self.killed.load(Ordering::Relaxed)
    }

    /// Waits until the leader has exited. Cancel-safe.
    ///
    /// # Errors
    /// When the guardian has ended before.
    pub(crate) async fn exited(&self) -> io::Result<()> {
        // It fails only when the sender is gone, and we hold it.
        let _ = self
            .server
            .exited
            .subscribe()
            .wait_for(|exited| *exited)
            .await;
        match lock(&self.server.facts) {
            facts if facts.lost && facts.end.is_none() => {
                Err(io::Error::other("the guardian of the servers has ended"))
            }
            _ => Ok(()),
        }
    }

    /// Sends SIGTERM to the group.
    pub(crate) fn terminate(&self) {
        let request = Request::Terminate { server: self.id };
        // Without a guardian there is no SIGTERM any more.
        let _ = self.link.send(&request, &[]);
    }

    /// Leaves the server to the guardian, if the application is to be over.
    pub(crate) fn leave(&self) -> bool {
        if !self.program.has_handed_over() || self.is_settled() {
            return false;
        }
        let request = Request::Release { server: self.id };
        let left = self.link.send(&request, &[]).is_ok();
        if left {
            self.left.store(true, Ordering::Release);
        }
        left
    }

    /// Whether nothing is to be done any more.
    fn is_settled(&self) -> bool {
        self.left.load(Ordering::Acquire) || lock(&self.server.facts).end.is_some()
    }

    /// Kills all that is left of the server. See [`Process::end`](crate::process::Process::end).
    pub(crate) fn end(&self, linger: Duration, patience: Duration) -> Option<ExitStatus> {
        if self.left.load(Ordering::Acquire) {
            return None;
        }
        if !self.is_settled() {
            let request = Request::End {
                server: self.id,
                linger,
                patience,
            };
            // An error is a guardian that has ended, which the wait below sees as well.
            let _ = self.link.send(&request, &[]);
        }
        let ended = |facts: &Facts| facts.end;
        // A guardian that was killed, stopped, or that has no turn on a loaded machine: what it
        // would do is done here, with half of the time.
        let answer = self.server.wait(linger + patience / 2, ended).or_else(|| {
            let killed = end_family(&mut lock(&self.family), patience / 2);
            self.killed.fetch_add(killed, Ordering::Relaxed);
            self.server.wait(Duration::ZERO, ended)
        });
        let (status, killed) = answer?;
        self.killed.fetch_max(killed, Ordering::Relaxed);
        status.map(ExitStatus::from_raw)
    }
}

impl Drop for GuardedProcess {
    fn drop(&mut self) {
        if !self.is_settled() && !self.leave() {
            self.end(Duration::ZERO, DROP_PATIENCE);
        }
        self.link.heard.remove(self.id);
    }
}

/// Kills a family that is not ours to reap; gives how many were killed.
fn end_family(family: &mut Family, patience: Duration) -> u64 {
    let deadline = Instant::now() + patience;
    let mut killed = 0;
    loop {
        let members = family.members();
        family.kill(&members);
        killed += members.len() as u64;
        if members.is_empty() || !poll_until(deadline, || !orphans::any_alive(&members)) {
            return killed;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
