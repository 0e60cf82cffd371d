//! The flags of `mcpool serve`, and what is read of them alone.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueEnum};
use mcpool::gateway::{DownServers, Limits, Profiles, ResourceServer, Scope};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use super::{
    host::HostCommand,
    keys::{self, KeyCommand},
};
use crate::{exit::Failure, global::parse_duration, text};

/// Where it listens when nothing else is said.
const DEFAULT_ADDRESS: &str = "127.0.0.1:7332";

/// The value of `--stdio` after `serve`, which has none.
pub(super) const CLIENT: &str = "-";

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
    pub(super) command: Option<ServeCommand>,
    /// Serve one client over standard input and output
    // In place of the flag of this name that every command has; the type must be the same.
    #[arg(
        id = "stdio",
        long = "stdio",
        num_args = 0,
        default_missing_value = CLIENT
    )]
    pub(super) stdio: Option<String>,
    /// Serve Streamable HTTP at this address of this machine, at the path /mcp; without --stdio
    /// and --socket the default is 127.0.0.1:7332
    #[arg(long, value_name = "ADDRESS", value_parser = parse_listen)]
    pub(super) listen: Option<SocketAddr>,
    /// Serve clients at a unix socket, one message a line
    #[cfg(unix)]
    #[arg(long, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
    /// Serve this user at this socket, apart from the terminal, as `mcpool up` does
    #[cfg(unix)]
    #[arg(long, value_name = "PATH", hide = true)]
    pub(super) background: Option<PathBuf>,
    /// The name of a key that may reconnect, enable and disable servers over the page and its API
    #[arg(long, value_name = "NAME", requires = "keys")]
    pub(super) operator: Vec<String>,
    /// Another name by which clients reach the HTTP server, such as that of a proxy in front
    #[arg(long, value_name = "HOST")]
    pub(super) host: Vec<String>,
    /// Take clients' addresses from what this proxy in front adds to X-Forwarded-For: its address or
    /// network, such as 10.0.0.0/8
    #[arg(long, value_name = "CIDR")]
    pub(super) trusted_proxy: Vec<String>,
    /// A file with the key that seals sessions, 32 bytes in base64, and older keys on further
    /// lines; default: a new key, so that sessions end with the program
    #[arg(long, value_name = "FILE")]
    pub(super) key_file: Option<PathBuf>,
    /// The URL at which other gateways of this pool reach this one, such as http://10.0.0.7:7332; all
    /// of them need the same --key-file. Clients may then come through any load balancer
    #[arg(long, value_name = "URL", requires = "key_file")]
    pub(super) advertise: Option<String>,
    /// A file of keys, made with `mcpool serve key add`: clients over HTTP must send one as a bearer
    /// token. Without FILE it is your own. Required to listen where other machines can reach it
    #[arg(long, value_name = "FILE")]
    pub(super) keys: Option<Option<PathBuf>>,
    #[command(flatten)]
    pub(super) limits: LimitFlags,
    /// How many HTTP connections may be open at once
    #[arg(long, value_name = "N")]
    pub(super) max_connections: Option<usize>,
    /// A file with the certificate for HTTPS and its chain, as PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(super) tls_cert: Option<PathBuf>,
    /// A file with the certificate's private key, as PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(super) tls_key: Option<PathBuf>,
    /// How long requests may take to end after SIGTERM or Ctrl-C; a second signal ends them at once.
    /// Default: 25s
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(super) drain: Option<Duration>,
    /// Write a JSON line to this file for each request that goes to a server
    #[arg(long, value_name = "FILE")]
    pub(super) audit: Option<PathBuf>,
    /// Serve only this profile of the config
    #[arg(long, value_name = "NAME")]
    pub(super) profile: Option<String>,
    /// Show clients two tools in place of all: find_tools, which searches the tools, and call_tool.
    /// For pools whose tools would fill a model's context; a profile may say otherwise
    #[arg(long)]
    pub(super) tool_search: bool,
    /// What is listed of servers that are down: what was last known, or nothing
    #[arg(long, value_name = "WHAT", default_value = "last-good")]
    pub(super) listed: Listed,
    /// How long a list waits for slow servers before it shows what was last known of them.
    /// Default: 5s
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(super) list_patience: Option<Duration>,
    /// Serve metrics for Prometheus at /metrics
    #[arg(long)]
    pub(super) metrics: bool,
    /// Export a span for each request that goes to a server, to the OTLP/HTTP collector at this base
    /// URL, such as http://127.0.0.1:4318
    #[cfg(feature = "otel")]
    #[arg(
        long,
        value_name = "URL",
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        hide_env_values = true
    )]
    pub(super) otlp: Option<String>,
    /// Accept the tokens of this authorization server, named by its issuer URL
    #[arg(long, value_name = "URL", requires = "oauth_resource")]
    pub(super) oauth_issuer: Option<String>,
    /// The scheme and host by which clients reach the gateway; tokens must be issued for it, or for a
    /// URL of it
    #[arg(long, value_name = "URL", requires = "oauth_issuer")]
    pub(super) oauth_resource: Option<String>,
    /// Accept tokens with this audience as well
    #[arg(long, value_name = "TEXT", requires = "oauth_issuer")]
    pub(super) oauth_audience: Vec<String>,
    /// A scope that every token must have
    #[arg(
        long,
        value_name = "SCOPE",
        requires = "oauth_issuer",
        value_delimiter = ','
    )]
    pub(super) oauth_scope: Vec<String>,
    /// What servers may ask clients for
    #[arg(
        long,
        value_name = "WHAT",
        value_delimiter = ',',
        default_value = "elicitation"
    )]
    pub(super) relay: Vec<Asked>,
    #[cfg(feature = "nats")]
    #[command(flatten)]
    pub(super) fleet: crate::nats::FollowArgs,
}

/// What each client that is known by a key may ask for, or all others together.
#[derive(Debug, Args)]
pub(super) struct LimitFlags {
    /// HTTP requests per second for each client, by its key; all clients without a key count as one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) rate: Option<u32>,
    /// How many requests of one client may be in flight at once
    #[arg(long, value_name = "N")]
    pub(super) in_flight: Option<usize>,
    /// The largest body of a request
    #[arg(long, value_name = "BYTES")]
    pub(super) max_body: Option<usize>,
}

impl LimitFlags {
    pub(super) fn limits(&self) -> Limits {
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
pub(super) enum ServeCommand {
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
pub(super) enum Listed {
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
pub(super) enum Asked {
    /// Input from the user
    Elicitation,
    /// Completions by the client's model
    Sampling,
    /// The client's directories
    Roots,
    /// Nothing
    None,
}

impl ServeArgs {
    /// The file of keys, if one is used.
    pub(super) fn keys_file(&self) -> Result<Option<PathBuf>, Failure> {
        match &self.keys {
            Some(None) => keys::default_file().map(Some),
            Some(path) => Ok(path.clone()),
            None => Ok(None),
        }
    }

    /// What clients over streams are served.
    pub(super) fn scope(&self, profiles: &Profiles) -> Result<Scope, Failure> {
        let Some(name) = &self.profile else {
            return Ok(Scope::Pool);
        };
        profiles.get(name).map(Scope::Profile).ok_or_else(|| {
            let hint = text!("profiles stand in your own config, under `profiles`");
            Failure::usage(text!("there is no profile {}", name)).with_hint(hint)
        })
    }

    /// What takes the measurements, if anything is measured. Before the first connect.
    pub(super) fn recorder(&self) -> Result<Option<PrometheusHandle>, Failure> {
        let recorder = self
            .metrics
            .then(|| PrometheusBuilder::new().install_recorder());
        recorder
            .transpose()
            .map_err(|error| Failure::internal(text!("--metrics: {}", error.to_string())))
    }

    /// The authorization server, if tokens are taken.
    pub(super) fn oauth(&self) -> Result<Option<ResourceServer>, Failure> {
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
    pub(super) fn address(&self) -> Result<Option<SocketAddr>, Failure> {
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
