//! The verbs of the requests: calling tools and all the rest.
#![allow(
    deprecated,
    reason = "the log level is deprecated by MCP 2026-07-28, spoken by older servers"
)]

use mcpool_core::{
    Result, ServerNotice,
    model::{
        CallToolResult, CompleteRequestParams, CompleteResult, GetPromptResult, JsonObject,
        LoggingLevel, ReadResourceResult,
    },
};
use serde_json::Value;
use tokio::sync::broadcast;

use crate::{
    call::Operation,
    catalog,
    manager::ConnectionManager,
    operations::{CallTool, Complete, GetPrompt, Raw, ReadResource, SetLogLevel, Subscribe},
    options::{CallOptions, Refresh},
    server::Server,
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
    /// `OutcomeUnknown` when the connection ended and the call may have run; `Timeout` when no
    /// answer came in time, and `Cancelled` when the shutdown ended it: both may have run as well,
    /// unless [`delivery`](mcpool_core::Error::delivery) says otherwise. `Disabled`, `GivenUp`,
    /// `AuthRequired`, `NotConnected`, `Overloaded`, `RateLimited`, `UnknownServer`, `UnknownTool`
    /// (hidden by the filter) before it ran; what the server answered.
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

    /// Subscribes to the changes of a resource, on every connection that there is and on every
    /// later one. `EventKind::ResourceUpdated` tells of them: with several
    /// [`instances`](mcpool_core::ServerSpec::instances) once for each that tells.
    ///
    /// A lazy server is not closed for being idle while there is a subscription.
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
        let server = self.shared.server(server)?;
        server.continuity.subscribed(uri);
        on_every_instance(&server, &operation, options).await;
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
        let instances = self.shared.server(server)?;
        instances.continuity.unsubscribed(uri);
        let operation = Subscribe { uri, on: false };
        self.shared.deliver(server, &operation, options).await?;
        on_every_instance(&instances, &operation, options).await;
        Ok(())
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
        let server = self.shared.server(server)?;
        server.continuity.log_level(level);
        on_every_instance(&server, &operation, options).await;
        Ok(())
    }

    /// What a server says by itself from now on, over all its connections: log messages,
    /// notifications of its own, changes. The manager acts on changes and tells of them as
    /// [events](ConnectionManager::events) too.
    ///
    /// Log messages may hold secrets. A reader that is more than 256 notices behind misses some,
    /// and is told so. The stream ends when the server is removed, or replaced because its spec
    /// changed.
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
    /// let mut notices = manager.notices("files")?;
    /// tokio::spawn(async move {
    ///     while let Ok(notice) = notices.recv().await {
    ///         println!("{notice:?}");
    ///     }
    /// });
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `UnknownServer`, `Closed`.
    pub fn notices(&self, server: &str) -> Result<broadcast::Receiver<ServerNotice>> {
        Ok(self.shared.server(server)?.notices.subscribe())
    }
}

/// Sends to each live instance what one of them has taken. Telling one twice does no harm; one
/// that connects later is told then.
async fn on_every_instance<O: Operation>(server: &Server, operation: &O, options: &CallOptions) {
    if server.instances.len() < 2 {
        return;
    }
    let live = server.instances.iter().filter_map(|i| i.slot.live());
    let told = live.map(|live| async move {
        if let Err(error) = operation.run(&*live.client, &options.request).await {
            tracing::warn!(server = %server.name, method = operation.method(), %error, "an instance was not told");
        }
    });
    futures::future::join_all(told).await;
}
