//! The front of Streamable HTTP: an axum router, to be served as it is or mounted into another.
//!
//! | path | what is served |
//! |---|---|
//! | `/mcp` | the pool |
//! | `/mcp/{profile}` | a profile |
//! | `/servers/{server}/mcp` | one server under its own names |

mod headers;
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
    routing::any,
};
use mcpool_core::{RpcError, ServerName};

use self::{origin::Allowed, standing::Standing};
use crate::{
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
    max_body_bytes: usize,
}

impl HttpOptions {
    /// For clients on this machine: requests whose `Host` or `Origin` names another are refused,
    /// which keeps web pages out (DNS rebinding; MCP 2025-11-25, "Security Warning").
    pub fn new() -> Self {
        Self {
            profiles: Vec::new(),
            allowed: Allowed::default(),
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
    max_body_bytes: usize,
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
    front.gateway.run();
    match *request.method() {
        Method::POST => post::serve(front, scope, request).await,
        Method::GET => standing::open(&front, &scope, request.headers()),
        Method::DELETE => standing::end(&front, &scope, request.headers()),
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
