//! The tokens of one server in use: gives requests their credentials, and renews them, once for
//! all who wait.

mod requests;

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mcpool_core::{Error, ErrorKind, HttpSpec, OAuthSpec, Result, Secret};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use url::Url;

use crate::{
    address::AddressPolicy,
    discovery::{Discovered, discover},
    dpop::DpopKey,
    error::refused,
    grant::{ClientAuth, Grant, GrantKey, now, union},
    headless,
    http::{OAuthHttp, redacted},
    login::{self, ClientIdentity, LoginAgent, LoginRequest, PendingLogin, RedirectReceiver},
    store::TokenStore,
    token::{self, Client, TokenFailure, read_secret},
};

/// How long a refused grant that needs no person is left alone.
const HEADLESS_RETRY: Duration = Duration::from_secs(300);

/// The [`Authenticator`](mcpool_core::Authenticator) of one server. Streamable HTTP and legacy SSE share it.
#[derive(Clone)]
pub(crate) struct Account(Arc<Inner>);

struct Inner {
    key: GrantKey,
    server: Url,
    http: HttpSpec,
    spec: OAuthSpec,
    policy: AddressPolicy,
    store: Arc<dyn TokenStore>,
    agent: Option<Arc<dyn LoginAgent>>,
    identity: ClientIdentity,
    /// The grant in use.
    live: watch::Sender<Option<Live>>,
    /// The token that the server refused last; `None` when a request without one was refused.
    refused: Refused,
    /// Held by a login that waits for a person. What needs no person goes on meanwhile.
    login: tokio::sync::Mutex<()>,
    /// Held by whoever renews. Everybody else waits here, and finds the new token then.
    flight: tokio::sync::Mutex<Flight>,
}

/// The token that a server refused last, for all accounts with one key.
pub(crate) type Refused = Arc<Mutex<Option<Secret>>>;

/// A login that a person has answered.
struct Answered {
    pending: PendingLogin,
    redirect: String,
    receiver: Box<dyn RedirectReceiver>,
}

/// The grant in use.
#[derive(Clone)]
struct Live {
    grant: Arc<Grant>,
    dpop: Option<Arc<DpopKey>>,
    since: Instant,
}

#[derive(Default)]
struct Flight {
    step_ups: u32,
    last_step_up: Option<Instant>,
    /// The token that the last refresh after a 401 brought.
    from_refresh: Option<Secret>,
    /// When the last login or headless grant was.
    granted: Option<Instant>,
}

impl Account {
    pub(crate) fn new(
        http: HttpSpec,
        spec: OAuthSpec,
        store: Arc<dyn TokenStore>,
        agent: Option<Arc<dyn LoginAgent>>,
        identity: ClientIdentity,
        refused: impl FnOnce(&GrantKey) -> Refused,
    ) -> Result<Self> {
        let server = server_url(&http)?;
        let configured: Vec<Url> = match &spec.grant {
            mcpool_core::OAuthGrant::EnterpriseManaged { idp, .. } => {
                vec![idp.issuer.clone(), idp.token_endpoint.clone()]
            }
            _ => Vec::new(),
        }
        .into_iter()
        .chain(spec.issuer.clone())
        .chain(spec.metadata_url.clone())
        .filter_map(|url| Url::parse(&url).ok())
        .collect();
        let proxies: Vec<String> = http
            .proxy
            .clone()
            .into_iter()
            .chain(env_proxies())
            .collect();
        let key = GrantKey::new(server.as_str(), spec.account.clone());
        Ok(Self(Arc::new(Inner {
            refused: refused(&key),
            key,
            policy: AddressPolicy::new(&server, &configured, &proxies),
            server,
            http,
            spec,
            store,
            agent,
            identity,
            live: watch::Sender::default(),
            login: tokio::sync::Mutex::default(),
            flight: tokio::sync::Mutex::default(),
        })))
    }

    /// What was refused, to be handed on to an account that takes this one's place.
    pub(crate) fn refused(&self) -> Refused {
        Arc::clone(&self.0.refused)
    }

    pub(crate) fn key(&self) -> &GrantKey {
        &self.0.key
    }

    /// Whether it was made for the very same server and settings.
    pub(crate) fn has_settings_of(&self, other: &Self) -> bool {
        self.0.http == other.0.http && self.0.spec == other.0.spec
    }

    /// The stored grant, the newest first, whether or not it is in use.
    pub(crate) async fn stored(&self) -> Result<Option<Grant>> {
        Ok(self.0.store.load(&self.0.key).await?.into_iter().next())
    }

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
            let answered = self
                .ask_person(agent, challenge, asked, stored.as_ref())
                .await?;
            let mut flight = self.0.flight.lock().await;
            let live = self.take_answer(answered).await?;
            flight.granted = Some(Instant::now());
            live
        };
        Ok((*live.grant).clone())
    }

    /// Revokes, where the authorization server can (RFC 7009), and forgets. Whether there was
    /// anything.
    pub(crate) async fn log_out(&self) -> Result<bool> {
        let _flight = self.0.flight.lock().await;
        let _lock = self.0.store.lock(&self.0.key).await?;
        let grants = self.0.store.load(&self.0.key).await.unwrap_or_default();
        let removed = self.0.store.remove(&self.0.key, None).await?;
        self.set_live(None);
        for grant in &grants {
            if let Err(error) = self.revoke(grant).await {
                tracing::warn!(server = %self.0.key.server, %error, "the tokens were not revoked");
            }
        }
        Ok(removed)
    }

    async fn revoke(&self, grant: &Grant) -> Result<()> {
        let Some(endpoint) = &grant.revocation_endpoint else {
            return Ok(());
        };
        let http = self.oauth_http(None).await?;
        let endpoint = parse_endpoint(endpoint)?;
        let client = self.client_of(grant).await?;
        let tokens = [
            ("refresh_token", grant.refresh_token.as_ref()),
            ("access_token", Some(&grant.access_token)),
        ];
        for (hint, token) in tokens {
            let Some(token) = token else { continue };
            let (authorization, mut fields) = token::prove(&client);
            fields.extend([("token", token.expose()), ("token_type_hint", hint)]);
            http.post_form(&endpoint, authorization.as_ref(), &fields)
                .await
                .map_err(|failure| crate::error::from_http(&failure))?;
        }
        Ok(())
    }

    fn live(&self) -> Option<Live> {
        self.0.live.borrow().clone()
    }

    fn set_live(&self, live: Option<Live>) {
        self.0.live.send_replace(live);
    }

    /// The token that the server refused last.
    fn refused_token(&self) -> MutexGuard<'_, Option<Secret>> {
        self.0
            .refused
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for another token than the one that was refused last: one that a login in this
    /// process brings, or one that another process stores. Where no person is needed, also until
    /// it is time to try again: a secret or an assertion may have been replaced.
    pub(crate) async fn changed(&self) {
        let mut live = self.0.live.subscribe();
        let again = async {
            match self.0.spec.grant.is_headless() {
                true => sleep(HEADLESS_RETRY).await,
                false => std::future::pending().await,
            }
        };
        tokio::pin!(again);
        loop {
            let pause = match self.has_another_token().await {
                Ok(true) => return,
                Ok(false) => self.0.store.poll_interval(),
                Err(error) => {
                    tracing::debug!(server = %self.0.key.server, %error, "cannot look for a login");
                    // A keyring that is locked may ask the user each time.
                    self.0.store.poll_interval() * 30
                }
            };
            tokio::select! {
                // The sender lives as long as this account.
                _ = live.changed() => {}
                () = sleep(pause) => {}
                () = &mut again => return,
            }
        }
    }

    async fn has_another_token(&self) -> Result<bool> {
        let refused = self.refused_token().clone();
        let is_another = |grant: &Grant| refused.as_ref() != Some(&grant.access_token);
        if self.live().is_some_and(|live| is_another(&live.grant)) {
            return Ok(true);
        }
        match self.stored().await? {
            Some(grant) if is_another(&grant) => self.adopt(grant).map(|_| true),
            _ => Ok(false),
        }
    }

    /// Puts a grant to use.
    fn adopt(&self, grant: Grant) -> Result<Live> {
        // The key may be in use already, with nonces.
        let dpop = match (&grant.dpop_key, self.live()) {
            (None, _) => None,
            (Some(key), Some(live)) if live.grant.dpop_key.as_ref() == Some(key) => live.dpop,
            (Some(key), _) => Some(Arc::new(DpopKey::from_pkcs8(key)?)),
        };
        let live = Live {
            grant: Arc::new(grant),
            dpop,
            since: Instant::now(),
        };
        self.set_live(Some(live.clone()));
        Ok(live)
    }

    /// The grant in use, else the stored one.
    async fn current(&self) -> Result<Option<Live>> {
        if let Some(live) = self.live() {
            return Ok(Some(live));
        }
        match self.stored().await? {
            Some(grant) => Ok(Some(self.adopt(grant)?)),
            None => Ok(None),
        }
    }

    async fn oauth_http(&self, dpop: Option<(&Url, &Arc<DpopKey>)>) -> Result<Arc<OAuthHttp>> {
        let client = crate::client::build(&self.0.http, &self.0.server, &self.0.policy).await?;
        let http = OAuthHttp::new(client, self.0.policy.clone());
        if let Some((endpoint, key)) = dpop {
            http.sign_with(endpoint.clone(), Arc::clone(key));
        }
        Ok(Arc::new(http))
    }

    /// The client that a grant belongs to. A configured secret is read anew.
    async fn client_of(&self, grant: &Grant) -> Result<Client> {
        let secret = match (&grant.client_secret, &self.0.spec.client_secret) {
            (Some(secret), _) => Some(secret.clone()),
            (None, Some(source)) if self.0.spec.client_id.as_ref() == Some(&grant.client_id) => {
                Some(read_secret(source, "the client secret").await?)
            }
            _ => None,
        };
        Ok(Client {
            id: grant.client_id.clone(),
            auth: match grant.client_auth {
                ClientAuth::None if secret.is_some() => ClientAuth::Basic,
                auth => auth,
            },
            secret,
        })
    }

    /// Renews a grant that the caller holds for stale, unless somebody did meanwhile: in this
    /// process, or in another one. Call it with the flight held.
    ///
    /// `Ok(None)` when only a new login helps.
    async fn renew(&self, stale: &Live) -> Result<Option<Live>> {
        let account = self.clone();
        let stale = stale.clone();
        // Runs to its end even if the caller goes away: a refresh token may be good only once,
        // and what it brought must reach the store.
        detached(async move { account.renew_under_lock(&stale).await }).await
    }

    async fn renew_under_lock(&self, stale: &Live) -> Result<Option<Live>> {
        let _lock = self.0.store.lock(&self.0.key).await?;
        let stored = self.stored().await?;
        let grant = match stored {
            Some(grant) if grant.access_token != stale.grant.access_token => {
                if !grant.is_stale(now()) {
                    tracing::debug!(server = %self.0.key.server, "another process refreshed");
                    return self.adopt(grant).map(Some);
                }
                grant
            }
            Some(grant) => grant,
            // Logged out meanwhile.
            None => {
                self.set_live(None);
                return Ok(None);
            }
        };
        let Some(refresh_token) = grant.refresh_token.clone() else {
            return Ok(None);
        };
        let endpoint = parse_endpoint(&grant.token_endpoint)?;
        let key = match &stale.dpop {
            Some(key) if stale.grant.dpop_key == grant.dpop_key => Some(Arc::clone(key)),
            _ => match &grant.dpop_key {
                Some(key) => Some(Arc::new(DpopKey::from_pkcs8(key)?)),
                None => None,
            },
        };
        let http = self
            .oauth_http(key.as_ref().map(|key| (&endpoint, key)))
            .await?;
        let client = self.client_of(&grant).await?;
        let fields = [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh_token.expose()),
            ("resource", grant.resource.as_str()),
        ];
        match token::request(&http, &endpoint, Some(&client), &fields).await {
            Ok(tokens) => {
                let grant = tokens.renew(grant);
                self.0.store.save(&grant).await?;
                tracing::debug!(server = %self.0.key.server, "refreshed the access token");
                self.adopt(grant).map(Some)
            }
            Err(TokenFailure::Rejected(answer)) => {
                tracing::warn!(
                    server = %self.0.key.server,
                    error = %answer.error,
                    "the refresh token was refused: a login is needed"
                );
                let mut dead = grant;
                dead.refresh_token = None;
                self.0.store.save(&dead).await?;
                self.adopt(dead)?;
                Ok(None)
            }
            Err(TokenFailure::Other(error)) => Err(error),
        }
    }

    /// Gets a grant by the spec's flow and puts it to use. Call it with the flight held.
    async fn new_grant(
        &self,
        flight: &mut Flight,
        agent: Option<&dyn LoginAgent>,
        challenge: Option<&str>,
        more_scopes: Vec<String>,
        earlier: Option<&Grant>,
    ) -> Result<Live> {
        let live = if self.0.spec.grant.is_headless() {
            self.headless_grant(challenge, more_scopes, earlier).await?
        } else {
            let agent = agent.ok_or_else(|| self.login_needed())?;
            let answered = self
                .ask_person(agent, challenge, more_scopes, earlier)
                .await?;
            self.take_answer(answered).await?
        };
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
            let found = discover(&http, &inner.server, &inner.spec, challenge.as_deref()).await?;
            let scopes = account.scopes(&found, &more_scopes);
            let grant = headless::obtain(&http, found, &inner.spec, &inner.key, scopes).await?;
            inner.store.save(&grant).await?;
            account.adopt(grant)
        })
        .await
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
        let found = discover(&http, &inner.server, &inner.spec, challenge).await?;
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
        let redirect = receiver.receive(&pending.prompt).await?;
        Ok(Answered {
            pending,
            redirect,
            receiver,
        })
    }

    /// Exchanges what the redirect brought, stores it and puts it to use. Call it with the flight
    /// held.
    async fn take_answer(&self, answered: Answered) -> Result<Live> {
        let Answered {
            pending,
            redirect,
            mut receiver,
        } = answered;
        let account = self.clone();
        // From here on the code is used up: what it brings must reach the store.
        let outcome = detached(async move {
            let grant = pending.finish(&redirect).await?;
            let _lock = account.0.store.lock(&account.0.key).await?;
            account.0.store.save(&grant).await?;
            account.adopt(grant)
        })
        .await;
        receiver.finished(outcome.as_ref().map(|_| ())).await;
        outcome
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
        refused(format!("a login is needed at {}", self.0.key.server))
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("key", &self.0.key).finish()
    }
}

/// Runs to the end, whatever becomes of the caller. Every step inside is bounded in time.
async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    tokio::spawn(work).await.map_err(|error| {
        Error::new(ErrorKind::Internal, "the credentials were not renewed").with_source(error)
    })?
}

fn parse_endpoint(url: &str) -> Result<Url> {
    Url::parse(url).map_err(|_| {
        refused("the stored login is damaged: its endpoint is not a URL; log in again")
    })
}

/// The server's URL without what is no part of its identity, or secret: user, query, fragment.
fn server_url(http: &HttpSpec) -> Result<Url> {
    Url::parse(&http.url)
        .ok()
        .and_then(|url| Url::parse(&redacted(&url)).ok())
        .filter(|url| url.has_host())
        .ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidSpec,
                format!("the url {} is not valid", http.redacted_url()),
            )
        })
}

/// The port of the redirect URI with which the client was registered before.
fn registered_port(earlier: Option<&Grant>) -> Option<u16> {
    Url::parse(earlier?.redirect_uri.as_ref()?).ok()?.port()
}

fn env_proxies() -> impl Iterator<Item = String> {
    ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"]
        .into_iter()
        .flat_map(|name| [name.to_owned(), name.to_ascii_lowercase()])
        .filter_map(|name| std::env::var(name).ok())
}
