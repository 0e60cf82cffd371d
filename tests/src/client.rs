//! A client of a gateway that answers what servers ask.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use mcpool::{
    Client, ClientFactory as _, ConnectOptions, HttpSpec, Notification, ProtocolChoice, Raw,
    RpcError, ServerName, ServerRequest, ServerRequestHandler, ServerSpec, StandardFactory,
    Verbs as _,
};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

/// A client up to MCP 2025-11-25 over HTTP, with a standing stream: mcpool's own. What servers ask
/// it answers with its name and its directories, and writes down. Dropping it closes it.
#[derive(Debug)]
pub struct GatewayClient {
    client: Arc<dyn Client>,
    answers: Arc<Answers>,
}

#[derive(Debug)]
struct Answers {
    name: String,
    capabilities: Value,
    roots: Mutex<Vec<PathBuf>>,
    asked: Mutex<Vec<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl ServerRequestHandler for Answers {
    fn capabilities(&self, _: &ServerName) -> Raw {
        Raw::of(&self.capabilities).unwrap_or_else(|_| Raw::empty_object())
    }

    async fn answer(&self, _: &ServerName, request: ServerRequest) -> Result<Raw, RpcError> {
        lock(&self.asked).push(request.method.clone());
        let roots: Vec<Value> = lock(&self.roots)
            .iter()
            .map(|path| json!({"uri": format!("file://{}", path.display())}))
            .collect();
        let answer = match request.method.as_str() {
            "roots/list" => json!({ "roots": roots }),
            "sampling/createMessage" => json!({
                "role": "assistant", "model": "a test's",
                "content": {"type": "text", "text": format!("{} says so", self.name)},
            }),
            "elicitation/create" => json!({"action": "accept", "content": {"name": self.name}}),
            _ => return Err(RpcError::method_not_found(&request.method)),
        };
        Raw::of(&answer).map_err(|_| RpcError::new(RpcError::INTERNAL, "no JSON"))
    }
}

impl GatewayClient {
    /// Connects to the gateway at this port, with these `ClientCapabilities`.
    ///
    /// # Panics
    /// When it cannot.
    pub async fn connect(port: u16, name: &str, capabilities: Value) -> Self {
        let answers = Arc::new(Answers {
            name: name.to_owned(),
            capabilities,
            roots: Mutex::default(),
            asked: Mutex::default(),
        });
        let spec = ServerSpec::http(
            "gateway",
            HttpSpec::new(format!("http://127.0.0.1:{port}/mcp")),
        );
        let spec = spec.map(|spec| spec.with_protocol(ProtocolChoice::Legacy));
        let factory = StandardFactory::new().with_handler(answers.clone());
        let connected = match &spec {
            Ok(spec) => factory.connect(spec, &ConnectOptions::new()).await,
            Err(error) => panic!("{error}"),
        };
        match connected {
            Ok(client) => Self { client, answers },
            Err(error) => panic!("{name} cannot connect: {error}"),
        }
    }

    /// Sets its directories, and says that they have changed.
    ///
    /// # Panics
    /// When the gateway does not take that.
    pub async fn change_roots(&self, roots: &[&Path]) {
        self.set_roots(roots);
        let changed = Notification::new("notifications/roots/list_changed", None);
        if let Err(error) = self.client.notify(&changed).await {
            panic!("{error}");
        }
    }

    /// Sets its directories, and says nothing.
    pub fn set_roots(&self, roots: &[&Path]) {
        *lock(&self.answers.roots) = roots.iter().map(|path| path.to_path_buf()).collect();
    }

    /// What servers have asked it so far, by the method.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        lock(&self.answers.asked).clone()
    }

    /// The names of the tools that it is shown.
    ///
    /// # Panics
    /// When they cannot be listed.
    pub async fn tools(&self) -> Vec<String> {
        match self.client.list_tools().await {
            Ok(listing) => listing.values().map(|tool| tool.name.to_string()).collect(),
            Err(error) => panic!("{error}"),
        }
    }

    /// Calls a tool, and gives its result.
    ///
    /// # Panics
    /// When the call fails.
    pub async fn call(&self, tool: &str, arguments: Value) -> Value {
        match self.client.call_tool(tool, &arguments).await {
            Ok(result) => result.raw().parse().unwrap_or(Value::Null),
            Err(error) => panic!("{tool}: {error}"),
        }
    }

    /// Waits until it is shown this tool.
    ///
    /// # Panics
    /// When it never is.
    pub async fn has(&self, tool: &str) {
        let since = Instant::now();
        while !self.tools().await.iter().any(|name| name == tool) {
            assert!(since.elapsed() < PATIENCE, "never listed: {tool}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Calls a tool until its result holds this text.
    ///
    /// # Panics
    /// When it never does.
    pub async fn until(&self, tool: &str, arguments: Value, holds: &str) {
        let since = Instant::now();
        loop {
            let result = self.call(tool, arguments.clone()).await;
            if result.to_string().contains(holds) {
                return;
            }
            assert!(since.elapsed() < PATIENCE, "never {holds:?}: {result}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends its session.
    pub async fn close(&self) {
        self.client.close().await;
    }
}
