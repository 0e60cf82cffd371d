//! A server that answers as a test says, and notes what it is asked.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Instant,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};
use futures::{StreamExt, future::BoxFuture, stream};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify, time::timeout};

use crate::drive::PATIENCE;

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// The method of HTTP.
    pub(crate) method: String,
    pub(crate) headers: HeaderMap,
    /// The message, or null.
    pub(crate) message: Value,
    pub(crate) at: Instant,
}

impl Seen {
    /// The method of JSON-RPC; empty for anything else.
    pub(crate) fn rpc(&self) -> &str {
        self.message["method"].as_str().unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        Some(self.headers.get(name)?.to_str().unwrap())
    }

    pub(crate) fn session(&self) -> Option<&str> {
        self.header("mcp-session-id")
    }
}

type Script = dyn Fn(Seen) -> BoxFuture<'static, Response> + Send + Sync;

pub(crate) struct Server {
    pub(crate) url: String,
    noted: Arc<Noted>,
    serving: tokio::task::JoinHandle<()>,
}

struct Noted {
    script: Box<Script>,
    seen: Mutex<Vec<Seen>>,
    arrived: Notify,
}

impl Server {
    /// A server that answers with what this gives.
    pub(crate) async fn start<R>(script: impl Fn(Seen) -> R + Send + Sync + 'static) -> Self
    where
        R: Future<Output = Response> + Send + 'static,
    {
        let noted = Arc::new(Noted {
            script: Box::new(move |seen| Box::pin(script(seen))),
            seen: Mutex::default(),
            arrived: Notify::new(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/mcp", any(serve))
            .with_state(Arc::clone(&noted));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            url,
            noted,
            serving,
        }
    }

    /// A server that answers at once, in good order but for this.
    pub(crate) async fn except(
        special: impl Fn(&Seen) -> Option<Response> + Send + Sync + 'static,
    ) -> Self {
        Self::start(move |seen| {
            let response = special(&seen).unwrap_or_else(|| ordinary(&seen));
            async move { response }
        })
        .await
    }

    /// What came, of this method of JSON-RPC or of HTTP.
    pub(crate) fn seen(&self, method: &str) -> Vec<Seen> {
        let mut seen = self.noted.seen.lock().unwrap().clone();
        seen.retain(|seen| seen.rpc() == method || seen.method == method);
        seen
    }

    /// Waits until so many of these have come.
    pub(crate) async fn until(&self, method: &str, count: usize) -> Vec<Seen> {
        let come = async {
            loop {
                let arrived = self.noted.arrived.notified();
                let seen = self.seen(method);
                if seen.len() >= count {
                    return seen;
                }
                arrived.await;
            }
        };
        timeout(PATIENCE, come).await.expect(method)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(State(noted): State<Arc<Noted>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let seen = Seen {
        method: parts.method.to_string(),
        headers: parts.headers,
        message: serde_json::from_slice(&body).unwrap_or_default(),
        at: Instant::now(),
    };
    noted.seen.lock().unwrap().push(seen.clone());
    noted.arrived.notify_waiters();
    (noted.script)(seen).await
}

/// The answer of a server in good order, without a standing stream.
pub(crate) fn ordinary(seen: &Seen) -> Response {
    match (seen.method.as_str(), seen.rpc()) {
        ("POST", "initialize") => initialized(seen, "the-session"),
        ("POST", "server/discover") => answer(seen, json!({"supportedVersions": ["2026-07-28"]})),
        ("POST", "tools/list") => answer(seen, json!({"tools": []})),
        ("POST", _) if seen.message.get("id").is_none() => StatusCode::ACCEPTED.into_response(),
        ("POST", "") => StatusCode::ACCEPTED.into_response(),
        ("POST", _) => answer(seen, json!({})),
        ("DELETE", _) => StatusCode::OK.into_response(),
        _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
}

/// An answer to `initialize` that begins this session.
pub(crate) fn initialized(seen: &Seen, session: &str) -> Response {
    let result = json!({
        "protocolVersion": "2025-11-25",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "scripted", "version": "1"},
    });
    let mut response = answer(seen, result);
    let id = session.parse().unwrap();
    response.headers_mut().insert("mcp-session-id", id);
    response
}

/// The text of an answer.
pub(crate) fn text(seen: &Seen, result: Value) -> String {
    json!({"jsonrpc": "2.0", "id": seen.message["id"], "result": result}).to_string()
}

/// An answer in JSON.
pub(crate) fn answer(seen: &Seen, result: Value) -> Response {
    body("application/json", text(seen, result))
}

/// A JSON-RPC error, with this status.
pub(crate) fn error(status: u16, seen: &Seen, code: i64, message: &str) -> Response {
    let error = json!({"code": code, "message": message});
    let text = json!({"jsonrpc": "2.0", "id": seen.message["id"], "error": error}).to_string();
    let mut response = body("application/json", text);
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

/// A status with a text.
pub(crate) fn status(status: u16, text: &str) -> Response {
    (StatusCode::from_u16(status).unwrap(), text.to_owned()).into_response()
}

/// A good answer of this content type.
pub(crate) fn body(content_type: &'static str, text: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, content_type)], text.into()).into_response()
}

/// An event stream of these texts, which then ends.
pub(crate) fn events(texts: &[&str]) -> Response {
    body("text/event-stream", texts.concat())
}

/// An event stream of these texts, which then stays open.
pub(crate) fn open_events(texts: &[&str]) -> Response {
    let first = Ok::<_, Infallible>(texts.concat());
    let stream = stream::iter([first]).chain(stream::pending());
    body("text/event-stream", Body::from_stream(stream))
}

/// One event.
pub(crate) fn event(data: &str) -> String {
    format!("data: {data}\n\n")
}
