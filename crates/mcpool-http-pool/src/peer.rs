//! The HTTP side of one server: its client, its headers, its credentials.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{
    Method, StatusCode,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use mcpool_core::{
    AuthChallenge, AuthDecision, AuthRequest, Authenticator, ConnectRequest, Delivery, Error,
    ErrorKind, HttpSpec, Result, Secret, ServerName,
};
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    time::Instant,
};
use url::Url;

use crate::{
    ClientSettings, HttpPool, OriginClient, Response,
    address::{is_loopback, is_loopback_host},
    cookies::CookieJar,
    drain,
    error::{challenge, refusal_error, request_error},
    read_refusal,
};

const DPOP_NONCE: &str = "dpop-nonce";

/// After how many refusals the authenticator is asked no more. One request may need each of: a
/// first token, a DPoP nonce, a renewed token, more scope.
const MAX_REFUSALS: u32 = 4;

/// After an answer of the server, a runtime of several threads takes its idle connections to be
/// open for so long without a look at them, also those that did not carry the answer. The look is a
/// turn of the runtime, which wakes a second thread: that costs more than a request that follows at
/// once.
const QUIET: Duration = Duration::from_micros(50);

/// A request to a server, without what [`HttpPeer`] adds.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PeerRequest {
    /// The method.
    pub method: Method,
    /// The URL, of the peer's origin.
    pub url: Url,
    /// Headers in place of the spec's, made from [`HttpPeer::headers`] once for many requests.
    pub base: Option<Arc<HeaderMap>>,
    /// Headers that win over the others.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Option<Bytes>,
    /// Whether running it twice does no harm: it is then sent once more on a fresh connection if
    /// its connection breaks before any answer.
    pub repeatable: bool,
}

impl PeerRequest {
    /// A request without headers and body, that is not repeatable.
    #[must_use]
    pub fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            base: None,
            headers: Vec::new(),
            body: None,
            repeatable: false,
        }
    }

    /// Sets the headers in place of the spec's.
    #[must_use]
    pub fn with_base(mut self, base: Arc<HeaderMap>) -> Self {
        self.base = Some(base);
        self
    }

    /// Sets a header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Sets whether running it twice does no harm.
    #[must_use]
    pub fn with_repeatable(mut self, repeatable: bool) -> Self {
        self.repeatable = repeatable;
        self
    }
}

/// The HTTP side of one server. Cloning gives another handle to the same.
///
/// It keeps the cookies that the server sets and sends them back, to its own origin only, for as
/// long as it lives: at most 50, of 4 KiB each.
#[derive(Clone)]
pub struct HttpPeer(Arc<Inner>);

struct Inner {
    server: ServerName,
    client: OriginClient,
    url: Url,
    headers: HeaderMap,
    cookies: CookieJar,
    authenticator: Option<Arc<dyn Authenticator>>,
    /// Whether credentials may not be sent: anybody on the way could read them.
    in_the_open: bool,
    /// When the server last began to answer.
    answered: Mutex<Option<Instant>>,
}

impl HttpPeer {
    /// Checks the spec and takes a client from the pool. Opens no connection. When the request
    /// wants [fresh](ConnectRequest::fresh) connections, the idle ones to this origin are closed.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSpec`] when the URL, a header, the CA file or the proxy is wrong, and
    /// when credentials would go over plain HTTP to another host without
    /// [`allow_cleartext_credentials`](HttpSpec::allow_cleartext_credentials).
    pub async fn new(pool: &HttpPool, request: &ConnectRequest, spec: &HttpSpec) -> Result<Self> {
        let server = request.server.clone();
        let make = async {
            let url = parse_url(spec)?;
            let headers = parse_headers(&spec.headers)?;
            let settings = ClientSettings::new(spec, &url);
            let in_the_open =
                leaves_in_the_open(&settings, &url) && !spec.allow_cleartext_credentials;
            let authorizes = !url.username().is_empty()
                || url.password().is_some()
                || HttpSpec::CREDENTIAL_HEADERS
                    .iter()
                    .any(|name| headers.contains_key(*name));
            if in_the_open && authorizes {
                return Err(cleartext(&url));
            }
            let client = pool.client(&settings, &url).await?;
            Ok((url, headers, client, in_the_open))
        };
        let (url, headers, client, in_the_open) = make
            .await
            .map_err(|error: Error| error.with_server(&server))?;
        if request.fresh {
            client.renew(Instant::now());
        }
        Ok(Self(Arc::new(Inner {
            server,
            client,
            url,
            headers,
            cookies: CookieJar::default(),
            authenticator: request.authenticator.clone(),
            in_the_open,
            answered: Mutex::new(None),
        })))
    }

    /// The URL of the spec.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.0.url
    }

    /// The server's name.
    #[must_use]
    pub fn server(&self) -> &ServerName {
        &self.0.server
    }

    /// The headers of the spec.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.0.headers
    }

    /// Closes the idle connections to the server's origin, unless that was done after `since`:
    /// for when one of them turned out to be dead. See [`OriginClient::renew`].
    pub fn renew_connections(&self, since: Instant) {
        self.0.client.renew(since);
    }

    /// Sends a request and gives the answer, whatever its status but 401 and 403.
    ///
    /// The spec's headers are added, then the request's, then the cookies and the credentials.
    /// After a 401 or 403 the authenticator is asked, and the request is sent again if it says so,
    /// up to 4 times: it was refused, not run. A `DPoP-Nonce` in a good answer is passed on
    /// (RFC 9449, section 8.2).
    ///
    /// A request whose connection died before a byte of it was written is sent once more at once,
    /// and so is a repeatable one whose connection broke before any answer. After a broken
    /// connection the idle ones are closed, since they may be as dead.
    ///
    /// Not bounded in time but for the connect. Dropping the future closes the connection, or
    /// the HTTP/2 stream.
    ///
    /// # Errors
    /// No answer: [`ErrorKind::Connect`], [`ErrorKind::ConnectionLost`] and what else can happen to
    /// a connection, with what is known of the delivery; [`ErrorKind::AuthRequired`] and [`ErrorKind::Forbidden`];
    /// [`ErrorKind::InvalidSpec`] when the authenticator's credentials would go over plain HTTP;
    /// and what the authenticator says.
    pub async fn send(&self, request: &PeerRequest) -> Result<Response> {
        self.send_noting(request, &|| {}).await
    }

    /// As [`send`](Self::send), and calls `sending` each time before a byte of the request may be
    /// written.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_noting(
        &self,
        request: &PeerRequest,
        sending: &(dyn Fn() + Send + Sync),
    ) -> Result<Response> {
        let sent = match &self.0.authenticator {
            None => self.send_as_is(request, sending).await,
            Some(authenticator) => {
                Box::pin(self.send_authorized(request, sending, &**authenticator)).await
            }
        };
        sent.map_err(|error| error.with_server(&self.0.server))
    }

    /// Whether the server can be reached at all: asks with OPTIONS, which runs nothing, on a fresh
    /// connection, and takes any answer for a yes. Sends no credentials but the spec's own
    /// headers.
    ///
    /// Not bounded in time but for the connect.
    ///
    /// # Errors
    /// No answer, as for [`send`](Self::send).
    pub async fn reach(&self) -> Result<()> {
        self.renew_connections(Instant::now());
        let request = PeerRequest::new(Method::OPTIONS, self.0.url.clone());
        let response = self
            .execute(&request, &[], &|| {})
            .await
            .map_err(|error| error.with_server(&self.0.server))?;
        drain(response).await;
        Ok(())
    }

    async fn send_as_is(
        &self,
        request: &PeerRequest,
        sending: &(dyn Fn() + Send + Sync),
    ) -> Result<Response> {
        let response = self.execute(request, &[], sending).await?;
        match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(Box::pin(refused(response)).await)
            }
            _ => Ok(response),
        }
    }

    async fn send_authorized(
        &self,
        request: &PeerRequest,
        sending: &(dyn Fn() + Send + Sync),
        authenticator: &dyn Authenticator,
    ) -> Result<Response> {
        let mut refusals = 0;
        loop {
            let about = AuthRequest::new(request.method.as_str(), request.url.as_str());
            let credentials = authenticator
                .authorize(about)
                .await
                .map_err(|error| error.with_delivery(Delivery::NotSent))?;
            let response = self.execute(request, &credentials, sending).await?;
            let nonce = header_text(response.headers(), DPOP_NONCE);
            if !matches!(
                response.status(),
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
            ) {
                if let Some(nonce) = nonce {
                    authenticator.observe_nonce(request.url.as_str(), &nonce);
                }
                return Ok(response);
            }
            if refusals == MAX_REFUSALS {
                return Err(Box::pin(refused(response)).await);
            }
            refusals += 1;
            let mut refusal = AuthChallenge::new(response.status().as_u16());
            refusal.www_authenticate = challenge(response.headers());
            refusal.dpop_nonce = nonce;
            refusal.refused = credentials
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case("authorization"))
                .map(|(_, value)| value.clone());
            let error = Box::pin(refused(response)).await;
            match authenticator
                .challenged(about, &refusal)
                .await
                .map_err(|error| error.with_delivery(Delivery::Rejected))?
            {
                AuthDecision::Retry => {
                    tracing::debug!(
                        server = %self.0.server,
                        status = refusal.status,
                        "credentials were renewed; sending the request once more"
                    );
                }
                _ => return Err(error),
            }
        }
    }

    async fn execute(
        &self,
        request: &PeerRequest,
        credentials: &[(String, Secret)],
        sending: &(dyn Fn() + Send + Sync),
    ) -> Result<Response> {
        if self.0.in_the_open && !credentials.is_empty() {
            return Err(cleartext(&self.0.url).with_delivery(Delivery::NotSent));
        }
        let mut is_first = true;
        loop {
            let built = self.build(request, credentials)?;
            // An idle connection that the server has closed is distinguished from a good one only
            // once the runtime has looked at its socket. A request that is written to it before
            // that is lost, and nobody can say whether it ran.
            if self.has_been_quiet() {
                tokio::task::yield_now().await;
            }
            sending();
            let sent = Instant::now();
            let error = match self.0.client.get().execute(built).await {
                Ok(response) => {
                    let response = Response(response);
                    *self.answered() = Some(Instant::now());
                    self.0.cookies.keep(&request.url, response.headers());
                    return Ok(response);
                }
                Err(error) => request_error(error),
            };
            if error.kind() != ErrorKind::ConnectionLost {
                return Err(error);
            }
            self.0.client.renew(sent);
            let may_repeat = error.delivery() == Delivery::NotSent || request.repeatable;
            if !(is_first && may_repeat) {
                return Err(error);
            }
            is_first = false;
            tracing::debug!(server = %self.0.server, %error, "sent once more on a fresh connection");
        }
    }

    /// Whether the server may have closed the connection since its last answer.
    fn has_been_quiet(&self) -> bool {
        let is_one_thread = || {
            Handle::try_current()
                .is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::CurrentThread)
        };
        let is_old = |at: Instant| at.elapsed() >= QUIET;
        self.answered().is_none_or(is_old) || is_one_thread()
    }

    fn answered(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0
            .answered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn build(
        &self,
        request: &PeerRequest,
        credentials: &[(String, Secret)],
    ) -> Result<reqwest::Request> {
        let mut built = reqwest::Request::new(request.method.clone(), request.url.clone());
        let headers = built.headers_mut();
        *headers = match &request.base {
            Some(base) => (**base).clone(),
            None => self.0.headers.clone(),
        };
        for (name, value) in &request.headers {
            headers.insert(name, value.clone());
        }
        self.0.cookies.add(&request.url, headers);
        for (name, value) in parse_headers(credentials)? {
            if let Some(name) = name {
                headers.insert(name, value);
            }
        }
        if let Some(body) = &request.body {
            *built.body_mut() = Some(body.clone().into());
        }
        Ok(built)
    }
}

impl fmt::Debug for HttpPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpPeer")
            .field("server", &self.0.server)
            .field("url", &HttpSpec::new(self.0.url.as_str()).redacted_url())
            .finish()
    }
}

/// The error for a 401 or 403, in the words of the server where it has some.
async fn refused(response: Response) -> Error {
    let (status, headers) = (response.status(), response.headers().clone());
    let body = read_refusal(response).await.unwrap_or_default();
    refusal_error(status, &headers, &String::from_utf8_lossy(&body))
}

fn header_text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

fn parse_url(spec: &HttpSpec) -> Result<Url> {
    // Nothing of it is shown: it may be a secret in the wrong place.
    let url = Url::parse(&spec.url).map_err(|error| {
        Error::new(ErrorKind::InvalidSpec, "the url is not a URL").with_source(error)
    })?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        _ => Err(Error::new(
            ErrorKind::InvalidSpec,
            "the url begins neither with http:// nor with https://",
        )),
    }
}

/// Whether what is sent can be read on its way: it is not encrypted, and it leaves this machine,
/// to the server or to a proxy.
fn leaves_in_the_open(settings: &ClientSettings, url: &Url) -> bool {
    let proxy_is_here = || {
        let proxy = settings.proxies().of(url);
        proxy.is_none_or(|proxy| is_loopback_host(&proxy))
    };
    url.scheme() == "http" && !(is_loopback(url) && proxy_is_here())
}

fn cleartext(url: &Url) -> Error {
    Error::new(
        ErrorKind::InvalidSpec,
        format!(
            "credentials would go over plain http to {}, where anybody on the way can read them: \
             use https, or set allow_cleartext_credentials",
            url.host_str().unwrap_or_default()
        ),
    )
}

fn parse_headers(headers: &[(String, Secret)]) -> Result<HeaderMap> {
    let mut parsed = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        // The value may be a secret: the errors name the header only.
        let invalid = |what: &str| {
            Error::new(
                ErrorKind::InvalidSpec,
                format!("the header {name:?} has {what} that HTTP does not allow"),
            )
        };
        let header: HeaderName = name.parse().map_err(|_| invalid("a name"))?;
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| invalid("a value"))?;
        value.set_sensitive(true);
        parsed.append(header, value);
    }
    Ok(parsed)
}
