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
mod standing;

use std::{collections::HashMap, sync::Arc};

use axum::{
    Router,
    extract::{Path, Request, State},
    http::{Method, StatusCode},
    middleware,
    response::{IntoResponse as _, Response},
    routing::{any, get},
};
use mcpool_core::{RpcError, ServerName};

use self::{origin::Allowed, standing::Standing};
use crate::{
    access::{AccessKeys, Nobody},
    flights::Flights,
    gateway::Gateway,
    scope::{Profile, Scope},
};

/// Bytes of the body of a request, unless it is set.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// How the pool is served over HTTP.
#[derive(Debug, Clone)]
#[must_use]
pub struct HttpOptions {
    profiles: Vec<Profile>,
    allowed: Allowed,
    keys: AccessKeys,
    max_body_bytes: usize,
}

impl HttpOptions {
    /// For clients on this machine: requests whose `Host` or `Origin` names another are refused,
    /// which keeps web pages out (DNS rebinding; MCP 2025-11-25, "Security Warning").
    pub fn new() -> Self {
        Self {
            profiles: Vec::new(),
            allowed: Allowed::default(),
            keys: AccessKeys::default(),
            max_body_bytes: MAX_BODY_BYTES,
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
    /// a session is good for the principal that began it. Default: none, and everybody who reaches
    /// the gateway may use it.
    pub fn with_keys(mut self, keys: AccessKeys) -> Self {
        self.keys = keys;
        self
    }

    /// Sets how large the body of a request may be, in bytes. Default 16 MiB.
    pub fn with_max_body_bytes(mut self, bytes: usize) -> Self {
        self.max_body_bytes = bytes;
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
    keys: AccessKeys,
    max_body_bytes: usize,
}

/// Who sends a request, and what it is served.
#[derive(Clone)]
pub(crate) struct Visitor {
    pub(crate) scope: Scope,
    pub(crate) principal: Option<Arc<str>>,
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
            max_body_bytes: options.max_body_bytes,
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

async fn serve(front: Arc<Front>, scope: Scope, request: Request) -> Response {
    let principal = match front.keys.of_request(request.headers()) {
        Ok(principal) => principal,
        Err(Nobody) => return reply::unauthorized(),
    };
    let visitor = Visitor { scope, principal };
    front.gateway.run();
    match *request.method() {
        Method::POST => post::serve(front, visitor, request).await,
        Method::GET => standing::open(&front, &visitor, request.headers()),
        Method::DELETE => standing::end(&front, &visitor, request.headers()),
        _ => reply::not_allowed(),
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
