//! What probes ask: is it there, and can it be used.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use mcpool_core::{Sharing, StateKind};

use super::Front;

/// It answers, so it is there.
pub(super) async fn alive() -> &'static str {
    "alive\n"
}

/// Ready when every server is that is marked as required, until the gateway is drained.
pub(super) async fn ready(State(front): State<Arc<Front>>) -> (StatusCode, &'static str) {
    let manager = &front.gateway.0.manager;
    let waits = manager.names().iter().any(|name| {
        let Ok(server) = manager.server(name.as_str()) else {
            // Removed this moment.
            return false;
        };
        let required = server
            .spec()
            .is_ok_and(|spec| spec.required && spec.enabled);
        // Clients that do not share a server connect it when they use it.
        let own = server
            .spec()
            .is_ok_and(|spec| spec.sharing == Sharing::Client);
        let can_be_used = |state| state == StateKind::Ready || own && state == StateKind::Idle;
        let status = server.status();
        required && !status.is_ok_and(|status| can_be_used(status.state))
    });
    if waits || manager.is_shut_down() || front.gateway.is_draining() {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}
