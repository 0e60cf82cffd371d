//! A person that says yes at once, and requests through the authenticator under test.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use mcpool_auth::{IssuerChange, LoginAgent, LoginPrompt, MemoryStore, OAuth, RedirectReceiver};
use mcpool_core::{
    Authenticator, AuthenticatorProvider, ConnectRequest, HttpSpec, OAuthSpec, Result, ServerSpec,
    TransportSpec,
};
use mcpool_http_pool::{ClientSettings, HttpPeer, HttpPool, PeerRequest};
use mcpool_testkit::fixtures::authz::{AuthzFixture, AuthzOptions};
use reqwest::{
    Method,
    header::{ACCEPT, CONTENT_TYPE, HeaderValue, LOCATION},
    redirect::Policy,
};

pub(crate) const REDIRECT: &str = "http://127.0.0.1:53682/callback";

/// Opens the login page without a browser, and takes the redirect from its answer.
#[derive(Default)]
pub(crate) struct Robot {
    pub(crate) logins: AtomicUsize,
    /// Gives this redirect instead of the real one.
    pub(crate) instead: std::sync::Mutex<Option<String>>,
    pub(crate) seen: Arc<std::sync::Mutex<Vec<(LoginPrompt, String)>>>,
    /// Whether it logs in at another authorization server than before.
    pub(crate) allows_other: bool,
    pub(crate) changes: std::sync::Mutex<Vec<IssuerChange>>,
    /// What happens, once, when the person has logged in and the code is not exchanged yet.
    pub(crate) meanwhile: Arc<std::sync::Mutex<Option<Meanwhile>>>,
}

type Meanwhile = Box<dyn FnOnce() -> Result<()> + Send>;

impl std::fmt::Debug for Robot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Robot")
    }
}

impl Robot {
    /// One to whom this happens between the login and the exchange of its code.
    pub(crate) fn meanwhile(work: impl FnOnce() -> Result<()> + Send + 'static) -> Self {
        let robot = Self::default();
        *robot.meanwhile.lock().unwrap() = Some(Box::new(work));
        robot
    }
}

#[async_trait]
impl LoginAgent for Robot {
    async fn prepare(&self, _port: Option<u16>) -> Result<Box<dyn RedirectReceiver>> {
        self.logins.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(RobotReceiver {
            instead: self.instead.lock().unwrap().take(),
            seen: Arc::clone(&self.seen),
            meanwhile: Arc::clone(&self.meanwhile),
        }))
    }

    async fn allows_other_issuer(&self, change: &IssuerChange) -> bool {
        self.changes.lock().unwrap().push(change.clone());
        self.allows_other
    }
}

struct RobotReceiver {
    instead: Option<String>,
    seen: Arc<std::sync::Mutex<Vec<(LoginPrompt, String)>>>,
    meanwhile: Arc<std::sync::Mutex<Option<Meanwhile>>>,
}

#[async_trait]
impl RedirectReceiver for RobotReceiver {
    fn redirect_uri(&self) -> &str {
        REDIRECT
    }

    async fn receive(&mut self, prompt: &LoginPrompt) -> Result<String> {
        let redirect = match self.instead.take() {
            Some(redirect) => redirect,
            None => follow(&prompt.url).await,
        };
        self.seen
            .lock()
            .unwrap()
            .push((prompt.clone(), redirect.clone()));
        let meanwhile = self.meanwhile.lock().unwrap().take();
        meanwhile.map_or(Ok(()), |happens| happens())?;
        Ok(redirect)
    }
}

/// Where the authorization server sends the browser.
pub(crate) async fn follow(url: &str) -> String {
    let response = plain_client().await.get(url).send().await.unwrap();
    let location = response
        .headers()
        .get(LOCATION)
        .unwrap_or_else(|| panic!("no redirect from {url}: {}", response.status()));
    location.to_str().unwrap().to_owned()
}

pub(crate) async fn plain_client() -> reqwest::Client {
    let url = "http://127.0.0.1:1/";
    ClientSettings::new(&HttpSpec::new(url), &url.parse().unwrap())
        .builder()
        .await
        .unwrap()
        .redirect(Policy::none())
        .build()
        .unwrap()
}

pub(crate) fn options(change: impl FnOnce(&mut AuthzOptions)) -> AuthzOptions {
    let mut options = AuthzOptions::default();
    change(&mut options);
    options
}

pub(crate) fn start(change: impl FnOnce(&mut AuthzOptions)) -> AuthzFixture {
    AuthzFixture::start(options(change)).unwrap()
}

pub(crate) fn spec(url: &str, oauth: OAuthSpec) -> ServerSpec {
    ServerSpec::http("guarded", HttpSpec::new(url).with_oauth(oauth)).unwrap()
}

pub(crate) fn in_memory() -> OAuth {
    OAuth::new(Arc::new(MemoryStore::new()))
}

/// A server that wants a login, logins that are kept in memory, and its spec.
pub(crate) fn guarded(change: impl FnOnce(&mut AuthzOptions)) -> (AuthzFixture, OAuth, ServerSpec) {
    let server = start(change);
    let spec = spec(&server.mcp_url(), OAuthSpec::new());
    (server, in_memory(), spec)
}

pub(crate) async fn authenticator(oauth: &OAuth, spec: &ServerSpec) -> Arc<dyn Authenticator> {
    oauth.authenticator(spec).await.unwrap().unwrap()
}

/// Sends one JSON-RPC request as a transport does.
pub(crate) async fn call(oauth: &OAuth, spec: &ServerSpec, method: &str) -> Result<u16> {
    let TransportSpec::Http(http) = &spec.transport else {
        panic!("not an HTTP spec");
    };
    let request = ConnectRequest::new(spec.name.clone(), spec.transport.clone())
        .with_authenticator(authenticator(oauth, spec).await);
    let peer = HttpPeer::new(&HttpPool::shared(), &request, http).await?;
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{}}}}"#);
    let request = PeerRequest::new(Method::POST, peer.url().clone())
        .with_header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
        .with_header(
            ACCEPT,
            HeaderValue::from_static("application/json, text/event-stream"),
        )
        .with_body(body);
    Ok(peer.send(&request).await?.status().as_u16())
}
