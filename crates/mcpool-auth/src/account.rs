//! The tokens of one server in use: gives requests their credentials, and renews them, once for
//! all who wait.

mod logins;
mod requests;

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mcpool_core::{Error, ErrorKind, HttpSpec, Masker, OAuthSpec, Result, Secret, Sensitivity};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use url::Url;

use crate::{
    address::AddressPolicy,
    binding::Binding,
    dpop::DpopKey,
    error::refused,
    features,
    grant::{ClientAuth, Grant, GrantKey, now},
    guarded_client::proxy_hosts,
    http::OAuthHttp,
    login::{LoginAgent, request::ClientIdentity},
    secrets::read_secret,
    shown::redacted,
    store::TokenStore,
    token::{self, Client, TokenFailure},
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
    /// What the settings say. Where they say nothing, the login that there is binds.
    binding: Binding,
    policy: AddressPolicy,
    masker: Masker,
    store: Arc<dyn TokenStore>,
    agent: Option<Arc<dyn LoginAgent>>,
    identity: ClientIdentity,
    /// The grant in use.
    live: watch::Sender<Option<Live>>,
    /// The token that the server refused last; `None` when a request without one was refused.
    refused: Refused,
    /// Held by a login that waits for a person. What needs no person goes on meanwhile.
    login: tokio::sync::Mutex<()>,
    /// Held by the one that renews. Everybody else waits here, and finds the new token then.
    flight: tokio::sync::Mutex<Flight>,
}

/// The token that a server refused last, for all accounts with one key.
pub(crate) type Refused = Arc<Mutex<Option<Secret>>>;

/// The grant in use.
#[derive(Clone)]
struct Live {
    grant: Arc<Grant>,
    dpop: Option<Arc<DpopKey>>,
    since: Instant,
}

/// What came of a renewal.
struct Renewed {
    live: Live,
    /// Whether it was refreshed here. Another process may have done so, and its token may have ended
    /// as well: its clock is another one.
    by_us: bool,
}

#[derive(Default)]
struct Flight {
    step_ups: u32,
    last_step_up: Option<Instant>,
    /// The token that our last refresh after a 401 brought, and when.
    from_refresh: Option<(Secret, Instant)>,
    /// When the last login or headless grant was.
    granted: Option<Instant>,
}

impl Account {
    pub(crate) fn new(
        http: HttpSpec,
        spec: OAuthSpec,
        masker: Masker,
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
        let mut policy = AddressPolicy::new(&server, &configured, proxy_hosts(&http, &server));
        if http.allow_cleartext_credentials {
            policy = policy.with_cleartext_server(&server);
        }
        let key = GrantKey::new(server.as_str(), spec.account.clone());
        Ok(Self(Arc::new(Inner {
            refused: refused(&key),
            key,
            binding: Binding::configured(&spec),
            policy,
            masker,
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

    /// # Errors
    /// [`InvalidSpec`](ErrorKind::InvalidSpec) when a secret of the settings is bound to nobody, or
    /// this build lacks a feature that they need.
    pub(crate) fn check(&self) -> Result<()> {
        features::check(&self.0.spec)?;
        self.0.spec.validate()
    }

    /// Whether anybody else has it.
    pub(crate) fn is_in_use(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Whether it was made for the very same server and settings.
    pub(crate) fn has_settings_of(&self, other: &Self) -> bool {
        self.0.http == other.0.http && self.0.spec == other.0.spec
    }

    /// The newest stored grant, whether or not it is in use. One of another authorization server
    /// than the configured one is as none.
    pub(crate) async fn stored(&self) -> Result<Option<Grant>> {
        let grants = self.0.store.load(&self.0.key).await?;
        let is_bound = |grant: &Grant| self.0.binding.accepts(&grant.issuer);
        Ok(grants.into_iter().find(is_bound))
    }

    /// Revokes, where the authorization server can (RFC 7009), and forgets. Whether there was
    /// anything.
    pub(crate) async fn log_out(&self) -> Result<bool> {
        let _flight = self.0.flight.lock().await;
        let _lock = self.0.store.lock(&self.0.key).await?;
        // Logging out is the way out of a store that cannot be read.
        let grants = self
            .0
            .store
            .load(&self.0.key)
            .await
            .unwrap_or_else(|error| {
                tracing::warn!(server = %self.0.key.server, %error, "the tokens are not revoked");
                Vec::new()
            });
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
                .await?;
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
        // A server may say them back.
        let secrets = [
            Some(&grant.access_token),
            grant.refresh_token.as_ref(),
            grant.client_secret.as_ref(),
            grant.dpop_key.as_ref(),
        ];
        for secret in secrets.into_iter().flatten() {
            self.0.masker.add(secret.expose(), Sensitivity::Secret);
        }
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
        let client =
            crate::guarded_client::build(&self.0.http, &self.0.server, &self.0.policy).await?;
        let http = OAuthHttp::new(client, self.0.masker.clone());
        if let Some((endpoint, key)) = dpop {
            http.sign_with(endpoint.clone(), Arc::clone(key));
        }
        Ok(Arc::new(http))
    }

    /// The client that a grant belongs to. A configured secret is read each time, and goes to the
    /// authorization server only that it is for.
    async fn client_of(&self, grant: &Grant) -> Result<Client> {
        let inner = &self.0;
        let secret = match (&grant.client_secret, &inner.spec.client_secret) {
            (Some(secret), _) => Some(secret.clone()),
            (None, Some(source))
                if inner.spec.client_id.as_ref() == Some(&grant.client_id)
                    && inner.spec.is_bound()
                    && inner.binding.accepts(&grant.issuer) =>
            {
                Some(read_secret(source, "the client secret", &inner.masker).await?)
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
    async fn renew(&self, stale: &Live) -> Result<Option<Renewed>> {
        let account = self.clone();
        let stale = stale.clone();
        // Runs to its end even if the caller goes away: a refresh token may be good only once,
        // and what it brought must reach the store.
        detached(async move { account.renew_under_lock(&stale).await }).await
    }

    async fn renew_under_lock(&self, stale: &Live) -> Result<Option<Renewed>> {
        let _lock = self.0.store.lock(&self.0.key).await?;
        let stored = self.stored().await?;
        let grant = match stored {
            Some(grant) if grant.access_token != stale.grant.access_token => {
                if !grant.is_stale(now()) {
                    tracing::debug!(server = %self.0.key.server, "another process refreshed");
                    let live = self.adopt(grant)?;
                    return Ok(Some(Renewed { live, by_us: false }));
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
                let live = self.adopt(grant)?;
                Ok(Some(Renewed { live, by_us: true }))
            }
            Err(TokenFailure::Rejected(answer)) => {
                tracing::warn!(
                    server = %self.0.key.server,
                    error = %answer.error,
                    "the refresh token was refused: a login is needed"
                );
                let mut dead = grant;
                dead.refresh_token = None;
                if answer.is_about_the_client() {
                    // The next login registers again.
                    dead.redirect_uri = None;
                }
                self.0.store.save(&dead).await?;
                self.adopt(dead)?;
                Ok(None)
            }
            Err(TokenFailure::Other(error)) => Err(error),
        }
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("key", &self.0.key).finish()
    }
}

/// Runs to the end, whatever becomes of the caller. Every step inside is bounded in time.
async fn detached<T: Send + 'static, E: From<Error> + Send + 'static>(
    work: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Result<T, E> {
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
            // Nothing of it is shown: it may be a secret in the wrong place.
            Error::new(ErrorKind::InvalidSpec, "the url is not a URL")
        })
}
