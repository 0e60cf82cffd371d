//! Drives one transport by hand.

use std::{sync::Arc, time::Duration};

use mcpool_core::{
    Authenticator, ConnectRequest, Connector, Diagnostics, Error, HttpSpec, OutgoingMessage,
    Result, ServerSpec, Transport,
};
use mcpool_http::HttpConnector;
use mcpool_http_pool::HttpPool;
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::timeout};

/// Nothing in these tests takes this long on a machine that works at all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Drive {
    transport: Box<dyn Transport>,
    /// Every message that was received, in order.
    pub(crate) seen: Vec<Value>,
}

pub(crate) fn spec(url: &str) -> ServerSpec {
    ServerSpec::http("fixture", HttpSpec::new(url)).unwrap()
}

pub(crate) fn initialize_params() -> Value {
    json!({
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    })
}

#[allow(dead_code, reason = "each test binary uses a part of this module")]
pub(crate) fn modern_meta() -> Value {
    json!({"_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    }})
}

fn message(value: Value) -> OutgoingMessage {
    serde_json::from_value(value).unwrap()
}

#[allow(dead_code, reason = "each test binary uses a part of this module")]
impl Drive {
    pub(crate) async fn open(url: &str) -> Self {
        Self::with_spec(spec(url), None).await
    }

    pub(crate) async fn with_spec(
        spec: ServerSpec,
        authenticator: Option<Arc<dyn Authenticator>>,
    ) -> Self {
        let mut request = ConnectRequest::new(Arc::new(spec));
        request.authenticator = authenticator;
        let connector = HttpConnector::new(HttpPool::new());
        Self {
            transport: connector.connect(request).await.unwrap(),
            seen: Vec::new(),
        }
    }

    pub(crate) async fn initialized(url: &str) -> Self {
        let mut drive = Self::open(url).await;
        drive.initialize(0).await;
        drive
    }

    pub(crate) async fn initialize(&mut self, id: u64) {
        let answer = self.request(id, "initialize", initialize_params()).await;
        assert!(answer["result"]["protocolVersion"].is_string(), "{answer}");
        self.notify("notifications/initialized", json!({})).await;
    }

    pub(crate) fn start(&self, id: u64, method: &str, params: Value) -> JoinHandle<Result<()>> {
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        tokio::spawn(self.transport.send(message(request)))
    }

    pub(crate) async fn send(&mut self, id: u64, method: &str, params: Value) -> Result<()> {
        let sent = self.start(id, method, params);
        timeout(PATIENCE, sent).await.expect("a send ends").unwrap()
    }

    /// Sends a request that must fail.
    pub(crate) async fn refused(&mut self, id: u64, method: &str, params: Value) -> Error {
        self.send(id, method, params).await.expect_err("a refusal")
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn request(&mut self, id: u64, method: &str, params: Value) -> Value {
        self.send(id, method, params).await.unwrap();
        let is_answer = |seen: &Value| seen["id"] == id && seen.get("method").is_none();
        self.receive_until(is_answer).await
    }

    pub(crate) async fn call(&mut self, id: u64, tool: &str, arguments: Value) -> Value {
        let params = json!({"name": tool, "arguments": arguments});
        self.request(id, "tools/call", params).await
    }

    pub(crate) async fn notify(&mut self, method: &str, params: Value) {
        let note = json!({"jsonrpc": "2.0", "method": method, "params": params});
        let sent = self.transport.send(message(note));
        timeout(PATIENCE, sent).await.expect("a send ends").unwrap();
    }

    pub(crate) async fn receive(&mut self) -> Option<Value> {
        let received = timeout(PATIENCE, self.transport.receive()).await;
        let message = serde_json::to_value(received.expect("receiving ends")?).unwrap();
        self.seen.push(message.clone());
        Some(message)
    }

    /// The first message, of those seen and those to come, that is the one.
    pub(crate) async fn receive_until(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        if let Some(seen) = self.seen.iter().find(|seen| is_it(seen)) {
            return seen.clone();
        }
        loop {
            let message = self.receive().await.expect("the connection lives");
            if is_it(&message) {
                return message;
            }
        }
    }

    pub(crate) async fn close(&mut self) {
        timeout(PATIENCE, self.transport.close())
            .await
            .expect("close ends")
            .unwrap();
    }

    pub(crate) fn failure(&self) -> Option<Error> {
        self.transport.monitor().failure()
    }

    pub(crate) fn diagnostics(&self) -> Diagnostics {
        self.transport.monitor().diagnostics()
    }
}
