//! The verbs of the configuration: which servers there are.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future;
use mcpool_core::{Error, EventKind, Result, ServerName, ServerSpec, StartMode};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{
    catalog::Listing,
    manager::{ConnectionManager, Servers, closed},
    reload::{self, ConfigDiff},
    server::{Command, Server, lock},
    supervisor, suspend,
};

/// What [`ConnectionManager::start`] did.
#[derive(Debug)]
#[non_exhaustive]
pub struct StartReport {
    /// What changed against what was running.
    pub diff: ConfigDiff,
    /// The eager servers that were waited for, and how their first connect went.
    pub connected: Vec<(ServerName, Result<()>)>,
}

/// Which of the running servers a change is about.
#[derive(Clone, Copy)]
enum Scope<'a> {
    All,
    One(&'a ServerName),
}

impl ConnectionManager {
    /// Makes these the servers, and waits for the first connect of each eager one.
    ///
    /// With the specs that run already nothing happens. Otherwise the difference is applied as
    /// [`apply`](ConnectionManager::apply) does.
    ///
    /// Dropping the future stops the waiting, not the connecting.
    ///
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use mcpool_core::{ErrorKind, ServerSpec, StartMode, StdioSpec};
    /// # use mcpool_manager::{CallOptions, ConnectionManager, Refresh};
    /// # use mcpool_testkit::scripted_client::ScriptedFactory;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> mcpool_core::Result<()> {
    /// # let factory = Arc::new(ScriptedFactory::new());
    /// # let files = ServerSpec::stdio("files", StdioSpec::new("mcp-server-files"))?;
    /// let manager = ConnectionManager::new(factory);
    /// let report = manager.start(vec![files.clone()]).await?;
    /// assert!(report.connected.iter().all(|(_, result)| result.is_ok()));
    /// // The same again is no work.
    /// assert!(manager.start(vec![files]).await?.diff.is_empty());
    /// # Ok(()) }
    /// ```
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
        let (diff, _draining) = self.change(Scope::All, specs)?;
        let touched: Vec<_> = waited_for
            .into_iter()
            .filter(|(name, _)| diff.added.contains(name) || diff.replaced.contains(name))
            .collect();
        let connects = touched.iter().map(|(name, _)| self.connect(name.as_str()));
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
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use mcpool_core::{ErrorKind, ServerSpec, StartMode, StdioSpec};
    /// # use mcpool_manager::{CallOptions, ConnectionManager, Refresh};
    /// # use mcpool_testkit::scripted_client::ScriptedFactory;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> mcpool_core::Result<()> {
    /// # let factory = Arc::new(ScriptedFactory::new());
    /// # let files = ServerSpec::stdio("files", StdioSpec::new("mcp-server-files"))?;
    /// # let manager = ConnectionManager::new(factory);
    /// # manager.start(vec![files.clone()]).await?;
    /// let web = ServerSpec::url("web", "https://example.org/mcp")?;
    /// let diff = manager.plan(&[files, web])?;
    /// assert_eq!((diff.added.len(), diff.unchanged.len()), (1, 1));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `InvalidSpec` when two specs have one name.
    pub fn plan(&self, specs: &[ServerSpec]) -> Result<ConfigDiff> {
        reload::difference(&self.running(Scope::All), specs)
    }

    /// Makes these the servers: new ones start to connect, unchanged ones keep their connections,
    /// gone and replaced ones take no new calls and are closed when their calls in flight have
    /// ended, or when the drain time has passed.
    ///
    /// Waits for the draining, not for the connecting. Dropping the future stops the waiting only.
    ///
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use mcpool_core::{ErrorKind, ServerSpec, StartMode, StdioSpec};
    /// # use mcpool_manager::{CallOptions, ConnectionManager, Refresh};
    /// # use mcpool_testkit::scripted_client::ScriptedFactory;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> mcpool_core::Result<()> {
    /// # let factory = Arc::new(ScriptedFactory::new());
    /// # let files = ServerSpec::stdio("files", StdioSpec::new("mcp-server-files"))?;
    /// # let manager = ConnectionManager::new(factory);
    /// # manager.start(vec![files.clone()]).await?;
    /// let before = manager.client("files")?;
    /// let web = ServerSpec::url("web", "https://example.org/mcp")?;
    /// manager.apply(vec![files, web]).await?;
    /// // What did not change keeps its connection.
    /// assert!(Arc::ptr_eq(&before, &manager.client("files")?));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `InvalidSpec` when two specs have one name; nothing was changed then. `Closed` after the
    /// shutdown.
    pub async fn apply(&self, specs: Vec<ServerSpec>) -> Result<ConfigDiff> {
        let (diff, draining) = self.change(Scope::All, specs)?;
        future::join_all(draining).await;
        Ok(diff)
    }

    /// Tells the readers of [`events`](ConnectionManager::events) that a new configuration could
    /// not be used, and that every server goes on as it is:
    /// [`ConfigRejected`](EventKind::ConfigRejected).
    ///
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use mcpool_core::{Error, ErrorKind, EventKind, ServerSpec, StartMode, StdioSpec};
    /// # use mcpool_manager::{CallOptions, ConnectionManager, Refresh};
    /// # use mcpool_testkit::scripted_client::ScriptedFactory;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> mcpool_core::Result<()> {
    /// # let factory = Arc::new(ScriptedFactory::new());
    /// # let files = ServerSpec::stdio("files", StdioSpec::new("mcp-server-files"))?;
    /// # let manager = ConnectionManager::new(factory);
    /// # manager.start(vec![files.clone()]).await?;
    /// let mut events = manager.events();
    /// manager.config_rejected(&Error::new(ErrorKind::InvalidSpec, "a comma is missing"));
    /// let event = events.next_event().await.unwrap();
    /// assert!(matches!(event.kind, EventKind::ConfigRejected { .. }));
    /// # Ok(()) }
    /// ```
    pub fn config_rejected(&self, error: &Error) {
        for name in self.shared.servers.load().keys() {
            let error = error.clone();
            let kind = EventKind::ConfigRejected { error };
            self.shared.events.emit(name, kind);
        }
    }

    /// Adds a server, or changes the one of that name. It starts to connect unless it is lazy or
    /// disabled. Does not wait, but needs a runtime all the same.
    ///
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use mcpool_core::{ErrorKind, ServerSpec, StartMode, StdioSpec};
    /// # use mcpool_manager::{CallOptions, ConnectionManager, Refresh};
    /// # use mcpool_testkit::scripted_client::ScriptedFactory;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> mcpool_core::Result<()> {
    /// # let factory = Arc::new(ScriptedFactory::new());
    /// # let files = ServerSpec::stdio("files", StdioSpec::new("mcp-server-files"))?;
    /// # let manager = ConnectionManager::new(factory);
    /// # manager.start(vec![files.clone()]).await?;
    /// manager.add(ServerSpec::url("web", "https://example.org/mcp")?)?;
    /// manager.connect("web").await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Closed` after the shutdown; `InvalidArgument` without a runtime.
    pub fn add(&self, spec: ServerSpec) -> Result<()> {
        let name = spec.name.clone();
        self.change(Scope::One(&name), vec![spec]).map(drop)
    }

    /// Takes a server out: no new calls, its calls in flight drain, then it is closed.
    ///
    /// Dropping the future stops the waiting only.
    ///
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use mcpool_core::{ErrorKind, ServerSpec, StartMode, StdioSpec};
    /// # use mcpool_manager::{CallOptions, ConnectionManager, Refresh};
    /// # use mcpool_testkit::scripted_client::ScriptedFactory;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> mcpool_core::Result<()> {
    /// # let factory = Arc::new(ScriptedFactory::new());
    /// # let files = ServerSpec::stdio("files", StdioSpec::new("mcp-server-files"))?;
    /// # let manager = ConnectionManager::new(factory);
    /// # manager.start(vec![files.clone()]).await?;
    /// manager.remove("files").await?;
    /// assert!(manager.names().is_empty());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `UnknownServer`.
    pub async fn remove(&self, name: &str) -> Result<()> {
        let name = self.shared.server(name)?.name.clone();
        let (_, draining) = self.change(Scope::One(&name), Vec::new())?;
        future::join_all(draining).await;
        Ok(())
    }

    fn running(&self, scope: Scope<'_>) -> BTreeMap<ServerName, Arc<ServerSpec>> {
        self.shared
            .servers
            .load()
            .iter()
            .filter(|(name, _)| match scope {
                Scope::All => true,
                Scope::One(only) => *name == only,
            })
            .map(|(name, server)| (name.clone(), server.spec()))
            .collect()
    }

    /// Applies the difference and gives the tasks that close what is gone.
    fn change(
        &self,
        scope: Scope<'_>,
        specs: Vec<ServerSpec>,
    ) -> Result<(ConfigDiff, Vec<JoinHandle<()>>)> {
        let shared = &self.shared;
        shared.has_runtime()?;
        let _changing = lock(&shared.changing);
        if self.is_shut_down() {
            return Err(closed());
        }
        let mut diff = reload::difference(&self.running(scope), &specs)?;
        let mut servers = Servers::clone(&shared.servers.load());
        // The runtime of their supervisors has ended: unchanged or not, they need new ones.
        diff.replace_if(|name| {
            servers
                .get(name)
                .is_some_and(|server| server.is_abandoned())
        });
        let mut leaving = Vec::new();
        for name in &diff.removed {
            if let Some(old) = servers.remove(name) {
                old.retire();
                shared.view.forget(name, &shared.events);
                leaving.push(old);
            }
        }
        let mut starting = Vec::new();
        for spec in specs {
            let name = spec.name.clone();
            if diff.adjusted.contains(&name) {
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
            if diff.unchanged.contains(&name) {
                continue;
            }
            let connects = spec.enabled && !matches!(spec.start, StartMode::Lazy(_));
            let (server, receivers) = Server::new(spec, shared.root.child_token());
            if let Some(old) = servers.insert(name.clone(), Arc::clone(&server)) {
                old.retire();
                // The old list is served until the new one is there.
                if let Some(tools) = old.catalog.tools.cached() {
                    server.catalog.tools.store(Listing::clone(&tools));
                    server.catalog.tools.invalidate();
                }
                shared.events.emit(&name, EventKind::Reconfigured);
                leaving.push(old);
            }
            starting.push((server, receivers, connects));
        }
        shared.servers.store(Arc::new(servers));
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
        suspend::watch(shared);
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
