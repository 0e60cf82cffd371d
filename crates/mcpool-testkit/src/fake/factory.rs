//! The factory of fakes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use mcpool_core::{
    Client, ClientFactory, ConnectOptions, Error, ErrorKind, Result, ServerSpec, TransportKind,
    TransportSpec,
};

use super::{
    client::FakeClient,
    gauge::Gauge,
    server::{FakeServer, Gauges, Op},
};

/// Makes fake clients of fake servers. Clones have the same servers.
#[derive(Debug, Clone, Default)]
pub struct FakeFactory {
    servers: Arc<Mutex<BTreeMap<String, FakeServer>>>,
    connecting: Gauge,
    all: Gauges,
}

impl FakeFactory {
    /// A factory of servers that keep to the protocol.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The server of this name; made when it is first asked for.
    #[must_use]
    pub fn server(&self, name: &str) -> FakeServer {
        self.servers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(name.to_owned())
            .or_insert_with(|| FakeServer::counted(self.all.clone()))
            .clone()
    }

    /// Connects that run now, and at most.
    #[must_use]
    pub fn connecting(&self) -> &Gauge {
        &self.connecting
    }

    /// Clients of all servers that exist, dead or alive, now and at most.
    #[must_use]
    pub fn clients(&self) -> &Gauge {
        &self.all.clients
    }

    /// Calls that run at all servers, now and at most.
    #[must_use]
    pub fn calling(&self) -> &Gauge {
        &self.all.calling
    }

    /// Probes that run at all servers, now and at most.
    #[must_use]
    pub fn probing(&self) -> &Gauge {
        &self.all.probing
    }

    /// How many clients of all servers are alive.
    #[must_use]
    pub fn live(&self) -> usize {
        let servers: Vec<FakeServer> = self
            .servers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect();
        servers.iter().map(FakeServer::live).sum()
    }
}

#[async_trait]
impl ClientFactory for FakeFactory {
    async fn connect(
        &self,
        spec: &ServerSpec,
        _options: &ConnectOptions,
    ) -> Result<Arc<dyn Client>> {
        if !spec.enabled {
            return Err(
                Error::new(ErrorKind::Disabled, "the server is disabled").with_server(&spec.name)
            );
        }
        let server = self.server(spec.name.as_str());
        let _connecting = self.connecting.enter();
        server.connect_began();
        let act = server.take(Op::Connect);
        server
            .act(act)
            .await
            .map_err(|error| error.with_server(&spec.name).with_operation("connect"))?;
        let transport = match spec.transport {
            TransportSpec::Stdio(_) => TransportKind::Stdio,
            TransportSpec::Sse(_) => TransportKind::Sse,
            TransportSpec::Custom(_) => TransportKind::Custom,
            _ => TransportKind::Http,
        };
        Ok(Arc::new(FakeClient::connected(
            server,
            spec.name.clone(),
            transport,
            spec.policy.limits.clone(),
        )))
    }

    async fn credentials_changed(&self, spec: &ServerSpec) {
        self.server(spec.name.as_str()).new_credentials().await;
    }
}
