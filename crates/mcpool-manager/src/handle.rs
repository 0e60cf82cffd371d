//! One server of the manager: everything that one does with it.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future;
use mcpool_core::{
    Client, ConnectOptions, ConnectionInfo, Limits, Notices, ProbeReport, Raw, Request,
    RequestOptions, Requester, Result, ServerName, ServerSpec, ServerState,
    model::{Prompt, Resource, ResourceTemplate, Tool},
};
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

use crate::{
    catalog::{cache::CachedList, fetch, lists::KnownLists},
    observe::status::{self, ServerStatus},
    request::{
        admission,
        forward::forward,
        options::{CallOptions, NotReady, Refresh},
    },
    server::{Command, Server, gone},
    shared::Shared,
    supervise::{
        foreign::{asked, guarded},
        machine::after,
    },
};

/// One server of a manager. It is a [`Requester`], so every verb of
/// [`Verbs`](mcpool_core::Verbs) is there.
///
/// A request waits for the server and for room within its deadline
/// ([`with_call_options`](Self::with_call_options)). One that did not reach the server, or was
/// refused before it ran, is sent once more on the next connection; one that may have run is not,
/// unless it only reads, or its tool declares that this does no harm and the policy trusts the
/// server. Subscriptions and the log level are set on every instance and on every later
/// connection.
///
/// A handle is cheap to clone, stands for the name and not for one connection or one spec, and
/// does not keep the manager alive. After the manager's shutdown every verb fails with `Closed`,
/// after the server's removal with `UnknownServer`.
///
/// ```
/// # use std::sync::Arc;
/// # use mcpool_testkit::FakeFactory;
/// use mcpool_core::{ServerSpec, StdioSpec, Verbs};
/// use mcpool_manager::ConnectionManager;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> mcpool_core::Result<()> {
/// # let manager = ConnectionManager::new(Arc::new(FakeFactory::new()));
/// manager.start(vec![ServerSpec::stdio("files", StdioSpec::new("mcp-server-files"))?]).await?;
/// let files = manager.server("files")?;
/// let reply = files.call_tool("echo", serde_json::json!({"text": "hi"})).await?;
/// assert_ne!(reply.is_error, Some(true));
/// # Ok(()) }
/// ```
///
/// # Errors of requests
/// `OutcomeUnknown` when the connection ended and the request may have run; `Timeout` when no
/// answer came in time, and `Cancelled` when the shutdown ended it: both may have run as well,
/// unless [`delivery`](mcpool_core::Error::delivery) says otherwise. `Disabled`, `GivenUp`,
/// `AuthRequired`, `NotConnected`, `Overloaded`, `RateLimited`, `UnknownServer`, `UnknownTool`
/// (hidden by the filter) before it ran; what the server answered.
#[derive(Clone)]
pub struct ServerHandle {
    shared: Arc<Shared>,
    name: ServerName,
    options: CallOptions,
}

impl ServerHandle {
    pub(crate) fn new(shared: Arc<Shared>, name: ServerName) -> Self {
        Self {
            shared,
            name,
            options: CallOptions::new(),
        }
    }

    /// The same server with these options for every request.
    #[must_use]
    pub fn with_call_options(mut self, options: CallOptions) -> Self {
        self.options = options;
        self
    }

    /// The spec that it runs by.
    ///
    /// # Errors
    /// `UnknownServer`, `Closed`.
    pub fn spec(&self) -> Result<Arc<ServerSpec>> {
        Ok(self.inner()?.spec())
    }

    /// What is known of it now.
    ///
    /// # Errors
    /// `UnknownServer`, `Closed`.
    pub fn status(&self) -> Result<ServerStatus> {
        let server = self.inner()?;
        Ok(status::of(&server, self.shared.view.count(&self.name)))
    }

    /// Its state, now and as it changes. The receiver's sender goes when the server is removed or
    /// replaced.
    ///
    /// # Errors
    /// `UnknownServer`, `Closed`.
    pub fn watch(&self) -> Result<watch::Receiver<ServerState>> {
        Ok(self.inner()?.watch())
    }

    /// Connects it and waits for the outcome of this attempt. Connected already is a success;
    /// attempts under way are joined.
    ///
    /// Dropping the future stops the waiting, not the connecting.
    ///
    /// # Errors
    /// Why the attempt failed. The reconnect policy goes on trying.
    pub async fn connect(&self) -> Result<()> {
        connect(&*self.inner()?, None).await
    }

    /// Connects it, with so many retries at least, and waits for the outcome. The pauses between
    /// them are those of the reconnect policy.
    ///
    /// Dropping the future stops the waiting, not the connecting.
    ///
    /// # Errors
    /// The error of the last attempt. Permanent errors are not retried.
    pub async fn connect_retrying(&self, max_retries: u32) -> Result<()> {
        connect(&*self.inner()?, Some(max_retries)).await
    }

    /// Closes its connection, cancels a pending reconnect, and waits for the close. Its requests
    /// in flight end with `Cancelled`, its tools leave the view, and requests fail with
    /// `NotConnected` until it is connected again.
    ///
    /// Dropping the future stops the waiting, not the closing.
    ///
    /// # Errors
    /// `UnknownServer`, `Closed`.
    pub async fn disconnect(&self) -> Result<()> {
        command_all(&*self.inner()?, |reply| Command::Disconnect { reply }).await
    }

    /// Switches it on. It starts to connect, which is not waited for, unless it is lazy.
    ///
    /// # Errors
    /// `UnknownServer`, `Closed`.
    pub async fn enable(&self) -> Result<()> {
        command_all(&*self.inner()?, |reply| Command::Enable { reply }).await
    }

    /// Switches it off: closes its connection, waits for that, and refuses requests with
    /// `Disabled` from then on.
    ///
    /// # Errors
    /// `UnknownServer`, `Closed`.
    pub async fn disable(&self) -> Result<()> {
        command_all(&*self.inner()?, |reply| Command::Disable { reply }).await
    }

    /// Probes it now.
    ///
    /// # Errors
    /// Why it is not healthy, or not connected.
    pub async fn health_check(&self) -> Result<ProbeReport> {
        check(&*self.inner()?).await
    }

    /// Reports that a caller met trouble with the server. It is taken as evidence: the server is
    /// probed now, and its connection is closed when it does not answer.
    ///
    /// # Errors
    /// `UnknownServer`, `Closed`.
    pub fn report_connection_lost(&self) -> Result<()> {
        let server = self.inner()?;
        server.instances.iter().try_for_each(|instance| {
            instance.tell(Command::Suspect {
                epoch: None,
                reply: None,
            })
        })
    }

    /// Whether it is on its way back after a loss or a failure.
    ///
    /// # Errors
    /// `UnknownServer`, `Closed`.
    pub fn is_reconnecting(&self) -> Result<bool> {
        Ok(self.inner()?.is_reconnecting())
    }

    /// Its live client. It serves until its connection ends, and waits for and replays nothing;
    /// the handle itself does.
    ///
    /// # Errors
    /// `Disabled`, `NotConnected`, `GivenUp`, `AuthRequired`, `UnknownServer`, `Closed`.
    pub fn client(&self) -> Result<Arc<dyn Client>> {
        let server = self.inner()?;
        server
            .instances
            .iter()
            .filter_map(|instance| instance.slot.live())
            .min_by_key(|live| live.in_flight())
            .map(|live| Arc::clone(&live.client))
            .ok_or_else(|| server.hopeless().unwrap_or_else(|| server.not_ready(None)))
    }

    /// Its live client, waiting so long for one. A lazy server is connected.
    ///
    /// # Errors
    /// As [`client`](Self::client); `NotConnected` when the time has passed.
    pub async fn ready_client(&self, within: Duration) -> Result<Arc<dyn Client>> {
        let until = after(Instant::now(), within);
        admission::wait_ready(&*self.inner()?, NotReady::Wait, until).await
    }

    /// A new connection to the server that is the caller's own: nobody else uses it, the manager
    /// does not supervise it, and dropping it closes it. It counts against the connect budget, and
    /// once lost it stays so; a client that connects again is `mcpool_client::IsolatedClient`. With a
    /// [handler](ConnectOptions::with_handler) in the options, that one is asked instead of the
    /// factory's.
    ///
    /// # Errors
    /// Why it could not be connected; `Disabled`; `UnknownServer`.
    pub async fn own_client(&self, options: &ConnectOptions) -> Result<Arc<dyn Client>> {
        let server = self.inner()?;
        if matches!(server.state(), ServerState::Disabled)
            && let Some(error) = server.hopeless()
        {
            return Err(error);
        }
        let spec = server.spec_to_connect();
        let _permit = self.shared.budget.acquire(&spec.transport).await?;
        self.shared.factory.connect(&spec, options).await
    }

    /// Its tools from the cache, as fresh as asked for: not filtered, under its own names.
    ///
    /// # Errors
    /// Why the list cannot be fetched, when there is no earlier one to serve.
    pub async fn tools(&self, refresh: Refresh) -> Result<Arc<CachedList<Tool>>> {
        fetch::get::<Tool>(&self.shared, &self.inner()?, refresh).await
    }

    /// Its prompts from the cache, as fresh as asked for.
    ///
    /// # Errors
    /// As [`tools`](Self::tools).
    pub async fn prompts(&self, refresh: Refresh) -> Result<Arc<CachedList<Prompt>>> {
        fetch::get::<Prompt>(&self.shared, &self.inner()?, refresh).await
    }

    /// Its resources from the cache, as fresh as asked for.
    ///
    /// # Errors
    /// As [`tools`](Self::tools).
    pub async fn resources(&self, refresh: Refresh) -> Result<Arc<CachedList<Resource>>> {
        fetch::get::<Resource>(&self.shared, &self.inner()?, refresh).await
    }

    /// Its resource templates from the cache, as fresh as asked for.
    ///
    /// # Errors
    /// As [`tools`](Self::tools).
    pub async fn resource_templates(
        &self,
        refresh: Refresh,
    ) -> Result<Arc<CachedList<ResourceTemplate>>> {
        fetch::get::<ResourceTemplate>(&self.shared, &self.inner()?, refresh).await
    }

    /// Gives it lists from elsewhere, an earlier run for example: they are shown, and served for a
    /// lazy server without connecting it, until the server itself has been asked. A list that
    /// the server itself has given stays; one from elsewhere is replaced.
    ///
    /// # Errors
    /// `UnknownServer`, `Closed`.
    pub fn seed(&self, lists: KnownLists) -> Result<()> {
        let server = self.inner()?;
        fetch::seed(&self.shared, &server, lists.tools);
        fetch::seed(&self.shared, &server, lists.prompts);
        fetch::seed(&self.shared, &server, lists.resources);
        fetch::seed(&self.shared, &server, lists.templates);
        Ok(())
    }

    /// Marks every list that is cached of it as stale.
    ///
    /// # Errors
    /// `UnknownServer`, `Closed`.
    pub fn invalidate(&self) -> Result<()> {
        self.inner()?.catalog.invalidate();
        Ok(())
    }

    fn inner(&self) -> Result<Arc<Server>> {
        self.shared.server(self.name.as_str())
    }

    async fn forward(&self, request: &Request, options: &RequestOptions) -> Result<Raw> {
        let call = CallOptions {
            timeout: self.options.timeout,
            max_wait: self.options.max_wait,
            not_ready: self.options.not_ready,
            request: options.over(&self.options.request),
        };
        forward(&self.shared, self.name.as_str(), request, &call).await
    }
}

#[async_trait]
impl Requester for ServerHandle {
    fn server(&self) -> &ServerName {
        &self.name
    }

    fn info(&self) -> Option<Arc<ConnectionInfo>> {
        let client = self.client().ok()?;
        asked("`info` of the client", || client.info()).ok()?
    }

    fn limits(&self) -> Limits {
        match self.inner() {
            Ok(server) => server.spec().policy.limits.clone(),
            Err(_) => Limits::default(),
        }
    }

    async fn request(&self, request: &Request, options: &RequestOptions) -> Result<Raw> {
        let Some(standing) = Standing::of(request) else {
            return self.forward(request, options).await;
        };
        let server = self.inner()?;
        if let Standing::Unsubscribe(uri) = &standing {
            // Later connections do not subscribe, whatever comes of the request.
            server.continuity.unsubscribed(uri);
        }
        let answer = self.forward(request, options).await?;
        match &standing {
            Standing::Subscribe(uri) => server.continuity.subscribed(uri),
            Standing::Unsubscribe(_) => {}
            Standing::LogLevel => server.continuity.log_level(request),
        }
        on_every_instance(&server, request, options).await;
        Ok(answer)
    }

    fn notices(&self) -> Notices {
        match self.inner() {
            Ok(server) => server.notices.subscribe(),
            Err(_) => Notices::ended(),
        }
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A request whose effect must outlive its connection.
enum Standing {
    Subscribe(String),
    Unsubscribe(String),
    LogLevel,
}

impl Standing {
    fn of(request: &Request) -> Option<Self> {
        #[derive(serde::Deserialize)]
        struct Target {
            uri: String,
        }
        let uri = || {
            let target: Target = request.params.as_ref()?.parse().ok()?;
            Some(target.uri)
        };
        match &*request.method {
            "resources/subscribe" => uri().map(Self::Subscribe),
            "resources/unsubscribe" => uri().map(Self::Unsubscribe),
            "logging/setLevel" => Some(Self::LogLevel),
            _ => None,
        }
    }
}

/// Passes on to the other instances what one was sent.
async fn on_every_instance(server: &Server, request: &Request, options: &RequestOptions) {
    if server.instances.len() < 2 {
        return;
    }
    let live = server.instances.iter().filter_map(|i| i.slot.live());
    let sent = live.map(|live| async move {
        let sent = guarded("a request of the client", live.client.request(request, options)).await;
        if let Err(error) = sent.and_then(|answer| answer) {
            tracing::warn!(server = %server.name, method = &*request.method, %error, "an instance did not get a setting");
        }
    });
    future::join_all(sent).await;
}

/// Asks every instance to connect; one is enough to be connected.
pub(crate) async fn connect(server: &Server, retries: Option<u32>) -> Result<()> {
    let mut answers = Vec::new();
    for instance in &server.instances {
        let (reply, answer) = oneshot::channel();
        instance.tell(Command::Connect {
            retries,
            reply: Some(reply),
        })?;
        answers.push(async move { answer.await.unwrap_or_else(|_| Err(gone())) });
    }
    let mut failed = None;
    for answer in future::join_all(answers).await {
        match answer {
            Ok(()) => return Ok(()),
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.unwrap_or_else(gone).with_server(&server.name))
}

/// Sends a command to every instance and waits until each has done it.
pub(crate) async fn command_all(
    server: &Server,
    command: impl Fn(oneshot::Sender<()>) -> Command,
) -> Result<()> {
    let mut done = Vec::new();
    for instance in &server.instances {
        let (reply, answer) = oneshot::channel();
        instance.tell(command(reply))?;
        done.push(answer);
    }
    // A dropped reply: the supervisor has ended, and has closed what it had.
    future::join_all(done).await;
    Ok(())
}

/// Probes every instance: the server is as healthy as its healthiest.
pub(crate) async fn check(server: &Server) -> Result<ProbeReport> {
    let mut answers = Vec::new();
    for instance in &server.instances {
        let (reply, answer) = oneshot::channel();
        instance.tell(Command::Check { reply })?;
        answers.push(answer);
    }
    let mut worst = None;
    for answer in future::join_all(answers).await {
        match answer.unwrap_or_else(|_| Err(gone())) {
            Ok(report) => return Ok(report),
            Err(error) => worst = Some(error),
        }
    }
    Err(worst.unwrap_or_else(gone).with_server(&server.name))
}
