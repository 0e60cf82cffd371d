//! The fake client.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use mcpool_core::{
    Client, ClientSnapshot, CloseReason, ConnectionInfo, Delivery, Error, ErrorKind, Limits,
    NoticeSender, Notices, Notification, PeerInfo, ProbeMethod, ProbeReport, ProtocolVersion, Raw,
    Request, RequestOptions, Requester, Result, RpcError, ServerName, TransportKind,
};
use serde_json::Value;
use tokio::{sync::watch, time::Instant};

use super::{
    gauge::Within,
    server::{Act, FakeServer, Op},
};

/// One connection with a [`FakeServer`]. Dropping it closes it.
#[derive(Debug)]
pub struct FakeClient {
    info: Arc<ConnectionInfo>,
    limits: Limits,
    server: FakeServer,
    life: Arc<Life>,
    snapshot: Mutex<ClientSnapshot>,
    _exists: [Within; 2],
}

/// The end of one client, which its server can bring about.
#[derive(Debug)]
pub(super) struct Life {
    end: watch::Sender<Option<CloseReason>>,
    pub(super) notices: NoticeSender,
}

impl Life {
    /// Ends it; the first reason stays.
    pub(super) fn end(&self, reason: CloseReason) {
        self.end.send_if_modified(|end| {
            let first = end.is_none();
            if first {
                *end = Some(reason);
            }
            first
        });
    }

    pub(super) fn reason(&self) -> Option<CloseReason> {
        self.end.borrow().clone()
    }
}

impl FakeClient {
    /// A client of a server of its own, connected.
    ///
    /// # Panics
    /// When the name is no server name.
    #[must_use]
    #[expect(
        clippy::expect_used,
        reason = "a test that names its server badly must fail"
    )]
    pub fn new(server: &str) -> Self {
        let name = server.parse().expect("a valid server name");
        Self::connected(
            FakeServer::new(),
            name,
            TransportKind::Custom,
            Limits::default(),
        )
    }

    /// Answers the calls of a tool: see [`FakeServer::on_tool`].
    #[must_use]
    pub fn on_tool(
        self,
        name: &str,
        handler: impl Fn(Value) -> std::result::Result<Value, RpcError> + Send + Sync + 'static,
    ) -> Self {
        self.server.on_tool(name, handler);
        self
    }

    /// Answers a method: see [`FakeServer::on_request`].
    #[must_use]
    pub fn on_request(
        self,
        method: &str,
        handler: impl Fn(Value) -> std::result::Result<Value, RpcError> + Send + Sync + 'static,
    ) -> Self {
        self.server.on_request(method, handler);
        self
    }

    /// The server at its other end: its script, and what it has seen.
    #[must_use]
    pub fn fake_server(&self) -> &FakeServer {
        &self.server
    }

    pub(super) fn connected(
        server: FakeServer,
        name: ServerName,
        transport: TransportKind,
        limits: Limits,
    ) -> Self {
        let life = Arc::new(Life {
            end: watch::Sender::new(None),
            notices: NoticeSender::new(256),
        });
        server.adopt(&life);
        let peer = PeerInfo::default().with_capabilities(server.capabilities());
        let protocol = ProtocolVersion::LATEST_WITH_INITIALIZE;
        Self {
            info: Arc::new(ConnectionInfo::new(name, transport, protocol, peer)),
            limits,
            _exists: server.client_exists(),
            server,
            life,
            snapshot: Mutex::new(ClientSnapshot::now()),
        }
    }

    fn death(&self) -> Error {
        match self.life.reason() {
            Some(CloseReason::Lost(error)) => error,
            _ => Error::new(ErrorKind::ConnectionLost, "the client was closed"),
        }
    }

    /// Runs one of the script until it ends, its time is over, or the connection ends.
    async fn during(&self, op: Op, timeout: Option<Duration>) -> Result<()> {
        if self.is_closed() {
            return Err(self.death().with_delivery(Delivery::NotSent));
        }
        let act = self.server.take(op);
        if let Act::Die(error) = &act {
            self.life.end(CloseReason::Lost(error.clone()));
            return Err(error.clone());
        }
        let timed_out = async {
            match timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            outcome = self.server.act(act) => outcome,
            _ = self.closed() => Err(self.death()),
            () = timed_out => Err(Error::new(ErrorKind::Timeout, "no answer in time")),
        }
    }
}

/// Counts how a call ended.
struct Running<'a> {
    server: &'a FakeServer,
    answered: Option<bool>,
    _calling: [Within; 2],
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.server.call_ended(self.answered);
    }
}

#[async_trait]
impl Requester for FakeClient {
    fn server(&self) -> &ServerName {
        &self.info.server
    }

    fn info(&self) -> Option<Arc<ConnectionInfo>> {
        Some(Arc::clone(&self.info))
    }

    fn limits(&self) -> Limits {
        self.limits.clone()
    }

    async fn request(&self, request: &Request, options: &RequestOptions) -> Result<Raw> {
        let op = match &*request.method {
            "tools/list" => Op::ListTools,
            "prompts/list" | "resources/list" | "resources/templates/list" => Op::List,
            "resources/subscribe" | "resources/unsubscribe" | "logging/setLevel" => Op::Subscribe,
            _ => Op::Call,
        };
        let mut running = (op == Op::Call).then(|| Running {
            server: &self.server,
            answered: None,
            _calling: self.server.call_runs(),
        });
        let timeout = match (options.timeout, options.max_total) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        let outcome = match self.during(op, timeout).await {
            Ok(()) => {
                let params = match &request.params {
                    Some(params) => params.parse()?,
                    None => Value::Null,
                };
                self.snapshot
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .last_activity = Instant::now();
                self.server
                    .answer(self.info.server.as_str(), &request.method, &params)
            }
            Err(error) => Err(error),
        };
        if let Some(running) = &mut running {
            running.answered = Some(outcome.is_ok());
        }
        outcome.map_err(|error| error.with_server(&self.info.server))
    }

    fn notices(&self) -> Notices {
        self.life.notices.subscribe()
    }
}

#[async_trait]
impl Client for FakeClient {
    fn snapshot(&self) -> ClientSnapshot {
        self.snapshot
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn probe(&self, timeout: Duration) -> Result<ProbeReport> {
        let _probing = self.server.probe_runs();
        let began = Instant::now();
        self.during(Op::Probe, Some(timeout)).await?;
        Ok(ProbeReport::new(began.elapsed(), ProbeMethod::Ping))
    }

    async fn notify(&self, _: &Notification) -> Result<()> {
        self.during(Op::Notify, None).await
    }

    async fn closed(&self) -> CloseReason {
        let mut end = self.life.end.subscribe();
        let reason = end.wait_for(Option::is_some).await;
        match reason.ok().and_then(|reason| reason.clone()) {
            Some(reason) => reason,
            None => CloseReason::Requested,
        }
    }

    fn is_closed(&self) -> bool {
        self.life.end.borrow().is_some()
    }

    async fn close(&self) {
        // The calls end at once, however long the rest takes.
        let first = !self.is_closed();
        self.life.end(CloseReason::Requested);
        if first {
            let act = self.server.take(Op::Close);
            // A close that fails is closed all the same.
            let _ = self.server.act(act).await;
        }
    }

    fn kill(&self) {
        self.life.end(CloseReason::Requested);
        self.server.killed();
    }
}

impl Drop for FakeClient {
    fn drop(&mut self) {
        self.life.end(CloseReason::Requested);
    }
}
