//! Workers in this process.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses some of it"
)]

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use mcpool_client::StandardFactory;
use mcpool_core::{
    Client, ClientFactory, ConnectOptions, Raw, RpcError, ServerName, ServerRequest,
    ServerRequestHandler, ServerSpec,
};
use mcpool_manager::ConnectionManager;
use mcpool_nats::{Carrier, Identity, NatsConnector, NatsOptions, PoolName, Worker};
use mcpool_testkit::nats::NatsServer;
use tokio::{sync::oneshot, task::JoinHandle};

/// Longer than anything takes that works.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn options(nats: &NatsServer, identity: &str) -> NatsOptions {
    NatsOptions::new([nats.url()], pool()).with_identity(Identity::new(identity).unwrap())
}

pub async fn carrier(nats: &NatsServer, identity: &str) -> Carrier {
    Carrier::connect(&options(nats, identity)).await.unwrap()
}

pub fn pool() -> PoolName {
    PoolName::new("test").unwrap()
}

pub fn name(name: &str) -> ServerName {
    ServerName::new(name).unwrap()
}

/// Declares that all may be asked, and leaves the asking to the gateways.
struct Declares;

#[async_trait]
impl ServerRequestHandler for Declares {
    fn capabilities(&self, _: &ServerName) -> Raw {
        let text = r#"{"roots":{},"sampling":{},"elicitation":{"form":{},"url":{}}}"#;
        Raw::from_text(text.to_owned()).unwrap()
    }

    async fn answer(&self, _: &ServerName, request: ServerRequest) -> Result<Raw, RpcError> {
        Err(RpcError::method_not_found(&request.method))
    }
}

/// A worker in this process.
pub struct Running {
    pub manager: ConnectionManager,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<mcpool_core::Result<()>>,
}

/// Starts a manager with these servers and waits until they are connected.
pub async fn manager(specs: Vec<ServerSpec>) -> ConnectionManager {
    let factory = StandardFactory::new().with_handler(Arc::new(Declares));
    let manager = ConnectionManager::new(Arc::new(factory));
    manager.start(specs).await.unwrap().all_connected().unwrap();
    manager
}

impl Running {
    /// Runs a worker, and waits until the pool can open sessions with its servers.
    pub async fn start(
        nats: &NatsServer,
        identity: &str,
        specs: Vec<ServerSpec>,
        change: impl FnOnce(Worker) -> Worker,
    ) -> Self {
        Self::over(&options(nats, identity), specs, change).await
    }

    /// The same with these options.
    pub async fn over(
        options: &NatsOptions,
        specs: Vec<ServerSpec>,
        change: impl FnOnce(Worker) -> Worker,
    ) -> Self {
        let manager = manager(specs).await;
        let carrier = Carrier::connect(options).await.unwrap();
        let worker = change(Worker::new(carrier.clone(), manager.clone()));
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(worker.run(async {
            let _ = stopped.await;
        }));
        let running = Self {
            manager,
            stop: Some(stop),
            task,
        };
        for name in running.manager.names() {
            let since = std::time::Instant::now();
            while mcpool_nats::probe(&carrier, &name, PATIENCE).await.is_err() {
                assert!(since.elapsed() < PATIENCE, "{name} is not served");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        running
    }

    /// Ends it in the orderly way.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        let ended = tokio::time::timeout(PATIENCE, &mut self.task).await;
        ended.unwrap().unwrap().unwrap();
        self.manager.shutdown(Duration::from_secs(5)).await;
    }

    /// Ends it without a word, as SIGKILL does: its connection with NATS is gone.
    pub fn kill(self) {
        self.task.abort();
    }
}

/// A client of a server in the pool.
pub async fn connect(carrier: &Carrier, server: &str) -> mcpool_core::Result<Arc<dyn Client>> {
    let spec = NatsConnector::spec(carrier, &name(server)).unwrap();
    let factory = StandardFactory::new().with_handler(Arc::new(Declares));
    factory.connect(&spec, &ConnectOptions::new()).await
}
