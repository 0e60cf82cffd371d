//! The servers of `mcpool demo`: one program, three transports, nothing to install.
//!
//! Each server has a tool of its own and `echo`. They are ordinary MCP servers on rmcp; the
//! legacy SSE transport, which rmcp no longer serves, is written out here.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use axum::{
    Json, Router,
    extract::{Query, State},
    http::StatusCode,
    response::sse::{Event, KeepAlive, Sse},
    routing::{get, post},
};
use futures::{Stream, StreamExt as _, channel::mpsc, stream};
use rmcp::{
    ErrorData, RoleServer, ServerHandler, ServiceExt as _,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ClientJsonRpcMessage,
        ContentBlock, Implementation, JsonObject, ListToolsResult, PaginatedRequestParams,
        ServerCapabilities, ServerConfig, Tool,
    },
    service::RequestContext,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
    },
};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// What one demo server is good at.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Skill {
    /// Adds two numbers.
    Add,
    /// Says how long it has been running.
    Uptime,
    /// Counts words.
    Count,
}

impl Skill {
    fn tool(self) -> Tool {
        match self {
            Self::Add => tool(
                "add",
                "Adds two numbers",
                &[("a", "number"), ("b", "number")],
            ),
            Self::Uptime => tool("uptime", "Says how long this server has been running", &[]),
            Self::Count => tool("count", "Counts the words of a text", &[("text", "string")]),
        }
    }
}

fn tool(name: &'static str, description: &'static str, arguments: &[(&str, &str)]) -> Tool {
    let mut properties = JsonObject::new();
    for (key, kind) in arguments {
        properties.insert((*key).to_owned(), json!({"type": kind}));
    }
    let required: Vec<&str> = arguments.iter().map(|(key, _)| *key).collect();
    let mut schema = JsonObject::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("properties".to_owned(), properties.into());
    schema.insert("required".to_owned(), json!(required));
    Tool::new(name, description, Arc::new(schema))
}

/// One demo server.
#[derive(Debug, Clone)]
pub(crate) struct DemoServer {
    skill: Skill,
    started: Instant,
}

impl DemoServer {
    /// A server that started now.
    pub(crate) fn new(skill: Skill) -> Self {
        Self {
            skill,
            started: Instant::now(),
        }
    }

    fn answer(&self, name: &str, arguments: &JsonObject) -> Result<String, ErrorData> {
        let wrong = |what: &str| ErrorData::invalid_params(what.to_owned(), None);
        let text = |key: &str| arguments.get(key).and_then(|value| value.as_str());
        let number = |key: &str| arguments.get(key).and_then(|value| value.as_f64());
        match (name, self.skill) {
            ("echo", _) => Ok(text("message")
                .ok_or_else(|| wrong("message is missing"))?
                .to_owned()),
            ("add", Skill::Add) => match (number("a"), number("b")) {
                (Some(a), Some(b)) => Ok((a + b).to_string()),
                _ => Err(wrong("a and b must be numbers")),
            },
            ("uptime", Skill::Uptime) => {
                Ok(format!("up for {} ms", self.started.elapsed().as_millis()))
            }
            ("count", Skill::Count) => {
                let text = text("text").ok_or_else(|| wrong("text is missing"))?;
                Ok(format!("{} words", text.split_whitespace().count()))
            }
            _ => Err(wrong("no such tool")),
        }
    }
}

impl ServerHandler for DemoServer {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build()).with_server_info(
            Implementation::new("mcpool-demo", env!("CARGO_PKG_VERSION")),
        )
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let echo = tool("echo", "Returns its message", &[("message", "string")]);
        Ok(ListToolsResult::with_all_items(vec![
            echo,
            self.skill.tool(),
        ]))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = request.arguments.unwrap_or_default();
        let answer = self.answer(&request.name, &arguments)?;
        Ok(CallToolResult::success(vec![ContentBlock::text(answer)]).into())
    }
}

/// Serves over standard input and output until the input ends.
pub(crate) async fn serve_stdio() -> std::io::Result<()> {
    let pipes = (tokio::io::stdin(), tokio::io::stdout());
    let service = DemoServer::new(Skill::Add)
        .serve(pipes)
        .await
        .map_err(std::io::Error::other)?;
    service.waiting().await.map_err(std::io::Error::other)?;
    Ok(())
}

/// An HTTP server on a free loopback port; dropping it stops it.
pub(crate) struct Listening {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

async fn listen(router: Router) -> std::io::Result<Listening> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "a demo server stopped");
        }
    });
    Ok(Listening {
        address,
        _task: AbortOnDropHandle::new(task),
    })
}

/// A Streamable HTTP server at `/mcp`.
pub(crate) async fn serve_http() -> std::io::Result<Listening> {
    let server = DemoServer::new(Skill::Count);
    let service = StreamableHttpService::new(
        move || Ok(server.clone()),
        Arc::new(LocalSessionManager::default()),
        StreamableHttpServerConfig::default(),
    );
    listen(Router::new().route_service("/mcp", service)).await
}

/// A legacy SSE server at `/sse` (MCP 2024-11-05, "HTTP with SSE").
pub(crate) async fn serve_sse() -> std::io::Result<Listening> {
    let state = SseState {
        server: DemoServer::new(Skill::Uptime),
        sessions: Arc::default(),
        next: Arc::default(),
    };
    let router = Router::new()
        .route("/sse", get(open_stream))
        .route("/messages", post(take_message))
        .with_state(state);
    listen(router).await
}

type Sessions = Arc<Mutex<HashMap<u64, mpsc::UnboundedSender<ClientJsonRpcMessage>>>>;

#[derive(Clone)]
struct SseState {
    server: DemoServer,
    sessions: Sessions,
    next: Arc<AtomicU64>,
}

/// Forgets the session when its stream is dropped; its service then sees the end of its input.
struct Forget {
    sessions: Sessions,
    id: u64,
}

impl Drop for Forget {
    fn drop(&mut self) {
        lock(&self.sessions).remove(&self.id);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn open_stream(
    State(state): State<SseState>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let id = state.next.fetch_add(1, Ordering::Relaxed);
    let (to_server, from_client) = mpsc::unbounded();
    let (to_client, from_server) = mpsc::unbounded();
    lock(&state.sessions).insert(id, to_server);
    let forget = Forget {
        sessions: state.sessions,
        id,
    };
    tokio::spawn(async move {
        match state.server.serve((to_client, from_client)).await {
            Ok(service) => drop(service.waiting().await),
            Err(error) => tracing::debug!(%error, "a demo session did not start"),
        }
    });
    let endpoint = Event::default()
        .event("endpoint")
        .data(format!("/messages?session={id}"));
    let messages = from_server.filter_map(move |message| {
        let _held_by_the_stream = &forget;
        let event = Event::default().event("message").json_data(&message).ok();
        async move { event.map(Ok) }
    });
    Sse::new(stream::once(async { Ok(endpoint) }).chain(messages)).keep_alive(KeepAlive::default())
}

#[derive(Deserialize)]
struct SessionId {
    session: u64,
}

async fn take_message(
    State(state): State<SseState>,
    Query(id): Query<SessionId>,
    Json(message): Json<ClientJsonRpcMessage>,
) -> StatusCode {
    match lock(&state.sessions).get(&id.session) {
        Some(session) if session.unbounded_send(message).is_ok() => StatusCode::ACCEPTED,
        _ => StatusCode::NOT_FOUND,
    }
}
