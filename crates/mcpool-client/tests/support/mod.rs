//! A transport in memory whose server is a script: an async function that reads what the client
//! sends and says what it likes. When the function returns, the connection is over.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::{FutureExt, future::BoxFuture};
use mcpool_client::StandardFactory;
use mcpool_core::{
    Client, ClientFactory, ConnectRequest, Connector, Delivery, Diagnostics, Error, ErrorKind,
    HttpSpec, IncomingMessage, OutgoingMessage, Result, ServerSpec, StderrLine, StdioSpec,
    Transport, TransportKind, TransportMonitor,
};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

/// The server's end of one connection.
pub struct ServerEnd {
    /// Which connection it is, from 1.
    pub nth: usize,
    from_client: mpsc::UnboundedReceiver<Value>,
    to_client: mpsc::UnboundedSender<Value>,
    facts: Arc<Facts>,
}

impl ServerEnd {
    /// The next message of the client; `None` when it has gone.
    pub async fn recv(&mut self) -> Option<Value> {
        self.from_client.recv().await
    }

    /// The next message, which must be this request.
    pub async fn expect(&mut self, method: &str) -> Value {
        loop {
            let message = self.recv().await.expect("the client has gone");
            if message["method"] == method {
                return message;
            }
            assert!(
                message.get("id").is_none() || message.get("method").is_none(),
                "wanted {method}, got {message}"
            );
        }
    }

    pub fn send(&self, message: Value) {
        // A client that has gone is part of some scripts.
        let _ = self.to_client.send(message);
    }

    pub fn reply(&self, request: &Value, result: Value) {
        self.send(json!({"jsonrpc": "2.0", "id": request["id"], "result": result}));
    }

    pub fn error(&self, request: &Value, code: i64, data: Value) {
        let error = match data {
            Value::Null => json!({"code": code, "message": "no"}),
            data => json!({"code": code, "message": "no", "data": data}),
        };
        self.send(json!({"jsonrpc": "2.0", "id": request["id"], "error": error}));
    }

    pub fn notify(&self, method: &str, params: Value) {
        self.send(json!({"jsonrpc": "2.0", "method": method, "params": params}));
    }

    /// Answers `initialize`, whatever came before it is answered with "method not found".
    pub async fn initialize(&mut self) -> Value {
        loop {
            let message = self.recv().await.expect("the client has gone");
            match message["method"].as_str() {
                Some("initialize") => {
                    self.reply(&message, initialized("2025-11-25"));
                    return message;
                }
                _ if message.get("id").is_some() => self.error(&message, -32601, Value::Null),
                _ => {}
            }
        }
    }

    /// Answers `server/discover`.
    pub async fn discover(&mut self) -> Value {
        let request = self.expect("server/discover").await;
        self.reply(&request, discovered());
        request
    }

    /// Makes the sends of the client hang from here on, as a full pipe does.
    pub fn stop_reading(&self) {
        self.facts.stuck.send_replace(true);
    }

    /// Says on stderr.
    pub fn stderr(&self, line: &str) {
        self.facts
            .edit(|d| d.stderr_tail.push(StderrLine::now(line)));
    }

    /// How the process will have ended.
    pub fn exit_status(&self, status: &str) {
        self.facts.edit(|d| d.exit_status = Some(status.to_owned()));
    }

    /// Serves until the client goes: `answer` gives the result of each request.
    pub async fn serve(&mut self, mut answer: impl FnMut(&Value) -> Reply) {
        while let Some(message) = self.recv().await {
            if message.get("id").is_none() || message.get("method").is_none() {
                continue;
            }
            match answer(&message) {
                Reply::Result(result) => self.reply(&message, result),
                Reply::Error(code) => self.error(&message, code, Value::Null),
                Reply::Nothing => {}
            }
        }
    }
}

pub enum Reply {
    Result(Value),
    Error(i64),
    Nothing,
}

pub fn initialized(version: &str) -> Value {
    json!({
        "protocolVersion": version,
        "capabilities": {
            "tools": {"listChanged": true}, "prompts": {}, "resources": {"subscribe": true},
            "logging": {}, "completions": {},
        },
        "serverInfo": {"name": "script", "version": ""},
    })
}

pub fn discovered() -> Value {
    json!({
        "resultType": "complete",
        "supportedVersions": ["2026-07-28"],
        "capabilities": {"tools": {}, "prompts": {}, "resources": {"subscribe": true}},
        "ttlMs": 60000,
        "cacheScope": "public",
        "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "script", "version": "1"}},
    })
}

pub fn tool(name: &str) -> Value {
    json!({"name": name, "inputSchema": {"type": "object"}})
}

type Script = Arc<dyn Fn(ServerEnd) -> BoxFuture<'static, ()> + Send + Sync>;
type SendHook = Arc<dyn Fn(usize, &Value) -> Option<Error> + Send + Sync>;

/// Opens connections to a script.
pub struct Scripted {
    kind: TransportKind,
    script: Script,
    hook: Option<SendHook>,
    close_takes: Duration,
    pub opened: Arc<AtomicUsize>,
    pub living: Arc<AtomicUsize>,
    pub orderly: Arc<AtomicUsize>,
}

impl Scripted {
    pub fn new<F, Fut>(kind: TransportKind, script: F) -> Self
    where
        F: Fn(ServerEnd) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self {
            kind,
            script: Arc::new(move |end| script(end).boxed()),
            hook: None,
            close_takes: Duration::ZERO,
            opened: Arc::default(),
            living: Arc::default(),
            orderly: Arc::default(),
        }
    }

    pub fn stdio<F, Fut>(script: F) -> Self
    where
        F: Fn(ServerEnd) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self::new(TransportKind::Stdio, script)
    }

    /// Fails the sends for which `hook` gives an error, as a refusing HTTP server does.
    pub fn refusing(
        mut self,
        hook: impl Fn(usize, &Value) -> Option<Error> + Send + Sync + 'static,
    ) -> Self {
        self.hook = Some(Arc::new(hook));
        self
    }

    /// Makes an orderly close take so long.
    pub fn close_takes(mut self, pause: Duration) -> Self {
        self.close_takes = pause;
        self
    }

    pub fn factory(self) -> (StandardFactory, Arc<Self>) {
        let connector = Arc::new(self);
        let factory = StandardFactory::new().with_connector(Arc::clone(&connector) as _);
        (factory, connector)
    }

    pub fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }

    /// Waits until no transport lives.
    pub async fn all_dropped(&self) {
        let gone = async {
            while self.living.load(Ordering::SeqCst) > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), gone)
            .await
            .expect("a transport was leaked");
    }
}

#[async_trait]
impl Connector for Scripted {
    fn kind(&self) -> TransportKind {
        self.kind
    }

    async fn connect(&self, _request: ConnectRequest) -> Result<Box<dyn Transport>> {
        let nth = self.opened.fetch_add(1, Ordering::SeqCst) + 1;
        self.living.fetch_add(1, Ordering::SeqCst);
        let (to_server, from_client) = mpsc::unbounded_channel();
        let (to_client, from_server) = mpsc::unbounded_channel();
        let facts = Arc::new(Facts {
            kind: self.kind,
            diagnostics: Mutex::default(),
            stuck: watch::Sender::new(false),
            ended: watch::Sender::new(false),
        });
        let end = ServerEnd {
            nth,
            from_client,
            to_client,
            facts: Arc::clone(&facts),
        };
        let script = (self.script)(end);
        let ended = Arc::clone(&facts);
        let task = tokio::spawn(async move {
            script.await;
            ended.ended.send_replace(true);
        });
        Ok(Box::new(ScriptedTransport {
            nth,
            to_server,
            from_server,
            facts,
            hook: self.hook.clone(),
            close_takes: self.close_takes,
            task,
            living: Arc::clone(&self.living),
            orderly: Arc::clone(&self.orderly),
        }))
    }
}

struct Facts {
    kind: TransportKind,
    diagnostics: Mutex<Diagnostics>,
    stuck: watch::Sender<bool>,
    ended: watch::Sender<bool>,
}

impl Facts {
    fn edit(&self, change: impl FnOnce(&mut Diagnostics)) {
        change(&mut self.diagnostics.lock().unwrap());
    }
}

impl TransportMonitor for Facts {
    fn kind(&self) -> TransportKind {
        self.kind
    }

    fn diagnostics(&self) -> Diagnostics {
        self.diagnostics.lock().unwrap().clone()
    }

    fn failure(&self) -> Option<Error> {
        let ended = *self.ended.borrow();
        let status = self.diagnostics().exit_status?;
        ended.then(|| {
            Error::new(
                ErrorKind::ProcessExited,
                format!("the process ended: {status}"),
            )
        })
    }
}

struct ScriptedTransport {
    nth: usize,
    to_server: mpsc::UnboundedSender<Value>,
    from_server: mpsc::UnboundedReceiver<Value>,
    facts: Arc<Facts>,
    hook: Option<SendHook>,
    close_takes: Duration,
    task: tokio::task::JoinHandle<()>,
    living: Arc<AtomicUsize>,
    orderly: Arc<AtomicUsize>,
}

impl Drop for ScriptedTransport {
    fn drop(&mut self) {
        self.task.abort();
        self.living.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Transport for ScriptedTransport {
    fn send(&self, message: OutgoingMessage) -> BoxFuture<'static, Result<()>> {
        let value = serde_json::to_value(&message).unwrap();
        if let Some(error) = self.hook.as_ref().and_then(|hook| hook(self.nth, &value)) {
            return async move { Err(error) }.boxed();
        }
        let server = self.to_server.clone();
        let mut stuck = self.facts.stuck.subscribe();
        let mut ended = self.facts.ended.subscribe();
        async move {
            tokio::select! {
                biased;
                _ = stuck.wait_for(|stuck| !stuck) => {}
                _ = ended.wait_for(|ended| *ended) => {
                    return Err(broken());
                }
            }
            server.send(value).map_err(|_| broken())
        }
        .boxed()
    }

    fn receive(&mut self) -> BoxFuture<'_, Option<IncomingMessage>> {
        async {
            let value = self.from_server.recv().await?;
            Some(serde_json::from_value(value.clone()).unwrap_or_else(|e| panic!("{e}: {value}")))
        }
        .boxed()
    }

    fn close(&mut self) -> BoxFuture<'_, Result<()>> {
        async {
            tokio::time::sleep(self.close_takes).await;
            self.task.abort();
            self.orderly.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
        .boxed()
    }

    fn monitor(&self) -> Arc<dyn TransportMonitor> {
        Arc::clone(&self.facts) as _
    }
}

fn broken() -> Error {
    Error::new(ErrorKind::ConnectionLost, "broken pipe").with_delivery(Delivery::NotSent)
}

pub fn spec() -> ServerSpec {
    ServerSpec::stdio("script", StdioSpec::new("script")).unwrap()
}

pub fn http_spec() -> ServerSpec {
    ServerSpec::http("script", HttpSpec::new("http://localhost/mcp")).unwrap()
}

pub fn auto_spec() -> ServerSpec {
    ServerSpec::url("script", "http://localhost/mcp").unwrap()
}

pub fn http_status(status: u16) -> Error {
    Error::new(ErrorKind::HttpStatus, format!("HTTP {status}"))
        .with_http_status(status)
        .with_delivery(Delivery::Rejected)
}

/// Connects to a server of the era with `initialize`, which then follows the script.
pub async fn connect_legacy<F, Fut>(script: F) -> (Arc<dyn Client>, Arc<Scripted>)
where
    F: Fn(ServerEnd) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let (factory, connector) = Scripted::stdio(move |mut end: ServerEnd| {
        let script = script.clone();
        async move {
            end.initialize().await;
            end.expect("notifications/initialized").await;
            script(end).await;
        }
    })
    .factory();
    let client = factory.connect(&spec()).await.unwrap();
    (client, connector)
}

/// Connects to a server of the era with `server/discover`, which then follows the script.
pub async fn connect_modern<F, Fut>(script: F) -> (Arc<dyn Client>, Arc<Scripted>)
where
    F: Fn(ServerEnd) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let (factory, connector) = Scripted::stdio(move |mut end: ServerEnd| {
        let script = script.clone();
        async move {
            end.discover().await;
            script(end).await;
        }
    })
    .factory();
    let client = factory.connect(&spec()).await.unwrap();
    (client, connector)
}
