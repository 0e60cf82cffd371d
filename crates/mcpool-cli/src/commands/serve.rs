//! `mcpool serve`: the servers of the config as one MCP server.

mod files;
mod host;
mod keys;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use clap::{Args, Subcommand, ValueEnum};
use futures::{StreamExt as _, future::LocalBoxFuture, stream::FuturesUnordered};
use mcpool::{
    ServerName, ServerSpec, StartMode, ToolFilter,
    config::Loaded,
    gateway::{
        AuditEntry, DownServers, Gateway, HttpOptions, HttpServer, Limits, Profile, Profiles,
        Relay, ResourceServer, Scope,
    },
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use self::{
    files::{Followed, not_used},
    host::HostCommand,
    keys::KeyCommand,
};
use super::Outcome;
use crate::{
    app::App,
    exit::{Exit, Failure},
    global::parse_duration,
    off_thread::off_thread,
    reload,
    render::out,
    text,
};

/// Where it listens when nothing else is said.
const DEFAULT_ADDRESS: &str = "127.0.0.1:7332";

/// How long requests may take to end, unless it is set. Kubernetes kills 30 s after its SIGTERM.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(25);

/// How often measurements are put together that nobody has asked for.
const TIDY_PAUSE: Duration = Duration::from_secs(5);

/// `mcpool serve`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ServeArgs {
    #[command(subcommand)]
    command: Option<ServeCommand>,
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
    /// Serve this user at this socket, apart from the terminal, as `mcpool up` does
    #[cfg(unix)]
    #[arg(long, value_name = "PATH", hide = true)]
    background: Option<PathBuf>,
    /// The name of a key that may reconnect, enable and disable servers over the page and its API
    #[arg(long, value_name = "NAME", requires = "keys")]
    operator: Vec<String>,
    /// Another name by which clients reach the HTTP server, such as that of a proxy in front
    #[arg(long, value_name = "HOST")]
    host: Vec<String>,
    /// A file with the key that seals sessions, 32 bytes in base64, and older keys on further
    /// lines; default: a new key, so that sessions end with the program
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// A file of keys, made with `mcpool serve key add`: clients over HTTP must send one as a bearer
    /// token. Without FILE it is the user's. Needed to listen on addresses that other machines reach
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "")]
    keys: Option<PathBuf>,
    /// HTTP requests a second of each client that is known by a key, or of all others together
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Requests of each of them under way at once
    #[arg(long, value_name = "N")]
    in_flight: Option<usize>,
    /// Bytes of the body of a request
    #[arg(long, value_name = "BYTES")]
    max_body: Option<usize>,
    /// HTTP connections at once
    #[arg(long, value_name = "N")]
    max_connections: Option<usize>,
    /// A file with the certificate for HTTPS and those that vouch for it, as PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// A file with the certificate's private key, as PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// How long requests may take to end after SIGTERM or Ctrl-C; a second one ends them at once.
    /// Default: 25s
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    drain: Option<Duration>,
    /// Write a JSON line to this file for each request that a server is to answer
    #[arg(long, value_name = "FILE")]
    audit: Option<PathBuf>,
    /// Serve this profile of the config alone
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// What is listed of servers that are down: what was last known, or nothing
    #[arg(long, value_name = "WHAT", default_value = "last-good")]
    listed: Listed,
    /// Measure, and answer Prometheus at /metrics
    #[arg(long)]
    metrics: bool,
    /// Take the tokens of this authorization server, by its issuer URL
    #[arg(long, value_name = "URL", requires = "oauth_resource")]
    oauth_issuer: Option<String>,
    /// The scheme and host by which clients reach the gateway; tokens must be made for it, or for a
    /// URL of it
    #[arg(long, value_name = "URL", requires = "oauth_issuer")]
    oauth_resource: Option<String>,
    /// Another audience of tokens that are taken
    #[arg(long, value_name = "TEXT", requires = "oauth_issuer")]
    oauth_audience: Vec<String>,
    /// A scope that every token must have
    #[arg(
        long,
        value_name = "SCOPE",
        requires = "oauth_issuer",
        value_delimiter = ','
    )]
    oauth_scope: Vec<String>,
    /// What servers may ask clients for
    #[arg(
        long,
        value_name = "WHAT",
        value_delimiter = ',',
        default_value = "elicitation"
    )]
    relay: Vec<Asked>,
}

/// What else `serve` does.
#[derive(Debug, Subcommand)]
enum ServeCommand {
    #[command(flatten)]
    Host(HostCommand),
    /// The keys of those who may use the gateway
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
}

/// What is listed of servers that are down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Listed {
    /// What was last known
    LastGood,
    /// Nothing
    Ready,
}

impl From<Listed> for DownServers {
    fn from(listed: Listed) -> Self {
        match listed {
            Listed::LastGood => Self::LastGood,
            Listed::Ready => Self::Hidden,
        }
    }
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
    match args.command {
        Some(ServeCommand::Host(command)) => host::run(app, command).await,
        Some(ServeCommand::Key { command }) => keys::run(command, app.global.json).await,
        None => serve(app, args).await,
    }
}

async fn serve(app: &App, args: ServeArgs) -> Outcome {
    #[cfg(unix)]
    if args.background.is_some() {
        super::up::detach();
    }
    let may = |what| args.relay.contains(&what);
    app.answer_with(Arc::new(
        Relay::new()
            .with_elicitation(may(Asked::Elicitation))
            .with_sampling(may(Asked::Sampling))
            .with_roots(may(Asked::Roots)),
    ));
    let address = args.address()?;
    let mut following: Vec<LocalBoxFuture<'_, ()>> = Vec::new();
    let mut options = args
        .host
        .iter()
        .fold(HttpOptions::new(), HttpOptions::with_host)
        .with_limits(args.limits());
    options = args
        .operator
        .iter()
        .fold(options, HttpOptions::with_operator);
    if let Some(path) = args.keys_file()? {
        let file = Followed::read(vec![path.clone()]).await?;
        let keys = files::access(&path, file.text(0))?;
        if keys.is_empty() {
            let why = "there is no key in it: make one with `mcpool serve key add`";
            return Err(not_used(&path, &why));
        }
        options = options.with_keys(keys.clone());
        following.push(Box::pin(file.follow(move |file| {
            keys.replace(&files::access(&path, file.text(0))?);
            Ok(())
        })));
    }
    let mut server = HttpServer::new();
    if let Some(connections) = args.max_connections {
        server = server.with_max_connections(connections);
    }
    let speaks_tls = args.tls_cert.is_some();
    if let (Some(cert), Some(key)) = (args.tls_cert.clone(), args.tls_key.clone()) {
        let file = Followed::read(vec![cert.clone(), key]).await?;
        let tls = files::tls(&cert, file.text(0), file.text(1))?;
        server = server.with_tls(tls.clone());
        following.push(Box::pin(file.follow(move |file| {
            tls.replace(&files::tls(&cert, file.text(0), file.text(1))?);
            Ok(())
        })));
    }
    let mut sealing = None;
    if let Some(path) = args.key_file.clone() {
        let file = Followed::read(vec![path.clone()]).await?;
        let keys = files::sealing(&path, file.text(0))?;
        sealing = Some(keys.clone());
        following.push(Box::pin(file.follow(move |file| {
            keys.replace(&files::sealing(&path, file.text(0))?);
            Ok(())
        })));
    }
    let audit = match args.audit.clone() {
        Some(path) => Some(off_thread(move || open_audit(&path)).await??),
        None => None,
    };
    let recorder = args.recorder()?;
    let (loaded, watcher) = app.load_watched().await?;
    let profiles = profiles(&loaded);
    let scope = args.scope(&profiles)?;
    let mut specs = loaded.servers;
    in_background(&mut specs);
    let manager = app.managed(specs).await?;
    let global = app.global.clone();
    let followed = profiles.clone();
    let _reloading = watcher.map(|watcher| {
        let follow = reload::follow(manager.clone(), watcher, move |loaded, specs| {
            followed.replace(&self::profiles(loaded));
            in_background(specs);
            global.set_connect_timeout(specs);
        });
        AbortOnDropHandle::new(tokio::spawn(follow))
    });
    options = options.with_profiles(profiles);
    if let Some(profile) = &args.profile {
        options = options.with_only(profile.as_str());
    }
    if let Some(recorder) = recorder {
        let render = recorder.clone();
        options = options.with_metrics(move || render.render());
        following.push(Box::pin(tidy(recorder)));
    }
    if let Some(server) = args.oauth()? {
        options = options.with_oauth(server);
    }
    let mut builder = Gateway::builder(manager.clone()).with_down_servers(args.listed.into());
    if let Some(keys) = sealing {
        builder = builder.with_keys(keys);
    }
    if let Some(audit) = audit {
        builder = builder.with_audit(move |entry| write_entry(&audit, &entry));
    }
    let gateway = builder.build();
    let mut fronts: FuturesUnordered<LocalBoxFuture<'_, Result<(), Failure>>> =
        FuturesUnordered::new();
    if let Some(address) = address {
        let front = serve_http(&gateway, address, options, server, speaks_tls);
        fronts.push(Box::pin(front));
    }
    if args.stdio.is_some() {
        fronts.push(Box::pin(serve_stdio(&gateway, scope.clone())));
    }
    #[cfg(unix)]
    if let Some(path) = &args.socket {
        fronts.push(Box::pin(serve_socket(&gateway, path, scope.clone())));
    }
    #[cfg(unix)]
    if let Some(path) = args.background.clone() {
        fronts.push(Box::pin(super::up::serve(&gateway, path)));
    }
    let served = async {
        // The first front to end ends the others, unless all of them are ending.
        while let Some(served) = fronts.next().await {
            served?;
            if !gateway.is_draining() {
                break;
            }
        }
        Ok(Exit::Good)
    };
    let patience = args.drain.unwrap_or(DRAIN_TIMEOUT);
    let drained = async {
        app.on_end().cancelled().await;
        out::tell(&text!(
            "ending; requests that run have {} left\n",
            humantime::format_duration(patience).to_string()
        ));
        if !gateway.drain(patience).await {
            tracing::warn!("requests that did not end in time were cancelled");
        }
        std::future::pending().await
    };
    tokio::select! {
        served = served => served,
        () = drained => Ok(Exit::Good),
        () = all(following) => Ok(Exit::Good),
    }
}

impl ServeArgs {
    /// The file of keys, if one is used.
    fn keys_file(&self) -> Result<Option<PathBuf>, Failure> {
        match &self.keys {
            Some(path) if path.as_os_str().is_empty() => keys::default_file().map(Some),
            path => Ok(path.clone()),
        }
    }

    /// What clients over streams are served.
    fn scope(&self, profiles: &Profiles) -> Result<Scope, Failure> {
        let Some(name) = &self.profile else {
            return Ok(Scope::Pool);
        };
        profiles.get(name).map(Scope::Profile).ok_or_else(|| {
            let hint = text!("profiles stand in your own config, under `profiles`");
            Failure::usage(text!("there is no profile {}", name)).with_hint(hint)
        })
    }

    /// What takes the measurements, if anything is measured. Before the first connect.
    fn recorder(&self) -> Result<Option<PrometheusHandle>, Failure> {
        let recorder = self
            .metrics
            .then(|| PrometheusBuilder::new().install_recorder());
        recorder
            .transpose()
            .map_err(|error| Failure::internal(text!("--metrics: {}", error.to_string())))
    }

    /// The authorization server, if tokens are taken.
    fn oauth(&self) -> Result<Option<ResourceServer>, Failure> {
        let (Some(issuer), Some(resource)) = (&self.oauth_issuer, &self.oauth_resource) else {
            return Ok(None);
        };
        let server = ResourceServer::new(issuer, resource)
            .map_err(|error| Failure::usage(text!("--oauth-issuer: {}", error.message())))?;
        let server = self
            .oauth_audience
            .iter()
            .fold(server, ResourceServer::with_audience);
        let scopes = self.oauth_scope.iter();
        Ok(Some(scopes.fold(server, ResourceServer::with_scope)))
    }

    fn limits(&self) -> Limits {
        let mut limits = Limits::new();
        if let Some(rate) = self.rate {
            limits = limits.with_rate(rate);
        }
        if let Some(in_flight) = self.in_flight {
            limits = limits.with_in_flight(in_flight);
        }
        if let Some(bytes) = self.max_body {
            limits = limits.with_max_body_bytes(bytes);
        }
        limits
    }

    /// Where HTTP is served, if it is.
    fn address(&self) -> Result<Option<SocketAddr>, Failure> {
        #[cfg(unix)]
        let other = self.stdio.is_some() || self.socket.is_some() || self.background.is_some();
        #[cfg(not(unix))]
        let other = self.stdio.is_some();
        let address = match self.listen {
            None if other => return Ok(None),
            None => DEFAULT_ADDRESS
                .parse()
                .map_err(|_| Failure::internal(text!("{} is no address", DEFAULT_ADDRESS)))?,
            Some(address) => address,
        };
        if !address.ip().is_loopback() && self.keys.is_none() && self.oauth_issuer.is_none() {
            return Err(Failure::usage(text!(
                "{} can be reached from other machines: give the keys of those who may use it with \
                 --keys, or listen on 127.0.0.1",
                address.to_string()
            )));
        }
        Ok(Some(address))
    }
}

/// Servers connect behind the gateway, which is there at once.
fn in_background(specs: &mut [ServerSpec]) {
    for spec in specs {
        if spec.start == StartMode::Eager {
            spec.start = StartMode::Background;
        }
    }
}

fn open_audit(path: &Path) -> Result<Arc<Mutex<std::fs::File>>, Failure> {
    Ok(Arc::new(Mutex::new(files::private(path)?)))
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

/// The profiles of a config.
fn profiles(loaded: &Loaded) -> Profiles {
    let profiles = loaded.profiles().iter().map(|(name, settings)| {
        let mut tools = ToolFilter::default().with_deny(settings.deny.iter().map(String::as_str));
        tools.allow.clone_from(&settings.allow);
        let profile = Profile::new(name.as_str())
            .with_tools(tools)
            .with_renamed(settings.rename.clone());
        match &settings.servers {
            // The reader of the config has let good names through alone.
            Some(names) => {
                profile.with_servers(names.iter().filter_map(|name| ServerName::new(name).ok()))
            }
            None => profile,
        }
    });
    profiles.collect()
}

/// Keeps what is measured small. Never ends.
async fn tidy(recorder: PrometheusHandle) {
    let mut ticks = tokio::time::interval(TIDY_PAUSE);
    loop {
        ticks.tick().await;
        recorder.run_upkeep();
    }
}

/// Follows files. Never ends.
async fn all(following: Vec<LocalBoxFuture<'_, ()>>) {
    futures::future::join_all(following).await;
    std::future::pending().await
}

async fn serve_stdio(gateway: &Gateway, scope: Scope) -> Result<(), Failure> {
    // Whoever serves lines writes nothing else there.
    let (read, write) = (tokio::io::stdin(), tokio::io::stdout());
    let served = gateway.serve_lines(scope, read, write).await;
    served.map_err(|error| Failure::internal(text!("standard output: {}", error.to_string())))
}

async fn serve_http(
    gateway: &Gateway,
    address: SocketAddr,
    options: HttpOptions,
    server: HttpServer,
    speaks_tls: bool,
) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::usage(text!("{}: {}", address.to_string(), error.to_string()))
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let scheme = if speaks_tls { "https" } else { "http" };
    out::tell(&text!(
        "serving at {}://{}/mcp\n",
        scheme,
        address.to_string()
    ));
    let router = gateway.router(options);
    server
        .serve(gateway, listener, router)
        .await
        .map_err(failed)
}

#[cfg(unix)]
async fn serve_socket(gateway: &Gateway, path: &Path, scope: Scope) -> Result<(), Failure> {
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
                let (gateway, scope) = (gateway.clone(), scope.clone());
                clients.spawn(async move {
                    let (read, write) = client.into_split();
                    // A client that breaks off ends its own connection only.
                    let _ = gateway.serve_lines(scope, read, write).await;
                });
            }
            Some(_) = clients.join_next() => {}
            () = gateway.drained() => break,
        }
    }
    while clients.join_next().await.is_some() {}
    Ok(())
}

/// Takes a socket away when it is served no more.
#[cfg(unix)]
pub(super) struct Removed(pub(super) PathBuf);

#[cfg(unix)]
impl Drop for Removed {
    fn drop(&mut self) {
        // Taken away already, perhaps, by whoever made the directory.
        let _ = std::fs::remove_file(&self.0);
    }
}
