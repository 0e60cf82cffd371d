//! A login by a person: the authorization-code flow with PKCE, up to the point where a browser
//! takes over, and from the redirect on.

pub(crate) mod request;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use mcpool_core::{DpopChoice, Error, Result, Secret};
use oauth2::{CsrfToken, PkceCodeChallenge, PkceCodeVerifier};
use url::Url;

use self::request::LoginRequest;
use crate::{
    answers::Tokens,
    binding::OtherIssuer,
    discovery::Discovered,
    dpop::DpopKey,
    error::{no_pkce, refused},
    grant::{Grant, GrantKey, TokenKind, now},
    http::OAuthHttp,
    registration::{self, Known},
    shown::shorten,
    token::{self, TokenFailure},
};

/// A longer URL is none that a browser, or a person, can take.
const MAX_LOGIN_URL: usize = 16 * 1024;

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

    /// Whether to log in at another authorization server than the one that the login there is was
    /// made at (MCP 2026-07-28, "Authorization Server Binding"). Nothing of the old one is used
    /// then: the client registers itself again.
    ///
    /// Asked before the new one is. Default: no; the login is an error that names both.
    async fn allows_other_issuer(&self, _change: &IssuerChange) -> bool {
        false
    }
}

/// A server names another authorization server than before: it moved, or it is after a login.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IssuerChange {
    /// The URL of the MCP server.
    pub server: String,
    /// The authorization server that the login there is was made at.
    pub bound: String,
    /// The authorization server that the MCP server names now. Its own words: show them cleaned.
    pub found: String,
}

impl IssuerChange {
    pub(crate) fn new(key: &GrantKey, change: &OtherIssuer) -> Self {
        Self {
            server: key.server.clone(),
            bound: change.bound.clone(),
            found: change.found.clone(),
        }
    }
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
    /// [`AuthRequired`](mcpool_core::ErrorKind::AuthRequired) when the person did not log in.
    async fn receive(&mut self, prompt: &LoginPrompt) -> Result<String>;

    /// Gets the outcome of the login, once, so that the browser can show it.
    async fn finished(&mut self, _outcome: std::result::Result<(), &Error>) {}
}

impl fmt::Debug for dyn RedirectReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedirectReceiver")
    }
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

/// A login that waits for its redirect.
pub(crate) struct PendingLogin {
    http: Arc<OAuthHttp>,
    discovered: Discovered,
    key: GrantKey,
    known: Known,
    verifier: PkceCodeVerifier,
    redirect_uri: String,
    scopes: Vec<String>,
    dpop: Option<Arc<DpopKey>>,
    dpop_choice: DpopChoice,
    pub(crate) prompt: LoginPrompt,
}

/// Why a redirect led to no tokens.
#[derive(Debug)]
pub(crate) enum LoginFailure {
    /// The authorization server does not know the registration of an earlier login any more.
    ForgottenClient(Error),
    /// Anything else.
    Other(Error),
}

impl From<Error> for LoginFailure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl LoginFailure {
    pub(crate) fn error(&self) -> &Error {
        match self {
            Self::ForgottenClient(error) | Self::Other(error) => error,
        }
    }
}

impl From<LoginFailure> for Error {
    fn from(failure: LoginFailure) -> Self {
        match failure {
            LoginFailure::ForgottenClient(error) | LoginFailure::Other(error) => error,
        }
    }
}

/// Prepares a login: registers the client if it must, and makes the URL.
pub(crate) async fn begin(
    http: Arc<OAuthHttp>,
    discovered: Discovered,
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
    let offers_code = |types: &Vec<String>| types.iter().any(|kind| kind == "code");
    if !metadata
        .response_types_supported
        .as_ref()
        .is_none_or(offers_code)
    {
        return Err(refused(format!(
            "{} offers no login that ends with a code",
            shorten(&discovered.issuer)
        )));
    }
    let mut endpoint = Url::parse(&metadata.authorization_endpoint)
        .map_err(|_| refused("the authorization server's login page is not a URL"))?;
    http.check(&endpoint)?;

    let supported = metadata.scopes_supported.as_deref();
    let scopes = with_offline_access(request.scopes.clone(), supported);
    let known = registration::client(&http, &discovered, &request, &scopes).await?;
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let state = CsrfToken::new_random().into_secret();
    {
        let mut query = endpoint.query_pairs_mut();
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", &known.client.id)
            .append_pair("redirect_uri", request.redirect_uri)
            .append_pair("state", &state)
            .append_pair("code_challenge", challenge.as_str())
            .append_pair("code_challenge_method", challenge.method().as_str())
            .append_pair("resource", &discovered.resource);
        if !scopes.is_empty() {
            query.append_pair("scope", &scopes.join(" "));
        }
    }
    let url = String::from(endpoint);
    if url.len() > MAX_LOGIN_URL {
        return Err(refused(format!(
            "the login's URL would be {} bytes long, and {MAX_LOGIN_URL} is the most: set scopes \
             to the ones that are wanted",
            url.len()
        )));
    }
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
        known,
        verifier,
        redirect_uri: request.redirect_uri.to_owned(),
        scopes,
        dpop,
        dpop_choice: request.spec.dpop,
    })
}

impl PendingLogin {
    /// Whether it goes by the registration of an earlier login.
    pub(crate) fn reuses_registration(&self) -> bool {
        self.known.reused
    }

    /// Takes the redirect and exchanges its code. A redirect is good once.
    pub(crate) async fn finish(self, redirect: &str) -> Result<Grant, LoginFailure> {
        let redirect = Url::parse(redirect.trim()).map_err(|_| {
            refused("that is not the URL of a redirect; copy it whole from the address bar")
        })?;
        let get = |name: &str| query(&redirect, name);
        if get("state").as_deref() != Some(self.prompt.state.as_str()) {
            return Err(refused(
                "refused for safety: this redirect belongs to no login that is waiting: it was \
                 used before, or is from another login; start the login again",
            )
            .into());
        }
        let (error, code) = (get("error"), get("code").map(Secret::new));
        if error.is_none() && code.is_none() {
            return Err(no_code().into());
        }
        // The sender of an error may be as false as the sender of a code.
        self.check_sender(get("iss").as_deref(), error.is_some())?;
        if let Some(error) = error {
            let why = get("error_description").unwrap_or_default();
            let refusal = refused(
                format!(
                    "{} did not log you in: {} {}",
                    shorten(&self.prompt.issuer),
                    shorten(&error),
                    shorten(&why)
                )
                .trim_end()
                .to_owned(),
            );
            let unknown = matches!(error.as_str(), "invalid_client" | "unauthorized_client");
            return Err(match unknown && self.known.reused {
                true => LoginFailure::ForgottenClient(refusal),
                false => refusal.into(),
            });
        }
        let code = code.ok_or_else(no_code)?;
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", code.expose()),
            ("redirect_uri", self.redirect_uri.as_str()),
            ("code_verifier", self.verifier.secret()),
            ("resource", self.discovered.resource.as_str()),
        ];
        let tokens = token::request(
            &self.http,
            &self.discovered.token_endpoint,
            Some(&self.known.client),
            &fields,
        )
        .await
        .map_err(|failure| match failure {
            TokenFailure::Other(error) => error.into(),
            TokenFailure::Rejected(answer) => {
                let refusal = refused(format!("the login was not completed: {answer}"));
                match answer.is_about_the_client() && self.known.reused {
                    true => LoginFailure::ForgottenClient(refusal),
                    false => refusal.into(),
                }
            }
        })?;
        Ok(self.grant(tokens)?)
    }

    /// Whether the redirect came from where the login was started (RFC 9207, section 2.4).
    fn check_sender(&self, sender: Option<&str>, is_error: bool) -> Result<()> {
        let metadata = &self.discovered.metadata;
        let promised = metadata
            .additional_fields
            .get("authorization_response_iss_parameter_supported")
            .and_then(serde_json::Value::as_bool)
            .unwrap_or(false);
        match (sender, &metadata.issuer) {
            (Some(sender), Some(issuer)) if sender == issuer => Ok(()),
            // Without metadata nobody knows who that would be.
            (Some(sender), issuer) => Err(refused(format!(
                "refused for safety: the answer came from {}, but the login was started at {} \
                 (RFC 9207)",
                shorten(sender),
                shorten(issuer.as_deref().unwrap_or(&self.discovered.issuer))
            ))),
            (None, _) if promised && !is_error => Err(refused(format!(
                "refused for safety: {} promised to name itself in its answer, and the answer \
                 names nobody (RFC 9207)",
                shorten(&self.discovered.issuer)
            ))),
            (None, _) => Ok(()),
        }
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
        let Known {
            client, registered, ..
        } = &self.known;
        let grant = Grant {
            key: self.key.clone(),
            issuer: self.discovered.issuer.clone(),
            resource: self.discovered.resource.clone(),
            token_endpoint: self.discovered.token_endpoint.to_string(),
            revocation_endpoint: self.discovered.text("revocation_endpoint"),
            client_id: client.id.clone(),
            client_auth: client.auth,
            client_secret: client.secret.clone().filter(|_| *registered),
            redirect_uri: registered.then(|| self.redirect_uri.clone()),
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

fn no_code() -> Error {
    refused("the redirect carries no code; copy it whole from the address bar")
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
