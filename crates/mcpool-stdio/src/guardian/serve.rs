//! A guardian that is a program: the guardian's side.
//!
//! One task hears the application and starts servers; what takes time is done beside it. When the
//! application is gone, every server is taken through its ladder, then whatever descends from
//! this process is killed, and the guardian ends.

use std::{
    collections::HashMap,
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{net::UnixStream, process::ExitStatusExt},
    },
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::process::{
    Resource, Rlimit, WaitId, WaitIdOptions, getpid, getrlimit, setrlimit, waitid,
};
use tokio::{
    net::unix::pipe,
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, timeout_at},
};

use super::wire::{self, Refusal, Report, Request, STREAMS, Start};
use crate::{
    child::OwnProcess,
    clock::MachineTime,
    orphans::{self, poll_until},
    shutdown::{DROP_PATIENCE, Ladder},
};

/// How many descriptors stay free for starting servers and looking through `/proc`. What a server
/// says in its last seconds is read only while there are more.
const RESERVE: u64 = 64;
/// How long adopted processes that have ended may stay zombies.
const REAP_PAUSE: Duration = Duration::from_millis(250);
/// How often the moment is looked at when the servers are to be dead.
const LOOK: Duration = Duration::from_millis(250);
/// How long the last sweep goes on against processes that make others.
const SWEEP: Duration = Duration::from_secs(30);

/// Is the guardian: what a program that is given to
/// [`GuardianProgram`](super::GuardianProgram) calls, first of all. Returns when the application
/// is gone and all of its servers are dead.
///
/// `open_files` is the soft limit of open files (RLIMIT_NOFILE) that the servers get, for
/// applications that raise their own; `None` leaves it as it was inherited.
///
/// It ignores the signals that a terminal or a service manager sends to all processes of an
/// application: it ends with the application, and with its servers' graces.
///
/// # Errors
/// When standard input is not the socket that the application gives it: it was not started by
/// one.
pub fn run_guardian(open_files: Option<u64>) -> io::Result<()> {
    // In the application's group a Ctrl-C would reach it. It fails when it leads a session
    // already.
    let _ = rustix::process::setsid();
    let adopts = adopt();
    if let Some(open_files) = open_files {
        let maximum = getrlimit(Resource::Nofile).maximum;
        let limit = Rlimit {
            current: Some(maximum.map_or(open_files, |maximum| open_files.min(maximum))),
            maximum,
        };
        setrlimit(Resource::Nofile, limit)?;
    }
    let socket = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3)?;
    let socket = UnixStream::from(socket);
    // It fails for what is no socket.
    socket.local_addr()?;
    socket.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let served = runtime.block_on(async {
        let _deaf = deaf()?;
        Guardian::default().serve(socket, adopts).await
    });
    // What blocks a thread still is a process that the kernel holds, and that is killed.
    runtime.shutdown_background();
    served
}

/// Makes this process the parent of what its descendants leave, where the system knows that.
fn adopt() -> bool {
    #[cfg(target_os = "linux")]
    {
        // Else it would be called `exe`.
        let _ = rustix::thread::set_name(c"mcpool-guardian");
        rustix::process::set_child_subreaper(Some(getpid())).is_ok()
    }
    #[cfg(not(target_os = "linux"))]
    false
}

/// Takes the default action from the signals that end a process. Servers get it back by their
/// `exec`.
fn deaf() -> io::Result<Vec<Signal>> {
    [
        SignalKind::hangup(),
        SignalKind::interrupt(),
        SignalKind::quit(),
        SignalKind::terminate(),
        SignalKind::pipe(),
        SignalKind::alarm(),
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
    ]
    .into_iter()
    .map(signal)
    .collect()
}

#[derive(Clone, Default)]
struct Guardian {
    /// The servers that were started and have not ended. Locked while one is started, so that no
    /// sweep meets a server that is not on the list yet.
    servers: Arc<Mutex<HashMap<u64, Server>>>,
    /// When all of them are to be dead. Who holds a lock of the servers may take this one.
    deadline: Arc<Mutex<Option<MachineTime>>>,
}

#[derive(Clone)]
struct Server {
    process: Arc<OwnProcess>,
    ladder: Ladder,
    /// Our ends of stdout and stderr.
    late: Arc<Mutex<Vec<OwnedFd>>>,
    /// Whether it is being ended already, so that no ladder has to be climbed.
    ending: bool,
    /// Whether it is being killed since its time is over.
    expired: bool,
}

/// Where reports go.
type Reports = mpsc::UnboundedSender<Report>;

impl Guardian {
    async fn serve(self, socket: UnixStream, adopts: bool) -> io::Result<()> {
        let (mut hear, mut say) = tokio::net::UnixStream::from_std(socket)?.into_split();
        wire::say(&mut say, &Report::Ready { adopts }).await?;
        // Bounded by the number of servers: each has four reports at most.
        let (reports, mut to_say) = mpsc::unbounded_channel();
        let saying = tokio::spawn(async move {
            while let Some(report) = to_say.recv().await {
                // Nobody listens any more: the end is seen where it is listened for.
                let _ = wire::say(&mut say, &report).await;
            }
            // Kept until now: its close says that all is done.
            say
        });
        let reaping = tokio::spawn(self.clone().reap());
        let keeping = tokio::spawn(self.clone().keep(reports.clone()));
        let mut watches = JoinSet::new();
        let mut duties = JoinSet::new();
        while let Ok((request, streams)) = wire::hear(&mut hear).await {
            match request {
                Request::Start(start) => {
                    let server = start.server;
                    let report = match self.start(&start, streams) {
                        Ok(process) => {
                            let pid = process.pid().as_raw_pid();
                            watches.spawn(tell_exit(server, process, reports.clone()));
                            Report::Started { server, pid }
                        }
                        Err(error) => Report::Refused {
                            server,
                            why: Refusal::from(error),
                        },
                    };
                    // It fails only after the task that listens has ended, and we wait for that.
                    let _ = reports.send(report);
                }
                Request::Terminate { server } => {
                    if let Some(server) = self.servers().get(&server) {
                        server.process.terminate();
                    }
                }
                Request::End {
                    server: id,
                    linger,
                    patience,
                } => {
                    // Also one whose ladder is being climbed: this is faster.
                    let server = self.servers().get_mut(&id).map(|server| {
                        server.ending = true;
                        server.clone()
                    });
                    if let Some(server) = server {
                        let end = self.clone().end(id, server, linger, patience);
                        let reports = reports.clone();
                        duties.spawn(async move {
                            let _ = reports.send(end.await);
                        });
                    }
                }
                Request::Release { server } => self.release(server, &mut duties),
                Request::Deadline { at } => *lock(&self.deadline) = Some(at),
            }
            while watches.try_join_next().is_some() {}
            while duties.try_join_next().is_some() {}
        }
        let ids: Vec<u64> = self.servers().keys().copied().collect();
        for id in ids {
            self.release(id, &mut duties);
        }
        while duties.join_next().await.is_some() {}
        watches.shutdown().await;
        reaping.abort();
        keeping.abort();
        // It has a way to report, whose end is waited for below.
        let _ = keeping.await;
        let sweeper = self.clone();
        let _ = tokio::task::spawn_blocking(move || sweeper.sweep(None, SWEEP)).await;
        drop(reports);
        let _ = saying.await;
        Ok(())
    }

    fn start(&self, start: &Start, streams: Vec<OwnedFd>) -> io::Result<Arc<OwnProcess>> {
        let Ok([stdin, stdout, stderr, late_stdout, late_stderr]) =
            <[OwnedFd; STREAMS]>::try_from(streams)
        else {
            // The system gives as many as there is room for.
            return Err(rustix::io::Errno::MFILE.into());
        };
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let late = [late_stdout, late_stderr]
            .into_iter()
            .filter(|late| {
                // The lowest free number is given out, so it shows how many there are.
                u64::try_from(late.as_raw_fd()).is_ok_and(|number| number + RESERVE < limit)
            })
            .collect();
        let mut servers = self.servers();
        if lock(&self.deadline).is_some_and(MachineTime::has_come) {
            // The application was stopped, and does not know yet how late it is.
            return Err(io::ErrorKind::TimedOut.into());
        }
        let streams = [Stdio::from(stdin), stdout.into(), stderr.into()];
        let process = Arc::new(OwnProcess::start_for(
            &start.plan(),
            start.marker.clone(),
            streams,
        )?);
        servers.insert(
            start.server,
            Server {
                process: Arc::clone(&process),
                ladder: start.ladder,
                late: Arc::new(Mutex::new(late)),
                ending: false,
                expired: false,
            },
        );
        Ok(process)
    }

    /// The server, if it is there and nobody ends it yet.
    fn begin_to_end(&self, id: u64) -> Option<Server> {
        let mut servers = self.servers();
        let server = servers.get_mut(&id).filter(|server| !server.ending)?;
        server.ending = true;
        Some(server.clone())
    }

    /// Takes a server through its ladder, for an application that does not.
    fn release(&self, id: u64, duties: &mut JoinSet<()>) {
        if let Some(server) = self.begin_to_end(id) {
            let guardian = self.clone();
            duties.spawn(async move { guardian.climb(id, server).await });
        }
    }

    /// Its stdin is closed by the application, or by its death.
    async fn climb(self, id: u64, server: Server) {
        let began = Instant::now();
        let process = Arc::clone(&server.process);
        let ladder = server.ladder;
        // Nobody reads what it says at its end, and it must not be stuck for that.
        let late: Vec<_> = std::mem::take(&mut *lock(&server.late));
        let drains: JoinSet<()> = late.into_iter().map(drain).collect();
        let surveyed = Arc::clone(&process);
        let _ = tokio::task::spawn_blocking(move || surveyed.survey()).await;
        let exited_by =
            async |deadline| matches!(timeout_at(deadline, process.exited()).await, Ok(Ok(())));
        let mut obeyed = exited_by(began + ladder.terminate).await;
        if !obeyed {
            process.terminate();
            obeyed = exited_by(began + ladder.kill).await;
        }
        let linger = if obeyed {
            ladder.linger
        } else {
            Duration::ZERO
        };
        self.end(id, server, linger, DROP_PATIENCE).await;
        drop(drains);
    }

    /// Kills what is left of a server, and what nobody else can have left if it was the only
    /// one.
    async fn end(self, id: u64, server: Server, linger: Duration, patience: Duration) -> Report {
        let ended = tokio::task::spawn_blocking(move || {
            let status = server.process.end(linger, patience);
            self.sweep(Some(id), patience);
            self.servers().remove(&id);
            (status, server.process.killed())
        });
        // It panics only by a bug of ours, and an unknown end is still one.
        let (status, killed) = ended.await.unwrap_or_default();
        Report::Ended {
            server: id,
            status: status.map(ExitStatusExt::into_raw),
            killed,
        }
    }

    /// Kills all servers when the moment has come that the application set, which may be stopped.
    async fn keep(self, reports: Reports) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ends = JoinSet::new();
        loop {
            looks.tick().await;
            while ends.try_join_next().is_some() {}
            if !lock(&self.deadline).is_some_and(MachineTime::has_come) {
                continue;
            }
            let left: Vec<(u64, Server)> = {
                let mut servers = self.servers();
                let left = servers.iter_mut().filter(|(_, server)| !server.expired);
                left.map(|(id, server)| {
                    // Also one that is being ended: it waits for its linger at most.
                    (server.ending, server.expired) = (true, true);
                    (*id, server.clone())
                })
                .collect()
            };
            for (id, server) in left {
                let end = self.clone().end(id, server, Duration::ZERO, DROP_PATIENCE);
                let reports = reports.clone();
                ends.spawn(async move {
                    let _ = reports.send(end.await);
                });
            }
        }
    }

    /// Kills what descends from this process, if no other server than this one is there that it
    /// may belong to: what was left by its parents and shed everything that ties it to a server.
    fn sweep(&self, but: Option<u64>, patience: Duration) {
        let deadline = std::time::Instant::now() + patience;
        loop {
            let left = {
                let servers = self.servers();
                if servers.keys().any(|id| Some(*id) != but) {
                    return;
                }
                let left = orphans::descendants(getpid());
                left.iter().for_each(|process| orphans::kill(*process));
                left
            };
            let dead = || !left.iter().any(|process| orphans::is_alive(*process));
            if left.is_empty() || !poll_until(deadline, dead) {
                return;
            }
        }
    }

    /// Reaps adopted processes.
    async fn reap(self) {
        let Ok(mut signals) = signal(SignalKind::child()) else {
            return;
        };
        while signals.recv().await.is_some() {
            tokio::time::sleep(REAP_PAUSE).await;
            let servers = self.servers();
            // Leaders are reaped by those who end them: until then their numbers are their own.
            for zombie in orphans::zombies(getpid()) {
                let leads = |server: &Server| server.process.pid() == zombie;
                if !servers.values().any(leads) {
                    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
                    let _ = waitid(WaitId::Pid(zombie), options);
                }
            }
        }
    }

    fn servers(&self) -> MutexGuard<'_, HashMap<u64, Server>> {
        lock(&self.servers)
    }
}

async fn tell_exit(server: u64, process: Arc<OwnProcess>, reports: Reports) {
    // An error means that nothing can be waited for; then it counts as exited, and is ended.
    let _ = process.exited().await;
    let _ = reports.send(Report::Exited { server });
}

/// Reads all that comes and forgets it.
async fn drain(stream: OwnedFd) {
    if let Ok(mut stream) = pipe::Receiver::from_owned_fd(stream) {
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
