//! The connection with NATS that everything of one process shares.

use std::{fmt, future::poll_fn, path::PathBuf, sync::Arc, time::Duration};

use async_nats::{
    Client, ConnectErrorKind, ConnectOptions, Event, HeaderMap, Subscriber,
    message::OutboundMessage,
};
use bytes::Bytes;
use futures::SinkExt as _;
use mcpool_core::{Error, ErrorKind, Result, Secret};
use tokio::{
    sync::{Semaphore, watch},
    time::timeout,
};

use crate::{
    identity::{Identity, PoolName},
    subjects,
};

/// Commands (publishes, subscriptions) that wait for the connection's own task. Publishing waits
/// at the bound.
const COMMAND_QUEUE: usize = 256;

/// Frames of one subscription that wait to be read. What is over is lost, which its session sees
/// by the numbers.
const SUBSCRIPTION_CAPACITY: usize = 8 * 1024;

/// The longest pause between two attempts to reach NATS again.
const MAX_RECONNECT_PAUSE: Duration = Duration::from_secs(2);

/// How often the connection with NATS is pinged; two that are not answered end it.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// How long NATS may take to have all that was published.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// KiB of messages that come in parts at once, in all sessions of a process.
pub(crate) const MAX_ASSEMBLED_KIB: u32 = 256 * 1024;

/// How to reach NATS, as whom, and for which pool.
#[derive(Clone)]
#[must_use]
pub struct NatsOptions {
    urls: Vec<String>,
    pool: PoolName,
    identity: Identity,
    login: Login,
    ca: Option<PathBuf>,
    certificate: Option<(PathBuf, PathBuf)>,
}

#[derive(Clone)]
enum Login {
    None,
    Nkey(Secret),
    Credentials(Secret),
    User(String, Secret),
}

impl NatsOptions {
    /// The servers to try (`nats://host:4222`, `tls://host:4222`), and the pool. Without more: no
    /// credentials, and a random identity.
    pub fn new(urls: impl IntoIterator<Item = impl Into<String>>, pool: PoolName) -> Self {
        Self {
            urls: urls.into_iter().map(Into::into).collect(),
            pool,
            identity: Identity::random(),
            login: Login::None,
            ca: None,
            certificate: None,
        }
    }

    /// Sets the name of this worker or gateway, unique in the pool. With permissions by identity
    /// it must be the one that they are for.
    pub fn with_identity(mut self, identity: Identity) -> Self {
        self.identity = identity;
        self
    }

    /// Logs in with an nkey, given by its seed (`SU…`).
    pub fn with_nkey(mut self, seed: Secret) -> Self {
        self.login = Login::Nkey(seed);
        self
    }

    /// Logs in with a JWT and its key, given by the text of a `.creds` file.
    pub fn with_credentials(mut self, text: Secret) -> Self {
        self.login = Login::Credentials(text);
        self
    }

    /// Logs in with a user's name and password.
    pub fn with_user(mut self, user: impl Into<String>, password: Secret) -> Self {
        self.login = Login::User(user.into(), password);
        self
    }

    /// Trusts the certificates in this PEM file instead of the system's, and demands TLS.
    pub fn with_ca(mut self, file: PathBuf) -> Self {
        self.ca = Some(file);
        self
    }

    /// Shows this certificate to the server: two PEM files, certificate and key. Demands TLS.
    pub fn with_certificate(mut self, certificate: PathBuf, key: PathBuf) -> Self {
        self.certificate = Some((certificate, key));
        self
    }

    fn connect_options(&self, connected: watch::Sender<bool>) -> Result<ConnectOptions> {
        let mut options = ConnectOptions::new()
            .name(format!("mcpool {}", self.identity))
            .custom_inbox_prefix(subjects::inbox_prefix(&self.pool, &self.identity))
            .client_capacity(COMMAND_QUEUE)
            .subscription_capacity(SUBSCRIPTION_CAPACITY)
            .ping_interval(PING_INTERVAL)
            .reconnect_delay_callback(|attempts| {
                let attempts = u32::try_from(attempts).unwrap_or(u32::MAX).min(8);
                let pause = Duration::from_millis(25).saturating_mul(1 << attempts);
                pause.min(MAX_RECONNECT_PAUSE)
            })
            .event_callback(move |event| {
                match &event {
                    Event::Connected => {
                        connected.send_replace(true);
                    }
                    Event::Disconnected | Event::Closed => {
                        connected.send_replace(false);
                    }
                    _ => {}
                }
                tracing::debug!(event = %event, "NATS");
                std::future::ready(())
            });
        options = match &self.login {
            Login::None => options,
            Login::Nkey(seed) => options.nkey(seed.expose().trim().to_owned()),
            Login::Credentials(text) => options.credentials(text.expose()).map_err(|_| {
                Error::new(
                    ErrorKind::InvalidArgument,
                    "the NATS credentials hold no JWT and key",
                )
            })?,
            Login::User(user, password) => {
                options.user_and_password(user.clone(), password.expose().to_owned())
            }
        };
        if let Some(ca) = &self.ca {
            options = options.add_root_certificates(ca.clone()).require_tls(true);
        }
        if let Some((certificate, key)) = &self.certificate {
            options = options
                .add_client_certificate(certificate.clone(), key.clone())
                .require_tls(true);
        }
        Ok(options)
    }
}

impl fmt::Debug for NatsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsOptions")
            .field("pool", &self.pool)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// A connection with NATS, for one pool and one identity. Clones share it; it ends with the last.
/// When it is lost it is made again, for as long as it takes.
#[derive(Clone)]
pub struct Carrier(Arc<Inner>);

struct Inner {
    client: Client,
    pool: PoolName,
    identity: Identity,
    connected: watch::Receiver<bool>,
    room: Arc<Semaphore>,
}

impl Carrier {
    /// Connects.
    ///
    /// Dropping the future gives the attempt up.
    ///
    /// # Errors
    /// `Connect` when no server can be reached or lets this identity in, `InvalidArgument` for a
    /// URL or credentials that are none.
    pub async fn connect(options: &NatsOptions) -> Result<Self> {
        let mut servers = Vec::new();
        for url in &options.urls {
            let server = url.parse::<async_nats::ServerAddr>().map_err(|_| {
                Error::new(
                    ErrorKind::InvalidArgument,
                    "the address of NATS is no URL such as nats://host:4222",
                )
            })?;
            servers.push(server);
        }
        let (sender, connected) = watch::channel(true);
        let client = options.connect_options(sender)?.connect(servers).await;
        let client = client.map_err(|error| {
            // Its text may repeat a URL with a password.
            Error::new(ErrorKind::Connect, why(error.kind()))
        })?;
        Ok(Self(Arc::new(Inner {
            client,
            pool: options.pool.clone(),
            identity: options.identity.clone(),
            connected,
            room: Arc::new(Semaphore::new(MAX_ASSEMBLED_KIB as usize)),
        })))
    }

    /// The pool that it is for.
    #[must_use]
    pub fn pool(&self) -> &PoolName {
        &self.0.pool
    }

    /// Who this process is in the pool.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// Whether NATS is there now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        *self.0.connected.borrow()
    }

    /// Waits until NATS is there. For ever, when the connection was closed for good.
    pub(crate) async fn connected(&self) {
        let mut connected = self.0.connected.clone();
        if connected.wait_for(|connected| *connected).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until NATS is away.
    pub(crate) async fn disconnected(&self) {
        let mut connected = self.0.connected.clone();
        // Without a sender the connection was closed for good.
        let _ = connected.wait_for(|connected| !*connected).await;
    }

    pub(crate) fn client(&self) -> &Client {
        &self.0.client
    }

    /// The most bytes that the payload of one frame may have.
    pub(crate) fn max_body(&self) -> usize {
        let max = self.0.client.max_payload();
        max.saturating_sub(HEAD_ROOM).clamp(MIN_BODY, MAX_BODY)
    }

    /// Room for the messages that come in parts, in KiB.
    pub(crate) fn room(&self) -> &Arc<Semaphore> {
        &self.0.room
    }

    /// Publishes. Nothing is published when the future is dropped before it has ended.
    pub(crate) async fn publish(
        &self,
        subject: String,
        reply: Option<String>,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<()> {
        let client = &self.0.client;
        let published = match reply {
            Some(reply) => {
                client
                    .publish_with_reply_and_headers(subject, reply, headers, body)
                    .await
            }
            None => client.publish_with_headers(subject, headers, body).await,
        };
        published.map_err(not_published)
    }

    /// Waits for room to publish one message. Nothing is published before
    /// [`Room::publish`], so it is known whether what waited has gone. Dropping it gives the room
    /// back.
    pub(crate) async fn room_to_publish(&self) -> Result<Room> {
        let mut client = self.0.client.clone();
        let ready = poll_fn(|cx| client.poll_ready_unpin(cx)).await;
        ready.map_err(not_published)?;
        Ok(Room(client))
    }

    pub(crate) async fn subscribe(&self, subject: String) -> Result<Subscriber> {
        let subscribed = self.0.client.subscribe(subject).await;
        subscribed.map_err(|error| cannot_subscribe(error.to_string()))
    }

    pub(crate) async fn queue_subscribe(&self, subject: String) -> Result<Subscriber> {
        let group = subjects::QUEUE_GROUP.to_owned();
        let subscribed = self.0.client.queue_subscribe(subject, group).await;
        subscribed.map_err(|error| cannot_subscribe(error.to_string()))
    }

    /// Waits until the server has all that was published and subscribed, 2 s at most. Dropping the
    /// future takes nothing back.
    ///
    /// # Errors
    /// `Connect` when the connection was closed for good, or NATS is away for longer.
    pub async fn flush(&self) -> Result<()> {
        match timeout(FLUSH_TIMEOUT, self.0.client.flush()).await {
            Ok(flushed) => flushed.map_err(|error| {
                Error::new(ErrorKind::Connect, "the connection with NATS is closed")
                    .with_source(error.to_string())
            }),
            Err(_) => Err(Error::new(ErrorKind::Connect, "NATS is away")),
        }
    }
}

/// Room for one message on its way to NATS. It is a client's own: clones reserve nothing.
pub(crate) struct Room(Client);

impl Room {
    /// Publishes, without waiting.
    pub(crate) fn publish(
        mut self,
        subject: String,
        reply: Option<String>,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<()> {
        let message = OutboundMessage {
            subject: subject.into(),
            reply: reply.map(Into::into),
            payload,
            headers: Some(headers),
        };
        self.0.start_send_unpin(message).map_err(not_published)
    }
}

fn not_published(error: async_nats::PublishError) -> Error {
    Error::new(ErrorKind::Connect, "a frame cannot be given to NATS").with_source(error.to_string())
}

/// Why NATS could not be connected, and what to look at.
fn why(kind: ConnectErrorKind) -> &'static str {
    match kind {
        ConnectErrorKind::ServerParse => "the address of NATS is no URL such as nats://host:4222",
        ConnectErrorKind::Dns => "the host of NATS is not known by that name",
        ConnectErrorKind::Authentication => {
            "the key for NATS cannot sign: look at the seed or the credentials"
        }
        ConnectErrorKind::AuthorizationViolation => {
            "NATS does not let this process in: look at the user, the nkey or the credentials, and \
             whether NATS knows them"
        }
        ConnectErrorKind::TimedOut => "NATS does not answer: look at the address and at firewalls",
        ConnectErrorKind::Tls => {
            "no TLS with NATS: look at the certificate authority that is trusted, the host's name in \
             the server's certificate, and the certificate of this process"
        }
        ConnectErrorKind::Io => {
            "NATS cannot be reached: look at the address, whether nats-server runs, and whether it \
             wants TLS and a certificate of this process"
        }
        ConnectErrorKind::MaxReconnects => "NATS cannot be reached",
    }
}

/// Bytes that are left for the head of a frame.
const HEAD_ROOM: usize = 4 * 1024;
/// A body of a frame is never cut smaller, whatever the server says.
const MIN_BODY: usize = 1024;
/// A body of a frame is never larger: what is behind it waits no longer than for this.
const MAX_BODY: usize = 512 * 1024;

fn cannot_subscribe(source: String) -> Error {
    Error::new(ErrorKind::Connect, "NATS takes no subscription").with_source(source)
}

impl fmt::Debug for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carrier")
            .field("pool", &self.0.pool)
            .field("identity", &self.0.identity)
            .field("connected", &self.is_connected())
            .finish()
    }
}
