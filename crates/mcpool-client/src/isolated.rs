//! A client that belongs to one caller: one agent, one task, one test.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use mcpool_core::{
    Client, ClientFactory, ClientSnapshot, CloseReason, ConnectOptions, ConnectionInfo, Error,
    ErrorKind, Limits, NoticeSender, Notices, Notification, ProbeReport, Raw, Request,
    RequestOptions, Requester, Result, ServerName, ServerNotice, ServerSpec,
};
use serde::{Deserialize, de::IgnoredAny};
use tokio::{runtime::Handle, task::AbortHandle};
use tokio_util::sync::CancellationToken;

use crate::link::no_runtime;

/// A [`Client`] that shares nothing with any other: its own process or session, closed when it is
/// dropped.
///
/// Made by [`StandardFactory::isolated`](crate::StandardFactory::isolated), connected, or by
/// [`isolated_lazy`](crate::StandardFactory::isolated_lazy), connected by its first use; of any
/// other factory by [`new`](Self::new). All methods may be called from any task.
///
/// However many first uses come at once, one connect is made. It goes on for as long as one of
/// them waits; when all are dropped it is released. A connect that failed is tried again by the
/// next use.
///
/// A lost connection is not its end: what was in flight fails, and the next use connects again. The
/// log level and the resource subscriptions are set again then, and
/// [`SessionRenewed`](ServerNotice::SessionRenewed) says that anything may have changed. Nothing
/// is sent again, no use waits for a pause, and nothing connects that is not used: that is a
/// manager's. It ends by [`close`](Client::close) alone; until then
/// [`is_closed`](Client::is_closed) is `false`, and [`info`](Requester::info) is `None` while
/// there is no connection.
pub struct IsolatedClient {
    factory: Arc<dyn ClientFactory>,
    spec: Arc<ServerSpec>,
    state: Mutex<IsolatedState>,
    notices: NoticeSender,
    closed: CancellationToken,
    tools: AtomicUsize,
}

#[derive(Default)]
struct IsolatedState {
    /// The last connection; perhaps it has ended.
    current: Option<Arc<Connection>>,
    connecting: Option<WeakShared<Connecting>>,
    /// The last snapshot before there was a connection.
    setup: Setup,
}

/// What was set up on the server, by request: set again on the next connection.
#[derive(Default, Clone)]
struct Setup {
    log_level: Option<Request>,
    subscriptions: BTreeMap<String, Request>,
}

/// One connection, and the task that hands on what the server says.
struct Connection {
    client: Arc<dyn Client>,
    relay: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.relay.abort();
    }
}

type Connecting = BoxFuture<'static, Result<Arc<Connection>>>;

/// No list was fetched yet.
const UNKNOWN: usize = usize::MAX;

/// How many notices a slow reader may be behind before it misses some.
const NOTICES: usize = 32;

/// The most subscriptions that are set again.
const MAX_SUBSCRIPTIONS: usize = 1_024;

impl IsolatedClient {
    /// A client of this server that the factory connects by its first use.
    #[must_use]
    pub fn new(factory: Arc<dyn ClientFactory>, spec: ServerSpec) -> Self {
        Self {
            factory,
            spec: Arc::new(spec),
            state: Mutex::default(),
            notices: NoticeSender::new(NOTICES),
            closed: CancellationToken::new(),
            tools: AtomicUsize::new(UNKNOWN),
        }
    }

    /// Whether the spec allows a connection.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.spec.enabled
    }

    /// How many tools the last walk through `tools/list` found, all pages together; `None` before
    /// the first.
    #[must_use]
    pub fn tool_count(&self) -> Option<usize> {
        match self.tools.load(Ordering::Relaxed) {
            UNKNOWN => None,
            count => Some(count),
        }
    }

    /// Connects, unless there is a connection.
    ///
    /// # Errors
    /// As [`ClientFactory::connect`]; [`Closed`](ErrorKind::Closed) after a close.
    pub async fn connect(&self) -> Result<()> {
        self.connected().await.map(drop)
    }

    async fn connected(&self) -> Result<Arc<Connection>> {
        if self.closed.is_cancelled() {
            return Err(self.refused());
        }
        let connecting = {
            let mut state = self.state();
            if let Some(current) = state.living() {
                return Ok(current);
            }
            self.connecting(&mut state)
        };
        let connection = tokio::select! {
            biased;
            () = self.closed.cancelled() => return Err(self.refused()),
            outcome = connecting => outcome?,
        };
        {
            // All that waited for the same connect come here with the same connection; one that
            // comes late may find the next.
            let mut state = self.state();
            if let Some(current) = state.living() {
                return Ok(current);
            }
            state.current = Some(Arc::clone(&connection));
        }
        if self.closed.is_cancelled() {
            // Closed in between, by somebody who did not see it.
            connection.client.close().await;
            return Err(self.refused());
        }
        Ok(connection)
    }

    /// The connect that is under way, or a new one.
    fn connecting(&self, state: &mut IsolatedState) -> Shared<Connecting> {
        if let Some(connecting) = state.under_way() {
            return connecting;
        }
        let again = state.current.is_some();
        let connect = Connect {
            factory: Arc::clone(&self.factory),
            spec: Arc::clone(&self.spec),
            notices: self.notices.clone(),
            setup: state.setup.clone(),
            again,
        };
        let connecting = connect.run().boxed().shared();
        state.connecting = connecting.downgrade();
        connecting
    }

    fn refused(&self) -> Error {
        Error::new(ErrorKind::Closed, "the client was closed").with_server(&self.spec.name)
    }

    fn state(&self) -> MutexGuard<'_, IsolatedState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request was answered: what it set up, and what it says of the number of tools, is kept.
    fn note(&self, request: &Request, answer: &Raw) {
        match &*request.method {
            "logging/setLevel" => self.state().setup.log_level = Some(request.clone()),
            "resources/subscribe" => {
                let mut state = self.state();
                let subscriptions = &mut state.setup.subscriptions;
                if subscriptions.len() < MAX_SUBSCRIPTIONS
                    && let Some(uri) = uri(request)
                {
                    subscriptions.insert(uri, request.clone());
                }
            }
            "resources/unsubscribe" => {
                if let Some(uri) = uri(request) {
                    self.state().setup.subscriptions.remove(&uri);
                }
            }
            "tools/list" => self.count(request, answer),
            _ => {}
        }
    }

    fn count(&self, request: &Request, answer: &Raw) {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Page {
            tools: Vec<IgnoredAny>,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Params {
            cursor: Option<Raw>,
        }
        let params = request.params.as_ref();
        let params: Params = params
            .and_then(|params| params.parse().ok())
            .unwrap_or_default();
        let page: Page = answer.parse().unwrap_or_default();
        let before = match params.cursor {
            Some(_) => self.tool_count().unwrap_or_default(),
            None => 0,
        };
        let count = before.saturating_add(page.tools.len()).min(UNKNOWN - 1);
        self.tools.store(count, Ordering::Relaxed);
    }
}

impl IsolatedState {
    /// The connect that is under way.
    fn under_way(&self) -> Option<Shared<Connecting>> {
        self.connecting.as_ref().and_then(WeakShared::upgrade)
    }

    /// The connection, if it lives.
    fn living(&self) -> Option<Arc<Connection>> {
        let current = self.current.as_ref()?;
        (!current.client.is_closed()).then(|| Arc::clone(current))
    }
}

/// One connect.
struct Connect {
    factory: Arc<dyn ClientFactory>,
    spec: Arc<ServerSpec>,
    notices: NoticeSender,
    setup: Setup,
    /// Whether a connection was lost before.
    again: bool,
}

impl Connect {
    async fn run(self) -> Result<Arc<Connection>> {
        let runtime = Handle::try_current().map_err(|_| no_runtime())?;
        let options = ConnectOptions::new().with_fresh(self.again);
        let client = self.factory.connect(&self.spec, &options).await?;
        // Before anything is asked, so that nothing which follows from it is missed.
        let said = client.notices();
        let setup = self.setup.log_level.iter();
        for request in setup.chain(self.setup.subscriptions.values()) {
            if let Err(error) = client.request(request, &RequestOptions::new()).await {
                tracing::debug!(
                    server = %self.spec.name,
                    operation = %request.method,
                    kind = %error.kind(),
                    "what was set up could not be set again"
                );
            }
        }
        if self.again {
            self.notices.send(ServerNotice::SessionRenewed);
        }
        let relay = runtime.spawn(relay(said, self.notices)).abort_handle();
        Ok(Arc::new(Connection { client, relay }))
    }
}

/// Hands on what the server says over one connection.
async fn relay(mut said: Notices, to: NoticeSender) {
    while let Some(notice) = said.next().await {
        to.send(notice);
    }
}

fn uri(request: &Request) -> Option<String> {
    #[derive(Deserialize)]
    struct Params {
        uri: String,
    }
    let params: Params = request.params.as_ref()?.parse().ok()?;
    Some(params.uri)
}

#[async_trait]
impl Requester for IsolatedClient {
    fn server(&self) -> &ServerName {
        &self.spec.name
    }

    fn info(&self) -> Option<Arc<ConnectionInfo>> {
        let current = self.state().living()?;
        current.client.info()
    }

    fn limits(&self) -> Limits {
        self.spec.policy.limits.clone()
    }

    /// As [`Requester::request`], after a connect where there is no connection.
    async fn request(&self, request: &Request, options: &RequestOptions) -> Result<Raw> {
        let connection = self.connected().await?;
        let answer = connection.client.request(request, options).await?;
        self.note(request, &answer);
        Ok(answer)
    }

    /// What the server says from now on, over every connection.
    fn notices(&self) -> Notices {
        self.notices.subscribe()
    }
}

#[async_trait]
impl Client for IsolatedClient {
    /// What is known of the last connection; before the first, of none.
    fn snapshot(&self) -> ClientSnapshot {
        match &self.state().current {
            Some(current) => current.client.snapshot(),
            None => ClientSnapshot::now(),
        }
    }

    /// As [`Client::probe`], after a connect where there is no connection.
    async fn probe(&self, timeout: Duration) -> Result<ProbeReport> {
        let connection = self.connected().await?;
        connection.client.probe(timeout).await
    }

    /// As [`Client::notify`], where there is a connection: a server that connects later asks for
    /// what it wants to know.
    async fn notify(&self, notification: &Notification) -> Result<()> {
        let is_there = {
            let state = self.state();
            // A server that is being connected may have asked already.
            state.living().is_some() || state.under_way().is_some()
        };
        if !is_there && !self.is_closed() {
            return Ok(());
        }
        match self.connected().await {
            Ok(connection) => connection.client.notify(notification).await,
            Err(error) if self.is_closed() => Err(error),
            // There is nobody to notify.
            Err(_) => Ok(()),
        }
    }

    /// Waits for [`close`](Client::close): a lost connection is not the end.
    async fn closed(&self) -> CloseReason {
        self.closed.cancelled().await;
        CloseReason::Requested
    }

    /// Whether it was closed.
    fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Closes it for good and waits for that, bounded by the shutdown policy. A connect under way
    /// ends with [`Closed`](ErrorKind::Closed). May be called again, and from any task.
    async fn close(&self) {
        self.closed.cancel();
        let current = self.state().current.clone();
        if let Some(current) = current {
            current.client.close().await;
        }
    }

    /// Closes it for good, by force.
    fn kill(&self) {
        self.closed.cancel();
        let current = self.state().current.clone();
        if let Some(current) = current {
            current.client.kill();
        }
    }
}

impl fmt::Debug for IsolatedClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IsolatedClient")
            .field("server", &self.spec.name)
            .field("connected", &self.state().living().is_some())
            .field("closed", &self.is_closed())
            .finish()
    }
}
