//! Drives one transport: the handshake, requests with patience.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use mcpool_core::{
    ConnectRequest, Error, Notification, Progress, ProtocolVersion, Raw, RequestClass, RequestId,
    RequestSink, ShutdownPolicy, Transport, WireRequest,
};
use serde_json::{Value, json};

use super::{ContractTarget, RunningFixture, Violation};
use crate::{Behavior, fixtures::engine::lock};

/// The version that the suite speaks.
static VERSION: ProtocolVersion = ProtocolVersion::V_2025_11_25;

/// What "at once" may mean on a machine that is busy.
pub(super) const AT_ONCE: Duration = Duration::from_secs(5);

pub(super) fn violated<T>(check: &'static str, seen: impl Into<String>) -> Result<T, Violation> {
    Err(Violation {
        check,
        seen: seen.into(),
    })
}

/// A connected transport, its fixture, and the name of the check for what goes wrong.
pub(super) struct Drive {
    pub(super) check: &'static str,
    pub(super) patience: Duration,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) fixture: Box<dyn RunningFixture>,
}

/// The result of an answer, or the error, in patience.
pub(super) type Answer = mcpool_core::Result<Value>;

pub(super) fn raw(value: &Value) -> Raw {
    match Raw::of(value) {
        Ok(raw) => raw,
        Err(error) => unreachable!("a JSON value is JSON: {error}"),
    }
}

pub(super) fn text(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap_or_default()
}

/// The request with a short shutdown, so that the suite does not wait for the default.
pub(super) fn request(fixture: &dyn RunningFixture) -> ConnectRequest {
    let mut shutdown = ShutdownPolicy::default();
    shutdown.stdin_grace = Duration::from_millis(500);
    shutdown.term_grace = Duration::from_millis(500);
    shutdown.total = Duration::from_secs(2);
    fixture.request().with_shutdown(shutdown)
}

/// Sends a request and waits for its answer, for as long as it takes.
pub(super) async fn ask(
    transport: &dyn Transport,
    method: &str,
    params: Value,
    class: RequestClass,
    sink: Option<Arc<dyn RequestSink>>,
) -> Answer {
    let params = raw(&params);
    let request = WireRequest::new(method, Some(&params)).with_class(class);
    let request = match class {
        RequestClass::Handshake => request,
        _ => request.with_version(Some(&VERSION)),
    };
    let name = params.parse::<Value>()?["name"].as_str().map(str::to_owned);
    let result = transport
        .request(request.with_name(name.as_deref()), sink)
        .await?;
    result.parse()
}

/// The handshake of 2025-11-25.
pub(super) async fn handshake(transport: &dyn Transport) -> mcpool_core::Result<()> {
    let hello = json!({
        "protocolVersion": "2025-11-25",
        "capabilities": {"roots": {}},
        "clientInfo": {"name": "contract", "version": "1"},
    });
    let answer = ask(
        transport,
        "initialize",
        hello,
        RequestClass::Handshake,
        None,
    )
    .await?;
    if answer["protocolVersion"] != "2025-11-25" {
        return Err(Error::new(
            mcpool_core::ErrorKind::VersionMismatch,
            format!("the handshake gave {answer}"),
        ));
    }
    let initialized = Notification::new("notifications/initialized", None);
    transport.notify(&initialized).await
}

impl Drive {
    pub(super) async fn connect(
        check: &'static str,
        target: &dyn ContractTarget,
    ) -> Result<Self, Violation> {
        let fixture = target.start(Behavior::new()).await;
        Self::connect_to(check, target, fixture).await
    }

    pub(super) async fn connect_to(
        check: &'static str,
        target: &dyn ContractTarget,
        fixture: Box<dyn RunningFixture>,
    ) -> Result<Self, Violation> {
        let patience = target.patience();
        let connector = target.connector();
        let connect = connector.connect(request(fixture.as_ref()));
        let transport = match tokio::time::timeout(patience, connect).await {
            Ok(Ok(transport)) => transport,
            Ok(Err(error)) => return violated(check, format!("connect: {error}")),
            Err(_) => return violated(check, "connect did not end"),
        };
        let drive = Self {
            check,
            patience,
            transport,
            fixture,
        };
        drive.shake_hands().await?;
        Ok(drive)
    }

    pub(super) async fn shake_hands(&self) -> Result<(), Violation> {
        match tokio::time::timeout(self.patience, handshake(&*self.transport)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => violated(self.check, format!("the handshake: {error}")),
            Err(_) => violated(self.check, "the handshake did not end"),
        }
    }

    /// Sends a request; its answer must come and be good.
    pub(super) async fn ask(&self, method: &str, params: Value) -> Result<Value, Violation> {
        self.good(method, params, None).await
    }

    /// As [`ask`](Self::ask), with a sink.
    pub(super) async fn ask_with(
        &self,
        method: &str,
        params: Value,
        sink: &Arc<Recorder>,
    ) -> Result<Value, Violation> {
        self.good(method, params, Some(Arc::clone(sink) as _)).await
    }

    async fn good(
        &self,
        method: &str,
        params: Value,
        sink: Option<Arc<dyn RequestSink>>,
    ) -> Result<Value, Violation> {
        let asking = ask(&*self.transport, method, params, RequestClass::Call, sink);
        match tokio::time::timeout(self.patience, asking).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(error)) => violated(self.check, format!("{method}: {error}")),
            Err(_) => violated(self.check, format!("{method} was not answered")),
        }
    }

    /// Sends a request that must fail in time, and gives its error.
    pub(super) async fn failure(
        &self,
        method: &str,
        params: Value,
        bound: Duration,
    ) -> Result<Error, Violation> {
        let asking = ask(&*self.transport, method, params, RequestClass::Call, None);
        match tokio::time::timeout(bound, asking).await {
            Ok(Err(error)) => Ok(error),
            Ok(Ok(answer)) => violated(self.check, format!("{method} was good: {answer}")),
            Err(_) => violated(self.check, format!("{method} did not end in {bound:?}")),
        }
    }

    /// Calls a tool; its answer must come and be good.
    pub(super) async fn call(&self, tool: &str, arguments: Value) -> Result<Value, Violation> {
        let params = json!({"name": tool, "arguments": arguments});
        self.ask("tools/call", params).await
    }

    pub(super) async fn close(&self, bound: Duration) -> Result<(), Violation> {
        match tokio::time::timeout(bound, self.transport.close()).await {
            // A close that was not orderly is an error, and the resources are released all the
            // same.
            Ok(_) => Ok(()),
            Err(_) => violated(self.check, format!("close took longer than {bound:?}")),
        }
    }
}

/// What a sink heard.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Heard {
    Assigned(RequestId),
    Sent,
    Progress(f64),
}

/// A sink that keeps what it hears.
#[derive(Debug, Default)]
pub(super) struct Recorder(Mutex<Vec<Heard>>);

impl Recorder {
    pub(super) fn heard(&self) -> Vec<Heard> {
        lock(&self.0).clone()
    }
}

impl RequestSink for Recorder {
    fn assigned(&self, id: RequestId) {
        lock(&self.0).push(Heard::Assigned(id));
    }

    fn sent(&self) {
        lock(&self.0).push(Heard::Sent);
    }

    fn wants_progress(&self) -> bool {
        true
    }

    fn progress(&self, progress: Progress) {
        lock(&self.0).push(Heard::Progress(progress.progress));
    }
}
