//! The MCP of one session: what a gateway asks is asked of the server, and the other way round.
//!
//! A session is spoken as the newest revision with `initialize`, or the server's own where that is
//! older: between the server's era and that the worker's client stands, as for any application.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use mcpool_core::{
    ConnectionInfo, Error, Message, Notification, ParsedLine, ProtocolVersion, Raw, RawObject,
    Request, RequestOptions, ResponseId, RpcError, ServerNotice, ServerRequest, encode_response,
    parse_line,
};
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::{
    questions::{OfSession, Questions},
    soon::{LISTS, Soon},
    standing::Standing,
};
use crate::{
    head::{Head, Kind},
    outgoing::{About, Outgoing, Stopped},
    reasons::{Notice, Reason},
};

/// Requests of one session that run at once.
const MAX_RUNNING: usize = 4_096;

/// How long a server may take to answer the ping of a gateway.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// What a gateway says when what its client answers to `roots/list` has changed.
const ROOTS_CHANGED: &str = "notifications/roots/list_changed";

/// One session's MCP.
pub(super) struct Relay {
    session: String,
    out: Arc<Outgoing>,
    standing: Arc<Standing>,
    /// Whether this tool is hidden by the worker's configuration.
    permits: Box<dyn Fn(&str) -> bool + Send + Sync>,
    running: Mutex<HashMap<String, AbortOnDropHandle<()>>>,
    questions: Arc<Questions>,
    /// Who answers what the server asks by itself, where its connection is this session's own.
    own: Option<Arc<OfSession>>,
    /// Of several changes one after the other, the server hears as many as it takes.
    roots_changed: Notify,
    soon: Arc<Soon>,
    /// A request has ended.
    ended: Notify,
    /// An answer was lost: the session cannot go on.
    lost: Notify,
}

impl Relay {
    /// The MCP of a session. Where the server's connection is the session's own, `own` answers what
    /// the server asks by itself.
    pub(super) fn new(
        session: String,
        out: Arc<Outgoing>,
        standing: Arc<Standing>,
        own: Option<Arc<OfSession>>,
        permits: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> Arc<Self> {
        let soon = Arc::new(Soon::default());
        let only = own.is_some().then(|| session.clone());
        Arc::new(Self {
            session,
            questions: Questions::new(Arc::clone(&out), Arc::clone(&soon), only),
            out,
            standing,
            permits: Box::new(permits),
            running: Mutex::default(),
            own,
            roots_changed: Notify::new(),
            soon,
            ended: Notify::new(),
            lost: Notify::new(),
        })
    }

    /// Waits until nothing runs any more.
    pub(super) async fn idle(&self) {
        loop {
            let ended = self.ended.notified();
            if lock(&self.running).is_empty() {
                return;
            }
            ended.await;
        }
    }

    /// Waits until an answer was lost.
    pub(super) async fn lost(&self) {
        self.lost.notified().await;
    }

    /// Ends all that runs: the server is notified.
    pub(super) fn stop(&self) {
        let running = std::mem::take(&mut *lock(&self.running));
        drop(running);
        self.questions.stop();
    }

    /// Takes a message that began with this number. What is refused is said to be by the caller.
    pub(super) fn take(
        self: &Arc<Self>,
        number: u64,
        text: &str,
        left: Option<Duration>,
    ) -> Result<(), Notice> {
        match parse_line(text) {
            Ok(ParsedLine::One(Ok(Message::Request(request)))) => {
                self.asked(number, request, left)?;
            }
            Ok(ParsedLine::One(Ok(Message::Notification(notification)))) => {
                self.told(&notification);
            }
            Ok(ParsedLine::One(Ok(Message::Response { id, outcome }))) => {
                if let ResponseId::Ours(id) = id {
                    self.questions.answered(id.get(), outcome);
                }
            }
            _ => {
                return Err(Notice::new(
                    Reason::Other,
                    "the message is no JSON-RPC message",
                ));
            }
        }
        Ok(())
    }

    fn told(&self, notification: &Notification) {
        match (notification.method.as_str(), &self.own) {
            ("notifications/cancelled", _) => {
                if let Some(id) = cancelled(notification) {
                    let running = lock(&self.running).remove(id.get());
                    drop(running);
                    self.ended.notify_waiters();
                }
            }
            ("notifications/initialized", Some(own)) => own.begin(&self.questions),
            (ROOTS_CHANGED, Some(_)) => self.roots_changed.notify_one(),
            // The others are of the gateway's own session.
            _ => {}
        }
    }

    fn asked(
        self: &Arc<Self>,
        number: u64,
        request: ServerRequest,
        left: Option<Duration>,
    ) -> Result<(), Notice> {
        let id = request.id.get().to_owned();
        let mut running = lock(&self.running);
        if running.len() >= MAX_RUNNING {
            return Err(Notice::new(
                Reason::Busy,
                "too many requests of this session run",
            ));
        }
        let relay = Arc::downgrade(self);
        let key = id.clone();
        let task = tokio::spawn(async move {
            let Some(relay) = relay.upgrade() else { return };
            relay.run(number, request, left).await;
            let ended = lock(&relay.running).remove(&key);
            relay.ended.notify_waiters();
            // Dropped outside of the lock; it is this very task, at its end.
            drop(ended);
        });
        // It waits for the lock before it takes itself out.
        running.insert(id, AbortOnDropHandle::new(task));
        Ok(())
    }

    /// Runs a request and sends what came of it.
    async fn run(self: &Arc<Self>, number: u64, request: ServerRequest, left: Option<Duration>) {
        let outcome = match request.method.as_str() {
            "initialize" => Ok(self.initialize()),
            // A session is of the era before; what the server speaks is its client's to bridge.
            "server/discover" => Ok(Err(RpcError::method_not_found("server/discover"))),
            "ping" => {
                let alive = self.standing.client.probe(PING_TIMEOUT).await;
                alive.map(|_| Ok(Raw::empty_object()))
            }
            _ => self.ask(&request, left).await.map(Ok),
        };
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => match error.rpc() {
                Some(error) => Err(error.clone()),
                None => return self.failed(number, &error).await,
            },
        };
        let Ok(text) = encode_response(&request.id, &outcome) else {
            return;
        };
        let about = About {
            timeout: None,
            answers: request.id.get().parse().ok(),
        };
        // Progress stands before the answer.
        self.soon.flush(&self.out).await;
        match self.out.message(Bytes::from(text), about).await {
            // Refused: the gateway said so to its caller.
            Ok(()) | Err(Stopped::Refused(_)) => {}
            Err(Stopped::NoCredit | Stopped::Carrier(_)) => self.lost.notify_one(),
        }
    }

    async fn failed(&self, number: u64, error: &Error) {
        let (refused, mut notice) = Notice::of(error);
        if refused && self.standing.client.is_closed() {
            // Sent again at once it would find this session, which ends.
            notice.reason = Reason::Draining;
        }
        let kind = if refused { Kind::Refused } else { Kind::Failed };
        let told = self
            .out
            .say(Head::new(kind).of(number), notice.body())
            .await;
        if told.is_err() {
            self.lost.notify_one();
        }
    }

    fn initialize(&self) -> Result<Raw, RpcError> {
        let info = self.standing.client.info();
        let info = info.ok_or_else(|| RpcError::new(RpcError::INTERNAL, "the server is gone"))?;
        initialized(&info).map_err(|error| RpcError::new(RpcError::INTERNAL, error.message()))
    }

    async fn ask(
        self: &Arc<Self>,
        request: &ServerRequest,
        left: Option<Duration>,
    ) -> mcpool_core::Result<Raw> {
        let (params, meta) = split(request.params.as_ref())?;
        let mut options = RequestOptions::new();
        if may_be_asked(&request.method) {
            options = options.with_caller(self.questions.asker());
        }
        if let Some(left) = left {
            // The gateway's clock counts; ours ends what it cannot end any more.
            options = options.with_timeout(left).with_max_total(left);
        }
        let (meta, token) = meta;
        if let Some(meta) = meta {
            options = options.with_meta(meta);
        }
        if let Some(token) = token {
            let relay = Arc::downgrade(self);
            options = options.with_progress(move |progress| {
                if let Some(relay) = relay.upgrade() {
                    relay.progress(&token, &progress);
                }
            });
        }
        let mut asked = Request::new(request.method.clone());
        asked.params = params;
        let (client, session) = (&self.standing.client, &*self.session);
        match request.method.as_str() {
            "resources/subscribe" => self.standing.subscribe(session, &asked, &options).await,
            "resources/unsubscribe" => self.standing.unsubscribe(session, &asked, &options).await,
            "logging/setLevel" => self.standing.set_level(session, &asked, &options).await,
            "tools/call" if self.hides(&asked) => Err(Error::new(
                mcpool_core::ErrorKind::UnknownTool,
                "the tool is hidden by the worker's tool filter",
            )
            .with_delivery(mcpool_core::Delivery::Rejected)),
            "tools/list" => {
                let answer = client.request(&asked, &options).await?;
                Ok(self.shown(answer))
            }
            _ => client.request(&asked, &options).await,
        }
    }

    fn hides(&self, request: &Request) -> bool {
        let name = request.params.as_ref().and_then(named);
        name.is_some_and(|name| !(self.permits)(&name))
    }

    /// A list of tools without those that are hidden.
    fn shown(&self, answer: Raw) -> Raw {
        let Ok(mut object) = RawObject::parse(&answer) else {
            return answer;
        };
        let Some(Ok(tools)) = object.get("tools").map(Raw::parse::<Vec<Raw>>) else {
            return answer;
        };
        let before = tools.len();
        let mut tools = tools;
        tools.retain(|tool| named(tool).is_none_or(|name| (self.permits)(&name)));
        if tools.len() == before {
            return answer;
        }
        let shorter = Raw::of(&tools).and_then(|tools| {
            object.insert("tools", tools);
            object.to_raw()
        });
        shorter.unwrap_or(answer)
    }

    fn progress(&self, token: &Raw, progress: &mcpool_core::Progress) {
        let mut params = RawObject::new();
        params.insert("progressToken", token.clone());
        let members = [
            ("progress", Raw::of(&progress.progress).ok()),
            (
                "total",
                progress.total.and_then(|total| Raw::of(&total).ok()),
            ),
            (
                "message",
                progress
                    .message
                    .as_ref()
                    .and_then(|text| Raw::of(text).ok()),
            ),
        ];
        for (name, value) in members {
            if let Some(value) = value {
                params.insert(name, value);
            }
        }
        let notification = Notification::new("notifications/progress", params.to_raw().ok());
        self.soon.push(&notification);
    }

    /// Forwards what the server says by itself.
    pub(super) fn notice(&self, notice: ServerNotice) {
        for notification in self.notifications(notice) {
            self.soon.push(&notification);
        }
    }

    /// Sends the notifications of both sides, for ever.
    pub(super) async fn tell(&self) {
        tokio::join!(self.soon.run(&self.out), self.pass_on());
    }

    /// Notifies the server of changed roots of the client.
    async fn pass_on(&self) {
        let client = &self.standing.client;
        loop {
            self.roots_changed.notified().await;
            let notification = Notification::new(ROOTS_CHANGED, None);
            if let Err(error) = client.notify(&notification).await {
                tracing::debug!(
                    server = %client.server(),
                    kind = %error.kind(),
                    "a server did not hear of changed roots"
                );
            }
        }
    }

    fn notifications(&self, notice: ServerNotice) -> Vec<Notification> {
        let plain = |method: &str| Notification::new(method, None);
        match notice {
            ServerNotice::ToolsChanged => vec![plain(LISTS[0])],
            ServerNotice::PromptsChanged => vec![plain(LISTS[1])],
            ServerNotice::ResourcesChanged => vec![plain(LISTS[2])],
            ServerNotice::ResourceUpdated { uri } => {
                if !self.standing.is_subscribed(&self.session, &uri) {
                    return Vec::new();
                }
                let params = Raw::of(&json!({ "uri": uri })).ok();
                vec![Notification::new("notifications/resources/updated", params)]
            }
            ServerNotice::Log {
                level,
                logger,
                data,
            } => {
                let mut params = RawObject::new();
                let text = |text: &str| Raw::of(text).unwrap_or_else(|_| Raw::null());
                params.insert("level", text(&level));
                if let Some(logger) = logger {
                    params.insert("logger", text(&logger));
                }
                params.insert("data", data);
                vec![Notification::new(
                    "notifications/message",
                    params.to_raw().ok(),
                )]
            }
            // Anything may have changed.
            ServerNotice::SessionRenewed | ServerNotice::Missed { .. } => {
                LISTS.into_iter().map(plain).collect()
            }
            ServerNotice::Other { method, params } => vec![Notification::new(method, params)],
            _ => Vec::new(),
        }
    }
}

/// The answer to `initialize`: what the server said of itself.
fn initialized(info: &ConnectionInfo) -> mcpool_core::Result<Raw> {
    let newest = ProtocolVersion::LATEST_WITH_INITIALIZE;
    let version = match info.protocol.has_initialize() {
        true => &info.protocol,
        false => &newest,
    };
    let said = info.peer.raw.as_ref().map(RawObject::parse);
    let mut answer = RawObject::new();
    answer.insert("protocolVersion", Raw::of(version.as_str())?);
    if let Some(Ok(said)) = said {
        for name in ["capabilities", "serverInfo", "instructions"] {
            if let Some(value) = said.get(name) {
                answer.insert(name, value.clone());
            }
        }
    }
    if answer.get("capabilities").is_none() {
        answer.insert("capabilities", Raw::empty_object());
    }
    if answer.get("serverInfo").is_none() {
        let (name, version) = (&info.peer.name, &info.peer.version);
        let peer = json!({ "name": name, "version": version });
        answer.insert("serverInfo", Raw::of(&peer)?);
    }
    answer.to_raw()
}

type Meta = (Option<RawObject>, Option<Raw>);

/// The parameters without their `_meta`, its members, and the progress token among them: that one
/// is of this hop.
fn split(params: Option<&Raw>) -> mcpool_core::Result<(Option<Raw>, Meta)> {
    let Some(params) = params else {
        return Ok((None, (None, None)));
    };
    // Whatever is spelled so or with an escape is looked at.
    if !params.get().contains("_meta") && !params.get().contains("\\u") {
        return Ok((Some(params.clone()), (None, None)));
    }
    let Ok(mut object) = RawObject::parse(params) else {
        return Ok((Some(params.clone()), (None, None)));
    };
    let Some(Ok(mut meta)) = object.get("_meta").map(RawObject::parse) else {
        return Ok((Some(params.clone()), (None, None)));
    };
    object.remove("_meta");
    let token = meta.remove("progressToken");
    let meta = (!meta.is_empty()).then_some(meta);
    Ok((Some(object.to_raw()?), (meta, token)))
}

/// The member `name` of an object.
fn named(object: &Raw) -> Option<String> {
    RawObject::parse(object).ok()?.get("name")?.parse().ok()
}

/// Whether a server may ask the client of this request. Lists, subscriptions and the log level are
/// a gateway's own: one that is under way must not make it doubtful whose client is asked, where a
/// question names no request.
fn may_be_asked(method: &str) -> bool {
    let of_gateway = matches!(
        method,
        "resources/subscribe" | "resources/unsubscribe" | "logging/setLevel"
    );
    !of_gateway && !method.ends_with("/list")
}

/// Whom `notifications/cancelled` names.
fn cancelled(notification: &Notification) -> Option<Raw> {
    RawObject::parse(notification.params.as_ref()?)
        .ok()?
        .remove("requestId")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
