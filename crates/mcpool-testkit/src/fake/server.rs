//! The script of one fake server, over all its connections, and what it has seen.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use mcpool_core::{
    CloseReason, Error, Raw, Result, RpcError, ServerCapabilities, ServerNotice,
    model::{Prompt, Resource, Tool},
};
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};

use super::{
    client::Life,
    gauge::{Gauge, Within},
};

/// What a test can script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Op {
    /// A connect.
    Connect,
    /// A list of tools.
    ListTools,
    /// Any other list.
    List,
    /// A call, a read, any request that is not named here.
    Call,
    /// A subscription, its end, or a log level.
    Subscribe,
    /// A probe.
    Probe,
    /// A notification.
    Notify,
    /// A close.
    Close,
}

/// How it goes.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Act {
    /// It is answered at once.
    #[default]
    Answer,
    /// It is answered after so long.
    AnswerAfter(Duration),
    /// It fails at once.
    Fail(Error),
    /// It fails after so long.
    FailAfter(Duration, Error),
    /// The connection dies of it, and it fails so.
    Die(Error),
    /// It is answered when the test says so: [`FakeServer::release`].
    Held,
    /// It is never answered.
    Never,
    /// It panics.
    Panic,
}

type Handler = Arc<dyn Fn(Value) -> std::result::Result<Value, RpcError> + Send + Sync>;

/// One fake server: its script, and what it has seen. Clones are the same server.
#[derive(Clone, Default)]
pub struct FakeServer(Arc<Inner>);

#[derive(Default)]
struct Inner {
    script: Mutex<Script>,
    held: watch::Sender<u64>,
    logins: watch::Sender<u64>,
    calling: Gauge,
    clients: Gauge,
    all: Gauges,
}

/// What runs at all servers of a factory.
#[derive(Debug, Clone, Default)]
pub(super) struct Gauges {
    pub(super) calling: Gauge,
    pub(super) clients: Gauge,
    pub(super) probing: Gauge,
}

struct Script {
    queued: HashMap<Op, VecDeque<Act>>,
    standing: HashMap<Op, Act>,
    counts: HashMap<Op, usize>,
    answered: usize,
    dropped: usize,
    kills: usize,
    tools: Vec<Tool>,
    tools_ttl: Option<Duration>,
    prompts: Vec<Prompt>,
    resources: Vec<Resource>,
    capabilities: ServerCapabilities,
    handlers: HashMap<String, Handler>,
    subscriptions: Vec<String>,
    log_levels: Vec<String>,
    connect_times: Vec<Instant>,
    lives: Vec<Weak<Life>>,
}

impl Default for Script {
    fn default() -> Self {
        let mut capabilities = ServerCapabilities::tools_only();
        capabilities.tools_list_changed = true;
        capabilities.prompts = true;
        capabilities.resources = true;
        capabilities.resources_subscribe = true;
        capabilities.logging = true;
        Self {
            queued: HashMap::new(),
            standing: HashMap::new(),
            counts: HashMap::new(),
            answered: 0,
            dropped: 0,
            kills: 0,
            tools: vec![tool("echo")],
            tools_ttl: None,
            prompts: vec![from_json(json!({"name": "greet"}))],
            resources: vec![from_json(json!({"uri": "fake://one", "name": "one"}))],
            capabilities,
            handlers: HashMap::new(),
            subscriptions: Vec::new(),
            log_levels: Vec::new(),
            connect_times: Vec::new(),
            lives: Vec::new(),
        }
    }
}

/// A tool of this name that takes any object.
#[must_use]
pub fn tool(name: &str) -> Tool {
    from_json(json!({
        "name": name,
        "description": format!("the tool {name}"),
        "inputSchema": {"type": "object"},
    }))
}

fn from_json<T: serde::de::DeserializeOwned>(value: Value) -> T {
    match serde_json::from_value(value) {
        Ok(value) => value,
        Err(error) => unreachable!("written here, and not read back: {error}"),
    }
}

impl FakeServer {
    /// A server that keeps to the protocol, with one tool, one prompt and one resource.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A server whose clients and calls are counted with those of others.
    pub(super) fn counted(all: Gauges) -> Self {
        Self(Arc::new(Inner {
            all,
            ..Inner::default()
        }))
    }

    /// How the next one goes; several queue.
    pub fn next(&self, op: Op, act: Act) {
        self.script().queued.entry(op).or_default().push_back(act);
    }

    /// How each goes for which nothing is queued.
    pub fn always(&self, op: Op, act: Act) {
        self.script().standing.insert(op, act);
    }

    /// How often it was asked for.
    #[must_use]
    pub fn count(&self, op: Op) -> usize {
        self.script().counts.get(&op).copied().unwrap_or(0)
    }

    /// Calls that were answered.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.script().answered
    }

    /// Calls whose future was dropped before they ended.
    #[must_use]
    pub fn dropped(&self) -> usize {
        self.script().dropped
    }

    /// Clients that were ended by force.
    #[must_use]
    pub fn kills(&self) -> usize {
        self.script().kills
    }

    /// Lets everything that is [`Act::Held`] go on.
    pub fn release(&self) {
        self.0.held.send_modify(|n| *n += 1);
    }

    /// Brings new credentials.
    pub fn log_in(&self) {
        self.0.logins.send_modify(|n| *n += 1);
    }

    /// How many wait for new credentials.
    #[must_use]
    pub fn waiting_for_login(&self) -> usize {
        self.0.logins.receiver_count()
    }

    /// Answers the calls of a tool, and lists it. The closure gets the arguments and gives the
    /// `result`.
    pub fn on_tool(
        &self,
        name: &str,
        handler: impl Fn(Value) -> std::result::Result<Value, RpcError> + Send + Sync + 'static,
    ) {
        let mut script = self.script();
        if !script.tools.iter().any(|known| known.name == name) {
            script.tools.push(tool(name));
        }
        script
            .handlers
            .insert(format!("tools/call {name}"), Arc::new(handler));
    }

    /// Answers a method. The closure gets the parameters and gives the `result`.
    pub fn on_request(
        &self,
        method: &str,
        handler: impl Fn(Value) -> std::result::Result<Value, RpcError> + Send + Sync + 'static,
    ) {
        self.script()
            .handlers
            .insert(method.to_owned(), Arc::new(handler));
    }

    /// Sets its tools.
    pub fn set_tools(&self, tools: Vec<Tool>) {
        self.script().tools = tools;
    }

    /// Sets its tools by their names.
    pub fn set_tool_names(&self, names: &[&str]) {
        self.set_tools(names.iter().map(|name| tool(name)).collect());
    }

    /// Changes its tools and says so, as a good server does.
    pub fn change_tools(&self, tools: Vec<Tool>) {
        self.set_tools(tools);
        self.notify(&ServerNotice::ToolsChanged);
    }

    /// Sets how long it says its list of tools is fresh.
    pub fn set_tools_ttl(&self, ttl: Option<Duration>) {
        self.script().tools_ttl = ttl;
    }

    /// Sets its prompts.
    pub fn set_prompts(&self, prompts: Vec<Prompt>) {
        self.script().prompts = prompts;
    }

    /// Sets its resources.
    pub fn set_resources(&self, resources: Vec<Resource>) {
        self.script().resources = resources;
    }

    /// Sets what it says it offers, from the next connect on.
    pub fn set_capabilities(&self, capabilities: ServerCapabilities) {
        self.script().capabilities = capabilities;
    }

    /// What it says it offers.
    #[must_use]
    pub fn capabilities(&self) -> ServerCapabilities {
        self.script().capabilities.clone()
    }

    /// The subscriptions that stand, over all its clients, in order.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<String> {
        self.script().subscriptions.clone()
    }

    /// Forgets the subscriptions that were made.
    pub fn forget_subscriptions(&self) {
        self.script().subscriptions.clear();
    }

    /// The log levels that were set, over all its clients, in order.
    #[must_use]
    pub fn log_levels(&self) -> Vec<String> {
        self.script().log_levels.clone()
    }

    /// When each connect was asked for.
    #[must_use]
    pub fn connect_times(&self) -> Vec<Instant> {
        self.script().connect_times.clone()
    }

    /// Calls that run now, and at most.
    #[must_use]
    pub fn calling(&self) -> &Gauge {
        &self.0.calling
    }

    /// Its clients that exist, dead or alive.
    #[must_use]
    pub fn clients(&self) -> &Gauge {
        &self.0.clients
    }

    /// How many of its clients are alive.
    #[must_use]
    pub fn live(&self) -> usize {
        self.lives().len()
    }

    /// Ends every live client for this reason: the server has died.
    pub fn kill(&self, error: Error) {
        for life in self.lives() {
            life.end(CloseReason::Lost(error.clone()));
        }
    }

    /// Ends the newest live client for this reason.
    pub fn kill_newest(&self, error: Error) {
        if let Some(life) = self.lives().pop() {
            life.end(CloseReason::Lost(error));
        }
    }

    /// Ends one live client, counted from the oldest, for this reason.
    pub fn kill_nth(&self, nth: usize, error: Error) {
        if let Some(life) = self.lives().get(nth) {
            life.end(CloseReason::Lost(error));
        }
    }

    /// Says something on every live client.
    pub fn notify(&self, notice: &ServerNotice) {
        for life in self.lives() {
            life.notices.send(notice.clone());
        }
    }

    pub(super) fn client_exists(&self) -> [Within; 2] {
        [self.0.clients.enter(), self.0.all.clients.enter()]
    }

    pub(super) fn call_runs(&self) -> [Within; 2] {
        [self.0.calling.enter(), self.0.all.calling.enter()]
    }

    pub(super) fn probe_runs(&self) -> Within {
        self.0.all.probing.enter()
    }

    pub(super) fn adopt(&self, life: &Arc<Life>) {
        self.script().lives.push(Arc::downgrade(life));
    }

    pub(super) async fn new_credentials(&self) {
        let mut logins = self.0.logins.subscribe();
        // The sender lives as long as the server.
        let _ = logins.changed().await;
    }

    pub(super) fn killed(&self) {
        self.script().kills += 1;
    }

    pub(super) fn connect_began(&self) {
        self.script().connect_times.push(Instant::now());
    }

    pub(super) fn call_ended(&self, answered: Option<bool>) {
        let mut script = self.script();
        match answered {
            Some(true) => script.answered += 1,
            Some(false) => {}
            None => script.dropped += 1,
        }
    }

    /// Counts one of them and says how it goes.
    pub(super) fn take(&self, op: Op) -> Act {
        let mut script = self.script();
        *script.counts.entry(op).or_default() += 1;
        let queued = script.queued.get_mut(&op).and_then(VecDeque::pop_front);
        queued.unwrap_or_else(|| script.standing.get(&op).cloned().unwrap_or_default())
    }

    /// Does what is said, but for a death, which is the client's.
    ///
    /// # Panics
    /// When the script says so.
    #[expect(clippy::panic, reason = "a test asked for it")]
    pub(super) async fn act(&self, act: Act) -> Result<()> {
        match act {
            Act::Answer => Ok(()),
            Act::AnswerAfter(pause) => {
                tokio::time::sleep(pause).await;
                Ok(())
            }
            Act::Fail(error) | Act::Die(error) => Err(error),
            Act::FailAfter(pause, error) => {
                tokio::time::sleep(pause).await;
                Err(error)
            }
            Act::Held => {
                let mut held = self.0.held.subscribe();
                // The sender lives as long as the server.
                let _ = held.changed().await;
                Ok(())
            }
            Act::Never => std::future::pending().await,
            Act::Panic => panic!("the script of the fake has a panic here"),
        }
    }

    /// The result of a request.
    pub(super) fn answer(&self, server: &str, method: &str, params: &Value) -> Result<Raw> {
        let name = params["name"].as_str().unwrap_or_default();
        let (handler, input) = {
            let script = self.script();
            match script.handlers.get(&format!("{method} {name}")) {
                Some(handler) => (Some(Arc::clone(handler)), params["arguments"].clone()),
                None => (script.handlers.get(method).cloned(), params.clone()),
            }
        };
        // Called without the lock: it may ask the server something.
        let result = match handler {
            Some(handler) => handler(input).map_err(Error::from_rpc)?,
            None => self.standard(server, method, params),
        };
        Raw::of(&result)
    }

    fn standard(&self, server: &str, method: &str, params: &Value) -> Value {
        let mut script = self.script();
        let uri = params["uri"].as_str().unwrap_or_default();
        let name = params["name"].as_str().unwrap_or_default();
        match method {
            "tools/list" => {
                let mut page = json!({ "tools": script.tools });
                if let Some(ttl) = script.tools_ttl {
                    page["ttlMs"] = json!(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
                }
                page
            }
            "tools/call" => json!({
                "content": [{"type": "text", "text": format!("{server}:{name}")}],
                "structuredContent": params["arguments"],
            }),
            "prompts/list" => json!({ "prompts": script.prompts }),
            "prompts/get" => json!({
                "messages": [{"role": "user", "content": {"type": "text", "text": name}}],
            }),
            "resources/list" => json!({ "resources": script.resources }),
            "resources/templates/list" => json!({
                "resourceTemplates": [{"uriTemplate": "fake://{name}", "name": "any"}],
            }),
            "resources/read" => json!({"contents": [{"uri": uri, "text": uri}]}),
            "resources/subscribe" => {
                script.subscriptions.push(uri.to_owned());
                json!({})
            }
            "resources/unsubscribe" => {
                script.subscriptions.retain(|known| known != uri);
                json!({})
            }
            "logging/setLevel" => {
                let level = params["level"].as_str().unwrap_or_default().to_owned();
                script.log_levels.push(level);
                json!({})
            }
            "completion/complete" => json!({"completion": {"values": ["one"]}}),
            _ => json!({"method": method, "params": params}),
        }
    }

    fn lives(&self) -> Vec<Arc<Life>> {
        let mut script = self.script();
        script.lives.retain(|life| life.strong_count() > 0);
        script
            .lives
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|life| life.reason().is_none())
            .collect()
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for FakeServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeServer")
            .field("counts", &self.script().counts)
            .finish_non_exhaustive()
    }
}
