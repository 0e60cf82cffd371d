//! The verbs of the observation: status, health, events.

use futures::future;
use mcpool_core::{ProbeReport, Result, ServerName, ServerState};
use tokio::sync::{oneshot, watch};

use crate::{
    events::EventStream,
    manager::ConnectionManager,
    server::{Command, Server, gone},
    status::{self, ServerStatus},
};

impl ConnectionManager {
    /// The status of a server.
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
    /// let status = manager.status("files")?;
    /// assert_eq!((status.state, status.tools), ("ready", 1));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `UnknownServer`, `Closed`.
    pub fn status(&self, name: &str) -> Result<ServerStatus> {
        let server = self.shared.server(name)?;
        let tools = self.shared.view.count(&server.name);
        Ok(status::of(&server, tools))
    }

    /// The status of every server, by name.
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
    /// for status in manager.status_all() {
    ///     println!("{}: {} since {:?}", status.name, status.state, status.connected_at);
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn status_all(&self) -> Vec<ServerStatus> {
        self.shared
            .all()
            .iter()
            .map(|server| status::of(server, self.shared.view.count(&server.name)))
            .collect()
    }

    /// The state of a server, now and whenever it changes.
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
    /// let mut state = manager.watch("files")?;
    /// let ready = state.wait_for(|state| state.is_ready()).await;
    /// assert!(ready.is_ok());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `UnknownServer`, `Closed`.
    pub fn watch(&self, name: &str) -> Result<watch::Receiver<ServerState>> {
        Ok(self.shared.server(name)?.watch())
    }

    /// Probes a server now and waits for the answer. A probe that is under way is joined.
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
    /// let report = manager.health_check("files").await?;
    /// println!("answered after {:?}", report.latency);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Why it is not healthy: no answer, or not connected.
    pub async fn health_check(&self, name: &str) -> Result<ProbeReport> {
        let server = self.shared.server(name)?;
        check(&server).await
    }

    /// Probes every server now, in parallel, each bounded by its health time-out.
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
    /// for (name, result) in manager.health_check_all().await {
    ///     println!("{name} is {}", if result.is_ok() { "healthy" } else { "ill" });
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn health_check_all(&self) -> Vec<(ServerName, Result<ProbeReport>)> {
        let servers = self.shared.all();
        let checks = servers
            .iter()
            .map(|server| async { (server.name.clone(), check(server).await) });
        future::join_all(checks).await
    }

    /// What happens from now on.
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
    /// let mut events = manager.events();
    /// manager.disconnect("files").await?;
    /// let event = events.next_event().await;
    /// assert_eq!(event.map(|event| event.server.to_string()), Some("files".to_owned()));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn events(&self) -> EventStream {
        self.shared.events.subscribe()
    }
}

async fn check(server: &Server) -> Result<ProbeReport> {
    let mut answers = Vec::new();
    for instance in &server.instances {
        let (reply, answer) = oneshot::channel();
        instance.tell(Command::Check { reply })?;
        answers.push(answer);
    }
    // The server is as healthy as its healthiest instance.
    let mut worst = None;
    for answer in future::join_all(answers).await {
        match answer.unwrap_or_else(|_| Err(gone())) {
            Ok(report) => return Ok(report),
            Err(error) => worst = Some(error),
        }
    }
    Err(worst.unwrap_or_else(gone).with_server(&server.name))
}
