//! `mcpool up` and `mcpool down`: a gateway of the user's own in the background.

mod log;

use std::{
    fs::{File, OpenOptions},
    io,
    net::SocketAddr,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use axum::serve::Listener;
use clap::Args;
use mcpool::gateway::{Gateway, HttpOptions};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    net::{UnixListener, UnixStream, unix},
};

use super::Outcome;
use crate::{
    app::App,
    config_files,
    exit::Failure,
    invocation::program,
    off_thread::off_thread,
    pool,
    render::{out, text::Text},
    text,
};

/// How long the gateway may take until it listens. Its servers connect after that.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How long it may take to end: what runs may finish, then its servers are closed.
const END_TIMEOUT: Duration = Duration::from_secs(60);

/// How long connections may take to end when the gateway is drained.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// What the gateway says on its standard output once it listens.
const READY: &str = "ready";

/// `mcpool up`
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Serve Streamable HTTP and the page at this address too, such as 127.0.0.1:7332
    #[arg(long, value_name = "ADDRESS", value_parser = super::serve::parse_listen)]
    listen: Option<SocketAddr>,
    #[cfg(feature = "nats")]
    #[command(flatten)]
    fleet: crate::nats::FollowArgs,
}

/// Starts a gateway, unless one runs, and waits until it listens.
pub(crate) async fn up(app: &App, args: UpArgs) -> Outcome {
    let files = config_files::find(&app.global)?;
    // What is wrong with the config, or has to be asked, is reported here and now.
    let loaded = config_files::load(&app.global).await?;
    config_files::report(&app.global, &loaded.problems, None);
    let socket =
        pool::socket_of(&files).map_err(|error| failed("the runtime directory", &error))?;
    let _turn = turn(&socket).await?;
    let log = log::path_of(&socket).map_err(|error| failed("the log file", &error))?;
    if let Some(running) = pool::find(&app.global).await {
        if let Some(wanted) = args.listen
            && !running.listens.iter().any(|at| serves(*at, wanted))
        {
            return Err(not_there(&running, wanted));
        }
        return report(
            app,
            false,
            Some(running.pid),
            &running.listens,
            &socket,
            &log,
        );
    }
    let written = log::begin(&log).map_err(|error| failed("the log file", &error))?;
    let mut child =
        spawn(app, &args, &socket, written).map_err(|error| failed("mcpool", &error))?;
    let (stdout, pid) = (child.stdout.take(), child.id());
    let mut starting = Starting(Some(child));
    let ready = async {
        let mut line = String::new();
        if let Some(stdout) = stdout {
            BufReader::new(stdout.take(64)).read_line(&mut line).await?;
        }
        Ok::<_, io::Error>(line.trim() == READY)
    };
    match tokio::time::timeout(START_TIMEOUT, ready).await {
        Ok(Ok(true)) => drop(starting.0.take()),
        _ => {
            drop(starting);
            let mut why = text!("the gateway did not start:");
            for line in log::tail(&log).unwrap_or_default().lines() {
                why.push(&text!("\n{}", line));
            }
            return Err(Failure::usage(why).with_hint(text!("its log is {}", log)));
        }
    }
    let listens = match args.listen {
        // Which port that is, it knows.
        Some(_) => pool::find(&app.global).await.map(|running| running.listens),
        None => None,
    };
    report(app, true, pid, &listens.unwrap_or_default(), &socket, &log)
}

/// Says where the gateway is.
fn report(
    app: &App,
    is_new: bool,
    pid: Option<u32>,
    listens: &[SocketAddr],
    socket: &Path,
    log: &Path,
) -> Outcome {
    if app.global.json {
        let urls = |path: &str| -> Vec<String> {
            let urls = listens.iter();
            urls.map(|address| format!("http://{address}{path}"))
                .collect()
        };
        return out::document(&json!({
            "started": is_new,
            "pid": pid,
            "socket": socket,
            "log": log,
            "mcp": urls("/mcp"),
            "page": urls("/"),
        }));
    }
    let mut text = match is_new {
        true => text!("started a gateway"),
        false => text!("a gateway runs already"),
    };
    if let Some(pid) = pid {
        text.push(&text!(", process {}", pid));
    }
    text.push(&text!(", at {}\n", socket));
    for address in listens {
        let address = address.to_string();
        text.push(&text!(
            "it serves MCP at http://{}/mcp, and its page is at http://{}/\n",
            address,
            address
        ));
    }
    text.push(&text!("its log is {}; `{} down` ends it\n", log, program()));
    out::print(&text)
}

/// Of a gateway that runs, and does not serve this address.
fn not_there(running: &pool::Pool, wanted: SocketAddr) -> Failure {
    let listens = running.listens.iter().map(|at| text!("{}", at.to_string()));
    let listens = match running.listens.is_empty() {
        true => text!("on its socket alone"),
        false => text!("on {}", Text::join(listens, ", ")),
    };
    Failure::usage(text!(
        "a gateway runs already, process {}, and does not listen on {} but {}",
        running.pid,
        wanted.to_string(),
        listens
    ))
    .with_hint(text!(
        "`{} down` ends it; then this starts one that does",
        program()
    ))
}

/// Whether a gateway that listens here serves what was asked for: any port will do for 0.
fn serves(listens: SocketAddr, wanted: SocketAddr) -> bool {
    let is_there = listens.ip() == wanted.ip() || listens.ip().is_unspecified();
    is_there && (listens.port() == wanted.port() || wanted.port() == 0)
}

/// Waits until no other `up` starts a gateway at this socket, and one that is ending has ended: what
/// is given back keeps others waiting.
async fn turn(socket: &Path) -> Result<File, Failure> {
    let place = socket.to_owned();
    let turn = off_thread(move || {
        let starting = open_lock(&place.with_extension("starting"))?;
        starting.lock()?;
        if std::os::unix::net::UnixStream::connect(&place).is_err() {
            open_lock(&lock_of(&place))?.lock_shared()?;
        }
        Ok(starting)
    });
    match tokio::time::timeout(START_TIMEOUT, turn).await {
        Ok(turn) => turn?.map_err(|error| failed("the lock of the gateway", &error)),
        Err(_) => Err(Failure::usage(text!(
            "another gateway starts or ends at {}",
            socket
        ))),
    }
}

/// The program once more, apart from this terminal.
fn spawn(app: &App, args: &UpArgs, socket: &Path, log: File) -> io::Result<tokio::process::Child> {
    let mut command = tokio::process::Command::new(std::env::current_exe()?);
    for file in &app.global.config {
        command.arg("--config").arg(file);
    }
    if let Some(filter) = &app.global.log {
        command.arg("--log").arg(filter);
    }
    if app.global.verbose > 0 {
        command.arg(format!("-{}", "v".repeat(usize::from(app.global.verbose))));
    }
    command.arg("serve").arg("--background").arg(socket);
    if let Some(address) = args.listen {
        command.arg("--listen").arg(address.to_string());
    }
    #[cfg(feature = "nats")]
    args.fleet.hand_on(&mut command);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
}

/// Ends the gateway of this config, or all of this user's, and waits until they have ended.
pub(crate) async fn down(app: &App, all: bool) -> Outcome {
    let directory = |error| failed("the runtime directory", &error);
    let sockets = match all {
        true => off_thread(pool::sockets).await?.map_err(directory)?,
        false => vec![pool::socket_of(&config_files::find(&app.global)?).map_err(directory)?],
    };
    let (mut ended, mut failure) = (Vec::new(), None);
    for socket in sockets {
        match end(&socket).await {
            Ok(pid) => ended.extend(pid.map(|pid| json!({"pid": pid, "socket": socket}))),
            // The others are ended all the same.
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    if let Some(failure) = failure {
        return Err(failure);
    }
    if app.global.json {
        return out::document(&json!({ "ended": ended }));
    }
    match (ended.len(), all) {
        (0, true) => out::print(&text!("no gateway runs\n")),
        (0, false) => out::print(&text!(
            "no gateway runs for this config: --config FILE names another one, and --all ends every \
             gateway of this user\n"
        )),
        (1, _) => out::print(&text!("the gateway has ended\n")),
        (many, _) => out::print(&text!("{} gateways have ended\n", many)),
    }
}

/// Ends the gateway at a socket, and says which process it was; `None` when there is none.
async fn end(socket: &Path) -> Result<Option<i32>, Failure> {
    let Ok(mut stream) = UnixStream::connect(socket).await else {
        return Ok(None);
    };
    let peer = stream.peer_cred().ok().filter(|_| pool::is_ours(&stream));
    // Who listens there is known to the system, so it is not to be asked.
    let Some(pid) = peer.and_then(|peer| peer.pid()).filter(|pid| *pid > 1) else {
        return Err(Failure::usage(text!(
            "{} is not served by this user",
            socket
        )));
    };
    kill(Pid::from_raw(pid), Signal::SIGTERM)
        .map_err(|error| failed("the gateway", &io::Error::from(error)))?;
    // The connection lives as long as the process does.
    let lock = lock_of(socket);
    let ended = async {
        let mut byte = [0];
        while stream.read(&mut byte).await.is_ok_and(|read| read > 0) {}
        off_thread(move || File::open(lock).and_then(|lock| lock.lock_shared())).await
    };
    match tokio::time::timeout(END_TIMEOUT, ended).await {
        Ok(_) => Ok(Some(pid)),
        Err(_) => Err(Failure::usage(text!(
            "the gateway, process {}, has not ended yet",
            pid
        ))),
    }
}

/// Leaves the session of the terminal that it was started from: what is typed there is not for it,
/// nor is the end of that session.
pub(super) fn detach() {
    // One that leads a session already is as far away as can be.
    let _ = nix::unistd::setsid();
}

/// Ends a gateway that is on its way, unless it was let go.
struct Starting(Option<tokio::process::Child>);

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It has ended already, perhaps.
            let _ = child.start_kill();
        }
    }
}

/// Serves the user at a socket until a signal ends it. The lock beside the socket says that
/// somebody does; what is there without a lock was left by a process that was killed.
pub(super) async fn serve(gateway: &Gateway, socket: PathBuf) -> Result<(), Failure> {
    let claimed = claim(&socket).map_err(|error| failed("the socket", &error))?;
    let Some((_lock, listener)) = claimed else {
        return Err(Failure::usage(text!("another gateway runs at {}", socket)));
    };
    let log = log::path_of(&socket).map_err(|error| failed("the log file", &error))?;
    let _removed = super::serve::Removed(socket);
    out::print_line(&text!("{}", READY))?;
    let router = gateway.router(HttpOptions::new());
    let drained = gateway.clone();
    let serving = axum::serve(OfUser(listener), router)
        .with_graceful_shutdown(async move { drained.drained().await });
    let late = async {
        gateway.drained().await;
        tokio::time::sleep(LAST_ANSWERS).await;
    };
    tokio::select! {
        served = serving => served.map_err(|error| failed("the socket", &error)),
        () = late => Ok(()),
        () = log::keep_small(log) => Ok(()),
    }
}

/// Binds the socket, unless somebody serves it.
fn claim(socket: &Path) -> io::Result<Option<(File, UnixListener)>> {
    let lock = open_lock(&lock_of(socket))?;
    if lock.try_lock().is_err() {
        return Ok(None);
    }
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    Ok(Some((lock, listener)))
}

fn open_lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    // A shared lock wants a file that can be read on some systems.
    options.read(true).mode(0o600).open(path)
}

fn lock_of(socket: &Path) -> PathBuf {
    socket.with_extension("lock")
}

/// Accepts this user alone.
struct OfUser(UnixListener);

impl Listener for OfUser {
    type Io = UnixStream;
    type Addr = unix::SocketAddr;

    async fn accept(&mut self) -> (UnixStream, unix::SocketAddr) {
        loop {
            let accepted = Listener::accept(&mut self.0).await;
            if pool::is_ours(&accepted.0) {
                return accepted;
            }
            tracing::warn!("another user was turned away");
        }
    }

    fn local_addr(&self) -> io::Result<unix::SocketAddr> {
        self.0.local_addr()
    }
}

fn failed(what: &'static str, error: &io::Error) -> Failure {
    Failure::usage(text!("{}: {}", what, error.to_string()))
}
