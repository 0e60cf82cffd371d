//! How a login at a server is made: what `mcpool-auth` acts on.

use std::path::PathBuf;

use crate::{Error, ErrorKind, Result, Secret};

/// How credentials for one HTTP server are obtained. `mcpool-auth` acts on it.
///
/// A server without one is treated as [`OAuthSpec::default`]: its tokens, if there are any, are
/// used, and a login is an authorization-code flow in a browser. Endpoints are no part of it:
/// they are read from metadata (MCP authorization; RFC 9728, RFC 8414).
///
/// Which authorization server that metadata leads to is the MCP server's choice. So whatever may
/// be taken to a false one is bound to its own: with a secret, a key or an assertion,
/// [`issuer`](Self::issuer) or [`metadata_url`](Self::metadata_url) has to be set
/// ([`validate`](Self::validate)), and a login binds what it led to (MCP 2026-07-28, client
/// registration, "Authorization Server Binding").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OAuthSpec {
    /// Which flow. Default [`OAuthGrant::AuthorizationCode`].
    pub grant: OAuthGrant,
    /// The client id that the authorization server issued out of band. Without it a client-id
    /// metadata document, then dynamic registration are tried.
    pub client_id: Option<String>,
    /// The secret of that client. Needs an [`issuer`](Self::issuer).
    pub client_secret: Option<SecretSource>,
    /// An https URL of a client-id metadata document; it becomes the client id where the
    /// authorization server supports that.
    pub client_metadata_url: Option<String>,
    /// The scopes to ask for. Empty: what the server asks for.
    pub scopes: Vec<String>,
    /// The only authorization server that is asked for tokens, by its issuer identifier (RFC
    /// 8414). A server that names another one is refused. Default: the one that the server
    /// names, and after the first login the one that it was made at.
    pub issuer: Option<String>,
    /// Where the authorization server's metadata is, for a server that does not lead to it. The
    /// issuer that it names must have the same origin, or be [`issuer`](Self::issuer). Binds as
    /// `issuer` does. Default: it is discovered.
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

    /// Sets the only authorization server that is asked for tokens.
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

    /// Whether the authorization server is fixed by [`issuer`](Self::issuer) or
    /// [`metadata_url`](Self::metadata_url).
    #[must_use]
    pub fn is_bound(&self) -> bool {
        let set = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        set(&self.issuer) || set(&self.metadata_url)
    }

    /// The first field that holds something an authorization server must not get unless it is
    /// the right one: a secret, a key or an assertion.
    #[must_use]
    pub fn credential_field(&self) -> Option<&'static str> {
        match &self.grant {
            OAuthGrant::Off => None,
            OAuthGrant::PrivateKeyJwt { .. } => Some("private_key"),
            OAuthGrant::EnterpriseManaged { .. } => Some("id_token"),
            OAuthGrant::WorkloadIdentity { .. } => Some("assertion"),
            OAuthGrant::AuthorizationCode | OAuthGrant::ClientCredentials => {
                self.client_secret.as_ref().map(|_| "client_secret")
            }
        }
    }

    /// Checks that what is secret is bound to an authorization server. `mcpool-auth` calls it for
    /// every spec that it acts on.
    ///
    /// # Errors
    /// [`InvalidSpec`](ErrorKind::InvalidSpec) when a secret, a key or an assertion is set and
    /// neither [`issuer`](Self::issuer) nor [`metadata_url`](Self::metadata_url) is.
    pub fn validate(&self) -> Result<()> {
        match self.credential_field() {
            Some(field) if !self.is_bound() => Err(Error::new(
                ErrorKind::InvalidSpec,
                format!(
                    "the OAuth settings have `{field}` and no `issuer`: set `issuer` (or \
                     `metadata_url`) to the authorization server that it is for, or any server \
                     could have it sent elsewhere"
                ),
            )),
            _ => Ok(()),
        }
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
        /// The JWT. Read again for each token, because platforms rotate it.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_needs_an_authorization_server() {
        let secret = || SecretSource::Value("canary".into());
        let grants = [
            OAuthGrant::ClientCredentials,
            OAuthGrant::PrivateKeyJwt {
                key: secret(),
                algorithm: None,
            },
            OAuthGrant::EnterpriseManaged {
                idp: IdentityProvider::new("https://idp", "https://idp/token", "me"),
                id_token: secret(),
            },
            OAuthGrant::WorkloadIdentity {
                assertion: secret(),
            },
            OAuthGrant::AuthorizationCode,
        ];
        for grant in grants {
            let spec = OAuthSpec::new()
                .with_client("me", Some(secret()))
                .with_grant(grant);
            let error = spec.validate().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidSpec);
            assert!(error.message().contains("`issuer`"), "{error}");
            assert!(!error.message().contains("canary"), "{error}");
            // What a placeholder made empty binds nothing.
            assert!(spec.clone().with_issuer("").validate().is_err());
            spec.clone().with_issuer("https://as").validate().unwrap();
            spec.with_metadata_url("https://as/metadata")
                .validate()
                .unwrap();
        }
        let public = OAuthSpec::new().with_client("me", None);
        public.validate().unwrap();
        let off = OAuthSpec::new()
            .with_client("me", Some(secret()))
            .with_grant(OAuthGrant::Off);
        off.validate().unwrap();
    }
}
