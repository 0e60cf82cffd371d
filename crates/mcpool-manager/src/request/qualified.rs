//! Calling a tool by its qualified name.

use std::sync::Arc;

use mcpool_core::{
    Error, ErrorKind, Reply, Result, ServerName, Verbs,
    model::{CallToolResult, Tool},
};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use crate::{
    catalog::{fetch, naming},
    handle::ServerHandle,
    manager::ConnectionManager,
    request::{
        admission,
        options::{CallOptions, Refresh},
    },
    shared::closed,
};

impl ConnectionManager {
    /// Calls a tool by its qualified name, `server__tool`, with the default options.
    ///
    /// As [`call_with`](Self::call_with).
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use mcpool_testkit::FakeFactory;
    /// use mcpool_core::{ServerSpec, StdioSpec};
    /// use mcpool_manager::ConnectionManager;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> mcpool_core::Result<()> {
    /// # let manager = ConnectionManager::new(Arc::new(FakeFactory::new()));
    /// manager.start(vec![ServerSpec::stdio("files", StdioSpec::new("mcp-server-files"))?]).await?;
    /// manager.call("files__echo", serde_json::json!({"text": "hi"})).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`call_with`](Self::call_with).
    pub async fn call<A: Serialize + Send + Sync>(
        &self,
        qualified_name: &str,
        arguments: A,
    ) -> Result<Reply<CallToolResult>> {
        self.call_with(qualified_name, arguments, &CallOptions::new())
            .await
    }

    /// Calls a tool by its qualified name, `server__tool`. Arguments are anything that serialises
    /// to an object, `()` for none.
    ///
    /// The name says the server: the call waits for it, or fails as a call through its
    /// [handle](ConnectionManager::server) does, also when its tools are not known yet.
    ///
    /// Dropping the future cancels the call.
    ///
    /// # Errors
    /// As [`ServerHandle`] says; `UnknownTool` when no server has a tool of that name.
    pub async fn call_with<A: Serialize + Send + Sync>(
        &self,
        qualified_name: &str,
        arguments: A,
        options: &CallOptions,
    ) -> Result<Reply<CallToolResult>> {
        let end = options.timeout.and_then(|t| Instant::now().checked_add(t));
        let (server, tool) = self.find(qualified_name, options, end).await?;
        let mut options = options.clone();
        // What the search took is part of the whole.
        options.timeout = end.map(|end| end.saturating_duration_since(Instant::now()));
        ServerHandle::new(Arc::clone(&self.shared), server)
            .with_call_options(options)
            .call_tool(&tool, arguments)
            .await
    }

    /// The server and the tool's own name behind a qualified name.
    async fn find(
        &self,
        qualified_name: &str,
        options: &CallOptions,
        end: Option<Instant>,
    ) -> Result<(ServerName, Arc<str>)> {
        if let Some(found) = self.known(qualified_name) {
            return Ok(found);
        }
        let unknown = || {
            Error::new(
                ErrorKind::UnknownTool,
                format!("no server has a tool called {qualified_name:?}"),
            )
        };
        if self.is_shut_down() {
            return Err(closed());
        }
        let pair = naming::parts(qualified_name);
        let Some((name, tool)) = pair.filter(|(name, _)| self.shared.server(name).is_ok()) else {
            // A name with a hash says nothing by itself: it may be of any list.
            let lists = self.tools(Refresh::IfStale);
            let _ = match end {
                Some(end) => timeout_at(end, lists).await.ok(),
                None => Some(lists.await),
            };
            return self.known(qualified_name).ok_or_else(unknown);
        };
        loop {
            let server = match self.shared.server(name) {
                Ok(server) => server,
                Err(error) if error.kind() == ErrorKind::Closed => return Err(error),
                Err(_) => return Err(unknown()),
            };
            if !server.is_live() {
                // The server's own way of waiting, and its own reason when that fails. Its
                // tools are listed before it is ready.
                let until = end
                    .unwrap_or_else(|| admission::patience_from(&server, options, Instant::now()));
                match admission::wait_ready(&server, options.not_ready, until).await {
                    // It was replaced meanwhile: the new one is there already.
                    Err(_) if server.is_retired() => continue,
                    ready => drop(ready?),
                }
            }
            let list = fetch::get::<Tool>(&self.shared, &server, Refresh::IfStale);
            let list = match end {
                Some(end) => timeout_at(end, list).await.ok().and_then(Result::ok),
                None => list.await.ok(),
            };
            return match list {
                // The list is there and whole, and does not hold it.
                Some(list) if list.stale.is_none() && list.incomplete.is_none() => {
                    self.known(qualified_name).ok_or_else(unknown)
                }
                // The server itself knows best.
                _ => Ok((server.name.clone(), tool.into())),
            };
        }
    }

    fn known(&self, qualified_name: &str) -> Option<(ServerName, Arc<str>)> {
        let snapshot = self.shared.view.snapshot();
        let entry = snapshot.get(qualified_name)?;
        Some((entry.server.clone(), Arc::clone(&entry.name)))
    }
}
