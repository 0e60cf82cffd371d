//! What servers say by themselves, on its way to the clients that want to hear it: changed lists,
//! changed resources, log messages. Subscriptions and the log level of all clients become one for
//! each server.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mcpool_core::{
    EventKind, Inbox, InboxSender, Notification, Raw, Request, RequestOptions, Requester as _,
    Result, ServerName, ServerNotice, StateKind,
};
use mcpool_manager::{ConnectionManager, EventItem, NotReady, ServerHandle};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    down_servers::DownServers,
    level::Level,
    scope::{Named, Scope},
};

/// Resources that one client may be subscribed to.
pub(crate) const MAX_SUBSCRIPTIONS: usize = 256;

/// The pause before the notices of a server are heard again when their stream has ended.
const RESUBSCRIBE: Duration = Duration::from_millis(100);

/// What a client wants to be told of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Wants {
    pub(crate) tools: bool,
    pub(crate) prompts: bool,
    pub(crate) resources: bool,
    /// Log messages that belong to no request.
    pub(crate) logs: bool,
}

impl Wants {
    /// What a client is told up to MCP 2025-11-25, without asking for it.
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
    down: DownServers,
    listeners: Mutex<HashMap<u64, Entry>>,
    next: AtomicU64,
    /// The tasks that hear the notices of servers.
    hearing: Mutex<BTreeMap<ServerName, AbortOnDropHandle<()>>>,
}

struct Entry {
    scope: Scope,
    wants: Wants,
    queue: InboxSender,
    /// The least severe log message that it wants; `None`: as the servers send them.
    level: Option<Level>,
    subscriptions: HashSet<(ServerName, String)>,
}

impl Entry {
    /// Tells the client that a list has changed, if it wants to hear it.
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
}

/// One client that hears what servers say. Dropping it ends its subscriptions.
pub(crate) struct Listener {
    hub: Weak<Hub>,
    id: u64,
}

impl Hub {
    pub(crate) fn new(manager: ConnectionManager, down: DownServers) -> Arc<Self> {
        Arc::new(Self {
            manager,
            down,
            listeners: Mutex::default(),
            next: AtomicU64::new(0),
            hearing: Mutex::default(),
        })
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
                EventItem::Missed(_) => hub.all_changed(None),
                _ => {}
            }
        }
    }

    fn happened(self: &Arc<Self>, server: &ServerName, kind: &EventKind) {
        if let EventKind::StateChanged { from, to } = kind
            && self.down.lists(*from) != self.down.lists(*to)
        {
            self.all_changed(Some(server));
        }
        match kind {
            EventKind::ToolsChanged { .. } => self.changed(Some(server), List::Tools),
            EventKind::PromptsChanged => self.changed(Some(server), List::Prompts),
            EventKind::ResourcesChanged => self.changed(Some(server), List::Resources),
            EventKind::ResourceUpdated { uri } => self.updated(server, uri),
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
        let task = tokio::spawn(hear(Arc::downgrade(self), handle));
        hearing.insert(server.clone(), AbortOnDropHandle::new(task));
    }

    /// Tells clients that are served a profile when it has changed, until nobody can change it.
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
            match profiles.get(profile.name()) {
                Some(now) if now == profile => continue,
                Some(now) => entry.scope = Scope::Profile(Arc::clone(now)),
                // It is served no more, which the client hears when it asks.
                None => {}
            }
            for list in [List::Tools, List::Prompts, List::Resources] {
                entry.changed(list);
            }
        }
    }

    fn all_changed(&self, server: Option<&ServerName>) {
        for list in [List::Tools, List::Prompts, List::Resources] {
            self.changed(server, list);
        }
    }

    fn changed(&self, server: Option<&ServerName>, list: List) {
        for entry in lock(&self.listeners).values() {
            if server.is_none_or(|server| entry.scope.covers(server)) {
                entry.changed(list);
            }
        }
    }

    fn updated(&self, server: &ServerName, uri: &str) {
        let subscribed = (server.clone(), uri.to_owned());
        let params = Raw::of(&json!({ "uri": uri })).ok();
        for entry in lock(&self.listeners).values() {
            if entry.scope.covers(server) && entry.subscriptions.contains(&subscribed) {
                let method = "notifications/resources/updated";
                entry
                    .queue
                    .notification(Notification::new(method, params.clone()));
            }
        }
    }

    fn logged(&self, server: &ServerName, message: &Notification) {
        let level = Level::of(message);
        for entry in lock(&self.listeners).values() {
            let wanted = entry.wants.logs && entry.level.is_none_or(|least| level >= least);
            if wanted && entry.scope.covers(server) {
                entry.queue.notification(message.clone());
            }
        }
    }

    /// Makes a client hear what it wants of its scope; what it is told waits in the inbox.
    pub(crate) fn listen(self: &Arc<Self>, scope: Scope, wants: Wants) -> (Listener, Inbox) {
        let (queue, inbox) = Inbox::channel();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.listeners).insert(
            id,
            Entry {
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
    fn lowest_level(&self) -> Option<Level> {
        lock(&self.listeners)
            .values()
            .filter_map(|entry| entry.level)
            .min()
    }

    /// Tells a server which log messages are wanted. Nobody waits for it: a server that is not
    /// there is told when it is.
    fn set_level(&self, server: &ServerName, level: Level) {
        let Ok(handle) = self.manager.server(server.as_str()) else {
            return;
        };
        let offers = handle
            .info()
            .is_some_and(|info| info.peer.capabilities.logging);
        let request = Request::new("logging/setLevel").with_params(&json!({ "level": level }));
        let (true, Ok(request)) = (offers, request) else {
            return;
        };
        let server = server.clone();
        tokio::spawn(async move {
            if let Err(error) = handle.request(&request, &RequestOptions::new()).await {
                tracing::debug!(%server, %error, "the log level was not set");
            }
        });
    }
}

/// Passes on the log messages of one server until it is removed or the gateway ends.
async fn hear(hub: Weak<Hub>, handle: ServerHandle) {
    let server = handle.server().clone();
    // A server that is replaced has another stream of notices.
    while handle.spec().is_ok() {
        let mut notices = handle.notices();
        while let Some(notice) = notices.next().await {
            let ServerNotice::Log {
                level,
                logger,
                data,
            } = notice
            else {
                continue;
            };
            let Some(hub) = hub.upgrade() else { return };
            let mut params = mcpool_core::RawObject::new();
            let text = |text: &str| Raw::of(text).unwrap_or_else(|_| Raw::null());
            params.insert("level", text(&level));
            if let Some(logger) = logger {
                params.insert("logger", text(&logger));
            }
            params.insert("data", data);
            let message = Notification::new("notifications/message", params.to_raw().ok());
            hub.logged(&server, &message);
        }
        tokio::time::sleep(RESUBSCRIBE).await;
    }
}

impl Listener {
    /// Sets the least severe log message that the client wants. Servers are told the lowest that
    /// any client wants.
    pub(crate) fn set_level(&self, level: Level) {
        let Some(hub) = self.hub.upgrade() else {
            return;
        };
        let before = hub.lowest_level();
        if let Some(entry) = lock(&hub.listeners).get_mut(&self.id) {
            entry.level = Some(level);
        }
        let lowest = hub.lowest_level();
        if let Some(level) = lowest.filter(|_| lowest != before) {
            for server in hub.manager.names() {
                hub.set_level(&server, level);
            }
        }
    }

    /// The least severe log message that the client wants.
    pub(crate) fn level(&self) -> Option<Level> {
        let hub = self.hub.upgrade()?;
        let listeners = lock(&hub.listeners);
        listeners.get(&self.id).and_then(|entry| entry.level)
    }

    /// Subscribes the client to a resource of a server.
    ///
    /// # Errors
    /// The server's refusal, or that it cannot be reached; and that there are
    /// [`MAX_SUBSCRIPTIONS`] already.
    pub(crate) async fn subscribe(&self, server: &ServerName, uri: &str) -> Result<()> {
        let Some(hub) = self.hub.upgrade() else {
            return Ok(());
        };
        let key = (server.clone(), uri.to_owned());
        {
            let mut listeners = lock(&hub.listeners);
            if let Some(entry) = listeners.get_mut(&self.id) {
                let is_new = !entry.subscriptions.contains(&key);
                if is_new && entry.subscriptions.len() >= MAX_SUBSCRIPTIONS {
                    return Err(mcpool_core::Error::new(
                        mcpool_core::ErrorKind::Overloaded,
                        format!("there are {MAX_SUBSCRIPTIONS} subscriptions of this client"),
                    ));
                }
                // Before the server is asked, so that no change is missed.
                entry.subscriptions.insert(key.clone());
            }
        }
        // A server takes it twice: other subscribers notice nothing.
        let asked = hub
            .tell_server("resources/subscribe", server, uri, NotReady::Wait)
            .await;
        if asked.is_err() {
            self.forget(&hub, &key);
        }
        asked
    }

    /// Ends a subscription of the client. The server is told when no other client has it.
    pub(crate) async fn unsubscribe(&self, server: &ServerName, uri: &str) -> Result<()> {
        let Some(hub) = self.hub.upgrade() else {
            return Ok(());
        };
        match self.forget(&hub, &(server.clone(), uri.to_owned())) {
            true => {
                let method = "resources/unsubscribe";
                hub.tell_server(method, server, uri, NotReady::FailFast)
                    .await
            }
            false => Ok(()),
        }
    }

    /// Whether the client was the last that had it.
    fn forget(&self, hub: &Hub, key: &(ServerName, String)) -> bool {
        let mut listeners = lock(&hub.listeners);
        let had = match listeners.get_mut(&self.id) {
            Some(entry) => entry.subscriptions.remove(key),
            None => false,
        };
        had && !listeners
            .values()
            .any(|entry| entry.subscriptions.contains(key))
    }
}

impl Hub {
    async fn tell_server(
        &self,
        method: &'static str,
        server: &ServerName,
        uri: &str,
        not_ready: NotReady,
    ) -> Result<()> {
        let mut options = mcpool_manager::CallOptions::new();
        options.not_ready = not_ready;
        let handle = self
            .manager
            .server(server.as_str())?
            .with_call_options(options);
        let request = Request::new(method).with_params(&json!({ "uri": uri }))?;
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
        left.retain(|key| {
            !listeners
                .values()
                .any(|entry| entry.subscriptions.contains(key))
        });
        drop(listeners);
        // With no runtime the manager is going down, and its connections with it.
        let (false, Ok(runtime)) = (left.is_empty(), tokio::runtime::Handle::try_current()) else {
            return;
        };
        runtime.spawn(async move {
            for (server, uri) in left {
                let method = "resources/unsubscribe";
                let told = hub
                    .tell_server(method, &server, &uri, NotReady::FailFast)
                    .await;
                if let Err(error) = told {
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
