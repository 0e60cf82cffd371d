//! The address of a server behind a URL.

use std::{fmt, path::PathBuf, time::Duration};

use crate::{OAuthSpec, Secret, Untrusted};

/// The address of an HTTP server.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpSpec {
    /// The URL of the MCP endpoint; for legacy SSE, of the event stream.
    pub url: String,
    /// Headers sent with every request, in order.
    pub headers: Vec<(String, Secret)>,
    /// How long name resolution, TCP and TLS may take. Default 10 s.
    pub connect_timeout: Duration,
    /// How long an open event stream may be silent before it counts as dead; `None` is for ever.
    /// Server comments count as life. Default `None`.
    pub read_idle_timeout: Option<Duration>,
    /// A PEM file with certificates that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The proxy for this server. Default: what the environment says.
    pub proxy: Option<String>,
    /// The unix socket that the server listens on; the URL says the path and the `Host`. No proxy
    /// is asked. Where there are no unix sockets, connecting fails. Default `None`.
    pub unix_socket: Option<PathBuf>,
    /// How its credentials are obtained; `None` is as [`OAuthSpec::default`].
    pub oauth: Option<Box<OAuthSpec>>,
    /// Whether credentials may go over plain `http` to another host than this one: the tokens of
    /// a login, a header that authorizes (`Authorization`, `Cookie`, `X-API-Key` and the like),
    /// a user and password in the URL. Anybody who is on the way can read and use them. Default
    /// `false`: the connect is refused.
    pub allow_cleartext_credentials: bool,
}

impl HttpSpec {
    /// Headers that authorize, in lower case: their reader may do what their sender may.
    pub const CREDENTIAL_HEADERS: &[&str] = &[
        "authorization",
        "proxy-authorization",
        "cookie",
        "x-api-key",
        "api-key",
        "x-auth-token",
    ];

    /// The server behind this URL.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            headers: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            read_idle_timeout: None,
            ca_file: None,
            proxy: None,
            unix_socket: None,
            oauth: None,
            allow_cleartext_credentials: false,
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<Secret>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the unix socket that the server listens on.
    #[must_use]
    pub fn with_unix_socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.unix_socket = Some(path.into());
        self
    }

    /// Sets how its credentials are obtained.
    #[must_use]
    pub fn with_oauth(mut self, oauth: OAuthSpec) -> Self {
        self.oauth = Some(Box::new(oauth));
        self
    }

    /// Sets whether credentials may go over plain `http` to another host than this one.
    #[must_use]
    pub fn with_cleartext_credentials_allowed(mut self, allowed: bool) -> Self {
        self.allow_cleartext_credentials = allowed;
        self
    }

    /// Sets how long an open event stream may be silent.
    #[must_use]
    pub fn with_read_idle_timeout(mut self, timeout: Duration) -> Self {
        self.read_idle_timeout = Some(timeout);
        self
    }

    /// The URL without its user name, password, query and fragment, and without what steers a
    /// terminal: safe to log. Its host and path may still hold what a placeholder was filled with.
    #[must_use]
    pub fn redacted_url(&self) -> String {
        let without_tail = self.url.split(['?', '#']).next().unwrap_or_default();
        let shown = match without_tail.split_once("://") {
            Some((scheme, rest)) => {
                let (authority, path) = match rest.split_once('/') {
                    Some((authority, path)) => (authority, format!("/{path}")),
                    None => (rest, String::new()),
                };
                let host = authority
                    .rsplit_once('@')
                    .map_or(authority, |(_, host)| host);
                format!("{scheme}://{host}{path}")
            }
            None => without_tail.to_owned(),
        };
        Untrusted::line(shown).into_clean().into_owned()
    }
}

impl fmt::Debug for HttpSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSpec")
            .field("url", &self.redacted_url())
            .field("headers", &self.headers)
            .field("connect_timeout", &self.connect_timeout)
            .field("read_idle_timeout", &self.read_idle_timeout)
            .field("ca_file", &self.ca_file)
            .field("proxy", &self.proxy.as_ref().map(|_| "[set]"))
            .field("unix_socket", &self.unix_socket)
            .field("oauth", &self.oauth)
            .field(
                "allow_cleartext_credentials",
                &self.allow_cleartext_credentials,
            )
            .finish()
    }
}

/// Whether a host name always means this machine (RFC 6761, section 6.3): `localhost`, and what lies
/// below it, in any case and with or without a dot at its end.
#[must_use]
pub fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}
