//! How an account gets a new grant: from a person, or by itself.

use mcpool_core::{Error, Result};
use tokio::time::Instant;
use url::Url;

use super::{Account, Flight, Live, detached};
use crate::{
    binding::Binding,
    discovery::{Discovered, DiscoveryFailure, discover},
    grant::{Grant, now, union},
    headless,
    login::{
        self, IssuerChange, LoginAgent, LoginFailure, PendingLogin, RedirectReceiver,
        request::LoginRequest,
    },
};

/// A login that a person has answered.
struct Answered {
    pending: PendingLogin,
    redirect: String,
    receiver: Box<dyn RedirectReceiver>,
}

impl Account {
    /// Gets a new grant whatever is there, by the spec's flow.
    pub(crate) async fn log_in(
        &self,
        agent: &dyn LoginAgent,
        challenge: Option<&str>,
    ) -> Result<Grant> {
        let _login = self.0.login.lock().await;
        let stored = self.stored().await?;
        let asked = stored.as_ref().map(Grant::all_scopes).unwrap_or_default();
        let live = if self.0.spec.grant.is_headless() {
            let mut flight = self.0.flight.lock().await;
            self.new_grant(&mut flight, None, challenge, asked, stored.as_ref())
                .await?
        } else {
            // The person may take minutes; requests must not wait behind that.
            self.ask_and_take(Waiting::Outside, agent, challenge, asked, stored)
                .await?
        };
        Ok((*live.grant).clone())
    }

    /// Gets a grant by the spec's flow and puts it to use. Call it with the flight held.
    pub(super) async fn new_grant(
        &self,
        flight: &mut Flight,
        agent: Option<&dyn LoginAgent>,
        challenge: Option<&str>,
        more_scopes: Vec<String>,
        earlier: Option<&Grant>,
    ) -> Result<Live> {
        if !self.0.spec.grant.is_headless() {
            let agent = agent.ok_or_else(|| self.login_needed())?;
            return self
                .ask_and_take(
                    Waiting::Inside(flight),
                    agent,
                    challenge,
                    more_scopes,
                    earlier.cloned(),
                )
                .await;
        }
        let live = self.headless_grant(challenge, more_scopes, earlier).await?;
        flight.granted = Some(Instant::now());
        Ok(live)
    }

    async fn headless_grant(
        &self,
        challenge: Option<&str>,
        more_scopes: Vec<String>,
        refused: Option<&Grant>,
    ) -> Result<Live> {
        let account = self.clone();
        let challenge = challenge.map(str::to_owned);
        let refused = refused.map(|grant| grant.access_token.clone());
        detached(async move {
            let _lock = account.0.store.lock(&account.0.key).await?;
            if let Some(grant) = account.stored().await?
                && refused.is_some_and(|refused| refused != grant.access_token)
                && !grant.is_stale(now())
            {
                return account.adopt(grant);
            }
            let http = account.oauth_http(None).await?;
            let inner = &account.0;
            let found = discover(
                &http,
                &inner.server,
                &inner.spec,
                &inner.binding,
                challenge.as_deref(),
            )
            .await?;
            let scopes = account.scopes(&found, &more_scopes);
            let grant = headless::obtain(&http, found, &inner.spec, &inner.key, scopes).await?;
            inner.store.save(&grant).await?;
            account.adopt(grant)
        })
        .await
    }

    /// A person's login, from the question to the grant in use. When the authorization server has
    /// forgotten the registration of an earlier login, the client registers again, once.
    async fn ask_and_take(
        &self,
        mut waiting: Waiting<'_>,
        agent: &dyn LoginAgent,
        challenge: Option<&str>,
        more_scopes: Vec<String>,
        mut earlier: Option<Grant>,
    ) -> Result<Live> {
        loop {
            let answered = self
                .ask_person(agent, challenge, more_scopes.clone(), earlier.as_ref())
                .await?;
            match self.take_answer(&mut waiting, answered).await {
                Ok(live) => return Ok(live),
                Err(LoginFailure::ForgottenClient(error)) if earlier.is_some() => {
                    tracing::info!(
                        server = %self.0.key.server,
                        %error,
                        "the client is registered again"
                    );
                    // Without it there is nothing to be used again, so this comes once.
                    if let Some(earlier) = &mut earlier {
                        earlier.redirect_uri = None;
                    }
                }
                Err(failure) => return Err(failure.into()),
            }
        }
    }

    /// Sends a person to the authorization server, and waits for the redirect.
    async fn ask_person(
        &self,
        agent: &dyn LoginAgent,
        challenge: Option<&str>,
        more_scopes: Vec<String>,
        earlier: Option<&Grant>,
    ) -> Result<Answered> {
        let inner = &self.0;
        let http = self.oauth_http(None).await?;
        let bound = earlier.map(|grant| grant.issuer.as_str());
        let binding = inner.binding.or_login(bound);
        let found = discover(&http, &inner.server, &inner.spec, &binding, challenge).await;
        let found = match found {
            Err(DiscoveryFailure::OtherIssuer(change))
                if change.by_login
                    && agent
                        .allows_other_issuer(&IssuerChange::new(&inner.key, &change))
                        .await =>
            {
                discover(&http, &inner.server, &inner.spec, &Binding::None, challenge).await?
            }
            found => found?,
        };
        // What another authorization server granted says nothing to this one.
        let earlier = earlier.filter(|grant| grant.issuer == found.issuer);
        let more_scopes = if earlier.is_some() {
            more_scopes
        } else {
            Vec::new()
        };
        let scopes = self.scopes(&found, &more_scopes);
        let mut receiver = match (inner.spec.redirect_port, registered_port(earlier)) {
            // The same port again saves a registration. Somebody may have taken it meanwhile.
            (None, Some(port)) => match agent.prepare(Some(port)).await {
                Ok(receiver) => receiver,
                Err(_) => agent.prepare(None).await?,
            },
            (port, _) => agent.prepare(port).await?,
        };
        let redirect_uri = receiver.redirect_uri().to_owned();
        let request = LoginRequest {
            spec: &inner.spec,
            identity: &inner.identity,
            key: &inner.key,
            earlier,
            scopes,
            redirect_uri: &redirect_uri,
        };
        let pending = login::begin(http, found, request).await?;
        match receiver.receive(&pending.prompt).await {
            Ok(redirect) => Ok(Answered {
                pending,
                redirect,
                receiver,
            }),
            Err(error) => {
                if pending.reuses_registration() {
                    self.forget_registration().await?;
                }
                Err(error)
            }
        }
    }

    /// Exchanges what the redirect brought, stores it and puts it to use.
    async fn take_answer(
        &self,
        waiting: &mut Waiting<'_>,
        answered: Answered,
    ) -> Result<Live, LoginFailure> {
        let Answered {
            pending,
            redirect,
            mut receiver,
        } = answered;
        let mut held;
        let flight: &mut Flight = match waiting {
            Waiting::Inside(flight) => flight,
            Waiting::Outside => {
                held = self.0.flight.lock().await;
                &mut held
            }
        };
        let account = self.clone();
        // From here on the code is used up: what it brings must reach the store.
        let outcome = detached(async move {
            let grant = pending.finish(&redirect).await?;
            let _lock = account.0.store.lock(&account.0.key).await?;
            account.0.store.save(&grant).await?;
            Ok(account.adopt(grant)?)
        })
        .await;
        if outcome.is_ok() {
            flight.granted = Some(Instant::now());
        }
        let shown = outcome.as_ref().map(|_| ()).map_err(LoginFailure::error);
        receiver.finished(shown).await;
        outcome
    }

    /// Lets the next login register again. The authorization server shows an error page to the
    /// person, and sends nobody back, where it does not know the client any more: so a login that
    /// nobody came back from may be one of those.
    async fn forget_registration(&self) -> Result<()> {
        let _lock = self.0.store.lock(&self.0.key).await?;
        if let Some(mut grant) = self.stored().await? {
            grant.redirect_uri = None;
            self.0.store.save(&grant).await?;
        }
        Ok(())
    }

    /// What to ask for: what the spec says, else what the server asks for; and what was granted
    /// or missing before, so that a step-up loses nothing (MCP 2026-07-28, step-up: the union).
    fn scopes(&self, found: &Discovered, more: &[String]) -> Vec<String> {
        let base = match self.0.spec.scopes.is_empty() {
            true => &found.scopes,
            false => &self.0.spec.scopes,
        };
        union(more, base)
    }

    fn login_needed(&self) -> Error {
        crate::error::refused(format!("a login is needed at {}", self.0.key.server))
    }
}

/// Whether requests wait for a login: one in the middle of a request holds the flight already.
enum Waiting<'a> {
    Inside(&'a mut Flight),
    Outside,
}

/// The port of the redirect URI with which the client was registered before.
fn registered_port(earlier: Option<&Grant>) -> Option<u16> {
    Url::parse(earlier?.redirect_uri.as_ref()?).ok()?.port()
}
