//! `mcpool worker`: the servers of the config, served to a pool over NATS.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use mcpool::{
    Secret, ServerName,
    gateway::Relay,
    nats::{Carrier, Identity, NatsOptions, PoolName, Sharing, Worker},
};

use super::Outcome;
use crate::{
    app::App,
    exit::{Exit, Failure},
    global::parse_duration,
    off_thread::off_thread,
    render::out,
    text,
};

/// The largest file with credentials, in bytes.
const MAX_CREDENTIALS: u64 = 64 * 1024;

/// How NATS is reached.
#[derive(Debug, Args)]
pub(crate) struct NatsArgs {
    /// The servers of NATS, such as nats://host:4222 or tls://host:4222
    #[arg(
        long = "nats",
        value_name = "URL",
        value_delimiter = ',',
        requires = "pool",
        env = "MCPOOL_NATS",
        hide_env_values = true
    )]
    urls: Vec<String>,
    /// The pool of workers and gateways
    #[arg(long, value_name = "NAME", env = "MCPOOL_POOL")]
    pool: Option<PoolName>,
    /// The name of this process in the pool; default: a random one
    #[arg(long, value_name = "NAME", requires = "urls")]
    nats_name: Option<Identity>,
    /// Log in to NATS with a JWT: a .creds file
    #[arg(long, value_name = "FILE", requires = "urls", conflicts_with_all = ["nats_nkey", "nats_user"])]
    nats_creds: Option<PathBuf>,
    /// Log in to NATS with an nkey: a file with its seed
    #[arg(
        long,
        value_name = "FILE",
        requires = "urls",
        conflicts_with = "nats_user"
    )]
    nats_nkey: Option<PathBuf>,
    /// Log in to NATS as a user: a file with `user:password`
    #[arg(long, value_name = "FILE", requires = "urls")]
    nats_user: Option<PathBuf>,
    /// Trust these certificates for NATS instead of the system's, as PEM
    #[arg(long, value_name = "FILE", requires = "urls")]
    nats_ca: Option<PathBuf>,
    /// Show NATS this certificate, as PEM
    #[arg(long, value_name = "FILE", requires = "nats_key")]
    nats_cert: Option<PathBuf>,
    /// The certificate's private key, as PEM
    #[arg(long, value_name = "FILE", requires = "nats_cert")]
    nats_key: Option<PathBuf>,
}

/// `mcpool worker`
#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    #[command(flatten)]
    nats: NatsArgs,
    /// A server of which each session gets a process of its own
    #[arg(long, value_name = "SERVER")]
    each: Vec<ServerName>,
    /// How long requests may take to end after SIGTERM or Ctrl-C; a second one ends them at once.
    /// Default: 10s
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    drain: Option<Duration>,
}

/// Serves until a signal ends it.
pub(crate) async fn run(app: &App, args: WorkerArgs) -> Outcome {
    // Who is asked is known to the gateways.
    app.answer_with(Arc::new(Relay::new()));
    let Some(carrier) = args.nats.carrier().await? else {
        return Err(Failure::usage(text!(
            "--nats URL and --pool NAME are needed"
        )));
    };
    let specs = app.load().await?;
    let manager = app.managed(specs).await?.clone();
    let names = manager.names();
    if let Some(unknown) = args.each.iter().find(|name| !names.contains(name)) {
        return Err(Failure::usage(text!(
            "there is no server {} for --each",
            unknown
        )));
    }
    let mut worker = Worker::new(carrier.clone(), manager);
    for server in args.each {
        worker = worker.with_sharing(server, Sharing::Each);
    }
    if let Some(drain) = args.drain {
        worker = worker.with_drain(drain);
    }
    out::tell(&text!(
        "worker {} serves {} servers to the pool {}\n",
        carrier.identity().as_str(),
        names.len(),
        carrier.pool().as_str()
    ));
    worker.run(app.on_end().cancelled()).await?;
    Ok(Exit::Good)
}

impl NatsArgs {
    /// The connection with NATS, if one is wanted.
    pub(super) async fn carrier(&self) -> Result<Option<Carrier>, Failure> {
        let (false, Some(pool)) = (self.urls.is_empty(), &self.pool) else {
            return Ok(None);
        };
        let mut options = NatsOptions::new(self.urls.clone(), pool.clone());
        if let Some(name) = &self.nats_name {
            options = options.with_identity(name.clone());
        }
        if let Some(path) = &self.nats_creds {
            options = options.with_credentials(Secret::new(secret(path).await?));
        }
        if let Some(path) = &self.nats_nkey {
            options = options.with_nkey(Secret::new(secret(path).await?));
        }
        if let Some(path) = &self.nats_user {
            let text = secret(path).await?;
            let Some((user, password)) = text.trim_end().split_once(':') else {
                return Err(Failure::usage(text!("{} holds no `user:password`", path)));
            };
            options = options.with_user(user, Secret::new(password));
        }
        if let Some(ca) = &self.nats_ca {
            options = options.with_ca(ca.clone());
        }
        if let (Some(certificate), Some(key)) = (&self.nats_cert, &self.nats_key) {
            options = options.with_certificate(certificate.clone(), key.clone());
        }
        Ok(Some(Carrier::connect(&options).await?))
    }
}

/// The text of a file with a secret.
async fn secret(path: &Path) -> Result<String, Failure> {
    let file = path.to_owned();
    let read = off_thread(move || {
        use std::io::{Error, ErrorKind, Read as _};
        let file = std::fs::File::open(file)?;
        if !file.metadata()?.is_file() {
            return Err(Error::new(ErrorKind::InvalidInput, "it is no regular file"));
        }
        let mut text = String::new();
        let read = file.take(MAX_CREDENTIALS + 1).read_to_string(&mut text)?;
        match u64::try_from(read) {
            Ok(read) if read <= MAX_CREDENTIALS => Ok(text),
            _ => Err(Error::new(ErrorKind::FileTooLarge, "it is too large")),
        }
    });
    read.await?
        .map_err(|error| Failure::usage(text!("{}: {}", path, error.to_string())))
}
