//! The verbs of the configuration: which servers there are.

pub(crate) mod diff;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::future;
use mcpool_core::{Error, EventKind, Result, ServerName, ServerSpec, StartMode};
use tokio::{runtime, sync::oneshot, task::JoinHandle, time::timeout};

use self::diff::ConfigDiff;
use crate::{
    catalog::cache::CachedList,
    handle,
    manager::ConnectionManager,
    server::{Command, Server, lock},
    shared::{Servers, closed},
    supervise::{self, supervisor},
};

/// What [`ConnectionManager::start`] did.
///
/// A start succeeds when some servers, or all, could not be connected: look at
/// [`failed`](Self::failed), or make it an error with [`all_connected`](Self::all_connected).
#[derive(Debug)]
#[must_use = "a start is Ok although servers failed: look at `failed()`, or call `all_connected()?`"]
#[non_exhaustive]
pub struct StartReport {
    /// What changed against what was running.
    pub diff: ConfigDiff,
    /// The eager servers that were waited for, and how their first connect went.
    pub connected: Vec<(ServerName, Result<()>)>,
}

impl StartReport {
    /// The servers that were waited for and could not be connected. They are tried again by their
    /// policies.
    pub fn failed(&self) -> impl Iterator<Item = (&ServerName, &Error)> {
        self.connected
            .iter()
            .filter_map(|(name, outcome)| Some((name, outcome.as_ref().err()?)))
    }

    /// Makes it an error that a server that was waited for is not connected.
    ///
    /// # Errors
    /// That of the first such server.
    pub fn all_connected(&self) -> Result<()> {
        match self.failed().next() {
            Some((_, error)) => Err(error.clone()),
            None => Ok(()),
        }
    }
}

/// How long a runtime that is going may take to drop its supervisors.
const RUNTIME_PATIENCE: Duration = Duration::from_secs(1);

/// Which of the running servers a change is about.
#[derive(Clone, Copy)]
enum Scope<'a> {
    All,
    One(&'a ServerName),
    /// None: what is changed has no server yet.
    New,
}

impl ConnectionManager {
    /// Makes these the servers, and waits for the first connect of each eager one.
    ///
    /// With the specs that run already nothing happens. Otherwise the difference is applied as
    /// [`apply`](ConnectionManager::apply) does.
    ///
    /// Dropping the future stops the waiting, not the connecting.
    ///
    /// # Errors
    /// `InvalidSpec` when two specs have one name; nothing was changed then. The error of the
    /// first `required` server that could not be connected; the others run all the same.
    pub async fn start(&self, specs: Vec<ServerSpec>) -> Result<StartReport> {
        let waited_for: Vec<(ServerName, bool)> = specs
            .iter()
            .filter(|s| s.enabled && (s.start == StartMode::Eager || s.required))
            .map(|s| (s.name.clone(), s.required))
            .collect();
        self.runtimes_settle().await;
        let (diff, _draining) = self.change(Scope::All, specs)?;
        let new: HashSet<&ServerName> = diff.added.iter().chain(&diff.replaced).collect();
        let touched: Vec<_> = waited_for
            .into_iter()
            .filter(|(name, _)| new.contains(name))
            .collect();
        let connects = touched.iter().map(|(name, _)| async {
            handle::connect(&*self.shared.server(name.as_str())?, None).await
        });
        let results = future::join_all(connects).await;
        let mut connected = Vec::new();
        for ((name, required), result) in touched.into_iter().zip(results) {
            if required && let Err(error) = result {
                return Err(error);
            }
            connected.push((name, result));
        }
        Ok(StartReport { diff, connected })
    }

    /// What [`apply`](ConnectionManager::apply) would do with these specs.
    ///
    /// # Errors
    /// `InvalidSpec` when two specs have one name.
    pub fn plan(&self, specs: &[ServerSpec]) -> Result<ConfigDiff> {
        diff::difference(&self.running(Scope::All), specs)
    }

    /// Makes these the servers: new ones start to connect, unchanged ones keep their connections,
    /// gone and replaced ones take no new calls and are closed when their calls in flight have
    /// ended, or when the drain time has passed.
    ///
    /// Waits for the draining, not for the connecting. Dropping the future stops the waiting only.
    ///
    /// # Errors
    /// `InvalidSpec` when two specs have one name; nothing was changed then. `Closed` after the
    /// shutdown.
    pub async fn apply(&self, specs: Vec<ServerSpec>) -> Result<ConfigDiff> {
        self.runtimes_settle().await;
        let (diff, draining) = self.change(Scope::All, specs)?;
        future::join_all(draining).await;
        Ok(diff)
    }

    /// Reports to the readers of [`events`](ConnectionManager::events) that a new configuration could
    /// not be used, and that every server goes on as it is:
    /// [`ConfigRejected`](EventKind::ConfigRejected), once.
    pub fn config_rejected(&self, error: &Error) {
        let error = error.clone();
        self.shared
            .events
            .emit_for_all(EventKind::ConfigRejected { error });
    }

    /// Adds a server, or changes the one of that name. It starts to connect unless it is lazy or
    /// disabled. Does not wait, but needs a runtime all the same.
    ///
    /// # Errors
    /// `Closed` after the shutdown; `InvalidArgument` without a runtime.
    pub fn add(&self, spec: ServerSpec) -> Result<()> {
        let name = spec.name.clone();
        self.change(Scope::One(&name), vec![spec]).map(drop)
    }

    /// Adds those servers whose names are free, all at once, and gives their names: a server that is
    /// there stays as it is. They start to connect unless they are lazy or disabled. Does not wait,
    /// but needs a runtime all the same.
    ///
    /// # Errors
    /// `InvalidSpec` when two specs have one name; nothing was changed then. `Closed` after the
    /// shutdown; `InvalidArgument` without a runtime.
    pub fn add_new(&self, specs: Vec<ServerSpec>) -> Result<Vec<ServerName>> {
        self.change(Scope::New, specs).map(|(diff, _)| diff.added)
    }

    /// Takes a server out: no new calls, its calls in flight drain, then it is closed.
    ///
    /// Dropping the future stops the waiting only.
    ///
    /// # Errors
    /// `UnknownServer`.
    pub async fn remove(&self, name: &str) -> Result<()> {
        let name = self.shared.server(name)?.name.clone();
        let (_, draining) = self.change(Scope::One(&name), Vec::new())?;
        future::join_all(draining).await;
        Ok(())
    }

    /// Waits for the end of the supervisors whose runtime is going just now: they must not pass for
    /// ones that run.
    async fn runtimes_settle(&self) {
        let Ok(here) = self.shared.runtime() else {
            return;
        };
        let mut elsewhere: HashMap<runtime::Id, Vec<Arc<Server>>> = HashMap::new();
        for server in self.shared.all() {
            if server.runtime.id() != here.id() {
                elsewhere
                    .entry(server.runtime.id())
                    .or_default()
                    .push(server);
            }
        }
        let settles = elsewhere.into_values().map(|servers| async move {
            let Some(first) = servers.first() else { return };
            // A runtime whose end has begun runs nothing new.
            if first.runtime.spawn(async {}).await.is_ok() {
                return;
            }
            for instance in servers.iter().flat_map(|server| &server.instances) {
                instance.ended().await;
            }
        });
        // A runtime that nobody drives runs nothing, and ends nothing either.
        let _ = timeout(RUNTIME_PATIENCE, future::join_all(settles)).await;
    }

    fn running(&self, scope: Scope<'_>) -> BTreeMap<ServerName, Arc<ServerSpec>> {
        self.shared
            .servers
            .load()
            .iter()
            .filter(|(name, _)| match scope {
                Scope::All => true,
                Scope::One(only) => *name == only,
                Scope::New => false,
            })
            .map(|(name, server)| (name.clone(), server.spec()))
            .collect()
    }

    /// Applies the difference and gives the tasks that close what is gone.
    fn change(
        &self,
        scope: Scope<'_>,
        mut specs: Vec<ServerSpec>,
    ) -> Result<(ConfigDiff, Vec<JoinHandle<()>>)> {
        let shared = &self.shared;
        let home = shared.runtime()?;
        let _changing = lock(&shared.changing);
        if self.is_shut_down() {
            return Err(closed());
        }
        let mut servers = Servers::clone(&shared.servers.load());
        if matches!(scope, Scope::New) {
            specs.retain(|spec| !servers.contains_key(&spec.name));
        }
        let mut diff = diff::difference(&self.running(scope), &specs)?;
        // The runtime of their supervisors has ended: unchanged or not, they need new ones.
        diff.replace_if(|name| {
            servers
                .get(name)
                .is_some_and(|server| server.is_abandoned())
        });
        let adjusted: HashSet<&ServerName> = diff.adjusted.iter().collect();
        let unchanged: HashSet<&ServerName> = diff.unchanged.iter().collect();
        let mut leaving = Vec::new();
        for name in &diff.removed {
            if let Some(old) = servers.remove(name) {
                leaving.push(old);
            }
        }
        let mut starting = Vec::new();
        for spec in specs {
            let name = spec.name.clone();
            if adjusted.contains(&name) {
                if let Some(server) = servers.get(&name) {
                    let switched = server.spec().enabled != spec.enabled;
                    let enabled = spec.enabled;
                    server.replace_spec(spec);
                    if switched {
                        for instance in &server.instances {
                            let (reply, _nobody_waits) = oneshot::channel();
                            // A supervisor that is gone has nothing to switch.
                            let _ = instance.tell(if enabled {
                                Command::Enable { reply }
                            } else {
                                Command::Disable { reply }
                            });
                        }
                    }
                    shared.view.announce(server, &shared.events);
                    shared.events.emit(&name, EventKind::Reconfigured);
                }
                continue;
            }
            if unchanged.contains(&name) {
                continue;
            }
            let connects = spec.enabled && !matches!(spec.start, StartMode::Lazy(_));
            let (server, receivers) = Server::new(spec, shared.root.child_token(), home.clone());
            if let Some(old) = servers.insert(name.clone(), Arc::clone(&server)) {
                // The old list is served until the new one is there.
                if let Some(tools) = old.catalog.tools.cached() {
                    server.catalog.tools.store(CachedList::clone(&tools));
                    server.catalog.tools.invalidate();
                }
                shared.events.emit(&name, EventKind::Reconfigured);
                leaving.push(old);
            }
            starting.push((server, receivers, connects));
        }
        shared.servers.store(Arc::new(servers));
        // Only now: those who wait for an old server wake up and must find the new one.
        for old in &leaving {
            old.retire();
        }
        for name in &diff.removed {
            shared.view.forget(name, &shared.events);
        }
        for (server, receivers, connects) in starting {
            supervisor::start(shared, &server, receivers);
            if connects {
                for instance in &server.instances {
                    // A supervisor that was started this moment listens.
                    let _ = instance.tell(Command::Connect {
                        retries: None,
                        reply: None,
                    });
                }
            }
        }
        supervise::watch_for_suspend(shared);
        let draining = leaving
            .into_iter()
            .map(|server| shared.spawn(drain(server, shared.drain)))
            .collect();
        Ok((diff, draining))
    }
}

/// Lets the calls in flight end, within the drain time, then stops the supervisors.
async fn drain(server: Arc<Server>, within: Duration) {
    let draining = async {
        for live in server.instances.iter().filter_map(|i| i.slot.held()) {
            live.shut();
            live.drained().await;
        }
    };
    tokio::select! {
        _ = tokio::time::timeout(within, draining) => {}
        // The whole manager ends: no more patience.
        () = server.stop.cancelled() => {}
    }
    server.stop.cancel();
    for instance in &server.instances {
        instance.ended().await;
    }
}
