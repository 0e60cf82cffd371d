//! `mcpool serve`: the servers of the config as one MCP server.

mod audit;
mod files;
mod fronts;
mod host;
mod keys;
mod profiles;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use clap::{Args, Subcommand, ValueEnum};
use futures::{StreamExt as _, future::LocalBoxFuture, stream::FuturesUnordered};
use mcpool::{
    ServerSpec, Sharing, StartMode,
    gateway::{
        AccessKeys, DownServers, Gateway, HttpOptions, HttpServer, Limits, Profiles, Relay,
        ResourceServer, Scope, SealingKeys, Tls,
    },
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio_util::task::AbortOnDropHandle;

#[cfg(unix)]
pub(super) use self::fronts::Removed;
#[cfg(unix)]
use self::fronts::serve_socket;
use self::{
    files::{followed, not_used, text_of},
    fronts::{serve_http, serve_stdio},
    host::HostCommand,
    keys::KeyCommand,
    profiles::profiles,
};
use super::Outcome;
use crate::{
    app::App,
    exit::{Exit, Failure},
    global::parse_duration,
    nesting::Nesting,
    off_thread::off_thread,
    reload,
    render::out,
    text,
};

/// Where it listens when nothing else is said.
const DEFAULT_ADDRESS: &str = "127.0.0.1:7332";

/// How long requests may take to end, unless it is set. Kubernetes kills 30 s after its SIGTERM.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(25);

/// When a server that clients do not share is closed again after its lists were read.
const LISTING_IDLE: Duration = Duration::from_secs(60);

/// The value of `--stdio` after `serve`, which has none.
const CLIENT: &str = "-";

/// How often measurements are put together that nobody has asked for.
const TIDY_PAUSE: Duration = Duration::from_secs(5);

/// An address of this machine to listen at.
pub(crate) fn parse_listen(text: &str) -> Result<SocketAddr, &'static str> {
    let port = text.strip_prefix("localhost:").map(str::parse);
    match (text.parse(), port) {
        (Ok(address), _) => Ok(address),
        (_, Some(Ok(port))) => Ok(SocketAddr::from(([127, 0, 0, 1], port))),
        _ => Err("write an IP address and a port, such as 127.0.0.1:7332"),
    }
}

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
        default_missing_value = CLIENT
    )]
    stdio: Option<String>,
    /// Serve Streamable HTTP at this address of this machine, at the path /mcp; without --stdio
    /// and --socket the default is 127.0.0.1:7332
    #[arg(long, value_name = "ADDRESS", value_parser = parse_listen)]
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
    /// A proxy in front, by its address or network, such as 10.0.0.0/8: the clients' addresses are
    /// what it adds to X-Forwarded-For
    #[arg(long, value_name = "CIDR")]
    trusted_proxy: Vec<String>,
    /// A file with the key that seals sessions, 32 bytes in base64, and older keys on further
    /// lines; default: a new key, so that sessions end with the program
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The URL at which other gateways of this pool reach this one, such as http://10.0.0.7:7332; all
    /// of them need the same --key-file. Then clients may come by any balancer
    #[arg(long, value_name = "URL", requires = "key_file")]
    advertise: Option<String>,
    /// A file of keys, made with `mcpool serve key add`: clients over HTTP must send one as a bearer
    /// token. Without FILE it is the user's. Needed to listen on addresses that other machines reach
    #[arg(long, value_name = "FILE")]
    keys: Option<Option<PathBuf>>,
    #[command(flatten)]
    limits: LimitFlags,
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
    /// Show clients two tools in place of all: find_tools, which finds tools by words, and call_tool.
    /// For pools whose tools would fill a model's context; a profile may say otherwise
    #[arg(long)]
    tool_search: bool,
    /// What is listed of servers that are down: what was last known, or nothing
    #[arg(long, value_name = "WHAT", default_value = "last-good")]
    listed: Listed,
    /// How long a list waits for servers that are slow; then they are listed as last known.
    /// Default: 5s
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    list_patience: Option<Duration>,
    /// Measure, and answer Prometheus at /metrics
    #[arg(long)]
    metrics: bool,
    /// Export a span of each request that a server is to answer to this collector, by the base URL of
    /// its OTLP/HTTP receiver, such as http://127.0.0.1:4318
    #[cfg(feature = "otel")]
    #[arg(
        long,
        value_name = "URL",
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        hide_env_values = true
    )]
    otlp: Option<String>,
    /// Accept the tokens of this authorization server, named by its issuer URL
    #[arg(long, value_name = "URL", requires = "oauth_resource")]
    oauth_issuer: Option<String>,
    /// The scheme and host by which clients reach the gateway; tokens must be made for it, or for a
    /// URL of it
    #[arg(long, value_name = "URL", requires = "oauth_issuer")]
    oauth_resource: Option<String>,
    /// Accept tokens for this audience as well
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
    #[cfg(feature = "nats")]
    #[command(flatten)]
    fleet: crate::nats::FollowArgs,
}

/// What each client that is known by a key may ask for, or all others together.
#[derive(Debug, Args)]
struct LimitFlags {
    /// HTTP requests a second of one client, by its key; those without a key count as one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Requests of one client under way at once
    #[arg(long, value_name = "N")]
    in_flight: Option<usize>,
    /// Bytes of the body of a request
    #[arg(long, value_name = "BYTES")]
    max_body: Option<usize>,
}

impl LimitFlags {
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
        None => traced(app, args).await,
    }
}

/// Serves, and exports traces where that is wanted.
#[cfg(feature = "otel")]
async fn traced(app: &App, args: ServeArgs) -> Outcome {
    use mcpool::gateway::Traces;
    let traces = args.otlp.as_deref().map(Traces::export_to).transpose();
    let traces = traces.map_err(|error| Failure::usage(text!("--otlp: {}", error.message())))?;
    let outcome = serve(app, args).await;
    if let Some(traces) = traces {
        traces.shutdown().await;
    }
    outcome
}

/// Serves.
#[cfg(not(feature = "otel"))]
async fn traced(app: &App, args: ServeArgs) -> Outcome {
    serve(app, args).await
}

async fn serve(app: &App, args: ServeArgs) -> Outcome {
    // The flag of every command that has this name, given before `serve`, arrives here.
    if args.stdio.as_deref().is_some_and(|said| said != CLIENT) {
        return Err(Failure::usage(text!(
            "--stdio COMMAND describes a server that stands in no config, and `serve` serves those of \
             the config; after `serve`, --stdio has no value"
        )));
    }
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
        .with_limits(args.limits.limits());
    options = args
        .operator
        .iter()
        .fold(options, HttpOptions::with_operator);
    for proxy in &args.trusted_proxy {
        options = options
            .with_trusted_proxies(proxy)
            .map_err(|error| Failure::usage(text!("--trusted-proxy: {}", error.message())))?;
    }
    if let Some(path) = args.keys_file()? {
        let read = {
            let path = path.clone();
            move |texts: &[String]| files::access(&path, text_of(texts, 0))
        };
        let followed = followed(vec![path.clone()], read, AccessKeys::replace).await;
        let (keys, changes) = followed.map_err(|failure| {
            let how = text!("`mcpool serve key add NAME --keys {}` makes it", path);
            failure.with_maker_of(&path, how)
        })?;
        if keys.is_empty() {
            let why = "there is no key in it: make one with `mcpool serve key add`";
            return Err(not_used(&path, &why));
        }
        options = options.with_keys(keys);
        following.push(changes);
    }
    let mut server = HttpServer::new();
    if let Some(connections) = args.max_connections {
        server = server.with_max_connections(connections);
    }
    let speaks_tls = args.tls_cert.is_some();
    if let (Some(cert), Some(key)) = (args.tls_cert.clone(), args.tls_key.clone()) {
        let paths = vec![cert.clone(), key];
        let read = move |texts: &[String]| files::tls(&cert, text_of(texts, 0), text_of(texts, 1));
        let (tls, changes) = followed(paths, read, Tls::replace).await?;
        server = server.with_tls(tls);
        following.push(changes);
    }
    let mut sealing = None;
    if let Some(path) = args.key_file.clone() {
        let paths = vec![path.clone()];
        let read = {
            let path = path.clone();
            move |texts: &[String]| files::sealing(&path, text_of(texts, 0))
        };
        let followed = followed(paths, read, SealingKeys::replace).await;
        let (keys, changes) = followed.map_err(|failure| failure.with_key_maker(&path))?;
        sealing = Some(keys);
        following.push(changes);
    }
    let audit = match args.audit.clone() {
        Some(path) => Some(off_thread(move || audit::open(&path)).await??),
        None => None,
    };
    let recorder = args.recorder()?;
    let oauth = args.oauth()?;
    let nesting = Nesting::enter(&app.global)?;
    #[cfg(feature = "nats")]
    let (loaded, watcher) = app.read_watched(!args.fleet.nats.is_given()).await?;
    #[cfg(not(feature = "nats"))]
    let (loaded, watcher) = app.read_watched().await?;
    let profiles = self::profiles(&loaded);
    let scope = args.scope(&profiles)?;
    // Most of what can be wrong with the flags and the config was said: NATS may not be there for
    // long.
    #[cfg(feature = "nats")]
    let carrier = args.fleet.nats.connected(app).await?;
    app.prepare(&loaded).await?;
    let mut specs = loaded.servers;
    in_background(&mut specs);
    nesting.mark(&mut specs);
    let manager = app.managed(specs).await?;
    let global = app.global.clone();
    let followed = profiles.clone();
    #[cfg(feature = "nats")]
    let mut shows = None;
    #[cfg(feature = "nats")]
    let pool = match carrier {
        Some(carrier) => {
            let pool = args.fleet.follow(carrier);
            let fleet = pool.clone();
            shows = Some(move || crate::fleet::shown(fleet.carrier(), &fleet.fleet()));
            following.push(Box::pin({
                let pool = pool.clone();
                async move { pool.run(manager).await }
            }));
            Some(pool)
        }
        None => None,
    };
    let _reloading = watcher.map(|watcher| {
        let follow = reload::follow(manager.clone(), watcher, move |loaded, specs| {
            followed.replace(&self::profiles(loaded));
            in_background(specs);
            nesting.mark(specs);
            global.set_connect_timeout(specs);
            #[cfg(feature = "nats")]
            if let Some(pool) = &pool {
                crate::fleet::add(pool, specs);
            }
        });
        AbortOnDropHandle::new(tokio::spawn(follow))
    });
    if let Some(profile) = &args.profile {
        options = options.with_only(profile.as_str());
    }
    if let Some(recorder) = recorder {
        let render = recorder.clone();
        options = options.with_metrics(move || render.render());
        following.push(Box::pin(tidy(recorder)));
    }
    if let Some(server) = oauth {
        options = options.with_oauth(server);
    }
    let mut builder = Gateway::builder(manager.clone())
        .with_down_servers(args.listed.into())
        .with_profiles(profiles)
        .with_tool_search(args.tool_search);
    #[cfg(feature = "nats")]
    if let Some(fleet) = shows {
        builder = builder.with_fleet(fleet);
    }
    if let Some(patience) = args.list_patience {
        builder = builder.with_list_patience(patience);
    }
    if let Some(keys) = sealing {
        builder = builder.with_keys(keys);
    }
    if let Some(url) = &args.advertise {
        builder = builder
            .with_advertised(url)
            .map_err(|error| Failure::usage(text!("--advertise: {}", error.to_string())))?;
    }
    if let Some(audit) = audit {
        builder = builder.with_audit(move |entry| audit::write(&audit, &entry));
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
            Some(None) => keys::default_file().map(Some),
            Some(path) => Ok(path.clone()),
            None => Ok(None),
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

/// Servers connect behind the gateway, which is there at once. One that clients do not share is
/// connected in the pool for its lists alone.
pub(super) fn in_background(specs: &mut [ServerSpec]) {
    for spec in specs {
        match spec.start {
            StartMode::Lazy(Some(_)) => {}
            _ if spec.sharing == Sharing::Client => {
                spec.start = StartMode::Lazy(Some(LISTING_IDLE));
            }
            StartMode::Eager => spec.start = StartMode::Background,
            _ => {}
        }
    }
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
