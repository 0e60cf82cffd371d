//! What one login leaves behind: tokens, the client they belong to, and when they end.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mcpool_core::Secret;
use serde::{Deserialize, Serialize};

/// A token is refreshed this long before it ends, so that it does not end on its way.
const REFRESH_AHEAD: Duration = Duration::from_secs(30);

/// Which tokens are meant: those for one server, of one account there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GrantKey {
    /// The URL of the MCP server, without user, query and fragment.
    pub server: String,
    /// The account, where the application keeps several apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
}

impl GrantKey {
    /// The tokens for this server.
    #[must_use]
    pub fn new(server: impl Into<String>, account: Option<String>) -> Self {
        Self {
            server: server.into(),
            account,
        }
    }
}

/// How the client proves itself at the token endpoint (OAuth 2.1, section 2.4).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ClientAuth {
    /// A public client.
    #[default]
    None,
    /// The secret in the `Authorization` header.
    Basic,
    /// The secret in the body.
    Post,
}

/// How a token is presented.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TokenKind {
    /// Anybody who has it may use it (RFC 6750).
    #[default]
    Bearer,
    /// Only with a proof of the key (RFC 9449).
    Dpop,
}

/// Tokens of one authorization server for one MCP server, and all that a refresh needs.
///
/// Its `Debug` shows no secret. Its serialized form does hold them: write it only where a
/// password may stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Grant {
    /// Whose tokens.
    pub key: GrantKey,
    /// Who issued them.
    pub issuer: String,
    /// What they are for: the `resource` that was asked for (RFC 8707).
    pub resource: String,
    /// Where they are refreshed.
    pub token_endpoint: String,
    /// Where they are revoked (RFC 7009), if anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation_endpoint: Option<String>,
    /// The client.
    pub client_id: String,
    /// The secret that the client got when it was registered dynamically. A configured secret is
    /// never stored.
    #[serde(
        default,
        with = "exposed_option",
        skip_serializing_if = "Option::is_none"
    )]
    pub client_secret: Option<Secret>,
    /// How the client proves itself.
    #[serde(default)]
    pub client_auth: ClientAuth,
    /// The redirect URI with which the client was registered dynamically.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_uri: Option<String>,
    /// The access token.
    #[serde(with = "exposed")]
    pub access_token: Secret,
    /// How it is presented.
    #[serde(default)]
    pub kind: TokenKind,
    /// The refresh token.
    #[serde(
        default,
        with = "exposed_option",
        skip_serializing_if = "Option::is_none"
    )]
    pub refresh_token: Option<Secret>,
    /// The scopes that were granted.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// The scopes that a step-up still waits for: the next login asks for them as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wanted_scopes: Vec<String>,
    /// When the tokens came, in seconds since 1970.
    pub issued_at: u64,
    /// When the access token ends, in seconds since 1970; `None` if nobody said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
    /// The key that the tokens are bound to: PKCS#8, base64url.
    #[serde(
        default,
        with = "exposed_option",
        skip_serializing_if = "Option::is_none"
    )]
    pub dpop_key: Option<Secret>,
}

impl Grant {
    /// Whether the access token has ended.
    #[must_use]
    pub fn is_expired(&self, now: u64) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    /// Whether it is time to get a new access token: 30 s before the end, or earlier than that
    /// a tenth of a short life before.
    #[must_use]
    pub fn is_stale(&self, now: u64) -> bool {
        let Some(end) = self.expires_at else {
            return false;
        };
        let life = end.saturating_sub(self.issued_at);
        let ahead = REFRESH_AHEAD.as_secs().min(life / 10);
        end.saturating_sub(ahead) <= now
    }

    /// All scopes that a new login has to ask for.
    pub(crate) fn all_scopes(&self) -> Vec<String> {
        union(&self.scopes, &self.wanted_scopes)
    }
}

/// The two lists as one, in order, each scope once.
pub(crate) fn union(first: &[String], second: &[String]) -> Vec<String> {
    let mut all: Vec<String> = Vec::with_capacity(first.len() + second.len());
    for scope in first.iter().chain(second) {
        if !all.contains(scope) {
            all.push(scope.clone());
        }
    }
    all
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

mod exposed {
    use mcpool_core::Secret;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(secret: &Secret, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(secret.expose())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
        String::deserialize(from).map(Secret::new)
    }
}

mod exposed_option {
    use mcpool_core::Secret;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        secret: &Option<Secret>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match secret {
            Some(secret) => to.serialize_some(secret.expose()),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Secret>, D::Error> {
        Ok(Option::<String>::deserialize(from)?.map(Secret::new))
    }
}

#[cfg(test)]
pub(crate) fn sample(server: &str, token: &str) -> Grant {
    Grant {
        key: GrantKey::new(server, None),
        issuer: "https://as.example".into(),
        resource: server.into(),
        token_endpoint: "https://as.example/token".into(),
        revocation_endpoint: None,
        client_id: "client".into(),
        client_secret: Some("canary-client".into()),
        client_auth: ClientAuth::Basic,
        redirect_uri: None,
        access_token: token.into(),
        kind: TokenKind::Bearer,
        refresh_token: Some("canary-refresh".into()),
        scopes: vec!["read".into()],
        wanted_scopes: Vec::new(),
        issued_at: 1_000,
        expires_at: Some(4_600),
        dpop_key: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_stale_before_it_ends() {
        let mut grant = sample("https://mcp.example/mcp", "t");
        assert!(!grant.is_stale(4_569));
        assert!(grant.is_stale(4_570));
        assert!(!grant.is_expired(4_599));
        assert!(grant.is_expired(4_600));
        // A token of ten seconds must not be stale from the start.
        grant.expires_at = Some(1_010);
        assert!(!grant.is_stale(1_008));
        assert!(grant.is_stale(1_009));
        grant.expires_at = None;
        assert!(!grant.is_stale(u64::MAX));
    }

    #[test]
    fn unions_keep_the_order_and_each_scope_once() {
        let list = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(union(&list("a b"), &list("b c a")), list("a b c"));
    }

    #[test]
    fn debug_shows_no_secret_and_json_brings_all_back() {
        let grant = sample("https://mcp.example/mcp", "canary-access");
        assert!(!format!("{grant:?}").contains("canary"));
        let json = serde_json::to_string(&grant).unwrap();
        assert_eq!(serde_json::from_str::<Grant>(&json).unwrap(), grant);
    }
}
