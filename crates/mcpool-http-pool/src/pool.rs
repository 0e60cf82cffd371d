//! The cache of HTTP clients.

use std::{
    collections::VecDeque,
    fmt,
    path::PathBuf,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

use hyper_util::client::proxy::matcher::Matcher;
use mcpool_core::{Error, ErrorKind, HttpSpec, Result};
use tokio::{runtime, sync::OnceCell};
use url::Url;

use crate::{address::is_loopback, redirect, resolver::CheckedResolver, tls};

/// The `User-Agent` of every request.
pub const USER_AGENT: &str = concat!("mcpool/", env!("CARGO_PKG_VERSION"));

/// How many clients are kept. One that was pushed out lives on as long as somebody uses it.
const MAX_CLIENTS: usize = 64;

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

/// The settings that decide which servers share a client.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientSettings {
    /// A PEM file with certificates that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The proxy; `None` is what the environment says.
    pub proxy: Option<String>,
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
            connect_timeout: spec.connect_timeout,
            tls: url.scheme() == "https",
            direct: spec.proxy.is_none() && is_loopback(url),
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
    pub async fn builder(&self) -> Result<reqwest::ClientBuilder> {
        let settings = self.clone();
        off_thread(move || {
            let ca = settings.ca_file.as_deref().map(tls::read_ca_file);
            let ca = ca.transpose()?;
            builder(&settings, tls_or_none(&settings, ca.as_deref())?)
        })
        .await
    }
}

impl fmt::Debug for ClientSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSettings")
            .field("ca_file", &self.ca_file)
            .field("proxy", &self.proxy.as_ref().map(|_| "[set]"))
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

/// A client is shared by requests with equal keys.
#[derive(Clone, PartialEq, Eq)]
struct Key {
    /// A pooled connection is driven by the runtime that opened it, and hangs when that runtime
    /// is not driven any more: so clients are never shared across runtimes.
    runtime: runtime::Id,
    settings: ClientSettings,
    /// What the CA file holds, so that a renewed file is noticed at the next connect.
    ca: Option<Arc<[u8]>>,
}

type Slot = Arc<OnceCell<reqwest::Client>>;

/// The cache of HTTP clients: one for all servers with the same [`ClientSettings`].
///
/// Cloning gives another handle to the same cache. Keeps up to 64 clients, the least recently
/// used goes first. An idle connection is closed after 60 to 120 s, or when the last handle of the pool
/// and the last user of its client are gone.
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
/// let url = "http://127.0.0.1:8080/mcp";
/// let settings = ClientSettings::new(&HttpSpec::new(url), &url.parse().unwrap());
/// let client = pool.client(&settings).await?;
/// # let _ = client;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct HttpPool {
    clients: Arc<Mutex<VecDeque<(Key, Slot)>>>,
}

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

    /// The client for these settings; made at the first call, off the async threads, since the
    /// system's certificates are read. Calls that come meanwhile wait for that one.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSpec`] when the CA file or the proxy cannot be used, and when TLS is
    /// wanted but the system has no root certificates.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn client(&self, settings: &ClientSettings) -> Result<reqwest::Client> {
        let ca = match &settings.ca_file {
            None => None,
            Some(path) => {
                let path = path.clone();
                Some(off_thread(move || tls::read_ca_file(&path)).await?)
            }
        };
        let key = Key {
            runtime: runtime::Handle::current().id(),
            settings: settings.clone(),
            ca,
        };
        let slot = self.slot(&key);
        let client = slot
            .get_or_try_init(|| off_thread(move || build(&key.settings, key.ca.as_deref())))
            .await?;
        Ok(client.clone())
    }

    /// How many clients it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.clients
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn slot(&self, key: &Key) -> Slot {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = match clients.iter().position(|(known, _)| known == key) {
            Some(at) => clients.remove(at),
            None => None,
        };
        let (key, slot) = entry.unwrap_or_else(|| (key.clone(), Slot::default()));
        clients.push_back((key, Arc::clone(&slot)));
        if clients.len() > MAX_CLIENTS {
            clients.pop_front();
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

fn build(settings: &ClientSettings, ca: Option<&[u8]>) -> Result<reqwest::Client> {
    let tls = if settings.tls || !settings.direct {
        tls_or_none(settings, ca)?
    } else {
        tls::trusting_nobody()?
    };
    builder(settings, tls)?.build().map_err(|error| {
        Error::new(ErrorKind::Internal, "cannot make an HTTP client")
            .with_source(error.without_url())
    })
}

fn tls_or_none(settings: &ClientSettings, ca: Option<&[u8]>) -> Result<rustls::ClientConfig> {
    match tls::trusting_platform(ca) {
        Err(error) if !settings.tls && ca.is_none() => {
            tracing::debug!(%error, "no TLS, which plain HTTP does not need");
            tls::trusting_nobody()
        }
        result => result,
    }
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
    Ok(builder)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn settings(url: &str) -> ClientSettings {
        ClientSettings::new(&HttpSpec::new(url), &url.parse().unwrap())
    }

    #[tokio::test]
    async fn equal_settings_share_one_client_and_others_do_not() {
        let pool = HttpPool::new();
        let one = settings("http://127.0.0.1:1/a");
        let calls = (0..50).map(|_| pool.client(&one));
        futures::future::try_join_all(calls).await.unwrap();
        pool.client(&settings("http://localhost:2/b"))
            .await
            .unwrap();
        assert_eq!(pool.len(), 1);

        let mut slower = settings("http://127.0.0.1:1/a");
        slower.connect_timeout = Duration::from_secs(99);
        pool.client(&slower).await.unwrap();
        assert_eq!(pool.len(), 2);
        assert!(HttpPool::new().is_empty());
    }

    #[test]
    fn runtimes_do_not_share_clients() {
        let pool = HttpPool::new();
        for _ in 0..2 {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(pool.client(&settings("http://127.0.0.1:1/a")))
                .unwrap();
        }
        assert_eq!(pool.len(), 2);
    }

    #[tokio::test]
    async fn the_pool_is_bounded() {
        let pool = HttpPool::new();
        for seconds in 0..(MAX_CLIENTS as u64 + 10) {
            let mut settings = settings("http://127.0.0.1:1/a");
            settings.connect_timeout = Duration::from_secs(seconds + 1);
            pool.client(&settings).await.unwrap();
        }
        assert_eq!(pool.len(), MAX_CLIENTS);
    }

    #[tokio::test]
    async fn bad_settings_say_what_is_wrong_and_show_no_secret() {
        let pool = HttpPool::new();
        let mut bad = settings("http://127.0.0.1:1/a");
        bad.proxy = Some("http://user:canary@[".into());
        bad.direct = false;
        let error = pool.client(&bad).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSpec);
        assert!(!format!("{error} {error:?} {bad:?}").contains("canary"));

        let mut bad = settings("https://127.0.0.1:1/a");
        bad.ca_file = Some("/nonexistent/ca.pem".into());
        let error = pool.client(&bad).await.unwrap_err();
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
