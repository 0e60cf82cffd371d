//! The verbs of the requests: calling tools and all the rest.
#![allow(
    deprecated,
    reason = "the log level is deprecated by MCP 2026-07-28, spoken by older servers"
)]

use mcpool_core::{
    Result,
    model::{
        CallToolResult, CompleteRequestParams, CompleteResult, GetPromptResult, JsonObject,
        LoggingLevel, ReadResourceResult,
    },
};
use serde_json::Value;

use crate::{
    catalog,
    manager::ConnectionManager,
    operations::{CallTool, Complete, GetPrompt, Raw, ReadResource, SetLogLevel, Subscribe},
    options::{CallOptions, Refresh},
};

impl ConnectionManager {
    /// Calls a tool by the server's name and the tool's own name.
    ///
    /// Waits for the server and for room within the call's deadline. A request that did not reach
    /// the server, or was refused before it ran, is sent once more on the next connection; one
    /// that may have run is not, unless the tool declares that this does no harm and the policy
    /// trusts the server.
    ///
    /// Dropping the future cancels the call.
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
    /// let options = CallOptions::new().with_timeout(Duration::from_secs(10));
    /// let result = manager.call_tool("files", "echo", None, &options).await?;
    /// assert_ne!(result.is_error, Some(true));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `OutcomeUnknown` when the call may have run; `Disabled`, `GivenUp`, `AuthRequired`,
    /// `NotConnected`, `Overloaded`, `UnknownServer`, `UnknownTool` (hidden by the filter) before
    /// it was sent; what the server answered.
    pub async fn call_tool(
        &self,
        server: &str,
        tool: &str,
        arguments: Option<JsonObject>,
        options: &CallOptions,
    ) -> Result<CallToolResult> {
        let operation = CallTool {
            name: tool,
            arguments,
        };
        self.shared.deliver(server, &operation, options).await
    }

    /// Calls a tool by its qualified name, `server__tool`.
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
    /// manager.call("files__echo", None, &CallOptions::new()).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`call_tool`](ConnectionManager::call_tool); `UnknownTool` when no server shows a tool
    /// of that name.
    pub async fn call(
        &self,
        qualified_name: &str,
        arguments: Option<JsonObject>,
        options: &CallOptions,
    ) -> Result<CallToolResult> {
        let mut snapshot = self.shared.view.snapshot();
        if snapshot.get(qualified_name).is_none() {
            // It may be a server's that nobody has listed yet.
            snapshot = self.tools(Refresh::IfStale).await;
        }
        let entry = snapshot.get(qualified_name).ok_or_else(|| {
            catalog::unknown_tool(format!("no server shows a tool called {qualified_name:?}"))
        })?;
        self.call_tool(entry.server.as_str(), &entry.name, arguments, options)
            .await
    }

    /// Reads a resource of a server.
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
    /// let read = manager.read_resource("files", "fixture://one", &CallOptions::new()).await?;
    /// assert_eq!(read.contents.len(), 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`call_tool`](ConnectionManager::call_tool).
    pub async fn read_resource(
        &self,
        server: &str,
        uri: &str,
        options: &CallOptions,
    ) -> Result<ReadResourceResult> {
        let operation = ReadResource { uri };
        self.shared.deliver(server, &operation, options).await
    }

    /// Gets a prompt of a server, filled in.
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
    /// let prompt = manager.get_prompt("files", "greet", None, &CallOptions::new()).await?;
    /// assert_eq!(prompt.messages.len(), 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`call_tool`](ConnectionManager::call_tool).
    pub async fn get_prompt(
        &self,
        server: &str,
        prompt: &str,
        arguments: Option<JsonObject>,
        options: &CallOptions,
    ) -> Result<GetPromptResult> {
        let operation = GetPrompt {
            name: prompt,
            arguments,
        };
        self.shared.deliver(server, &operation, options).await
    }

    /// Completes an argument of a prompt or of a resource template of a server.
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
    /// use mcpool_core::model::{ArgumentInfo, CompleteRequestParams, Reference};
    /// let params = CompleteRequestParams::new(
    ///     Reference::for_prompt("greet"),
    ///     ArgumentInfo::new("name", "o"),
    /// );
    /// let completed = manager.complete("files", params, &CallOptions::new()).await?;
    /// assert_eq!(completed.completion.values, ["one"]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`call_tool`](ConnectionManager::call_tool).
    pub async fn complete(
        &self,
        server: &str,
        params: CompleteRequestParams,
        options: &CallOptions,
    ) -> Result<CompleteResult> {
        self.shared
            .deliver(server, &Complete { params }, options)
            .await
    }

    /// Sends any request to a server; the result is the answer's `result`, as it came.
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
    /// let answer = manager.request("files", "vendor/thing", None, &CallOptions::new()).await?;
    /// assert_eq!(answer["method"], "vendor/thing");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`call_tool`](ConnectionManager::call_tool).
    pub async fn request(
        &self,
        server: &str,
        method: &str,
        params: Option<Value>,
        options: &CallOptions,
    ) -> Result<Value> {
        let operation = Raw { method, params };
        self.shared.deliver(server, &operation, options).await
    }

    /// Subscribes to the changes of a resource, on this connection and on every later one.
    /// `EventKind::ResourceUpdated` tells of them.
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
    /// manager.subscribe("files", "fixture://one", &CallOptions::new()).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`call_tool`](ConnectionManager::call_tool); nothing is remembered then.
    pub async fn subscribe(&self, server: &str, uri: &str, options: &CallOptions) -> Result<()> {
        let operation = Subscribe { uri, on: true };
        self.shared.deliver(server, &operation, options).await?;
        self.shared.server(server)?.continuity.subscribed(uri);
        Ok(())
    }

    /// Takes that back. Later connections do not subscribe, whatever comes of the request.
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
    /// manager.subscribe("files", "fixture://one", &CallOptions::new()).await?;
    /// manager.unsubscribe("files", "fixture://one", &CallOptions::new()).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`call_tool`](ConnectionManager::call_tool).
    pub async fn unsubscribe(&self, server: &str, uri: &str, options: &CallOptions) -> Result<()> {
        self.shared.server(server)?.continuity.unsubscribed(uri);
        let operation = Subscribe { uri, on: false };
        self.shared.deliver(server, &operation, options).await
    }

    /// Sets the level of a server's log messages, on this connection and on every later one.
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
    /// use mcpool_core::model::LoggingLevel;
    /// manager.set_log_level("files", LoggingLevel::Warning, &CallOptions::new()).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`call_tool`](ConnectionManager::call_tool); nothing is remembered then.
    pub async fn set_log_level(
        &self,
        server: &str,
        level: LoggingLevel,
        options: &CallOptions,
    ) -> Result<()> {
        let operation = SetLogLevel { level };
        self.shared.deliver(server, &operation, options).await?;
        self.shared.server(server)?.continuity.log_level(level);
        Ok(())
    }
}
