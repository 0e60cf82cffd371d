//! The settings of a login by OAuth.

use std::fmt;

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::Serialize;

/// A login by OAuth. It becomes the [`OAuthSpec`](mcpool_core::OAuthSpec) of the server's spec.
///
/// `Debug` shows no secret.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct OAuthSettings {
    /// `false` sends no token and never tries to log in. Default `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// How tokens are got. Default: by what is given here, else `authorization_code`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantName>,
    /// The client's identifier, when it was registered beforehand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The client's secret; best a `${NAME}` or `${file:PATH}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<String>,
    /// An https URL of a client-id metadata document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_metadata_url: Option<String>,
    /// The client's private key as PEM, for signed assertions; best a `${NAME}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key: Option<String>,
    /// A PEM file with the client's private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key_file: Option<String>,
    /// What the private key signs with: `ES256` (default), `ES384`, `RS256`, `RS384`, `RS512`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<String>,
    /// The enterprise's identity provider, for `enterprise_managed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idp: Option<IdentityProviderSettings>,
    /// The person's ID token of the identity provider; best a `${NAME}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_token: Option<String>,
    /// A file with the ID token, read again for each token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_token_file: Option<String>,
    /// The platform's JWT, for `workload_identity`; best a `${NAME}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assertion: Option<String>,
    /// A file with the platform's JWT, read again for each token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assertion_file: Option<String>,
    /// The scopes to ask for. Default: what the server asks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// The loopback port for the redirect. Default: a free one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callback_port: Option<u16>,
    /// The only authorization server that is asked for tokens, by its issuer. Needed, unless there
    /// is a `metadata_url`, with a secret, a key or an assertion. Default: the one that the server
    /// names, and after the first login the one that it was made at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Keeps the tokens of several accounts at one server apart. Default: one account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Whether tokens are bound to a key of this machine. Default `auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dpop: Option<DpopName>,
    /// The address of the authorization server's metadata, when the server does not lead to it.
    /// Binds as `issuer` does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata_url: Option<String>,
}

/// The OAuth flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GrantName {
    /// A person logs in, in a browser.
    AuthorizationCode,
    /// `client_id` and `client_secret` are the account.
    ClientCredentials,
    /// `client_id` and a signed assertion are the account.
    PrivateKeyJwt,
    /// The identity provider `idp` decides, by the person's ID token.
    EnterpriseManaged,
    /// The platform's own JWT is the account.
    WorkloadIdentity,
}

impl GrantName {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AuthorizationCode => "authorization_code",
            Self::ClientCredentials => "client_credentials",
            Self::PrivateKeyJwt => "private_key_jwt",
            Self::EnterpriseManaged => "enterprise_managed",
            Self::WorkloadIdentity => "workload_identity",
        }
    }
}

/// Whether tokens are bound to a key (RFC 9449).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DpopName {
    /// When both the server and its authorization server support it.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The identity provider of an enterprise.
///
/// `Debug` does not show the secret.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct IdentityProviderSettings {
    /// Its issuer.
    pub issuer: String,
    /// Its token endpoint.
    pub token_endpoint: String,
    /// The client's identifier there.
    pub client_id: String,
    /// The client's secret there, if it has one; best a `${NAME}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<String>,
}

impl OAuthSettings {
    /// How tokens are got: as `grant` says, else by what is given.
    #[must_use]
    pub fn effective_grant(&self) -> GrantName {
        self.grant.unwrap_or({
            if self.private_key.is_some() || self.private_key_file.is_some() {
                GrantName::PrivateKeyJwt
            } else if self.idp.is_some() {
                GrantName::EnterpriseManaged
            } else if self.assertion.is_some() || self.assertion_file.is_some() {
                GrantName::WorkloadIdentity
            } else {
                GrantName::AuthorizationCode
            }
        })
    }

    /// What is secret in here and bound to no authorization server, as there is neither `issuer`
    /// nor `metadata_url`: a server could have it sent anywhere (MCP 2026-07-28, "Authorization
    /// Server Binding").
    #[must_use]
    pub fn unbound_field(&self) -> Option<&'static str> {
        if self.issuer.is_some() || self.metadata_url.is_some() || self.enabled == Some(false) {
            return None;
        }
        [
            ("client_secret", &self.client_secret),
            ("private_key", &self.private_key),
            ("private_key_file", &self.private_key_file),
            ("id_token", &self.id_token),
            ("id_token_file", &self.id_token_file),
            ("assertion", &self.assertion),
            ("assertion_file", &self.assertion_file),
        ]
        .into_iter()
        .find_map(|(name, value)| value.as_ref().map(|_| name))
    }

    /// The fields that the grant needs and that are not there; of alternatives the first.
    #[must_use]
    pub fn missing_fields(&self) -> Vec<&'static str> {
        let either = |a: &Option<String>, b: &Option<String>| a.is_some() || b.is_some();
        let has_client = self.client_id.is_some();
        let needed: &[(bool, &'static str)] = match self.effective_grant() {
            GrantName::AuthorizationCode => &[],
            GrantName::ClientCredentials => &[
                (has_client, "client_id"),
                (self.client_secret.is_some(), "client_secret"),
            ],
            GrantName::PrivateKeyJwt => &[
                (has_client, "client_id"),
                (
                    either(&self.private_key, &self.private_key_file),
                    "private_key_file",
                ),
            ],
            GrantName::EnterpriseManaged => &[
                (has_client, "client_id"),
                (self.idp.is_some(), "idp"),
                (either(&self.id_token, &self.id_token_file), "id_token"),
            ],
            GrantName::WorkloadIdentity => &[
                (has_client, "client_id"),
                (
                    either(&self.assertion, &self.assertion_file),
                    "assertion_file",
                ),
            ],
        };
        needed
            .iter()
            .filter_map(|(there, name)| (!there).then_some(*name))
            .collect()
    }
}

impl fmt::Debug for OAuthSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuthSettings")
            .field("enabled", &self.enabled)
            .field("grant", &self.grant)
            .field("client_id", &self.client_id)
            .field("scopes", &self.scopes)
            .field("callback_port", &self.callback_port)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for IdentityProviderSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityProviderSettings")
            .field("issuer", &self.issuer)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}
