//! The cache of HTTP clients.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    path::PathBuf,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use hyper_util::client::proxy::matcher::Matcher;
use mcpool_core::{Error, ErrorKind, HttpSpec, Result};
use tokio::{runtime, sync::OnceCell, time::Instant};
use url::Url;

use crate::{address::is_loopback, redirect, resolver::CheckedResolver, tls};

/// The `User-Agent` of every request.
pub const USER_AGENT: &str = concat!("mcpool/", env!("CARGO_PKG_VERSION"));

/// How many sets of trusted certificates are kept.
const MAX_TRUSTS: usize = 64;

/// How long an idle connection is kept for the next request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// How many idle connections to one host are kept.
const MAX_IDLE_PER_HOST: usize = 64;

/// When a silent connection is asked for a sign of life, and how often: a dead peer is noticed
/// even if no reset ever arrives.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
const TCP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const TCP_KEEPALIVE_RETRIES: u32 = 3;
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(30);
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(10);

/// The settings of a client: servers of one origin share it if theirs are equal.
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ClientSettings {
    /// A PEM file with certificates that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The proxy; `None` is what the environment says.
    pub proxy: Option<String>,
    /// The unix socket that every request goes over.
    pub unix_socket: Option<PathBuf>,
    /// How long name resolution, TCP and TLS may take.
    pub connect_timeout: Duration,
    /// Whether TLS must work. Without it a system without root certificates is no error.
    pub tls: bool,
    /// Whether the proxy of the environment is bypassed: true for loopback addresses, which no
    /// proxy can reach.
    pub direct: bool,
}

impl ClientSettings {
    /// The settings for this server at this URL.
    #[must_use]
    pub fn new(spec: &HttpSpec, url: &Url) -> Self {
        Self {
            ca_file: spec.ca_file.clone(),
            proxy: spec.proxy.clone(),
            unix_socket: spec.unix_socket.clone(),
            connect_timeout: spec.connect_timeout,
            tls: url.scheme() == "https",
            direct: spec.proxy.is_none() && (spec.unix_socket.is_some() || is_loopback(url)),
        }
    }
}

impl ClientSettings {
    /// Which URLs go through a proxy with these settings. It is the proxy that resolves the
    /// names in them.
    #[must_use]
    pub fn proxies(&self) -> Proxies {
        Proxies(match &self.proxy {
            Some(proxy) => Some(Matcher::builder().all(proxy.as_str()).build()),
            None if self.direct => None,
            None => Some(Matcher::from_system()),
        })
    }

    /// Starts a client of the caller's own with these settings: for one that needs a resolver or
    /// redirects of its own. It is not pooled.
    ///
    /// TLS works wherever the system has root certificates, also when `tls` is off.
    ///
    /// # Errors
    /// As [`HttpPool::client`].
    #[cfg(feature = "reqwest")]
    pub async fn builder(&self) -> Result<reqwest::ClientBuilder> {
        let settings = self.clone();
        off_thread(move || {
            let ca = settings.ca_file.as_deref().map(tls::read_ca_file);
            let ca = ca.transpose()?;
            let trust = match settings.tls {
                true => Trust::Platform,
                false => Trust::PlatformIfAny,
            };
            builder(&settings, trust.config(ca.as_deref())?)
        })
        .await
    }
}

impl fmt::Debug for ClientSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSettings")
            .field("ca_file", &self.ca_file)
            .field("proxy", &self.proxy.as_ref().map(|_| "[set]"))
            .field("unix_socket", &self.unix_socket)
            .field("connect_timeout", &self.connect_timeout)
            .field("tls", &self.tls)
            .field("direct", &self.direct)
            .finish()
    }
}

/// Which URLs go through a proxy: as the spec, else the environment and the system say.
#[derive(Debug)]
pub struct Proxies(Option<Matcher>);

impl Proxies {
    /// The host of the proxy that a URL goes through, if it goes through one.
    #[must_use]
    pub fn of(&self, url: &Url) -> Option<String> {
        let proxy = self.0.as_ref()?.intercept(&url.as_str().parse().ok()?)?;
        proxy.uri().host().map(crate::normalized)
    }
}

/// A client is shared by servers with equal keys.
#[derive(Clone, PartialEq, Eq, Hash)]
struct ClientKey {
    /// A pooled connection is driven by the runtime that opened it, and hangs when that runtime
    /// is not driven any more: so clients are never shared across runtimes.
    runtime: runtime::Id,
    /// Whose idle connections these are: they are closed with their last user, and all at once
    /// when one of them turns out to be dead.
    origin: String,
    settings: ClientSettings,
    /// What the CA file holds, so that a renewed file is noticed at the next connect.
    ca: Option<Arc<[u8]>>,
}

/// What the trust in certificates depends on.
#[derive(Clone, PartialEq, Eq)]
struct TrustKey {
    trust: Trust,
    ca: Option<Arc<[u8]>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// Whom the platform trusts; without root certificates it is an error.
    Platform,
    /// Whom the platform trusts, or nobody.
    PlatformIfAny,
    /// Nobody: no TLS is spoken.
    Nobody,
}

impl Trust {
    fn of(settings: &ClientSettings) -> Self {
        match settings {
            ClientSettings { tls: true, .. } => Self::Platform,
            // A proxy may be reached by TLS.
            ClientSettings { direct: false, .. } => Self::PlatformIfAny,
            _ => Self::Nobody,
        }
    }

    fn config(self, ca: Option<&[u8]>) -> Result<rustls::ClientConfig> {
        match self {
            Self::Platform => tls::trusting_platform(ca),
            Self::PlatformIfAny => match tls::trusting_platform(ca) {
                Err(error) if ca.is_none() => {
                    tracing::debug!(%error, "no TLS, which plain HTTP does not need");
                    tls::trusting_nobody()
                }
                result => result,
            },
            Self::Nobody => tls::trusting_nobody(),
        }
    }
}

/// The cache of HTTP clients: one for all servers of one origin with the same [`ClientSettings`]
/// on one runtime.
///
/// Cloning gives another handle to the same cache. It holds clients only as long as somebody uses
/// them: with the last user of a client its idle connections are closed. While a client is used,
/// an idle connection is closed after 60 to 120 s, and at once by
/// [`close_idle`](HttpPool::close_idle) and [`OriginClient::renew`]. Up to 64 sets of trusted
/// certificates are kept, the least recently used goes first.
///
/// Every client speaks HTTP/1.1 with keep-alive and `TCP_NODELAY`, or HTTP/2 where TLS offers it;
/// follows only same-origin 307 and 308 redirects, which keep method and body; verifies
/// certificates with rustls and the platform's verifier; and never asks a proxy for a loopback
/// address unless the spec names one. No process-wide TLS default is installed.
///
/// ```
/// use mcpool_core::HttpSpec;
/// use mcpool_http_pool::{ClientSettings, HttpPool};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> mcpool_core::Result<()> {
/// let pool = HttpPool::shared();
/// let url = "http://127.0.0.1:8080/mcp".parse().unwrap();
/// let settings = ClientSettings::new(&HttpSpec::new("http://127.0.0.1:8080/mcp"), &url);
/// let client = pool.client(&settings, &url).await?;
/// # let _ = client;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct HttpPool(Arc<Caches>);

#[derive(Default)]
struct Caches {
    clients: Mutex<HashMap<ClientKey, Weak<Origin>>>,
    trusts: Mutex<VecDeque<(TrustKey, TrustSlot)>>,
}

type TrustSlot = Arc<OnceCell<rustls::ClientConfig>>;

impl HttpPool {
    /// A cache of its own: nothing is shared with others.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The cache of this process.
    #[must_use]
    pub fn shared() -> Self {
        static SHARED: LazyLock<HttpPool> = LazyLock::new(HttpPool::new);
        SHARED.clone()
    }

    /// The client for the origin of this URL with these settings. The system's certificates are
    /// read at the first call, off the async threads; calls that come meanwhile wait for that one.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSpec`] when the CA file or the proxy cannot be used, and when TLS is
    /// wanted but the system has no root certificates.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn client(&self, settings: &ClientSettings, url: &Url) -> Result<OriginClient> {
        let ca = match &settings.ca_file {
            None => None,
            Some(path) => {
                let path = path.clone();
                Some(off_thread(move || tls::read_ca_file(&path)).await?)
            }
        };
        let key = ClientKey {
            runtime: runtime::Handle::current().id(),
            origin: url.origin().ascii_serialization(),
            settings: settings.clone(),
            ca,
        };
        if let Some(origin) = self.clients().get(&key).and_then(Weak::upgrade) {
            return Ok(OriginClient(origin));
        }
        let tls = self.trust(&key).await?;
        let mut clients = self.clients();
        if let Some(origin) = clients.get(&key).and_then(Weak::upgrade) {
            return Ok(OriginClient(origin));
        }
        clients.retain(|_, origin| origin.strong_count() > 0);
        let client = OriginClient::new(settings.clone(), tls)?;
        clients.insert(key, Arc::downgrade(&client.0));
        Ok(client)
    }

    /// Closes every idle connection. Requests under way go on, and so do clients: the next
    /// request of each opens a fresh connection.
    pub fn close_idle(&self) {
        let clients: Vec<_> = self.clients().values().filter_map(Weak::upgrade).collect();
        for client in clients {
            OriginClient(client).renew(Instant::now());
        }
    }

    /// How many clients are in use.
    #[must_use]
    pub fn len(&self) -> usize {
        let in_use = |client: &&Weak<Origin>| client.strong_count() > 0;
        self.clients().values().filter(in_use).count()
    }

    /// Whether none is in use.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<ClientKey, Weak<Origin>>> {
        self.0
            .clients
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn trust(&self, key: &ClientKey) -> Result<rustls::ClientConfig> {
        let key = TrustKey {
            trust: Trust::of(&key.settings),
            ca: key.ca.clone(),
        };
        let slot = self.trust_slot(&key);
        let config = slot
            .get_or_try_init(|| off_thread(move || key.trust.config(key.ca.as_deref())))
            .await?;
        Ok(config.clone())
    }

    fn trust_slot(&self, key: &TrustKey) -> TrustSlot {
        let mut trusts = self.0.trusts.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = match trusts.iter().position(|(known, _)| known == key) {
            Some(at) => trusts.remove(at),
            None => None,
        };
        let (key, slot) = entry.unwrap_or_else(|| (key.clone(), TrustSlot::default()));
        trusts.push_back((key, Arc::clone(&slot)));
        if trusts.len() > MAX_TRUSTS {
            trusts.pop_front();
        }
        slot
    }
}

impl fmt::Debug for HttpPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpPool")
            .field("clients", &self.len())
            .finish()
    }
}

/// The HTTP client of one origin. Cloning gives another handle to the same.
#[derive(Clone)]
pub struct OriginClient(Arc<Origin>);

struct Origin {
    settings: ClientSettings,
    tls: rustls::ClientConfig,
    current: Mutex<Current>,
}

struct Current {
    client: reqwest::Client,
    made: Instant,
}

impl OriginClient {
    fn new(settings: ClientSettings, tls: rustls::ClientConfig) -> Result<Self> {
        let current = Current {
            client: build(&settings, tls.clone())?,
            made: Instant::now(),
        };
        Ok(Self(Arc::new(Origin {
            settings,
            tls,
            current: Mutex::new(current),
        })))
    }

    /// The client to send the next request with. Do not keep it: see [`renew`](Self::renew).
    #[must_use]
    pub(crate) fn get(&self) -> reqwest::Client {
        self.current().client.clone()
    }

    /// Closes the idle connections to this origin, of all its users: the next request opens a
    /// fresh one. For when a connection turned out to be dead, since the idle ones may be as dead
    /// as it was (a NAT forgot them, the machine slept). Requests under way go on.
    ///
    /// Does nothing if that was done after `since`: many requests that fail together lead to one
    /// renewal.
    pub fn renew(&self, since: Instant) {
        if self.current().made > since {
            return;
        }
        let made = Instant::now();
        match build(&self.0.settings, self.0.tls.clone()) {
            Ok(client) => {
                let mut current = self.current();
                if current.made <= since {
                    *current = Current { client, made };
                }
            }
            // It could be built before, so only the environment's proxy can be in the way.
            Err(error) => tracing::debug!(%error, "the idle connections are kept"),
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.0
            .current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for OriginClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OriginClient")
            .field("settings", &self.0.settings)
            .finish_non_exhaustive()
    }
}

async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            Err(Error::new(ErrorKind::Internal, "cannot make an HTTP client").with_source(error))
        }
    }
}

fn build(settings: &ClientSettings, tls: rustls::ClientConfig) -> Result<reqwest::Client> {
    builder(settings, tls)?.build().map_err(|error| {
        Error::new(ErrorKind::Internal, "cannot make an HTTP client")
            .with_source(error.without_url())
    })
}

fn builder(settings: &ClientSettings, tls: rustls::ClientConfig) -> Result<reqwest::ClientBuilder> {
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(USER_AGENT)
        .connect_timeout(settings.connect_timeout)
        .redirect(redirect::same_origin())
        .dns_resolver(Arc::new(CheckedResolver::for_servers()))
        .referer(false)
        .tcp_nodelay(true)
        .tcp_keepalive(TCP_KEEPALIVE)
        .tcp_keepalive_interval(TCP_KEEPALIVE_INTERVAL)
        .tcp_keepalive_retries(TCP_KEEPALIVE_RETRIES)
        .http2_adaptive_window(true)
        .http2_keep_alive_interval(HTTP2_PING_INTERVAL)
        .http2_keep_alive_timeout(HTTP2_PING_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(MAX_IDLE_PER_HOST);
    if let Some(proxy) = &settings.proxy {
        // The address may hold a password: neither it nor the parser's error is shown.
        let proxy = reqwest::Proxy::all(proxy).map_err(|_| {
            Error::new(
                ErrorKind::InvalidSpec,
                "the proxy is not a URL such as http://host:port",
            )
        })?;
        builder = builder.proxy(proxy);
    } else if settings.direct {
        builder = builder.no_proxy();
    }
    match &settings.unix_socket {
        #[cfg(unix)]
        Some(path) => builder = builder.unix_socket(path.as_path()),
        #[cfg(not(unix))]
        Some(_) => {
            return Err(Error::new(
                ErrorKind::InvalidSpec,
                "there are no unix sockets on this system",
            ));
        }
        None => {}
    }
    Ok(builder)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn settings(url: &str) -> ClientSettings {
        ClientSettings::new(&HttpSpec::new(url), &url.parse().unwrap())
    }

    async fn client(pool: &HttpPool, url: &str) -> OriginClient {
        pool.client(&settings(url), &url.parse().unwrap())
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn one_origin_shares_one_client_as_long_as_somebody_uses_it() {
        let pool = HttpPool::new();
        let calls = (0..50).map(|_| client(&pool, "http://127.0.0.1:1/a"));
        let one = futures::future::join_all(calls).await;
        let other_path = client(&pool, "http://127.0.0.1:1/b").await;
        assert_eq!(pool.len(), 1);
        let other_origin = client(&pool, "http://127.0.0.1:2/a").await;
        assert_eq!(pool.len(), 2);
        let mut slower = settings("http://127.0.0.1:1/a");
        slower.connect_timeout = Duration::from_secs(99);
        let url = "http://127.0.0.1:1/a".parse().unwrap();
        let other_settings = pool.client(&slower, &url).await.unwrap();
        assert_eq!(pool.len(), 3);
        drop((one, other_path, other_origin, other_settings));
        assert!(pool.is_empty());
    }

    #[test]
    fn runtimes_do_not_share_clients() {
        let pool = HttpPool::new();
        let clients: Vec<_> = (0..2)
            .map(|_| {
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap()
                    .block_on(client(&pool, "http://127.0.0.1:1/a"))
            })
            .collect();
        assert_eq!(pool.len(), clients.len());
    }

    #[tokio::test]
    async fn bad_settings_say_what_is_wrong_and_show_no_secret() {
        let pool = HttpPool::new();
        let mut bad = settings("http://127.0.0.1:1/a");
        bad.proxy = Some("http://user:canary@[".into());
        bad.direct = false;
        let url = "http://127.0.0.1:1/a".parse().unwrap();
        let error = pool.client(&bad, &url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSpec);
        assert!(!format!("{error} {error:?} {bad:?}").contains("canary"));

        let mut bad = settings("https://127.0.0.1:1/a");
        bad.ca_file = Some("/nonexistent/ca.pem".into());
        let error = pool.client(&bad, &url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSpec);
        assert!(error.to_string().contains("/nonexistent/ca.pem"), "{error}");
    }

    #[test]
    fn loopback_goes_direct_and_the_rest_where_the_spec_says() {
        for (url, direct) in [
            ("http://127.0.0.1/", true),
            ("http://localhost/", true),
            ("http://example.org/", false),
        ] {
            assert_eq!(settings(url).direct, direct, "{url}");
        }
        let url: Url = "https://as.example/token".parse().unwrap();
        assert_eq!(settings("http://localhost/").proxies().of(&url), None);
        let mut proxied = settings("https://mcp.example/");
        proxied.proxy = Some("http://user:canary@Proxy.Example:3128".into());
        assert_eq!(proxied.proxies().of(&url).as_deref(), Some("proxy.example"));
        assert!(!format!("{:?}", proxied.proxies()).contains("canary"));
    }
}
