//! A client that belongs to one caller: one agent, one task, one test.

use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use mcpool_core::{
    Client, ClientFactory, CloseReason, ConnectionInfo, Error, ErrorKind, ProbeReport,
    RequestOptions, Result, ServerName, ServerSpec, ToolListing,
    model::{
        CallToolResult, CompleteRequestParams, CompleteResult, GetPromptResult, JsonObject, Prompt,
        ReadResourceResult, Resource, ResourceTemplate,
    },
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// A client that shares nothing with any other: its own process or session, closed when it is
/// dropped.
///
/// Made by [`StandardFactory::isolated`](crate::StandardFactory::isolated), connected, or by
/// [`isolated_lazy`](crate::StandardFactory::isolated_lazy), connected by its first use. All
/// methods may be called from any task; [`close`](Self::close) too, whoever opened it.
///
/// However many first uses come at once, one connect is made. It goes on for as long as one of
/// them waits; when all are dropped it is released. A connect that failed is tried again by the
/// next use. There is no reconnect: when the server is lost, calls fail, and
/// [`is_closed`](Self::is_closed) tells.
pub struct IsolatedClient {
    factory: Arc<dyn ClientFactory>,
    spec: Arc<ServerSpec>,
    client: OnceLock<Arc<dyn Client>>,
    connecting: Mutex<Option<WeakShared<Connecting>>>,
    closed: CancellationToken,
    tools: AtomicUsize,
}

type Connecting = BoxFuture<'static, Result<Arc<dyn Client>>>;

/// No list was fetched yet.
const UNKNOWN: usize = usize::MAX;

impl IsolatedClient {
    pub(crate) fn new(factory: Arc<dyn ClientFactory>, spec: ServerSpec) -> Self {
        Self {
            factory,
            spec: Arc::new(spec),
            client: OnceLock::new(),
            connecting: Mutex::new(None),
            closed: CancellationToken::new(),
            tools: AtomicUsize::new(UNKNOWN),
        }
    }

    /// The server's name.
    #[must_use]
    pub fn name(&self) -> &ServerName {
        &self.spec.name
    }

    /// Whether the spec allows a connection.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.spec.enabled
    }

    /// How many tools the last [`list_tools`](Self::list_tools) found; `None` before the first.
    #[must_use]
    pub fn tool_count(&self) -> Option<usize> {
        match self.tools.load(Ordering::Relaxed) {
            UNKNOWN => None,
            count => Some(count),
        }
    }

    /// What was agreed at connect time; `None` before.
    #[must_use]
    pub fn info(&self) -> Option<&ConnectionInfo> {
        self.client.get().map(|client| client.info())
    }

    /// Connects, unless that was done.
    ///
    /// # Errors
    /// As [`ClientFactory::connect`]; [`Closed`](ErrorKind::Closed) after a close.
    pub async fn connect(&self) -> Result<()> {
        self.connected().await.map(drop)
    }

    /// As [`Client::list_tools`].
    ///
    /// # Errors
    /// As there, and as [`connect`](Self::connect).
    pub async fn list_tools(&self, options: &RequestOptions) -> Result<ToolListing> {
        let listing = self.connected().await?.list_tools(options).await?;
        self.tools.store(listing.tools.len(), Ordering::Relaxed);
        Ok(listing)
    }

    /// As [`Client::call_tool`].
    ///
    /// # Errors
    /// As there, and as [`connect`](Self::connect).
    pub async fn call_tool(
        &self,
        name: &str,
        arguments: Option<JsonObject>,
        options: &RequestOptions,
    ) -> Result<CallToolResult> {
        let client = self.connected().await?;
        client.call_tool(name, arguments, options).await
    }

    /// As [`Client::list_prompts`].
    ///
    /// # Errors
    /// As there, and as [`connect`](Self::connect).
    pub async fn list_prompts(&self, options: &RequestOptions) -> Result<Vec<Prompt>> {
        self.connected().await?.list_prompts(options).await
    }

    /// As [`Client::get_prompt`].
    ///
    /// # Errors
    /// As there, and as [`connect`](Self::connect).
    pub async fn get_prompt(
        &self,
        name: &str,
        arguments: Option<JsonObject>,
        options: &RequestOptions,
    ) -> Result<GetPromptResult> {
        let client = self.connected().await?;
        client.get_prompt(name, arguments, options).await
    }

    /// As [`Client::list_resources`].
    ///
    /// # Errors
    /// As there, and as [`connect`](Self::connect).
    pub async fn list_resources(&self, options: &RequestOptions) -> Result<Vec<Resource>> {
        self.connected().await?.list_resources(options).await
    }

    /// As [`Client::list_resource_templates`].
    ///
    /// # Errors
    /// As there, and as [`connect`](Self::connect).
    pub async fn list_resource_templates(
        &self,
        options: &RequestOptions,
    ) -> Result<Vec<ResourceTemplate>> {
        let client = self.connected().await?;
        client.list_resource_templates(options).await
    }

    /// As [`Client::read_resource`].
    ///
    /// # Errors
    /// As there, and as [`connect`](Self::connect).
    pub async fn read_resource(
        &self,
        uri: &str,
        options: &RequestOptions,
    ) -> Result<ReadResourceResult> {
        self.connected().await?.read_resource(uri, options).await
    }

    /// As [`Client::complete`].
    ///
    /// # Errors
    /// As there, and as [`connect`](Self::connect).
    pub async fn complete(
        &self,
        params: CompleteRequestParams,
        options: &RequestOptions,
    ) -> Result<CompleteResult> {
        self.connected().await?.complete(params, options).await
    }

    /// As [`Client::request`].
    ///
    /// # Errors
    /// As there, and as [`connect`](Self::connect).
    pub async fn request(
        &self,
        method: &str,
        params: Option<Value>,
        options: &RequestOptions,
    ) -> Result<Value> {
        let client = self.connected().await?;
        client.request(method, params, options).await
    }

    /// As [`Client::probe`].
    ///
    /// # Errors
    /// As there, and as [`connect`](Self::connect).
    pub async fn probe(&self, timeout: Duration) -> Result<ProbeReport> {
        self.connected().await?.probe(timeout).await
    }

    /// Waits for the end of the connection, or for a close before there was one.
    pub async fn closed(&self) -> CloseReason {
        match self.client.get() {
            Some(client) => client.closed().await,
            None => {
                self.closed.cancelled().await;
                CloseReason::Requested
            }
        }
    }

    /// Whether it was closed, or its connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.is_cancelled() || self.client.get().is_some_and(|client| client.is_closed())
    }

    /// Closes it for good and waits for that, bounded by the shutdown policy. A connect under way
    /// ends with [`Closed`](ErrorKind::Closed). May be called again, and from any task.
    pub async fn close(&self) {
        self.closed.cancel();
        if let Some(client) = self.client.get() {
            client.close().await;
        }
    }

    async fn connected(&self) -> Result<&Arc<dyn Client>> {
        if self.closed.is_cancelled() {
            return Err(self.refused());
        }
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let connecting = self.connecting();
        let client = tokio::select! {
            biased;
            () = self.closed.cancelled() => return Err(self.refused()),
            outcome = connecting => outcome?,
        };
        // All that waited for the same connect get the same client; one of them is first.
        Ok(self.client.get_or_init(|| client))
    }

    /// The connect that is under way, or a new one.
    fn connecting(&self) -> Shared<Connecting> {
        let mut slot = self
            .connecting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(connecting) = slot.as_ref().and_then(WeakShared::upgrade) {
            return connecting;
        }
        let factory = Arc::clone(&self.factory);
        let spec = Arc::clone(&self.spec);
        let connecting = async move { factory.connect(&spec).await }.boxed().shared();
        *slot = connecting.downgrade();
        connecting
    }

    fn refused(&self) -> Error {
        Error::new(ErrorKind::Closed, "the client was closed").with_server(&self.spec.name)
    }
}

impl fmt::Debug for IsolatedClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IsolatedClient")
            .field("server", &self.spec.name)
            .field("connected", &self.client.get().is_some())
            .field("closed", &self.is_closed())
            .finish()
    }
}
