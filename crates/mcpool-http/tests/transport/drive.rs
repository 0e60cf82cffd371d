//! Drives one transport by hand.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use mcpool_core::{
    ConnectRequest, Connector, Diagnostics, Error, HttpSpec, Inbox, Incoming, Notification,
    Progress, ProtocolVersion, Raw, RequestClass, RequestId, RequestSink, Result, Transport,
    TransportSpec, WireRequest,
};
use mcpool_http::HttpConnector;
use mcpool_http_pool::HttpPool;
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::timeout};

/// Nothing in these tests takes this long on a machine that works at all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub(crate) struct Drive {
    pub(crate) transport: Arc<dyn Transport>,
    inbox: Arc<tokio::sync::Mutex<Inbox>>,
    version: Option<ProtocolVersion>,
}

/// One request, with what is not as usual.
#[derive(Default)]
pub(crate) struct Ask {
    pub(crate) class: RequestClass,
    pub(crate) sink: Option<Arc<Recorder>>,
    pub(crate) name: Option<&'static str>,
}

pub(crate) fn connect(url: &str) -> ConnectRequest {
    let target = TransportSpec::Http(HttpSpec::new(url));
    ConnectRequest::new("fixture".parse().unwrap(), target)
}

pub(crate) fn initialize_params() -> Value {
    json!({
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    })
}

pub(crate) fn modern_meta() -> Value {
    json!({"_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    }})
}

impl Drive {
    pub(crate) async fn open(url: &str) -> Self {
        Self::connected(connect(url)).await
    }

    pub(crate) async fn connected(request: ConnectRequest) -> Self {
        Self::on(HttpPool::new(), request).await
    }

    pub(crate) async fn on(pool: HttpPool, request: ConnectRequest) -> Self {
        let transport = HttpConnector::new(pool).connect(request).await.unwrap();
        let inbox = transport.incoming().expect("the inbox is given once");
        assert!(transport.incoming().is_none());
        Self {
            transport,
            inbox: Arc::new(tokio::sync::Mutex::new(inbox)),
            version: None,
        }
    }

    /// A client with a session of 2025-11-25.
    pub(crate) async fn initialized(url: &str) -> Self {
        let mut drive = Self::open(url).await;
        drive.initialize().await;
        drive
    }

    pub(crate) async fn initialize(&mut self) -> Value {
        let answer = self.handshake("initialize", initialize_params()).await;
        let answer = answer.unwrap();
        self.version = Some(ProtocolVersion::new(
            answer["protocolVersion"].as_str().expect("a version"),
        ));
        self.notify("notifications/initialized").await.unwrap();
        answer
    }

    /// A client that speaks 2026-07-28.
    pub(crate) async fn modern(url: &str) -> Self {
        let mut drive = Self::open(url).await;
        drive.discover().await.unwrap();
        drive
    }

    pub(crate) async fn discover(&mut self) -> Result<Value> {
        self.version = Some(ProtocolVersion::V_2026_07_28);
        self.handshake("server/discover", modern_meta()).await
    }

    pub(crate) async fn handshake(&self, method: &str, params: Value) -> Result<Value> {
        let ask = Ask {
            class: RequestClass::Handshake,
            ..Ask::default()
        };
        self.ask(method, params, ask).await
    }

    pub(crate) async fn request(&self, method: &str, params: Value) -> Result<Value> {
        self.ask(method, params, Ask::default()).await
    }

    pub(crate) async fn ask(&self, method: &str, params: Value, ask: Ask) -> Result<Value> {
        self.raw(method, params, ask)
            .await
            .map(|result| result.parse().unwrap())
    }

    pub(crate) async fn raw(&self, method: &str, params: Value, ask: Ask) -> Result<Raw> {
        let params = Raw::of(&params).unwrap();
        let version = self.version.as_ref().filter(|_| method != "initialize");
        let request = WireRequest::new(method, Some(&params))
            .with_version(version)
            .with_name(ask.name)
            .with_class(ask.class);
        let sink = ask.sink.map(|sink| sink as Arc<dyn RequestSink>);
        let asked = self.transport.request(request, sink);
        timeout(PATIENCE, asked).await.expect("a request ends")
    }

    /// Sends a request on a task.
    pub(crate) fn start(&self, method: &'static str, params: Value) -> JoinHandle<Result<Value>> {
        self.start_with(method, params, Ask::default())
    }

    pub(crate) fn start_with(
        &self,
        method: &'static str,
        params: Value,
        ask: Ask,
    ) -> JoinHandle<Result<Value>> {
        let drive = self.clone();
        tokio::spawn(async move { drive.ask(method, params, ask).await })
    }

    /// Sends a request that must fail.
    pub(crate) async fn refused(&self, method: &str, params: Value) -> Error {
        self.request(method, params).await.expect_err("a refusal")
    }

    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> Result<Value> {
        let params = json!({"name": tool, "arguments": arguments});
        self.request("tools/call", params).await
    }

    /// Calls the fixture's `echo`, which must answer.
    pub(crate) async fn echo(&self, message: &str) {
        let answer = self.call("echo", json!({"message": message})).await;
        assert_eq!(answer.unwrap()["content"][0]["text"], message);
    }

    pub(crate) async fn notify(&self, method: &str) -> Result<()> {
        let notification = Notification::new(method, None);
        let told = self.transport.notify(&notification);
        timeout(PATIENCE, told).await.expect("a notification ends")
    }

    /// What the server says by itself; `None` at the end of the connection.
    pub(crate) async fn next(&self) -> Option<Incoming> {
        let mut inbox = self.inbox.lock().await;
        let next = timeout(PATIENCE, inbox.next()).await;
        next.expect("something comes")
    }

    /// Waits for a notification of this method.
    pub(crate) async fn notification(&self, method: &str) -> Notification {
        loop {
            match self.next().await.expect("the connection lives") {
                Incoming::Notification(found) if found.method == method => return found,
                _ => {}
            }
        }
    }

    /// Waits for the end of the connection, and says why.
    pub(crate) async fn ended(&self) -> Option<Error> {
        let ended = timeout(PATIENCE, self.transport.closed()).await;
        ended.expect("the connection ends")
    }

    pub(crate) async fn close(&self) {
        let closed = timeout(PATIENCE, self.transport.close()).await;
        closed.expect("close ends").unwrap();
    }

    pub(crate) fn failure(&self) -> Option<Error> {
        self.transport.monitor().failure()
    }

    pub(crate) fn diagnostics(&self) -> Diagnostics {
        self.transport.monitor().diagnostics()
    }
}

/// The error of a request that was under way.
pub(crate) async fn failed(asked: JoinHandle<Result<Value>>) -> Error {
    timeout(PATIENCE, asked)
        .await
        .expect("a request ends")
        .unwrap()
        .expect_err("a failure")
}

/// Records the calls of a sink.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) keeps: bool,
    events: Mutex<Vec<String>>,
    changed: tokio::sync::Notify,
}

impl Recorder {
    pub(crate) fn keeping() -> Arc<Self> {
        Arc::new(Self {
            keeps: true,
            ..Self::default()
        })
    }

    pub(crate) fn events(&self) -> Vec<String> {
        self.events.lock().unwrap().clone()
    }

    /// Waits until it got this event.
    pub(crate) async fn until(&self, event: &str) {
        let told = async {
            loop {
                let changed = self.changed.notified();
                if self.events().iter().any(|known| known == event) {
                    return;
                }
                changed.await;
            }
        };
        timeout(PATIENCE, told).await.expect(event);
    }

    fn note(&self, event: impl Into<String>) {
        self.events.lock().unwrap().push(event.into());
        self.changed.notify_waiters();
    }
}

impl RequestSink for Recorder {
    fn assigned(&self, _: RequestId) {
        self.note("assigned");
    }

    fn sent(&self) {
        self.note("sent");
    }

    fn wants_progress(&self) -> bool {
        true
    }

    fn progress(&self, progress: Progress) {
        self.note(format!("progress {}", progress.progress));
    }

    fn notification(&self, notification: &Notification) -> bool {
        self.note(notification.method.clone());
        self.keeps
    }
}
