//! The HTTP side of one server: its client, its headers, its credentials.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use mcpool_core::{
    AuthChallenge, AuthDecision, AuthRequest, Authenticator, ConnectRequest, Delivery, Error,
    ErrorKind, HttpSpec, Result, Secret, ServerName,
};
use reqwest::{
    Client, Method, Response, StatusCode,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use url::Url;

use crate::{
    ClientSettings, HttpPool,
    address::{is_loopback, is_loopback_host},
    drain,
    error::{challenge, request_error, status_error},
};

const DPOP_NONCE: &str = "dpop-nonce";

/// Headers whose reader may do what their sender may.
const CREDENTIALS: &[&str] = &[
    "authorization",
    "proxy-authorization",
    "cookie",
    "x-api-key",
    "api-key",
    "x-auth-token",
];

/// After how many refusals the authenticator is asked no more. One request may need each of: a
/// first token, a DPoP nonce, a renewed token, more scope.
const MAX_REFUSALS: u32 = 4;

/// A request to a server, without what [`HttpPeer`] adds.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PeerRequest {
    /// The method.
    pub method: Method,
    /// The URL.
    pub url: Url,
    /// Headers that win over the spec's.
    pub headers: HeaderMap,
    /// The body.
    pub body: Option<Bytes>,
}

impl PeerRequest {
    /// A request without headers and body.
    #[must_use]
    pub fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: None,
        }
    }

    /// Sets a header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Some(body.into());
        self
    }
}

/// The HTTP side of one server. Cloning gives another handle to the same.
#[derive(Clone)]
pub struct HttpPeer(Arc<Inner>);

struct Inner {
    server: ServerName,
    client: Client,
    url: Url,
    headers: HeaderMap,
    authenticator: Option<Arc<dyn Authenticator>>,
    /// Whether credentials may not be sent: anybody on the way could read them.
    in_the_open: bool,
}

impl HttpPeer {
    /// Checks the spec and takes a client from the pool. Opens no connection.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSpec`] when the URL, a header, the CA file or the proxy is wrong, and
    /// when credentials would go over plain HTTP to another host without
    /// [`allow_cleartext_credentials`](HttpSpec::allow_cleartext_credentials).
    pub async fn new(pool: &HttpPool, request: &ConnectRequest, spec: &HttpSpec) -> Result<Self> {
        let server = request.spec.name.clone();
        let make = async {
            let url = parse_url(spec)?;
            let headers = parse_headers(&spec.headers)?;
            let settings = ClientSettings::new(spec, &url);
            let in_the_open =
                leaves_in_the_open(&settings, &url) && !spec.allow_cleartext_credentials;
            let authorizes = !url.username().is_empty()
                || url.password().is_some()
                || CREDENTIALS.iter().any(|name| headers.contains_key(*name));
            if in_the_open && authorizes {
                return Err(cleartext(&url));
            }
            let client = pool.client(&settings).await?;
            Ok((url, headers, client, in_the_open))
        };
        let (url, headers, client, in_the_open) = make
            .await
            .map_err(|error: Error| error.with_server(&server))?;
        Ok(Self(Arc::new(Inner {
            server,
            client,
            url,
            headers,
            authenticator: request.authenticator.clone(),
            in_the_open,
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

    /// Sends a request and gives the answer, whatever its status but 401 and 403.
    ///
    /// The spec's headers are added, then the request's, then the credentials. After a 401 or 403
    /// the authenticator is asked, and the request is sent again if it says so, up to 4 times: it
    /// was refused, not run. A `DPoP-Nonce` in a good answer is passed on (RFC 9449, section 8.2).
    ///
    /// Not bounded in time but for the connect. Dropping the future closes the connection, or
    /// the HTTP/2 stream.
    ///
    /// # Errors
    /// As [`request_error`]; [`ErrorKind::AuthRequired`] and [`ErrorKind::Forbidden`];
    /// [`ErrorKind::InvalidSpec`] when the authenticator's credentials would go over plain HTTP;
    /// and what the authenticator says.
    pub async fn send(&self, request: PeerRequest) -> Result<Response> {
        self.exchange(&request)
            .await
            .map_err(|error| error.with_server(&self.0.server))
    }

    /// Whether the server can be reached at all: asks with OPTIONS, which runs nothing, and takes
    /// any answer for a yes. Sends no credentials but the spec's own headers.
    ///
    /// Not bounded in time but for the connect.
    ///
    /// # Errors
    /// As [`request_error`].
    pub async fn reach(&self) -> Result<()> {
        let request = PeerRequest::new(Method::OPTIONS, self.0.url.clone());
        let response = self
            .execute(&request, &[])
            .await
            .map_err(|error| error.with_server(&self.0.server))?;
        drain(response).await;
        Ok(())
    }

    async fn exchange(&self, request: &PeerRequest) -> Result<Response> {
        let Some(authenticator) = &self.0.authenticator else {
            let response = self.execute(request, &[]).await?;
            return match response.status() {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(refused(response).await),
                _ => Ok(response),
            };
        };
        let mut refusals = 0;
        loop {
            let about = AuthRequest::new(request.method.as_str(), request.url.as_str());
            let credentials = authenticator
                .authorize(about)
                .await
                .map_err(|error| error.with_delivery(Delivery::NotSent))?;
            let response = self.execute(request, &credentials).await?;
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
                return Err(refused(response).await);
            }
            refusals += 1;
            let mut refusal = AuthChallenge::new(response.status().as_u16());
            refusal.www_authenticate = challenge(response.headers());
            refusal.dpop_nonce = nonce;
            refusal.refused = credentials
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case("authorization"))
                .map(|(_, value)| value.clone());
            let error = refused(response).await;
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
    ) -> Result<Response> {
        if self.0.in_the_open && !credentials.is_empty() {
            return Err(cleartext(&self.0.url).with_delivery(Delivery::NotSent));
        }
        let mut headers = self.0.headers.clone();
        for (name, value) in &request.headers {
            headers.insert(name, value.clone());
        }
        for (name, value) in parse_headers(credentials)? {
            if let Some(name) = name {
                headers.insert(name, value);
            }
        }
        let mut builder = self
            .0
            .client
            .request(request.method.clone(), request.url.clone())
            .headers(headers);
        if let Some(body) = &request.body {
            builder = builder.body(body.clone());
        }
        // An idle connection that the server has closed is told from a good one only once the
        // runtime has looked at its socket. A request that is written to it before that is lost,
        // and nobody can say whether it ran. One turn of the runtime costs a microsecond.
        tokio::task::yield_now().await;
        builder.send().await.map_err(request_error)
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

async fn refused(response: Response) -> Error {
    let error = status_error(response.status(), response.headers());
    drain(response).await;
    error
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
