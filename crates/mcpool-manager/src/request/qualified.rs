//! Calling a tool by its qualified name.

use std::sync::Arc;

use mcpool_core::{
    Error, ErrorKind, Reply, Result, ServerName, Verbs,
    model::{CallToolResult, Tool},
};
use serde::Serialize;

use crate::{
    catalog::{fetch, naming},
    handle::ServerHandle,
    manager::ConnectionManager,
    request::options::{CallOptions, Refresh},
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
        let (server, tool) = self.find(qualified_name).await?;
        ServerHandle::new(Arc::clone(&self.shared), server)
            .with_call_options(options.clone())
            .call_tool(&tool, arguments)
            .await
    }

    /// The server and the tool's own name behind a qualified name.
    async fn find(&self, qualified_name: &str) -> Result<(ServerName, Arc<str>)> {
        let known = || {
            let snapshot = self.shared.view.snapshot();
            let entry = snapshot.get(qualified_name)?;
            Some((entry.server.clone(), Arc::clone(&entry.name)))
        };
        if let Some(found) = known() {
            return Ok(found);
        }
        let unknown = || {
            Error::new(
                ErrorKind::UnknownTool,
                format!("no server has a tool called {qualified_name:?}"),
            )
        };
        let Some((server, tool)) = naming::parts(qualified_name) else {
            // A name with a hash says nothing by itself: it may be of any list.
            self.tools(Refresh::IfStale).await;
            return known().ok_or_else(unknown);
        };
        let Ok(server) = self.shared.server(server) else {
            return Err(match self.is_shut_down() {
                true => crate::shared::closed(),
                false => unknown(),
            });
        };
        match fetch::get::<Tool>(&self.shared, &server, Refresh::IfStale).await {
            // The list is there and good, and does not hold it.
            Ok(list) if list.stale.is_none() && list.incomplete.is_none() => {
                known().ok_or_else(unknown)
            }
            // No good list: the server itself knows best.
            Ok(_) => Ok((server.name.clone(), tool.into())),
            Err(error) if error.delivery() == mcpool_core::Delivery::Answered => {
                Ok((server.name.clone(), tool.into()))
            }
            // It cannot be reached: the reason of that is the reason of the call.
            Err(error) => Err(error),
        }
    }
}
