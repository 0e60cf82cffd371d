//! `mcpool serve`: the servers of the config as one MCP server.

use std::{
    future,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{Args, ValueEnum};
use futures::future::try_join_all;
use mcpool::{
    ServerSpec, StartMode,
    gateway::{Gateway, HttpOptions, Relay, Scope, SealingKeys},
};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::Outcome;
use crate::{
    app::App,
    config_files::off_thread,
    exit::{Exit, Failure},
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
    let address = address(&args)?;
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
    let gateway = builder.build();
    let options = args
        .host
        .iter()
        .fold(HttpOptions::new(), HttpOptions::with_host);
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
fn address(args: &ServeArgs) -> Result<Option<SocketAddr>, Failure> {
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
    if !address.ip().is_loopback() {
        return Err(Failure::usage(text!(
            "{} can be reached from other machines, and nobody who asks is known; listen on \
             127.0.0.1, or put a proxy that checks its clients in front and name it with --host",
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

fn read_keys(path: &Path) -> Result<SealingKeys, Failure> {
    use std::io::Read as _;
    let failed = |why: &dyn std::fmt::Display| {
        Failure::usage(text!("{}: {}", path.display().to_string(), why.to_string()))
    };
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_KEY_FILE).read_to_string(&mut text))
        .map_err(|error| failed(&error))?;
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let keys = SealingKeys::from_text(lines.next().unwrap_or_default());
    let keys = keys.map_err(|error| failed(&error.message()))?;
    lines
        .try_fold(keys, |keys, older| keys.with_older(older))
        .map_err(|error| failed(&error.message()))
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
