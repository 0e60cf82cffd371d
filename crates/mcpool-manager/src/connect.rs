//! The verbs of the connections: making, ending and finding them.

use std::{sync::Arc, time::Duration};

use futures::future;
use mcpool_core::{Client, Result, ServerName, ServerState};
use tokio::{sync::oneshot, time::Instant};

use crate::{
    call,
    manager::ConnectionManager,
    options::NotReady,
    server::{Command, Server, gone},
};

impl ConnectionManager {
    /// Connects a server now, whatever state it is in, and waits for the outcome of one attempt.
    /// A connect that is under way is joined. After a failure the reconnect policy goes on.
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
    /// # let manager = ConnectionManager::new(factory);
    /// # manager.start(vec![files.clone()]).await?;
    /// manager.disconnect("files").await?;
    /// manager.connect("files").await?;
    /// assert_eq!(manager.status("files")?.state, "ready");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Why the attempt failed; `Disabled`; `UnknownServer`; `Closed`.
    pub async fn connect(&self, name: &str) -> Result<()> {
        self.connect_within(name, None).await
    }

    /// As [`connect`](ConnectionManager::connect), with so many retries after the delays of the
    /// server's reconnect policy.
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
    /// manager.connect_with("files", 3).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The error of the last attempt. Permanent errors are not retried.
    pub async fn connect_with(&self, name: &str, max_retries: u32) -> Result<()> {
        self.connect_within(name, Some(max_retries)).await
    }

    async fn connect_within(&self, name: &str, retries: Option<u32>) -> Result<()> {
        let server = self.shared.server(name)?;
        let mut answers = Vec::new();
        for instance in &server.instances {
            let (reply, answer) = oneshot::channel();
            instance.tell(Command::Connect {
                retries,
                reply: Some(reply),
            })?;
            answers.push(async move { answer.await.unwrap_or_else(|_| Err(gone())) });
        }
        // One instance is enough to be connected.
        let mut failed = None;
        for answer in future::join_all(answers).await {
            match answer {
                Ok(()) => return Ok(()),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(gone).with_server(&server.name))
    }

    /// Connects every enabled server in parallel. A failure of one delays no other.
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
    /// for (name, result) in manager.connect_all().await {
    ///     match result {
    ///         Ok(()) => println!("{name} is connected"),
    ///         Err(error) => println!("{error}"),
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn connect_all(&self) -> Vec<(ServerName, Result<()>)> {
        let servers = self.shared.all();
        let connects = servers
            .iter()
            .filter(|server| !matches!(server.state(), ServerState::Disabled))
            .map(|server| async {
                let result = self.connect(server.name.as_str()).await;
                (server.name.clone(), result)
            });
        future::join_all(connects).await
    }

    /// Closes a server's connection, cancels a pending reconnect, and waits for the close. Its
    /// calls in flight end with `Cancelled`, its tools leave the view, and calls fail with
    /// `NotConnected` until it is connected again.
    ///
    /// Dropping the future stops the waiting, not the closing.
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
    /// manager.disconnect("files").await?;
    /// let error = manager.call_tool("files", "echo", None, &CallOptions::new()).await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::NotConnected);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `UnknownServer`, `Closed`.
    pub async fn disconnect(&self, name: &str) -> Result<()> {
        let server = self.shared.server(name)?;
        told(&server, |reply| Command::Disconnect { reply }).await
    }

    /// Closes every connection, in parallel.
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
    /// manager.disconnect_all().await;
    /// assert!(manager.status_all().iter().all(|status| status.state == "idle"));
    /// # Ok(()) }
    /// ```
    pub async fn disconnect_all(&self) {
        let servers = self.shared.all();
        let closes = servers
            .iter()
            .map(|server| told(server, |reply| Command::Disconnect { reply }));
        // A server that is gone meanwhile is disconnected.
        future::join_all(closes).await;
    }

    /// Switches a server on. It starts to connect, which is not waited for, unless it is lazy.
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
    /// manager.disable("files").await?;
    /// manager.enable("files").await?;
    /// manager.call_tool("files", "echo", None, &CallOptions::new()).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `UnknownServer`, `Closed`.
    pub async fn enable(&self, name: &str) -> Result<()> {
        let server = self.shared.server(name)?;
        told(&server, |reply| Command::Enable { reply }).await
    }

    /// Switches a server off: closes its connection, waits for that, and refuses calls with
    /// `Disabled` from then on.
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
    /// manager.disable("files").await?;
    /// let error = manager.call_tool("files", "echo", None, &CallOptions::new()).await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Disabled);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `UnknownServer`, `Closed`.
    pub async fn disable(&self, name: &str) -> Result<()> {
        let server = self.shared.server(name)?;
        told(&server, |reply| Command::Disable { reply }).await
    }

    /// Tells the manager that a caller met trouble with a server. It is taken as evidence: the
    /// server is probed now, and given up when it does not answer.
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
    /// manager.report_connection_lost("files")?;
    /// // The server answers the probe, so nothing else happens.
    /// manager.health_check("files").await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `UnknownServer`, `Closed`.
    pub fn report_connection_lost(&self, name: &str) -> Result<()> {
        let server = self.shared.server(name)?;
        server.instances.iter().try_for_each(|instance| {
            instance.tell(Command::Suspect {
                epoch: None,
                reply: None,
            })
        })
    }

    /// Whether a server is on its way back after a loss or a failure.
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
    /// assert!(!manager.is_reconnecting("files")?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `UnknownServer`, `Closed`.
    pub fn is_reconnecting(&self, name: &str) -> Result<bool> {
        Ok(self.shared.server(name)?.is_reconnecting())
    }

    /// The live client of a server. It serves until its connection ends; ask again after that,
    /// or let [`call_tool`](ConnectionManager::call_tool) see to it.
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
    /// let client = manager.client("files")?;
    /// println!("{:?}", client.info().peer.server_info);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Disabled`, `NotConnected`, `GivenUp`, `AuthRequired`, `UnknownServer`, `Closed`.
    pub fn client(&self, name: &str) -> Result<Arc<dyn Client>> {
        let server = self.shared.server(name)?;
        server
            .instances
            .iter()
            .filter_map(|instance| instance.slot.live())
            .min_by_key(|live| live.in_flight())
            .map(|live| Arc::clone(&live.client))
            .ok_or_else(|| server.hopeless().unwrap_or_else(|| server.not_ready(None)))
    }

    /// The live client of a server, waiting so long for one. A lazy server is connected.
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
    /// let client = manager.ready_client("files", Duration::from_secs(10)).await?;
    /// assert!(!client.is_closed());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`client`](ConnectionManager::client); `NotConnected` when the time has passed.
    pub async fn ready_client(&self, name: &str, within: Duration) -> Result<Arc<dyn Client>> {
        let server = self.shared.server(name)?;
        call::wait_ready(&server, NotReady::Wait, Instant::now() + within).await
    }

    /// A new connection to a server that is the caller's own: nobody else uses it, the manager
    /// does not supervise it, and dropping it closes it. It counts against the connect budget.
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
    /// let mine = manager.isolated("files").await?;
    /// assert!(!Arc::ptr_eq(&mine, &manager.client("files")?));
    /// drop(mine); // closes it
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Why it could not be connected; `Disabled`; `UnknownServer`.
    pub async fn isolated(&self, name: &str) -> Result<Arc<dyn Client>> {
        let server = self.shared.server(name)?;
        if matches!(server.state(), ServerState::Disabled)
            && let Some(error) = server.hopeless()
        {
            return Err(error);
        }
        let spec = server.spec_to_connect();
        let _permit = self.shared.budget.acquire(&spec.transport).await?;
        self.shared.factory.connect(&spec).await
    }
}

/// Tells every instance and waits until each has done it.
async fn told(server: &Server, command: impl Fn(oneshot::Sender<()>) -> Command) -> Result<()> {
    let mut done = Vec::new();
    for instance in &server.instances {
        let (reply, answer) = oneshot::channel();
        instance.tell(command(reply))?;
        done.push(answer);
    }
    // A dropped reply: the supervisor has ended, and has closed what it had.
    future::join_all(done).await;
    Ok(())
}
