//! Fixture servers in this process, without sockets.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use mcpool_core::{
    ConnectRequest, Connector, Error, ErrorKind, Result, Transport, TransportKind, TransportSpec,
};
use tokio_util::sync::CancellationToken;

use super::{pair_for, request};
use crate::{
    Behavior,
    contract::{Footprint, RunningFixture},
    fixtures::{Engine, engine::lock},
};

/// A connector to the servers that it serves itself, found by the URL of their spec. Clones share
/// the servers.
#[derive(Debug, Clone, Default)]
pub struct MemoryConnector {
    servers: Arc<Mutex<HashMap<String, Weak<MemoryServer>>>>,
}

impl MemoryConnector {
    /// A connector without servers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a server in memory.
    #[must_use]
    pub fn serve(&self, behavior: Behavior) -> MemoryFixture {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let server = Arc::new(MemoryServer {
            url: format!("memory://{number}"),
            engine: Engine::new(behavior),
            killed: CancellationToken::new(),
            connections: AtomicUsize::new(0),
        });
        let mut servers = lock(&self.servers);
        servers.retain(|_, server| server.strong_count() > 0);
        servers.insert(server.url.clone(), Arc::downgrade(&server));
        MemoryFixture(server)
    }

    fn find(&self, target: &TransportSpec) -> Option<Arc<MemoryServer>> {
        let TransportSpec::Http(spec) = target else {
            return None;
        };
        let server = lock(&self.servers).get(&spec.url)?.upgrade()?;
        (!server.killed.is_cancelled()).then_some(server)
    }
}

#[async_trait]
impl Connector for MemoryConnector {
    fn kind(&self) -> TransportKind {
        TransportKind::Custom
    }

    async fn connect(&self, request: ConnectRequest) -> Result<Arc<dyn Transport>> {
        let server = self
            .find(&request.target)
            .ok_or_else(|| Error::new(ErrorKind::Connect, "no such server in memory"))?;
        let (transport, remote) = pair_for(&request, self.kind())?;
        let shared = Arc::clone(&remote.shared);
        let counted = Connection::open(server);
        tokio::spawn(async move {
            let server = Arc::clone(&counted.0);
            tokio::select! {
                () = remote.serve(Arc::clone(&server.engine)) => {}
                // The reason stands before the far end goes.
                () = async {
                    server.killed.cancelled().await;
                    let killed = Error::new(ErrorKind::ConnectionLost, "the server was killed");
                    *lock(&shared.failure) = Some(killed);
                } => {}
            }
            drop(counted);
        });
        Ok(Arc::new(transport))
    }
}

#[derive(Debug)]
struct MemoryServer {
    url: String,
    engine: Arc<Engine>,
    killed: CancellationToken,
    connections: AtomicUsize,
}

struct Connection(Arc<MemoryServer>);

impl Connection {
    fn open(server: Arc<MemoryServer>) -> Self {
        server.connections.fetch_add(1, Ordering::SeqCst);
        Self(server)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A server in memory. Dropping it ends it.
#[derive(Debug)]
pub struct MemoryFixture(Arc<MemoryServer>);

impl MemoryFixture {
    /// What it has seen: [`Engine::seen`].
    #[must_use]
    pub fn seen(&self) -> serde_json::Value {
        self.0.engine.seen()
    }
}

impl RunningFixture for MemoryFixture {
    fn request(&self) -> ConnectRequest {
        request("memory", &self.0.url)
    }

    fn kill(&self) {
        self.0.killed.cancel();
    }

    fn footprint(&self) -> Option<Footprint> {
        Some(Footprint::new(0, self.0.connections.load(Ordering::SeqCst)))
    }
}

impl Drop for MemoryFixture {
    fn drop(&mut self) {
        self.0.killed.cancel();
    }
}
