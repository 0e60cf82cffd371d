//! The verbs of all connections at once.

use futures::future;
use mcpool_core::{ProbeReport, Result, ServerName, ServerState};

use crate::{
    handle::{self, ServerHandle},
    manager::ConnectionManager,
    server::Command,
};

impl ConnectionManager {
    /// One server, to do things with.
    ///
    /// # Errors
    /// `UnknownServer`, `Closed`.
    pub fn server(&self, name: &str) -> Result<ServerHandle> {
        let server = self.shared.server(name)?;
        Ok(ServerHandle::new(
            std::sync::Arc::clone(&self.shared),
            server.name.clone(),
        ))
    }

    /// Connects every enabled server in parallel and waits for all outcomes. A failure of one
    /// delays no other.
    pub async fn connect_all(&self) -> Vec<(ServerName, Result<()>)> {
        let servers = self.shared.all();
        let connects = servers
            .iter()
            .filter(|server| !matches!(server.state(), ServerState::Disabled))
            .map(|server| async { (server.name.clone(), handle::connect(server, None).await) });
        future::join_all(connects).await
    }

    /// Closes every connection, in parallel, and waits for that.
    pub async fn disconnect_all(&self) {
        let servers = self.shared.all();
        let closes = servers
            .iter()
            .map(|server| handle::command_all(server, |reply| Command::Disconnect { reply }));
        // A server that is gone meanwhile is disconnected.
        future::join_all(closes).await;
    }

    /// Probes every server now, in parallel.
    pub async fn health_check_all(&self) -> Vec<(ServerName, Result<ProbeReport>)> {
        let servers = self.shared.all();
        let checks = servers
            .iter()
            .map(|server| async { (server.name.clone(), handle::check(server).await) });
        future::join_all(checks).await
    }
}
