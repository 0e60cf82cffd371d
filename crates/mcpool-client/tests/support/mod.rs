//! A transport in memory whose server is a script: an async function that reads what the client
//! sends and says what it likes. When the function returns, the connection is over.

#![allow(dead_code, unused_imports, reason = "each test file uses a part of it")]
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

mod transport;

use std::{future::Future, sync::Arc};

use mcpool_core::{
    Client, ClientFactory, ConnectOptions, Delivery, Error, ErrorKind, HttpSpec, RequestOptions,
    ServerSpec, StdioSpec,
};
use serde_json::{Value, json};

pub use transport::{Scripted, ServerEnd};

pub enum Reply {
    Result(Value),
    Error(i64),
    Nothing,
}

impl ServerEnd {
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

    /// Asks the client and gives its answer.
    pub async fn ask(&mut self, id: Value, mut request: Value) -> Value {
        request["jsonrpc"] = json!("2.0");
        request["id"] = id.clone();
        self.send(request);
        loop {
            let message = self.recv().await.unwrap();
            if message["id"] == id && message.get("method").is_none() {
                return message;
            }
        }
    }
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

pub fn options() -> RequestOptions {
    RequestOptions::new()
}

pub fn connecting() -> ConnectOptions {
    ConnectOptions::new()
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
    let client = factory.connect(&spec(), &connecting()).await.unwrap();
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
    let client = factory.connect(&spec(), &connecting()).await.unwrap();
    (client, connector)
}
