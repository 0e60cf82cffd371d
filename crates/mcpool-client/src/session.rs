//! One live session: the [`Client`] of this crate.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use mcpool_core::{
    Client, ClientSnapshot, CloseReason, ConnectionInfo, Error, ErrorKind, Limits, LogLevel,
    Notices, Notification, ProbeReport, Raw, Request, RequestOptions, RequestTimeouts, Requester,
    Result, Rounds, ServerName, ServerSpec,
};
use serde::Deserialize;
use tokio::{runtime::Handle, time::Instant};

use crate::{
    answerer::Answerer,
    call::{Call, Context},
    clock::Clock,
    incoming::Leave,
    link::{Link, no_runtime},
    listen::Listener,
    probe, rounds,
    tool_headers::ToolHeaders,
};

/// A session that has begun. Dropping it closes the connection in the orderly way, without waiting
/// for that; when the runtime of the connect is gone, at once.
pub(crate) struct Session {
    link: Arc<Link>,
    answerer: Answerer,
    info: Arc<ConnectionInfo>,
    timeouts: RequestTimeouts,
    limits: Limits,
    listener: Listener,
    tools: ToolHeaders,
    connected_at: SystemTime,
    connected: Instant,
    closing: AtomicBool,
    leave: Option<Leave>,
}

impl Session {
    pub(crate) fn begin(
        link: Arc<Link>,
        leave: Leave,
        answerer: Answerer,
        spec: &ServerSpec,
        info: ConnectionInfo,
    ) -> Self {
        link.activity.heard();
        Self {
            listener: Listener::start(&link, &info.peer.capabilities),
            link,
            answerer,
            info: Arc::new(info),
            timeouts: spec.policy.timeouts.clone(),
            tools: ToolHeaders::new(&spec.policy.limits),
            limits: spec.policy.limits.clone(),
            connected_at: SystemTime::now(),
            connected: Instant::now(),
            closing: AtomicBool::new(false),
            leave: Some(leave),
        }
    }

    /// What the era without sessions says in another way; `None` for any other request.
    async fn translated(&self, request: &Request, options: &RequestOptions) -> Option<Result<()>> {
        let params = request.params.as_ref();
        Some(match &*request.method {
            "resources/subscribe" => match uri(params) {
                Ok(uri) => {
                    let patience = options.timeout.unwrap_or(self.timeouts.request);
                    let granted = self.listener.subscribe(&self.link, &uri, patience).await;
                    granted.map_err(|error| {
                        let error = self.link.explain(error);
                        error.with_operation("subscriptions/listen")
                    })
                }
                Err(error) => Err(error),
            },
            "resources/unsubscribe" => uri(params).map(|uri| self.listener.unsubscribe(&uri)),
            "logging/setLevel" => level(params).map(|level| {
                self.link
                    .set_meta("io.modelcontextprotocol/logLevel", level);
            }),
            _ => return None,
        })
    }
}

/// The requests that [`Session::translated`] knows.
fn is_translated(method: &str) -> bool {
    matches!(
        method,
        "resources/subscribe" | "resources/unsubscribe" | "logging/setLevel"
    )
}

/// The URI in the parameters of a subscription.
fn uri(params: Option<&Raw>) -> Result<String> {
    #[derive(Deserialize)]
    struct Params {
        uri: String,
    }
    match params.map(Raw::parse::<Params>) {
        Some(Ok(params)) => Ok(params.uri),
        _ => Err(invalid("the parameters hold no `uri`")),
    }
}

/// The level in the parameters of `logging/setLevel`. One that is none would make the server refuse
/// every request.
fn level(params: Option<&Raw>) -> Result<Raw> {
    #[derive(Deserialize)]
    struct Params {
        level: LogLevel,
    }
    match params.map(Raw::parse::<Params>) {
        Some(Ok(Params { level })) => Raw::of(&level),
        _ => Err(invalid("the parameters hold no `level` of RFC 5424")),
    }
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

#[async_trait]
impl Requester for Session {
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
        let method = &*request.method;
        if matches!(method, "initialize" | "subscriptions/listen") {
            let error =
                invalid("this request is the client's own business and cannot be sent by hand");
            return Err(error.with_server(&self.info.server));
        }
        let modern = self.link.is_modern();
        if modern && Handle::try_current().is_err() {
            // What stands below waits by itself, not only in the transport.
            return Err(no_runtime().with_server(&self.info.server));
        }
        // Boxed, as what is rare is: a future is as large as the largest thing in it.
        if modern
            && is_translated(method)
            && let Some(outcome) = Box::pin(self.translated(request, options)).await
        {
            return outcome
                .map(|()| Raw::empty_object())
                .map_err(|error| error.with_server(&self.info.server));
        }
        let context = Context {
            link: &self.link,
            tools: &self.tools,
            limits: &self.limits,
            answerer: &self.answerer,
        };
        let clock = Clock::start(options, &self.timeouts);
        let call = Call::new(context, request, options, clock);
        if modern && options.rounds == Rounds::Drive && rounds::may_ask(method) {
            Box::pin(rounds::drive(call)).await
        } else {
            call.send(request.params.as_ref()).await
        }
    }

    fn notices(&self) -> Notices {
        self.link.notices.subscribe()
    }
}

#[async_trait]
impl Client for Session {
    fn snapshot(&self) -> ClientSnapshot {
        let mut snapshot = ClientSnapshot::now().with_diagnostics(self.link.diagnostics());
        snapshot.connected_at = self.connected_at;
        snapshot.connected = self.connected;
        snapshot.last_activity = self.link.activity.last();
        snapshot
    }

    async fn probe(&self, timeout: Duration) -> Result<ProbeReport> {
        probe::probe(&self.link, timeout).await
    }

    async fn notify(&self, notification: &Notification) -> Result<()> {
        let method = &*notification.method;
        if matches!(
            method,
            "notifications/initialized" | "notifications/cancelled"
        ) {
            let error = invalid(
                "this notification is the client's own business and cannot be sent by hand",
            );
            return Err(error.with_server(&self.info.server));
        }
        if self.link.is_modern() {
            return Ok(());
        }
        if Handle::try_current().is_err() {
            return Err(no_runtime().with_server(&self.info.server));
        }
        let sending = self.link.transport.notify(notification);
        let sent = tokio::time::timeout(self.timeouts.request, sending).await;
        let sent = sent.unwrap_or_else(|_| {
            let what = "the connection did not take the notification in time";
            Err(Error::new(ErrorKind::Timeout, what))
        });
        sent.map_err(|error| self.link.explain(error))
    }

    async fn closed(&self) -> CloseReason {
        match self.link.transport.closed().await {
            None => CloseReason::Requested,
            Some(error) => CloseReason::Lost(self.link.explain(error)),
        }
    }

    fn is_closed(&self) -> bool {
        self.closing.load(Ordering::Acquire) || self.link.transport.is_closed()
    }

    async fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.link.close().await;
    }

    fn kill(&self) {
        self.closing.store(true, Ordering::Release);
        self.link.monitor.kill();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(leave) = self.leave.take() {
            leave.leave(Arc::clone(&self.link));
        }
    }
}
