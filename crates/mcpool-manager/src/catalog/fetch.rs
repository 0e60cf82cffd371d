//! Fetching the lists of one server into its caches.
//!
//! A list is fetched once however many ask at the same time, by a task of its own, so that the
//! first asker's cancelling harms nobody. It is stale after `list_changed`, past its time, and on
//! a new connection. When a refresh fails, the last good list is served and marked stale.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use futures::future::BoxFuture;
use mcpool_core::{
    Client, Error, EventKind, Listing, RequestOptions, Result, ServerSpec, StateKind, Untrusted,
    Verbs,
    model::{Prompt, Resource, ResourceTemplate, Tool},
};
use serde::de::DeserializeOwned;
use tokio::{sync::watch, time::Instant};

use crate::{
    catalog::cache::{Cache, CachedList, Catalog, Flight},
    observe::metrics,
    request::{
        admission::{self, Operation},
        options::{CallOptions, Refresh},
    },
    server::{Server, gone, lock},
    shared::Shared,
    supervise::machine::after,
};

/// The shortest time between two refreshes that a server's own notifications cause.
const QUIET: Duration = Duration::from_secs(1);

/// Something that servers list.
pub(crate) trait Listed: DeserializeOwned + Clone + Send + Sync + 'static {
    const METHOD: &'static str;

    fn cache(catalog: &Catalog) -> &Cache<Self>;

    fn list(client: &dyn Client) -> BoxFuture<'_, Result<Listing<Self>>>;

    /// Reports a list that differs from the one before.
    fn changed(shared: &Shared, server: &Server);
}

impl Listed for Tool {
    const METHOD: &'static str = "tools/list";

    fn cache(catalog: &Catalog) -> &Cache<Self> {
        &catalog.tools
    }

    fn list(client: &dyn Client) -> BoxFuture<'_, Result<Listing<Self>>> {
        client.list_tools()
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

    fn list(client: &dyn Client) -> BoxFuture<'_, Result<Listing<Self>>> {
        client.list_prompts()
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

    fn list(client: &dyn Client) -> BoxFuture<'_, Result<Listing<Self>>> {
        client.list_resources()
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

    fn list(client: &dyn Client) -> BoxFuture<'_, Result<Listing<Self>>> {
        client.list_resource_templates()
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
) -> Result<CachedList<T>> {
    let listing = T::list(client).await?;
    Ok(cached(listing, version, spec.policy.catalog_ttl))
}

fn cached<T>(listing: Listing<T>, version: u64, ttl: Option<Duration>) -> CachedList<T> {
    let now = Instant::now();
    let ttl = match (listing.ttl, ttl) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    CachedList {
        items: listing.items.into(),
        rejected: listing.rejected.into(),
        incomplete: listing.incomplete,
        fetched_at: SystemTime::now(),
        stale: None,
        fetched: now,
        // A time past the end of time is no time limit.
        expires: ttl.and_then(|ttl| now.checked_add(ttl)),
        version,
    }
}

/// The version of a list that did not come from the server.
const SEEDED: u64 = u64::MAX;

/// Takes a list that did not come from the server, unless the server itself has given one.
pub(crate) fn seed<T: Listed>(shared: &Shared, server: &Server, list: Option<Listing<T>>) {
    let cache = T::cache(&server.catalog);
    let Some(list) = list else { return };
    let before = cache.cached();
    if before.is_some_and(|before| before.version != SEEDED) {
        return;
    }
    cache.store(cached(list, SEEDED, None));
    // The server's own list is newer, whatever it is.
    cache.invalidate();
    T::changed(shared, server);
}

/// The list of a new connection that could not be fetched: the last good one, or none at all.
pub(crate) fn missing<T>(
    last: Option<&CachedList<T>>,
    error: Error,
    version: u64,
) -> CachedList<T> {
    let known = match last {
        Some(last) => CachedList::clone(last),
        None => cached(Listing::default(), version, None),
    };
    CachedList {
        stale: Some(error),
        ..known
    }
}

/// The list request as an operation that waits for the server and is replayed as the rules say.
struct Fetch<T> {
    version: u64,
    spec: Arc<ServerSpec>,
    of: std::marker::PhantomData<fn() -> T>,
}

impl<T: Listed> Operation for Fetch<T> {
    type Output = CachedList<T>;

    fn method(&self) -> &str {
        T::METHOD
    }

    fn run<'a>(
        &'a self,
        client: &'a dyn Client,
        _options: &'a RequestOptions,
    ) -> BoxFuture<'a, Result<CachedList<T>>> {
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
) -> Result<Arc<CachedList<T>>> {
    let cache = T::cache(&server.catalog);
    match refresh {
        Refresh::IfStale => {
            if let Some(fresh) = cache.fresh() {
                return Ok(fresh);
            }
            // A sleeping server is not woken for a list that is known.
            if let Some(cached) = cache.cached()
                && server.state().kind() == StateKind::Idle
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
pub(crate) fn last_good<T: Listed>(server: &Server, error: Error) -> Result<Arc<CachedList<T>>> {
    match T::cache(&server.catalog).cached() {
        Some(known) => Ok(Arc::new(CachedList {
            stale: Some(error),
            ..CachedList::clone(&known)
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

/// Fetches the list, stores it, and reports what is new.
async fn fly<T: Listed>(shared: &Arc<Shared>, server: &Arc<Server>) -> Result<Arc<CachedList<T>>> {
    let cache = T::cache(&server.catalog);
    let asked = Instant::now();
    let options = CallOptions::new();
    if !server.is_live() {
        let until = after(asked, server.spec().policy.timeouts.startup);
        // What keeps it from being ready is reported by the request below.
        let ready = admission::wait_ready(server, options.not_ready, until).await;
        // The connect that was waited for has listed the tools.
        if ready.is_ok()
            && let Some(list) = cache.fresh().filter(|list| list.fetched >= asked)
        {
            return Ok(list);
        }
    }
    let fetch = Fetch::<T> {
        version: cache.version(),
        spec: server.spec(),
        of: std::marker::PhantomData,
    };
    let fetched = admission::deliver(shared, server, &fetch, &options).await;
    let before = cache.cached();
    match fetched {
        Ok(listing) => {
            let listing = cache.store(listing);
            metrics::catalog_fetched(&server.name, T::METHOD);
            told_rejected(shared, server, before.as_deref(), &listing);
            if before.is_none_or(|before| *before.items != *listing.items)
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
            Ok(cache.store(CachedList {
                stale: Some(error),
                ..CachedList::clone(&before)
            }))
        }
    }
}

/// Reports items that could not be used, unless they are the same as before.
pub(crate) fn told_rejected<T>(
    shared: &Shared,
    server: &Server,
    before: Option<&CachedList<T>>,
    now: &CachedList<T>,
) {
    if !now.rejected.is_empty() && before.is_none_or(|before| before.rejected != now.rejected) {
        for item in &*now.rejected {
            tracing::warn!(
                server = %server.name,
                name = %Untrusted::line(&*item.name),
                reason = %Untrusted::line(&*item.reason),
                "an item of a list cannot be used"
            );
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
                // What went wrong was reported as an event.
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
