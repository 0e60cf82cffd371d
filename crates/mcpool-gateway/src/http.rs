//! The front of Streamable HTTP: an axum router, to be served as it is or mounted into another.
//!
//! | path | what is served |
//! |---|---|
//! | `/mcp` | the pool |
//! | `/mcp/{profile}` | a profile |
//! | `/servers/{server}/mcp` | one server under its own names |
//! | `/healthz`, `/readyz` | whether it is there; whether the servers that are required are |

mod headers;
mod health;
mod origin;
mod post;
mod reply;
mod server;
mod standing;
mod tls;

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Path, Request, State},
    http::{HeaderMap, Method, StatusCode},
    middleware,
    response::{IntoResponse as _, Response},
    routing::{any, get},
};
use mcpool_core::{RpcError, ServerName};

use self::{origin::Allowed, standing::Standing};
pub use self::{server::HttpServer, tls::Tls};
use crate::{
    access::{AccessKeys, bearer},
    flights::Flights,
    gateway::Gateway,
    grant::Grant,
    limits::{Allowance, Allowances, Limits},
    scope::{Profile, Scope},
};

/// How long the body of a request may take to come, unless it is set.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// How the pool is served over HTTP.
#[derive(Debug, Clone)]
#[must_use]
pub struct HttpOptions {
    profiles: Vec<Profile>,
    allowed: Allowed,
    keys: Option<AccessKeys>,
    limits: Limits,
    body_timeout: Duration,
}

impl HttpOptions {
    /// For clients on this machine: requests whose `Host` or `Origin` names another are refused,
    /// which keeps web pages out (DNS rebinding; MCP 2025-11-25, "Security Warning").
    pub fn new() -> Self {
        Self {
            profiles: Vec::new(),
            allowed: Allowed::default(),
            keys: None,
            limits: Limits::new(),
            body_timeout: BODY_TIMEOUT,
        }
    }

    /// Adds a profile: it is served at `/mcp/` and its name.
    pub fn with_profile(mut self, profile: Profile) -> Self {
        self.profiles.push(profile);
        self
    }

    /// Adds a host name by which clients reach the gateway, such as that of a proxy in front, with
    /// or without a port. Requests by it, and from pages of it, are served.
    pub fn with_host(mut self, host: impl Into<String>) -> Self {
        self.allowed.add(host.into());
        self
    }

    /// Sets the keys by which clients are known: each request must carry one as a bearer token, and
    /// a session is good for the principal that began it. Without any key in it nobody is served.
    /// Default: keys are not asked for, and everybody who reaches the gateway may use it.
    pub fn with_keys(mut self, keys: AccessKeys) -> Self {
        self.keys = Some(keys);
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

/// What the handlers share.
pub(crate) struct Front {
    pub(crate) gateway: Gateway,
    pub(crate) flights: Arc<Flights>,
    pub(crate) standing: Standing,
    profiles: HashMap<String, Arc<Profile>>,
    allowed: Allowed,
    keys: Option<AccessKeys>,
    limits: Limits,
    allowances: Allowances,
    pub(crate) body_timeout: Duration,
}

/// Who sends a request, and what it is served.
#[derive(Clone)]
pub(crate) struct Visitor {
    pub(crate) scope: Scope,
    pub(crate) principal: Option<Arc<str>>,
    pub(crate) allowance: Arc<Allowance>,
}

impl Gateway {
    /// The gateway as an axum router: serve it with `axum::serve`, or nest it into one of yours.
    /// It must run inside a tokio runtime.
    ///
    /// Requests of older clients go on when their connection breaks (MCP 2025-11-25: a disconnect
    /// is no cancel); those of MCP 2026-07-28 are cancelled with it.
    pub fn router(&self, options: HttpOptions) -> Router {
        let profiles = options.profiles.into_iter();
        let front = Arc::new(Front {
            gateway: self.clone(),
            flights: Arc::default(),
            standing: Standing::default(),
            profiles: profiles
                .map(|profile| (profile.name().to_owned(), Arc::new(profile)))
                .collect(),
            allowed: options.allowed,
            keys: options.keys,
            limits: options.limits,
            allowances: Allowances::default(),
            body_timeout: options.body_timeout,
        });
        Router::new()
            .route("/mcp", any(pool))
            .route("/mcp/{profile}", any(profile))
            .route("/servers/{server}/mcp", any(server))
            .layer(middleware::from_fn_with_state(
                Arc::clone(&front),
                origin::check,
            ))
            // Probes come by addresses of their own, and hold nothing.
            .route("/healthz", get(health::alive))
            .route("/readyz", get(health::ready))
            .with_state(front)
    }
}

async fn pool(State(front): State<Arc<Front>>, request: Request) -> Response {
    serve(front, Scope::Pool, request).await
}

async fn profile(
    State(front): State<Arc<Front>>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    match front.profiles.get(&name).map(Arc::clone) {
        Some(profile) => serve(front, Scope::Profile(profile), request).await,
        None => nothing_here("there is no such profile"),
    }
}

async fn server(
    State(front): State<Arc<Front>>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let names = front.gateway.0.manager.names();
    match ServerName::new(&name) {
        Ok(name) if names.contains(&name) => serve(front, Scope::Server(name), request).await,
        _ => nothing_here("there is no such server"),
    }
}

async fn serve(front: Arc<Front>, asked: Scope, request: Request) -> Response {
    let visitor = match front.visitor(asked, request.headers()) {
        Ok(visitor) => visitor,
        Err(barred) => return barred.into_response(),
    };
    if let Err(wait) = visitor.allowance.count() {
        return reply::too_many(&mcpool_core::Raw::null(), wait);
    }
    front.gateway.run();
    match *request.method() {
        Method::POST => post::serve(front, visitor, request).await,
        Method::GET => standing::open(&front, &visitor, request.headers()),
        Method::DELETE => standing::end(&front, &visitor, request.headers()),
        _ => reply::not_allowed(),
    }
}

impl Front {
    /// Who sends a request, and what is served then.
    ///
    /// # Errors
    /// The answer to somebody who is unknown, or may not have it.
    fn visitor(&self, asked: Scope, headers: &HeaderMap) -> Result<Visitor, Barred> {
        let Some(keys) = &self.keys else {
            return Ok(Visitor {
                scope: asked,
                principal: None,
                allowance: self.allowances.of(None, self.limits),
            });
        };
        let grant = bearer(headers).and_then(|key| keys.grant(key));
        let grant = grant.ok_or(Barred::Unknown)?;
        let scope = self.scope(asked, &grant)?;
        let principal = Arc::clone(grant.principal());
        let allowance = self
            .allowances
            .of(Some(&principal), grant.limits(self.limits));
        Ok(Visitor {
            scope,
            principal: Some(principal),
            allowance,
        })
    }

    /// What somebody is served who asks for this.
    fn scope(&self, asked: Scope, grant: &Grant) -> Result<Scope, Barred> {
        let Some(name) = grant.profile() else {
            return Ok(asked);
        };
        match (asked, self.profiles.get(name)) {
            (Scope::Pool, Some(profile)) => Ok(Scope::Profile(Arc::clone(profile))),
            (Scope::Profile(asked), Some(_)) if asked.name() == name => Ok(Scope::Profile(asked)),
            _ => Err(Barred::Elsewhere),
        }
    }
}

/// Why somebody is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Barred {
    /// Nobody is known by the request.
    Unknown,
    /// It is not what the key is for.
    Elsewhere,
}

impl Barred {
    fn into_response(self) -> Response {
        match self {
            Self::Unknown => reply::unauthorized(),
            Self::Elsewhere => reply::refused(
                StatusCode::FORBIDDEN,
                &mcpool_core::Raw::null(),
                RpcError::new(RpcError::INVALID_REQUEST, "this key is for another part"),
            ),
        }
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
