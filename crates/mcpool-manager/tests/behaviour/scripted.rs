//! Fake servers, as these tests like them.

use std::{
    collections::HashSet,
    ops::Deref,
    sync::{Arc, Mutex},
    time::Duration,
};

use mcpool_core::{
    Client, ClientFactory, ConnectOptions, Error, ErrorKind, Result, ServerSpec, StdioSpec,
};
use mcpool_core::{Reply, model::CallToolResult};
pub use mcpool_core::{Requester, Verbs};
use mcpool_manager::{CallOptions, ConnectionManager, ServerHandle};
pub use mcpool_testkit::{Act, FakeFactory, FakeServer, Op, tool};
use serde_json::Value;

/// All fake servers; the factory that connects to them.
#[derive(Clone, Default)]
pub struct World {
    factory: FakeFactory,
    known: Arc<Mutex<HashSet<String>>>,
}

impl World {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn factory(&self) -> Arc<dyn ClientFactory> {
        Arc::new(self.clone())
    }

    /// The server of this name, with the tools `echo` and `add`.
    pub fn server(&self, name: &str) -> FakeServer {
        let server = self.factory.server(name);
        if self.known.lock().unwrap().insert(name.to_owned()) {
            server.set_tool_names(&["echo", "add"]);
            server.set_prompts(Vec::new());
            server.set_resources(Vec::new());
        }
        server
    }
}

impl Deref for World {
    type Target = FakeFactory;

    fn deref(&self) -> &FakeFactory {
        &self.factory
    }
}

#[async_trait::async_trait]
impl ClientFactory for World {
    async fn connect(
        &self,
        spec: &ServerSpec,
        options: &ConnectOptions,
    ) -> Result<Arc<dyn Client>> {
        self.server(spec.name.as_str());
        self.factory.connect(spec, options).await
    }

    async fn credentials_changed(&self, spec: &ServerSpec) {
        self.factory.credentials_changed(spec).await;
    }
}

/// Cuts every connection, as a server that dies does.
pub fn die(server: &FakeServer) {
    server.kill(lost());
}

pub fn lost() -> Error {
    Error::new(ErrorKind::ConnectionLost, "the connection was cut")
}

pub fn refused() -> Error {
    Error::new(ErrorKind::Connect, "connection refused")
}

/// A stdio spec; nothing is started.
pub fn spec(name: &str) -> ServerSpec {
    ServerSpec::stdio(name, StdioSpec::new("scripted")).unwrap()
}

/// A server that must be there.
pub fn of(manager: &ConnectionManager, name: &str) -> ServerHandle {
    manager.server(name).unwrap()
}

/// Calls a tool with options.
pub async fn call_tool(
    manager: &ConnectionManager,
    server: &str,
    tool: &str,
    arguments: Option<Value>,
    options: &CallOptions,
) -> Result<Reply<CallToolResult>> {
    let handle = manager.server(server)?.with_call_options(options.clone());
    handle.call_tool(tool, arguments).await
}

/// Waits for a condition that no event reports, under a generous timeout.
pub async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(3600), async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    assert!(waited.await.is_ok(), "it never came true that {what}");
}
