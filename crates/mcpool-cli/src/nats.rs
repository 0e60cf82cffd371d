//! How the commands of a fleet reach NATS.

use std::path::{Path, PathBuf};

use clap::Args;
use mcpool::{
    Secret,
    nats::{
        Carrier, Follow, Identity, NatsOptions, PoolName,
        kv::{KvTokenStore, PoolKey, Storage},
    },
};
use mcpool_files::{Holds, read_trusted};

use crate::{
    app::App,
    exit::Failure,
    off_thread::off_thread,
    render::{out, text::Text},
    text,
};

/// The largest file with credentials, in bytes.
const MAX_CREDENTIALS: u64 = 64 * 1024;

/// The variable of `--nats`.
const URLS: &str = "MCPOOL_NATS";

/// How NATS is reached.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of a fleet")]
pub(crate) struct NatsArgs {
    /// The servers of NATS, such as nats://host:4222 or tls://host:4222
    #[arg(
        long = "nats",
        value_name = "URL",
        value_delimiter = ',',
        requires = "pool",
        env = URLS,
        hide_env_values = true
    )]
    urls: Vec<String>,
    /// The pool of workers and gateways
    #[arg(long, value_name = "NAME", env = "MCPOOL_POOL", hide_env_values = true)]
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
    /// Keep the tokens of logins in NATS, for the whole pool, and not on this machine: a file with the
    /// key that seals them, 32 bytes in base64, and older keys on further lines
    #[arg(long, value_name = "FILE", requires = "urls")]
    pool_key: Option<PathBuf>,
    /// How many nodes of NATS keep the buckets that this process creates: 3 in a cluster. Buckets
    /// that exist stay as they are
    #[arg(long, value_name = "N", default_value_t = 1, requires = "urls", value_parser = clap::value_parser!(u8).range(1..=5))]
    nats_replicas: u8,
}

/// How a gateway follows a pool.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of a fleet")]
pub(crate) struct FollowArgs {
    #[command(flatten)]
    pub(crate) nats: NatsArgs,
    /// Spread calls over N sessions, 8 at most, and over the workers, for each server that several
    /// workers share: for servers that keep nothing from one call to the next
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        requires = "urls",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(Follow::MAX_SESSIONS))
    )]
    spread: u32,
}

impl FollowArgs {
    /// Follows the pool over this connection.
    pub(crate) fn follow(&self, carrier: Carrier) -> Follow {
        Follow::new(carrier).with_sessions(self.spread)
    }

    /// Gives these flags to another process of this program.
    #[cfg(unix)]
    pub(crate) fn hand_on(&self, command: &mut tokio::process::Command) {
        if self.nats.is_given() {
            self.nats.hand_on(command);
            command.args(["--spread", &self.spread.to_string()]);
        }
    }
}

impl NatsArgs {
    /// Whether NATS is to be used.
    pub(crate) fn is_given(&self) -> bool {
        !self.urls.is_empty() && self.pool.is_some()
    }

    /// How what is written to NATS is kept there.
    pub(crate) fn storage(&self) -> Storage {
        Storage::default().with_replicas(self.nats_replicas.into())
    }

    /// Whether the tokens of logins are in NATS.
    pub(crate) fn keeps_tokens(&self) -> bool {
        self.pool_key.is_some()
    }

    /// The connection with NATS, if one is wanted. Where the tokens of logins are to be kept there,
    /// they are from now on: to be called after a config was read, so that what is wrong with it is
    /// said first, and before it is prepared.
    pub(crate) async fn connected(&self, app: &App) -> Result<Option<Carrier>, Failure> {
        let key = match &self.pool_key {
            Some(path) => {
                let text = secret(path).await;
                let text = text.map_err(|failure| failure.with_key_maker(path))?;
                Some(pool_key(path, &text)?)
            }
            None => None,
        };
        let Some(carrier) = self.carrier().await? else {
            return Ok(None);
        };
        if let Some(key) = key {
            app.keep_tokens(KvTokenStore::open(&carrier, self.storage(), key).await?);
        }
        Ok(Some(carrier))
    }

    /// As [`connected`](Self::connected), for a command that wants NATS for its tokens alone.
    pub(crate) async fn reach_tokens(&self, app: &App) -> Result<(), Failure> {
        match &self.pool_key {
            Some(_) => self.connected(app).await.map(drop),
            None => {
                if self.is_given() {
                    out::tell(&text!(
                        "note: logins of the pool are sealed, and --pool-key FILE has the key; without \
                         it this is about the logins of this machine\n"
                    ));
                }
                Ok(())
            }
        }
    }

    /// The connection with NATS, if one is wanted.
    async fn carrier(&self) -> Result<Option<Carrier>, Failure> {
        let (false, Some(pool)) = (self.urls.is_empty(), &self.pool) else {
            return Ok(None);
        };
        for url in &self.urls {
            without_login(url)?;
        }
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
        let files = [&self.nats_ca, &self.nats_cert, &self.nats_key];
        for path in files.into_iter().flatten() {
            // Read once more by those who need it; here it can be named.
            secret(path).await?;
        }
        if let Some(ca) = &self.nats_ca {
            options = options.with_ca(ca.clone());
        }
        if let (Some(certificate), Some(key)) = (&self.nats_cert, &self.nats_key) {
            options = options.with_certificate(certificate.clone(), key.clone());
        }
        match Carrier::connect(&options).await {
            Ok(carrier) => Ok(Some(carrier)),
            Err(error) => {
                let asked = self.urls.iter().map(|url| text!("{}", url.as_str()));
                let failure = Failure::from(error);
                Err(failure
                    .with_hint(text!("at {}", Text::join(asked, ", ")))
                    .with_hint(self.logged_in_by()))
            }
        }
    }

    /// What was shown to NATS, for who wonders why it did not help.
    fn logged_in_by(&self) -> Text {
        let login = match (&self.nats_creds, &self.nats_nkey, &self.nats_user) {
            (Some(path), _, _) => text!("the JWT of {}", path),
            (_, Some(path), _) => text!("the nkey of {}", path),
            (_, _, Some(path)) => text!("the user in the file {}", path),
            (None, None, None) => {
                text!("no login (--nats-creds, --nats-nkey and --nats-user give one)")
            }
        };
        let trust = match &self.nats_ca {
            Some(path) => text!("the certificates of {}", path),
            None => text!("the system's certificates (--nats-ca names others)"),
        };
        text!("used: {}; trusted, where NATS speaks TLS: {}", login, trust)
    }

    /// Gives these flags to another process of this program. The URLs stay in the environment: not among
    /// the arguments, which every user of the machine can read.
    #[cfg(unix)]
    fn hand_on(&self, command: &mut tokio::process::Command) {
        let Some(pool) = &self.pool else { return };
        command.env(URLS, self.urls.join(","));
        command.args(["--pool", pool.as_str()]);
        if let Some(name) = &self.nats_name {
            command.args(["--nats-name", name.as_str()]);
        }
        let files = [
            ("--nats-creds", &self.nats_creds),
            ("--nats-nkey", &self.nats_nkey),
            ("--nats-user", &self.nats_user),
            ("--nats-ca", &self.nats_ca),
            ("--nats-cert", &self.nats_cert),
            ("--nats-key", &self.nats_key),
            ("--pool-key", &self.pool_key),
        ];
        command.args(["--nats-replicas", &self.nats_replicas.to_string()]);
        for (flag, path) in files {
            if let Some(path) = path {
                command.arg(flag).arg(path);
            }
        }
    }
}

/// Refuses a login in a URL: NATS would not be given it. Its text is not shown. A password may keep
/// the URL from being read as one, so it is not parsed: nothing else in it has an `@`.
fn without_login(url: &str) -> Result<(), Failure> {
    if url.contains('@') {
        return Err(Failure::usage(text!(
            "--nats: a login in a URL is not used; --nats-user FILE, --nats-nkey FILE and \
             --nats-creds FILE give one"
        )));
    }
    Ok(())
}

/// The key of a pool: the first line seals, the others still open.
fn pool_key(path: &Path, text: &str) -> Result<PoolKey, Failure> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let first = PoolKey::from_text(&Secret::new(lines.next().unwrap_or_default()));
    first
        .and_then(|key| lines.try_fold(key, |key, older| key.with_older(&Secret::new(older))))
        .map_err(|error| Failure::usage(text!("{}: {}", path, error.message())))
}

/// The text of a file with a secret.
async fn secret(path: &Path) -> Result<String, Failure> {
    let file = path.to_owned();
    let read = off_thread(move || read_trusted(&file, MAX_CREDENTIALS, Holds::Secrets)).await?;
    let failed = |why: String| Failure::usage(text!("{}: {}", path, why));
    let read = read.map_err(|error| failed(error.to_string()))?;
    if let Some(warning) = read.warning {
        out::tell(&text!("warning: {}: {}\n", path, warning));
    }
    String::from_utf8(read.bytes).map_err(|_| failed("it is not text".to_owned()))
}
