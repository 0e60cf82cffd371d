//! The page: what the pool does now, for a person. Three files that hold nothing of the pool; what
//! they show comes from the API and from MCP, with the rights of the key that the person enters.

use axum::{
    http::header,
    response::{IntoResponse as _, Response},
};

/// Everything that the page may load and reach is its own origin. Text of servers is set as text,
/// so this is the second lock, not the first.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

pub(super) async fn html() -> Response {
    file(
        "text/html; charset=utf-8",
        include_str!("../../assets/page.html"),
    )
}

pub(super) async fn script() -> Response {
    file(
        "text/javascript; charset=utf-8",
        include_str!("../../assets/page.js"),
    )
}

pub(super) async fn tools_script() -> Response {
    file(
        "text/javascript; charset=utf-8",
        include_str!("../../assets/tools.js"),
    )
}

pub(super) async fn style() -> Response {
    file(
        "text/css; charset=utf-8",
        include_str!("../../assets/page.css"),
    )
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}
