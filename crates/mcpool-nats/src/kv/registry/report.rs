//! A worker's servers in the registry, as they are and as they change.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    future::Future,
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use mcpool_core::{
    ErrorKind, Event, EventKind, ServerName, ServerSpec, StateKind, ToolFilter,
    model::{Prompt, Resource, ResourceTemplate, Tool},
};
use mcpool_manager::{
    CachedList, ConnectionManager, EventItem, EventStream, Refresh, ServerHandle, ServerStatus,
};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    carrier::Carrier,
    identity::{Epoch, Sharing},
    worker::Shares,
};

use super::{
    super::bucket::Storage,
    Announced, FleetServer, Registry,
    catalog::{Catalog, texts},
};

/// How often servers are looked at where no event says anything: leases, a config that changed.
const LOOK: Duration = Duration::from_secs(1);

/// What changes within so long is written once.
const GATHER: Duration = Duration::from_millis(50);

/// The pause before a registry that cannot be used is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// How long taking the worker off may take when it goes.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// The word for a server whose lease another worker has.
const STANDBY: &str = "standby";

/// Shows a worker in the registry: [`Worker::report`](crate::Worker::report) gives it.
#[must_use]
pub struct FleetReport {
    pub(crate) carrier: Carrier,
    pub(crate) manager: ConnectionManager,
    pub(crate) shares: Shares,
    pub(crate) tenures: HashMap<ServerName, watch::Receiver<Option<Epoch>>>,
    pub(crate) place: String,
    pub(crate) storage: Storage,
}

/// What was written.
#[derive(Default)]
struct Written {
    servers: BTreeSet<ServerName>,
    lists: HashMap<ServerName, Lists>,
    /// The servers that were asked for their lists.
    asked: HashMap<ServerName, Asked>,
}

/// By which spec and over which connection a server was asked for its lists.
struct Asked {
    spec: Arc<ServerSpec>,
    connected_at: Option<SystemTime>,
    _task: AbortOnDropHandle<()>,
}

/// The lists of a server that are known, and good.
#[derive(Clone, Default)]
struct Lists {
    /// Which says what tools are permitted; `None` before the first look.
    spec: Option<Arc<ServerSpec>>,
    tools: Option<Arc<CachedList<Tool>>>,
    prompts: Option<Arc<CachedList<Prompt>>>,
    resources: Option<Arc<CachedList<Resource>>>,
    templates: Option<Arc<CachedList<ResourceTemplate>>>,
}

impl Lists {
    async fn of(server: &ServerHandle, spec: &Arc<ServerSpec>) -> Self {
        fn good<T, E>(list: Result<Arc<CachedList<T>>, E>) -> Option<Arc<CachedList<T>>> {
            list.ok().filter(|list| list.stale.is_none())
        }
        Self {
            spec: Some(Arc::clone(spec)),
            tools: good(server.tools(Refresh::Cached).await),
            prompts: good(server.prompts(Refresh::Cached).await),
            resources: good(server.resources(Refresh::Cached).await),
            templates: good(server.resource_templates(Refresh::Cached).await),
        }
    }

    /// Whether there is something in it that `before` does not have.
    fn is_newer_than(&self, before: &Self) -> bool {
        fn permitted(lists: &Lists) -> Option<&ToolFilter> {
            lists.spec.as_ref().map(|spec| &spec.tools)
        }
        fn newer<T>(now: Option<&Arc<T>>, before: Option<&Arc<T>>) -> bool {
            now.is_some_and(|now| before.is_none_or(|before| !Arc::ptr_eq(now, before)))
        }
        let is_permitted_otherwise = permitted(self) != permitted(before);
        (is_permitted_otherwise && before.tools.is_some())
            || newer(self.tools.as_ref(), before.tools.as_ref())
            || newer(self.prompts.as_ref(), before.prompts.as_ref())
            || newer(self.resources.as_ref(), before.resources.as_ref())
            || newer(self.templates.as_ref(), before.templates.as_ref())
    }

    /// These, and of what is not good now what was.
    fn or(self, before: Self) -> Self {
        Self {
            spec: self.spec.or(before.spec),
            tools: self.tools.or(before.tools),
            prompts: self.prompts.or(before.prompts),
            resources: self.resources.or(before.resources),
            templates: self.templates.or(before.templates),
        }
    }

    fn catalog(&self, spec: &ServerSpec) -> Catalog {
        let permitted = |list: &Arc<CachedList<Tool>>| {
            let tools = list.items.iter();
            let tools = tools.filter(|tool| spec.tools.permits(&tool.name));
            tools.map(|tool| tool.raw().clone()).collect()
        };
        Catalog {
            tools: self.tools.as_ref().map(permitted),
            prompts: self.prompts.as_ref().map(|list| texts(&list.items)),
            resources: self.resources.as_ref().map(|list| texts(&list.items)),
            templates: self.templates.as_ref().map(|list| texts(&list.items)),
        }
    }
}

impl FleetReport {
    /// Shows the worker until `stop` or the shutdown of its manager, then takes it off. A registry
    /// that cannot be used is tried again: the worker serves all the same.
    ///
    /// Dropping the future leaves what was written; the worker is then shown as gone after 20 s.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let announced = tokio::select! {
            () = &mut stop => return,
            announced = self.announced() => announced,
        };
        let mut events = self.manager.events();
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut written = Written::default();
        let reporting = async {
            loop {
                if self.manager.is_shut_down() {
                    return;
                }
                self.publish(&announced, &mut written).await;
                tokio::select! {
                    _ = looks.tick() => {}
                    () = news(&mut events) => sleep(GATHER).await,
                }
            }
        };
        tokio::select! {
            () = &mut stop => {}
            () = reporting => {}
        }
        match timeout(FAREWELL_TIMEOUT, announced.leave()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the worker was not taken off the registry"),
            Err(_) => tracing::debug!("the worker was not taken off the registry in time"),
        }
    }

    async fn announced(&self) -> Announced {
        let mut warned = false;
        loop {
            let announced = async {
                let registry = Registry::open(&self.carrier, self.storage).await?;
                registry.announce(&self.place).await
            };
            match announced.await {
                Ok(announced) => return announced,
                Err(error) if !warned => {
                    warned = true;
                    tracing::warn!(%error, "the registry of the pool cannot be used: gateways do not show this worker");
                }
                Err(error) => tracing::debug!(%error, "the registry of the pool cannot be used"),
            }
            sleep(RETRY).await;
        }
    }

    /// Writes what has changed.
    async fn publish(&self, announced: &Announced, written: &mut Written) {
        let names: BTreeSet<ServerName> = self.manager.names().into_iter().collect();
        let done = async {
            for gone in written.servers.difference(&names) {
                announced.withdraw(gone).await?;
                written.lists.remove(gone);
                written.asked.remove(gone);
            }
            written.servers.retain(|name| names.contains(name));
            for name in names {
                self.publish_one(announced, &name, written).await?;
                written.servers.insert(name);
            }
            Ok::<_, mcpool_core::Error>(())
        };
        // It is tried again at the next look.
        if let Err(error) = done.await {
            tracing::debug!(%error, "the registry cannot be written");
        }
    }

    async fn publish_one(
        &self,
        announced: &Announced,
        name: &ServerName,
        written: &mut Written,
    ) -> mcpool_core::Result<()> {
        let Ok(handle) = self.manager.server(name.as_str()) else {
            return Ok(());
        };
        let (Ok(status), Ok(spec)) = (handle.status(), handle.spec()) else {
            return Ok(());
        };
        let tenure = self.tenures.get(name).map(|tenure| *tenure.borrow());
        let is_standby = tenure == Some(None);
        let state = match is_standby {
            true => STANDBY,
            false => status.state.as_str(),
        };
        let mut server = FleetServer::new(name.clone(), state);
        server.tools = status.tools;
        server.sharing = self.shares.of(&handle);
        server.epoch = tenure.flatten().unwrap_or_default();
        let error = status.last_error.as_ref().filter(|_| !is_standby);
        server.why = error.map(|error| error.message().to_string());
        let lists = Lists::of(&handle, &spec).await;
        written.ask(&handle, &spec, &status, &lists, server.sharing);
        let before = written.lists.get(name).cloned().unwrap_or_default();
        let is_newer = lists.is_newer_than(&before);
        let lists = lists.or(before);
        let catalog = match is_newer {
            true => Some(lists.catalog(&spec).write()?),
            false => None,
        };
        match announced.publish(server.clone(), catalog).await {
            Err(error) if error.kind() == ErrorKind::TooLarge => {
                tracing::warn!(server = %name, %error, "its catalog is not in the registry");
                announced.publish(server, None).await?;
            }
            published => published?,
        }
        written.lists.insert(name.clone(), lists);
        Ok(())
    }
}

impl Written {
    /// Asks a server for the lists that nobody has asked for yet, once for each of its connections.
    /// One that sessions do not share is connected for them: no other use of it is seen here.
    fn ask(
        &mut self,
        server: &ServerHandle,
        spec: &Arc<ServerSpec>,
        status: &ServerStatus,
        lists: &Lists,
        sharing: Sharing,
    ) {
        let is_known = lists.tools.is_some()
            && lists.prompts.is_some()
            && lists.resources.is_some()
            && lists.templates.is_some();
        let asked = self.asked.get(&status.name);
        let asked = asked.filter(|asked| Arc::ptr_eq(&asked.spec, spec));
        let may = match status.state {
            StateKind::Ready => asked.is_none_or(|asked| asked.connected_at != status.connected_at),
            // Once: a list that cannot be had does not start it again and again.
            StateKind::Idle => sharing == Sharing::Each && asked.is_none(),
            _ => false,
        };
        if is_known || !may {
            return;
        }
        let server = server.clone();
        let asking = tokio::spawn(async move {
            // What cannot be had is not in the catalog.
            let _ = server.tools(Refresh::IfStale).await;
            let _ = server.prompts(Refresh::IfStale).await;
            let _ = server.resources(Refresh::IfStale).await;
            let _ = server.resource_templates(Refresh::IfStale).await;
        });
        let asked = Asked {
            spec: Arc::clone(spec),
            connected_at: status.connected_at,
            _task: AbortOnDropHandle::new(asking),
        };
        self.asked.insert(status.name.clone(), asked);
    }
}

/// Waits for something that the registry shows.
async fn news(events: &mut EventStream) {
    loop {
        match events.recv().await {
            Some(EventItem::Event(Event {
                kind: EventKind::HeartbeatOk { .. },
                ..
            })) => {}
            Some(_) => return,
            // The manager was shut down, which the next look sees.
            None => std::future::pending().await,
        }
    }
}

impl fmt::Debug for FleetReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetReport")
            .field("carrier", &self.carrier)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}
