//! The verbs of the gateway: a request of a client in, a result out, as text.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use mcpool_core::{LogLevel, ProtocolVersion, Raw, RawObject, RpcError, ServerRequest};
use mcpool_manager::ConnectionManager;
use serde::Deserialize;
use serde_json::json;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    addresses::Addresses,
    audit::{AuditEntry, AuditSink},
    catalog::{Catalog, Listed},
    client::Client,
    down_servers::DownServers,
    drain::Drain,
    era::{self, Cache},
    fault,
    fleet::{Fleet, FleetSource},
    guests::{Guests, Visit},
    hub::Hub,
    outlet::{Outlet, Questions},
    own::OwnServers,
    parking::Parking,
    pulse::Pulse,
    replica::Replica,
    scope::{Profiles, Scope},
    seal::SealingKeys,
    session::Session,
};

/// How long a list waits for servers that are slow, unless it is set.
const LIST_PATIENCE: Duration = Duration::from_secs(5);

/// How long a session of an older client lives, unless it is set.
const SESSION_LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// For how long a client may keep a list without asking again. It is notified of changes all the same.
const LIST_TTL_MS: u64 = 60_000;

/// One MCP server made of all servers of a manager.
///
/// It is served over any pair of streams ([`serve_lines`](Self::serve_lines)) and over Streamable
/// HTTP ([`router`](Self::router)), to clients of both eras at the same time. Cloning shares it.
/// Dropping the last clone, with the fronts that serve it, ends its subscriptions; the manager
/// stays as it is.
///
/// ```
/// # use std::sync::Arc;
/// # use mcpool_testkit::FakeFactory;
/// use mcpool_core::{ServerSpec, StdioSpec};
/// use mcpool_gateway::{Gateway, Scope};
/// use mcpool_manager::ConnectionManager;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let factory = Arc::new(FakeFactory::new());
/// // The factory of a real pool is built with the handler `mcpool_gateway::Relay`.
/// let manager = ConnectionManager::new(factory);
/// manager.start(vec![ServerSpec::stdio("files", StdioSpec::new("mcp-server-files"))?]).await?;
///
/// let gateway = Gateway::builder(manager).build();
/// let input: &[u8] = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n";
/// let mut output = Vec::new();
/// gateway.serve_lines(Scope::Pool, input, &mut output).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Gateway(pub(crate) Arc<Inner>);

/// What all clones of a gateway share.
pub(crate) struct Inner {
    pub(crate) manager: ConnectionManager,
    pub(crate) catalog: Catalog,
    pub(crate) hub: Arc<Hub>,
    pub(crate) questions: Arc<Questions>,
    pub(crate) parking: Arc<Parking>,
    pub(crate) drain: Drain,
    pub(crate) keys: SealingKeys,
    /// Where other replicas reach this one.
    pub(crate) replica: Option<Replica>,
    pub(crate) session_lifetime: Duration,
    pub(crate) audit: Option<AuditSink>,
    /// How the calls of clients go, and who they are: for people who look.
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) guests: Guests,
    pub(crate) profiles: Profiles,
    /// The workers of the pool, where there is a fleet.
    pub(crate) fleet: Option<FleetSource>,
    pub(crate) since: SystemTime,
    /// Where HTTP is served.
    pub(crate) addresses: Addresses,
    /// Whether the pool, and profiles that say nothing of it, have tool search.
    pub(crate) tool_search: bool,
    /// Who serves, as the protocol's `Implementation`.
    pub(crate) server_info: Raw,
    /// Passes on what servers say; started with the first client.
    running: OnceLock<AbortOnDropHandle<()>>,
}

/// Puts a [`Gateway`] together: see [`Gateway::builder`].
#[must_use]
pub struct GatewayBuilder {
    manager: ConnectionManager,
    keys: Option<SealingKeys>,
    replica: Option<Replica>,
    list_patience: Duration,
    session_lifetime: Duration,
    down: DownServers,
    audit: Option<AuditSink>,
    fleet: Option<FleetSource>,
    name: String,
    tool_search: bool,
    profiles: Profiles,
}

impl fmt::Debug for GatewayBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayBuilder")
            .field("manager", &self.manager)
            .field("audit", &self.audit.is_some())
            .finish_non_exhaustive()
    }
}

impl GatewayBuilder {
    /// Sets the keys that seal sessions and request states. Default: a random one, so that
    /// sessions end with the process and are known to no other replica.
    pub fn with_keys(mut self, keys: SealingKeys) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Sets where other gateways of the same pool reach this one: the base URL of its
    /// [`router`](Gateway::router), at most 200 bytes. They must have the same
    /// [keys](Self::with_keys) and set an address of their own.
    ///
    /// Then any of them may get any request. What is kept by one of them (the standing stream of a
    /// session up to MCP 2025-11-25, its subscriptions, its log level, its requests under way, the
    /// answers to what was asked; a parked call of MCP 2026-07-28) is reached by one hop. When its
    /// gateway is gone, a session goes on at the others without what was kept.
    ///
    /// # Errors
    /// [`InvalidArgument`](mcpool_core::ErrorKind::InvalidArgument) when it is no such URL.
    pub fn with_advertised(mut self, url: &str) -> mcpool_core::Result<Self> {
        self.replica = Some(Replica::new(url)?);
        Ok(self)
    }

    /// Says what is wrong with a URL for [`with_advertised`](Self::with_advertised): for a program
    /// that looks at its flags before it has a manager.
    ///
    /// # Errors
    /// As [`with_advertised`](Self::with_advertised).
    pub fn check_advertised(url: &str) -> mcpool_core::Result<()> {
        Replica::new(url).map(drop)
    }

    /// Sets how long a list waits for servers that are slow; after it they are shown as they were
    /// last known, and the client is notified when they have changed. Default 5 s.
    pub fn with_list_patience(mut self, patience: Duration) -> Self {
        self.list_patience = patience;
        self
    }

    /// Sets how long a session of an older client lives. Default 7 d.
    pub fn with_session_lifetime(mut self, lifetime: Duration) -> Self {
        self.session_lifetime = lifetime;
        self
    }

    /// Sets what is listed of a server that is down. Default: what was last known of it.
    pub fn with_down_servers(mut self, listed: DownServers) -> Self {
        self.down = listed;
        self
    }

    /// Sets what takes an entry for each request that a server is to answer. It is called on the
    /// task of the request: it must not block.
    pub fn with_audit(mut self, sink: impl Fn(AuditEntry) + Send + Sync + 'static) -> Self {
        self.audit = Some(Arc::new(sink));
        self
    }

    /// Sets what gives the workers of the pool, for the page and its API. It is called for each
    /// request that shows them: it must not block.
    pub fn with_fleet(mut self, fleet: impl Fn() -> Fleet + Send + Sync + 'static) -> Self {
        self.fleet = Some(FleetSource(Arc::new(fleet)));
        self
    }

    /// Sets the name that clients see. Default `mcpool`.
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the profiles: each is served over HTTP at `/mcp/` and its name. Clients over HTTP and over
    /// streams follow them as they are [replaced](Profiles::replace). Default: none.
    pub fn with_profiles(mut self, profiles: Profiles) -> Self {
        self.profiles = profiles;
        self
    }

    /// Sets whether clients are shown two tools in place of all: `find_tools`, which finds tools by
    /// words, and `call_tool`. Worth it where the schemas of all tools take much of a model's
    /// context. A profile may say otherwise ([`Profile::with_tool_search`]); at the path of one
    /// server its own tools are shown in any case. Default: all tools.
    ///
    /// [`Profile::with_tool_search`]: crate::Profile::with_tool_search
    pub fn with_tool_search(mut self, searched: bool) -> Self {
        self.tool_search = searched;
        self
    }

    /// The gateway. It does nothing until a client is served.
    #[must_use]
    pub fn build(self) -> Gateway {
        let info = json!({"name": self.name, "version": env!("CARGO_PKG_VERSION")});
        let pulse = Arc::new(Pulse::new());
        let keys = self.keys.unwrap_or_else(SealingKeys::random);
        Gateway(Arc::new(Inner {
            catalog: Catalog::new(self.manager.clone(), self.list_patience, self.down),
            hub: Hub::new(self.manager.clone(), self.down),
            manager: self.manager,
            questions: Arc::new(Questions::new(keys.clone(), self.replica.clone())),
            parking: Arc::default(),
            drain: Drain::default(),
            keys,
            replica: self.replica,
            session_lifetime: self.session_lifetime,
            audit: Some(counted(Arc::clone(&pulse), self.audit)),
            pulse,
            guests: Guests::default(),
            fleet: self.fleet,
            since: SystemTime::now(),
            addresses: Addresses::default(),
            tool_search: self.tool_search,
            profiles: self.profiles,
            server_info: Raw::of(&info).unwrap_or_else(|_| Raw::empty_object()),
            running: OnceLock::new(),
        }))
    }
}

impl Gateway {
    /// A gateway to the servers of a manager, to be set up.
    pub fn builder(manager: ConnectionManager) -> GatewayBuilder {
        GatewayBuilder {
            manager,
            keys: None,
            replica: None,
            list_patience: LIST_PATIENCE,
            session_lifetime: SESSION_LIFETIME,
            down: DownServers::default(),
            audit: None,
            fleet: None,
            name: "mcpool".to_owned(),
            tool_search: false,
            profiles: Profiles::default(),
        }
    }

    /// Ends in an orderly way: from now on requests are refused (over HTTP with 503 and
    /// `Retry-After`, and `/readyz` says 503), those that run may end, and what still runs when
    /// `patience` is over is cancelled. Then streams and connections are closed, and
    /// [`serve_lines`](Self::serve_lines) and `HttpServer::serve`
    /// return. It gives whether everything ended in time. The manager stays as it is.
    ///
    /// Calls that are parked for an answer of their client end with it: their retry would be a
    /// new request. Servers that clients do not share end with it, within 8 s more. Dropping the future leaves the gateway refusing, and what runs running.
    pub async fn drain(&self, patience: Duration) -> bool {
        let in_time = self.0.drain.drain(patience).await;
        self.0.hub.own().shutdown().await;
        in_time
    }

    /// Waits until [`drain`](Self::drain) is over. Cancel-safe.
    pub async fn drained(&self) {
        self.0.drain.ended().cancelled().await;
    }

    /// How many requests run now, at any client's.
    #[must_use]
    pub fn running(&self) -> usize {
        self.0.drain.running()
    }

    /// Whether [`drain`](Self::drain) has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.drain.has_begun()
    }

    /// Begins to pass on what servers say, and to look after what clients leave. Inside a runtime.
    pub(crate) fn run(&self) {
        self.0.running.get_or_init(|| {
            let hub = &self.0.hub;
            let passes_on = Hub::run(Arc::clone(hub));
            let follows = Hub::follow(Arc::downgrade(hub), self.0.profiles.changes());
            let tends = OwnServers::tend(Arc::downgrade(hub.own()));
            AbortOnDropHandle::new(tokio::spawn(async move {
                tokio::join!(passes_on, follows, tends);
            }))
        });
    }

    /// The versions of a carrier, oldest first.
    pub(crate) fn speaks(http: bool) -> &'static [ProtocolVersion] {
        // Streamable HTTP came with the second.
        ProtocolVersion::KNOWN
            .get(usize::from(http)..)
            .unwrap_or_default()
    }

    /// Begins a session of an older client: what is agreed, and the result of `initialize`.
    ///
    /// # Errors
    /// Parameters that are none.
    pub(crate) fn initialize(
        &self,
        params: Option<&Raw>,
        http: bool,
        principal: Option<&str>,
        scope: &Scope,
    ) -> Result<(Session, Raw), RpcError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Params {
            protocol_version: String,
            #[serde(default)]
            capabilities: RawObject,
        }
        let whole = params;
        let params: Params = params
            .ok_or_else(|| fault::invalid("`initialize` needs parameters"))?
            .parse()
            .map_err(|error| fault::invalid(format!("`initialize`: {}", error.message())))?;
        let version = era::negotiate(&params.protocol_version, Self::speaks(http));
        let lifetime = self.0.session_lifetime;
        let replica = self.0.replica.clone();
        let capabilities = &params.capabilities;
        let session = Session::begin(version, capabilities, principal, scope, lifetime, replica);
        let visit = Visit {
            session: Some(&session.id),
            protocol: &session.version,
            carrier: if http { "http" } else { "stream" },
            principal,
            scope,
        };
        self.0.guests.began(&visit, whole);
        let mut result = RawObject::new();
        let mut set = |name: &str, value: Option<Raw>| {
            if let Some(value) = value {
                result.insert(name, value);
            }
        };
        set("protocolVersion", Raw::of(&session.version).ok());
        set("capabilities", Some(self.capabilities(scope)));
        set("serverInfo", Some(self.0.server_info.clone()));
        set("instructions", self.instructions(scope));
        let result = result.to_raw().map_err(|error| fault::rpc(&error))?;
        Ok((session, result))
    }

    /// Answers a request of a client. What is said in its course goes through the outlet.
    ///
    /// Dropping the future cancels the request.
    ///
    /// # Errors
    /// The JSON-RPC error for the client.
    pub(crate) async fn answer(
        &self,
        request: &ServerRequest,
        client: &Client,
        outlet: &Outlet,
        http: bool,
    ) -> Result<Raw, RpcError> {
        // In a box: each of those who wrap it would keep room for it twice.
        let answered = Box::pin(self.answered(request, client, outlet, http));
        self.0.drain.run(answered).await
    }

    async fn answered(
        &self,
        request: &ServerRequest,
        client: &Client,
        outlet: &Outlet,
        http: bool,
    ) -> Result<Raw, RpcError> {
        let modern = client.is_modern();
        let method = request.method.as_str();
        let mut cache = Cache::No;
        let result = match method {
            "ping" if !modern => Raw::empty_object(),
            "server/discover" if modern => {
                cache = Cache::Private(LIST_TTL_MS);
                self.discover(&client.scope, http)?
            }
            "tools/call" if self.searches(&client.scope) => {
                self.searched_call(request, client, outlet).await?
            }
            "tools/call" | "prompts/get" => self.call(request, client, outlet).await?,
            "resources/read" => {
                cache = Cache::Private(0);
                self.call(request, client, outlet).await?
            }
            "completion/complete" => self.complete(request, client, outlet).await?,
            "logging/setLevel" if !modern => set_level(request, client)?,
            "resources/subscribe" | "resources/unsubscribe" if !modern => {
                self.subscription(request, client).await?
            }
            "subscriptions/listen" if modern => {
                return self.listen(request, client, outlet).await;
            }
            _ => match Listed::of(method) {
                Some(listed) => {
                    let (list, is_complete) = self.list(listed, request, client).await?;
                    // A list that lacks a server is asked for again as soon as the client wants.
                    cache = Cache::Private(if is_complete { LIST_TTL_MS } else { 0 });
                    list
                }
                None => return Err(not_offered(method)),
            },
        };
        let in_era = match modern {
            true => era::to_modern(result, &self.0.server_info, cache),
            false => era::to_legacy(result),
        };
        in_era.map_err(|error| fault::rpc(&error))
    }

    async fn list(
        &self,
        listed: Listed,
        request: &ServerRequest,
        client: &Client,
    ) -> Result<(Raw, bool), RpcError> {
        #[derive(Deserialize)]
        struct Params {
            #[serde(default)]
            cursor: Option<Raw>,
        }
        // There is one page, so no cursor was ever given out.
        let params = request.params.as_ref().map(Raw::parse::<Params>);
        if params.is_some_and(|params| params.is_ok_and(|params| params.cursor.is_some())) {
            return Err(fault::invalid("there is no such cursor"));
        }
        let (catalog, scope) = (&self.0.catalog, &client.scope);
        let list = match listed {
            Listed::Tools if self.searches(scope) => self.search_list(client).await,
            _ => {
                let own = self.own_pools(client);
                let list = catalog.list(listed, scope, &own).await;
                list.and_then(|list| Ok((list.result()?, list.is_complete)))
            }
        };
        list.map_err(|error| fault::rpc(&error))
    }

    async fn subscription(
        &self,
        request: &ServerRequest,
        client: &Client,
    ) -> Result<Raw, RpcError> {
        #[derive(Deserialize)]
        struct Params {
            uri: String,
        }
        let params = request.params.as_ref().map(Raw::parse::<Params>);
        let Some(Ok(Params { uri })) = params else {
            return Err(fault::invalid("the parameters hold no `uri`"));
        };
        let listener = client
            .listener
            .as_ref()
            .ok_or_else(|| not_offered(&request.method))?;
        let Some(server) = self.0.catalog.resource(&uri, &client.scope).await else {
            return Err(fault::no_resource(&uri, client.is_modern()));
        };
        let reached = self.reach(client, &server);
        let resource = reached.map_err(|error| fault::rpc(&error))?.resource(&uri);
        let outcome = match request.method.as_str() {
            "resources/subscribe" => listener.subscribe(&resource).await,
            _ => listener.unsubscribe(&resource).await,
        };
        match outcome {
            Ok(()) => Ok(Raw::empty_object()),
            Err(error) => Err(fault::rpc(&error)),
        }
    }
}

/// What takes the entries of requests: they are counted, and given to the audit if there is one.
fn counted(pulse: Arc<Pulse>, audit: Option<AuditSink>) -> AuditSink {
    Arc::new(move |entry| {
        pulse.count(&entry);
        if let Some(audit) = &audit {
            audit(entry);
        }
    })
}

fn set_level(request: &ServerRequest, client: &Client) -> Result<Raw, RpcError> {
    #[derive(Deserialize)]
    struct Params {
        level: LogLevel,
    }
    let params = request.params.as_ref().map(Raw::parse::<Params>);
    let Some(Ok(Params { level })) = params else {
        return Err(fault::invalid("the parameters hold no `level` of RFC 5424"));
    };
    let listener = client
        .listener
        .as_ref()
        .ok_or_else(|| not_offered(&request.method))?;
    listener.set_level(level);
    Ok(Raw::empty_object())
}

/// The refusal of a method.
pub(crate) fn not_offered(method: &str) -> RpcError {
    RpcError::new(
        RpcError::METHOD_NOT_FOUND,
        format!(
            "this server does not offer {}",
            mcpool_core::Untrusted::line(method)
        ),
    )
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("manager", &self.0.manager)
            .finish_non_exhaustive()
    }
}
