//! Servers that clients do not share (`sharing: client`): each client has instances of its own. An
//! instance is begun by the first use, is given the capabilities of its client, and asks and
//! notifies that client alone. It ends with the client's session or connection, or when the client
//! has not been there for a while.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    ops::ControlFlow,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use futures::future;
use mcpool_core::{
    Caller, Client, ClientFactory, ConnectOptions, Delivery, Error, ErrorKind, Notification, Raw,
    RawObject, Requester as _, Result, ServerName, ServerNotice, ServerRequestHandler, ServerSpec,
    Sharing, StartMode, StateKind, units,
};
use mcpool_manager::{ConnectionManager, ServerHandle};
use serde::Serialize;
use tokio::{sync::Notify, time::Instant};
use tokio_util::task::AbortOnDropHandle;

mod asked;

pub(crate) use asked::Way;
use asked::{Asked, Handler, OwnCaller};

use crate::{notices, session};

/// Instances that belong to one client each, in all.
const MAX_OWN: usize = 1_024;

/// Those of one principal. Where no keys are asked for, all clients together are one.
const MAX_OF_PRINCIPAL: usize = 64;

/// How long a client that has nothing under way and no stream open keeps its instances.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// How often that is looked at.
const SWEEP_PAUSE: Duration = Duration::from_secs(60);

/// What a client says when what it answers to `roots/list` has changed.
pub(crate) const ROOTS_CHANGED: &str = "notifications/roots/list_changed";

/// How long instances may take to end together. What is left then is killed.
const END_TIMEOUT: Duration = Duration::from_secs(8);

/// A client that may have instances of its own.
#[derive(Debug, Clone)]
pub(crate) struct Owner {
    /// Distinguishes clients.
    pub(crate) key: Arc<str>,
    pub(crate) principal: Option<Arc<str>>,
    /// What it can be asked.
    pub(crate) capabilities: RawObject,
}

/// Takes what an instance says by itself: the key of its owner, the server, the notice.
type Heard = Arc<dyn Fn(&Arc<str>, &ServerName, ServerNotice) + Send + Sync>;

/// The instances of one client that are connected: each in a pool of its own.
pub(crate) type OwnPools = [(ServerName, ConnectionManager)];

/// The instances of all clients.
pub(crate) struct OwnServers {
    pool: ConnectionManager,
    heard: Heard,
    owners: Mutex<HashMap<Arc<str>, Entry>>,
    next: AtomicU64,
}

struct Entry {
    principal: Option<Arc<str>>,
    /// How many requests and streams of the client there are now.
    present: usize,
    /// When the last of them ended.
    left: Instant,
    asked: Arc<Asked>,
    servers: BTreeMap<ServerName, Own>,
}

/// One instance: a manager that has this server alone. Dropping it ends the server.
struct Own {
    manager: ConnectionManager,
    handle: ServerHandle,
    /// The pool's spec, as it was last.
    made_of: Arc<ServerSpec>,
    since: SystemTime,
    /// Of several changes one after the other, the instance hears as many as it takes.
    roots_changed: Arc<Notify>,
    _tasks: [AbortOnDropHandle<()>; 2],
}

/// An instance, for people who look.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    /// Of its client; `None` where no keys are asked for.
    pub(crate) principal: Option<Arc<str>>,
    #[serde(serialize_with = "units::time")]
    since: SystemTime,
    state: StateKind,
}

/// A client's instance of a server.
pub(crate) struct Instance {
    pub(crate) handle: ServerHandle,
    /// Whether it was made just now.
    pub(crate) is_new: bool,
}

/// A request or a stream of a client, for as long as this lives.
pub(crate) struct Presence {
    own: Weak<OwnServers>,
    key: Arc<str>,
    asked: Arc<Asked>,
    id: u64,
}

impl Presence {
    /// The client behind this request, which an instance asks.
    pub(crate) fn caller(&self, request: Arc<dyn Caller>) -> Arc<dyn Caller> {
        Arc::new(OwnCaller::new(request, Arc::clone(&self.asked)))
    }
}

impl Entry {
    fn new(principal: Option<Arc<str>>) -> Self {
        Self {
            principal,
            present: 0,
            left: Instant::now(),
            asked: Arc::default(),
            servers: BTreeMap::new(),
        }
    }
}

impl OwnServers {
    /// None yet. What they say by themselves is given to `heard`.
    pub(crate) fn new(
        pool: ConnectionManager,
        heard: impl Fn(&Arc<str>, &ServerName, ServerNotice) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            pool,
            heard: Arc::new(heard),
            owners: Mutex::default(),
            next: AtomicU64::new(0),
        })
    }

    /// Whether each client has an instance of its own of a server of the pool. One that is switched
    /// off has none: the pool refuses its requests.
    ///
    /// # Errors
    /// `UnknownServer`, `Closed`.
    pub(crate) fn is_for_clients(&self, pooled: &ServerHandle) -> Result<bool> {
        Ok(pooled.spec()?.sharing == Sharing::Client
            && pooled.status()?.state != StateKind::Disabled)
    }

    /// The client's instance of a server of the pool, made if there is none; it is not connected
    /// before it is used.
    ///
    /// # Errors
    /// `UnknownServer`, `Closed`; `Overloaded` when there are too many.
    pub(crate) fn of(&self, owner: &Owner, pooled: &ServerHandle) -> Result<Instance> {
        let spec = pooled.spec()?;
        let mut owners = self.owners();
        if let Some(entry) = owners.get_mut(&owner.key)
            && let Some(own) = entry.servers.get_mut(&spec.name)
        {
            entry.left = Instant::now();
            return own.follow(spec);
        }
        room_for(&owners, owner).map_err(|error| error.with_server(&spec.name))?;
        let entry = owners
            .entry(Arc::clone(&owner.key))
            .or_insert_with(|| Entry::new(owner.principal.clone()));
        entry.left = Instant::now();
        let own = self.make(owner, &entry.asked, spec)?;
        let handle = own.handle.clone();
        entry.servers.insert(own.made_of.name.clone(), own);
        Ok(Instance {
            handle,
            is_new: true,
        })
    }

    fn make(&self, owner: &Owner, asked: &Arc<Asked>, spec: Arc<ServerSpec>) -> Result<Own> {
        let factory = ForClient {
            inner: self.pool.factory(),
            handler: Arc::new(Handler::new(
                declared(&owner.capabilities),
                Arc::clone(asked),
            )),
        };
        let manager = ConnectionManager::new(Arc::new(factory));
        manager.add(own_spec(&spec))?;
        let handle = manager.server(spec.name.as_str())?;
        let (key, heard) = (Arc::clone(&owner.key), Arc::clone(&self.heard));
        let server = spec.name.clone();
        let changes = handle.clone();
        let hearing = notices::each(handle.clone(), move |notice| {
            if !matches!(notice, ServerNotice::Log { .. }) {
                // Before the client hears of it, and asks.
                let _ = changes.invalidate();
            }
            heard(&key, &server, notice);
            ControlFlow::Continue(())
        });
        let roots_changed = Arc::new(Notify::new());
        let passing = pass_on(handle.clone(), Arc::clone(&roots_changed));
        Ok(Own {
            manager,
            handle,
            made_of: spec,
            since: SystemTime::now(),
            roots_changed,
            _tasks: [
                AbortOnDropHandle::new(tokio::spawn(hearing)),
                AbortOnDropHandle::new(tokio::spawn(passing)),
            ],
        })
    }

    /// A client says that its roots have changed: its instances are notified, which is not waited
    /// for.
    pub(crate) fn roots_changed(&self, owner: &str) {
        if let Some(entry) = self.owners().get(owner) {
            for own in entry.servers.values() {
                own.roots_changed.notify_one();
            }
        }
    }

    /// The client's instance of a server, if there is one.
    pub(crate) fn known(&self, owner: &str, server: &ServerName) -> Option<ServerHandle> {
        let owners = self.owners();
        let own = owners.get(owner)?.servers.get(server)?;
        Some(own.handle.clone())
    }

    /// The instances of a client that are connected.
    pub(crate) fn pools(&self, owner: &str) -> Vec<(ServerName, ConnectionManager)> {
        let owners = self.owners();
        let servers = owners.get(owner).map(|entry| entry.servers.iter());
        let servers = servers.into_iter().flatten();
        let connected = servers.filter(|(_, own)| own.handle.client().is_ok());
        let pools = connected.map(|(name, own)| (name.clone(), own.manager.clone()));
        pools.collect()
    }

    /// The instances of each server, the oldest first.
    pub(crate) fn shown(&self) -> HashMap<ServerName, Vec<Shown>> {
        let mut shown: HashMap<ServerName, Vec<Shown>> = HashMap::new();
        for entry in self.owners().values() {
            for (server, own) in &entry.servers {
                let Ok(status) = own.handle.status() else {
                    continue;
                };
                shown.entry(server.clone()).or_default().push(Shown {
                    principal: entry.principal.clone(),
                    since: own.since,
                    state: status.state,
                });
            }
        }
        for instances in shown.values_mut() {
            instances.sort_by_key(|one| one.since);
        }
        shown
    }

    /// All instances of a client.
    pub(crate) fn all_of(&self, owner: &str) -> Vec<ServerHandle> {
        let owners = self.owners();
        let servers = owners.get(owner).map(|entry| entry.servers.values());
        servers.into_iter().flatten().map(Own::handle).collect()
    }

    /// A request or a stream of a client begins, which may be a way to it.
    pub(crate) fn present(self: &Arc<Self>, owner: &Owner, way: Way) -> Presence {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut owners = self.owners();
        let entry = owners
            .entry(Arc::clone(&owner.key))
            .or_insert_with(|| Entry::new(owner.principal.clone()));
        entry.present += 1;
        let asked = Arc::clone(&entry.asked);
        drop(owners);
        asked.begin(id, way);
        Presence {
            own: Arc::downgrade(self),
            key: Arc::clone(&owner.key),
            asked,
            id,
        }
    }

    /// The client has gone for good: its instances end, which is not waited for.
    pub(crate) fn end(&self, owner: &str) {
        let entry = self.owners().remove(owner);
        drop(entry);
    }

    /// As [`end`](Self::end), and waits for it. Dropping the future stops the waiting alone.
    pub(crate) async fn ended(&self, owner: &str) {
        let entry = self.owners().remove(owner);
        shutdown(entry.into_iter().collect()).await;
    }

    /// Ends all instances, and waits for that. Dropping the future stops the waiting alone.
    pub(crate) async fn shutdown(&self) {
        let entries = std::mem::take(&mut *self.owners());
        shutdown(entries.into_values().collect()).await;
    }

    /// Ends the instances of clients that are gone, and of servers that are not in the pool any
    /// more, for as long as there are any to be had.
    pub(crate) async fn tend(own: Weak<Self>) {
        loop {
            tokio::time::sleep(SWEEP_PAUSE).await;
            let Some(own) = own.upgrade() else { return };
            own.sweep();
        }
    }

    fn sweep(&self) {
        let mut ended = Vec::new();
        self.owners().retain(|_, entry| {
            let is_gone = entry.present == 0 && entry.left.elapsed() >= IDLE_TIMEOUT;
            let names = entry.servers.keys();
            let unwanted = names.filter(|name| is_gone || !self.is_wanted(name));
            for name in unwanted.cloned().collect::<Vec<_>>() {
                ended.extend(entry.servers.remove(&name));
            }
            entry.present > 0 || !entry.servers.is_empty()
        });
        if !ended.is_empty() {
            tracing::debug!(
                count = ended.len(),
                "instances of clients that are gone ended"
            );
        }
    }

    fn is_wanted(&self, name: &ServerName) -> bool {
        // The state, not the spec: a server may have been switched on or off since.
        let pooled = self.pool.server(name.as_str());
        pooled.is_ok_and(|pooled| self.is_for_clients(&pooled).unwrap_or(false))
    }

    /// Whether no client has any, nor is there.
    pub(crate) fn is_empty(&self) -> bool {
        self.owners().is_empty()
    }

    fn owners(&self) -> MutexGuard<'_, HashMap<Arc<str>, Entry>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether one more instance may be made for a client.
///
/// # Errors
/// The refusal.
fn room_for(owners: &HashMap<Arc<str>, Entry>, owner: &Owner) -> Result<()> {
    let count = |of_all: bool| -> usize {
        let entries = owners.values();
        let counted = entries.filter(|entry| of_all || entry.principal == owner.principal);
        counted.map(|entry| entry.servers.len()).sum()
    };
    let why = if count(false) >= MAX_OF_PRINCIPAL {
        format!(
            "there are {MAX_OF_PRINCIPAL} instances of servers that clients of this principal do \
             not share"
        )
    } else if count(true) >= MAX_OWN {
        format!("there are {MAX_OWN} instances of servers that clients do not share")
    } else {
        return Ok(());
    };
    let error = Error::new(ErrorKind::Overloaded, why);
    Err(error.with_delivery(Delivery::NotSent))
}

/// Ends instances, and waits for that.
async fn shutdown(entries: Vec<Entry>) {
    let servers = entries.into_iter().flat_map(|entry| entry.servers);
    let ends = servers.map(|(_, own)| async move { own.manager.shutdown(END_TIMEOUT).await });
    future::join_all(ends).await;
}

/// The spec of an instance for one client: connected by its first use, and once.
fn own_spec(of_pool: &ServerSpec) -> ServerSpec {
    of_pool
        .clone()
        // The pool refuses the requests of one that is switched off.
        .with_enabled(true)
        .with_start(StartMode::Lazy(None))
        .with_instances(1)
        .with_required(false)
}

/// What an instance learns that its client can do.
fn declared(capabilities: &RawObject) -> Raw {
    let declared = session::askable(capabilities);
    declared.to_raw().unwrap_or_else(|_| Raw::empty_object())
}

/// Notifies an instance of changed roots, once it is connected: it may have asked for them while it
/// was being connected, before they changed.
async fn pass_on(handle: ServerHandle, changed: Arc<Notify>) {
    loop {
        changed.notified().await;
        let Some(client) = connected(&handle).await else {
            return;
        };
        let notification = Notification::new(ROOTS_CHANGED, None);
        if let Err(error) = client.notify(&notification).await {
            tracing::debug!(
                server = %handle.server(),
                kind = %error.kind(),
                "an instance did not hear of changed roots"
            );
        }
    }
}

/// The connection of an instance, when there is one; `None` when it is gone for good.
async fn connected(handle: &ServerHandle) -> Option<Arc<dyn Client>> {
    loop {
        let mut state = handle.watch().ok()?;
        state.mark_unchanged();
        if let Ok(client) = handle.client() {
            return Some(client);
        }
        // An error: it was replaced by another spec, which a new watch sees.
        let _ = state.changed().await;
    }
}

impl Own {
    fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }

    /// Takes over what has changed in the pool's spec.
    fn follow(&mut self, spec: Arc<ServerSpec>) -> Result<Instance> {
        if !Arc::ptr_eq(&self.made_of, &spec) {
            self.manager.add(own_spec(&spec))?;
            self.made_of = spec;
        }
        Ok(Instance {
            handle: self.handle.clone(),
            is_new: false,
        })
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.asked.end(self.id);
        let Some(own) = self.own.upgrade() else {
            return;
        };
        let mut owners = own.owners();
        // There may be another of this key since: that one did not count this.
        if let Some(entry) = owners.get_mut(&self.key)
            && Arc::ptr_eq(&entry.asked, &self.asked)
        {
            entry.present = entry.present.saturating_sub(1);
            entry.left = Instant::now();
            if entry.present == 0 && entry.servers.is_empty() {
                owners.remove(&self.key);
            }
        }
    }
}

/// The pool's factory, for the connections of one client.
struct ForClient {
    inner: Arc<dyn ClientFactory>,
    handler: Arc<dyn ServerRequestHandler>,
}

#[async_trait]
impl ClientFactory for ForClient {
    async fn connect(
        &self,
        spec: &ServerSpec,
        options: &ConnectOptions,
    ) -> Result<Arc<dyn Client>> {
        let options = options.clone().with_handler(Arc::clone(&self.handler));
        self.inner.connect(spec, &options).await
    }

    async fn credentials_changed(&self, spec: &ServerSpec) {
        self.inner.credentials_changed(spec).await;
    }
}

impl fmt::Debug for OwnServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OwnServers")
            .field(&self.owners().len())
            .finish()
    }
}

#[cfg(test)]
mod tests;
