//! A factory of scripted clients: servers that do what a test says, without processes or sockets.
#![allow(deprecated)]

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use mcpool_core::{
    Client, ClientFactory, CloseReason, ConnectionInfo, ConnectionTimes, Diagnostics, Error,
    ErrorKind, ProbeMethod, ProbeReport, RequestOptions, Result, ServerNotice, ServerSpec,
    StdioSpec, ToolListing, TransportKind,
    model::{
        CallToolResult, CompleteRequestParams, CompleteResult, CompletionInfo, ContentBlock,
        GetPromptResult, JsonObject, LoggingLevel, Prompt, PromptsCapability, ProtocolVersion,
        ReadResourceResult, Resource, ResourceTemplate, ResourcesCapability, ServerCapabilities,
        ServerPeerInfo, Tool, ToolsCapability,
    },
};
use serde_json::Value;
use tokio::{
    sync::{broadcast, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// The operations of a client that a test can script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    Connect,
    ListTools,
    Call,
    Probe,
    Close,
    Subscribe,
    Lists,
}

/// How an operation goes.
#[derive(Debug, Clone)]
pub enum Act {
    Ok,
    Fail(Error),
    /// Ok after so long.
    Slow(Duration),
    /// Ok when the test says so; see [`Fake::release`].
    Held,
    Never,
}

/// One scripted server, over all its connections.
pub struct Fake {
    pub name: String,
    queued: Mutex<HashMap<Op, VecDeque<Act>>>,
    standing: Mutex<HashMap<Op, Act>>,
    counts: Mutex<HashMap<Op, usize>>,
    held: watch::Sender<u64>,
    logins: watch::Sender<u64>,
    pub tools: Mutex<Vec<Tool>>,
    pub tools_ttl: Mutex<Option<Duration>>,
    pub prompts: Mutex<Vec<Prompt>>,
    pub resources: Mutex<Vec<Resource>>,
    pub capabilities: Mutex<ServerCapabilities>,
    pub subscribed: Mutex<Vec<String>>,
    pub log_levels: Mutex<Vec<LoggingLevel>>,
    /// When each connect was asked for.
    pub connect_times: Mutex<Vec<Instant>>,
    clients: Mutex<Vec<Weak<FakeClient>>>,
    /// Calls that ran to their end.
    pub ran: AtomicUsize,
    /// Whether probes count as answered by a client that is alive: the half-open connection.
    world: Weak<WorldState>,
}

/// The most things at once.
#[derive(Default)]
pub struct Concurrency {
    now: AtomicUsize,
    pub most: AtomicUsize,
}

impl Concurrency {
    fn enter(self: &Arc<Self>) -> Within {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        Within(Arc::clone(self))
    }

    pub fn now(&self) -> usize {
        self.now.load(Ordering::SeqCst)
    }

    pub fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

struct Within(Arc<Concurrency>);

impl Drop for Within {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Default)]
struct WorldState {
    servers: Mutex<BTreeMap<String, Arc<Fake>>>,
    connecting: Arc<Concurrency>,
    clients: Arc<Concurrency>,
    calling: Arc<Concurrency>,
    probing: Arc<Concurrency>,
}

/// All scripted servers; the factory that connects to them.
#[derive(Clone, Default)]
pub struct World(Arc<WorldState>);

impl World {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn factory(&self) -> Arc<dyn ClientFactory> {
        Arc::new(self.clone())
    }

    /// The server of this name; made when it is first asked for.
    pub fn server(&self, name: &str) -> Arc<Fake> {
        let mut servers = self.0.servers.lock().unwrap();
        Arc::clone(servers.entry(name.to_owned()).or_insert_with(|| {
            Arc::new(Fake {
                name: name.to_owned(),
                queued: Mutex::default(),
                standing: Mutex::default(),
                counts: Mutex::default(),
                held: watch::channel(0).0,
                logins: watch::channel(0).0,
                tools: Mutex::new(vec![tool("echo"), tool("add")]),
                tools_ttl: Mutex::default(),
                prompts: Mutex::default(),
                resources: Mutex::default(),
                capabilities: Mutex::new(all_capabilities()),
                subscribed: Mutex::default(),
                log_levels: Mutex::default(),
                connect_times: Mutex::default(),
                clients: Mutex::default(),
                ran: AtomicUsize::new(0),
                world: Arc::downgrade(&self.0),
            })
        }))
    }

    /// Connects at once, now and at most.
    pub fn connecting(&self) -> &Concurrency {
        &self.0.connecting
    }

    /// Clients that are not dropped.
    pub fn clients(&self) -> &Concurrency {
        &self.0.clients
    }

    pub fn calling(&self) -> &Concurrency {
        &self.0.calling
    }

    pub fn probing(&self) -> &Concurrency {
        &self.0.probing
    }
}

pub fn all_capabilities() -> ServerCapabilities {
    let mut capabilities = ServerCapabilities::default();
    capabilities.tools = Some(ToolsCapability::default());
    capabilities.prompts = Some(PromptsCapability::default());
    capabilities.resources = Some(ResourcesCapability::default());
    capabilities
}

pub fn tool(name: &str) -> Tool {
    Tool::new(name.to_owned(), "a tool", JsonObject::new())
}

pub fn lost() -> Error {
    Error::new(ErrorKind::ConnectionLost, "the connection was cut")
}

pub fn refused() -> Error {
    Error::new(ErrorKind::Connect, "connection refused")
}

/// A stdio spec; nothing is started.
pub fn spec(name: &str) -> ServerSpec {
    ServerSpec::stdio(name, StdioSpec::new("scripted")).unwrap()
}

impl Fake {
    /// What the next time brings; after the queue the standing act.
    pub fn next(&self, op: Op, act: Act) {
        self.queued
            .lock()
            .unwrap()
            .entry(op)
            .or_default()
            .push_back(act);
    }

    /// What every time brings.
    pub fn always(&self, op: Op, act: Act) {
        self.standing.lock().unwrap().insert(op, act);
    }

    /// How often it was asked for.
    pub fn count(&self, op: Op) -> usize {
        self.counts.lock().unwrap().get(&op).copied().unwrap_or(0)
    }

    /// Brings new credentials.
    pub fn log_in(&self) {
        self.logins.send_modify(|n| *n += 1);
    }

    /// How many wait for new credentials.
    pub fn waiting_for_login(&self) -> usize {
        self.logins.receiver_count()
    }

    /// Lets everything that is held go on.
    pub fn release(&self) {
        self.held.send_modify(|n| *n += 1);
    }

    /// The clients that are alive.
    pub fn live(&self) -> Vec<Arc<FakeClient>> {
        self.clients
            .lock()
            .unwrap()
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|client| !client.is_closed())
            .collect()
    }

    /// Cuts every connection, as a server that dies does.
    pub fn die(&self) {
        for client in self.live() {
            client.end(CloseReason::Lost(lost()));
        }
    }

    /// Says something on every connection.
    pub fn say(&self, notice: &ServerNotice) {
        for client in self.live() {
            let _ = client.notices.send(notice.clone());
        }
    }

    pub fn set_tools(&self, names: &[&str]) {
        *self.tools.lock().unwrap() = names.iter().map(|name| tool(name)).collect();
    }

    async fn act(&self, op: Op) -> Result<()> {
        *self.counts.lock().unwrap().entry(op).or_default() += 1;
        let queued = self
            .queued
            .lock()
            .unwrap()
            .get_mut(&op)
            .and_then(VecDeque::pop_front);
        let act = queued.unwrap_or_else(|| {
            let standing = self.standing.lock().unwrap();
            standing.get(&op).cloned().unwrap_or(Act::Ok)
        });
        match act {
            Act::Ok => Ok(()),
            Act::Fail(error) => Err(error),
            Act::Slow(time) => {
                tokio::time::sleep(time).await;
                Ok(())
            }
            Act::Held => {
                let mut held = self.held.subscribe();
                held.borrow_and_update();
                held.changed().await.unwrap();
                Ok(())
            }
            Act::Never => std::future::pending().await,
        }
    }
}

#[async_trait]
impl ClientFactory for World {
    async fn connect(&self, spec: &ServerSpec) -> Result<Arc<dyn Client>> {
        if !spec.enabled {
            return Err(Error::new(ErrorKind::Disabled, "the spec is disabled"));
        }
        let fake = self.server(spec.name.as_str());
        let _within = self.0.connecting.enter();
        fake.connect_times.lock().unwrap().push(Instant::now());
        fake.act(Op::Connect).await?;
        let peer = ServerPeerInfo::new(
            ProtocolVersion::V_2025_06_18,
            fake.capabilities.lock().unwrap().clone(),
        );
        let client = Arc::new(FakeClient {
            info: ConnectionInfo::new(
                spec.name.clone(),
                TransportKind::Stdio,
                ProtocolVersion::V_2025_06_18,
                peer,
            ),
            times: Mutex::new(ConnectionTimes::now()),
            fake: Arc::clone(&fake),
            ended: CancellationToken::new(),
            reason: Mutex::new(None),
            notices: broadcast::channel(64).0,
            _within: self.0.clients.enter(),
        });
        fake.clients.lock().unwrap().push(Arc::downgrade(&client));
        Ok(client)
    }

    async fn credentials_changed(&self, spec: &ServerSpec) {
        let mut logins = self.server(spec.name.as_str()).logins.subscribe();
        logins.changed().await.unwrap();
    }
}

pub struct FakeClient {
    info: ConnectionInfo,
    times: Mutex<ConnectionTimes>,
    fake: Arc<Fake>,
    ended: CancellationToken,
    reason: Mutex<Option<CloseReason>>,
    pub notices: broadcast::Sender<ServerNotice>,
    _within: Within,
}

impl FakeClient {
    pub fn end(&self, reason: CloseReason) {
        self.reason.lock().unwrap().get_or_insert(reason);
        self.ended.cancel();
    }

    fn death(&self) -> Error {
        match &*self.reason.lock().unwrap() {
            Some(CloseReason::Lost(error)) => error.clone(),
            _ => Error::new(ErrorKind::ConnectionLost, "the client was closed"),
        }
    }

    /// Runs an operation until it ends or the connection does.
    async fn during(&self, op: Op) -> Result<()> {
        if self.ended.is_cancelled() {
            return Err(self.death().with_delivery(mcpool_core::Delivery::NotSent));
        }
        tokio::select! {
            biased;
            result = self.fake.act(op) => result?,
            () = self.ended.cancelled() => return Err(self.death()),
        }
        if op != Op::Probe {
            self.times.lock().unwrap().last_activity = Instant::now();
        }
        Ok(())
    }

    fn world(&self) -> Arc<WorldState> {
        self.fake.world.upgrade().unwrap()
    }
}

#[async_trait]
impl Client for FakeClient {
    fn info(&self) -> &ConnectionInfo {
        &self.info
    }

    fn times(&self) -> ConnectionTimes {
        *self.times.lock().unwrap()
    }

    fn diagnostics(&self) -> Diagnostics {
        Diagnostics::default()
    }

    async fn list_tools(&self, _: &RequestOptions) -> Result<ToolListing> {
        self.during(Op::ListTools).await?;
        let mut listing = ToolListing::new(self.fake.tools.lock().unwrap().clone());
        listing.ttl = *self.fake.tools_ttl.lock().unwrap();
        Ok(listing)
    }

    async fn call_tool(
        &self,
        name: &str,
        _: Option<JsonObject>,
        options: &RequestOptions,
    ) -> Result<CallToolResult> {
        let _within = self.world().calling.enter();
        let call = self.during(Op::Call);
        match options.timeout {
            Some(timeout) => tokio::time::timeout(timeout, call)
                .await
                .unwrap_or_else(|_| Err(Error::new(ErrorKind::Timeout, "no answer in time")))?,
            None => call.await?,
        }
        self.fake.ran.fetch_add(1, Ordering::SeqCst);
        Ok(CallToolResult::success(vec![ContentBlock::text(format!(
            "{}:{name}",
            self.fake.name
        ))]))
    }

    async fn list_prompts(&self, _: &RequestOptions) -> Result<Vec<Prompt>> {
        self.during(Op::Lists).await?;
        Ok(self.fake.prompts.lock().unwrap().clone())
    }

    async fn get_prompt(
        &self,
        _: &str,
        _: Option<JsonObject>,
        _: &RequestOptions,
    ) -> Result<GetPromptResult> {
        self.during(Op::Call).await?;
        Ok(GetPromptResult::new(Vec::new()))
    }

    async fn list_resources(&self, _: &RequestOptions) -> Result<Vec<Resource>> {
        self.during(Op::Lists).await?;
        Ok(self.fake.resources.lock().unwrap().clone())
    }

    async fn list_resource_templates(&self, _: &RequestOptions) -> Result<Vec<ResourceTemplate>> {
        self.during(Op::Lists).await?;
        Ok(Vec::new())
    }

    async fn read_resource(&self, _: &str, _: &RequestOptions) -> Result<ReadResourceResult> {
        self.during(Op::Call).await?;
        Ok(ReadResourceResult::new(Vec::new()))
    }

    async fn complete(
        &self,
        _: CompleteRequestParams,
        _: &RequestOptions,
    ) -> Result<CompleteResult> {
        self.during(Op::Call).await?;
        Ok(CompleteResult::new(CompletionInfo::default()))
    }

    async fn subscribe(&self, uri: &str) -> Result<()> {
        self.during(Op::Subscribe).await?;
        self.fake.subscribed.lock().unwrap().push(uri.to_owned());
        Ok(())
    }

    async fn unsubscribe(&self, uri: &str) -> Result<()> {
        self.during(Op::Subscribe).await?;
        self.fake.subscribed.lock().unwrap().retain(|u| u != uri);
        Ok(())
    }

    async fn set_log_level(&self, level: LoggingLevel) -> Result<()> {
        self.during(Op::Subscribe).await?;
        self.fake.log_levels.lock().unwrap().push(level);
        Ok(())
    }

    async fn request(&self, _: &str, _: Option<Value>, _: &RequestOptions) -> Result<Value> {
        self.during(Op::Call).await?;
        Ok(Value::Null)
    }

    async fn probe(&self, timeout: Duration) -> Result<ProbeReport> {
        let _within = self.world().probing.enter();
        let started = Instant::now();
        tokio::time::timeout(timeout, self.during(Op::Probe))
            .await
            .unwrap_or_else(|_| Err(Error::new(ErrorKind::Timeout, "no answer")))?;
        Ok(ProbeReport::new(started.elapsed(), ProbeMethod::Ping))
    }

    fn notices(&self) -> broadcast::Receiver<ServerNotice> {
        self.notices.subscribe()
    }

    async fn closed(&self) -> CloseReason {
        self.ended.cancelled().await;
        self.reason
            .lock()
            .unwrap()
            .clone()
            .unwrap_or(CloseReason::Requested)
    }

    fn is_closed(&self) -> bool {
        self.ended.is_cancelled()
    }

    async fn close(&self) {
        // The calls end at once, however long the rest takes.
        self.end(CloseReason::Requested);
        let _ = self.fake.act(Op::Close).await;
    }
}

/// Waits for a condition that no event tells of, under a generous time-out.
pub async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(3600), async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    assert!(waited.await.is_ok(), "it never came true that {what}");
}
