use std::path::PathBuf;

use crate::Secret;

/// How credentials for one HTTP server are obtained. `mcpool-auth` acts on it.
///
/// A server without one is treated as [`OAuthSpec::default`]: its tokens, if there are any, are
/// used, and a login is an authorization-code flow in a browser. Endpoints are no part of it:
/// they are read from metadata (MCP authorization; RFC 9728, RFC 8414).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OAuthSpec {
    /// Which flow. Default [`OAuthGrant::AuthorizationCode`].
    pub grant: OAuthGrant,
    /// The client id that the authorization server issued out of band. Without it a client-id
    /// metadata document, then dynamic registration are tried.
    pub client_id: Option<String>,
    /// The secret of that client.
    pub client_secret: Option<SecretSource>,
    /// An https URL of a client-id metadata document; it becomes the client id where the
    /// authorization server supports that.
    pub client_metadata_url: Option<String>,
    /// The scopes to ask for. Empty: what the server asks for.
    pub scopes: Vec<String>,
    /// The only authorization server that may get these client credentials. Without it, the
    /// one that the server names.
    pub issuer: Option<String>,
    /// Where the authorization server's metadata is, for a server that does not lead to it. The
    /// issuer that it names must have the same origin, or be [`issuer`](Self::issuer). Default:
    /// it is discovered.
    pub metadata_url: Option<String>,
    /// The loopback port of the redirect URI. Default: a free one.
    pub redirect_port: Option<u16>,
    /// Keeps the tokens of several accounts at one server apart. Default: one account.
    pub account: Option<String>,
    /// Whether tokens are bound to a key (RFC 9449). Default [`DpopChoice::Auto`].
    pub dpop: DpopChoice,
}

impl OAuthSpec {
    /// An authorization-code flow with everything found out.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the flow.
    #[must_use]
    pub fn with_grant(mut self, grant: OAuthGrant) -> Self {
        self.grant = grant;
        self
    }

    /// Sets the client that was registered out of band, and its secret if it has one.
    #[must_use]
    pub fn with_client(
        mut self,
        client_id: impl Into<String>,
        client_secret: Option<SecretSource>,
    ) -> Self {
        self.client_id = Some(client_id.into());
        self.client_secret = client_secret;
        self
    }

    /// Sets the URL of the client-id metadata document.
    #[must_use]
    pub fn with_client_metadata_url(mut self, url: impl Into<String>) -> Self {
        self.client_metadata_url = Some(url.into());
        self
    }

    /// Sets the scopes.
    #[must_use]
    pub fn with_scopes<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.scopes = scopes.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the only authorization server that may get the client credentials.
    #[must_use]
    pub fn with_issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// Sets where the authorization server's metadata is.
    #[must_use]
    pub fn with_metadata_url(mut self, url: impl Into<String>) -> Self {
        self.metadata_url = Some(url.into());
        self
    }

    /// Sets the loopback port of the redirect URI.
    #[must_use]
    pub fn with_redirect_port(mut self, port: u16) -> Self {
        self.redirect_port = Some(port);
        self
    }

    /// Sets the account under which tokens are kept.
    #[must_use]
    pub fn with_account(mut self, account: impl Into<String>) -> Self {
        self.account = Some(account.into());
        self
    }

    /// Sets whether tokens are bound to a key.
    #[must_use]
    pub fn with_dpop(mut self, dpop: DpopChoice) -> Self {
        self.dpop = dpop;
        self
    }
}

/// An OAuth flow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OAuthGrant {
    /// A person logs in, in a browser (OAuth 2.1, authorization code with PKCE).
    #[default]
    AuthorizationCode,
    /// The client itself is the account; needs a client id, and a secret
    /// (`io.modelcontextprotocol/oauth-client-credentials`).
    ClientCredentials,
    /// As [`ClientCredentials`](Self::ClientCredentials), with a signed assertion for the secret
    /// (RFC 7523, `private_key_jwt`).
    PrivateKeyJwt {
        /// The private key, PEM.
        key: SecretSource,
        /// `ES256` (the default), `ES384`, `RS256`, `RS384` or `RS512`.
        algorithm: Option<String>,
    },
    /// The enterprise's identity provider decides: its ID token is exchanged for an ID-JAG, and
    /// that for an access token (`io.modelcontextprotocol/enterprise-managed-authorization`).
    EnterpriseManaged {
        /// The identity provider.
        idp: IdentityProvider,
        /// The ID token of the person.
        id_token: SecretSource,
    },
    /// The platform's own JWT is the grant (RFC 7523, `jwt-bearer`; workload identity).
    WorkloadIdentity {
        /// The JWT. Read anew for each token, because platforms rotate it.
        assertion: SecretSource,
    },
    /// None: no token is sent, whatever is stored, and a 401 is
    /// [`AuthRequired`](crate::ErrorKind::AuthRequired).
    Off,
}

impl OAuthGrant {
    /// Whether tokens come without a person.
    #[must_use]
    pub fn is_headless(&self) -> bool {
        !matches!(self, Self::AuthorizationCode | Self::Off)
    }
}

/// The identity provider of an enterprise, as its administrator registered this client there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IdentityProvider {
    /// Its issuer.
    pub issuer: String,
    /// Its token endpoint.
    pub token_endpoint: String,
    /// This client's id there.
    pub client_id: String,
    /// This client's secret there, if it has one.
    pub client_secret: Option<SecretSource>,
}

impl IdentityProvider {
    /// An identity provider at which this client has no secret.
    #[must_use]
    pub fn new(
        issuer: impl Into<String>,
        token_endpoint: impl Into<String>,
        client_id: impl Into<String>,
    ) -> Self {
        Self {
            issuer: issuer.into(),
            token_endpoint: token_endpoint.into(),
            client_id: client_id.into(),
            client_secret: None,
        }
    }

    /// Sets this client's secret there.
    #[must_use]
    pub fn with_client_secret(mut self, secret: SecretSource) -> Self {
        self.client_secret = Some(secret);
        self
    }
}

/// Where a secret comes from. It is read when it is needed and not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecretSource {
    /// The text itself.
    Value(Secret),
    /// An environment variable of the application.
    Env(String),
    /// A file; white space at its ends is dropped.
    File(PathBuf),
}

/// Whether tokens are bound to a key that never leaves this machine (RFC 9449).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DpopChoice {
    /// When both the server and its authorization server say that they support it.
    #[default]
    Auto,
    /// Always; a token that is not bound is refused.
    Always,
    /// Never.
    Never,
}
