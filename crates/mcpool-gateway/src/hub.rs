//! What servers say by themselves, on its way to the clients that want to hear it: changed lists,
//! changed resources, log messages. Subscriptions and the log level of all clients become one for
//! each server that they share.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::ControlFlow,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mcpool_core::{
    EventKind, Inbox, InboxSender, LogLevel, Notification, Raw, RawObject, Request, RequestOptions,
    Requester as _, Result, ServerName, ServerNotice, Sharing, StateKind,
};
use mcpool_manager::{ConnectionManager, EventItem, NotReady, ServerHandle};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    down_servers::DownServers,
    notices,
    own::OwnServers,
    scope::{Named, Profile, Scope},
};

/// How long a request waits for a server that is not ready. Many clients give up after 30 s, ours
/// among them: then they would not know that it was not run. Where it is not known which server has
/// a resource, up to 10 s have passed before.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(20);

/// Resources that one client may be subscribed to.
pub(crate) const MAX_SUBSCRIPTIONS: usize = 256;

/// What a client wants to be notified of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Wants {
    pub(crate) tools: bool,
    pub(crate) prompts: bool,
    pub(crate) resources: bool,
    /// Log messages that belong to no request.
    pub(crate) logs: bool,
}

impl Wants {
    /// What a client is notified of up to MCP 2025-11-25, without asking for it.
    pub(crate) const EVERYTHING: Self = Self {
        tools: true,
        prompts: true,
        resources: true,
        logs: true,
    };
}

/// The hub of one gateway.
pub(crate) struct Hub {
    manager: ConnectionManager,
    own: Arc<OwnServers>,
    down: DownServers,
    listeners: Mutex<HashMap<u64, Entry>>,
    next: AtomicU64,
    /// The tasks that hear the notices of servers.
    hearing: Mutex<BTreeMap<ServerName, AbortOnDropHandle<()>>>,
}

/// A resource that somebody is subscribed to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Resource {
    /// The client whose instance of the server has it, where clients do not share the server.
    pub(crate) owner: Option<Arc<str>>,
    pub(crate) server: ServerName,
    pub(crate) uri: String,
}

struct Entry {
    /// The client.
    owner: Arc<str>,
    scope: Scope,
    wants: Wants,
    queue: InboxSender,
    /// The least severe log message that it wants; `None`: as the servers send them.
    level: Option<LogLevel>,
    subscriptions: HashSet<Resource>,
}

impl Entry {
    /// Notifies the client that a list has changed, if it wants that.
    fn changed(&self, list: List) {
        let wanted = match list {
            List::Tools => self.wants.tools,
            List::Prompts => self.wants.prompts,
            List::Resources => self.wants.resources,
        };
        if wanted {
            self.queue
                .notification(Notification::new(list.method(), None));
        }
    }

    /// Whether it hears what a server says: the instance of this client, or the one that all share.
    fn hears(&self, owner: Option<&str>, server: &ServerName) -> bool {
        owner.is_none_or(|owner| *self.owner == *owner) && self.scope.covers(server)
    }
}

/// One client that hears what servers say. Dropping it ends its subscriptions.
pub(crate) struct Listener {
    hub: Weak<Hub>,
    id: u64,
}

impl Hub {
    pub(crate) fn new(manager: ConnectionManager, down: DownServers) -> Arc<Self> {
        Arc::new_cyclic(|hub: &Weak<Self>| {
            let hub = hub.clone();
            let own = OwnServers::new(manager.clone(), move |owner, server, notice| {
                if let Some(hub) = hub.upgrade() {
                    hub.said(Some(owner), server, notice);
                }
            });
            Self {
                manager,
                own,
                down,
                listeners: Mutex::default(),
                next: AtomicU64::new(0),
                hearing: Mutex::default(),
            }
        })
    }

    /// The instances that belong to one client each.
    pub(crate) fn own(&self) -> &Arc<OwnServers> {
        &self.own
    }

    /// Passes on what happens, until the manager is shut down.
    pub(crate) async fn run(hub: Arc<Self>) {
        let mut events = hub.manager.events();
        for server in hub.manager.names() {
            hub.hear(&server);
        }
        while let Some(item) = events.recv().await {
            match item {
                EventItem::Event(event) => {
                    if let Some(server) = &event.server {
                        hub.happened(server, &event.kind);
                    }
                }
                // Anything may have changed.
                EventItem::Missed(_) => hub.changed(&List::ALL, |_| true),
                _ => {}
            }
        }
    }

    fn happened(self: &Arc<Self>, server: &ServerName, kind: &EventKind) {
        let covers = |entry: &Entry| entry.scope.covers(server);
        if let EventKind::StateChanged { from, to } = kind
            && self.down.lists(*from) != self.down.lists(*to)
        {
            self.changed(&List::ALL, covers);
        }
        match kind {
            EventKind::ToolsChanged { .. } => self.changed(&[List::Tools], covers),
            EventKind::PromptsChanged => self.changed(&[List::Prompts], covers),
            EventKind::ResourcesChanged => self.changed(&[List::Resources], covers),
            EventKind::ResourceUpdated { uri } => self.updated(None, server, uri),
            EventKind::StateChanged {
                to: StateKind::Ready,
                ..
            } => {
                self.hear(server);
                if let Some(level) = self.lowest_level() {
                    self.set_level(server, level);
                }
            }
            _ => {}
        }
    }

    /// Hears the notices of a server from now on, unless that is done already.
    fn hear(self: &Arc<Self>, server: &ServerName) {
        let mut hearing = lock(&self.hearing);
        hearing.retain(|_, task| !task.is_finished());
        if hearing.contains_key(server) {
            return;
        }
        let Ok(handle) = self.manager.server(server.as_str()) else {
            return;
        };
        let (hub, name) = (Arc::downgrade(self), server.clone());
        let hear = notices::each(handle, move |notice| {
            let Some(hub) = hub.upgrade() else {
                return ControlFlow::Break(());
            };
            // Lists and resources are heard of as events, when what they are now is known.
            if let ServerNotice::Log { .. } = notice
                && hub.is_shared(&name)
            {
                hub.said(None, &name, notice);
            }
            ControlFlow::Continue(())
        });
        hearing.insert(server.clone(), AbortOnDropHandle::new(tokio::spawn(hear)));
    }

    /// Whether what a server of the pool logs concerns clients: one that they do not share only
    /// lists there what it has.
    fn is_shared(&self, server: &ServerName) -> bool {
        let spec = self.manager.server(server.as_str()).and_then(|s| s.spec());
        spec.is_ok_and(|spec| spec.sharing != Sharing::Client)
    }

    /// Passes on what a server says: the instance of a client, or the one that all share.
    fn said(&self, owner: Option<&Arc<str>>, server: &ServerName, notice: ServerNotice) {
        let hears = |entry: &Entry| entry.hears(owner.map(|owner| &**owner), server);
        match notice {
            ServerNotice::ToolsChanged => self.changed(&[List::Tools], hears),
            ServerNotice::PromptsChanged => self.changed(&[List::Prompts], hears),
            ServerNotice::ResourcesChanged => self.changed(&[List::Resources], hears),
            ServerNotice::ResourceUpdated { uri } => self.updated(owner, server, &uri),
            ServerNotice::SessionRenewed | ServerNotice::Missed { .. } => {
                self.changed(&List::ALL, hears);
            }
            ServerNotice::Log {
                level,
                logger,
                data,
            } => {
                let message = message(&level, logger.as_deref(), data);
                self.logged(owner, server, &message);
            }
            _ => {}
        }
    }

    /// Notifies clients that are served a profile when it has changed, until nobody can change it.
    pub(crate) async fn follow(hub: Weak<Self>, mut profiles: watch::Receiver<Named>) {
        while profiles.changed().await.is_ok() {
            let Some(hub) = hub.upgrade() else { return };
            hub.replaced(&profiles.borrow_and_update());
        }
    }

    fn replaced(&self, profiles: &Named) {
        for entry in lock(&self.listeners).values_mut() {
            let Scope::Profile(profile) = &entry.scope else {
                continue;
            };
            let now = match profiles.get(profile.name()) {
                Some(now) => Arc::clone(now),
                // It is not served any more, until there is one of its name again.
                None => Arc::new(Profile::new(profile.name()).with_servers([])),
            };
            if now == *profile {
                continue;
            }
            entry.scope = Scope::Profile(now);
            for list in List::ALL {
                entry.changed(list);
            }
        }
    }

    /// Notifies the clients that this concerns that lists have changed.
    fn changed(&self, lists: &[List], concerns: impl Fn(&Entry) -> bool) {
        for entry in lock(&self.listeners)
            .values()
            .filter(|entry| concerns(entry))
        {
            lists.iter().for_each(|list| entry.changed(*list));
        }
    }

    fn updated(&self, owner: Option<&Arc<str>>, server: &ServerName, uri: &str) {
        let resource = Resource {
            owner: owner.map(Arc::clone),
            server: server.clone(),
            uri: uri.to_owned(),
        };
        let params = Raw::of(&json!({ "uri": uri })).ok();
        for entry in lock(&self.listeners).values() {
            if entry.scope.covers(server) && entry.subscriptions.contains(&resource) {
                let method = "notifications/resources/updated";
                entry
                    .queue
                    .notification(Notification::new(method, params.clone()));
            }
        }
    }

    fn logged(&self, owner: Option<&Arc<str>>, server: &ServerName, message: &Notification) {
        let level = LogLevel::of(message);
        for entry in lock(&self.listeners).values() {
            let wanted = entry.wants.logs && entry.level.is_none_or(|least| level >= least);
            if wanted && entry.hears(owner.map(|owner| &**owner), server) {
                entry.queue.notification(message.clone());
            }
        }
    }

    /// Makes a client hear what it wants of its scope; its notifications wait in the inbox.
    pub(crate) fn listen(
        self: &Arc<Self>,
        owner: Arc<str>,
        scope: Scope,
        wants: Wants,
    ) -> (Listener, Inbox) {
        let (queue, inbox) = Inbox::channel();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.listeners).insert(
            id,
            Entry {
                owner,
                scope,
                wants,
                queue,
                level: None,
                subscriptions: HashSet::new(),
            },
        );
        let listener = Listener {
            hub: Arc::downgrade(self),
            id,
        };
        (listener, inbox)
    }

    /// The least severe level that any client asked for.
    fn lowest_level(&self) -> Option<LogLevel> {
        lock(&self.listeners)
            .values()
            .filter_map(|entry| entry.level)
            .min()
    }

    /// Asks a server for the log messages that are wanted. Nobody waits for it: a server that is
    /// not connected gets it when it is.
    fn set_level(&self, server: &ServerName, level: LogLevel) {
        let Ok(handle) = self.manager.server(server.as_str()) else {
            return;
        };
        let offers = handle
            .info()
            .is_some_and(|info| info.peer.capabilities.logging);
        if offers {
            ask_for_level(handle, level);
        }
    }
}

/// Asks a server for the log messages that are wanted, which connects it. Nobody waits for it.
pub(crate) fn ask_for_level(handle: ServerHandle, level: LogLevel) {
    let request = Request::new("logging/setLevel").with_params(&json!({ "level": level }));
    let Ok(request) = request else { return };
    tokio::spawn(async move {
        if let Err(error) = handle.request(&request, &RequestOptions::new()).await {
            tracing::debug!(server = %handle.server(), %error, "the log level was not set");
        }
    });
}

/// A log message as clients are sent it.
fn message(level: &str, logger: Option<&str>, data: Raw) -> Notification {
    let mut params = RawObject::new();
    let text = |text: &str| Raw::of(text).unwrap_or_else(|_| Raw::null());
    params.insert("level", text(level));
    if let Some(logger) = logger {
        params.insert("logger", text(logger));
    }
    params.insert("data", data);
    Notification::new("notifications/message", params.to_raw().ok())
}

impl Listener {
    /// Sets the least severe log message that the client wants. Servers get the lowest that
    /// any client wants, and the client's own instances what it wants.
    pub(crate) fn set_level(&self, level: LogLevel) {
        let Some(hub) = self.hub.upgrade() else {
            return;
        };
        let before = hub.lowest_level();
        let owner = lock(&hub.listeners).get_mut(&self.id).map(|entry| {
            entry.level = Some(level);
            Arc::clone(&entry.owner)
        });
        let lowest = hub.lowest_level();
        if let Some(level) = lowest.filter(|_| lowest != before) {
            for server in hub.manager.names() {
                hub.set_level(&server, level);
            }
        }
        for handle in owner.iter().flat_map(|owner| hub.own.all_of(owner)) {
            ask_for_level(handle, level);
        }
    }

    /// The least severe log message that the client wants.
    pub(crate) fn level(&self) -> Option<LogLevel> {
        let hub = self.hub.upgrade()?;
        let listeners = lock(&hub.listeners);
        listeners.get(&self.id).and_then(|entry| entry.level)
    }

    /// Subscribes the client to a resource of a server.
    ///
    /// # Errors
    /// The server's refusal, or that it cannot be reached; and that there are
    /// [`MAX_SUBSCRIPTIONS`] already.
    pub(crate) async fn subscribe(&self, resource: &Resource) -> Result<()> {
        let Some(hub) = self.hub.upgrade() else {
            return Ok(());
        };
        {
            let mut listeners = lock(&hub.listeners);
            if let Some(entry) = listeners.get_mut(&self.id) {
                let is_new = !entry.subscriptions.contains(resource);
                if is_new && entry.subscriptions.len() >= MAX_SUBSCRIPTIONS {
                    return Err(mcpool_core::Error::new(
                        mcpool_core::ErrorKind::Overloaded,
                        format!("there are {MAX_SUBSCRIPTIONS} subscriptions of this client"),
                    ));
                }
                // Before the server is asked, so that no change is missed.
                entry.subscriptions.insert(resource.clone());
            }
        }
        // A server takes it twice: other subscribers notice nothing.
        let asked = hub
            .tell_server("resources/subscribe", resource, NotReady::Wait)
            .await;
        if asked.is_err() {
            self.forget(&hub, resource);
        }
        asked
    }

    /// Ends a subscription of the client. The server is notified when no other client has it.
    pub(crate) async fn unsubscribe(&self, resource: &Resource) -> Result<()> {
        let Some(hub) = self.hub.upgrade() else {
            return Ok(());
        };
        match self.forget(&hub, resource) {
            true => {
                let method = "resources/unsubscribe";
                hub.tell_server(method, resource, NotReady::FailFast).await
            }
            false => Ok(()),
        }
    }

    /// Whether the client was the last that had it.
    fn forget(&self, hub: &Hub, resource: &Resource) -> bool {
        let mut listeners = lock(&hub.listeners);
        let had = match listeners.get_mut(&self.id) {
            Some(entry) => entry.subscriptions.remove(resource),
            None => false,
        };
        had && !listeners
            .values()
            .any(|entry| entry.subscriptions.contains(resource))
    }
}

impl Hub {
    async fn tell_server(
        &self,
        method: &'static str,
        resource: &Resource,
        not_ready: NotReady,
    ) -> Result<()> {
        let Resource { owner, server, uri } = resource;
        let handle = match owner {
            None => self.manager.server(server.as_str())?,
            Some(owner) => match self.own.known(owner, server) {
                Some(handle) => handle,
                // The instance has ended, and what was set up on it with it.
                None => return Ok(()),
            },
        };
        let mut options = mcpool_manager::CallOptions::new().with_max_wait(MAX_WAIT);
        options.not_ready = not_ready;
        let request = Request::new(method).with_params(&json!({ "uri": uri }))?;
        let handle = handle.with_call_options(options);
        handle.request(&request, &RequestOptions::new()).await?;
        Ok(())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let Some(hub) = self.hub.upgrade() else {
            return;
        };
        let mut listeners = lock(&hub.listeners);
        let Some(entry) = listeners.remove(&self.id) else {
            return;
        };
        let mut left = entry.subscriptions;
        left.retain(|resource| {
            !listeners
                .values()
                .any(|entry| entry.subscriptions.contains(resource))
        });
        drop(listeners);
        // With no runtime the manager is going down, and its connections with it.
        let (false, Ok(runtime)) = (left.is_empty(), tokio::runtime::Handle::try_current()) else {
            return;
        };
        runtime.spawn(async move {
            for resource in left {
                let method = "resources/unsubscribe";
                let sent = hub.tell_server(method, &resource, NotReady::FailFast).await;
                if let Err(error) = sent {
                    let server = &resource.server;
                    tracing::debug!(%server, %error, "a subscription was not ended");
                }
            }
        });
    }
}

/// A list that may change.
#[derive(Clone, Copy)]
enum List {
    Tools,
    Prompts,
    Resources,
}

impl List {
    const ALL: [Self; 3] = [Self::Tools, Self::Prompts, Self::Resources];

    fn method(self) -> &'static str {
        match self {
            Self::Tools => "notifications/tools/list_changed",
            Self::Prompts => "notifications/prompts/list_changed",
            Self::Resources => "notifications/resources/list_changed",
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
