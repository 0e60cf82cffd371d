//! The lists of one server, cached: tools, prompts, resources, resource templates.
//!
//! A list is fetched once however many ask at the same time, by a task of its own, so that the
//! first asker's cancelling harms nobody. It is stale after `list_changed`, past its time, and on
//! a new connection. When a refresh fails, the last good list is served and marked stale.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use futures::future::BoxFuture;
use mcpool_core::{
    Client, Error, ErrorKind, EventKind, RejectedItem, RequestOptions, Result, ServerSpec,
    model::{Prompt, Resource, ResourceTemplate, ServerCapabilities, Tool},
};
use tokio::{sync::watch, time::Instant};

use crate::{
    call::{self, Operation},
    manager::Shared,
    metrics,
    options::{CallOptions, Refresh},
    server::{Server, gone, lock},
};

/// The shortest time between two refreshes that a server's own notifications cause.
const QUIET: Duration = Duration::from_secs(1);
/// JSON-RPC "method not found": the server has no such list.
const METHOD_NOT_FOUND: i32 = -32601;

/// Every list of one server.
#[derive(Default)]
pub(crate) struct Catalog {
    pub(crate) tools: Cache<Tool>,
    prompts: Cache<Prompt>,
    resources: Cache<Resource>,
    templates: Cache<ResourceTemplate>,
}

impl Catalog {
    /// On a new connection nothing that was known before counts as fresh.
    pub(crate) fn reconnected(&self) {
        self.prompts.invalidate();
        self.resources.invalidate();
        self.templates.invalidate();
    }

    pub(crate) fn invalidate(&self) {
        self.tools.invalidate();
        self.reconnected();
    }
}

/// One list of one server, as it was when it was fetched. Immutable and cheap to share.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Listing<T> {
    /// The items, in the server's order.
    pub items: Arc<[T]>,
    /// Items that could not be used.
    pub rejected: Arc<[RejectedItem]>,
    /// When the list was fetched.
    pub fetched_at: SystemTime,
    /// Why a newer list could not be fetched; `None` while the list is good.
    pub stale: Option<Error>,
    fetched: Instant,
    expires: Option<Instant>,
    version: u64,
}

impl<T> Listing<T> {
    /// How old the list is.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.fetched.elapsed()
    }
}

/// A fetch that is under way, and then its result.
type Flight<T> = watch::Receiver<Option<Result<Arc<Listing<T>>>>>;

/// A cached list.
pub(crate) struct Cache<T> {
    current: ArcSwapOption<Listing<T>>,
    /// The fetch that is under way.
    flight: Mutex<Option<Flight<T>>>,
    /// Counts what made the list stale.
    version: AtomicU64,
    /// Whether a refresh that the server asked for is planned.
    planned: AtomicBool,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self {
            current: ArcSwapOption::empty(),
            flight: Mutex::new(None),
            version: AtomicU64::new(0),
            planned: AtomicBool::new(false),
        }
    }
}

impl<T> Cache<T> {
    /// The list that is cached, fresh or not.
    pub(crate) fn cached(&self) -> Option<Arc<Listing<T>>> {
        self.current.load_full()
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(crate) fn invalidate(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn store(&self, listing: Listing<T>) -> Arc<Listing<T>> {
        let listing = Arc::new(listing);
        self.current.store(Some(Arc::clone(&listing)));
        listing
    }

    fn fresh(&self) -> Option<Arc<Listing<T>>> {
        self.cached().filter(|listing| {
            listing.stale.is_none()
                && listing.version == self.version()
                && listing.expires.is_none_or(|at| Instant::now() < at)
        })
    }
}

/// What a server's answer to a list request holds.
pub(crate) struct Fetched<T> {
    items: Vec<T>,
    rejected: Vec<RejectedItem>,
    ttl: Option<Duration>,
}

/// Something that servers list.
pub(crate) trait Listed: Clone + PartialEq + Send + Sync + 'static {
    const METHOD: &'static str;

    fn cache(catalog: &Catalog) -> &Cache<Self>;

    /// What tells two items of one list apart.
    fn key(&self) -> &str;

    /// Whether the server says that it has such a list.
    fn offered(capabilities: &ServerCapabilities) -> bool;

    fn list<'a>(
        client: &'a dyn Client,
        options: &'a RequestOptions,
    ) -> BoxFuture<'a, Result<Fetched<Self>>>;

    /// Tells of a list that differs from the one before.
    fn changed(shared: &Shared, server: &Server);
}

fn whole<T>(items: Vec<T>) -> Fetched<T> {
    Fetched {
        items,
        rejected: Vec::new(),
        ttl: None,
    }
}

impl Listed for Tool {
    const METHOD: &'static str = "tools/list";

    fn cache(catalog: &Catalog) -> &Cache<Self> {
        &catalog.tools
    }

    fn key(&self) -> &str {
        &self.name
    }

    fn offered(capabilities: &ServerCapabilities) -> bool {
        // A server that declares nothing at all is asked: some forget to.
        capabilities.tools.is_some() || *capabilities == ServerCapabilities::default()
    }

    fn list<'a>(
        client: &'a dyn Client,
        options: &'a RequestOptions,
    ) -> BoxFuture<'a, Result<Fetched<Self>>> {
        Box::pin(async move {
            let listing = client.list_tools(options).await?;
            Ok(Fetched {
                items: listing.tools,
                rejected: listing.rejected,
                ttl: listing.ttl,
            })
        })
    }

    fn changed(shared: &Shared, server: &Server) {
        shared.view.announce(server, &shared.events);
    }
}

impl Listed for Prompt {
    const METHOD: &'static str = "prompts/list";

    fn cache(catalog: &Catalog) -> &Cache<Self> {
        &catalog.prompts
    }

    fn key(&self) -> &str {
        &self.name
    }

    fn offered(capabilities: &ServerCapabilities) -> bool {
        capabilities.prompts.is_some()
    }

    fn list<'a>(
        client: &'a dyn Client,
        options: &'a RequestOptions,
    ) -> BoxFuture<'a, Result<Fetched<Self>>> {
        Box::pin(async move { client.list_prompts(options).await.map(whole) })
    }

    fn changed(shared: &Shared, server: &Server) {
        shared.events.emit(&server.name, EventKind::PromptsChanged);
    }
}

impl Listed for Resource {
    const METHOD: &'static str = "resources/list";

    fn cache(catalog: &Catalog) -> &Cache<Self> {
        &catalog.resources
    }

    fn key(&self) -> &str {
        &self.uri
    }

    fn offered(capabilities: &ServerCapabilities) -> bool {
        capabilities.resources.is_some()
    }

    fn list<'a>(
        client: &'a dyn Client,
        options: &'a RequestOptions,
    ) -> BoxFuture<'a, Result<Fetched<Self>>> {
        Box::pin(async move { client.list_resources(options).await.map(whole) })
    }

    fn changed(shared: &Shared, server: &Server) {
        shared
            .events
            .emit(&server.name, EventKind::ResourcesChanged);
    }
}

impl Listed for ResourceTemplate {
    const METHOD: &'static str = "resources/templates/list";

    fn cache(catalog: &Catalog) -> &Cache<Self> {
        &catalog.templates
    }

    fn key(&self) -> &str {
        &self.uri_template
    }

    fn offered(capabilities: &ServerCapabilities) -> bool {
        capabilities.resources.is_some()
    }

    fn list<'a>(
        client: &'a dyn Client,
        options: &'a RequestOptions,
    ) -> BoxFuture<'a, Result<Fetched<Self>>> {
        Box::pin(async move { client.list_resource_templates(options).await.map(whole) })
    }

    fn changed(shared: &Shared, server: &Server) {
        shared
            .events
            .emit(&server.name, EventKind::ResourcesChanged);
    }
}

/// Asks a client for a list. A server without such a list has an empty one.
pub(crate) async fn fetch<T: Listed>(
    client: &dyn Client,
    version: u64,
    spec: &ServerSpec,
) -> Result<Listing<T>> {
    let fetched = if T::offered(&client.info().peer.capabilities) {
        match T::list(client, &RequestOptions::new()).await {
            Ok(fetched) => fetched,
            Err(error) if error.rpc().is_some_and(|e| e.code.0 == METHOD_NOT_FOUND) => {
                whole(Vec::new())
            }
            Err(error) => return Err(error),
        }
    } else {
        whole(Vec::new())
    };
    Ok(listing(fetched, version, spec.policy.catalog_ttl))
}

fn listing<T: Listed>(fetched: Fetched<T>, version: u64, ttl: Option<Duration>) -> Listing<T> {
    let now = Instant::now();
    let mut rejected = fetched.rejected;
    let mut seen = HashSet::new();
    let mut items = Vec::with_capacity(fetched.items.len());
    for item in fetched.items {
        if seen.insert(item.key().to_owned()) {
            items.push(item);
        } else {
            rejected.push(RejectedItem::new(
                item.key(),
                "the list has it twice; the first one counts",
            ));
        }
    }
    let ttl = match (fetched.ttl, ttl) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    Listing {
        items: items.into(),
        rejected: rejected.into(),
        fetched_at: SystemTime::now(),
        stale: None,
        fetched: now,
        // A time past the end of time is no time limit.
        expires: ttl.and_then(|ttl| now.checked_add(ttl)),
        version,
    }
}

/// A list that did not come from the server.
pub(crate) fn seeded(tools: Vec<Tool>) -> Listing<Tool> {
    listing(whole(tools), 0, None)
}

/// The list request as an operation that waits for the server and is replayed as the rules say.
struct Fetch<T> {
    version: u64,
    spec: Arc<ServerSpec>,
    of: std::marker::PhantomData<fn() -> T>,
}

impl<T: Listed> Operation for Fetch<T> {
    type Output = Listing<T>;

    fn method(&self) -> &'static str {
        T::METHOD
    }

    fn run<'a>(
        &'a self,
        client: &'a dyn Client,
        _options: &'a RequestOptions,
    ) -> BoxFuture<'a, Result<Listing<T>>> {
        Box::pin(fetch(client, self.version, &self.spec))
    }
}

/// The list of a server, as fresh as asked for.
///
/// # Errors
/// When the list cannot be fetched and there is no earlier one to serve.
pub(crate) async fn get<T: Listed>(
    shared: &Arc<Shared>,
    server: &Arc<Server>,
    refresh: Refresh,
) -> Result<Arc<Listing<T>>> {
    let cache = T::cache(&server.catalog);
    match refresh {
        Refresh::IfStale => {
            if let Some(fresh) = cache.fresh() {
                return Ok(fresh);
            }
            // A sleeping server is not woken for a list that is known.
            if let Some(cached) = cache.cached()
                && server.state().as_str() == "idle"
            {
                return Ok(cached);
            }
        }
        Refresh::Force => {}
        Refresh::Cached => {
            return cache.cached().ok_or_else(|| server.not_ready(None));
        }
    }
    let mut flight = join_or_start::<T>(shared, server)?;
    let landed = flight.wait_for(Option::is_some).await.map_err(|_| gone())?;
    match &*landed {
        Some(result) => result.clone(),
        None => Err(gone()),
    }
}

/// The last good list, marked as stale; the error when there is none.
pub(crate) fn last_good<T: Listed>(server: &Server, error: Error) -> Result<Arc<Listing<T>>> {
    match T::cache(&server.catalog).cached() {
        Some(known) => Ok(Arc::new(Listing {
            stale: Some(error),
            ..Listing::clone(&known)
        })),
        None => Err(error),
    }
}

/// The fetch that is under way, or a new one.
fn join_or_start<T: Listed>(shared: &Arc<Shared>, server: &Arc<Server>) -> Result<Flight<T>> {
    let cache = T::cache(&server.catalog);
    let mut flight = lock(&cache.flight);
    if let Some(under_way) = flight.as_ref()
        && under_way.has_changed().is_ok()
        && under_way.borrow().is_none()
    {
        return Ok(under_way.clone());
    }
    if server.stop.is_cancelled() {
        return Err(gone().with_server(&server.name));
    }
    let (sender, receiver) = watch::channel(None);
    *flight = Some(receiver.clone());
    drop(flight);
    let (shared, server) = (Arc::clone(shared), Arc::clone(server));
    let task_of = Arc::clone(&shared);
    task_of.spawn(async move {
        let stop = server.stop.clone();
        if let Some(result) = stop.run_until_cancelled(fly::<T>(&shared, &server)).await {
            sender.send_replace(Some(result));
        }
    });
    Ok(receiver)
}

/// Fetches the list, stores it, and tells of what is new.
async fn fly<T: Listed>(shared: &Arc<Shared>, server: &Arc<Server>) -> Result<Arc<Listing<T>>> {
    let cache = T::cache(&server.catalog);
    let fetch = Fetch::<T> {
        version: cache.version(),
        spec: server.spec(),
        of: std::marker::PhantomData,
    };
    let fetched = call::deliver(shared, server, &fetch, &CallOptions::new()).await;
    let before = cache.cached();
    match fetched {
        Ok(listing) => {
            let listing = cache.store(listing);
            metrics::catalog_fetched(&server.name, T::METHOD);
            told_rejected(shared, server, before.as_deref(), &listing);
            if before.is_none_or(|before| before.items != listing.items)
                || T::METHOD == Tool::METHOD
            {
                T::changed(shared, server);
            }
            Ok(listing)
        }
        Err(error) => {
            let error = error.with_server(&server.name).with_operation(T::METHOD);
            let Some(before) = before else {
                return Err(error);
            };
            tracing::warn!(server = %server.name, method = T::METHOD, %error, "the last good list is served");
            shared.events.emit(
                &server.name,
                EventKind::CatalogStale {
                    error: error.clone(),
                },
            );
            Ok(cache.store(Listing {
                stale: Some(error),
                ..Listing::clone(&before)
            }))
        }
    }
}

/// Tells of items that could not be used, unless they are the same as before.
pub(crate) fn told_rejected<T>(
    shared: &Shared,
    server: &Server,
    before: Option<&Listing<T>>,
    now: &Listing<T>,
) {
    if !now.rejected.is_empty() && before.is_none_or(|before| before.rejected != now.rejected) {
        for item in &*now.rejected {
            tracing::warn!(server = %server.name, name = item.name, reason = item.reason, "an item of a list cannot be used");
        }
        shared.events.emit(
            &server.name,
            EventKind::CatalogItemsRejected {
                items: Arc::clone(&now.rejected),
            },
        );
    }
}

/// The server says that a list changed: it is stale from now on, and fetched again soon, however
/// often the server says so.
pub(crate) fn changed<T: Listed>(shared: &Arc<Shared>, server: &Arc<Server>) {
    let cache = T::cache(&server.catalog);
    cache.invalidate();
    // Nobody has asked for it yet: it is fetched when somebody does.
    let Some(known) = cache.cached() else { return };
    if cache.planned.swap(true, Ordering::AcqRel) {
        return;
    }
    let (shared, server) = (Arc::clone(shared), Arc::clone(server));
    let task_of = Arc::clone(&shared);
    task_of.spawn(async move {
        let cache = T::cache(&server.catalog);
        // A server that answers each list with a change must not make a loop.
        let pause = QUIET.saturating_sub(known.age());
        let stop = server.stop.clone();
        stop.run_until_cancelled(async {
            tokio::time::sleep(pause).await;
            cache.planned.store(false, Ordering::Release);
            if cache.fresh().is_none() {
                // What went wrong was told as an event.
                let _ = get::<T>(&shared, &server, Refresh::IfStale).await;
                // A change that came while the list was on its way.
                if cache.cached().is_some_and(|l| l.stale.is_none()) && cache.fresh().is_none() {
                    changed::<T>(&shared, &server);
                }
            }
        })
        .await;
        cache.planned.store(false, Ordering::Release);
    });
}

pub(crate) fn changed_all(shared: &Arc<Shared>, server: &Arc<Server>) {
    changed::<Tool>(shared, server);
    changed::<Prompt>(shared, server);
    changed::<Resource>(shared, server);
    changed::<ResourceTemplate>(shared, server);
}

/// After a reconnect: fetches again what somebody had asked for. The tools are there already.
pub(crate) fn refresh_known(shared: &Arc<Shared>, server: &Arc<Server>) {
    refresh_if_known::<Prompt>(shared, server);
    refresh_if_known::<Resource>(shared, server);
    refresh_if_known::<ResourceTemplate>(shared, server);
}

fn refresh_if_known<T: Listed>(shared: &Arc<Shared>, server: &Arc<Server>) {
    if T::cache(&server.catalog).cached().is_some() {
        // A server that is being stopped needs no lists.
        let _ = join_or_start::<T>(shared, server);
    }
}

/// The error for a name that no list holds.
pub(crate) fn unknown_tool(message: String) -> Error {
    Error::new(ErrorKind::UnknownTool, message)
}
