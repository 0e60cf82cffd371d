//! A login by a person: the authorization-code flow with PKCE, up to the point where a browser
//! takes over, and from the redirect on.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use mcpool_core::{DpopChoice, Error, ErrorKind, OAuthSpec, Result, Secret};
use rmcp::transport::auth::OAuthClientConfig;
use url::Url;

use crate::{
    discovery::Discovered,
    dpop::DpopKey,
    error::{Step, from_http, from_rmcp, no_pkce, refused},
    grant::{ClientAuth, Grant, GrantKey, TokenKind, now},
    http::{CODE_PLACEHOLDER, OAuthHttp, shorten},
    token::{Tokens, read_secret},
};

/// Brings a person to the authorization server and the answer back. The seam for applications
/// with a user interface of their own; [`InteractiveLogin`](crate::InteractiveLogin) is the one
/// for a terminal with a browser beside it.
#[async_trait]
pub trait LoginAgent: Send + Sync + fmt::Debug {
    /// Gets ready to receive the redirect, before anything is asked.
    ///
    /// # Errors
    /// When it cannot, for example because the port is taken.
    async fn prepare(&self, redirect_port: Option<u16>) -> Result<Box<dyn RedirectReceiver>>;
}

/// Waits for one redirect.
#[async_trait]
pub trait RedirectReceiver: Send {
    /// Where the browser is to be sent back to.
    fn redirect_uri(&self) -> &str;

    /// Shows the person the way and waits; gives the whole URL of the redirect.
    ///
    /// Dropping the future gives the login up.
    ///
    /// # Errors
    /// [`AuthRequired`](ErrorKind::AuthRequired) when the person did not log in.
    async fn receive(&mut self, prompt: &LoginPrompt) -> Result<String>;

    /// Told how the login ended, once, so that the browser can show it.
    async fn finished(&mut self, _outcome: std::result::Result<(), &Error>) {}
}

/// What a person has to be shown for a login.
#[derive(Clone)]
#[non_exhaustive]
pub struct LoginPrompt {
    /// The URL of the MCP server.
    pub server: String,
    /// Who will ask for the password.
    pub issuer: String,
    /// What is asked for.
    pub scopes: Vec<String>,
    /// The URL to open in a browser. Good for one login; not a secret.
    pub url: String,
    /// The `state` that the redirect has to bring back.
    pub state: String,
}

impl fmt::Debug for LoginPrompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginPrompt")
            .field("server", &self.server)
            .field("issuer", &self.issuer)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

/// What this client is called, and where its metadata document is, unless the spec says.
#[derive(Debug, Clone)]
pub(crate) struct ClientIdentity {
    pub(crate) name: String,
    pub(crate) metadata_url: Option<String>,
}

/// A login that waits for its redirect.
pub(crate) struct PendingLogin {
    http: Arc<OAuthHttp>,
    discovered: Discovered,
    key: GrantKey,
    client: OAuthClientConfig,
    /// Whether the secret came with a registration, and has to be kept.
    registered: bool,
    scopes: Vec<String>,
    dpop: Option<Arc<DpopKey>>,
    dpop_choice: DpopChoice,
    pub(crate) prompt: LoginPrompt,
}

/// Whose login it is, and what for.
pub(crate) struct LoginRequest<'a> {
    pub(crate) spec: &'a OAuthSpec,
    pub(crate) identity: &'a ClientIdentity,
    pub(crate) key: &'a GrantKey,
    /// The grant that there was, whose registration may be used again.
    pub(crate) earlier: Option<&'a Grant>,
    pub(crate) scopes: Vec<String>,
    pub(crate) redirect_uri: &'a str,
}

/// Prepares a login: registers the client if it must, and makes the URL.
pub(crate) async fn begin(
    http: Arc<OAuthHttp>,
    mut discovered: Discovered,
    request: LoginRequest<'_>,
) -> Result<PendingLogin> {
    let metadata = &discovered.metadata;
    // MCP 2025-11-25: metadata that does not name S256 means no PKCE, and then the client must
    // refuse. Without any metadata (2025-03-26) there is nothing to go by, and S256 is sent.
    let offers_s256 = metadata
        .code_challenge_methods_supported
        .as_ref()
        .is_some_and(|methods| methods.iter().any(|method| method == "S256"));
    if discovered.published && !offers_s256 {
        return Err(refused(no_pkce()));
    }
    let endpoint = Url::parse(&metadata.authorization_endpoint)
        .map_err(|_| refused("the authorization server's login page is not a URL"))?;
    http.check(&endpoint)
        .map_err(|failure| from_http(&failure))?;

    let supported = metadata.scopes_supported.as_deref();
    let scopes = with_offline_access(request.scopes.clone(), supported);
    let (client, registered) = client(&http, &mut discovered, &request, &scopes).await?;
    let step = |error| from_rmcp(&error, Step::Registration, &http);
    let manager = &mut discovered.manager;
    manager.configure_client(client.clone()).map_err(step)?;
    let names: Vec<&str> = scopes.iter().map(String::as_str).collect();
    let url = manager.get_authorization_url(&names).await.map_err(step)?;
    let state = Url::parse(&url)
        .ok()
        .and_then(|url| query(&url, "state"))
        .ok_or_else(|| Error::new(ErrorKind::Internal, "the login URL has no state"))?;
    let dpop = if discovered.dpop {
        let dpop = Arc::new(DpopKey::generate()?);
        http.sign_with(discovered.token_endpoint.clone(), Arc::clone(&dpop));
        Some(dpop)
    } else {
        None
    };
    Ok(PendingLogin {
        prompt: LoginPrompt {
            server: request.key.server.clone(),
            issuer: discovered.issuer.clone(),
            scopes: scopes.clone(),
            url,
            state,
        },
        http,
        discovered,
        key: request.key.clone(),
        client,
        registered,
        scopes,
        dpop,
        dpop_choice: request.spec.dpop,
    })
}

impl PendingLogin {
    /// Takes the redirect and exchanges its code. A redirect is good once.
    pub(crate) async fn finish(&self, redirect: &str) -> Result<Grant> {
        let redirect = Url::parse(redirect.trim()).map_err(|_| {
            refused("that is not the URL of a redirect; copy it whole from the address bar")
        })?;
        let get = |name: &str| query(&redirect, name);
        if get("state").as_deref() != Some(self.prompt.state.as_str()) {
            return Err(refused(
                "refused for safety: this redirect belongs to no login that is waiting: it was \
                 used before, or is from another login; start the login again",
            ));
        }
        let issuer = get("iss");
        if let Some(error) = get("error") {
            // Whoever sends an error may be as false as whoever sends a code (RFC 9207).
            if issuer.is_some() && issuer != self.discovered.metadata.issuer {
                return Err(refused(
                    "refused for safety: the answer came from another authorization server than \
                     the login was started at (RFC 9207)",
                ));
            }
            let why = get("error_description").unwrap_or_default();
            return Err(refused(
                format!(
                    "{} did not log you in: {} {}",
                    shorten(&self.prompt.issuer),
                    shorten(&error),
                    shorten(&why)
                )
                .trim_end()
                .to_owned(),
            ));
        }
        let code = get("code").ok_or_else(|| {
            refused("the redirect carries no code; copy it whole from the address bar")
        })?;
        self.http.set_code(Secret::new(code));
        let response = self
            .discovered
            .manager
            .exchange_code_for_token_with_issuer(
                CODE_PLACEHOLDER,
                &self.prompt.state,
                issuer.as_deref(),
            )
            .await
            .map_err(|error| from_rmcp(&error, Step::Callback, &self.http))?;
        self.grant(Tokens::from_rmcp(&response)?)
    }

    fn grant(&self, tokens: Tokens) -> Result<Grant> {
        let bound = tokens.kind == TokenKind::Dpop;
        if self.dpop_choice == DpopChoice::Always && !bound {
            return Err(refused("the token is not bound to a key, as dpop demands"));
        }
        if bound && self.dpop.is_none() {
            return Err(refused(
                "the authorization server gave a token that is bound to a key, and none was sent",
            ));
        }
        let secret = self.client.client_secret.clone().map(Secret::new);
        let grant = Grant {
            key: self.key.clone(),
            issuer: self.discovered.issuer.clone(),
            resource: self.discovered.resource.clone(),
            token_endpoint: self.discovered.token_endpoint.to_string(),
            revocation_endpoint: self.discovered.text("revocation_endpoint"),
            client_id: self.client.client_id.clone(),
            client_auth: if secret.is_some() {
                self.discovered.client_auth(true)
            } else {
                ClientAuth::None
            },
            client_secret: secret.filter(|_| self.registered),
            redirect_uri: self.registered.then(|| self.client.redirect_uri.clone()),
            access_token: tokens.access.clone(),
            kind: tokens.kind,
            refresh_token: None,
            // Scopes that the answer does not name were granted as asked (RFC 6749, section 5.1).
            scopes: self.scopes.clone(),
            wanted_scopes: Vec::new(),
            issued_at: now(),
            expires_at: None,
            dpop_key: self
                .dpop
                .as_ref()
                .filter(|_| bound)
                .map(|dpop| dpop.pkcs8().clone()),
        };
        Ok(tokens.renew(grant))
    }
}

/// Who we are at this authorization server: a registered client, an earlier registration, a
/// client-id metadata document, a new registration, in this order (MCP 2025-11-25, "Client
/// Registration Approaches").
async fn client(
    http: &Arc<OAuthHttp>,
    discovered: &mut Discovered,
    request: &LoginRequest<'_>,
    scopes: &[String],
) -> Result<(OAuthClientConfig, bool)> {
    let LoginRequest {
        spec,
        identity,
        earlier,
        redirect_uri,
        ..
    } = *request;
    if let Some(id) = &spec.client_id {
        let mut client = OAuthClientConfig::new(id, redirect_uri);
        if let Some(source) = &spec.client_secret {
            let secret = read_secret(source, "the client secret").await?;
            client = client.with_client_secret(secret.expose());
        }
        return Ok((client, false));
    }
    // Client ids never leave their issuer (MCP 2026-07-28, authorization server binding).
    if let Some(grant) = earlier
        && grant.issuer == discovered.issuer
        && grant.redirect_uri.as_deref() == Some(redirect_uri)
    {
        let mut client = OAuthClientConfig::new(&grant.client_id, redirect_uri);
        if let Some(secret) = &grant.client_secret {
            client = client.with_client_secret(secret.expose());
        }
        return Ok((client, true));
    }
    let takes_documents = discovered
        .metadata
        .additional_fields
        .get("client_id_metadata_document_supported")
        .and_then(serde_json::Value::as_bool)
        .unwrap_or(false);
    let document = spec
        .client_metadata_url
        .as_ref()
        .or(identity.metadata_url.as_ref());
    if let Some(document) = document
        && takes_documents
    {
        if !document.starts_with("https://") {
            return Err(Error::new(
                ErrorKind::InvalidSpec,
                "the client metadata document needs an https URL",
            ));
        }
        return Ok((OAuthClientConfig::new(document, redirect_uri), false));
    }
    if discovered.metadata.registration_endpoint.is_none() {
        return Err(refused(format!(
            "{} does not let clients register themselves: register one there with the redirect \
             URI {redirect_uri}, and set client_id",
            shorten(&discovered.issuer)
        )));
    }
    let names: Vec<&str> = scopes.iter().map(String::as_str).collect();
    let client = discovered
        .manager
        .register_client(&identity.name, redirect_uri, &names)
        .await
        .map_err(|error| from_rmcp(&error, Step::Registration, http))?;
    Ok((client, true))
}

/// Asks for a refresh token where the authorization server wants to be asked (MCP 2026-07-28,
/// "Refresh Tokens").
fn with_offline_access(mut scopes: Vec<String>, supported: Option<&[String]>) -> Vec<String> {
    const OFFLINE: &str = "offline_access";
    let offered = supported.is_some_and(|list| list.iter().any(|scope| scope == OFFLINE));
    if offered && !scopes.is_empty() && !scopes.iter().any(|scope| scope == OFFLINE) {
        scopes.push(OFFLINE.to_owned());
    }
    scopes
}

pub(crate) fn query(url: &Url, name: &str) -> Option<String> {
    url.query_pairs()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}
