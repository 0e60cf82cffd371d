//! The seam between HTTP transports and whatever has the credentials.

mod provider;

use std::fmt;

use async_trait::async_trait;

pub use provider::AuthenticatorProvider;

use crate::{Result, Secret};

/// A request that is about to be sent to an HTTP server.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct AuthRequest<'a> {
    /// The HTTP method.
    pub method: &'a str,
    /// The URL.
    pub url: &'a str,
}

impl<'a> AuthRequest<'a> {
    /// A request of this method to this URL.
    #[must_use]
    pub fn new(method: &'a str, url: &'a str) -> Self {
        Self { method, url }
    }
}

/// What a server said when it refused the credentials.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AuthChallenge {
    /// 401 or 403.
    pub status: u16,
    /// The `WWW-Authenticate` header, where there was one.
    pub www_authenticate: Option<String>,
    /// The `DPoP-Nonce` header, where there was one (RFC 9449, section 9).
    pub dpop_nonce: Option<String>,
    /// The `Authorization` header that was refused, as [`Authenticator::authorize`] gave it.
    /// It distinguishes a stale token from one that was refreshed in the meantime, so that
    /// many calls that are refused at once lead to one refresh.
    pub refused: Option<Secret>,
}

impl AuthChallenge {
    /// A refusal with this status.
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self {
            status,
            www_authenticate: None,
            dpop_nonce: None,
            refused: None,
        }
    }
}

/// What to do after a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthDecision {
    /// New credentials are there: send the request once more (it was refused, not run).
    Retry,
    /// Nothing to be done without a person: report `AuthRequired`, or `Forbidden`.
    GiveUp,
}

/// Gives HTTP requests their credentials. The transports ask it; `mcpool-auth` implements it.
///
/// Calls may run concurrently. A dropped call must leave the stored credentials whole.
#[async_trait]
pub trait Authenticator: Send + Sync + fmt::Debug {
    /// The headers that authorize this request: `Authorization`, and `DPoP` where it is used.
    /// Empty when there are no credentials yet.
    ///
    /// # Errors
    /// [`AuthRequired`](crate::ErrorKind::AuthRequired) when it is known that a person has to log in.
    async fn authorize(&self, request: AuthRequest<'_>) -> Result<Vec<(String, Secret)>>;

    /// Called for a 401 or 403; may refresh, or ask for more scope.
    ///
    /// # Errors
    /// What went wrong while doing so.
    async fn challenged(
        &self,
        request: AuthRequest<'_>,
        challenge: &AuthChallenge,
    ) -> Result<AuthDecision>;

    /// Called with the `DPoP-Nonce` of a good answer, to be used from now on.
    fn observe_nonce(&self, _url: &str, _nonce: &str) {}
}
