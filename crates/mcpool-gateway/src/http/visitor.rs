//! Who sends a request, and what is served then.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use mcpool_core::{Raw, RpcError};

use super::{Front, place::Place, reply};
use crate::{
    access::bearer,
    grant::Grant,
    limits::{Allowance, Busy, Room, Turn},
    oauth::Refusal,
    scope::Scope,
    session::Session,
};

/// Who sends a request, and what it is served.
#[derive(Clone)]
pub(crate) struct Visitor {
    pub(crate) scope: Scope,
    pub(crate) principal: Option<Arc<str>>,
    pub(crate) allowance: Arc<Allowance>,
    /// The address that its request comes from, where that is known.
    pub(crate) peer: Option<IpAddr>,
    /// What the body of its request takes.
    pub(crate) room: Option<Arc<Room>>,
    /// The session that its request names, once the token was opened.
    pub(super) session: Arc<OnceLock<Result<Session, (StatusCode, RpcError)>>>,
}

impl Visitor {
    /// Begins a request.
    ///
    /// # Errors
    /// Why it has to wait.
    pub(super) fn begin(&self) -> Result<Turn, Busy> {
        self.allowance.begin(self.room.clone())
    }
}

impl Front {
    /// The answer to a request for what is not there. Which names there are is for those who may know
    /// one.
    pub(super) async fn nothing_there(
        &self,
        place: &Place,
        headers: &HeaderMap,
        why: &'static str,
    ) -> Response {
        match self.grant(place, headers).await {
            Ok(_) => super::nothing_here(why),
            Err(barred) => barred.into_response(self, place),
        }
    }

    /// Who sends a request to a path, and what is served then.
    ///
    /// # Errors
    /// Why it is not served.
    pub(super) async fn visitor(
        &self,
        asked: Scope,
        place: &Place,
        headers: &HeaderMap,
    ) -> Result<Visitor, Barred> {
        let grant = self.grant(place, headers).await?;
        let scope = self.scope(asked, grant.as_ref())?;
        let principal = grant.as_ref().map(|grant| Arc::clone(grant.principal()));
        let limits = match &grant {
            Some(grant) => grant.limits(self.limits),
            None => self.limits,
        };
        let allowance = self.allowances.of(principal.as_ref(), limits);
        Ok(Visitor {
            scope,
            principal,
            allowance,
            peer: None,
            room: None,
            session: Arc::default(),
        })
    }

    /// What the bearer of a token may have; `Ok(None)` where none is asked for.
    async fn grant(&self, place: &Place, headers: &HeaderMap) -> Result<Option<Grant>, Barred> {
        if self.keys.is_none() && self.oauth.is_none() {
            return Ok(None);
        }
        let token = bearer(headers).ok_or(Barred::Unknown)?;
        if let Some(grant) = self.keys.as_ref().and_then(|keys| keys.grant(token)) {
            return Ok(Some(grant));
        }
        match &self.oauth {
            Some(oauth) => {
                let granted = oauth.grant(token, &place.whole()).await;
                granted.map(Some).map_err(Barred::Token)
            }
            None => Err(Barred::Token(Refusal::Invalid)),
        }
    }

    /// What somebody is served who asks for this.
    fn scope(&self, asked: Scope, grant: Option<&Grant>) -> Result<Scope, Barred> {
        let of_grant = grant.and_then(Grant::profile);
        let (who, name) = match (self.only.as_deref(), of_grant) {
            (None, None) => return Ok(asked),
            (Some(only), Some(name)) if only != name => {
                return Err(Barred::Elsewhere(format!(
                    "this key or token may use only the profile {name:?}, which this gateway does not \
                     serve"
                )));
            }
            (_, Some(name)) => ("this key or token may use", name),
            (Some(name), None) => ("this gateway serves", name),
        };
        match (asked, self.profiles.get(name)) {
            (Scope::Pool, Some(profile)) => Ok(Scope::Profile(profile)),
            (Scope::Profile(asked), Some(_)) if asked.name() == name => Ok(Scope::Profile(asked)),
            (_, Some(_)) => Err(Barred::Elsewhere(format!(
                "{who} only the profile {name:?}"
            ))),
            (_, None) => Err(Barred::Elsewhere(format!(
                "{who} only the profile {name:?}, and the config has no such profile"
            ))),
        }
    }
}

/// Why somebody is not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Barred {
    /// Nobody is known by the request.
    Unknown,
    /// Its token is not taken.
    Token(Refusal),
    /// It is not what the key is for: in words.
    Elsewhere(String),
}

impl Barred {
    pub(super) fn into_response(self, front: &Front, place: &Place) -> Response {
        let (status, why) = match &self {
            Self::Unknown => (StatusCode::UNAUTHORIZED, "a key or token is needed"),
            Self::Token(Refusal::Invalid) => (
                StatusCode::UNAUTHORIZED,
                "unknown, expired or revoked key or token",
            ),
            Self::Token(Refusal::Scope) => (StatusCode::FORBIDDEN, "this token lacks a scope"),
            Self::Token(Refusal::Unavailable) => return reply::no_keys(),
            Self::Elsewhere(why) => (StatusCode::FORBIDDEN, why.as_str()),
        };
        let error = RpcError::new(RpcError::INVALID_REQUEST, why);
        let mut response = reply::refused(status, &Raw::null(), error);
        let refusal = match &self {
            Self::Token(refusal) => Some(*refusal),
            _ => None,
        };
        let challenge = match &front.oauth {
            Some(oauth) => {
                let challenge = oauth.challenge(&place.under, &place.path, refusal);
                HeaderValue::from_str(&challenge).ok()
            }
            // RFC 6750, section 3.
            None => Some(HeaderValue::from_static("Bearer realm=\"mcpool\"")),
        };
        if let Some(challenge) = challenge.filter(|_| !matches!(self, Self::Elsewhere(_))) {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
