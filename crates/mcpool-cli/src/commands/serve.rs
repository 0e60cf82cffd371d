//! `mcpool serve`: the servers of the config as one MCP server.

use std::{
    future,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use clap::{Args, ValueEnum};
use futures::future::try_join_all;
use mcpool::{
    ServerSpec, StartMode,
    gateway::{AccessKeys, AuditEntry, Gateway, HttpOptions, Relay, Scope, SealingKeys},
};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::Outcome;
use crate::{
    app::App,
    exit::{Exit, Failure},
    off_thread::off_thread,
    reload,
    render::out,
    text,
};

/// Where it listens when nothing else is said.
const DEFAULT_ADDRESS: &str = "127.0.0.1:7332";

/// The longest file with sealing keys.
const MAX_KEY_FILE: u64 = 64 * 1024;

/// `mcpool serve`
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Serve the one client at standard input and output
    // In place of the flag of this name that every command has; the type must be the same.
    #[arg(
        id = "stdio",
        long = "stdio",
        num_args = 0,
        default_missing_value = "-"
    )]
    stdio: Option<String>,
    /// Serve Streamable HTTP at this address of this machine, at the path /mcp; without --stdio
    /// and --socket the default is 127.0.0.1:7332
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Serve clients at a unix socket, one message a line
    #[cfg(unix)]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Another name by which clients reach the HTTP server, such as that of a proxy in front
    #[arg(long, value_name = "HOST")]
    host: Vec<String>,
    /// A file with the key that seals sessions, 32 bytes in base64, and older keys on further
    /// lines; default: a new key, so that sessions end with the program
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// A file with keys: clients over HTTP must send one as a bearer token. Needed to listen on
    /// addresses that other machines reach
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Make a key for NAME, add its line to the file of --keys, show the key once, and end
    #[arg(long, value_name = "NAME", requires = "keys")]
    issue_key: Option<String>,
    /// Write a JSON line to this file for each request that a server is to answer
    #[arg(long, value_name = "FILE")]
    audit: Option<PathBuf>,
    /// What servers may ask clients for
    #[arg(
        long,
        value_name = "WHAT",
        value_delimiter = ',',
        default_value = "elicitation"
    )]
    relay: Vec<Asked>,
}

/// What servers may ask clients for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Asked {
    /// Input of the user
    Elicitation,
    /// Completions by the client's model
    Sampling,
    /// The client's directories
    Roots,
    /// Nothing
    None,
}

/// Serves until its only client goes, or a signal ends it.
pub(crate) async fn run(app: &App, args: ServeArgs) -> Outcome {
    if let (Some(name), Some(path)) = (args.issue_key.clone(), args.keys.clone()) {
        return issue(name, path).await;
    }
    let may = |what| args.relay.contains(&what);
    app.answer_with(Arc::new(
        Relay::new()
            .with_elicitation(may(Asked::Elicitation))
            .with_sampling(may(Asked::Sampling))
            .with_roots(may(Asked::Roots)),
    ));
    let keys = match args.key_file.clone() {
        Some(path) => Some(off_thread(move || read_keys(&path)).await??),
        None => None,
    };
    let access = match args.keys.clone() {
        Some(path) => off_thread(move || read_access(&path)).await??,
        None => AccessKeys::default(),
    };
    let address = address(&args, &access)?;
    let audit = match args.audit.clone() {
        Some(path) => Some(off_thread(move || open_audit(&path)).await??),
        None => None,
    };
    let (mut specs, watcher) = app.load_watched().await?;
    in_background(&mut specs);
    let manager = app.managed(specs).await?;
    let global = app.global.clone();
    let _reloading = watcher.map(|watcher| {
        let follow = reload::follow(manager.clone(), watcher, move |specs| {
            in_background(specs);
            global.set_connect_timeout(specs);
        });
        AbortOnDropHandle::new(tokio::spawn(follow))
    });
    let mut builder = Gateway::builder(manager.clone());
    if let Some(keys) = keys {
        builder = builder.with_keys(keys);
    }
    if let Some(audit) = audit {
        builder = builder.with_audit(move |entry| write_entry(&audit, &entry));
    }
    let gateway = builder.build();
    let options = args
        .host
        .iter()
        .fold(HttpOptions::new(), HttpOptions::with_host)
        .with_keys(access);
    let http = async {
        match address {
            Some(address) => serve_http(&gateway, address, options).await,
            None => future::pending().await,
        }
    };
    let stdio = async {
        if args.stdio.is_some() {
            // Whoever serves lines writes nothing else there.
            let (read, write) = (tokio::io::stdin(), tokio::io::stdout());
            let served = gateway.serve_lines(Scope::Pool, read, write).await;
            served
                .map_err(|error| Failure::internal(text!("standard output: {}", error.to_string())))
        } else {
            future::pending().await
        }
    };
    #[cfg(unix)]
    let sockets = try_join_all(args.socket.iter().map(|path| serve_socket(&gateway, path)));
    #[cfg(unix)]
    let sockets = async {
        match args.socket {
            Some(_) => sockets.await.map(drop),
            None => future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let sockets = future::pending::<Result<(), Failure>>();
    tokio::select! {
        served = http => served?,
        served = stdio => served?,
        served = sockets => served?,
    }
    Ok(Exit::Good)
}

/// Where HTTP is served, if it is.
fn address(args: &ServeArgs, access: &AccessKeys) -> Result<Option<SocketAddr>, Failure> {
    #[cfg(unix)]
    let other = args.stdio.is_some() || args.socket.is_some();
    #[cfg(not(unix))]
    let other = args.stdio.is_some();
    let address = match args.listen {
        None if other => return Ok(None),
        None => DEFAULT_ADDRESS
            .parse()
            .map_err(|_| Failure::internal(text!("{} is no address", DEFAULT_ADDRESS)))?,
        Some(address) => address,
    };
    if !address.ip().is_loopback() && access.is_empty() {
        return Err(Failure::usage(text!(
            "{} can be reached from other machines: give the keys of those who may use it with \
             --keys, or listen on 127.0.0.1",
            address.to_string()
        )));
    }
    Ok(Some(address))
}

/// Servers connect behind the gateway, which is there at once.
fn in_background(specs: &mut [ServerSpec]) {
    for spec in specs {
        if spec.start == StartMode::Eager {
            spec.start = StartMode::Background;
        }
    }
}

/// Makes a key.
async fn issue(name: String, path: PathBuf) -> Outcome {
    let failed = |error: &mcpool::Error| Failure::usage(text!("--issue-key: {}", error.message()));
    let (key, line) = AccessKeys::issue(&name).map_err(|error| failed(&error))?;
    off_thread(move || append(&path, &line)).await??;
    out::print_line(&text!("{}", key.expose()))?;
    Ok(Exit::Good)
}

fn append(path: &Path, line: &str) -> Result<(), Failure> {
    use std::io::Write as _;
    let mut file = private(path)?;
    file.write_all(format!("{line}\n").as_bytes())
        .map_err(|error| not_used(path, &error))
}

/// A file that is written at its end, the user's alone when it is made.
fn private(path: &Path) -> Result<std::fs::File, Failure> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|error| not_used(path, &error))
}

fn not_used(path: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::usage(text!("{}: {}", path.display().to_string(), why.to_string()))
}

fn read_access(path: &Path) -> Result<AccessKeys, Failure> {
    let keys = AccessKeys::read(&read(path)?).map_err(|error| not_used(path, &error.message()))?;
    if keys.is_empty() {
        return Err(not_used(
            path,
            &"there is no key in it: make one with --issue-key",
        ));
    }
    Ok(keys)
}

fn open_audit(path: &Path) -> Result<Arc<Mutex<std::fs::File>>, Failure> {
    Ok(Arc::new(Mutex::new(private(path)?)))
}

/// Writes an entry as one line. A line of the system's cache does not block.
fn write_entry(file: &Mutex<std::fs::File>, entry: &AuditEntry) {
    use std::io::Write as _;
    let Ok(line) = serde_json::to_string(entry) else {
        return;
    };
    let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(error) = file.write_all(format!("{line}\n").as_bytes()) {
        tracing::error!(%error, "an entry of the audit was not written");
    }
}

fn read_keys(path: &Path) -> Result<SealingKeys, Failure> {
    let failed = |why: &dyn std::fmt::Display| not_used(path, why);
    let text = read(path)?;
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let keys = SealingKeys::from_text(lines.next().unwrap_or_default());
    let keys = keys.map_err(|error| failed(&error.message()))?;
    lines
        .try_fold(keys, |keys, older| keys.with_older(older))
        .map_err(|error| failed(&error.message()))
}

fn read(path: &Path) -> Result<String, Failure> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_KEY_FILE).read_to_string(&mut text))
        .map_err(|error| not_used(path, &error))?;
    Ok(text)
}

async fn serve_http(
    gateway: &Gateway,
    address: SocketAddr,
    options: HttpOptions,
) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::usage(text!("{}: {}", address.to_string(), error.to_string()))
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    out::tell(&text!("serving at http://{}/mcp\n", address.to_string()));
    let router = gateway.router(options);
    axum::serve(listener, router).await.map_err(failed)
}

#[cfg(unix)]
async fn serve_socket(gateway: &Gateway, path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt as _;
    let failed = |error: std::io::Error| {
        Failure::usage(text!(
            "{}: {}",
            path.display().to_string(),
            error.to_string()
        ))
    };
    let listener = tokio::net::UnixListener::bind(path).map_err(failed)?;
    let _removed = Removed(path.to_owned());
    // The user alone: whoever connects has the rights of all servers.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    out::tell(&text!("serving at {}\n", path.display().to_string()));
    let mut clients = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (client, _) = accepted.map_err(failed)?;
                let gateway = gateway.clone();
                clients.spawn(async move {
                    let (read, write) = client.into_split();
                    // A client that breaks off ends its own connection only.
                    let _ = gateway.serve_lines(Scope::Pool, read, write).await;
                });
            }
            Some(_) = clients.join_next() => {}
        }
    }
}

/// Takes a socket away when it is served no more.
#[cfg(unix)]
struct Removed(PathBuf);

#[cfg(unix)]
impl Drop for Removed {
    fn drop(&mut self) {
        // Taken away already, perhaps, by whoever made the directory.
        let _ = std::fs::remove_file(&self.0);
    }
}
