//! OAuth 2.1 as a resource server: tokens of an authorization server that the operator trusts
//! (MCP 2025-11-25, "Authorization"; RFC 9068, RFC 9728).

mod key_set;
mod metadata;

use std::{collections::BTreeSet, fmt, sync::Arc};

use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use mcpool_core::{Error, ErrorKind, Result, is_unshowable};
use serde::Deserialize;
use serde_json::{Value, json};

use self::{
    key_set::KeySet,
    metadata::{Metadata, checked},
};
use crate::grant::Grant;

/// How far the clocks of two machines may be apart, in seconds.
const LEEWAY: u64 = 30;

/// The longest token that is looked at.
const MAX_TOKEN: usize = 16 * 1024;

/// The longest subject of a token.
const MAX_SUBJECT: usize = 256;

/// Where RFC 9728 wants the metadata of a protected resource.
pub(crate) const METADATA: &str = "/.well-known/oauth-protected-resource";

/// Signatures that only the authorization server can make. One with a shared secret is none of
/// them, and "none" is none.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Whose tokens are taken, and for what. Cloning shares the keys that were fetched.
#[derive(Clone)]
#[must_use]
pub struct ResourceServer {
    issuer: Arc<str>,
    /// Scheme and host by which clients reach the gateway.
    resource: Arc<str>,
    audiences: BTreeSet<String>,
    scopes: BTreeSet<String>,
    keys: Arc<KeySet<Metadata>>,
}

/// A token that is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is none, has expired, was made by somebody else or for something else.
    Invalid,
    /// It lacks a scope.
    Scope,
    /// The keys of the authorization server cannot be had.
    Unavailable,
}

impl ResourceServer {
    /// Takes tokens of this issuer that were made for this gateway: `resource` is the scheme and
    /// host by which clients reach it, such as `https://mcp.example.com`. A token's audience is
    /// that, or the URL of what is asked for (`https://mcp.example.com/mcp`, RFC 8707).
    ///
    /// The keys are found through the issuer's metadata (RFC 8414, or OpenID Connect Discovery)
    /// when the first token comes.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) when one of the two is no `https` URL, nor
    /// `http` on this machine.
    pub fn new(issuer: &str, resource: &str) -> Result<Self> {
        let issuer = checked(issuer)?;
        let resource = checked(resource)?;
        if resource.path() != "/" {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "the resource is a scheme and a host, without a path",
            ));
        }
        let issuer_text = issuer.as_str().trim_end_matches('/');
        Ok(Self {
            issuer: issuer_text.into(),
            resource: resource.as_str().trim_end_matches('/').into(),
            audiences: BTreeSet::new(),
            scopes: BTreeSet::new(),
            keys: Arc::new(KeySet::new(Metadata::of_issuer(issuer)?)),
        })
    }

    /// Takes tokens for another audience as well, as some authorization servers name resources in
    /// a way of their own.
    pub fn with_audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.insert(audience.into());
        self
    }

    /// Wants this scope of every token.
    pub fn with_scope(mut self, scope: impl Into<String>) -> Self {
        self.scopes.insert(scope.into());
        self
    }

    /// The metadata of what is served at a path (RFC 9728, section 2).
    pub(crate) fn metadata(&self, path: &str) -> Value {
        let mut metadata = json!({
            "resource": format!("{}{path}", self.resource),
            "authorization_servers": [&*self.issuer],
            "bearer_methods_supported": ["header"],
            "resource_name": "mcpool",
        });
        if !self.scopes.is_empty() {
            metadata["scopes_supported"] = json!(self.scopes);
        }
        metadata
    }

    /// The challenge for a client that has to log in (RFC 6750, section 3; RFC 9728, section 5.1). The
    /// metadata is below the same path as what was asked for, where a router of another program
    /// has put both.
    pub(crate) fn challenge(&self, under: &str, path: &str, refusal: Option<Refusal>) -> String {
        let mut challenge = format!(
            "Bearer realm=\"mcpool\", resource_metadata=\"{}{under}{METADATA}{path}\"",
            self.resource
        );
        match refusal {
            Some(Refusal::Invalid) => challenge.push_str(", error=\"invalid_token\""),
            Some(Refusal::Scope) => challenge.push_str(", error=\"insufficient_scope\""),
            _ => {}
        }
        if !self.scopes.is_empty() {
            let scopes: Vec<&str> = self.scopes.iter().map(String::as_str).collect();
            challenge.push_str(&format!(", scope=\"{}\"", scopes.join(" ")));
        }
        challenge
    }

    /// Who sends a token with a request to this path.
    ///
    /// # Errors
    /// Why it is not taken.
    pub(crate) async fn grant(
        &self,
        token: &str,
        path: &str,
    ) -> std::result::Result<Grant, Refusal> {
        if token.len() > MAX_TOKEN {
            return Err(Refusal::Invalid);
        }
        let header = decode_header(token).map_err(|_| Refusal::Invalid)?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(Refusal::Invalid);
        }
        let key = self.keys.key(header.kid.as_deref(), header.alg).await;
        let key = key.map_err(|error| {
            tracing::warn!(%error, "the keys of the authorization server cannot be had");
            Refusal::Unavailable
        })?;
        let key = key.ok_or(Refusal::Invalid)?;
        let mut validation = Validation::new(header.alg);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Some write it with a slash at its end, and some do not.
        validation.set_issuer(&[&*self.issuer, &format!("{}/", self.issuer)]);
        let mut audiences: Vec<String> = self.audiences.iter().cloned().collect();
        audiences.push(self.resource.to_string());
        audiences.push(format!("{}/", self.resource));
        audiences.push(format!("{}{path}", self.resource));
        validation.set_audience(&audiences);
        let claims = decode::<Claims>(token, &key, &validation)
            .map_err(|error| {
                tracing::debug!(%error, "a token was refused");
                Refusal::Invalid
            })?
            .claims;
        let granted = claims.scopes();
        if !self
            .scopes
            .iter()
            .all(|scope| granted.contains(scope.as_str()))
        {
            return Err(Refusal::Scope);
        }
        // Two subjects that look alike are two principals, or none: it is not made to fit.
        if claims.sub.is_empty()
            || claims.sub.len() > MAX_SUBJECT
            || claims.sub.contains(is_unshowable)
        {
            return Err(Refusal::Invalid);
        }
        // The space keeps it apart from the names of keys.
        let principal = format!("{} {}", self.issuer, claims.sub);
        Ok(Grant::of_principal(principal.into()))
    }
}

/// What is read of a token; the rest is checked before.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    #[serde(default)]
    scope: Option<String>,
    /// As some authorization servers write it.
    #[serde(default)]
    scp: Option<Value>,
}

impl Claims {
    fn scopes(&self) -> BTreeSet<&str> {
        let listed = self.scp.as_ref().and_then(Value::as_array);
        let listed = listed.into_iter().flatten().filter_map(Value::as_str);
        let texts = [
            self.scope.as_deref(),
            self.scp.as_ref().and_then(Value::as_str),
        ];
        let texts = texts.into_iter().flatten();
        texts
            .flat_map(str::split_whitespace)
            .chain(listed)
            .collect()
    }
}

impl fmt::Debug for ResourceServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResourceServer")
            .field("issuer", &self.issuer)
            .field("resource", &self.resource)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}
