//! The lists of one server as they were last fetched, and what makes them stale.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use mcpool_core::{
    Error, RejectedItem, Reply, Result,
    model::{Prompt, Resource, ResourceTemplate, Tool},
};
use tokio::{sync::watch, time::Instant};

/// Every list of one server.
#[derive(Default)]
pub(crate) struct Catalog {
    pub(crate) tools: Cache<Tool>,
    pub(super) prompts: Cache<Prompt>,
    pub(super) resources: Cache<Resource>,
    pub(super) templates: Cache<ResourceTemplate>,
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

    /// How many entries of the lists that are cached could not be used.
    pub(crate) fn rejected(&self) -> usize {
        fn of<T>(cache: &Cache<T>) -> usize {
            cache.cached().map_or(0, |list| list.rejected.len())
        }
        of(&self.tools) + of(&self.prompts) + of(&self.resources) + of(&self.templates)
    }
}

/// One list of one server, as it was when it was fetched. Immutable and cheap to share.
#[derive(Debug)]
#[non_exhaustive]
pub struct CachedList<T> {
    /// The items, in the server's order.
    pub items: Arc<[Reply<T>]>,
    /// Items that could not be used.
    pub rejected: Arc<[RejectedItem]>,
    /// Why the list may not be the whole one; `None` for nearly every server.
    pub incomplete: Option<String>,
    /// When the list was fetched.
    pub fetched_at: SystemTime,
    /// Why a newer list could not be fetched; `None` while the list is good.
    pub stale: Option<Error>,
    pub(super) fetched: Instant,
    pub(super) expires: Option<Instant>,
    pub(super) version: u64,
}

impl<T> Clone for CachedList<T> {
    fn clone(&self) -> Self {
        Self {
            items: Arc::clone(&self.items),
            rejected: Arc::clone(&self.rejected),
            incomplete: self.incomplete.clone(),
            stale: self.stale.clone(),
            ..*self
        }
    }
}

impl<T> CachedList<T> {
    /// How old the list is.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.fetched.elapsed()
    }
}

/// A fetch that is under way, and then its result.
pub(super) type Flight<T> = watch::Receiver<Option<Result<Arc<CachedList<T>>>>>;

/// A cached list.
pub(crate) struct Cache<T> {
    current: ArcSwapOption<CachedList<T>>,
    /// The fetch that is under way.
    pub(super) flight: Mutex<Option<Flight<T>>>,
    /// Counts what made the list stale.
    version: AtomicU64,
    /// Whether a refresh that the server asked for is planned.
    pub(super) planned: AtomicBool,
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
    pub(crate) fn cached(&self) -> Option<Arc<CachedList<T>>> {
        self.current.load_full()
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(crate) fn invalidate(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn store(&self, listing: CachedList<T>) -> Arc<CachedList<T>> {
        let listing = Arc::new(listing);
        self.current.store(Some(Arc::clone(&listing)));
        listing
    }

    pub(super) fn fresh(&self) -> Option<Arc<CachedList<T>>> {
        self.cached().filter(|listing| {
            listing.stale.is_none()
                && listing.version == self.version()
                && listing.expires.is_none_or(|at| Instant::now() < at)
        })
    }
}
