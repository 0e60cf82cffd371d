//! The front: credentials for every server, and the verbs of a user: log in, log out, look.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use mcpool_core::{
    Authenticator, AuthenticatorProvider, Error, ErrorKind, HttpSpec, OAuthGrant, Result,
    ServerSpec, TransportSpec,
};

use crate::{
    Grant, GrantKey, LoginAgent, TokenStore, account::Account, grant::now,
    login::request::ClientIdentity,
};

/// Beyond so many servers, the ones that nobody uses just now are forgotten; what is stored of
/// them stays.
const MAX_ACCOUNTS: usize = 1024;

/// OAuth for all servers of an application.
///
/// Give it to the client factory, and each HTTP server gets the credentials that the store has
/// for it. A server that wants a login and has none ends in
/// [`AuthRequired`](ErrorKind::AuthRequired); [`login`](Self::login) helps, and so does an agent
/// that logs in by itself ([`with_agent`](Self::with_agent)). Headless grants need neither.
///
/// Clones share everything.
///
/// ```
/// use std::sync::Arc;
/// use mcpool_auth::{MemoryStore, OAuth};
///
/// let oauth = OAuth::new(Arc::new(MemoryStore::new())).with_client_name("My application");
/// # let _ = oauth;
/// ```
#[derive(Clone)]
pub struct OAuth {
    store: Arc<dyn TokenStore>,
    agent: Option<Arc<dyn LoginAgent>>,
    identity: ClientIdentity,
    accounts: Arc<Mutex<HashMap<GrantKey, Account>>>,
}

impl fmt::Debug for OAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuth")
            .field("store", &self.store)
            .field("agent", &self.agent)
            .finish_non_exhaustive()
    }
}

impl OAuth {
    /// OAuth with the tokens of this store.
    #[must_use]
    pub fn new(store: Arc<dyn TokenStore>) -> Self {
        Self {
            store,
            agent: None,
            identity: ClientIdentity {
                name: "mcpool".to_owned(),
                metadata_url: None,
            },
            accounts: Arc::default(),
        }
    }

    /// Logs in with this agent as soon as a server asks for it, in the middle of a request.
    ///
    /// For agents that answer by themselves. A person may take minutes, and the request that
    /// waits has a timeout: leave it out then, and call [`login`](Self::login).
    #[must_use]
    pub fn with_agent(mut self, agent: Arc<dyn LoginAgent>) -> Self {
        self.agent = Some(agent);
        self
    }

    /// Sets the name under which this client registers itself. Default `mcpool`.
    #[must_use]
    pub fn with_client_name(mut self, name: impl Into<String>) -> Self {
        self.identity.name = name.into();
        self
    }

    /// Sets the https URL of this client's metadata document, for servers whose spec has none.
    #[must_use]
    pub fn with_client_metadata_url(mut self, url: impl Into<String>) -> Self {
        self.identity.metadata_url = Some(url.into());
        self
    }

    /// Logs in at a server: by the agent, or by the spec's headless grant. What there was before
    /// is replaced; scopes that were granted, or missing, before are asked for again.
    ///
    /// `challenge` is the `WWW-Authenticate` header that the server sent, where it is known (see
    /// [`Error::challenge`]); without it the server is asked for one.
    ///
    /// A manager whose factory has this `OAuth`, or one that shares the store, connects the server
    /// at once if it waits for a login.
    ///
    /// Dropping the future gives the login up; a login whose code was taken already is stored
    /// all the same.
    ///
    /// # Errors
    /// [`AuthRequired`](ErrorKind::AuthRequired) when the login failed or was refused for
    /// safety, which is also so when the server names another authorization server than the one
    /// that is configured, or that the login there was made at: log out first if that is right;
    /// [`Connect`](ErrorKind::Connect) when somebody cannot be reached;
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) where the tokens would not be used: for a
    /// stdio server, with OAuth off, and where the spec has its own `Authorization` header;
    /// [`InvalidSpec`](ErrorKind::InvalidSpec) as [`OAuthSpec::validate`](mcpool_core::OAuthSpec::validate);
    /// [`Unresolved`](ErrorKind::Unresolved) when the spec has placeholders without a value.
    pub async fn login(
        &self,
        spec: &ServerSpec,
        agent: &dyn LoginAgent,
        challenge: Option<&str>,
    ) -> Result<LoginStatus> {
        let named = |error: Error| error.with_server(&spec.name).with_operation("login");
        let spec = spec.resolved().await.map_err(named)?;
        let account = self.in_use(&spec).map_err(named)?;
        let account = account.ok_or_else(|| named(unused(&spec)))?;
        let grant = account.log_in(agent, challenge).await.map_err(named)?;
        Ok(LoginStatus::of(account.key().clone(), Some(&grant), &spec))
    }

    /// Forgets the tokens of a server, and revokes them where the authorization server can
    /// (RFC 7009). Whether there were any.
    ///
    /// A spec whose placeholders have no value is good enough to forget, if its URL has none.
    ///
    /// # Errors
    /// When the store cannot be written; that revoking failed is only logged.
    pub async fn logout(&self, spec: &ServerSpec) -> Result<bool> {
        let named = |error: Error| error.with_server(&spec.name).with_operation("logout");
        let spec = match spec.resolved().await {
            Ok(resolved) => resolved,
            Err(error) if names_its_account(spec) => {
                tracing::warn!(server = %spec.name, %error, "the tokens may not be revoked");
                spec.clone()
            }
            Err(error) => return Err(named(error)),
        };
        let account = self.new_account(&spec).map_err(named)?;
        // The one in use, which is the one that has to forget.
        let known = self.accounts().get(account.key()).cloned();
        known.unwrap_or(account).log_out().await.map_err(named)
    }

    /// What is stored for a server. Asks nobody.
    ///
    /// # Errors
    /// When the store cannot be read; [`InvalidArgument`](ErrorKind::InvalidArgument) for a stdio
    /// server; [`Unresolved`](ErrorKind::Unresolved) when its URL has placeholders without a
    /// value.
    pub async fn status(&self, spec: &ServerSpec) -> Result<LoginStatus> {
        let named = |error: Error| error.with_server(&spec.name).with_operation("auth status");
        let resolved;
        let spec = match names_its_account(spec) {
            // Nothing else has to be known, and no helper has to run for it.
            true => spec,
            false => {
                resolved = spec.resolved().await.map_err(named)?;
                &resolved
            }
        };
        let account = self.new_account(spec).map_err(named)?;
        let grant = account.stored().await.map_err(named)?;
        let mut status = LoginStatus::of(account.key().clone(), grant.as_ref(), spec);
        if http_of(spec).is_some_and(|http| !takes_tokens(http)) {
            status.state = LoginState::NotUsed;
        }
        Ok(status)
    }

    /// Whether a login by a person is of use at this server: it takes tokens, and its grant does not
    /// get them without one.
    #[must_use]
    pub fn needs_person(spec: &ServerSpec) -> bool {
        http_of(spec).is_some_and(takes_tokens) && !is_headless(spec)
    }

    /// The account that authorizes requests to this server, if one does.
    fn in_use(&self, spec: &ServerSpec) -> Result<Option<Account>> {
        match http_of(spec) {
            Some(http) if takes_tokens(http) => self.account(spec).map(Some),
            _ => Ok(None),
        }
    }

    /// The account of a server, one for all who have the same settings.
    fn account(&self, spec: &ServerSpec) -> Result<Account> {
        let account = self.new_account(spec)?;
        account.check()?;
        let mut accounts = self.accounts();
        if accounts.len() >= MAX_ACCOUNTS {
            accounts.retain(|_, account| account.is_in_use());
        }
        let known = accounts
            .entry(account.key().clone())
            .or_insert_with(|| account.clone());
        if !known.has_settings_of(&account) {
            *known = account;
        }
        Ok(known.clone())
    }

    fn new_account(&self, spec: &ServerSpec) -> Result<Account> {
        let http = http_of(spec).ok_or_else(|| unused(spec))?;
        Account::new(
            http.clone(),
            http.oauth.as_deref().cloned().unwrap_or_default(),
            spec.masker.clone(),
            Arc::clone(&self.store),
            self.agent.clone(),
            self.identity.clone(),
            |key| {
                let accounts = self.accounts();
                accounts.get(key).map(Account::refused).unwrap_or_default()
            },
        )
    }

    fn accounts(&self) -> MutexGuard<'_, HashMap<GrantKey, Account>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl AuthenticatorProvider for OAuth {
    async fn authenticator(&self, spec: &ServerSpec) -> Result<Option<Arc<dyn Authenticator>>> {
        let account = self.in_use(spec)?;
        Ok(account.map(|account| Arc::new(account) as Arc<dyn Authenticator>))
    }

    /// Returns when a login brought tokens, in this process or in another one that shares the
    /// store.
    async fn credentials_changed(&self, spec: &ServerSpec) {
        match self.in_use(spec) {
            Ok(Some(account)) => account.changed().await,
            _ => std::future::pending().await,
        }
    }
}

/// Whether tokens are sent to a server: not where OAuth is off, and not where the spec writes
/// the header itself and says nothing of OAuth.
fn takes_tokens(http: &HttpSpec) -> bool {
    match &http.oauth {
        Some(oauth) => oauth.grant != OAuthGrant::Off,
        None => !http
            .headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("authorization")),
    }
}

/// Whether it is known without resolving whose tokens are meant: the URL and the account hold no
/// placeholder.
fn names_its_account(spec: &ServerSpec) -> bool {
    http_of(spec).is_none_or(|http| {
        let account = http.oauth.as_ref().and_then(|oauth| oauth.account.as_ref());
        !http.url.contains('$') && !account.is_some_and(|account| account.contains('$'))
    })
}

fn is_headless(spec: &ServerSpec) -> bool {
    http_of(spec)
        .and_then(|http| http.oauth.as_ref())
        .is_some_and(|oauth| oauth.grant.is_headless())
}

/// Why a login at this server would be of no use.
fn unused(spec: &ServerSpec) -> Error {
    let why = match http_of(spec) {
        None => "only servers behind a URL have logins",
        Some(http) if http.oauth.is_some() => "OAuth is off for this server",
        Some(_) => "this server gets its own Authorization header: a login would not be used",
    };
    Error::new(ErrorKind::InvalidArgument, why)
}

fn http_of(spec: &ServerSpec) -> Option<&HttpSpec> {
    match &spec.transport {
        TransportSpec::Http(http) | TransportSpec::Sse(http) | TransportSpec::Auto(http) => {
            Some(http)
        }
        _ => None,
    }
}

/// Whether there is a login, and how long it lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoginStatus {
    /// The server, and the account there.
    pub key: GrantKey,
    /// Whether the stored tokens can be used.
    pub state: LoginState,
    /// Who issued them.
    pub issuer: Option<String>,
    /// What they allow.
    pub scopes: Vec<String>,
    /// What the server asked for beyond that: the next login asks for it.
    pub wanted_scopes: Vec<String>,
    /// When the access token ends.
    pub expires_at: Option<SystemTime>,
    /// Whether it is renewed without a person.
    pub renewable: bool,
}

/// Whether stored tokens can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoginState {
    /// None would be used: OAuth is off, or the spec has its own `Authorization` header.
    NotUsed,
    /// There are none.
    LoggedOut,
    /// They are good.
    LoggedIn,
    /// The access token has ended; the next request gets a new one.
    Refreshable,
    /// The access token has ended, and nothing renews it but a login.
    Ended,
}

impl LoginState {
    /// The word for it in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotUsed => "not_used",
            Self::LoggedOut => "logged_out",
            Self::LoggedIn => "logged_in",
            Self::Refreshable => "refreshable",
            Self::Ended => "ended",
        }
    }
}

impl LoginStatus {
    fn of(key: GrantKey, grant: Option<&Grant>, spec: &ServerSpec) -> Self {
        let Some(grant) = grant else {
            return Self {
                key,
                state: LoginState::LoggedOut,
                issuer: None,
                scopes: Vec::new(),
                wanted_scopes: Vec::new(),
                expires_at: None,
                renewable: false,
            };
        };
        let renewable = grant.refresh_token.is_some() || is_headless(spec);
        Self {
            key,
            state: match (grant.is_expired(now()), renewable) {
                (false, _) => LoginState::LoggedIn,
                (true, true) => LoginState::Refreshable,
                (true, false) => LoginState::Ended,
            },
            renewable,
            issuer: Some(grant.issuer.clone()),
            scopes: grant.scopes.clone(),
            wanted_scopes: grant.wanted_scopes.clone(),
            expires_at: grant
                .expires_at
                .map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds)),
        }
    }
}
