//! The verbs of the lists: tools, prompts, resources and templates of all servers.

use std::sync::Arc;

use futures::future;
use mcpool_core::{
    Error, Result, ServerName, ServerState,
    model::{Prompt, Resource, ResourceTemplate, Tool},
};

use crate::{
    catalog::{self, Listed, Listing},
    manager::ConnectionManager,
    metrics,
    options::Refresh,
    server::Server,
    view::ToolSnapshot,
};

/// The items of one kind of all servers.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Items<T> {
    /// The items, by server and in each server's order.
    pub entries: Vec<(ServerName, T)>,
    /// The servers whose list is missing, or is not the newest, and why.
    pub problems: Vec<(ServerName, Error)>,
}

impl ConnectionManager {
    /// The tools of all servers under unique names, at one moment.
    ///
    /// Lists that are stale are fetched first, in parallel; a server that fails, or cannot be
    /// reached, is a problem in the snapshot and delays no other. One that is disabled or was
    /// disconnected by a caller has no tools here. A lazy server whose tools nobody has listed yet
    /// is connected for it. Before the first server is added, and after the shutdown
    /// ([`is_shut_down`](ConnectionManager::is_shut_down)), the snapshot is empty.
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
    /// let tools = manager.tools(Refresh::IfStale).await;
    /// for entry in tools.entries.iter() {
    ///     println!("{} is {} of {}", entry.qualified_name, entry.name, entry.server);
    /// }
    /// assert!(tools.get("files__echo").is_some());
    /// # Ok(()) }
    /// ```
    pub async fn tools(&self, refresh: Refresh) -> Arc<ToolSnapshot> {
        let problems = self.refresh::<Tool>(refresh).await.1;
        let snapshot = self.shared.view.snapshot();
        if problems.is_empty() {
            snapshot
        } else {
            Arc::new(snapshot.with_problems(problems))
        }
    }

    /// The tools of one server, as it lists them: not filtered, under their own names.
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
    /// let list = manager.server_tools("files", Refresh::Force).await?;
    /// assert_eq!(list.items[0].name, "echo");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Why the list cannot be fetched, when there is no earlier one to serve.
    pub async fn server_tools(&self, name: &str, refresh: Refresh) -> Result<Arc<Listing<Tool>>> {
        let server = self.shared.server(name)?;
        catalog::get::<Tool>(&self.shared, &server, refresh).await
    }

    /// The prompts of all servers.
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
    /// let prompts = manager.prompts(Refresh::IfStale).await;
    /// assert_eq!(prompts.entries[0].1.name, "greet");
    /// # Ok(()) }
    /// ```
    pub async fn prompts(&self, refresh: Refresh) -> Items<Prompt> {
        self.items(refresh).await
    }

    /// The resources of all servers.
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
    /// let resources = manager.resources(Refresh::IfStale).await;
    /// assert_eq!(resources.entries[0].1.uri, "fixture://one");
    /// # Ok(()) }
    /// ```
    pub async fn resources(&self, refresh: Refresh) -> Items<Resource> {
        self.items(refresh).await
    }

    /// The resource templates of all servers.
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
    /// let templates = manager.resource_templates(Refresh::IfStale).await;
    /// assert_eq!(templates.entries.len(), 1);
    /// # Ok(()) }
    /// ```
    pub async fn resource_templates(&self, refresh: Refresh) -> Items<ResourceTemplate> {
        self.items(refresh).await
    }

    /// Gives a server a list of tools from elsewhere, an earlier run for example: it is shown, and
    /// served for a lazy server without connecting it, until the server itself has been asked.
    /// A server whose tools are known already keeps them.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use mcpool_core::{ServerSpec, StartMode, StdioSpec};
    /// # use mcpool_manager::{ConnectionManager, Refresh};
    /// # use mcpool_testkit::scripted_client::{ScriptedFactory, tool};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> mcpool_core::Result<()> {
    /// # let factory = Arc::new(ScriptedFactory::new());
    /// # let manager = ConnectionManager::new(factory.clone());
    /// let files = ServerSpec::stdio("files", StdioSpec::new("mcp-server-files"))?;
    /// manager.add(files.with_start(StartMode::Lazy(None)))?;
    /// manager.seed_tools("files", vec![tool("echo")])?;
    /// assert_eq!(manager.tools(Refresh::IfStale).await.len(), 1);
    /// assert_eq!(factory.server("files").connects(), 0);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `UnknownServer`, `Closed`.
    pub fn seed_tools(&self, name: &str, tools: Vec<Tool>) -> Result<()> {
        let server = self.shared.server(name)?;
        if server.catalog.tools.cached().is_none() {
            server.catalog.tools.store(catalog::seeded(tools));
            // The server's own list is newer, whatever it is.
            server.catalog.tools.invalidate();
            self.shared.view.announce(&server, &self.shared.events);
        }
        Ok(())
    }

    /// Marks everything that is cached of a server as stale.
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
    /// manager.invalidate("files")?;
    /// manager.tools(Refresh::IfStale).await; // asks the server again
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `UnknownServer`, `Closed`.
    pub fn invalidate(&self, name: &str) -> Result<()> {
        self.shared.server(name)?.catalog.invalidate();
        Ok(())
    }

    async fn items<T: Listed>(&self, refresh: Refresh) -> Items<T> {
        let (lists, problems) = self.refresh::<T>(refresh).await;
        let entries = lists
            .into_iter()
            .flat_map(|(name, list)| {
                let items: Vec<T> = list.items.to_vec();
                items.into_iter().map(move |item| (name.clone(), item))
            })
            .collect();
        Items { entries, problems }
    }

    /// The lists of all servers that take part, and what is wrong with the others.
    async fn refresh<T: Listed>(
        &self,
        refresh: Refresh,
    ) -> (Vec<(ServerName, Arc<Listing<T>>)>, Vec<(ServerName, Error)>) {
        let servers = self.shared.all();
        let fetches = servers
            .iter()
            // Who is switched off, or was sent away, is no problem: it is not there.
            .filter(|s| !s.is_absent())
            .map(|server| async move {
                let result = self.first_list::<T>(server, refresh).await;
                (server, result)
            });
        let mut lists = Vec::new();
        let mut problems = Vec::new();
        for (server, result) in future::join_all(fetches).await {
            match result {
                Ok(list) => {
                    metrics::catalog_age(&server.name, list.age());
                    if let Some(error) = &list.stale {
                        problems.push((server.name.clone(), error.clone()));
                    }
                    if server.shows_tools() {
                        lists.push((server.name.clone(), list));
                    }
                }
                Err(error) => problems.push((server.name.clone(), error)),
            }
        }
        (lists, problems)
    }

    /// The list of one server, without waiting for one that is known to fail at the moment.
    async fn first_list<T: Listed>(
        &self,
        server: &Arc<Server>,
        refresh: Refresh,
    ) -> Result<Arc<Listing<T>>> {
        if refresh != Refresh::Cached {
            let mut state = server.watch();
            let failing = |state: &ServerState| {
                matches!(state, ServerState::Backoff { .. })
                    || matches!(state, ServerState::Connecting { attempt } if *attempt > 1)
            };
            let is_failing = failing(&state.borrow_and_update());
            if !is_failing {
                tokio::select! {
                    list = catalog::get::<T>(&self.shared, server, refresh) => return list,
                    // The connect failed while we waited: the others shall not wait for this.
                    _ = state.wait_for(failing) => {}
                }
            }
            return catalog::last_good::<T>(server, server.not_ready(None));
        }
        catalog::get::<T>(&self.shared, server, refresh).await
    }
}
