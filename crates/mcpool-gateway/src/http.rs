//! The front of Streamable HTTP: an axum router, to be served as it is or mounted into another.
//!
//! | path | what is served |
//! |---|---|
//! | `/mcp` | the pool |
//! | `/mcp/{profile}` | a profile |
//! | `/servers/{server}/mcp` | one server under its own names |
//! | `/metrics` | what is measured, for Prometheus |
//! | `/.well-known/oauth-protected-resource/…` | where tokens can be had (RFC 9728) |
//! | `/` | a page that shows what the pool does, for a person |
//! | `/api/v1/…` | what the page shows, and its actions, for programs |
//! | `/healthz`, `/readyz` | whether it is there; whether the servers that are required are |

mod api;
mod at_once;
mod body;
mod exchange;
mod forward;
mod headers;
mod health;
mod origin;
mod page;
mod peer;
mod place;
mod post;
mod reply;
mod server;
mod standing;
mod tls;
mod visitor;

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Path, Request, State},
    http::{Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{any, get, post},
};
use mcpool_core::{ErrorKind, RpcError, ServerName};
use tokio::sync::Semaphore;

pub(crate) use self::visitor::Visitor;
use self::{
    forward::{Forwarding, Hopped},
    origin::Allowed,
    peer::{Failures, Peer, Proxies},
    place::Place,
    standing::Standing,
    visitor::Barred,
};
pub use self::{server::HttpServer, tls::Tls};
use crate::{
    access::AccessKeys,
    flights::Flights,
    gateway::Gateway,
    limits::{Allowances, Limits},
    oauth::{self, ResourceServer},
    scope::{Profiles, Scope},
};

/// How long the body of a request may take to come, unless it is set.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// How the pool is served over HTTP.
#[derive(Debug, Clone)]
#[must_use]
pub struct HttpOptions {
    only: Option<Arc<str>>,
    allowed: Allowed,
    proxies: Proxies,
    keys: Option<AccessKeys>,
    oauth: Option<ResourceServer>,
    metrics: Option<Render>,
    limits: Limits,
    body_timeout: Duration,
    operators: BTreeSet<String>,
}

impl HttpOptions {
    /// For clients on this machine: requests whose `Host` or `Origin` names another are refused,
    /// which keeps web pages out (DNS rebinding; MCP 2025-11-25, "Security Warning").
    pub fn new() -> Self {
        Self {
            only: None,
            allowed: Allowed::default(),
            proxies: Proxies::default(),
            keys: None,
            oauth: None,
            metrics: None,
            limits: Limits::new(),
            body_timeout: BODY_TIMEOUT,
            operators: BTreeSet::new(),
        }
    }

    /// Serves the profile of this name alone, at `/mcp` as well.
    pub fn with_only(mut self, profile: impl Into<Arc<str>>) -> Self {
        self.only = Some(profile.into());
        self
    }

    /// Adds a host name by which clients reach the gateway, such as that of a proxy in front, with
    /// or without a port. Requests by it, and from pages of it, are served.
    pub fn with_host(mut self, host: impl Into<String>) -> Self {
        self.allowed.add(host.into());
        self
    }

    /// Adds proxies by their addresses: of a request that comes from one, the client's address is what
    /// `X-Forwarded-For` says, as far as it was added by such proxies. It stands in the audit, and
    /// credentials that are not good are counted by it. Default: none, and the header is not read.
    ///
    /// Addresses are known where [`HttpServer`] serves the router, or `axum::serve` with
    /// `into_make_service_with_connect_info::<SocketAddr>()`.
    ///
    /// # Errors
    /// [`InvalidArgument`](mcpool_core::ErrorKind::InvalidArgument) for what is neither an address nor
    /// a network such as `10.0.0.0/8`.
    pub fn with_trusted_proxies(mut self, proxies: &str) -> mcpool_core::Result<Self> {
        self.proxies.add(proxies)?;
        Ok(self)
    }

    /// Sets the keys by which clients are known: each request must carry one as a bearer token, and
    /// a session is good for the principal that began it. Without any key in it nobody is served.
    /// Default: keys are not asked for, and everybody who reaches the gateway may use it.
    pub fn with_keys(mut self, keys: AccessKeys) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Takes tokens of an authorization server, beside keys if there are any. Each subject of the
    /// server is a principal, with the limits of the gateway.
    pub fn with_oauth(mut self, server: ResourceServer) -> Self {
        self.oauth = Some(server);
        self
    }

    /// Sets what `/metrics` answers, in the text format of Prometheus. A key is asked for as for
    /// the pool, and one with a profile is not enough. Default: there is no such path.
    pub fn with_metrics(mut self, render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.metrics = Some(Render(Arc::new(render)));
        self
    }

    /// Adds a principal that may reconnect, enable and disable servers over the API and the page,
    /// which changes the pool for all. Without keys everybody may.
    pub fn with_operator(mut self, principal: impl Into<String>) -> Self {
        self.operators.insert(principal.into());
        self
    }

    /// Sets what each principal may ask for, as far as its key says nothing else.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets how long the body of a request may take to come; then it is answered with 408.
    /// Default 60 s.
    pub fn with_body_timeout(mut self, timeout: Duration) -> Self {
        self.body_timeout = timeout;
        self
    }
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// Gives what was measured.
#[derive(Clone)]
struct Render(Arc<dyn Fn() -> String + Send + Sync>);

impl fmt::Debug for Render {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Render")
    }
}

/// What the handlers share.
pub(crate) struct Front {
    pub(crate) gateway: Gateway,
    pub(crate) flights: Arc<Flights>,
    pub(crate) standing: Standing,
    profiles: Profiles,
    only: Option<Arc<str>>,
    allowed: Allowed,
    proxies: Proxies,
    failures: Failures,
    forwarding: Option<Forwarding>,
    keys: Option<AccessKeys>,
    oauth: Option<ResourceServer>,
    metrics: Option<Render>,
    limits: Limits,
    allowances: Allowances,
    pub(crate) body_timeout: Duration,
    operators: BTreeSet<String>,
    event_streams: Arc<Semaphore>,
}

impl Gateway {
    /// The gateway as an axum router: serve it with `axum::serve`, or nest it into one of yours.
    /// It must run inside a tokio runtime.
    ///
    /// Requests of older clients go on when their connection breaks (MCP 2025-11-25: a disconnect
    /// is no cancel); those of MCP 2026-07-28 are cancelled with it.
    pub fn router(&self, options: HttpOptions) -> Router {
        let replica = self.0.replica.clone();
        let front = Arc::new(Front {
            gateway: self.clone(),
            forwarding: replica.and_then(|own| {
                Forwarding::new(own)
                    .inspect_err(|error| tracing::error!(%error, "requests stay where they came"))
                    .ok()
            }),
            flights: Arc::default(),
            standing: Standing::default(),
            profiles: self.0.profiles.clone(),
            only: options.only,
            allowed: options.allowed,
            proxies: options.proxies,
            failures: Failures::default(),
            keys: options.keys,
            oauth: options.oauth,
            metrics: options.metrics,
            limits: options.limits,
            allowances: Allowances::default(),
            body_timeout: options.body_timeout,
            operators: options.operators,
            event_streams: Arc::new(Semaphore::new(api::MAX_EVENT_STREAMS)),
        });
        Router::new()
            .route("/mcp", any(pool))
            .route("/mcp/{profile}", any(profile))
            .route("/servers/{server}/mcp", any(server))
            .route("/metrics", get(metrics))
            .route(oauth::METADATA, get(metadata))
            .route(&format!("{}/{{*path}}", oauth::METADATA), get(metadata))
            .route("/", get(page::html))
            .route("/page.js", get(page::script))
            .route("/tools.js", get(page::tools_script))
            .route("/page.css", get(page::style))
            .route("/api/v1/status", get(api::status))
            .route("/api/v1/clients", get(api::clients))
            .route("/api/v1/events", get(api::events))
            .route("/api/v1/servers/{server}/tools", get(api::tools))
            .route("/api/v1/servers/{server}/prompts", get(api::prompts))
            .route("/api/v1/servers/{server}/resources", get(api::resources))
            .route("/api/v1/servers/{server}/{action}", post(api::act))
            // One layer: each costs a request several allocations.
            .layer(middleware::from_fn_with_state(Arc::clone(&front), checked))
            // Probes come by addresses of their own, and hold nothing.
            .route("/healthz", get(health::alive))
            .route("/readyz", get(health::ready))
            .with_state(front)
    }
}

/// What is served to requests that may come here.
async fn checked(State(front): State<Arc<Front>>, mut request: Request, next: Next) -> Response {
    if let Some(refusal) = origin::refusal(&front, &mut request) {
        return refusal;
    }
    if let Some(header) = headers::contradiction(request.headers()) {
        let why = format!("there are several headers {header}, which say different things");
        let error = RpcError::new(RpcError::INVALID_REQUEST, why);
        return reply::refused(StatusCode::BAD_REQUEST, &mcpool_core::Raw::null(), error);
    }
    let with = front.note_peer(&mut request);
    let response = next.run(request).await;
    front.judge(with, response)
}

async fn pool(State(front): State<Arc<Front>>, place: Place, request: Request) -> Response {
    serve(front, Scope::Pool, place, request).await
}

async fn profile(
    State(front): State<Arc<Front>>,
    Path(name): Path<String>,
    place: Place,
    request: Request,
) -> Response {
    match front.profiles.get(&name) {
        Some(profile) => serve(front, Scope::Profile(profile), place, request).await,
        None => {
            front
                .nothing_there(&place, request.headers(), "there is no such profile")
                .await
        }
    }
}

async fn server(
    State(front): State<Arc<Front>>,
    Path(name): Path<String>,
    place: Place,
    request: Request,
) -> Response {
    let known = ServerName::new(&name).ok().filter(|name| {
        let found = front.gateway.0.manager.server(name.as_str());
        !found.is_err_and(|error| error.kind() == ErrorKind::UnknownServer)
    });
    match known {
        Some(name) => serve(front, Scope::Server(name), place, request).await,
        None => {
            front
                .nothing_there(&place, request.headers(), "there is no such server")
                .await
        }
    }
}

async fn serve(front: Arc<Front>, asked: Scope, place: Place, request: Request) -> Response {
    let mut visitor = match front.visitor(asked, &place, request.headers()).await {
        Ok(visitor) => visitor,
        Err(barred) => return barred.into_response(&front, &place),
    };
    let peer = request.extensions().get::<Peer>();
    visitor.peer = peer.and_then(|Peer(peer)| *peer);
    // One that was sent on by another replica was counted there.
    if request.extensions().get::<Hopped>().is_none()
        && let Err(wait) = visitor.allowance.count()
    {
        return reply::too_many(&mcpool_core::Raw::null(), wait);
    }
    front.gateway.run();
    let method = request.method().clone();
    if method == Method::POST {
        return post::serve(front, visitor, request).await;
    }
    if !matches!(method, Method::GET | Method::DELETE) {
        return reply::not_allowed();
    }
    let (parts, _) = request.into_parts();
    if let Some(answer) = forward::session_elsewhere(&front, &visitor, &parts).await {
        return answer;
    }
    match method {
        Method::GET => standing::open(&front, &visitor, &parts.headers),
        _ => standing::end(&front, &visitor, &parts.headers),
    }
}

/// What is measured, for programs that may have everything.
async fn metrics(State(front): State<Arc<Front>>, place: Place, request: Request) -> Response {
    let Some(render) = &front.metrics else {
        return nothing_here(
            "metrics are off: start the gateway with `--metrics` (`HttpOptions::with_metrics`)",
        );
    };
    match front.visitor(Scope::Pool, &place, request.headers()).await {
        Ok(visitor) if visitor.scope == Scope::Pool => {
            if let Err(wait) = visitor.allowance.count() {
                return reply::too_many(&mcpool_core::Raw::null(), wait);
            }
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], (render.0)()).into_response()
        }
        Ok(_) => {
            let why = "the metrics are of the whole pool, and only a profile of it is served here";
            Barred::Elsewhere(why.to_owned()).into_response(&front, &place)
        }
        Err(barred) => barred.into_response(&front, &place),
    }
}

/// The metadata of the whole gateway as a protected resource, or of what is served at a path.
async fn metadata(
    State(front): State<Arc<Front>>,
    path: Option<Path<String>>,
    place: Place,
) -> Response {
    let path = path.map_or_else(String::new, |Path(path)| format!("/{path}"));
    match &front.oauth {
        Some(oauth) => axum::Json(oauth.metadata(&place.at(&path).whole())).into_response(),
        None => nothing_here("tokens of no authorization server are taken"),
    }
}

fn nothing_here(why: &'static str) -> Response {
    reply::refused(
        StatusCode::NOT_FOUND,
        &mcpool_core::Raw::null(),
        RpcError::new(RpcError::INVALID_REQUEST, why),
    )
    .into_response()
}
