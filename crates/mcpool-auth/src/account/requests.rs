//! What happens to one request: the credentials that it gets, and what is done when they are
//! refused.

use std::time::Duration;

use async_trait::async_trait;
use mcpool_core::{
    AuthChallenge, AuthDecision, AuthRequest, Authenticator, Error, ErrorKind, Result, Secret,
};
use mcpool_http_pool::Challenge;
use tokio::time::Instant;
use url::Url;

use super::{Account, Flight, Live};
use crate::{
    discovery::{DiscoveryFailure, discover},
    error::refused,
    grant::{Grant, TokenKind, now, union},
};

/// How often more scope is asked for before a 403 is believed.
const MAX_STEP_UPS: u32 = 3;
/// Of more scopes in one challenge the rest is not asked for.
const MAX_WANTED: usize = 200;
/// After this long without one, step-ups are counted from zero.
const STEP_UP_WINDOW: Duration = Duration::from_secs(600);
/// Tokens of a grant that is refused this soon were never good.
const FRESH: Duration = Duration::from_secs(60);
/// With a transport that does not say which token was refused: one that came just now was not.
const JUST_NOW: Duration = Duration::from_secs(5);

#[async_trait]
impl Authenticator for Account {
    async fn authorize(&self, request: AuthRequest<'_>) -> Result<Vec<(String, Secret)>> {
        let headers = self.credentials(request).await;
        if let Err(error) = &headers
            && error.kind() == ErrorKind::AuthRequired
        {
            *self.refused_token() = self.live().map(|live| live.grant.access_token.clone());
        }
        headers
    }

    async fn challenged(
        &self,
        request: AuthRequest<'_>,
        challenge: &AuthChallenge,
    ) -> Result<AuthDecision> {
        // Whatever is decided: those who wait for other credentials are not woken by these.
        *self.refused_token() = challenge.refused.as_ref().and_then(token_of);
        self.decide(request, challenge).await
    }

    fn observe_nonce(&self, url: &str, nonce: &str) {
        if let (Some(url), Some(key)) = (
            self.same_origin(url),
            self.live().and_then(|live| live.dpop),
        ) {
            key.set_nonce(&url, nonce);
        }
    }
}

impl Account {
    /// The headers for a request, from a token that is renewed first when it is about to end.
    async fn credentials(&self, request: AuthRequest<'_>) -> Result<Vec<(String, Secret)>> {
        let Some(url) = self.same_origin(request.url) else {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "refused for safety: a token is sent to the origin of its server only",
            ));
        };
        let Some(mut live) = self.current().await? else {
            return Ok(Vec::new());
        };
        if live.grant.is_stale(now()) {
            let flight = self.0.flight.lock().await;
            // Somebody may have renewed while we waited.
            let again = self.current().await?;
            let renewed = match again {
                Some(again) if !again.grant.is_stale(now()) => Ok(Some(again)),
                Some(again) => {
                    let renewed = self.renew(&again).await;
                    renewed.map(|renewed| renewed.map(|renewed| renewed.live))
                }
                None => Ok(None),
            };
            drop(flight);
            let ended = live.grant.is_expired(now());
            live = match renewed {
                Ok(Some(live)) => live,
                // Still good for some seconds.
                Ok(None) | Err(_) if !ended => live,
                Err(error) => return Err(error),
                // The server's challenge starts a new grant.
                Ok(None) if !self.needs_person() => return Ok(Vec::new()),
                Ok(None) => {
                    return Err(refused(format!(
                        "the login at {} has ended: log in again",
                        live.grant.issuer
                    )));
                }
            };
        }
        Self::headers(&live, request.method, &url)
    }

    /// What to do about a refusal.
    async fn decide(
        &self,
        request: AuthRequest<'_>,
        challenge: &AuthChallenge,
    ) -> Result<AuthDecision> {
        let Some(url) = self.same_origin(request.url) else {
            return Ok(AuthDecision::GiveUp);
        };
        let header = challenge.www_authenticate.as_deref();
        let offered = Challenge::parse(header.unwrap_or_default());
        // A proxy's own challenge may stand beside the one that names an error.
        let refusal = offered
            .iter()
            .filter(|offer| offer.takes_tokens())
            .find(|offer| offer.parameter("error").is_some());
        let error = refusal.and_then(|offer| offer.parameter("error"));

        if let (Some(nonce), Some(key)) = (
            &challenge.dpop_nonce,
            self.live().and_then(|live| live.dpop),
        ) {
            // Also when the nonce is not new: another request may have brought it. The transport
            // ends a server that asks again and again.
            key.set_nonce(&url, nonce);
            if challenge.status == 401 && error == Some("use_dpop_nonce") {
                return Ok(AuthDecision::Retry);
            }
        }

        let mut flight = self.0.flight.lock().await;
        let live = self.current().await?;
        if let Some(live) = &live {
            let renewed_meanwhile = match &challenge.refused {
                Some(refused) => token_of(refused).as_ref() != Some(&live.grant.access_token),
                None => live.since.elapsed() < JUST_NOW && challenge.status == 401,
            };
            if renewed_meanwhile {
                return Ok(AuthDecision::Retry);
            }
        }
        match (challenge.status, error) {
            (401, _) => self.unauthorized(&mut flight, live, header).await,
            (403, Some("insufficient_scope")) => {
                let wanted = refusal.and_then(|offer| offer.parameter("scope"));
                self.insufficient_scope(&mut flight, live, header, wanted.unwrap_or_default())
                    .await
            }
            _ => Ok(AuthDecision::GiveUp),
        }
    }

    /// What to do about a 401.
    async fn unauthorized(
        &self,
        flight: &mut Flight,
        live: Option<Live>,
        challenge: Option<&str>,
    ) -> Result<AuthDecision> {
        if let Some(live) = &live {
            let token = &live.grant.access_token;
            // A token that a refresh has just brought is not helped by one more refresh. Later it may
            // have ended: not every server says when one does.
            let is_new =
                |(brought, at): &(Secret, Instant)| brought == token && at.elapsed() < FRESH;
            if !flight.from_refresh.as_ref().is_some_and(is_new)
                && let Some(renewed) = self.renew(live).await?
            {
                if renewed.by_us {
                    let token = renewed.live.grant.access_token.clone();
                    flight.from_refresh = Some((token, Instant::now()));
                }
                return Ok(AuthDecision::Retry);
            }
        }
        if let Some(live) = &live
            && flight.granted.is_some_and(|at| at.elapsed() < FRESH)
        {
            // The one thing that may help: the server has another authorization server now.
            let http = self.oauth_http(None).await?;
            let (server, spec) = (&self.0.server, &self.0.spec);
            let binding = self.0.binding.or_login(Some(&live.grant.issuer));
            match discover(&http, server, spec, &binding, challenge).await {
                Ok(found) if found.issuer == live.grant.issuer => {
                    return Err(refused(format!(
                        "the server refuses the token that {} has just issued for it: it may be \
                         meant for another audience",
                        live.grant.issuer
                    )));
                }
                Ok(_) => {}
                // The agent is asked.
                Err(DiscoveryFailure::OtherIssuer(change))
                    if change.by_login && !self.needs_person() => {}
                Err(failure) => return Err(failure.into()),
            }
        }
        if self.needs_person() {
            return Ok(AuthDecision::GiveUp);
        }
        let agent = self.0.agent.clone();
        let earlier = live.as_ref().map(|live| &*live.grant);
        let asked = earlier.map(Grant::all_scopes).unwrap_or_default();
        self.new_grant(flight, agent.as_deref(), challenge, asked, earlier)
            .await?;
        Ok(AuthDecision::Retry)
    }

    /// What to do about a 403 `insufficient_scope`.
    async fn insufficient_scope(
        &self,
        flight: &mut Flight,
        live: Option<Live>,
        challenge: Option<&str>,
        wanted: &str,
    ) -> Result<AuthDecision> {
        let Some(live) = live else {
            return Ok(AuthDecision::GiveUp);
        };
        let wanted: Vec<String> = wanted
            .split_whitespace()
            .take(MAX_WANTED)
            .map(str::to_owned)
            .collect();
        let granted = &live.grant.scopes;
        if wanted.iter().all(|scope| granted.contains(scope)) {
            return Ok(AuthDecision::GiveUp);
        }
        if flight
            .last_step_up
            .is_some_and(|at| at.elapsed() > STEP_UP_WINDOW)
        {
            flight.step_ups = 0;
        }
        if flight.step_ups >= MAX_STEP_UPS {
            tracing::warn!(server = %self.0.key.server, "the server asks for more scope again and again");
            return Ok(AuthDecision::GiveUp);
        }
        let asked = union(&live.grant.all_scopes(), &wanted);
        if self.needs_person() {
            let _lock = self.0.store.lock(&self.0.key).await?;
            let stored = self.stored().await?;
            let mut grant = match stored {
                // Somebody logged in, or refreshed, meanwhile: that is the grant to go by.
                Some(grant) if grant.access_token != live.grant.access_token => {
                    let enough = wanted.iter().all(|scope| grant.scopes.contains(scope));
                    if enough && !grant.is_stale(now()) {
                        self.adopt(grant)?;
                        return Ok(AuthDecision::Retry);
                    }
                    grant
                }
                Some(grant) => grant,
                // Logged out meanwhile.
                None => return Ok(AuthDecision::GiveUp),
            };
            // The next login asks for the union.
            grant.wanted_scopes = wanted;
            self.0.store.save(&grant).await?;
            self.adopt(grant)?;
            return Ok(AuthDecision::GiveUp);
        }
        flight.step_ups += 1;
        flight.last_step_up = Some(Instant::now());
        let agent = self.0.agent.clone();
        let earlier = Some(&*live.grant);
        self.new_grant(flight, agent.as_deref(), challenge, asked, earlier)
            .await?;
        Ok(AuthDecision::Retry)
    }

    /// Whether a new grant waits for a person whom nobody here can ask.
    fn needs_person(&self) -> bool {
        self.0.agent.is_none() && !self.0.spec.grant.is_headless()
    }

    /// The URL of a request, if it may get our token at all.
    fn same_origin(&self, url: &str) -> Option<Url> {
        Url::parse(url)
            .ok()
            .filter(|url| url.origin() == self.0.server.origin())
    }

    fn headers(live: &Live, method: &str, url: &Url) -> Result<Vec<(String, Secret)>> {
        let token = live.grant.access_token.expose();
        let name = "Authorization".to_owned();
        match (live.grant.kind, &live.dpop) {
            (TokenKind::Bearer, _) => Ok(vec![(name, Secret::new(format!("Bearer {token}")))]),
            (TokenKind::Dpop, Some(key)) => Ok(vec![
                (name, Secret::new(format!("DPoP {token}"))),
                (
                    "DPoP".to_owned(),
                    key.proof(method, url, Some(token))?.into(),
                ),
            ]),
            (TokenKind::Dpop, None) => {
                Err(refused("the key of the stored token is lost; log in again"))
            }
        }
    }
}

/// The token of an `Authorization` header.
fn token_of(header: &Secret) -> Option<Secret> {
    let (_, token) = header.expose().split_once(' ')?;
    Some(Secret::new(token))
}
